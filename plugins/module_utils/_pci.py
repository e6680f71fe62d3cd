# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every PCI device of a machine, from its sysfs (Documentation/ABI/testing/sysfs-bus-pci of the kernel) alone.

The kernel's view wins over the configuration space, which is read last, and never where that would wake a device.
"""

from __future__ import annotations

import functools
import itertools
import os
import typing as t
from dataclasses import dataclass

from . import _modalias, _pci_ids, _sysfs
from ._errors import InvalidInput

Device = t.Dict[str, t.Any]

# Device/port type of the PCI Express capability (PCI_EXP_TYPE_* of the kernel's pci_regs.h).
_PCIE_TYPES = {
    0: "endpoint",
    1: "legacy_endpoint",
    4: "root_port",
    5: "upstream_port",
    6: "downstream_port",
    7: "pcie_to_pci_bridge",
    8: "pci_to_pcie_bridge",
    9: "rc_endpoint",
    10: "rc_event_collector",
}
# Flags of a resource (IORESOURCE_* of the kernel's ioport.h), the third column of the attribute resource.
_IO, _MEMORY, _PREFETCH, _MEMORY_64 = 0x100, 0x200, 0x2000, 0x100000
_ROM_INDEX = 6
_UNUSED = " ".join(["0x" + "0" * 16] * 3)


@dataclass(frozen=True)
class Config:
    """What the configuration space says; all of it unknown where it may not be read or is no header."""

    header_type: int | None = None
    multifunction: bool | None = None
    revision: str | None = None
    pin: str | None = None
    intx_disabled: bool = False
    signalled: str | None = None
    """msi or msix, where the device is told to signal by messages."""
    pcie_type: str | None = None
    capabilities_hidden: bool = False


def read_devices(root: str, warn: t.Callable[[str], None]) -> list[Device]:
    """All PCI devices of the machine below root, sorted by address; warn is told once what may not be read."""
    if not os.path.isdir(root):
        raise InvalidInput(f"root: there is no folder {root}")
    reader = _Reader(root)
    found = [device for device in map(reader.device, reader.addresses()) if device is not None]
    ids = _pci_ids.load(root)
    modules = _modalias.claims(root, reader.modaliases.values())
    # The kernel shows reset_method (since 5.15) only for a device that has one: pci_dev_reset_method_attr_is_visible().
    reset_known = any(device["reset_methods"] is not None for device in found)
    names: dict[tuple[str | None, ...], Device] = {}
    for device in found:
        identity = device["id"], device["subsystem_id"], device["class"]
        if identity not in names:
            names[identity] = _names(ids, *identity)
        device.update(names[identity])
        device["modules"] = modules.get(reader.modaliases[device["address"]], [])
        if reset_known and device["reset_methods"] is None:
            device["reset_methods"] = []
    for message in reader.unreadable():
        warn(message)
    return found


def parse_config(data: bytes | None) -> Config:
    """The standard header and the capability list (pci_regs.h); without privilege the kernel shows 64 bytes."""
    if data is None or len(data) < 64 or data[0x0E] & 0x7F > 2:
        return Config()
    header_type = data[0x0E] & 0x7F
    pcie_type, signalled, hidden = None, None, False
    if data[0x06] & 0x10:
        pcie_type, signalled, hidden = _capabilities(data, 0x14 if header_type == 2 else 0x34)
    return Config(
        header_type=header_type,
        multifunction=bool(data[0x0E] & 0x80),
        revision=f"{data[0x08]:02x}",
        pin="ABCD"[data[0x3D] - 1] if 1 <= data[0x3D] <= 4 else None,
        intx_disabled=bool(data[0x05] & 0x04),
        signalled=signalled,
        pcie_type=pcie_type,
        capabilities_hidden=hidden,
    )


def parse_resource(text: str) -> list[Device]:
    """The regions of the attribute resource, start, end and flags a line, without the bridge windows below."""
    bars = []
    for index, line in enumerate(text.split("\n")[: _ROM_INDEX + 1]):
        if line == _UNUSED:
            continue
        try:
            start, end, flags = (int(number, 16) for number in line.split())
        except ValueError:
            continue
        if not flags & (_IO | _MEMORY):
            continue
        memory = bool(flags & _MEMORY)
        kind = "rom" if index == _ROM_INDEX else "memory" if memory else "io"
        bars.append(
            {
                "index": index,
                "type": kind,
                "bits": (64 if flags & _MEMORY_64 else 32) if kind == "memory" else None,
                "prefetchable": kind == "memory" and bool(flags & _PREFETCH),
                "size": end - start + 1 if end > start else 0,
            }
        )
    return bars


def parse_link(target: str) -> list[str]:
    """The addresses from the root bus down to the device itself, from where the link below bus/pci/devices leads."""
    chain: list[str] = []
    for part in reversed(target.split("/")):
        if part.count(":") != 2 or part.startswith("pci"):
            break
        chain.append(part)
    return chain[::-1]


def _capabilities(data: bytes, pointer: int) -> tuple[str | None, str | None, bool]:
    """The device/port type, which message signalled interrupts are enabled, and whether the list is cut off."""
    pcie_type, signalled = None, None
    position = data[pointer] & 0xFC
    # 48 capabilities fill the space (PCI_FIND_CAP_TTL): more steps than that are a loop.
    for _step in range(48):
        if position < 0x40:
            break
        if position + 4 > len(data):
            return pcie_type, signalled, True
        capability = data[position]
        if capability == 0xFF:
            break
        if capability == 0x10:
            pcie_type = _PCIE_TYPES.get(data[position + 2] >> 4)
        elif capability == 0x05 and data[position + 2] & 0x01:
            signalled = "msi"
        elif capability == 0x11 and data[position + 3] & 0x80:
            signalled = "msix"
        position = data[position + 1] & 0xFC
    return pcie_type, signalled, False


class _Reader:
    """Reads one machine's devices, and remembers what it was not allowed to read."""

    def __init__(self, root: str) -> None:
        self._folder = _sysfs.below(root, "/sys/bus/pci/devices")
        self._slots = _slots(_sysfs.below(root, "/sys/bus/pci/slots"))
        self._power_states: dict[str, str | None] = {}
        self._denied: dict[str, int] = {}
        self._capabilities_hidden = 0
        self.modaliases: dict[str, str] = {}

    def addresses(self) -> list[str]:
        """In the order of their numbers: a domain may have more than four digits."""
        return sorted((name for name in _sysfs.names(self._folder) if name.count(":") == 2), key=lambda a: (len(a), a))

    def unreadable(self) -> t.Iterator[str]:
        if self._capabilities_hidden:
            yield (
                f"pcie_type is null for {self._capabilities_hidden} PCI devices: their capability lists lie beyond the"
                " first 64 bytes of the configuration space, which only root may read"
            )
        for attribute, count in sorted(self._denied.items()):
            yield f"The attribute {attribute} of {count} PCI devices may not be read by this user: its fields are null"

    def device(self, address: str) -> Device | None:
        """One device with everything but names and modules; None where it has gone."""
        place = f"{self._folder}/{address}"
        try:
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._device(address, place, _Attributes(folder, self._note_denied))
        finally:
            os.close(folder)

    def _device(self, address: str, place: str, attributes: _Attributes) -> Device | None:
        identity = _identity(attributes)
        if identity is None:
            return None
        pci_id, subsystem_id, pci_class, modalias = identity
        chain = _chain(place)
        parent = chain[-2] if len(chain) > 1 else None
        power_state = self._power_states[address] = attributes.text("power_state") or None
        enable = attributes.number("enable")
        numa_node = attributes.number("numa_node")
        override = attributes.text("driver_override")
        reset_method = attributes.text("reset_method")
        group = attributes.link("iommu_group")
        driver = attributes.link("driver")
        line = attributes.number("irq")
        vectors = sorted(int(name) for name in _sysfs.names(f"{place}/msi_irqs") if name.isdecimal())
        kind = attributes.text(f"msi_irqs/{vectors[0]}") if vectors else None
        resource = attributes.text("resource") or ""
        sriov = _sriov(attributes, pci_id[:4])
        enabled = None if enable is None else enable > 0
        # Last, so that a device which vanished during any of the reads above is noticed here.
        data = None if self._read_would_wake(address, parent) else attributes.data("config")
        if data is None and not os.path.lexists(place):
            return None
        config = parse_config(data)
        self._capabilities_hidden += config.capabilities_hidden
        self.modaliases[address] = modalias
        return {
            "address": address,
            "id": pci_id,
            "subsystem_id": subsystem_id,
            "class": pci_class,
            "revision": config.revision or _hexadecimal(attributes.text("revision"), 2),
            "vendor_name": None,
            "device_name": None,
            "subsystem_name": None,
            "class_name": None,
            "driver": driver,
            "driver_override": None if override in ("(null)", "") else override,
            "modules": [],
            "iommu_group": int(group) if group is not None and group.isdecimal() else None,
            "numa_node": None if numa_node == -1 else numa_node,
            "enabled": enabled,
            "interrupt": _interrupt(config, line, vectors, kind, enabled),
            "bars": parse_resource(resource),
            "header_type": config.header_type,
            "bridge": config.header_type in (1, 2) or (pci_class or "").startswith("06"),
            "pcie_type": config.pcie_type,
            "multifunction": config.multifunction,
            "reset_methods": None if reset_method is None else reset_method.split(),
            # Only display devices have the attribute: pci_dev_attrs_are_visible() of the kernel's pci-sysfs.c.
            "boot_vga": (pci_class or "").startswith(("03", "0001")) and attributes.number("boot_vga") == 1,
            "power_state": power_state,
            "sriov": sriov,
            "parent": parent,
            "path": "/".join([chain[0]] + [step[-4:] for step in chain[1:]]) if chain else None,
            "physical_slot": self._slots.get(address.rpartition(".")[0]),
        }

    def _read_would_wake(self, address: str, parent: str | None) -> bool:
        """Whether reading config resumes the device or the bridge above: pci_config_pm_runtime_get() of the kernel."""
        if self._in_state(address, ("D3cold",)):
            return True
        return parent is not None and self._in_state(parent, ("D1", "D2", "D3hot", "D3cold"))

    def _in_state(self, address: str, states: tuple[str, ...]) -> bool:
        place = f"{self._folder}/{address}"
        if address not in self._power_states:
            self._power_states[address] = _sysfs.read_text(f"{place}/power_state") or None
        state = self._power_states[address]
        if state is not None:
            return state in states
        # Older kernels do not show the state, but whether runtime power management has suspended the device.
        return _sysfs.read_text(f"{place}/power/runtime_status") == "suspended"

    def _note_denied(self, attribute: str) -> None:
        self._denied[attribute] = self._denied.get(attribute, 0) + 1


