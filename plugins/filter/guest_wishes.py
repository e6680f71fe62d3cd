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
        mac: null
        disks: [/srv/fax1.qcow2]
"""

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleError, AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.plugin_utils._wishes import collect, plain


def wishes(inventory: t.Any) -> dict[str, list[dict[str, t.Any]]]:
    """By hypervisor the wishes, each as _fleet.Wish takes it."""
    if not isinstance(inventory, Mapping):
        raise AnsibleFilterError("guest_wishes works on hostvars, the variables of all hosts")
    return {
        host: [{**wish, **_marks(wish["guest"], inventory[wish["guest"]])} for wish in wanted]
        for host, wanted in collect(inventory).items()
    }


def _marks(guest: str, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What no other guest of its host may have, where the inventory says it; the role's defaults differ anyway."""
    mac, data = _read(variables, "kvm_guest_mac"), _read(variables, "kvm_guest_data_disks") or []
    named = [disk["path"] for disk in data if isinstance(disk, Mapping) and disk.get("path")]
    return {
        "name": str(_read(variables, "kvm_guest_name") or guest),
        "mac": None if mac is None else str(mac),
        "disks": [str(path) for path in [_read(variables, "kvm_guest_disk"), *named] if path],
    }


def _read(variables: t.Mapping[str, t.Any], name: str) -> t.Any:
    """A variable as plain data; None where it is not set, or its template fails, which the role tells."""
    try:
        return plain(variables.get(name))
    except AnsibleError:
        return None


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"guest_wishes": wishes}
