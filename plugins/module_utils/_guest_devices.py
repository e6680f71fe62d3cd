# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The devices of a guest's definition: which are the same, how one is laid over another, what slots they need. Pure."""

from __future__ import annotations

import itertools
import string
import typing as t
import xml.etree.ElementTree as ET
from copy import deepcopy

from ._hostdev import Assigned, Definition, pci_address
from ._overlay import overlay

_PREFIXES = {"virtio": "vd", "ide": "hd", "fdc": "fd"}  # sd for all other buses
_ON_A_PORT = ("disk", "interface", "hostdev", "controller", "rng", "memballoon", "vsock")


def devices_of(domain: ET.Element | None) -> dict[str, ET.Element]:
    """The devices by what tells one from another: 'disk /images/a.qcow2', 'interface 52:54:00:6b:76:01',
    'hostdev 0000:06:00.0', 'controller usb 0', 'rng'. Where these are alike, as with serial ports, the second is
    'serial 2'.
    """
    found: dict[str, ET.Element] = {}
    for device in () if domain is None else domain.iterfind("devices/*"):
        name = _name(device)
        names = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
        found[next(free for free in names if free not in found)] = device
    return found


def _name(device: ET.Element) -> str:
    source, mac = device.find("source"), device.find("mac")
    if device.tag == "disk":
        target = device.find("target")
        places = [] if source is None else [source.get("file") or source.get("dev") or _values(source)]
        places.append("" if target is None else target.get("dev", ""))
        return f"{device.get('device', 'disk')} {next((place for place in places if place), '')}"
    if device.tag == "interface":
        return f"interface {'' if mac is None else mac.get('address', '').lower()}"
    if device.tag == "hostdev":
        address = pci_address(device.find("source/address[@slot]"))
        other = [device.get("type", ""), *(_values(part) for part in ([] if source is None else source))]
        return f"hostdev {address or ' '.join(other)}"
    if device.tag == "controller":
        return f"controller {device.get('type')} {device.get('index', '0')}"
    return device.tag


def _values(element: ET.Element) -> str:
    return " ".join(element.attrib.values())


def is_pci_hostdev(device: ET.Element) -> bool:
    """Whether a device is one of the host's, in a <hostdev>."""
    return device.tag == "hostdev" and device.find("source/address[@slot]") is not None


def lay_devices(
    base: ET.Element, wanted: t.Mapping[str, ET.Element], gone: t.Iterable[str] = (), taken: t.Iterable[str] = ()
) -> list[str]:
    """Lay these devices over those of base, take away those that are gone, and say what that changes."""
    devices = base.find("devices")
    if devices is None:
        devices = ET.SubElement(base, "devices")
    there = devices_of(base)
    lines = []
    for name in gone:
        devices.remove(there.pop(name))
        lines.append(f"{name}: removed")
    for name, device in wanted.items():
        if _is_met(device, devices):
            continue
        if name in there:
            lines += _lay_device(device, there[name], name, devices, taken)
        else:
            _add_device(deepcopy(device), devices, taken)
            lines.append(f"{name}: added")
    return lines


def _is_met(wanted: ET.Element, devices: ET.Element) -> bool:
    """Whether there is another element that does what the wanted one is for."""
    if (wanted.tag, wanted.get("type"), wanted.get("model")) == ("controller", "usb", "none"):
        return devices.find("controller[@type='usb']") is not None  # none is for want of one that somebody needs
    device = Assigned.read(wanted) if wanted.tag == "hostdev" else None
    others = [Assigned.read(other) for tag in ("interface", "disk") for other in devices.iterfind(tag)]
    return device is not None and device.address in [other.address for other in others if other]


def _lay_device(
    wanted: ET.Element, present: ET.Element, name: str, devices: ET.Element, taken: t.Iterable[str]
) -> list[str]:
    """Lay a device over the present one of the same name.

    What the guest sees of it is its bus and model: with others it is another device, at another place. What stands
    behind it is its type: with another one, the guest sees it where it was.
    """
    front, back = _turns(_front(wanted), _front(present)), _turns(_back(wanted), _back(present))
    new = deepcopy(wanted)
    if wanted.tag == "disk" and not front:
        new.find("target").set("dev", present.find("target").get("dev", ""))  # type: ignore[union-attr]
    if not front and not back:
        return overlay(new, present, name)
    new.extend([] if front else present.findall("address"))
    devices.remove(present)
    _add_device(new, devices, taken)
    return [f"{name} {turn}" for turn in front + back]


def _front(device: ET.Element) -> dict[str, str | None]:
    model, target = device.find("model"), device.find("target")
    return {
        "model": device.get("model") if model is None else model.get("type"),
        "bus": None if target is None else target.get("bus"),
    }


def _back(device: ET.Element) -> dict[str, str | None]:
    return {"type": device.get("type")}


