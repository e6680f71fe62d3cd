# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: isdn_shortfall
short_description: Which ISDN lines a guest should have and has not, and what its kernel says of it
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Counts the controllers of mISDN, or the spans of DAHDI, of each card and of the lines without one. That a module was
    loaded says nothing of its card.
positional: plan, host, devices, refused
options:
  _input:
    description: The fact C(isdn) of M(kvm.passthrough.isdn_facts).
    type: dict
    required: true
  plan:
    description: The plan of P(kvm.passthrough.isdn_plan#filter).
    type: dict
    required: true
  host:
    description: The guest's name in the inventory, for the messages.
    type: str
    required: true
  devices:
    description: The list C(pci_devices) of M(kvm.passthrough.pci_facts), read after the modules were loaded.
    type: list
    elements: dict
    required: true
  refused:
    description: What modprobe said where it failed.
    type: list
    elements: str
    default: []
seealso:
  - plugin: kvm.passthrough.isdn_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Require all lines
  ansible.builtin.assert:
    that: missing | length == 0
    fail_msg: "{{ missing | join('\n') }}"
  vars:
    missing: >-
      {{ ansible_facts['isdn']
         | kvm.passthrough.isdn_shortfall(plan, inventory_hostname, ansible_facts['pci_devices']) }}
"""

RETURN = r"""
_value:
  description: A sentence for each shortfall.
  type: list
  elements: str
  sample:
    - "isdn1: 0000:05:00.0 (1397:08b4, board 1397:b620, hfc-4s) has 0 of 4 mISDN controllers, and as its driver none.
      The kernel says: 'HFC PCI: IRQ(11) getting no interrupts during init.'. So the card's interrupt does not come
      through"
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_seen import shortfall


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"isdn_shortfall": shortfall}
