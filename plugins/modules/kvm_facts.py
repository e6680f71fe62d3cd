#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_facts
short_description: What a host offers to KVM guests with PCI devices
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Describes a host as a home for KVM guests. It tells of the CPU's virtualization, C(/dev/kvm), the IOMMU, the running
    kernel, the boot loader, memory, QEMU and libvirt.
  - Everything is read from files. No command is run, no module is loaded and no daemon is started or asked.
  - It does not need root. Without root, C(accessible) tells of that user, and the boot loader may be unknown where its
    files may not be read.
  - Every key is always there. What cannot be told is V(none), and so is all that another O(root) lacks.
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.facts
  - kvm.passthrough.root
seealso:
  - module: kvm.passthrough.pci_facts
  - module: kvm.passthrough.irq_facts
  - module: kvm.passthrough.passthrough_info
    description: Says what these facts mean for each device.
"""

EXAMPLES = r"""
- name: Read what the host offers
  kvm.passthrough.kvm_facts:

- name: Go on only where guests can have PCI devices
  ansible.builtin.assert:
    that: ansible_facts['kvm']['libvirt']['assigns_pci'] is true
    fail_msg: "{{ ansible_facts['kvm']['libvirt']['reason'] }}"

- name: Group hosts by the table of their IOMMU
  ansible.builtin.group_by:
    key: iommu_{{ ansible_facts['kvm']['iommu']['table'] | default('none', true) }}

