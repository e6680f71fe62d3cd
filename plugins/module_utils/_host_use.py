# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host lives on: the PCI devices that it cannot give away without losing itself.

Each kind of use has one function, which names where the kernel tells of it. All of them read below a root, so that a
captured tree is judged like a running host. A device's place below /sys/devices names every PCI device above it; each
of them is held in use, for none of them can go without the one at the end.
"""

from __future__ import annotations

import ipaddress
import os
import re
import typing as t
from dataclasses import dataclass

from ._sysfs import below, link_name, names, read_int, read_text

_DEVICES = "/sys/bus/pci/devices"
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\Z")
_ESCAPED = re.compile(r"\\([0-7]{3})")
# include/uapi/linux/route.h: the route is usable, and it does not say "unreachable".
_RTF_UP, _RTF_REJECT = 0x1, 0x200


@dataclass(frozen=True)
class Use:
    """One way in which the host needs a device."""

    kind: str
    """default_route, session, mount, swap, console, display, bridge."""

    what: str
    """What follows the device's address in a message: carries the default route (enp1s0)."""

    evidence: str
    """The file that says so, and what it says."""


@dataclass(frozen=True)
class _Route:
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    interface: str
    evidence: str


_Found = t.Iterator[t.Tuple[str, Use]]


def host_uses(root: str = "/", session: str | None = None) -> dict[str, list[Use]]:
    """By PCI address, what the host uses the device for; a device that it can do without has no entry.

    session is the IP address of whom the host must still be able to answer, such as the SSH client's.
    """
    uses: dict[str, list[Use]] = {}
    for finder in (_bridges, _routes(session), _mounts, _swaps, _consoles, _displays):
        for path, use in finder(root):
            for address in _addresses(root, path):
                known = uses.setdefault(address, [])
                if use not in known:
                    known.append(use)
    return uses


def guest_holds(root: str, address: str) -> str | None:
    """The evidence that a running guest has the device open; None where it has not.

    vfio_pci_core_enable() enables the device when it is opened, and vfio names its interrupts after the device.
    """
    path = below(root, f"{_DEVICES}/{address}")
    driver = link_name(path + "/driver") or ""
    enabled = read_int(path + "/enable")
    if not is_vfio(driver):
        return None
    if enabled:
        return f"{_DEVICES}/{address}/enable: {enabled}"
    interrupts = below(root, "/sys/kernel/irq")
    for number in names(interrupts):
        actions = read_text(f"{interrupts}/{number}/actions") or ""
        if "vfio-" in actions and f"({address})" in actions:
            return f"/sys/kernel/irq/{number}/actions: {actions}"
    return None


def is_vfio(driver: str) -> bool:
    """Whether a driver hands its devices to guests: vfio-pci and its variants (mlx5_vfio_pci, nvgrace_gpu_vfio_pci)."""
    return "vfio" in re.split(r"[-_]", driver)


def is_bridge(root: str, address: str) -> bool:
    """Whether a device is a bridge or part of the chipset, told without waking it.

    Only a header of type 1 or 2 has secondary_bus_number (drivers/pci/pci-sysfs.c: pci_bridge_attrs_are_visible);
    class 06 holds bridges to other buses as well, such as ISA, whose header is an ordinary one.
    """
    path = below(root, f"{_DEVICES}/{address}")
    return (read_text(path + "/class") or "").startswith("0x06") or os.path.exists(path + "/secondary_bus_number")


def _bridges(root: str) -> _Found:
    """Bridges and chipset, of which only the device itself is meant, not those above it."""
    for address in names(below(root, _DEVICES)):
        if is_bridge(root, address):
            shown = (read_text(below(root, f"{_DEVICES}/{address}/class")) or "")[2:]
            yield address, Use("bridge", f"is a bridge (class {shown})", f"{_DEVICES}/{address}/class: 0x{shown}")


def _routes(session: str | None) -> t.Callable[[str], _Found]:
    """Interfaces that carry a default route, or the route back to whom the session comes from."""

    def find(root: str) -> _Found:
        routes = [*_ipv4_routes(root), *_ipv6_routes(root)]
        for route in routes:
            if route.network.prefixlen == 0:
                use = Use("default_route", f"carries the default route ({route.interface})", route.evidence)
                yield from _interface(root, route.interface, use)
        for route in _way_to(session, routes):
            use = Use("session", f"carries the session from {session} ({route.interface})", route.evidence)
            yield from _interface(root, route.interface, use)

    return find


