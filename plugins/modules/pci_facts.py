#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_facts
short_description: Every PCI device of a host
version_added: 0.1.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Describes the PCI devices of a host from C(/sys) alone. It needs neither C(lspci) nor root.
  - Where both give a field, it agrees with C(lspci -Dvvnnk).
  - It never wakes a sleeping device. Reading the configuration space would do so where the device is in D3cold or the
    bridge above it sleeps (C(pci_config_pm_runtime_get) of the kernel), so that the fields from there are V(none) for
    such a device.
  - What the user may not read is V(none), and a warning says once which field that is. Without root the kernel shows
    the first 64 bytes of the configuration space, and so no capabilities.
  - A device that vanishes while it is read is left out.
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.facts
  - kvm.passthrough.root
  - kvm.passthrough.selectors
options:
  devices:
    description:
      - Return only the devices that at least one of these selectors matches. See the notes for what a selector is.
      - A selector may match any number of devices, also none, unless it has a C(count).
    type: list
    elements: raw
seealso:
  - plugin: kvm.passthrough.pci_select
    plugin_type: filter
    description: Picks devices out of these facts.
"""

EXAMPLES = r"""
- name: Read all PCI devices
  kvm.passthrough.pci_facts:

- name: Show the drivers of all network cards
  ansible.builtin.debug:
    msg: >-
      {{ ansible_facts['pci_devices'] | selectattr('class', 'match', '02')
         | items2dict(key_name='address', value_name='driver') }}

