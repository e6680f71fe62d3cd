# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the host has the memory for guests with devices, and what its lockdown means for them.

All memory of such a guest is pinned, for the device may write anywhere (drivers/vfio/vfio_iommu_type1.c:
vfio_pin_map_dma): it is there at once, and neither swapped, shared nor given back.
"""

from __future__ import annotations

import re
import typing as t

from . import _host_use
from ._check import INFORMATION, WARNING, Check, Fault, Machine
from ._guests import Guest
from ._pci import Device

_DMA_ENTRY_LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
_NODES = "/sys/devices/system/node"


def _pinned_memory(machine: Machine) -> t.Iterator[Fault]:
    """Guests with devices that do not fit into the memory together, or one that does not fit into what is left."""
    guests = [guest for guest in machine.guests if guest.devices and guest.memory]
    memory = machine.kvm["memory"]
    needed, total, available = _needed(guests), memory["total"], memory["available"]
    if total is not None and needed > total:
        yield _too_much(
            f"the guests with PCI devices ({_names(guests)}) need {_gib(needed)}, but the host has {_gib(total)}",
            "MemTotal",
            total,
        )
    elif available is not None:
        # Huge pages are reserved, so that they are not among what is available.
        left = available + sum(page["size"] * page["free"] for page in machine.kvm["hugepages"] if page["node"] is None)
        for guest in guests:
            if not guest.running and _needed([guest]) > left:
                yield _too_much(
                    f"{guest.name} has PCI devices and needs {_gib(_needed([guest]))} at its start, but {_gib(left)} of"
                    " the host's memory is free",
                    "MemAvailable",
                    available,
                )


def _too_much(message: str, name: str, size: int) -> Fault:
    return Fault(message, f"/proc/meminfo: {name}: {size >> 10} kB")


def _needed(guests: t.Iterable[Guest]) -> int:
    return sum(guest.memory or 0 for guest in guests)


def _names(guests: t.Iterable[Guest]) -> str:
    return ", ".join(guest.name for guest in guests)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _dma_entry_limit(machine: Machine) -> t.Iterator[Fault]:
    limit = machine.text(_DMA_ENTRY_LIMIT)
    if limit is not None and limit.isdecimal() and int(limit) < 0xFFFF:
        yield Fault(
            f"vfio_iommu_type1 is loaded with dma_entry_limit={limit}, fewer mappings than the kernel's 65535",
            f"{_DMA_ENTRY_LIMIT}: {limit}",
        )


def _hugepages(machine: Machine) -> t.Iterator[Fault]:
    for page in machine.kvm["hugepages"]:
        if page["node"] is None and page["total"] and not page["free"]:
            kib = page["size"] >> 10
            yield Fault(
                f"all {page['total']} reserved huge pages of {kib} KiB are taken",
                f"/sys/kernel/mm/hugepages/hugepages-{kib}kB/free_hugepages: 0",
            )


def _ksm(machine: Machine) -> t.Iterator[Fault]:
    if (machine.kvm["ksm"] or {}).get("run") == 1:
        yield Fault(
            "the host merges equal memory of guests (KSM), but not that of guests with PCI devices",
            "/sys/kernel/mm/ksm/run: 1",
        )


def _lockdown(machine: Machine) -> t.Iterator[Fault]:
    mode = machine.kvm["kernel"]["lockdown"]
    if mode in ("integrity", "confidentiality"):
        yield Fault(
            f"the kernel is locked down ({mode}): devices go to guests all the same, but a module that is not signed,"
            " such as vendor-reset, is not loaded",
            f"/sys/kernel/security/lockdown: {mode}",
        )


def _numa(machine: Machine, device: Device) -> t.Iterator[Fault]:
    """Only of what goes to a guest, or is there: on a host with two sockets every device has a node."""
    node = device["numa_node"]
    if node is None or device["bridge"]:
        return
    guests = [guest for guest in machine.guests if device["address"] in guest.devices]
    going = guests or device["address"] in machine.leaving or _host_use.is_vfio(device["driver"] or "")
    nodes = [name for name in machine.names(_NODES) if re.fullmatch(r"node\d+", name)] if going else []
    if len(nodes) > 1:
        yield Fault(
            f"{device['address']} is on NUMA node {node} of {len(nodes)}",
            f"/sys/bus/pci/devices/{device['address']}/numa_node: {node}",
            words={"node": node, "guest": _names(guests) or "the guest"},
        )


HOST_CHECKS: tuple[Check, ...] = (
    Check(
        id="pinned_memory",
        about="The guests with PCI devices need more memory than there is",
        source="Linux drivers/vfio/vfio_iommu_type1.c: vfio_pin_map_dma; QEMU system/physmem.c:"
        " ram_block_discard_is_disabled",
        severity=WARNING,
        symptom="vfio_container_dma_map(...) = -12 (Cannot allocate memory)",
        remedy="Give the guests less memory or the host more; a balloon or swap space does not help these guests",
        judge=_pinned_memory,
    ),
    Check(
        id="dma_entry_limit",
        about="VFIO is limited to fewer mappings for DMA than usual",
        source="Linux drivers/vfio/vfio_iommu_type1.c: vfio_dma_do_map (dma_entry_limit)",
        severity=WARNING,
        symptom="vfio_container_dma_map(...) = -28 (No space left on device)",
        remedy="Take dma_entry_limit out of the options of vfio_iommu_type1, or write 65535 or more to "
        + _DMA_ENTRY_LIMIT,
        judge=_dma_entry_limit,
    ),
    Check(
        id="hugepages",
        about="Huge pages are reserved, but none is free",
        source="Linux Documentation/admin-guide/mm/hugetlbpage.rst; QEMU system/physmem.c: file_ram_alloc",
        severity=INFORMATION,
        symptom="unable to map backing store for guest RAM: Cannot allocate memory",
        remedy="Reserve more (vm.nr_hugepages) before another guest with huge pages starts",
        judge=_hugepages,
    ),
    Check(
        id="ksm",
        about="The host merges equal memory, but not that of guests with PCI devices",
        source="Linux mm/ksm.c: write_protect_page",
        severity=INFORMATION,
        symptom="",
        remedy="Count the memory of guests with PCI devices in full",
        judge=_ksm,
    ),
    Check(
        id="lockdown",
        about="The kernel is locked down: no hindrance for PCI devices, but for modules from elsewhere",
        source="Linux security/lockdown/lockdown.c: lockdown_is_locked_down; man kernel_lockdown.7",
        severity=INFORMATION,
        symptom="Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
        remedy="Sign modules that are not the distribution's, or do without them",
        judge=_lockdown,
    ),
)
DEVICE_CHECKS: tuple[Check, ...] = (
    Check(
        id="numa",
        about="The device belongs to one of several NUMA nodes",
        source="Linux Documentation/ABI/testing/sysfs-bus-pci: numa_node",
        severity=INFORMATION,
        symptom="",
        remedy="Pin CPUs and memory of {guest} to node {node} (<cputune>, <numatune>), and reserve huge pages there",
        judge=_numa,
    ),
)
