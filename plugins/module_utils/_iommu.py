# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The IOMMU of a host: what the firmware promises, what the kernel made of it, and where it is weak."""

from __future__ import annotations

import os
import re
import typing as t

from ._sysfs import below, names, read_file, read_text

GROUPS = "/sys/kernel/iommu_groups"
_UNITS = "/sys/class/iommu"
_TABLES = ("DMAR", "IVRS", "IORT", "VIOT")

# How the chips of remapped and of plain interrupts begin: on x86 the kernel sets IR- before each chip that its
# remapping serves; on Arm the ITS isolates a device's messages, and GICv2m, in older kernels MSI, does not.
_REMAPPED = ("IR-", "ITS")
_PLAIN = ("IO-APIC", "PCI-MSI", "GICv2m")
_CHIP = re.compile(r"^ *\d+:(?: +\d+)* +(\S+)", re.MULTILINE)

Facts = t.Dict[str, t.Any]


def read_iommu(root: str) -> Facts:
    """The IOMMU part of the fact kvm.

    A kernel with support for any IOMMU has both folders, be they empty (iommu_init in drivers/iommu/iommu.c,
    iommu_dev_init in iommu-sysfs.c). Where a captured tree lacks one, it does not tell; the running host has no IOMMU.
    """
    units = names(below(root, _UNITS))
    known = {folder: root == "/" or os.path.isdir(below(root, folder)) for folder in (GROUPS, _UNITS)}
    groups = sorted(int(name) for name in names(below(root, GROUPS)) if name.isdecimal())
    tables = names(below(root, "/sys/firmware/acpi/tables"))
    return {
        "table": next((name for name in _TABLES if name in tables), None),
        "units": units,
        "groups": len(groups) if known[GROUPS] else None,
        "enabled": bool(units and groups) if all(known.values()) else None,
        "remapping": read_remapping(root),
        "unsafe_interrupts": parameter(root, "vfio_iommu_type1", "allow_unsafe_interrupts"),
        "noiommu": parameter(root, "vfio", "enable_unsafe_noiommu_mode"),
        "address_bits": _address_bits(root, units),
        "reserved": [region for group in groups for region in _reserved(root, group)],
    }


def parameter(root: str, module: str, name: str) -> bool | None:
    """A module's parameter that is on or off (Y and N, or 1 and 0); None where it is neither, or not loaded."""
    value = read_text(below(root, f"/sys/module/{module}/parameters/{name}"))
    return {"Y": True, "1": True, "N": False, "0": False}.get(value or "")


def read_remapping(root: str) -> bool | None:
    """Whether interrupts are remapped, told from the chips that serve them; None where none of them tells.

    The rows of /proc/interrupts say the same where the kernel, before 4.9, or the tree has no /sys/kernel/irq.
    """
    plain = None
    for chip in _chips(root):
        if chip.startswith(_REMAPPED):
            return True
        if chip == "MSI" or chip.startswith(_PLAIN):
            plain = False
    return plain


def _chips(root: str) -> t.Iterator[str]:
    """Names of the chips, one for each interrupt; the reader may stop at the first that tells."""
    folder = below(root, "/sys/kernel/irq")
    numbers = names(folder)
    for number in numbers:
        yield read_text(f"{folder}/{number}/chip_name") or ""
    if not numbers:
        text = (read_file(below(root, "/proc/interrupts")) or b"").decode("utf-8", "replace")
        yield from (found.group(1) for found in _CHIP.finditer(text))


def _address_bits(root: str, units: t.Iterable[str]) -> int | None:
    """How many bits of address the weakest unit translates: MGAW of Intel's capability register, bits 21:16, plus one.

    AMD and Arm do not show theirs below /sys.
    """
    registers = (read_text(below(root, f"{_UNITS}/{unit}/intel-iommu/cap")) for unit in units)
    widths = [(int(cap, 16) >> 16 & 0x3F) + 1 for cap in registers if cap and re.fullmatch("[0-9a-f]+", cap)]
    return min(widths, default=None)


def _reserved(root: str, group: int) -> t.Iterator[Facts]:
    """Addresses that a group's devices must leave alone, or need mapped as they are (iommu_group_show_resv_regions)."""
    for line in (read_text(below(root, f"{GROUPS}/{group}/reserved_regions")) or "").splitlines():
        start, end, kind = (line.split() + [""] * 3)[:3]
        if kind:
            yield {"group": group, "start": start, "end": end, "type": kind}
