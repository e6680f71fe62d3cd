# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How PCI devices are named everywhere in the collection."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
notes:
  - A selector is a dictionary, and a device has to meet all of its keys. The keys are C(address), C(id),
    C(subsystem_id), C(class), C(driver), C(path), C(physical_function), C(virtual_function), C(card), C(query) and
    C(count).
  - C(address) is the PCI address, such as V(0000:06:00.0), or V(06:00.0) in domain 0000. It changes when cards are
    added or moved.
  - C(id) and C(subsystem_id) are vendor and device, such as V(1397:08b4), or all devices of a vendor, such as
    V(1397:*).
  - C(class) is 2, 4 or 6 hexadecimal digits that the class starts with; V(0200) is every Ethernet controller.
  - C(driver) is the driver that is bound to the device, or a module that claims it, so that the selection stays the
    same after the device went to C(vfio-pci). A hyphen equals an underscore.
  - C(path) is the place in the PCI tree as C(lspci -D -P) prints it, such as V(0000:00:1c.0/00.0). It names a slot,
    whatever the numbers of the busses are.
  - C(physical_function) is the address of the device that a virtual function belongs to, and C(virtual_function) its
    number below that device, from V(0) on. Together they name one function, whether it has been made yet or not.
  - C(card) is a family of cards, which the collection knows by their numbers. For ISDN these are V(hfc-4s), V(hfc-8s),
    V(hfc-e1), V(hfc-s-pci), V(fritz-pci), V(fritz-pci-v2.1), V(avm-active), V(speedfax), V(infineon), V(w6692) and
    V(netjet); for DVB V(saa7146-av7110), V(saa7146-budget), V(saa7146-budget-ci), V(saa7146-budget-av), V(cx23885),
    V(cx88), V(saa7134), V(saa7164), V(ddbridge), V(smipcie), V(ngene), V(mantis), V(flexcop), V(dm1105), V(pluto2),
    V(netup-unidvb) and V(tbsecp3).
  - C(query) is a JMESPath query over the list of all devices, as M(kvm.passthrough.pci_facts) returns it. It results in
    devices, or in their addresses, such as C([?driver=='hfc_multi'].address). It needs Python's C(jmespath)
    where it is resolved, on a target the package C(python3-jmespath); the filter P(kvm.passthrough.pci_select#filter)
    and the roles resolve it on the controller.
  - C(count) is how many devices the selector has to match, or V(all) for any number but none.
  - A string in place of the dictionary is an address or an id.
  - Quote addresses and numbers. YAML reads an unquoted V(81:00.0) as the number 4860.0, and an unquoted V(020000) as
    8192.
"""
