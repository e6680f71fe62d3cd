# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: capisuite_files
short_description: The files that configure CapiSuite, or what is wrong with the settings
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Judges the settings of the role P(kvm.passthrough.capisuite_guest#role), all of them at once, and makes
    C(capisuite.conf), C(fax.conf) and C(answering_machine.conf) of them.
  - Avoids what CapiSuite stumbles over. C(voice_delay) is in the section of each user, each user has valid actions, an
    address that is not given has no line, and who takes all numbers comes last.
options:
  _input:
    description:
      - C(users), C(fax), C(voice), C(ddi_length), C(ddi_base_length), C(ddi_stop_numbers), C(idle_interval),
        C(log_level), C(scripts), C(sounds), C(packages) and C(repository), as the variables of the role that are called
        so.
      - C(announcements) has by user the name of the announcement's file in the user's folder.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what is wrong with the settings
  ansible.builtin.assert:
    that: (settings | kvm.passthrough.capisuite_files).faults | length == 0
    fail_msg: "{{ (settings | kvm.passthrough.capisuite_files).faults | join('\n') }}"
  vars:
    settings:
      users:
        - {name: gernot, fax_numbers: ["11", "12"], fax_stationID: "+49 89 123456", fax_action: SaveOnly}
      fax: {send_tries: 3}
      voice: {}
      announcements: {}
      packages: [capisuite]
      repository: {}
      ddi_length: 0
      ddi_base_length: 0
      ddi_stop_numbers: []
      idle_interval: 30
      log_level: 2
      scripts: /usr/share/capisuite
      sounds: /usr/share/capisuite
"""

RETURN = r"""
_value:
  description: The files and what is wrong.
  type: dict
  contains:
    faults:
      description: What is wrong, a sentence each.
      type: list
      elements: str
      sample: ["capisuite_guest_users, gernot: fax_action is 'Mail'; it takes MailAndSave or SaveOnly"]
    files:
      description: The text of each file by its name. Empty if anything is wrong.
      type: dict
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._capisuite import judge, render


def _capisuite_files(settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    faults = judge(settings)
    return {"faults": faults, "files": {} if faults else render(settings)}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"capisuite_files": _capisuite_files}