def _turns(wanted: t.Mapping[str, str | None], present: t.Mapping[str, str | None]) -> list[str]:
    return [f"{key}: {present[key]} -> {value}" for key, value in wanted.items() if value and value != present[key]]


def _add_device(device: ET.Element, devices: ET.Element, taken: t.Iterable[str]) -> None:
    """Add a device; a disk gets another name where its own is taken."""
    target = device.find("target")
    if device.tag == "disk" and target is not None:
        there = {*taken, *(other.get("dev", "") for other in devices.iterfind("disk/target"))}
        target.set("dev", free_name(target, there))
    devices.append(device)


def free_name(target: ET.Element, taken: t.Container[str]) -> str:
    """The name that a disk's <target> asks for, or the next free one of its bus: vda to vdz, vdaa, ..."""
    prefix = _PREFIXES.get(target.get("bus", ""), "sd")
    letters = ("".join(some) for length in (1, 2) for some in itertools.product(string.ascii_lowercase, repeat=length))
    names = itertools.chain([target.get("dev", "")], (prefix + some for some in letters))
    return next(name for name in names if name and name not in taken)


# ---------------------------------------------------------------------------------------------------------------------
# Machines and slots


def _machine(domain: ET.Element) -> tuple[str, str]:
    """The architecture, and what the versions and the alias of a machine type have in common."""
    kind = domain.find("os/type")
    if kind is None:
        return "", ""
    machine = kind.get("machine", "")
    family = next((name for name in ("q35", "i440fx") if name in machine), machine.partition("-")[0])
    return kind.get("arch", ""), "i440fx" if family == "pc" else family


def is_other_machine(wanted: ET.Element, base: ET.Element) -> bool:
    """Whether the chipset or the architecture is another one, so that devices have other places."""
    return any(value and value != now for value, now in zip(_machine(wanted), _machine(base)))


def uproot(base: ET.Element) -> None:
    """Take away what only fits the machine as it was; libvirt fills in what fits the new one."""
    for devices in base.iterfind("devices"):
        for device in list(devices):
            fits = device.get("model") == "none" or device.tag not in ("controller", "emulator")
            # itco is the watchdog of the chipset of q35, and there by itself.
            if not fits or (device.tag, device.get("model")) == ("watchdog", "itco"):
                devices.remove(device)
            for address in device.findall("address[@type='pci']"):
                device.remove(address)


def add_controllers(base: ET.Element, slots: int, conventional: bool) -> list[str]:
    """Add the controllers that the devices need, and say which.

    slots is how many pcie-root-ports shall be free once libvirt has placed what has no address yet; conventional,
    whether there shall be a pcie-to-pci-bridge. Machines without PCI Express have free slots at their root.
    """
    devices = base.find("devices")
    if devices is None:
        return []
    lines = []
    if devices.find("disk/target[@bus='scsi']") is not None and devices.find("controller[@type='scsi']") is None:
        # libvirt would take lsilogic, a conventional device that few guests know (qemuDomainGetSCSIControllerModel).
        ET.SubElement(devices, "controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"})
        lines.append("controller scsi virtio-scsi: added")
    if _machine(base)[1] not in ("q35", "virt"):
        return lines
    bridge = conventional and devices.find("controller[@model='pcie-to-pci-bridge']") is None
    free = Definition.read(base).free_slots(express=True)
    missing = slots + bridge + sum(_needs_port(device) for device in devices) - free
    for _number in range(missing):
        _add_pci_controller(devices, "pcie-root-port")
    if missing > 0:
        lines.append(f"controller pci pcie-root-port: {missing} added")
    if bridge:  # after the ports, since libvirt wants its index to be larger than that of its port
        _add_pci_controller(devices, "pcie-to-pci-bridge")
        lines.append("controller pci pcie-to-pci-bridge: added")
    return lines


def _add_pci_controller(devices: ET.Element, model: str) -> None:
    indexes = [int(controller.get("index", "0")) for controller in devices.iterfind("controller[@type='pci']")]
    # pcie-root is 0, even if it is not there yet.
    attributes = {"type": "pci", "index": str(max(indexes, default=0) + 1), "model": model}
    ET.SubElement(devices, "controller", attributes)


def _needs_port(device: ET.Element) -> bool:
    """Whether libvirt will put a device at a pcie-root-port (src/qemu/qemu_domain_address.c:
    qemuDomainDeviceCalculatePCIConnectFlags).

    All host devices and interfaces count, since the first conventional one takes a port as well, for its bridge.
    """
    if device.tag not in _ON_A_PORT or device.find("address") is not None or device.get("model") == "none":
        return False
    if device.tag == "disk":
        return device.find("target[@bus='virtio']") is not None
    if device.tag == "hostdev":
        return is_pci_hostdev(device)
    if device.tag == "controller":
        return device.get("type") in ("scsi", "virtio-serial", "usb") or device.get("model") == "pcie-to-pci-bridge"
    return True
