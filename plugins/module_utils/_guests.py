# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guests that libvirt knows on a host, and the PCI devices that they hold or want, from libvirt's own files.

The system's QEMU driver keeps the definitions of its guests below /etc/libvirt/qemu, and what runs below
/run/libvirt/qemu (src/qemu/qemu_conf.c: virQEMUDriverConfigNew). No daemon is asked, so that none is started and a
captured tree is read like a running host. Only root may read these files.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, replace

from ._sysfs import below, names, read_file

if t.TYPE_CHECKING:
    from xml.etree.ElementTree import Element

RUNNING = "/run/libvirt/qemu"
CONFIGURED = "/etc/libvirt/qemu"
AUTOSTART = "/etc/libvirt/qemu/autostart"

# src/util/virutil.c: virScaleInteger. libvirt itself writes KiB, and takes a missing unit for it.
_UNITS = {"b": 1, "bytes": 1, "kib": 2**10, "k": 2**10, "mib": 2**20, "m": 2**20, "gib": 2**30, "g": 2**30}


@dataclass(frozen=True)
class Guest:
    """One guest of libvirt's system instance."""

    name: str
    running: bool
    """Whether it has a QEMU process, be it paused."""

    autostart: bool | None
    """Whether it starts with the host; None where that may not be read."""

    devices: tuple[str, ...]
    """Addresses of the host's PCI devices that it holds, or wants at its next start, sorted: 0000:06:00.0."""

    memory: int | None
    """Its memory in bytes, as it is configured."""

    evidence: str
    """The file that says so; of a running guest the one of its running definition."""


def read_guests(root: str = "/") -> list[Guest]:
    """Every guest, sorted by name; empty where there is none, or the user may not read the files.

    A guest that runs is told of once, with the devices of its running and of its configured definition.
    """
    starting = _autostart(root)
    guests: dict[str, Guest] = {}
    for guest in (*_definitions(root, RUNNING, starting), *_definitions(root, CONFIGURED, starting)):
        known = guests.get(guest.name)
        if known:
            guest = replace(known, devices=tuple(sorted({*known.devices, *guest.devices})))
        guests[guest.name] = guest
    return [guests[name] for name in sorted(guests)]


def _definitions(root: str, folder: str, starting: t.Container[str] | None) -> t.Iterator[Guest]:
    """The guests whose files lie in a folder; what is no definition is left out."""
    for entry in names(below(root, folder)):
        domain = _domain(read_file(below(root, f"{folder}/{entry}"))) if entry.endswith(".xml") else None
        name = domain.findtext("name") if domain is not None else None
        if domain is not None and name:
            yield Guest(
                name=name,
                running=folder == RUNNING,
                autostart=None if starting is None else f"{name}.xml" in starting,
                devices=tuple(sorted(set(_devices(domain)))),
                memory=_memory(domain.find("memory")),
                evidence=f"{folder}/{entry}",
            )


def _domain(data: bytes | None) -> Element | None:
    """The definition in a file: a domain, or the domstatus around it that libvirt keeps of a running guest.

    libvirt writes UTF-8 and no DOCTYPE. What declares one could define entities, and is not parsed.
    """
    # Only where there is a guest: a host compiles and loads whatever is imported, again with each task.
    from xml.etree import ElementTree

    try:
        text = (data or b"").decode()
        if "<!DOCTYPE" in text:
            return None
        top = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ValueError, ElementTree.ParseError):
        return None
    return top if top.tag == "domain" else top.find("domain") if top.tag == "domstatus" else None


def _devices(domain: Element) -> t.Iterator[str]:
    """PCI addresses of what is assigned: hostdev, interface type='hostdev', the interface that a network of virtual
    functions was resolved to (actual), disk type='nvme'.

    Of all sources only those of PCI devices have an address with a slot (https://libvirt.org/formatdomain.html).
    """
    for address in domain.iterfind("devices//source/address[@slot]"):
        try:
            parts = [int(address.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")]
        except ValueError:
            continue
        yield "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)


def _memory(memory: Element | None) -> int | None:
    if memory is None:
        return None
    unit = _UNITS.get(memory.get("unit", "KiB").lower())
    text = (memory.text or "").strip()
    return int(text) * unit if unit and text.isdecimal() else None


def _autostart(root: str) -> t.Container[str] | None:
    """Names of the files that a guest starts with the host by; None where that may not be read.

    libvirt makes the folder with the first such guest (src/conf/virdomainobjlist.c).
    """
    try:
        return frozenset(os.listdir(below(root, AUTOSTART)))
    except FileNotFoundError:
        return frozenset() if os.path.isdir(below(root, CONFIGURED)) else None
    except OSError:
        return None
