# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: host_staying
short_description: What of a host stays with its guests when others are released
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Tells which devices, blacklist entries and virtual functions the guests that are not released still need.
  - A selector that matches more devices than its C(count) keeps all of them; one that cannot be read keeps none.
positional: keep, released
extends_documentation_fragment:
  - kvm.passthrough.selectors
requirements:
  - jmespath, for selectors with a C(query)
options:
  _input:
    description: What M(kvm.passthrough.passthrough_info) returned with C(facts).
    type: dict
    required: true
  keep:
    description: Selectors of what stays.
    type: list
    elements: raw
    required: true
  released:
    description: Names in libvirt of the guests that are released.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Judge the host
  kvm.passthrough.passthrough_info:
    facts: true
  register: verdict

- name: Show what stays with the television
  ansible.builtin.debug:
    msg: "{{ verdict | kvm.passthrough.host_staying([{'card': 'saa7146-budget'}]) }}"
"""

RETURN = r"""
_value:
  description: What stays.
  type: dict
  contains:
    addresses:
      description: The devices that are bound for guests.
      type: list
      elements: str
      sample: ["0000:03:02.0"]
    modules:
      description: The modules that have to stay blacklisted.
      type: list
      elements: str
      sample: [budget_av]
    functions:
      description: Devices whose virtual functions stay, as the option C(devices) of M(kvm.passthrough.pci_sriov) takes
        them.
      type: list
      elements: dict
      sample: [{address: "0000:05:00.0", num_vfs: 2}]
    pending:
      description: The devices that the released guests have, none of which stays.
      type: list
      elements: str
      sample: ["0000:06:00.0"]
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._fleet import staying


def _host_staying(verdict: t.Any, keep: t.Any, released: t.Sequence[str] = ()) -> dict[str, t.Any]:
    return staying(verdict, keep, released)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"host_staying": _host_staying}
