# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt says of guests and networks, compared with what is wanted. Pure: XML text in, answers out.

libvirt fills a definition with its own defaults (addresses, controllers, aliases), so that equality tells nothing.
A wanted definition holds where each of its elements is found in the present one with these attributes and this text,
and where the present one has no disk, interface or host device beyond those wanted.
Formats: https://libvirt.org/formatdomain.html and https://libvirt.org/formatnetwork.html
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ._errors import InvalidInput, Refused

# Of these, a guest has exactly the wanted ones; of all others, libvirt adds what it needs.
_EXACT = ("disk", "interface", "hostdev")


def guest_changes(wanted: str, present: str) -> list[str]:
    """What must change in a guest's definition, one plain line each; empty where the definition holds.

    wanted and present are domain XML; present is empty where there is no guest yet.
    """
    target = _parse(wanted, "the wanted definition")
    if not present:
        return [f"guest {target.findtext('name')}: is not defined"]
    return list(_missing(target, _parse(present, "the present definition"), ""))


def dhcp_reservation(network: str, name: str, mac: str, address: str) -> str:
    """Whether a network reserves the address for the MAC: present, absent, or other where the MAC has another one.

    Raises Refused where the address is reserved for another MAC.
    """
    for host in _parse(network, "the network").iterfind("./ip/dhcp/host"):
        same_mac = (host.get("mac") or "").lower() == mac.lower()
        if not same_mac and host.get("ip") == address:
            raise Refused(
                f"{address} is reserved for {host.get('mac')} ({host.get('name')}); "
                f"give {name} another kvm_guest_address"
            )
        if same_mac:
            return "present" if (host.get("ip"), host.get("name")) == (address, name) else "other"
    return "absent"


def _parse(text: str, what: str) -> ET.Element:
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise InvalidInput(f"{what} is no XML: {error}") from error


def _missing(wanted: ET.Element, present: ET.Element, place: str) -> t.Iterator[str]:
    """The differences of two elements of the same name, as far as wanted asks."""
    for key, value in wanted.attrib.items():
        if not _same_value(wanted.tag, key, value, present.get(key)):
            yield f"{place or wanted.tag} {key}: {present.get(key)} -> {value}"
    text, now = (wanted.text or "").strip(), (present.text or "").strip()
    if text and text != now:
        yield f"{place or wanted.tag}: {now} -> {text}"
    free = list(present)
    unmatched = []
    for child in wanted:
        match = next((other for other in free if other.tag == child.tag and _holds(child, other)), None)
        if match is None:
            unmatched.append(child)
        else:
            free.remove(match)
    for child in unmatched:
        inner = f"{place}/{child.tag}" if place else child.tag
        candidates = [other for other in free if other.tag == child.tag]
        if len(candidates) == 1 and child.tag not in _EXACT:
            yield from _missing(child, candidates[0], inner)
        else:
            yield f"{inner} {_label(child)}: to be added"
    if wanted.tag == "devices":
        for other in free:
            if other.tag in _EXACT:
                yield f"{place}/{other.tag} {_label(other)}: to be removed"


def _holds(wanted: ET.Element, present: ET.Element) -> bool:
    return next(_missing(wanted, present, ""), None) is None


def _same_value(tag: str, key: str, wanted: str, present: str | None) -> bool:
    if present is None:
        return False
    if (tag, key) == ("type", "machine"):  # q35 is an alias; libvirt stores the versioned name, pc-q35-10.0
        return wanted == present or present.startswith((f"pc-{wanted}-", f"{wanted}-"))
    return wanted.lower() == present.lower()


def _label(element: ET.Element) -> str:
    """What a person calls the device: its PCI address, its file, its MAC."""
    address = element.find("./source/address")
    if address is not None:
        parts = [int(address.get(key, "0"), 16) for key in ("domain", "bus", "slot", "function")]
        return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
    source, mac = element.find("./source"), element.find("./mac")
    if mac is not None:
        return mac.get("address", "")
    if source is not None:
        return next(iter(source.attrib.values()), "")
    return " ".join(f"{key}={value}" for key, value in element.attrib.items())