class _Attributes:
    """The attributes of one device, by name."""

    def __init__(self, folder: int, denied: t.Callable[[str], None]) -> None:
        self._folder = folder
        self._denied = denied

    def data(self, name: str) -> bytes | None:
        return _sysfs.read_bytes(name, 256, self._denied, self._folder)

    def text(self, name: str) -> str | None:
        return _sysfs.read_text(name, self._denied, self._folder)

    def number(self, name: str) -> int | None:
        return _sysfs.read_int(name, 10, self._denied, self._folder)

    def link(self, name: str) -> str | None:
        return _sysfs.link_name(name, self._folder)


def _identity(attributes: _Attributes) -> tuple[str, str | None, str | None, str] | None:
    """Id, subsystem id, class and modalias: from uevent in one read, or one by one where a capture lacks it."""
    uevent = dict(line.partition("=")[::2] for line in (attributes.text("uevent") or "").split("\n"))
    pci_id = _id(*uevent.get("PCI_ID", "").split(":"))
    if pci_id is not None:
        subsystem_id = _id(*uevent.get("PCI_SUBSYS_ID", "").split(":"))
        pci_class = _hexadecimal(uevent.get("PCI_CLASS"), 6)
        modalias = uevent.get("MODALIAS")
    else:
        pci_id = _id(attributes.text("vendor"), attributes.text("device"))
        if pci_id is None:
            return None
        subsystem_id = _id(attributes.text("subsystem_vendor"), attributes.text("subsystem_device"))
        pci_class = _hexadecimal(attributes.text("class"), 6)
        modalias = attributes.text("modalias")
    # A subsystem vendor of 0000 or ffff is a register that nobody filled in; lspci shows none either.
    if subsystem_id is not None and subsystem_id.startswith(("0000:", "ffff:")):
        subsystem_id = None
    return pci_id, subsystem_id, pci_class, modalias or ""


