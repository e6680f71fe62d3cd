# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What brings a guest to what the inventory says: its definition, and the running guest. Pure: XML in, a plan out.

The running guest is judged as it is, and not by what a run has changed: one that was killed between the definition and
the restart is finished by the next. What the running guest was started with stands in the note of its own XML.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from copy import deepcopy

from ._definition import conventional_slots, gone, hotplug_slots, lay_parts, merge, noted, parse, parse_wanted, text_of
from ._guest_devices import devices_of, free_name, is_pci_hostdev, lay_devices
from ._hostdev import Definition, pci_address
from ._overlay import overlay

# What people attach to a guest; all else may be libvirt's own.
_ATTACHED = ("disk", "interface", "hostdev")
_CONVENTIONAL = ("e1000", "rtl8139", "ne2k_pci", "pcnet")


def guest_plan(wanted: str, present: str, live: str = "", exclusive: bool = False) -> dict[str, t.Any]:
    """The plan for one guest.

    wanted, present and live are domain XML: what the inventory says, the persistent definition ('' where there is
    none), and that of the running guest ('' where it does not run). exclusive takes away every PCI host device that is
    not wanted. The keys are described in the filter guest_plan. Raises InvalidInput where one of the texts is no
    domain's XML, and Refused where there is another guest of this name.
    """
    asked = parse_wanted(wanted)
    now = parse(present, "the present definition") if present else None
    running = _as_defined(parse(live, "the definition of the running guest")) if live else None
    taken = [] if running is None else _disk_names(running, devices_of(asked))
    merged, changes = merge(asked, now, exclusive, taken)
    before = noted(now)
    actions, restart = ([], []) if running is None else _Running(asked, merged, running, before).plan()
    let_go, kept = _others(asked, now, running, before, exclusive)
    return {
        "definition": text_of(merged),
        "changes": changes,
        "live": actions,
        "restart": restart,
        "let_go": let_go,
        "kept": kept,
    }


def _others(
    asked: ET.Element, now: ET.Element | None, running: ET.Element | None, before: t.Container[str], exclusive: bool
) -> tuple[list[str], list[str]]:
    """What the guest has beyond what is wanted: the addresses of host devices that go, and what stays, in words."""
    wanted, persistent = devices_of(asked), devices_of(now)
    let_go, kept = [], []
    for name, device in {**devices_of(running), **persistent}.items():
        if name in wanted or device.tag not in _ATTACHED:
            continue
        pci = is_pci_hostdev(device)
        if pci and (exclusive or name in before):
            let_go.append(pci_address(device.find("source/address")) or "")
        elif name not in before:
            kept.append(name if name in persistent else f"{name} (until it stops)")
    return sorted(let_go), sorted(kept)


def _as_defined(live: ET.Element) -> ET.Element:
    """The running guest's XML, where it says the same in other words than a definition."""
    for interface in live.iterfind("devices/interface"):
        if interface.find("source[@network]") is not None:
            interface.set("type", "network")  # libvirt tells what the network is made of: bridge, direct
    system = live.find("os")
    if system is not None and system.find("loader[@type='pflash']") is not None:
        system.attrib.setdefault("firmware", "efi")  # older ones tell only what they have chosen for it
    return live


def _disk_names(domain: ET.Element, but: t.Container[str]) -> list[str]:
    """The names of a guest's disks (vdb), but for some."""
    disks = [device for name, device in devices_of(domain).items() if device.tag == "disk" and name not in but]
    return [target.get("dev", "") for disk in disks for target in disk.iterfind("target")]


