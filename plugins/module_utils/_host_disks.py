# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's disks: what is mounted, swapped to, part of a volume, or given to a guest as a disk.

Whoever has a block device open without holding it, such as a database or a QEMU that libvirt does not know, shows only
in the open files of its process, which are not searched: that takes root and too long.
"""

from __future__ import annotations

import functools
import os
import re
import typing as t
from dataclasses import dataclass

from ._guests import CONFIGURED, RUNNING
from ._sysfs import below, names, read_int, read_text
from ._use import Found, Use, listed, place, plain, whole

_BLOCK = "/sys/class/block"
# libvirt writes its own files, always with these quotes (src/conf/domain_conf.c: virDomainDiskSourceFormat).
_GUEST_DISK = re.compile(r"<source [^<>]*?\bdev='(/dev/[^']+)'")

_POOL = re.compile(r"^E:ID_FS_LABEL=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class _Part:
    """A block device, as a path below /sys, of something that has a name."""

    device: str
    label: str
    evidence: str


def uses(root: str) -> Found:
    """Disks under mounted file systems and swap areas, those of running guests, and those of active volumes and arrays.

    A swap file, and a file behind a loop device, lie on a mounted file system.
    """
    blocks = _Blocks(root)
    passed: set[str] = set()
    for device, use in (*_mounts(blocks), *_swaps(blocks)):
        for disk in blocks.beneath(device, passed):
            yield disk, use
    yield from _together(blocks, "guest_disk", "holds disks of running guests", _guest_disks(blocks, RUNNING), passed)
    yield from _together(blocks, "volume", "holds active volumes", _volumes(blocks, passed), set())
    yield from _together(blocks, "volume", "holds imported ZFS pools", _pools(blocks), set())


def soft_uses(root: str) -> Found:
    """Disks that belong to guests which are off."""
    blocks, running = _Blocks(root), names(below(root, RUNNING))
    parts = (part for part in _guest_disks(blocks, CONFIGURED) if f"{part.label}.xml" not in running)
    yield from _together(blocks, "spare_disk", "holds disks of guests that are off", parts, set())


def _together(blocks: _Blocks, kind: str, what: str, parts: t.Iterable[_Part], passed: set[str]) -> Found:
    """One use for all that lies on the same disks: a volume group may have hundreds of volumes."""
    found: dict[tuple[str, ...], list[_Part]] = {}
    for part in parts:
        disks = tuple(blocks.beneath(part.device, passed))
        found.setdefault(disks[1:] or disks, []).append(part)
    for disks, alike in found.items():
        labels = list(dict.fromkeys(part.label for part in alike))
        for disk in disks:
            yield disk, Use(kind, f"{what} ({listed(labels)})", alike[0].evidence)


def _mounts(blocks: _Blocks) -> Found:
    """Disks under a mounted file system (proc_pid_mountinfo(5): major:minor, mount point, type, source)."""
    root, seen = blocks.root, set()
    for line in whole(root, "/proc/self/mountinfo").splitlines():
        left, _dash, right = line.partition(" - ")
        field, (kind, source) = left.split(), (right.split() + ["", ""])[:2]
        # A file system mounted at many places, as containers do, is told of once.
        if len(field) < 5 or (field[2], source) in seen:
            continue
        seen.add((field[2], source))
        evidence = f"/proc/self/mountinfo: {line.strip()}"
        for device in _file_system(blocks, field[2], kind, plain(source)):
            name = os.path.basename(place(root, device))
            yield device, Use("mount", f"holds the mounted file system {plain(field[4])} ({name})", evidence)


def _file_system(blocks: _Blocks, number: str, kind: str, source: str) -> list[str]:
    """The block devices of a mounted file system, as paths below /sys. Number 0:x is a file system on many or none."""
    if not number.startswith("0:"):
        return [f"/sys/dev/block/{number}"]
    if kind == "zfs":
        return blocks.pools.get(source.partition("/")[0], [])
    devices = [device for device in (blocks.find(part) for part in source.split(":")) if device]
    if kind != "btrfs":
        return devices
    file_systems = below(blocks.root, "/sys/fs/btrfs")
    for name in names(file_systems):
        members = names(f"{file_systems}/{name}/devices")
        if any(os.path.basename(device) in members for device in devices):
            return [f"{_BLOCK}/{member}" for member in members]
    return devices


def _swaps(blocks: _Blocks) -> Found:
    """Disks under a swap area (/proc/swaps)."""
    for line in whole(blocks.root, "/proc/swaps").splitlines()[1:]:
        name = plain(line.split()[0]) if line.split() else ""
        device = blocks.find(name)
        if device:
            yield device, Use("swap", f"holds the swap area {name}", f"/proc/swaps: {' '.join(line.split())}")


def _guest_disks(blocks: _Blocks, folder: str) -> t.Iterator[_Part]:
    """Disks that guests have whole: <disk type='block'>, searched for as text, since most guests have none."""
    for name in names(below(blocks.root, folder)):
        if not name.endswith(".xml"):
            continue
        for source in dict.fromkeys(_GUEST_DISK.findall(whole(blocks.root, f"{folder}/{name}"))):
            device = blocks.find(source)
            if device:
                yield _Part(device, name[: -len(".xml")], f"{folder}/{name}: <source dev='{source}'>")


def _volumes(blocks: _Blocks, passed: t.Container[str]) -> t.Iterator[_Part]:
    """The topmost volumes and arrays (device mapper, md, bcache) that nothing stands on which was told of before.

    They may be open without a mount, as those of a Ceph OSD are: only an ioctl would tell, and removing their disks
    breaks them anyway. A container of arrays, such as firmware RAID has, has no size.
    """
    for name in blocks.names:
        device = f"{_BLOCK}/{name}"
        path = below(blocks.root, device)
        slaves = names(path + "/slaves")
        if not slaves or names(path + "/holders") or place(blocks.root, device) in passed:
            continue
        if read_int(path + "/size") != 0:
            yield _Part(device, blocks.titles.get(name) or name, f"{device}/slaves: {' '.join(slaves)}")


def _pools(blocks: _Blocks) -> t.Iterator[_Part]:
    """Members of the imported ZFS pools, mounted or not: a pool's folder holds its state (OpenZFS: spa_stats.c)."""
    folder = "/proc/spl/kstat/zfs"
    for pool in names(below(blocks.root, folder)):
        if os.path.exists(below(blocks.root, f"{folder}/{pool}/state")):
            for member in blocks.pools.get(pool, []):
                yield _Part(member, pool, f"{folder}/{pool}/state")


