# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for python3-libvirt and a daemon with guests that have a will of their own.

Messages and behaviour are those of libvirt 11.3: a detach that the guest does not answer is a success, live and
persistent definitions are independent, a device goes to the first free slot.
"""

# ruff: noqa: N801, N802, N815 (names are libvirt's)

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

VIR_DOMAIN_XML_INACTIVE, VIR_DOMAIN_AFFECT_LIVE, VIR_DOMAIN_AFFECT_CONFIG = 2, 1, 2
VIR_DOMAIN_RUNNING, VIR_DOMAIN_PAUSED, VIR_DOMAIN_SHUTOFF = 1, 3, 5


class libvirtError(Exception):
    """What libvirt raises."""


def source(address: str, managed: str = "no", place: str | None = None) -> str:
    """A device of the host as a definition has it, at a place in the guest."""
    at = f"<address type='pci' {_attributes(place)}/>" if place else ""
    return (
        f"<hostdev mode='subsystem' type='pci' managed='{managed}'><driver name='vfio'/>"
        f"<source><address {_attributes(address)}/></source><alias name='hostdev0'/>{at}</hostdev>"
    )


def interface(address: str, place: str = "0000:04:00.0") -> str:
    """A virtual function as an interface."""
    return (
        f"<interface type='hostdev' managed='no'><mac address='52:54:00:6b:76:09'/><source><address type='pci'"
        f" {_attributes(address)}/></source><address type='pci' {_attributes(place)}/></interface>"
    )


def nvme(address: str) -> str:
    """An NVMe disk of the host as a disk of the guest."""
    return (
        f"<disk type='nvme' device='disk'><source type='pci' managed='no' namespace='1'>"
        f"<address {_attributes(address)}/></source><target dev='vdb' bus='virtio'/></disk>"
    )


def definition(*devices: str, name: str = "fax1", ports: int = 4, root: str = "pcie-root", more: str = "") -> str:
    """A guest with these devices; of q35 with its disk behind bus 1, and free ports from bus 2 on."""
    model = "pcie-root-port" if root == "pcie-root" else "pci-bridge"
    controllers = "".join(
        f"<controller type='pci' index='{index}' model='{model}'><target chassis='{index}'/>"
        f"<address type='pci' {_attributes(f'0000:00:{index + 1:02x}.0')}/></controller>"
        for index in range(1, ports + 2 if model == "pcie-root-port" else 1)
    )
    disk = "0000:01:00.0" if root == "pcie-root" else "0000:00:03.0"
    return (
        f"<domain type='kvm'><name>{name}</name><devices>"
        f"<controller type='pci' index='0' model='{root}'/>{controllers}{more}"
        f"<disk type='file' device='disk'><source file='/images/{name}.qcow2'/><target dev='vda' bus='virtio'/>"
        f"<address type='pci' {_attributes(disk)}/></disk>{''.join(devices)}</devices></domain>"
    )


class FakeDomain:
    """A guest. live is None where it does not run, persistent where it is transient."""

    def __init__(self, live: str | None, persistent: str | None) -> None:
        self.xml = {VIR_DOMAIN_AFFECT_LIVE: live and ET.fromstring(live)}
        self.xml[VIR_DOMAIN_AFFECT_CONFIG] = persistent and ET.fromstring(persistent)
        self.paused = False
        self.calls: list[str] = []
        self.asked: dict[str, int] = {}
        # What happens to a device in the running guest: the number of requests until it is released, or a refusal.
        self.releases_after: dict[str, int | str] = {}
        # Devices that cannot be attached, and why, by definition.
        self.attach_fails: dict[tuple[str, int], str] = {}
        # Devices that the daemon says it has attached, but which do not show.
        self.hidden: set[str] = set()

    def name(self) -> str:
        return next(xml for xml in self.xml.values() if xml is not None).findtext("name") or ""

    def isActive(self) -> int:
        return int(self.xml[VIR_DOMAIN_AFFECT_LIVE] is not None)

    def isPersistent(self) -> int:
        return int(self.xml[VIR_DOMAIN_AFFECT_CONFIG] is not None)

    def state(self) -> list[int]:
        return [VIR_DOMAIN_PAUSED if self.paused else VIR_DOMAIN_RUNNING, 0]

    def XMLDesc(self, flags: int) -> str:
        return ET.tostring(self._xml(VIR_DOMAIN_AFFECT_CONFIG if flags else VIR_DOMAIN_AFFECT_LIVE), encoding="unicode")

    def attachDeviceFlags(self, xml: str, flags: int) -> int:
        device = ET.fromstring(xml)
        address = self._note("attach", device, flags)
        if (address, flags) in self.attach_fails:
            raise libvirtError(self.attach_fails[address, flags])
        if self._find(address, flags) is not None:
            raise libvirtError("operation failed: device is already in the domain configuration")
        if device.find("address") is None:
            device.append(ET.fromstring(f"<address type='pci' {_attributes(self._free(flags))}/>"))
        if address not in self.hidden:
            self._devices(flags).append(device)
        return 0

    def detachDeviceFlags(self, xml: str, flags: int) -> int:
        address = self._note("detach", ET.fromstring(xml), flags)
        found = self._find(address, flags)
        if found is None:
            raise libvirtError("operation failed: device not present in domain configuration")
        if flags == VIR_DOMAIN_AFFECT_LIVE:
            self.asked[address] = self.asked.get(address, 0) + 1
            after = self.releases_after.get(address, 1)
            if isinstance(after, str):
                raise libvirtError(after)
            if self.asked[address] < after:
                if self.asked[address] % 2 == 0:
                    raise libvirtError(f"internal error: Device {address} is already in the process of unplug")
                return 0
        self._devices(flags).remove(found)
        return 0

    def holds(self, flags: int) -> list[str]:
        """The addresses of the host's devices in a definition, in its order."""
        return [_text(place) for place in self._devices(flags).iterfind("*/source/address")]

    def _note(self, verb: str, device: ET.Element, flags: int) -> str:
        address = _text(device.find("source/address"))
        self.calls.append(f"{verb} {'live' if flags == VIR_DOMAIN_AFFECT_LIVE else 'config'} {address}")
        return address

    def _find(self, address: str, flags: int) -> ET.Element | None:
        return next((d for d in self._devices(flags) if address == _text(d.find("source/address"))), None)

    def _free(self, flags: int) -> str:
        taken = {_text(place) for place in self._devices(flags).iterfind("*/address")}
        places = (f"0000:{bus:02x}:00.0" for bus in range(1, 250))
        return next(place for place in places if place not in taken)

    def _devices(self, flags: int) -> ET.Element:
        return t.cast(ET.Element, self._xml(flags).find("devices"))

    def _xml(self, flags: int) -> ET.Element:
        xml = self.xml[flags]
        if xml is None:
            raise libvirtError("Requested operation is not valid: domain is not running")
        return xml