def _interrupt(config: Config, line: int | None, vectors: list[int], kind: str | None, enabled: bool | None) -> Device:
    """How the device interrupts; kind is what the kernel says of its vectors."""
    mode = kind if kind in ("msi", "msix") else config.signalled
    if mode is None and not vectors and enabled and line and config.pin and not config.intx_disabled:
        mode = "intx"
    return {
        "pin": config.pin,
        "line": line if line or config.pin else None,
        "vectors": vectors,
        "mode": mode,
    }


def _sriov(attributes: _Attributes, vendor: str) -> Device:
    """What the device has of functions, and what Linux since 4.14 says of those that it has not made yet."""
    count = attributes.number("sriov_numvfs")
    functions = itertools.takewhile(bool, (attributes.link(f"virtfn{number}") for number in range(count or 0)))
    capable = count is not None
    return {
        "total_vfs": attributes.number("sriov_totalvfs") if capable else None,
        "num_vfs": count,
        "physical_function": attributes.link("physfn"),
        "virtual_functions": sorted(t.cast(t.Iterable[str], functions)),
        "vf_id": _id(vendor, attributes.text("sriov_vf_device")) if capable else None,
        "offset": attributes.number("sriov_offset") if capable else None,
        "stride": attributes.number("sriov_stride") if capable else None,
    }


