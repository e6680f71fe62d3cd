#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: irq_facts
short_description: Every interrupt of a host, and the PCI devices behind it
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Describes the interrupts of a host from C(/proc/interrupts) and C(/sys/kernel/irq), for each kernel from 2.6 on and
    each architecture. It does not need root.
  - Says which PCI devices are behind an interrupt. A message signalled interrupt belongs to the device that the kernel
    lists it for, that its chip is named after, or, before Linux 6.2, that the number at its chip is made for.
  - A line leads to a device only while the device is enabled and does not signal by messages. Before that, the number
    in its attribute C(irq) is what the firmware left there, and enabling the device may change it. Such a device is
    named apart, and no interrupt is called shared because of it.
  - A bridge is only behind a line on which it has a handler, for most ports have a line that they never use.
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.facts
  - kvm.passthrough.root
seealso:
  - module: kvm.passthrough.pci_facts
"""

EXAMPLES = r"""
- name: Read all interrupts
  kvm.passthrough.irq_facts:

- name: Show who shares an interrupt with whom
  ansible.builtin.debug:
    msg: "{{ item.irq }}: {{ item.actions | join(', ') }} ({{ item.devices | join(', ') }})"
  loop: "{{ ansible_facts['interrupts'] | selectattr('shared') }}"
  loop_control:
    label: "{{ item.irq }}"

- name: Read the interrupts of a machine that somebody sent a capture of
  kvm.passthrough.irq_facts:
    root: /srv/captures/pbx3

- name: Show the interrupts of one of its devices
  ansible.builtin.debug:
    msg: "{{ ansible_facts['interrupts'] | selectattr('devices', 'contains', '0000:05:00.0') }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    interrupts:
      description:
        - The rows of C(/proc/interrupts), by number, and then those with a name in the kernel's order. Every row has
          all keys; what is unknown is V(none).
        - A number that C(/proc/interrupts) leaves out, since nobody has requested it, is listed where a PCI device is
          behind it.
      type: list
      elements: dict
      returned: success
      contains:
        irq:
          description: Number of the interrupt in Linux, or the name of the row, such as V(NMI).
          type: raw
          sample: 16
        counts:
          description:
            - How often it occurred, by online CPU in the order of their numbers. The kernel counts from V(0) to
              V(4294967295) and then from V(0) again.
            - A row that is counted for the whole machine, such as V(ERR), has one count. A row that is only in
              C(/sys/kernel/irq) has those of all possible CPUs if it is not known which are online.
          type: list
          elements: int
          sample: [2198, 0, 17, 0]
        count:
          description: How often it occurred on all CPUs.
          type: int
          sample: 2215
        chip:
          description: The interrupt controller.
          type: str
          sample: IR-IO-APIC
        hwirq:
          description: Number of the interrupt at its chip.
          type: int
          sample: 16
        trigger:
          description: V(edge) or V(level).
          type: str
          sample: level
        actions:
          description:
            - Names of the handlers, which the drivers choose, such as the name of a network interface. Empty where
              nobody has requested the interrupt.
            - Where C(/proc/interrupts) and C(/sys/kernel/irq) disagree about where a name with a comma ends, the one
              with fewer names is right, for each takes a name apart only at its own separator.
          type: list
          elements: str
          sample: ["ehci_hcd:usb1", "eth0"]
        devices:
          description: Addresses of the PCI devices that are behind it for certain, sorted.
          type: list
          elements: str
          sample: ["0000:00:1a.0", "0000:05:00.0"]
        interfaces:
          description: Those of the actions on a line that are called after a network interface, and the address of its
            PCI device.
          type: dict
          sample: {"eth0": "0000:05:00.0"}
        unconfirmed:
          description: Addresses of the PCI devices whose attribute C(irq) has this number, but which are not enabled,
            so that their line is not known.
          type: list
          elements: str
          sample: ["0000:05:02.0"]
        shared:
          description:
            - Whether more than one user is on it, two actions or two devices; V(none) where the row is cut off.
            - An interrupt signalled by messages belongs to one device, and is not shared however many actions that
              device has. On a line, the services of a PCI Express port (C(PCIe PME), C(pciehp), C(aerdrv) and others)
              are one user, unless the same service is there twice. Every other action is a user of its own, also the
              second one of the same name.
          type: bool
          sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils import _interrupts, _pci
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/"}},
        supports_check_mode=True,
    )
    try:
        # What read_devices() warns about are fields of pci_facts; whatever is needed here, every user may read.
        devices = _pci.read_devices(module.params["root"], lambda _message: None)
        interrupts = _interrupts.read_interrupts(module.params["root"], devices)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    module.exit_json(ansible_facts={"interrupts": interrupts})


if __name__ == "__main__":
    main()