class FakeLibvirt:
    """The module libvirt, whose daemon has these guests."""

    libvirtError = libvirtError
    VIR_DOMAIN_XML_INACTIVE = VIR_DOMAIN_XML_INACTIVE
    VIR_DOMAIN_AFFECT_LIVE = VIR_DOMAIN_AFFECT_LIVE
    VIR_DOMAIN_AFFECT_CONFIG = VIR_DOMAIN_AFFECT_CONFIG
    VIR_DOMAIN_PAUSED = VIR_DOMAIN_PAUSED

    def __init__(self, *domains: FakeDomain) -> None:
        self.domains = domains
        self.opened: list[str] = []
        self.seconds = 0.0

    def registerErrorHandler(self, handler: t.Callable[[t.Any, t.Any], None], context: t.Any) -> None:
        """Called by libvirt for each error; the fake calls nobody."""

    def open(self, uri: str) -> FakeLibvirt:
        if uri != "qemu:///system":
            raise libvirtError(f"no connection driver available for {uri}")
        self.opened.append(uri)
        return self

    def listAllDomains(self) -> t.Sequence[FakeDomain]:
        return self.domains

    def close(self) -> int:
        self.opened.pop()
        return 0

    # The clock that nobody waits for.
    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def _attributes(address: str) -> str:
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return f"domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'"


def _text(place: ET.Element | None) -> str:
    if place is None or place.get("bus") is None:
        return ""
    parts = [int(place.get(key, "0"), 16) for key in ("domain", "bus", "slot", "function")]
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
