# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest's definition as the inventory wants it, laid over the one that libvirt has. Pure: XML in, XML and words out.

libvirt completes a definition (addresses, controllers, a versioned machine type), and people change it by hand. Both
stay: the merge starts from the present definition, and changes only what the inventory says otherwise. To take away
what the inventory no longer says, and nothing else, the definition carries a note of what it said the last time:

    <metadata>
      <kvm:guest xmlns:kvm="https://github.com/kvm-passthrough/kvm.passthrough" hotplug-slots="4">
        <kvm:given>memoryBacking/hugepages</kvm:given>
        <kvm:given>vcpu@cpuset</kvm:given>
        <kvm:given>disk /var/lib/libvirt/images/fax1.qcow2</kvm:given>
        <kvm:given>interface 52:54:00:6b:76:01</kvm:given>
        <kvm:given>hostdev 0000:06:00.0</kvm:given>
      </kvm:guest>
    </metadata>

A definition without the note loses nothing. The attributes of <kvm:guest> are the inventory's: hotplug-slots, how many
pcie-root-ports stay free, and conventional-slots="yes" for a pcie-to-pci-bridge. Ports are added and never removed: a
port too many does no harm, and one that is free today may have been added by hand for tomorrow.
Formats: https://libvirt.org/formatdomain.html and https://libvirt.org/pci-hotplug.html
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from copy import deepcopy

from ._errors import InvalidInput, Refused
from ._guest_devices import add_controllers, devices_of, is_other_machine, is_pci_hostdev, lay_devices, uproot
from ._overlay import drop, has, overlay, value

NAMESPACE = "https://github.com/kvm-passthrough/kvm.passthrough"
_GUEST = f"{{{NAMESPACE}}}guest"
_GIVEN = f"{{{NAMESPACE}}}given"

# The prefixes that people know; otherwise ElementTree writes ns0.
ET.register_namespace("kvm", NAMESPACE)
ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
ET.register_namespace("libosinfo", "http://libosinfo.org/xmlns/libvirt/domain/1.0")

