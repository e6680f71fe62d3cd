# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Machines for checks to look at, of written data: a healthy one by default, and each test says what ails it."""

from __future__ import annotations

import tarfile
import typing as t
from pathlib import Path

from ansible_collections.kvm.passthrough.plugins.module_utils._check import Check, Machine
from ansible_collections.kvm.passthrough.plugins.module_utils._use import Use

Facts = t.Dict[str, t.Any]

FIXTURES = Path(__file__).parent / "fixtures"

KVM: Facts = {
    "cpu": {
        "architecture": "x86_64",
        "vendor": "GenuineIntel",
        "model": "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz",
        "virtualization": "vmx",
        "reason": None,
        "guest": False,
        "nested": True,
        "address_bits": 46,
    },
    "device": {"present": True, "accessible": True},
    "modules": ["kvm", "kvm_intel", "vfio", "vfio_iommu_type1", "vfio_pci", "vfio_pci_core"],
    "iommu": {
        "table": "DMAR",
        "units": ["dmar0", "dmar1"],
        "groups": 42,
        "enabled": True,
        "remapping": True,
        "unsafe_interrupts": False,
        "noiommu": None,
        "address_bits": 48,
        "reserved": [],
    },
    "kernel": {
        "release": "6.12.117+deb13-amd64",
        "version": [6, 12],
        "arguments": ["root=/dev/sda2", "ro", "quiet"],
        "lockdown": "none",
        "intel_iommu_default": "on_except_graphics",
    },
    "boot_loader": "grub",
    "ksm": {
        "run": 0,
        "pages_shared": 0,
        "pages_sharing": 0,
        "pages_unshared": 0,
        "pages_to_scan": 100,
        "sleep_millisecs": 20,
        "full_scans": 0,
    },
    "hugepages": [],
    "memory": {"total": 64 << 30, "available": 48 << 30, "swap_total": 0},
    "qemu": {"path": "/usr/bin/qemu-system-x86_64", "version": "10.0.13"},
    "libvirt": {"version": "11.3.0", "assigns_pci": True, "reason": None},
}

ARM: Facts = {
    "cpu": {
        "architecture": "aarch64",
        "vendor": "ARM",
        "model": "Neoverse-N1",
        "virtualization": "el2",
        "nested": None,
    },
    "modules": ["vfio", "vfio_iommu_type1", "vfio_pci", "vfio_pci_core"],
    "iommu": {"table": "IORT", "units": ["smmu3.0x0000000009050000"]},
    "kernel": {"release": "6.12.117+deb13-arm64", "intel_iommu_default": None},
    "qemu": {"path": "/usr/bin/qemu-system-aarch64"},
}


def device(address: str, **fields: t.Any) -> Facts:
    """One entry of pci_devices, with all keys: an e1000e network card behind its own root port, alone in its group.

    A field that is a dictionary is merged: interrupt={"pin": None}. bridge follows from class and header_type.
    """
    domain, bus, place = address.split(":")
    defaults: Facts = {
        "address": address,
        "id": "8086:10d3",
        "subsystem_id": "8086:a01f",
        "class": "020000",
        "revision": "00",
        "vendor_name": "Intel Corporation",
        "device_name": "82574L Gigabit Network Connection",
        "subsystem_name": "Intel Corporation Gigabit CT Desktop Adapter",
        "class_name": "Ethernet controller",
        "driver": "e1000e",
        "driver_override": None,
        "modules": ["e1000e"],
        # One of its own, as long as no other is given.
        "iommu_group": int(domain + bus, 16) << 8 | int(place[:2], 16) << 3 | int(place[3:]),
        "numa_node": None,
        "enabled": True,
        "interrupt": {"pin": "A", "line": 16, "vectors": [32], "mode": "msi"},
        "bars": [{"index": 0, "type": "memory", "bits": 32, "prefetchable": False, "size": 131072}],
        "header_type": 0,
        "bridge": False,
        "pcie_type": "endpoint",
        "multifunction": False,
        "reset_methods": ["flr", "bus"],
        "boot_vga": False,
        "power_state": "D0",
        "sriov": {
            "total_vfs": None,
            "num_vfs": None,
            "vf_id": None,
            "offset": None,
            "stride": None,
            "physical_function": None,
            "virtual_functions": [],
        },
        "parent": None,
        "path": address,
        "physical_slot": None,
    }
    facts = merged(defaults, fields)
    if "bridge" not in fields:
        facts["bridge"] = facts["header_type"] in (1, 2) or (facts["class"] or "").startswith("06")
    return facts


def bridge(address: str, **fields: t.Any) -> Facts:
    """A root port with its driver, as it is above most devices."""
    root_port: Facts = {
        "id": "8086:a190",
        "class": "060400",
        "class_name": "PCI bridge",
        "device_name": "PCI Express Root Port",
        "driver": "pcieport",
        "modules": [],
        "header_type": 1,
        "pcie_type": "root_port",
        "reset_methods": [],
        "bars": [],
    }
    return device(address, **merged(root_port, fields))


def machine(
    root: str = "/nonexistent", devices: t.Iterable[Facts] = (), kvm: Facts | None = None, **fields: t.Any
) -> Machine:
    """A machine with these devices; kvm says where it differs from KVM, a healthy Debian 13 on Intel.

    An enabled device of vfio-pci is open for a guest, as soft_uses says where nobody's open files may be read.
    """
    by_address = {entry["address"]: entry for entry in devices}
    if "soft_uses" not in fields:
        fields["soft_uses"] = {
            address: [Use("guest", "is open", f"/sys/bus/pci/devices/{address}/enable: 1")]
            for address, entry in by_address.items()
            if entry["driver"] == "vfio-pci" and entry["enabled"]
        }
    return Machine(root=str(root), devices=by_address, kvm=merged(KVM, kvm or {}), **fields)


def findings(checks: t.Iterable[Check], check: str, where: Machine, address: str | None = None) -> list[Facts]:
    """What one check, by its id, finds on the machine or on one device of it."""
    chosen = next(entry for entry in checks if entry.id == check)
    return list(chosen.findings(where, None if address is None else where.devices[address]))


def recorded(name: str, folder: Path) -> str:
    """The root of a recorded machine, such as lab-host, unpacked into the folder."""
    with tarfile.open(FIXTURES / f"{name}.tar.gz") as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="tar")
        else:
            tar.extractall(folder)
    return str(folder)


def merged(base: Facts, changes: Facts) -> Facts:
    """A copy of base with the changes; dictionaries in it are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if both else value
    return result
