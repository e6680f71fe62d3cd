# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pci_select
short_description: The PCI devices that selectors name
version_added: 0.1.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Finds the devices of a host that a list of selectors means, and fails unless each selector matches exactly as many
    devices as it has to.
requirements:
  - jmespath, for selectors with a C(query)
positional: selectors
extends_documentation_fragment:
  - kvm.passthrough.selectors
options:
  _input:
    description: The list C(pci_devices) of M(kvm.passthrough.pci_facts).
    type: list
    elements: dict
    required: true
  selectors:
    description:
      - The selectors. C(count) is V(1) where it is not given.
      - It is an error when two of them match the same device.
    type: list
    elements: raw
    required: true
seealso:
  - module: kvm.passthrough.pci_facts
"""

EXAMPLES = r"""
- name: Show the addresses of the ISDN card, wherever it is plugged, and of both functions of a graphics card
  ansible.builtin.debug:
    msg: "{{ ansible_facts['pci_devices'] | kvm.passthrough.pci_select(cards) | map(attribute='address') }}"
  vars:
    cards:
      - id: "1397:08b4"
        subsystem_id: "1397:b520"
      - "01:00.0"
      - "01:00.1"

- name: Show every network card, but do not accept a host without one
  ansible.builtin.debug:
    msg: "{{ ansible_facts['pci_devices'] | kvm.passthrough.pci_select([{'class': '0200', 'count': 'all'}]) }}"

- name: Show the Fritz!Card, and the first network card that no driver has
  ansible.builtin.debug:
    msg: "{{ ansible_facts['pci_devices'] | kvm.passthrough.pci_select(cards) }}"
  vars:
    cards:
      - card: fritz-pci
      - query: "[?class=='020000' && !driver] | [0]"
"""

RETURN = r"""
_value:
  description: The devices, in the order of the selectors, and those of one selector in the order of the input.
  type: list
  elements: dict
"""

import typing as t
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError
from ansible_collections.kvm.passthrough.plugins.module_utils._selectors import parse_selectors, select


def _pci_select(devices: t.Any, selectors: t.Any) -> list[t.Mapping[str, t.Any]]:
    if not isinstance(devices, Sequence) or not all(isinstance(device, Mapping) for device in devices):
        raise AnsibleFilterError("pci_select works on the list pci_devices of kvm.passthrough.pci_facts")
    try:
        return select(devices, parse_selectors(selectors))
    except PassthroughError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"pci_select": _pci_select}