def _way_to(session: str | None, routes: list[_Route]) -> list[_Route]:
    """The routes with the longest prefix that lead to an address."""
    try:
        target = ipaddress.ip_address((session or "").partition("%")[0])
    except ValueError:
        return []
    if isinstance(target, ipaddress.IPv6Address) and target.ipv4_mapped:
        target = target.ipv4_mapped
    leading = [route for route in routes if route.network.version == target.version and target in route.network]
    longest = max((route.network.prefixlen for route in leading), default=0)
    return [route for route in leading if route.network.prefixlen == longest > 0]


def _ipv4_routes(root: str) -> t.Iterator[_Route]:
    """The main table, as /proc/net/route shows it (net/ipv4/fib_trie.c: fib_route_seq_show).

    Its words are in the byte order of the host, of which only little endian is read here.
    """
    for line in _whole(root, "/proc/net/route").splitlines()[1:]:
        field = line.split()
        if len(field) < 8 or not _usable(field[3]):
            continue
        base, mask = (ipaddress.IPv4Address(bytes.fromhex(field[at])[::-1]) for at in (1, 7))
        network = ipaddress.IPv4Network(f"{base}/{mask}", strict=False)
        yield _Route(network, field[0], f"/proc/net/route: {' '.join(field)}")


def _ipv6_routes(root: str) -> t.Iterator[_Route]:
    """Every table, as /proc/net/ipv6_route shows them (net/ipv6/route.c: rt6_native_seq_show); lo carries nothing."""
    for line in _whole(root, "/proc/net/ipv6_route").splitlines():
        field = line.split()
        if len(field) < 10 or field[9] == "lo" or not _usable(field[8]):
            continue
        network = ipaddress.IPv6Network((bytes.fromhex(field[0]), int(field[1], 16)), strict=False)
        yield _Route(network, field[9], f"/proc/net/ipv6_route: {' '.join(field)}")


def _usable(flags: str) -> bool:
    return int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP


def _interface(root: str, interface: str, use: Use) -> _Found:
    """The interface and all that it stands on: the ports of a bond, bridge or team, the carrier of a VLAN (lower_*)."""
    waiting, seen = [interface], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = f"/sys/class/net/{name}"
        yield path, use
        waiting += [lower[len("lower_") :] for lower in names(below(root, path)) if lower.startswith("lower_")]


def _mounts(root: str) -> _Found:
    """Disks under a mounted file system (proc_pid_mountinfo(5): major:minor, mount point, type, source)."""
    seen = set()
    for line in _whole(root, "/proc/self/mountinfo").splitlines():
        left, _dash, right = line.partition(" - ")
        field, (kind, source) = left.split(), (right.split() + ["", ""])[:2]
        # A file system mounted at many places, as containers do, is told of once.
        if len(field) < 5 or (field[2], source) in seen:
            continue
        seen.add((field[2], source))
        evidence = f"/proc/self/mountinfo: {line.strip()}"
        for device in _file_system(root, field[2], kind, _plain(source)):
            name = os.path.basename(os.path.realpath(below(root, device)))
            use = Use("mount", f"holds the mounted file system {_plain(field[4])} ({name})", evidence)
            for disk in _disks(root, device):
                yield disk, use


def _file_system(root: str, number: str, kind: str, source: str) -> list[str]:
    """The block devices of a mounted file system, as paths below /sys. Number 0:x is a file system on many or none."""
    if not number.startswith("0:"):
        return [f"/sys/dev/block/{number}"]
    if kind == "zfs":
        return _zfs_members(root, source.partition("/")[0])
    devices = [device for device in (_block(root, part) for part in source.split(":")) if device]
    if kind != "btrfs":
        return devices
    file_systems = below(root, "/sys/fs/btrfs")
    for name in names(file_systems):
        members = names(f"{file_systems}/{name}/devices")
        if any(os.path.basename(device) in members for device in devices):
            return [f"/sys/class/block/{member}" for member in members]
    return devices


