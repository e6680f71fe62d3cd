# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host lives on: the PCI devices that it cannot give away without losing itself, and those it would miss.

Each kind of use has one function, in the file of its subject, which names where the kernel tells of it. All of them
read below a root, so that a captured tree is judged like a running host. A device's place below /sys/devices names
every PCI device above it; each of them is held in use, for none of them can go without the one at the end.
"""

from __future__ import annotations

import os
import re
import typing as t

from . import _host_console, _host_disks, _host_network
from ._pci import Device
from ._sysfs import below, link_name, names, read_int, read_text
from ._use import DEVICES, Found, Use, by_address, is_vfio

__all__ = ["Use", "guest_holds", "host_uses", "is_vfio", "soft_uses"]

# include/linux/proc_ns.h: PROC_PID_INIT_INO, the namespace from which all processes are to be seen.
_ALL_PROCESSES = "pid:[4026531836]"
_VFIO_FILE = re.compile(r"/vfio/(?:devices/)?([\w-]+)(?: \(deleted\))?\Z")


def host_uses(root: str = "/", session: str | None = None) -> dict[str, list[Use]]:
    """By PCI address, what the host cannot do without; a device that it can do without has no entry.

    session is the IP address of whom the host must still be able to answer, such as the SSH client's.
    """
    classes = _classes(root)
    return by_address(root, _hard(root, session, classes))


def soft_uses(
    root: str, devices: t.Sequence[Device], interrupts: t.Sequence[t.Mapping[str, t.Any]]
) -> dict[str, list[Use]]:
    """By PCI address, what the host would miss, or what is not certain, and which devices somebody has open.

    devices and interrupts are pci_devices and the rows of interrupts, as they were read.
    """
    return by_address(root, _soft(root, devices, interrupts))


def _hard(root: str, session: str | None, classes: t.Mapping[str, str]) -> Found:
    yield from _bridges(root, classes)
    yield from _host_network.uses(root, session)
    yield from _host_disks.uses(root)
    yield from _host_console.uses(root, classes)


def _soft(root: str, devices: t.Sequence[Device], interrupts: t.Sequence[t.Mapping[str, t.Any]]) -> Found:
    yield from _host_network.soft_uses(root, devices)
    yield from _host_disks.soft_uses(root)
    yield from _host_console.soft_uses(root)
    yield from _open(root, devices, interrupts)


def guest_holds(root: str, address: str) -> str | None:
    """The evidence that a running guest has the device open; None where it has not.

    vfio names its interrupts after the device, and vfio_pci_core_enable() enables the device when it is opened. One
    that a native driver left enabled looks the same, unless the open files of all processes tell that nobody has it.
    """
    path = below(root, f"{DEVICES}/{address}")
    if not is_vfio(link_name(path + "/driver") or ""):
        return None
    enabled = read_int(path + "/enable")
    if enabled and _may_be_open(root, address, _open_vfio_files(root)):
        return f"{DEVICES}/{address}/enable: {enabled}"
    interrupts = below(root, "/sys/kernel/irq")
    for number in names(interrupts):
        actions = read_text(f"{interrupts}/{number}/actions") or ""
        if _of_guest(actions, address):
            return f"/sys/kernel/irq/{number}/actions: {actions}"
    return None


def _open(root: str, devices: t.Sequence[Device], interrupts: t.Sequence[t.Mapping[str, t.Any]]) -> Found:
    """Devices that somebody has open, as guest_holds() finds them, for all devices at once."""
    held = [device for device in devices if is_vfio(device["driver"] or "")]
    actions = [action for row in interrupts for action in row["actions"] if "vfio-" in action] if held else []
    silent = []
    for device in held:
        action = next((action for action in actions if _of_guest(action, device["address"])), None)
        if action:
            yield device["address"], Use("guest", "is open", f"/proc/interrupts: {action}")
        elif device["enabled"]:
            silent.append(device["address"])
    files = _open_vfio_files(root) if silent else None
    for address in silent:
        if _may_be_open(root, address, files):
            yield address, Use("guest", "is open", f"{DEVICES}/{address}/enable: 1")


def _of_guest(actions: str, address: str) -> bool:
    """Whether an interrupt is one of vfio's for the device (vfio_pci_intrs.c: vfio-intx(…), vfio-msi[0](…))."""
    return "vfio-" in actions and f"({address})" in actions


def _may_be_open(root: str, address: str, files: frozenset[str] | None) -> bool:
    """Whether the device, or its IOMMU group, is among the open files; where these are unknown, it may be."""
    if files is None:
        return True
    path = below(root, f"{DEVICES}/{address}")
    group = link_name(path + "/iommu_group")
    return group is None or not files.isdisjoint({group, f"noiommu-{group}", *names(path + "/vfio-dev")})


def _open_vfio_files(root: str) -> frozenset[str] | None:
    """Names of the files below /dev/vfio that any process has open: 12, or vfio0; None where not all can be seen.

    A device's own file shows no name, but keeps its group's open (drivers/vfio/group.c); where a process has only the
    former, or another namespace hides processes, or another user's may not be looked at, all is unknown.
    """
    proc = below(root, "/proc")
    if link_name(f"{proc}/self/ns/pid") != _ALL_PROCESSES or not os.path.isdir(f"{proc}/1"):
        return None
    found = set()
    for process in filter(str.isdecimal, names(proc)):
        try:
            targets = list(_open_files(f"{proc}/{process}/fd"))
        except OSError:
            return None
        files = {match.group(1) for match in map(_VFIO_FILE.search, targets) if match} - {"vfio"}
        if not files and any("[vfio-device]" in target for target in targets):
            return None
        found |= files
    return frozenset(found)


def _open_files(folder: str) -> t.Iterator[str]:
    """What the open files of a process are; a process or file that has gone meanwhile is none."""
    try:
        numbers = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return
    for number in numbers:
        try:
            yield os.readlink(f"{folder}/{number}")
        except (FileNotFoundError, ProcessLookupError):
            continue


def _classes(root: str) -> dict[str, str]:
    """The class of each PCI device: 020000."""
    folder = below(root, DEVICES)
    return {address: (read_text(f"{folder}/{address}/class") or "")[2:] for address in names(folder)}


def _bridges(root: str, classes: t.Mapping[str, str]) -> Found:
    """Bridges and chipset, told without waking them; only the device itself is meant, not those above it.

    Only a header of type 1 or 2 has secondary_bus_number (drivers/pci/pci-sysfs.c: pci_bridge_attrs_are_visible);
    class 06 holds bridges to other buses as well, such as ISA, whose header is an ordinary one.
    """
    for address, shown in classes.items():
        if shown.startswith("06") or os.path.exists(below(root, f"{DEVICES}/{address}/secondary_bus_number")):
            yield address, Use("bridge", f"is a bridge (class {shown})", f"{DEVICES}/{address}/class: 0x{shown}")