def _names(ids: _pci_ids.PciIds, pci_id: str, subsystem_id: str | None, pci_class: str | None) -> Device:
    vendor, device = pci_id.split(":")
    return {
        "vendor_name": ids.vendor(vendor),
        "device_name": ids.device(vendor, device),
        "subsystem_name": ids.subsystem(vendor, device, *subsystem_id.split(":")) if subsystem_id else None,
        "class_name": ids.pci_class(pci_class) if pci_class else None,
    }


def _chain(place: str) -> list[str]:
    try:
        return parse_link(os.readlink(place))
    except OSError:
        return []


def _slots(folder: str) -> dict[str, str]:
    """The physical slot of every address without function, 0000:01:00, that the firmware or hot-plug driver named."""
    slots: dict[str, str] = {}
    for name in _sysfs.names(folder):
        address = _sysfs.read_text(f"{folder}/{name}/address")
        if address:
            slots.setdefault(address, name)
    return slots


def _id(vendor: str | None = None, device: str | None = None, *_rest: str) -> str | None:
    numbers = _hexadecimal(vendor, 4), _hexadecimal(device, 4)
    return None if None in numbers else f"{numbers[0]}:{numbers[1]}"


@functools.lru_cache(maxsize=1024)
def _hexadecimal(text: str | None, digits: int) -> str | None:
    """A number of the kernel's, with or without 0x and leading zeros, in our spelling; None where it is none."""
    try:
        number = int(text or "", 16)
    except ValueError:
        return None
    return f"{number:0{digits}x}" if 0 <= number < 16**digits else None
