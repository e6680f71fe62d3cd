# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: sriov_plan
short_description: Which devices of a host get how many virtual functions, and what the host has then
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Finds the devices that are to be split by SR-IOV, and tells the verdict on the host as it will be with their virtual
    functions, so that guests can be promised functions that are not there yet.
  - What is wrong is returned, not raised, so that a playbook can tell it of all hosts before it changes the first.
  - "These are faults: a selector that cannot be read, or matches nothing or too much; C(vfs) that is missing, is no
    number, or is more than the device can have; a device that cannot be split, that is with a driver for guests, or is
    named twice; one that does not tell the addresses of its functions before the first are made."
  - A verdict that failed, or of a host that could not be reached, is returned as it is, without faults.
    P(kvm.passthrough.host_plan#filter) tells of it.
positional: host, wanted
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
  wanted:
    description:
      - The host's C(kvm_host_sriov), selectors with one key more, C(vfs), the number of virtual functions. With
        C(count) each of the devices has as many.
    type: list
    elements: dict
    required: true
seealso:
  - module: kvm.passthrough.pci_sriov
"""

EXAMPLES = r"""
- name: Judge the host
  kvm.passthrough.passthrough_info:
    facts: true
  register: verdict

- name: Plan two functions for a network card
  ansible.builtin.set_fact:
    sriov: "{{ verdict | kvm.passthrough.sriov_plan(inventory_hostname, [{'address': '05:00.0', 'vfs': 2}]) }}"

- name: Make them
  kvm.passthrough.pci_sriov:
    devices: "{{ sriov.devices }}"
  when: not sriov.faults

- name: Hold the host with its functions against the wishes of the guests
  ansible.builtin.debug:
    msg: "{{ (sriov.verdict | kvm.passthrough.host_plan(inventory_hostname, [], wishes)).faults }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    devices:
      description: The devices and their numbers, sorted by address, as the option C(devices) of
        M(kvm.passthrough.pci_sriov) takes them. With faults, only those that are in order.
      type: list
      elements: dict
      sample: [{address: "0000:05:00.0", num_vfs: 2}]
    faults:
      description: What is wrong, a sentence each.
      type: list
      elements: str
      sample:
        - "hv1: kvm_host_sriov: Selector {\"driver\": \"igb\"}: 0000:05:00.0 can have 7 virtual functions at most, not
          9; ask for no more than 7"
    verdict:
      description:
        - The verdict as it will be with RV(_value.devices). A function that is not there yet has an entry in
          C(ansible_facts.pci_devices), with its address and id, without driver and IOMMU group, and in C(devices),
          where it is V(assignable) with no findings. One that goes has none any more.
        - The finding C(sriov_pf_vfs), that a device with virtual functions cannot be given away itself, is told of
          RV(_value.devices) as they will be.
      type: dict
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._sriov_plan import make_plan


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"sriov_plan": make_plan}
