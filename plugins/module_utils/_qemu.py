# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU and libvirt as they are installed, told from their files: nothing is run, so that any root can be asked."""

from __future__ import annotations

import mmap
import re
import typing as t

from ._boot_tools import exists
from ._sysfs import below, link_name, names

_BANNER = b"QEMU emulator version "

Facts = t.Dict[str, t.Any]


def read_qemu(root: str, architecture: str | None) -> Facts:
    """The QEMU that libvirt would take for guests of the host's own kind: path and version.

    Candidates as in libvirt's virQEMUCapsFindBinaryForArch (src/qemu/qemu_capabilities.c).
    """
    for path in (f"/usr/bin/qemu-system-{architecture}", "/usr/libexec/qemu-kvm"):
        if exists(root, path):
            return {"path": path, "version": _qemu_version(below(root, path))}
    return {"path": None, "version": None}


def read_libvirt(root: str, groups: int | None) -> Facts:
    """libvirt's version, and whether it can assign PCI devices here; groups is the number of IOMMU groups."""
    folders = _library_folders(root)
    versions = (_libvirt_version(link_name(below(root, f"{folder}/libvirt.so.0"))) for folder in folders)
    return {"version": next(filter(None, versions), None), **_assigns_pci(root, groups, folders)}


def _qemu_version(path: str) -> str | None:
    """The version that --version would print, which stands as plain text in the program (system/vl.c: version()).

    To find it takes a twentieth of the time that it takes to run the program.
    """
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as program:
            start = program.find(_BANNER) + len(_BANNER)
            banner = program[start : start + 32] if start >= len(_BANNER) else b""
    except (OSError, ValueError):
        return None
    found = re.match(rb"\d+(?:\.\d+)+", banner)
    return found.group().decode() if found else None


def _libvirt_version(library: str | None) -> str | None:
    """From the library's name, 0.(1000 * major + minor).micro (meson.build): libvirt.so.0.11003.0 is 11.3.0."""
    numbers = re.fullmatch(r"libvirt\.so\.0\.(\d+)\.(\d+)", library or "")
    return "{}.{}.{}".format(*divmod(int(numbers.group(1)), 1000), numbers.group(2)) if numbers else None


def _assigns_pci(root: str, groups: int | None, folders: t.Sequence[str]) -> Facts:
    """libvirt's own test before it assigns a device, and whether its driver for QEMU is there to do it.

    virHostHasIOMMU (src/util/virutil.c) wants any entry in /sys/kernel/iommu_groups, and
    virHostdevHostSupportsPassthroughVFIO (src/hypervisor/virhostdev.c, before that
    qemuHostdevHostSupportsPassthroughVFIO in src/qemu/qemu_hostdev.c) wants /dev/vfio/vfio besides.
    """
    driver = any(exists(root, f"{folder}/libvirt/connection-driver/libvirt_driver_qemu.so") for folder in folders)
    needs = {
        "there are no IOMMU groups (/sys/kernel/iommu_groups)": None if groups is None else groups > 0,
        "/dev/vfio/vfio is missing": _vfio(root),
        "libvirt's QEMU driver (libvirt_driver_qemu.so) is not installed": driver if folders else None,
    }
    missing = [reason for reason, met in needs.items() if met is False]
    if missing:
        return {"assigns_pci": False, "reason": "; ".join(missing)}
    return {"assigns_pci": True if all(needs.values()) else None, "reason": None}


def _vfio(root: str) -> bool | None:
    """Whether /dev/vfio/vfio is there; a captured tree without /dev may still have it among the misc devices."""
    if exists(root, "/dev/vfio/vfio") or (root != "/" and exists(root, "/sys/class/misc/vfio")):
        return True
    return False if names(below(root, "/dev")) else None


def _library_folders(root: str) -> list[str]:
    """Where libraries lie: /usr/lib64, /usr/lib, and Debian's folder of each architecture; those that hold anything."""
    inner = names(below(root, "/usr/lib"))
    folders = ["/usr/lib64"] if names(below(root, "/usr/lib64")) else []
    return [*folders, *(["/usr/lib"] if inner else []), *(f"/usr/lib/{name}" for name in inner if "-linux-" in name)]