def _zfs_members(root: str, pool: str) -> list[str]:
    """ZFS shows its disks nowhere below /sys; udev's database knows which partitions bear the pool's label."""
    folder = below(root, "/run/udev/data")
    found = []
    for name in names(folder):
        lines = (read_text(f"{folder}/{name}") or "").splitlines() if name.startswith("b") else []
        if "E:ID_FS_TYPE=zfs_member" in lines and f"E:ID_FS_LABEL={pool}" in lines:
            found.append(f"/sys/dev/block/{name[1:]}")
    return found


def _swaps(root: str) -> _Found:
    """Disks under an swap area (/proc/swaps); a swap file lies on a mounted file system, which is found above."""
    for line in _whole(root, "/proc/swaps").splitlines()[1:]:
        name = _plain(line.split()[0]) if line.split() else ""
        device = _block(root, name)
        if device:
            use = Use("swap", f"holds the swap area {name}", f"/proc/swaps: {' '.join(line.split())}")
            for disk in _disks(root, device):
                yield disk, use


def _disks(root: str, device: str) -> t.Iterator[str]:
    """The block device and all that it stands on, as paths below /sys: LVM, dm-crypt, md and bcache name their slaves.

    A disk of NVMe multipath lies below /sys/devices/virtual, and its controllers are named beside it, in the subsystem.
    """
    waiting, seen = [device], set()
    while waiting:
        path = waiting.pop()
        place = os.path.realpath(below(root, path))
        if place in seen:
            continue
        seen.add(place)
        yield path
        # A partition of a mapped or md disk has its slaves one level up.
        for folder in (place, os.path.dirname(place)):
            waiting += [f"/sys/class/block/{slave}" for slave in names(folder + "/slaves")]
        subsystem = re.search(r"/nvme-subsystem/(nvme-subsys\d+)/", place + "/")
        if subsystem:
            members = names(below(root, f"/sys/class/nvme-subsystem/{subsystem.group(1)}"))
            waiting += [f"/sys/class/nvme/{name}" for name in members if re.fullmatch(r"nvme\d+", name)]


def _block(root: str, name: str) -> str | None:
    """The block device that /dev/sda2 or /dev/mapper/vg-root is, as a path below /sys; None where it is none."""
    if not name.startswith("/dev/"):
        return None
    for known in (os.path.basename(os.path.realpath(below(root, name))), os.path.basename(name)):
        if os.path.exists(below(root, f"/sys/class/block/{known}")):
            return f"/sys/class/block/{known}"
    blocks = below(root, "/sys/class/block")
    for mapped in names(blocks):
        if mapped.startswith("dm-") and read_text(f"{blocks}/{mapped}/dm/name") == name[len("/dev/mapper/") :]:
            return f"/sys/class/block/{mapped}"
    return None


def _consoles(root: str) -> _Found:
    """Serial ports on which the kernel has a console (/sys/class/tty/console/active); tty0 is no device."""
    active = read_text(below(root, "/sys/class/tty/console/active")) or ""
    for name in active.split():
        use = Use("console", f"carries the console {name}", f"/sys/class/tty/console/active: {active}")
        yield f"/sys/class/tty/{name}", use


def _displays(root: str) -> _Found:
    """The display that the firmware started on, where the host has no other (boot_vga, class 03)."""
    folder = below(root, _DEVICES)
    displays = [name for name in names(folder) if (read_text(f"{folder}/{name}/class") or "").startswith("0x03")]
    if len(displays) == 1 and read_int(f"{folder}/{displays[0]}/boot_vga") == 1:
        use = Use("display", "is the only display of the host", f"{_DEVICES}/{displays[0]}/boot_vga: 1")
        yield displays[0], use


def _addresses(root: str, path: str) -> list[str]:
    """The PCI devices that a path below /sys leads through, and the physical functions of those that are virtual."""
    if not path.startswith("/"):
        return [path]
    place = os.path.realpath(below(root, path))
    found = [part for part in place.split("/") if _ADDRESS.match(part)]
    physical = (link_name(below(root, f"{_DEVICES}/{address}/physfn")) for address in list(found))
    return found + [address for address in physical if address]


def _whole(root: str, path: str) -> str:
    """A table of /proc, which may be longer than one read gives."""
    try:
        with open(below(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _plain(text: str) -> str:
    """A name as it is, where /proc wrote a blank as \\040."""
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 8)), text)
