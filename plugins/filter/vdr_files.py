# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vdr_files
short_description: Which of the files that VDR writes itself have to be others than they are
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - VDR writes C(setup.conf), C(channels.conf) and C(timers.conf) again and again, in its own way. What is wanted is
    held against what they say, not against how they say it; keys, channels and timers of others are left alone.
  - A timer is the same with the same day, start, stop and title. One of a day is not wanted any more once it is over.
  - The files may only be written while VDR does not run.
positional: present, now
options:
  _input:
    description: C(channels), C(settings) and C(timers), as in the variables of the role C(kvm.passthrough.dvbt_guest).
    type: dict
    required: true
  present:
    description:
      - The texts of C(setup.conf), C(channels.conf) and C(timers.conf), and C(before), the timers that the role set
        before, one a line; those that are wanted no more go.
    type: dict
    required: true
  now:
    description: The clock of the guest, as YYYY-MM-DD HHMM.
    type: str
    required: true
seealso:
  - plugin: kvm.passthrough.vdr_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: See what VDR has to be stopped for
  ansible.builtin.debug:
    msg: "{{ (wanted | kvm.passthrough.vdr_files(present, '2026-11-27 1530')).keys() }}"
  vars:
    wanted: {channels: [], settings: {EPGScanTimeout: 5}, timers: ["1:1:MTWTF--:2000:2015:50:99:News:"]}
    present: {setup.conf: "EPGScanTimeout = 0\n", channels.conf: "", timers.conf: "", before: ""}
"""

RETURN = r"""
_value:
  description: The new texts by the names of the files; those that are as wanted are not named.
  type: dict
  sample: {setup.conf: "EPGScanTimeout = 5\n"}
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._vdr import files


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vdr_files": files}
