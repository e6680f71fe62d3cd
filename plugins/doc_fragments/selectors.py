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
    C(subsystem_id), C(class), C(driver), C(path) and C(count).
  - C(address) is the PCI address, such as V(0000:06:00.0), or V(06:00.0) in domain 0000. It changes when cards are
    added or moved.
  - C(id) and C(subsystem_id) are vendor and device, such as V(1397:08b4), or all devices of a vendor, such as
    V(1397:*).
  - C(class) is 2, 4 or 6 hexadecimal digits that the class starts with; V(0200) is every Ethernet controller.
  - C(driver) is the driver that is bound to the device, or a module that claims it, so that the selection stays the
    same after the device went to C(vfio-pci). A hyphen equals an underscore.
  - C(path) is the place in the PCI tree as C(lspci -D -P) prints it, such as V(0000:00:1c.0/00.0). It names a slot,
    whatever the numbers of the busses are.
  - C(count) is how many devices the selector has to match, or V(all) for any number but none.
  - A string in place of the dictionary is an address or an id.
  - Quote addresses and numbers. YAML reads an unquoted V(81:00.0) as the number 4860.0, and an unquoted V(020000) as
    8192.
"""
