# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: card_families
short_description: What is known of the ISDN and DVB cards among PCI devices
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Looks up devices in the catalogue of card families, by their ids and those of their subsystems. Devices of no family
    are left out.
  - What it tells is the collection's own knowledge, not that of the machine. Which modules claim a device on a machine
    is in RV(kvm.passthrough.pci_facts#module:ansible_facts.pci_devices[].modules).
positional: kind
options:
  _input:
    description: The list C(pci_devices) of M(kvm.passthrough.pci_facts).
    type: list
    elements: dict
    required: true
  kind:
    description: Only cards of this kind; of every kind if empty.
    type: str
    choices: ["", isdn, dvb]
    default: ""
seealso:
  - module: kvm.passthrough.pci_facts
"""

EXAMPLES = r"""
- name: Refuse a card whose driver in the kernel does not take it
  ansible.builtin.assert:
    that: item.refused == ''
    fail_msg: "{{ item.address }}: {{ item.refused }}{{ '; DAHDI has ' ~ item.dahdi if item.dahdi else '' }}"
  loop: "{{ ansible_facts['pci_devices'] | kvm.passthrough.card_families('isdn') }}"

- name: Show how many ISDN lines the cards of this guest have
  ansible.builtin.debug:
    msg: "{{ ansible_facts['pci_devices'] | kvm.passthrough.card_families('isdn') | map(attribute='ports') | sum }}"
"""

RETURN = r"""
_value:
  description: One dictionary for each device that belongs to a family, in the order of the input.
  type: list
  elements: dict
  contains:
    address:
      description: The PCI address.
      type: str
      sample: "0000:06:00.0"
    id:
      description: Vendor and device.
      type: str
      sample: "1397:08b4"
    subsystem_id:
      description: Vendor and device of the subsystem, null if it has none or it cannot be read.
      type: str
      sample: "1397:b752"
    driver:
      description: The driver that is bound to the device, null if there is none.
      type: str
      sample: vfio-pci
    card:
      description: The name of the family, as selectors take it for C(card).
      type: str
      sample: hfc-4s
    about:
      description: What the family is.
      type: str
      sample: "Cologne Chip HFC-4S, two or four S0 ports: beroNet BN2S0 and BN4S0"
    kind:
      description: V(isdn) or V(dvb).
      type: str
      sample: isdn
    modules:
      description: The kernel modules of today whose aliases claim the card. Empty where Linux has no driver.
      type: list
      elements: str
      sample: [hfcmulti]
    drivers:
      description: The names of these modules as PCI drivers, in the same order.
      type: list
      elements: str
      sample: [hfc_multi]
    guest_modules:
      description: What a guest loads beside them.
      type: list
      elements: str
      sample: [mISDN_dsp]
    options:
      description: By module the options that it needs in a guest.
      type: dict
      sample: {cx23885: dma_reset_workaround=2}
    firmware:
      description: The files that drivers of the family may ask for.
      type: list
      elements: dict
      contains:
        file:
          description: The path below C(/lib/firmware).
          type: str
          sample: av7110/bootcode.bin
        package:
          description: The package of Debian 13 that has the file, empty where none has.
          type: str
          sample: firmware-linux-free
        asked_by:
          description: The module that asks for it; that of a chip asks only on cards that have the chip.
          type: str
          sample: dvb_ttpci
    packages:
      description: Packages of Debian whose programs use the card.
      type: list
      elements: str
      sample: [dahdi]
    since:
      description: The first Linux with the modules, empty where every kernel in use is new enough.
      type: str
      sample: "2.6.27"
    before:
      description: The first Linux without them, empty where they are still there.
      type: str
      sample: "7.1"
    ports:
      description: How many lines the card has (controllers of mISDN, spans of DAHDI), null if that is not known.
      type: int
      sample: 4
    refused:
      description: Why the driver that matches the card does not take it, empty if it does.
      type: str
      sample: >-
        hfcmulti matches the chip but does not know the board 1397:b752: it loads, says 'Unknown HFC multiport
        controller' and takes nothing
    keeper:
      description:
        - Which of C(drivers) cannot be removed from a running kernel, so that the card leaves a host or a guest only
          when that is off. V(none) where there is none.
      type: str
      sample: hfc_multi
    dahdi:
      description: The module of DAHDI that takes this very card, empty if none does.
      type: str
      sample: wcb4xxp
    rivals:
      description: Modules that claim the same card, so that only one of both may load in a guest.
      type: list
      elements: str
      sample: [wcb4xxp]
    traps:
      description: What else one has to know, in sentences.
      type: list
      elements: str
      sample: ["Linux 7.1 removed mISDN, so the guest must not get a kernel from backports"]
"""

import typing as t
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.module_utils._card_facts import describe

_KINDS = ("", "isdn", "dvb")


def _card_families(devices: t.Any, kind: str = "") -> list[dict[str, t.Any]]:
    if not isinstance(devices, Sequence) or not all(isinstance(device, Mapping) for device in devices):
        raise AnsibleFilterError("card_families works on the list pci_devices of kvm.passthrough.pci_facts")
    if kind not in _KINDS:
        raise AnsibleFilterError(f"card_families: kind is {kind!r}; it is isdn, dvb or empty for both")
    return describe(devices, kind)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"card_families": _card_families}
