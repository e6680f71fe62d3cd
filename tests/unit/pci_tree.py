# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes a machine's PCI devices as the kernel shows them below /sys, close enough that lspci reads them as well."""

from __future__ import annotations

import os
import shutil
import struct
import typing as t
from pathlib import Path

IO, MEMORY, MEMORY_64, PREFETCHABLE, ROM = 0x40101, 0x40200, 0x140204, 0x14220C, 0x46200


def config_space(
    pci_id: str = "8086:10d3",
    pci_class: str = "020000",
    subsystem: str = "8086:a01f",
    revision: int = 0,
    header: int = 0,
    pin: int = 1,
    command: int = 0x0006,
    capabilities: t.Iterable[tuple[int, bytes]] = (),
    busses: tuple[int, int, int] = (0, 0, 0),
) -> bytes:
    """256 bytes; a capability is its id and what follows the pointer to the next one."""
    data = bytearray(256)
    vendor, device = (int(part, 16) for part in pci_id.split(":"))
    subvendor, subdevice = (int(part, 16) for part in subsystem.split(":"))
    struct.pack_into("<HHHHB", data, 0, vendor, device, command, 0x0010 if capabilities else 0, revision)
    data[0x09:0x0C] = bytes.fromhex(pci_class)[::-1]
    data[0x0E] = header
    if header & 0x7F == 1:
        data[0x18:0x1B] = bytes(busses)
    else:
        struct.pack_into("<HH", data, 0x2C, subvendor, subdevice)
    data[0x3D] = pin
    pointer, position = 0x34, 0x40
    for number, body in capabilities:
        data[pointer] = position
        data[position] = number
        data[position + 2 : position + 2 + len(body)] = body
        pointer, position = position + 1, position + (2 + len(body) + 3) // 4 * 4
    return bytes(data)


def express(kind: int) -> tuple[int, bytes]:
    """The PCI Express capability of a device/port type."""
    return 0x10, struct.pack("<H", kind << 4 | 2) + bytes(56)


def msi(enabled: bool) -> tuple[int, bytes]:
    return 0x05, struct.pack("<H", int(enabled)) + bytes(10)


def msix(enabled: bool, count: int) -> tuple[int, bytes]:
    return 0x11, struct.pack("<HII", (0x8000 if enabled else 0) | (count - 1), 0, 0x800)