- name: Read a machine that somebody sent a capture of
  kvm.passthrough.kvm_facts:
    root: /srv/captures/pbx3
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    kvm:
      description: What the host offers. All keys are always there; what is unknown is V(none).
      type: dict
      returned: success
      contains:
        cpu:
          description: The processor, as the first one in C(/proc/cpuinfo) shows it.
          type: dict
          contains:
            architecture:
              description: The kernel's name of the architecture, as C(uname -m) prints it.
              type: str
              sample: x86_64
            vendor:
              description: The maker, as the kernel spells it. On Arm this is the number of the implementer, such as
                V(0x41).
              type: str
              sample: GenuineIntel
            model:
              description: Its name; V(none) on Arm, where the kernel has none.
              type: str
              sample: Intel(R) Xeon(R) Silver 4210R CPU @ 2.40GHz
            virtualization:
              description:
                - V(vmx) for Intel's, V(svm) for AMD's; V(none) where the CPU shows neither.
                - V(el2) on 64-bit Arm where the kernel offers C(/dev/kvm), for only that shows it there. V(none) there
                  means that it cannot be told, unless C(reason) says why it is off.
              type: str
              sample: vmx
            reason:
              description: Why guests cannot run with KVM; V(none) where they can, or where nothing speaks against it.
              type: str
              sample: kvm_intel is loaded, but there is no /dev/kvm
            guest:
              description: Whether the host is a virtual machine itself; V(none) where the CPU does not tell, as on Arm.
              type: bool
              sample: false
            nested:
              description: Whether guests may run guests of their own; V(none) where neither C(kvm_intel) nor C(kvm_amd)
                is loaded.
              type: bool
              sample: true
            address_bits:
              description: Bits of a physical address; V(none) where C(/proc/cpuinfo) has no C(address sizes).
              type: int
              sample: 46
        device:
          description: C(/dev/kvm).
          type: dict
          contains:
            present:
              description:
                - Whether the kernel offers it. A node that has no driver behind it, as systemd makes it before a module
                  is loaded, does not count.
                - V(none) where another O(root) has neither C(/sys/class/misc) nor C(/dev).
              type: bool
              sample: true
            accessible:
              description: Whether the user that reads may open it; V(none) for another O(root).
              type: bool
              sample: true
        modules:
          description: Modules of the running kernel whose names start with C(kvm) or C(vfio), sorted. Those built in
            are among them if they have parameters.
          type: list
          elements: str
          sample: [kvm, kvm_intel, vfio, vfio_iommu_type1, vfio_pci, vfio_pci_core]
        iommu:
          description: The IOMMU.
          type: dict
          contains:
            table:
              description: The ACPI table by which the firmware tells of it, V(DMAR) of Intel, V(IVRS) of AMD, V(IORT)
                of Arm, or V(VIOT) of virtual machines; V(none) where there is none of them.
              type: str
              sample: DMAR
            units:
              description: The units that the kernel uses, from C(/sys/class/iommu).
              type: list
              elements: str
              sample: [dmar0, dmar1]
            groups:
              description: How many IOMMU groups there are; V(none) where another O(root) has no
                C(/sys/kernel/iommu_groups).
              type: int
              sample: 42
            enabled:
              description: Whether it is on, that is, there are units and groups; V(none) where another O(root) lacks
                C(/sys/kernel/iommu_groups) or C(/sys/class/iommu).
              type: bool
              sample: true
            remapping:
              description:
                - Whether interrupts are remapped (x86), or isolated by an ITS (Arm), so that a guest's device cannot
                  send the host any interrupt it likes.
                - V(none) where no chip in C(/sys/kernel/irq) or C(/proc/interrupts) tells.
              type: bool
              sample: true
            unsafe_interrupts:
              description: Whether vfio does without remapping, C(allow_unsafe_interrupts) of C(vfio_iommu_type1);
                V(none) where that is not loaded.
              type: bool
              sample: false
            noiommu:
              description: Whether vfio does without an IOMMU, C(enable_unsafe_noiommu_mode) of C(vfio); V(none) where
                that is not loaded, or cannot do so.
              type: bool
              sample: null
            address_bits:
              description: Bits of an address that the weakest unit translates. V(none) where the units do not show it,
                which only Intel's do.
              type: int
              sample: 46
            reserved:
              description: The regions that the devices of a group must leave alone, by group.
              type: list
              elements: dict
              contains:
                group:
                  description: Number of the group.
                  type: int
                  sample: 1
                start:
                  description: First address.
                  type: str
                  sample: "0x00000000fee00000"
                end:
                  description: Last address.
                  type: str
                  sample: "0x00000000feefffff"
                type:
                  description: V(direct), which the firmware needs mapped as it is and which keeps the group from
                    guests; V(direct-relaxable), which does not; V(reserved); or V(msi), where interrupts are sent to.
                  type: str
                  sample: msi
        kernel:
          description: The running kernel.
          type: dict
          contains:
            release:
              description: Its release, as C(uname -r) prints it.
              type: str
              sample: 6.12.117+deb13-amd64
            version:
              description: Its version as two numbers, which compare as numbers do.
              type: list
              elements: int
              sample: [6, 12]
            arguments:
              description: The arguments that it was booted with, without those of the init process.
              type: list
              elements: str
              sample: [BOOT_IMAGE=/boot/vmlinuz-6.12.117+deb13-amd64, ro, quiet, intel_iommu=on]
            lockdown:
              description: The string V(none), V(integrity) or V(confidentiality); null where the kernel has no
                lockdown, or does not show it to the user.
              type: str
              sample: integrity
            intel_iommu_default:
              description: What the kernel does with Intel's IOMMU when no argument tells it, V(on),
                V(on_except_graphics) or V(off), from the configuration that it was built with; V(none) where that is in
                none of C(/boot), C(/usr/lib/modules) and C(/proc/config.gz).
              type: str
              sample: on_except_graphics
        boot_loader:
          description: The boot loader that M(kvm.passthrough.kernel_args) would use, V(grub), V(grubby),
            V(systemd-boot) or V(proxmox); V(none) where that module would have to be told.
          type: str
          sample: grub
        ksm:
          description: The kernel's merging of equal pages, with the numbers of C(/sys/kernel/mm/ksm); V(none) where the
            kernel has none.
          type: dict
          contains:
            run:
              description: V(1) merges, V(0) does not, V(2) takes apart what was merged.
              type: int
              sample: 1
            pages_shared:
              description: Pages that others share.
              type: int
              sample: 1204
            pages_sharing:
              description: Pages that share one of them, and so are saved.
              type: int
              sample: 20331
            pages_unshared:
              description: Pages that have been looked at and have no equal.
              type: int
              sample: 88210
            pages_to_scan:
              description: Pages to look at before it sleeps.
              type: int
              sample: 100
            sleep_millisecs:
              description: Milliseconds that it sleeps.
              type: int
              sample: 20
            full_scans:
              description: How often everything has been looked at.
              type: int
              sample: 17
        hugepages:
          description: Pools of huge pages, first those of the whole machine by size, then those of each NUMA node.
          type: list
          elements: dict
          contains:
            size:
              description: Bytes of one page.
              type: int
              sample: 2097152
            node:
              description: NUMA node, V(none) for the whole machine.
              type: int
              sample: null
            total:
              description: Pages in the pool.
              type: int
              sample: 512
            free:
              description: Pages that nobody uses.
              type: int
              sample: 256
        memory:
          description: Memory from C(/proc/meminfo).
          type: dict
          contains:
            total:
              description: Bytes in all.
              type: int
              sample: 67430240256
            available:
              description: Bytes that programs can have without swapping.
              type: int
              sample: 51539607552
            swap_total:
              description: Bytes of swap space.
              type: int
              sample: 0
        qemu:
          description: The QEMU for guests of the host's own architecture.
          type: dict
          contains:
            path:
              description: The program, V(none) where it is not installed.
              type: str
              sample: /usr/bin/qemu-system-x86_64
            version:
              description: Its version, V(none) where the program does not show it.
              type: str
              sample: 10.0.13
        libvirt:
          description: The libvirt that is installed.
          type: dict
          contains:
            version:
              description: Version of its library, V(none) where it is not installed.
              type: str
              sample: 11.3.0
            assigns_pci:
              description: Whether it can assign PCI devices as things are. It wants IOMMU groups and C(/dev/vfio/vfio),
                and its driver for QEMU must be installed. V(none) where another O(root) does not tell all of this.
              type: bool
              sample: true
            reason:
              description: What is missing, V(none) where nothing is.
              type: str
              sample: there are no IOMMU groups (/sys/kernel/iommu_groups)
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils import _kvm


def main() -> None:
    module = AnsibleModule(argument_spec={"root": {"type": "path", "default": "/"}}, supports_check_mode=True)
    module.exit_json(ansible_facts={"kvm": _kvm.read_kvm(module.params["root"])})


if __name__ == "__main__":
    main()