# libvirt's units (src/util/virutil.c: virScaleInteger), in bytes.
_UNITS = {"b": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS.update({unit: 1 << 10 * n for n, letter in enumerate("kmgt", 1) for unit in (letter, f"{letter}ib")})

# What every definition has, so that it never goes.
_MANDATORY = ("name", "uuid", "memory@unit", "vcpu", "os/type")

# What libvirt filled in, or people chose, to go with a value, and what does not hold for another one.
_DEPENDENT = {
    "memory": ("currentMemory",),
    "vcpu": ("vcpu@current", "vcpus"),
    "cpu@mode": ("cpu@match", "cpu@check", "cpu@migratable", "cpu/model", "cpu/vendor", "cpu/feature"),
    "os@firmware": ("os/loader", "os/nvram", "os/firmware"),
}


def parse(text: str, what: str) -> ET.Element:
    """The root element of a domain's XML, or InvalidInput that says what is none."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise InvalidInput(f"{what} is no XML: {error}") from error
    if root.tag != "domain":
        raise InvalidInput(f"{what} is no domain's XML: its root element is <{root.tag}>")
    return root


def parse_wanted(text: str) -> ET.Element:
    """The wanted definition, with its sizes in KiB, as libvirt has them."""
    root = parse(text, "the wanted definition")
    for memory in root.iterfind("memory"):
        memory.text = _kib(memory.text or "", memory.get("unit", "KiB"))
        memory.set("unit", "KiB")
    for page in root.iterfind("memoryBacking/hugepages/page"):
        page.set("size", _kib(page.get("size", ""), page.get("unit", "KiB")))
        page.set("unit", "KiB")
    return root


def merge(
    wanted: ET.Element, present: ET.Element | None, exclusive: bool, taken: t.Iterable[str] = ()
) -> tuple[ET.Element, list[str]]:
    """The definition to hand to libvirt, and what it changes, one line each.

    present is None where there is no guest yet. exclusive takes away the PCI host devices that are not wanted.
    taken are names of disks (vdb) which new ones must not get, beside those of present.
    Raises Refused where the present guest has another UUID than the wanted one.
    """
    same_guest(wanted, present)
    if present is None:
        base = deepcopy(wanted)
        for devices in base.iterfind("devices"):
            devices.clear()
    else:
        base = deepcopy(present)
    before = noted(base)
    if is_other_machine(wanted, base):
        uproot(base)
    lines = lay_parts(wanted, base, before)
    lines += lay_devices(base, devices_of(wanted), gone(wanted, base, before, exclusive), taken)
    lines += add_controllers(base, hotplug_slots(wanted), conventional_slots(wanted))
    lines += _write_note(wanted, base)
    return base, lines if present is not None else [f"guest {wanted.findtext('name')}: is not defined"]


def gone(wanted: ET.Element, base: ET.Element, before: t.Container[str], exclusive: bool = False) -> list[str]:
    """Names of the devices of base that go: those given before, and with exclusive all PCI host devices."""
    asked = devices_of(wanted)
    there = {name: device for name, device in devices_of(base).items() if name not in asked}
    return [name for name, device in there.items() if name in before or (exclusive and is_pci_hostdev(device))]


def same_guest(wanted: ET.Element, present: ET.Element | None) -> None:
    """Raise Refused where a guest of this name is another one, by its UUID."""
    uuids = [(domain.findtext("uuid") or "").strip().lower() for domain in (wanted, present) if domain is not None]
    if all(uuids) and len(set(uuids)) > 1:
        raise Refused(
            f"guest {wanted.findtext('name')} exists and was not made from this inventory: its UUID is {uuids[1]},"
            f" not {uuids[0]}; give yours another kvm_guest_name"
        )


def text_of(element: ET.Element) -> str:
    """An element as libvirt takes it."""
    return ET.tostring(element, encoding="unicode").strip()


# ---------------------------------------------------------------------------------------------------------------------
# The note


def noted(domain: ET.Element | None) -> frozenset[str]:
    """What the inventory gave when the definition was made: paths of its parts, and names of its devices."""
    note = None if domain is None else _note(domain)
    return frozenset() if note is None else frozenset(given.text or "" for given in note.iterfind(_GIVEN))


def hotplug_slots(domain: ET.Element) -> int:
    """How many pcie-root-ports shall stay free, by the note of a definition."""
    note = _note(domain)
    number = "0" if note is None else note.get("hotplug-slots", "0")
    if not number.isdigit():
        raise InvalidInput(f"hotplug-slots is '{number}'; it is a number of pcie-root-ports, such as 4")
    return int(number)


def conventional_slots(domain: ET.Element) -> bool:
    """Whether conventional PCI devices shall have slots, by the note of a definition."""
    note = _note(domain)
    return note is not None and note.get("conventional-slots") == "yes"


def _note(domain: ET.Element) -> ET.Element | None:
    return domain.find(f"metadata/{_GUEST}")


def _write_note(wanted: ET.Element, base: ET.Element) -> list[str]:
    before, asked = _note(base), _note(wanted)
    note = ET.Element(_GUEST, {} if asked is None else asked.attrib)
    # Controllers are not among it, since they never go.
    names = [name for name, device in devices_of(wanted).items() if device.tag != "controller"]
    for given in sorted({*_parts(wanted), *names}):
        ET.SubElement(note, _GIVEN).text = given
    if before is not None and (before.attrib, noted(base)) == (note.attrib, frozenset(e.text or "" for e in note)):
        return []
    metadata = base.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(base, "metadata")
    if before is not None:
        metadata.remove(before)
    metadata.append(note)
    return ["note of what the inventory gives: brought up to date"]


def _parts(wanted: ET.Element) -> t.Iterator[str]:
    """The parts of a definition that can go, but for its devices: memoryBacking/locked, vcpu@cpuset, description."""
    for part in wanted:
        if part.tag not in ("metadata", "devices"):
            inner = [f"{part.tag}@{key}" for key in part.attrib] + [f"{part.tag}/{child.tag}" for child in part]
            yield from (path for path in inner or [part.tag] if path not in _MANDATORY)


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def lay_parts(wanted: ET.Element, base: ET.Element, before: t.Iterable[str]) -> list[str]:
    """Lay all but devices and metadata over base, take away what was given before, and say what that changes."""
    wanted, devices = deepcopy(wanted), base.find("devices")
    for element in [*wanted.findall("metadata"), *wanted.findall("devices")]:
        wanted.remove(element)
    if devices is not None and devices.find("*/boot") is not None:  # libvirt takes the order of either sort, not both
        drop(wanted, "os/boot")
    was = {path: value(base, path) for path in _DEPENDENT}
    lines = overlay(wanted, base, "")
    for path in sorted(before):
        if " " not in path and not has(wanted, path) and has(base, path):
            lines.append(f"{path.replace('@', ' ').replace('/', ' ')}: removed")
            drop(base, path)
    for path, dependent in _DEPENDENT.items():
        if was[path] not in (None, value(base, path)):
            for other in dependent:
                drop(base, other)
    return lines


def _kib(size: str, unit: str) -> str:
    if not size.strip().isdigit() or unit.lower() not in _UNITS:
        raise InvalidInput(f"the wanted definition has a size of '{size.strip()}' {unit}; write a whole number of KiB")
    return str(-(-int(size) * _UNITS[unit.lower()] // 1024))