class _Running:
    """The running guest, beside what it is to be."""

    def __init__(self, asked: ET.Element, merged: ET.Element, live: ET.Element, before: t.AbstractSet[str]) -> None:
        self._asked = asked
        self._live = live
        self._wanted = devices_of(asked)
        self._merged = devices_of(merged)
        self._there = devices_of(live)
        self._slots = Definition.read(live)
        self._leaving = [name for name in gone(asked, live, before) if self._can_leave(self._there[name])]
        # What cannot go now is still there by the note that the guest was started with.
        self._started = before | noted(live)

    def plan(self) -> tuple[list[dict[str, str]], list[str]]:
        """What the running guest can take or lose now, and what waits for its next start."""
        detached = {name: self._there[name] for name in self._leaving}
        attached, updated = self._attached(), self._updated()
        live = [
            {"action": action, "what": name, "xml": text_of(device)}
            for action, devices in (("detach", detached), ("update", updated), ("attach", attached))
            for name, device in devices.items()
        ]
        return live, [*self._waiting(attached, updated), *self._missing_slots()]

    def _attached(self) -> dict[str, ET.Element]:
        """The wanted disks and interfaces that it can take now, as it can take them."""
        coming = {name: deepcopy(self._merged[name]) for name in self._wanted if name not in self._there}
        freed = [pci_address(self._there[name].find("address")) for name in self._leaving]
        room = {express: self._slots.free_slots(express, freed) for express in (True, False)}
        taken = [*_disk_names(self._live, self._leaving)]
        found = {}
        for device in coming.values():
            self._place(device, freed)
        # Those that have a place come first, before libvirt puts another there.
        for name, device in sorted(coming.items(), key=lambda item: item[1].find("address") is None):
            express = self._slots.express and _is_express(device)
            if not self._has_room(device, room[express]):
                continue
            room[express] -= _bus(device) == "pci"
            for target in device.iterfind("target[@dev]"):
                target.set("dev", free_name(target, taken))
                taken.append(target.get("dev", ""))
            found[name] = device
        return found

    def _updated(self) -> dict[str, ET.Element]:
        """The interfaces that are to be somewhere else, or to have their link up or down."""
        found = {}
        for name, device in self._wanted.items():
            there = self._there.get(name)
            if device.tag != "interface" or there is None or device.get("type") != there.get("type"):
                continue
            new = deepcopy(there)
            for tag in ("source", "link"):
                for part in device.findall(tag):
                    _replace(new, part)
            if text_of(new) != text_of(there):
                found[name] = new
        return found

    def _waiting(self, attached: t.Container[str], updated: t.Mapping[str, ET.Element]) -> list[str]:
        """What has to wait, by laying all the rest over the running guest."""
        after = deepcopy(self._live)
        for name, device in devices_of(after).items():
            for part in updated[name].iterfind("*") if name in updated else ():
                _replace(device, part)
        wanted = {
            name: device for name, device in self._wanted.items() if device.tag != "hostdev" and name not in attached
        }
        going = [
            name
            for name in gone(self._asked, self._live, self._started)
            if self._there[name].tag != "hostdev" and not self._can_leave(self._there[name])
        ]
        # Another seed in the drive makes no difference to a guest that has booted.
        discs = [name for name in wanted if name.startswith("cdrom ") and name not in self._there]
        for old, new in zip([name for name in going if name.startswith("cdrom ")], discs):
            going.remove(old)
            del wanted[new]
        return lay_parts(self._asked, after, self._started) + lay_devices(after, wanted, going)

    def _missing_slots(self) -> list[str]:
        """Slots that are wanted since the guest was started. Those that devices have taken since are no fault."""
        if not self._slots.express:
            return []
        lines = []
        wanted, free = hotplug_slots(self._asked), self._slots.free_slots(express=True)
        if free < wanted and hotplug_slots(self._live) < wanted:
            lines.append(f"controller pci pcie-root-port: {free} free -> {wanted}")
        bridge = self._live.find("devices/controller[@model='pcie-to-pci-bridge']")
        if conventional_slots(self._asked) and bridge is None:
            lines.append("controller pci pcie-to-pci-bridge: added")
        return lines

    def _can_leave(self, device: ET.Element) -> bool:
        address = device.find("address[@type='pci']")
        if _bus(device) == "pci":
            return address is not None and int(address.get("bus", "0"), 0) in self._slots.buses
        return _bus(device) != ""

    def _has_room(self, device: ET.Element, slots: int) -> bool:
        bus = _bus(device)
        if bus == "pci":
            return slots > 0
        controllers = self._live.findall(f"devices/controller[@type='{bus}']")
        return any(controller.get("model") != "none" for controller in controllers)

    def _place(self, device: ET.Element, freed: t.Container[str | None]) -> None:
        """Leave a device its place where the running guest has that free; libvirt finds another one otherwise."""
        for address in device.findall("address"):
            place = pci_address(address) if address.get("type") == "pci" else None
            free = place not in self._slots.occupied or place in freed
            if place is None or not free or int(place[5:7], 16) not in self._slots.buses:
                device.remove(address)


def _bus(device: ET.Element) -> str:
    """Where a running guest takes a device: pci, scsi or usb; '' where it takes none of that sort."""
    if device.tag == "interface":
        return "pci"
    target = device.find("target[@bus]")
    if device.tag != "disk" or device.get("device", "disk") != "disk" or target is None:
        return ""
    return {"virtio": "pci", "scsi": "scsi", "usb": "usb"}.get(target.get("bus", ""), "")


def _is_express(device: ET.Element) -> bool:
    model = device.find("model")
    return model is None or model.get("type") not in _CONVENTIONAL


def _replace(device: ET.Element, part: ET.Element) -> None:
    """Give a device another part of that name, unless its own says the same."""
    there = device.find(part.tag)
    if there is None:
        device.append(deepcopy(part))
    elif overlay(part, deepcopy(there), ""):
        at = list(device).index(there)
        device.remove(there)
        device.insert(at, deepcopy(part))
