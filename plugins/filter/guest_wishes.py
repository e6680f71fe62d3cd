# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: guest_wishes
short_description: What the guests of the inventory want of which host
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - A guest of the inventory names its hypervisor in C(kvm_guest_host) and devices of it in C(kvm_guest_pci_devices).
    This filter turns that round, so that a hypervisor finds what is wanted of it.
  - It looks at the variables of every host of the inventory. Use it once in a run, not once per host.
options:
  _input:
    description: The variables of all hosts, which is C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is wanted of this hypervisor
  ansible.builtin.debug:
    msg: "{{ (hostvars | kvm.passthrough.guest_wishes)[inventory_hostname] | default([]) }}"
"""

RETURN = r"""
_value:
  description: By hypervisor a list of what is wanted of it, in the order of the inventory.
  type: dict
  sample:
    hv1:
      - guest: fax1
        name: fax1
        selectors: [{id: "1397:08b4"}]
        fault: null
"""

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleError, AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.plugin_utils._wishes import collect


def _guest_wishes(inventory: t.Any) -> dict[str, list[dict[str, t.Any]]]:
    if not isinstance(inventory, Mapping):
        raise AnsibleFilterError("guest_wishes works on hostvars, the variables of all hosts")
    return {
        host: [{**wish, "name": _name(wish["guest"], inventory[wish["guest"]])} for wish in wishes]
        for host, wishes in collect(inventory).items()
    }


def _name(guest: str, variables: t.Mapping[str, t.Any]) -> str:
    """The guest's name in libvirt, as the role kvm_guest has it."""
    try:
        return str(variables.get("kvm_guest_name", guest))
    except AnsibleError:
        return guest


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"guest_wishes": _guest_wishes}
