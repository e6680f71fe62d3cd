# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_refusal
short_description: All that is wrong with the plan of the fleet, as one message
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Gathers the faults that the step C(plan) of the roles of this collection has found with each host and guest.
positional: hosts, limit, untouched
options:
  _input:
    description: The variables of all hosts, which is C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts and guests that were judged, such as C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  limit:
    description: What the run was limited to, which is C(ansible_limit). The message tells how to leave out more.
    type: str
  untouched:
    description: What the message says has not been done.
    type: str
    default: nothing was changed
"""

EXAMPLES = r"""
- name: Stop before the first change if anything is wrong
  ansible.builtin.assert:
    that: refusal == ''
    fail_msg: "{{ refusal }}"
  vars:
    refusal: "{{ hostvars | kvm.passthrough.fleet_refusal(ansible_play_hosts_all, ansible_limit | default(none)) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The message, empty where nothing is wrong.
  type: str
"""

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.module_utils._fleet import refusal

_ROLES = ("kvm_host", "kvm_guest", "isdn_guest", "dvbt_guest", "capisuite_guest")


def _fleet_refusal(
    inventory: t.Any, hosts: t.Sequence[str], limit: str | None = None, untouched: str = "nothing was changed"
) -> str:
    if not isinstance(inventory, Mapping):
        raise AnsibleFilterError("fleet_refusal works on hostvars, the variables of all hosts")
    faults, guests = {}, {}
    for host in hosts:
        variables = inventory[host]
        faults[host] = [fault for role in _ROLES for fault in variables.get(f"__{role}_faults", ())]
        if "__kvm_guest_faults" in variables and "kvm_guest_host" in variables:
            guests[host] = variables["kvm_guest_host"]
    return refusal(faults, guests, limit, untouched)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"fleet_refusal": _fleet_refusal}