class _Blocks:
    """The block devices of a machine: which one a name is, and what it stands on."""

    def __init__(self, root: str) -> None:
        self.root = root
        folder = below(root, _BLOCK)
        self.names = names(folder)
        mapped = (name for name in self.names if name.startswith("dm-"))
        self.titles = {name: read_text(f"{folder}/{name}/dm/name") for name in mapped}
        """What device mapper calls its devices: vg-root for dm-0."""

    @functools.cached_property
    def pools(self) -> dict[str, list[str]]:
        """Members of each ZFS pool, as paths below /sys, which says nothing of them: udev knows their labels."""
        folder = below(self.root, "/run/udev/data")
        pools: dict[str, list[str]] = {}
        for name in names(folder):
            text = (read_text(f"{folder}/{name}") or "") if name.startswith("b") else ""
            label = _POOL.search(text) if "E:ID_FS_TYPE=zfs_member\n" in text + "\n" else None
            if label:
                pools.setdefault(label.group(1), []).append(f"/sys/dev/block/{name[1:]}")
        return pools

    def find(self, name: str) -> str | None:
        """The block device that /dev/sda2 or /dev/mapper/vg-root is, as a path below /sys; None where it is none."""
        if not name.startswith("/dev/"):
            return None
        for known in (os.path.basename(os.path.realpath(below(self.root, name))), os.path.basename(name)):
            if os.path.exists(below(self.root, f"{_BLOCK}/{known}")):
                return f"{_BLOCK}/{known}"
        mapped = (device for device, title in self.titles.items() if name == f"/dev/mapper/{title}")
        return next((f"{_BLOCK}/{device}" for device in mapped), None)

    def beneath(self, device: str, passed: set[str]) -> t.Iterator[str]:
        """The block device and all that it stands on, as paths below /sys: LVM, dm-crypt, md, bcache name their slaves.

        A disk of NVMe multipath lies below /sys/devices/virtual, and its controllers are named beside it, in the
        subsystem. passed is told of every volume and array on the way.
        """
        waiting, seen = [device], set()
        while waiting:
            path = waiting.pop()
            here = place(self.root, path)
            if here in seen:
                continue
            seen.add(here)
            yield path
            # A partition of a mapped or md disk has its slaves one level up.
            for folder in (here, os.path.dirname(here)):
                slaves = names(folder + "/slaves")
                waiting += [f"{_BLOCK}/{slave}" for slave in slaves]
                if slaves:
                    passed.add(folder)
            subsystem = re.search(r"/nvme-subsystem/(nvme-subsys\d+)/", here + "/")
            if subsystem:
                members = names(below(self.root, f"/sys/class/nvme-subsystem/{subsystem.group(1)}"))
                waiting += [f"/sys/class/nvme/{name}" for name in members if re.fullmatch(r"nvme\d+", name)]
