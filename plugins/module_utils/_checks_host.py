# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of the host: whether it runs guests with KVM, and whether it can assign any PCI device at all.

One cause gives one finding. What prepare mends by itself is a warning: it must not hide what would block afterwards.
"""

from __future__ import annotations

import os
import typing as t

from . import _sysfs
from ._check import BLOCKER, INFORMATION, WARNING, Check, Fault, Machine

_PREPARE = "kvm.passthrough.prepare"
_TABLES = "/sys/firmware/acpi/tables"
_GROUPS = "/sys/kernel/iommu_groups"
# Who reads the argument, by the firmware's table: arch/x86/kernel/pci-dma.c and the drivers of both makers.
_IOMMU_ARGUMENTS = {"DMAR": ("iommu", "intel_iommu"), "IVRS": ("iommu", "amd_iommu")}

Facts = t.Mapping[str, t.Any]
Faults = t.Iterator[Fault]


# ---------------------------------------------------------------------------------------------------------------------
# The CPU and KVM


def _cpu_virt(machine: Machine) -> Faults:
    cpu = _part(machine, "cpu")
    if _lacks_virtualization(machine):
        evidence = "/dev/kvm: absent" if cpu.get("architecture") == "aarch64" else "/proc/cpuinfo: no vmx, no svm"
        yield Fault(f"guests cannot run with KVM: {cpu['reason']}", evidence)


def _kvm_dev(machine: Machine) -> Faults:
    if _part(machine, "device").get("present") is False and not _lacks_virtualization(machine):
        reason = _part(machine, "cpu").get("reason") or "the kernel offers no /dev/kvm"
        yield Fault(f"guests cannot run with KVM: {reason}", "/dev/kvm: absent")


def _lacks_virtualization(machine: Machine) -> bool:
    cpu = _part(machine, "cpu")
    return not cpu.get("virtualization") and bool(cpu.get("reason"))


def _nested(machine: Machine) -> Faults:
    if _part(machine, "cpu").get("guest") and _part(machine, "iommu").get("enabled"):
        yield Fault(
            "this host is itself a virtual machine: its devices are what its hypervisor shows it, and DMA of its guests"
            " is translated twice",
            "/proc/cpuinfo: flags: hypervisor",
        )


# ---------------------------------------------------------------------------------------------------------------------
# The IOMMU


def _iommu_table(machine: Machine) -> Faults:
    if _without_iommu(machine) and not _part(machine, "iommu").get("table"):
        message = "there is no IOMMU: the firmware reports none (no table DMAR, IVRS, IORT or VIOT)"
        if _part(machine, "cpu").get("guest"):
            message = "there is no IOMMU: this host is a virtual machine, and its hypervisor gives it none"
        yield Fault(message, f"{_TABLES}: neither DMAR, IVRS, IORT nor VIOT")


def _iommu_intel(machine: Machine) -> Faults:
    """What intel_iommu=on would mend: drivers/iommu/intel/iommu.c, intel_iommu_setup."""
    if _without_iommu(machine) and _needs_intel_iommu_on(machine):
        why = "the kernel needs the argument intel_iommu=on, which it has not got"
        if _switch(machine, "intel_iommu"):
            why = "the kernel argument intel_iommu=off switches it off"
        elif _part(machine, "kernel").get("intel_iommu_default") == "off":
            why = "this kernel leaves it off by default (CONFIG_INTEL_IOMMU_DEFAULT_OFF), without intel_iommu=on"
        yield Fault(f"the firmware has an IOMMU (table DMAR), but it is off: {why}", _command_line(machine))


def _iommu_on(machine: Machine) -> Faults:
    table = _part(machine, "iommu").get("table")
    if not table or not _without_iommu(machine) or _needs_intel_iommu_on(machine):
        return
    culprit = next((name for name in _IOMMU_ARGUMENTS.get(table, ()) if _switch(machine, name) == "off"), None)
    if culprit:
        why, evidence = f"the kernel argument {culprit}=off switches it off", _command_line(machine)
    else:
        why, evidence = "the kernel does not use it, although no argument says so", f"{_GROUPS}: empty"
    yield Fault(f"the firmware has an IOMMU (table {table}), but it is off: {why}", evidence)


def _noiommu(machine: Machine) -> Faults:
    iommu = _part(machine, "iommu")
    if iommu.get("noiommu") and iommu.get("enabled") is False and not _without_iommu(machine):
        yield Fault(
            "vfio runs without an IOMMU (noiommu mode): its groups are no protection, and QEMU cannot use them",
            "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode: Y",
        )


def _irq_remap(machine: Machine) -> Faults:
    iommu = _part(machine, "iommu")
    if not iommu.get("enabled") or iommu.get("remapping") is not False:
        return
    # drivers/iommu/irq_remapping.c: setup_irqremap
    why = " (the kernel argument intremap=off)" if _switch(machine, "intremap") == "off" else ""
    message = f"the IOMMU does not isolate interrupts{why}: a guest could send the host any interrupt"
    if iommu.get("unsafe_interrupts"):
        yield Fault(
            f"{message}, which vfio has been told to accept",
            "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts: Y",
            WARNING,
        )
    else:
        yield Fault(f"{message}, and vfio refuses", "/proc/interrupts: no chip of remapped interrupts (IR-, ITS)")


def _aw_bits(machine: Machine) -> Faults:
    iommu, cpu = _part(machine, "iommu").get("address_bits"), _part(machine, "cpu").get("address_bits")
    if iommu and cpu and iommu < cpu and _part(machine, "iommu").get("enabled"):
        yield Fault(
            f"the IOMMU translates addresses of {iommu} bits, the CPU has {cpu}: a guest that places its memory or"
            " devices beyond cannot start",
            f"/sys/class/iommu/*/intel-iommu/cap: {iommu} bits; /proc/cpuinfo: address sizes: {cpu} bits physical",
            words={"bits": iommu},
        )


def _acs_override(machine: Machine) -> Faults:
    found = [argument for argument in _arguments(machine) if argument.startswith("pcie_acs_override=")]
    if found:
        yield Fault(
            f"the kernel is told to take devices for isolated that are not ({found[-1]}): IOMMU groups may look smaller"
            " than they are, and devices of different guests may reach each other",
            _command_line(machine),
        )


# ---------------------------------------------------------------------------------------------------------------------
# What is installed


def _vfio_module(machine: Machine) -> Faults:
    if _lacks_vfio(machine):
        release = machine.kvm["kernel"]["release"]
        yield Fault(
            f"the kernel {release} has no vfio-pci, neither built in nor as a module",
            f"/lib/modules/{release}/kernel/drivers/vfio/pci: no vfio-pci.ko",
        )


def _vfio(machine: Machine) -> Faults:
    if "/dev/vfio/vfio" in _reason(machine) and not _lacks_vfio(machine):
        yield Fault("vfio is not loaded: libvirt finds no /dev/vfio/vfio", "/dev/vfio/vfio: absent")


def _packages(machine: Machine) -> Faults:
    missing = []
    # A tree without any programs does not tell.
    programs = os.path.isdir(_sysfs.below(machine.root, "/usr/bin")) and _part(machine, "cpu").get("architecture")
    if programs and not _part(machine, "qemu").get("path"):
        missing.append("QEMU")
    if "libvirt" in _reason(machine):
        missing.append("libvirt's driver for QEMU" if _part(machine, "libvirt").get("version") else "libvirt")
    if missing:
        yield Fault(
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed",
            "/usr/bin/qemu-system-*, /usr/libexec/qemu-kvm: absent"
            if missing[0] == "QEMU"
            else "libvirt_driver_qemu.so: absent",
        )


def _lacks_vfio(machine: Machine) -> bool:
    """Whether the running kernel was built without vfio-pci; a tree without the modules does not tell."""
    folder = f"/lib/modules/{_part(machine, 'kernel').get('release')}/kernel"
    if "vfio_pci" in machine.kvm.get("modules", ()) or not machine.names(folder):
        return False
    return not any(name.startswith("vfio-pci.ko") for name in machine.names(f"{folder}/drivers/vfio/pci"))


def _reason(machine: Machine) -> str:
    """Why libvirt could assign no device: what _qemu found missing."""
    return _part(machine, "libvirt").get("reason") or ""


# ---------------------------------------------------------------------------------------------------------------------
# What several checks ask


def _part(machine: Machine, name: str) -> Facts:
    """A part of the fact kvm, empty where it is unknown."""
    return machine.kvm.get(name) or {}


def _arguments(machine: Machine) -> t.Sequence[str]:
    return _part(machine, "kernel").get("arguments") or ()


def _command_line(machine: Machine) -> str:
    return f"/proc/cmdline: {' '.join(_arguments(machine))}"


def _without_iommu(machine: Machine) -> bool:
    """Whether no device is behind an IOMMU. A machine without devices, or without /sys/kernel, does not tell."""
    if _part(machine, "iommu").get("enabled") is not False or not machine.devices:
        return False
    return all(device["iommu_group"] is None for device in machine.devices.values())


def _needs_intel_iommu_on(machine: Machine) -> bool:
    """Whether it is intel_iommu=on that an Intel host lacks; iommu=off wins over it."""
    if _part(machine, "iommu").get("table") != "DMAR" or _switch(machine, "iommu") == "off":
        return False
    told = _switch(machine, "intel_iommu")
    default = _part(machine, "kernel").get("intel_iommu_default")
    return told == "off" or (told is None and default not in ("on", "on_except_graphics"))


def _switch(machine: Machine, name: str) -> str | None:
    """on or off, as the last word for an argument says; its value is a list: intel_iommu=on,sm_on."""
    said = None
    for argument in _arguments(machine):
        key, _equal, value = argument.partition("=")
        if key == name:
            said = next((word for word in reversed(value.split(",")) if word in ("on", "off")), said)
    return said


# ---------------------------------------------------------------------------------------------------------------------

CHECKS: tuple[Check, ...] = (
    Check(
        id="cpu_virt",
        about="The CPU offers no virtualization, or the firmware keeps it off",
        source="Linux arch/x86/kernel/cpu/feat_ctl.c: init_ia32_feat_ctl; arch/arm64/kvm/arm.c: kvm_arm_init",
        severity=BLOCKER,
        symptom="Could not access KVM kernel module: No such file or directory",
        remedy="Switch on VT-x (Intel) or SVM (AMD) in the firmware; for a host that is itself a guest, switch on"
        " nesting at its hypervisor, and give it the CPU model host-passthrough",
        judge=_cpu_virt,
    ),
    Check(
        id="kvm_dev",
        about="The CPU could, but there is no /dev/kvm",
        source="Linux virt/kvm/kvm_main.c: kvm_init",
        severity=BLOCKER,
        symptom="Could not access KVM kernel module: No such file or directory",
        remedy="Load kvm_intel or kvm_amd, and take it from the blacklist in /etc/modprobe.d if it is there; see what"
        " the kernel says: journalctl -k --grep kvm",
        judge=_kvm_dev,
    ),
    Check(
        id="iommu_table",
        about="The firmware reports no IOMMU",
        source="Linux drivers/iommu/intel/dmar.c, drivers/iommu/amd/init.c, drivers/acpi/arm64/iort.c,"
        " drivers/acpi/viot.c; libvirt src/qemu/qemu_domain.c",
        severity=BLOCKER,
        symptom="host doesn't support passthrough of host PCI devices",
        remedy="Switch on VT-d (Intel), AMD-Vi or IOMMU (AMD), or the SMMU (Arm) in the firmware; a host that is itself"
        " a guest needs a virtual IOMMU (intel-iommu with caching-mode=on, virtio-iommu, smmuv3)",
        judge=_iommu_table,
    ),
    Check(
        id="iommu_intel",
        about="Intel's IOMMU is there, but the kernel leaves it off without intel_iommu=on",
        source="Linux drivers/iommu/intel/iommu.c: intel_iommu_setup; drivers/iommu/intel/Kconfig;"
        " libvirt src/qemu/qemu_domain.c",
        severity=BLOCKER,
        symptom="host doesn't support passthrough of host PCI devices",
        remedy="Pass intel_iommu=on to the kernel, and reboot",
        judge=_iommu_intel,
        repaired_by=_PREPARE,
    ),
    Check(
        id="iommu_on",
        about="The IOMMU is there, but off: by a kernel argument, or for what only the kernel's log tells",
        source="Linux arch/x86/kernel/pci-dma.c: iommu_setup; drivers/iommu/amd/init.c: parse_amd_iommu_options;"
        " libvirt src/qemu/qemu_domain.c",
        severity=BLOCKER,
        symptom="host doesn't support passthrough of host PCI devices",
        remedy="Take iommu=off or amd_iommu=off from the kernel arguments, and reboot (AMD's is on by default, and"
        " amd_iommu=on is no option); without such an argument see: journalctl -k --grep 'DMAR|AMD-Vi|iommu|smmu'",
        judge=_iommu_on,
    ),
    Check(
        id="noiommu",
        about="vfio works without an IOMMU, which is of no use for guests",
        source="Linux drivers/vfio/group.c: vfio_noiommu_group_alloc",
        severity=BLOCKER,
        symptom="Adding kernel taint for vfio-noiommu group on device",
        remedy="Switch on the IOMMU in the firmware and the kernel, and take enable_unsafe_noiommu_mode from vfio's"
        " options",
        judge=_noiommu,
    ),
    Check(
        id="irq_remap",
        about="Interrupts are not isolated by the IOMMU; a warning where vfio has been told to accept that",
        source="Linux drivers/vfio/vfio_iommu_type1.c: vfio_iommu_type1_attach_group; drivers/iommu/iommu.c:"
        " iommu_group_has_isolated_msi",
        severity=BLOCKER,
        symptom="vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param"
        ' "allow_unsafe_interrupts" to enable VFIO IOMMU support on this platform',
        remedy="Switch on interrupt remapping (x2APIC) in the firmware, and take intremap=off from the kernel"
        " arguments; where you trust the guests as the host: options vfio_iommu_type1 allow_unsafe_interrupts=1 in"
        " /etc/modprobe.d",
        judge=_irq_remap,
    ),
    Check(
        id="aw_bits",
        about="The IOMMU translates fewer address bits than the CPU has",
        source="Linux drivers/iommu/intel/iommu.h: cap_mgaw; QEMU hw/i386/intel_iommu.c",
        severity=WARNING,
        symptom="vfio: DMA mapping failed, unable to continue",
        remedy="Limit the guest's addresses: <maxphysaddr mode='passthrough' limit='{bits}'/> within <cpu>",
        judge=_aw_bits,
    ),
    Check(
        id="acs_override",
        about="IOMMU groups are smaller than the hardware isolates (pcie_acs_override)",
        source="a patch that some distributions carry, and no part of the kernel: Proxmox VE, Unraid, Zen",
        severity=WARNING,
        symptom="Warning: PCIe ACS overrides enabled; This may allow non-IOMMU protected peer-to-peer DMA",
        remedy="Assign devices only to guests that may reach each other's, or take pcie_acs_override from the kernel"
        " arguments",
        judge=_acs_override,
    ),
    Check(
        id="vfio_module",
        about="The running kernel was built without vfio-pci",
        source="Linux drivers/vfio/pci/Kconfig: VFIO_PCI",
        severity=BLOCKER,
        symptom="modprobe: FATAL: Module vfio-pci not found in directory /lib/modules/...",
        remedy="Boot the distribution's full kernel; those for cloud guests leave vfio out",
        judge=_vfio_module,
    ),
    Check(
        id="vfio",
        about="vfio is not loaded yet",
        source="libvirt src/hypervisor/virhostdev.c: virHostdevHostSupportsPassthroughVFIO",
        severity=WARNING,
        symptom="host doesn't support VFIO PCI passthrough",
        remedy="Load vfio-pci",
        judge=_vfio,
        repaired_by=_PREPARE,
    ),
    Check(
        id="packages",
        about="QEMU or libvirt is not installed yet",
        source="libvirt src/qemu/qemu_capabilities.c: virQEMUCapsFindBinaryForArch",
        severity=WARNING,
        symptom="",
        remedy="Install QEMU for the host's architecture, and libvirt with its driver for QEMU",
        judge=_packages,
        repaired_by=_PREPARE,
    ),
    Check(
        id="nested",
        about="The host is itself a virtual machine",
        source="Linux arch/x86/include/asm/cpufeatures.h: X86_FEATURE_HYPERVISOR",
        severity=INFORMATION,
        symptom="",
        remedy="Take it for tests; where speed counts, run the guest on the outer host",
        judge=_nested,
    ),
)