- name: Read the ISDN cards of a machine that somebody sent a capture of
  kvm.passthrough.pci_facts:
    root: /srv/captures/pbx3
    devices:
      - class: "0204"
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    pci_devices:
      description: The PCI devices, sorted by address. Every device has all keys; what is unknown is V(none).
      type: list
      elements: dict
      returned: success
      contains:
        address:
          description: Domain, bus, device and function.
          type: str
          sample: "0000:01:00.0"
        id:
          description: Vendor and device.
          type: str
          sample: "8086:10d3"
        subsystem_id:
          description: Vendor and device of the card, V(none) where the device has none.
          type: str
          sample: "8086:a01f"
        class:
          description: Class, subclass and programming interface.
          type: str
          sample: "020000"
        revision:
          description: Revision.
          type: str
          sample: "03"
        vendor_name:
          description: Name of the vendor, from the C(pci.ids) of the host, below C(/usr/share/misc),
            C(/usr/share/hwdata) or C(/usr/share), plain or compressed. This and the other names are V(none) where the
            file is missing or does not know.
          type: str
          sample: Intel Corporation
        device_name:
          description: Name of the device.
          type: str
          sample: 82574L Gigabit Network Connection
        subsystem_name:
          description: Name of the card's vendor and, where it is known, of the card.
          type: str
          sample: Intel Corporation Gigabit CT Desktop Adapter
        class_name:
          description: Name of the subclass, or else of the class.
          type: str
          sample: Ethernet controller
        driver:
          description: The driver that is bound to the device.
          type: str
          sample: e1000e
        driver_override:
          description: The only driver that may bind to the device.
          type: str
          sample: vfio-pci
        modules:
          description: The kernel modules that claim the device, from C(modules.alias) of the running kernel, or else
            from C(modules.builtin.modinfo); of another O(root) the kernel of its C(/proc/sys/kernel/osrelease), or the
            only one that is installed.
          type: list
          elements: str
          sample: [e1000e]
        iommu_group:
          description: Number of the IOMMU group. It may change with each boot.
          type: int
          sample: 12
        numa_node:
          description: NUMA node, V(none) where the machine has no nodes or does not say.
          type: int
          sample: 0
        enabled:
          description: Whether a driver, or the kernel, has enabled the device.
          type: bool
          sample: true
        interrupt:
          description: How the device interrupts.
          type: dict
          contains:
            pin:
              description: The pin, V(A) to V(D), V(none) where the device has none or its configuration space may not
                be read.
              type: str
              sample: A
            line:
              description:
                - Number of the interrupt in Linux, as in C(/proc/interrupts); with V(msi) that of the first vector.
                - It is what the firmware left there, and may be wrong, until the device has been enabled.
              type: int
              sample: 16
            vectors:
              description: Numbers of the message signalled interrupts in Linux.
              type: list
              elements: int
              sample: [32, 33, 34]
            mode:
              description: V(msi), V(msix) or V(intx), V(none) where the device is not enabled or has no interrupt.
              type: str
              sample: msix
        bars:
          description: The regions of the device, without the windows of a bridge.
          type: list
          elements: dict
          contains:
            index:
              description: V(0) to V(5), or V(6) for the expansion ROM.
              type: int
            type:
              description: V(memory), V(io) or V(rom).
              type: str
            bits:
              description: V(32) or V(64) for memory.
              type: int
            prefetchable:
              description: Whether reads have no side effects.
              type: bool
            size:
              description: Bytes.
              type: int
          sample: [{"index": 0, "type": "memory", "bits": 32, "prefetchable": false, "size": 131072}]
        header_type:
          description: V(0) for a device, V(1) for a PCI bridge, V(2) for a CardBus bridge.
          type: int
          sample: 0
        bridge:
          description: Whether it is a bridge, by header or class, and so nothing that a guest can be given.
          type: bool
          sample: false
        pcie_type:
          description: V(endpoint), V(legacy_endpoint), V(root_port), V(upstream_port), V(downstream_port),
            V(pcie_to_pci_bridge), V(pci_to_pcie_bridge), V(rc_endpoint) or V(rc_event_collector). V(none) for
            conventional PCI, and where the capabilities may not be read.
          type: str
          sample: endpoint
        multifunction:
          description: Whether the device says to have more functions.
          type: bool
          sample: false
        reset_methods:
          description: The ways in which the kernel can reset the device, in its order. V(none) where the kernel, before
            5.15, does not say, or where no device has any.
          type: list
          elements: str
          sample: [flr, bus]
        boot_vga:
          description: Whether the firmware used it as its display.
          type: bool
          sample: false
        power_state:
          description: V(D0), V(D1), V(D2), V(D3hot), V(D3cold), or V(unknown); V(none) where an older kernel
            does not say.
          type: str
          sample: D0
        sriov:
          description: Virtual functions.
          type: dict
          contains:
            total_vfs:
              description: How many the device can have, V(none) for a device that can have none.
              type: int
              sample: 7
            num_vfs:
              description: How many it has, V(none) for a device that can have none.
              type: int
              sample: 2
            physical_function:
              description: For a virtual function, the device that it belongs to.
              type: str
              sample: null
            virtual_functions:
              description: Addresses of the virtual functions, in the order of their numbers.
              type: list
              elements: str
              sample: ["0000:01:10.0", "0000:01:10.2"]
            vf_id:
              description: Vendor and device of its virtual functions, whether there are any or not. This and what
                follows is V(none) for a device that can have none, and before Linux 4.14.
              type: str
              sample: "8086:10ca"
            offset:
              description: How far the first virtual function is from the device, counted in functions (a bus has 256).
                Some devices say V(0) until they have one.
              type: int
              sample: 128
            stride:
              description: How far one virtual function is from the next. Some devices say V(0) until they have two.
              type: int
              sample: 2
        parent:
          description: Address of the bridge above, V(none) on a root bus.
          type: str
          sample: "0000:00:01.0"
        path:
          description: Place in the tree, as C(lspci -D -P) prints it.
          type: str
          sample: "0000:00:01.0/00.0"
        physical_slot:
          description: Name of the slot, as the firmware or the hot-plug driver knows it.
          type: str
          sample: "1"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils import _pci, _selectors
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "devices": {"type": "list", "elements": "raw"},
        },
        supports_check_mode=True,
    )
    try:
        wanted = module.params["devices"]
        selectors = None if wanted is None else _selectors.parse_selectors(wanted)
        found = _pci.read_devices(module.params["root"], module.warn)
        devices = found if selectors is None else _selectors.narrow(found, selectors)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    module.exit_json(ansible_facts={"pci_devices": devices})


if __name__ == "__main__":
    main()
