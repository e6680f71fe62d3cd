# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fax_job
short_description: What CapiSuite's log says of a fax that was to be sent
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Finds the tries of one job in the log, and how the last one ended, with CAPI's reason in words.
positional: user, job
options:
  _input:
    description: The text of CapiSuite's log, C(/var/log/capisuite.log), from when the job was put into the queue.
    type: str
    required: true
  user:
    description: The user whose job it is.
    type: str
    required: true
  job:
    description: The number of the job, as C(capisuitefax) has told it.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Say why a fax was not sent
  ansible.builtin.debug:
    msg: "{{ (log.content | b64decode | kvm.passthrough.fax_job('gernot', 1)).reason }}"
"""

RETURN = r"""
_value:
  description: What the log says.
  type: dict
  contains:
    tries:
      description: How often a call was made for it.
      type: int
      sample: 1
    results:
      description: The two results of the last call, of connection and fax. V(none) until there are any.
      type: list
      elements: str
      sample: ["0x3491", "0x0"]
    reason:
      description: What they mean. V(none) until there are any.
      type: str
      sample: the number is busy
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._fax_job import fax_job


def _fax_job(log: str, user: str, job: int) -> dict[str, t.Any]:
    return fax_job(log, user, int(job))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"fax_job": _fax_job}
