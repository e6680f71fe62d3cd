# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: host_plan
short_description: Which devices leave a host, for which guest, and what is wrong with that
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Holds what a host can give away against what the guests of the inventory want of it.
  - What is wrong is returned, not raised, so that a playbook can tell it of all hosts before it changes the first.
  - "These are faults: a host that could not be reached or judged; what blocks a device, or the whole host, and is not
    removed by the playbook C(kvm.passthrough.prepare); a selector that cannot be read, or matches nothing or too much;
    a device that is promised twice, or that another running guest holds; an IOMMU group that is split between guests;
    guests that share a name, a MAC or a disk."
positional: host, selectors, wishes, force, guest, letting_go
extends_documentation_fragment:
  - kvm.passthrough.selectors
requirements:
  - jmespath, for selectors with a C(query)
options:
  _input:
    description: What M(kvm.passthrough.passthrough_info) returned with C(facts), whether it succeeded or not.
    type: dict
    required: true
  host:
    description: The host's name in the inventory, for the messages.
    type: str
    required: true
  selectors:
    description: What leaves the host, its C(kvm_host_pci_devices).
    type: list
    elements: raw
    required: true
  wishes:
    description: What the guests want of the host, from P(kvm.passthrough.guest_wishes#filter).
    type: list
    elements: dict
    required: true
  force:
    description: Addresses of devices that may go although the host uses them.
    type: list
    elements: str
    default: []
  guest:
    description: Leave out the faults that are about other guests than this one.
    type: str
  letting_go:
    description:
      - Inventory names of guests that let go, earlier in this run, of what the inventory does not give them. That such
        a guest holds a device is no fault.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Judge the host
  kvm.passthrough.passthrough_info:
    facts: true
  register: verdict

- name: Show what is wrong with the plan for it
  ansible.builtin.debug:
    msg: "{{ (verdict | kvm.passthrough.host_plan(inventory_hostname, ['06:00.0'], [])).faults }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    faults:
      description: What is wrong, a sentence each. With faults, the rest is only what could be told.
      type: list
      elements: str
      sample:
        - "hv1: kvm_guest_pci_devices of fax1: Selector \"06:00.0\" matches no device, 1 is needed."
    leaving:
      description: The devices that leave, entries of C(pci_devices).
      type: list
      elements: dict
    guests:
      description: By guest the addresses of its devices.
      type: dict
      sample: {fax1: ["0000:06:00.0"]}
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.module_utils._fleet import Wish, make_plan


def _host_plan(
    verdict: t.Any,
    host: str,
    selectors: t.Any,
    wishes: t.Any,
    force: t.Any = (),
    guest: str | None = None,
    letting_go: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    try:
        wanted = [Wish(**wish) for wish in wishes]
    except TypeError as error:
        raise AnsibleFilterError(f"the wishes are not those of kvm.passthrough.guest_wishes: {error!r}") from error
    plan = make_plan(host, verdict, selectors, wanted, force, letting_go)
    about = [fault for fault in plan.faults if guest is None or not fault.guests or guest in fault.guests]
    return {
        "faults": [fault.text for fault in about],
        "leaving": list(plan.leaving),
        "guests": dict(plan.guests or {}),
    }


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"host_plan": _host_plan}