class PciTree:
    """A root folder, to which devices are added one by one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bus = root / "sys/bus/pci"
        (self.bus / "devices").mkdir(parents=True)

    def add(
        self,
        address: str,
        config: bytes | None,
        *,
        pci_id: str = "8086:10d3",
        pci_class: str = "020000",
        subsystem: str = "8086:a01f",
        below: str | None = None,
        driver: str | None = None,
        group: int | None = None,
        irq: int = 0,
        vectors: t.Mapping[int, str] | None = None,
        bars: t.Mapping[int, tuple[int, int, int]] | None = None,
        attributes: t.Mapping[str, str | None] | None = None,
    ) -> Path:
        """One device; bars are index: (start, size, flags), and an attribute of None is not there."""
        place = self.device(below) / address if below else self.root / f"sys/devices/pci{address[:7]}" / address
        place.mkdir(parents=True)
        vendor, device = pci_id.split(":")
        subvendor, subdevice = subsystem.split(":")
        numbers = [part.upper() for part in (vendor, device, subvendor, subdevice)]
        numbers += [pci_class[start : start + 2].upper() for start in (0, 2, 4)]
        modalias = "pci:v0000{}d0000{}sv0000{}sd0000{}bc{}sc{}i{}".format(*numbers)
        files: dict[str, str | None] = {
            "vendor": f"0x{vendor}",
            "device": f"0x{device}",
            "class": f"0x{pci_class}",
            "subsystem_vendor": f"0x{subvendor}",
            "subsystem_device": f"0x{subdevice}",
            "revision": "0x00" if config is None else f"0x{config[8]:02x}",
            "modalias": modalias,
            "uevent": (f"DRIVER={driver}\n" if driver else "") + f"PCI_CLASS={int(pci_class, 16):X}\n"
            f"PCI_ID={pci_id.upper()}\nPCI_SUBSYS_ID={subsystem.upper()}\nPCI_SLOT_NAME={address}\nMODALIAS={modalias}",
            "irq": str(irq),
            "enable": str(int(driver is not None)),
            "numa_node": "-1",
            "driver_override": "(null)",
            "power_state": "D0",
            "resource": _resource(bars or {}),
        }
        files.update(attributes or {})
        for name, text in files.items():
            if text is not None:
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_text(text + "\n")
        if config is not None:
            (place / "config").write_bytes(config)
        for vector, kind in (vectors or {}).items():
            (place / "msi_irqs").mkdir(exist_ok=True)
            (place / "msi_irqs" / str(vector)).write_text(kind + "\n")
        if driver:
            self._link(place / "driver", self.bus / "drivers" / driver)
        if group is not None:
            self._link(place / "iommu_group", self.root / f"sys/kernel/iommu_groups/{group}")
        link = self.bus / "devices" / address
        link.symlink_to(os.path.relpath(place, link.parent))
        return place

    def split(
        self, address: str, number: int, *, vf_id: str = "8086:10ca", offset: int = 128, stride: int = 2, total: int = 7
    ) -> list[str]:
        """Give a device SR-IOV, by default that of an 82576 (igb), and so many virtual functions instead of others."""
        place = self.device(address)
        numbers = {"numvfs": number, "totalvfs": total, "offset": offset, "stride": stride}
        for name, value in {**numbers, "vf_device": vf_id[5:].lstrip("0"), "drivers_autoprobe": 1}.items():
            (place / f"sriov_{name}").write_text(f"{value}\n")
        for link in place.glob("virtfn*"):
            shutil.rmtree(link.resolve())
            (self.bus / "devices" / os.path.basename(os.readlink(link))).unlink()
            link.unlink()
        domain, bus, rest = address.split(":")
        first = int(bus, 16) * 256 + int(rest[:2], 16) * 8 + int(rest[3]) + offset
        functions = [first + stride * index for index in range(number)]
        addresses = [f"{domain}:{one // 256:02x}:{one % 256 // 8:02x}.{one % 8}" for one in functions]
        parent = place.parent.name if place.parent.name.count(":") == 2 else None
        for index, function in enumerate(addresses):
            # A virtual function's own vendor and device registers read as ffff: the kernel's ids count.
            config = config_space("ffff:ffff", pin=0, capabilities=[express(0)], command=0)
            made = self.add(function, config, pci_id=vf_id, below=parent, attributes={"numa_node": self._numa(place)})
            (made / "physfn").symlink_to(os.path.relpath(place, made))
            (place / f"virtfn{index}").symlink_to(os.path.relpath(made, place))
        return addresses

    def device(self, address: str) -> Path:
        return (self.bus / "devices" / address).resolve()

    def slot(self, name: str, address: str) -> None:
        folder = self.bus / "slots" / name
        folder.mkdir(parents=True)
        (folder / "address").write_text(address + "\n")

    def write(self, path: str, content: str | bytes) -> None:
        """A file of the machine, such as /usr/share/misc/pci.ids."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    @staticmethod
    def _numa(place: Path) -> str:
        return (place / "numa_node").read_text().strip()

    @staticmethod
    def _link(link: Path, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))


def _resource(bars: t.Mapping[int, tuple[int, int, int]]) -> str:
    lines = []
    for index in range(13):
        start, size, flags = bars.get(index, (0, 0, 0))
        lines.append(f"0x{start:016x} 0x{start + size - 1 if size else 0:016x} 0x{flags:016x}")
    return "\n".join(lines)


PCI_IDS = """\
#
# A few lines of pci.ids
#
1397  Cologne Chip Designs GmbH
\t08b4  ISDN network Controller [HFC-4S]
\t\t1397 08b4  HFC-4S [Cologne Chip HFC-4S Eval. Board]
\t\t1397 b520  HFC-4S [IOB4ST]
# a comment between
\t16b8  ISDN network Controller [HFC-8S]
8086  Intel Corporation
\t10d3  82574L Gigabit Network Connection
\t\t8086 a01f  Gigabit CT Desktop Adapter
\t2918  82801IB (ICH9) LPC Interface Controller

# List of known device classes
C 02  Network controller
\t00  Ethernet controller
\t04  ISDN controller
C 06  Bridge
\t01  ISA bridge
\t04  PCI bridge
\t\t00  Normal decode
"""
