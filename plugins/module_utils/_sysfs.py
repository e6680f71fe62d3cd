# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading attributes below /sys and /proc, of this machine or of a captured tree.

Every function takes a plain path. A device may vanish and an attribute may be unreadable at any moment, so that
"is not there" and "may not be read" are answers, not exceptions. Writing is not done here.
"""

from __future__ import annotations

import errno
import os
import re
import typing as t

# A PCI address as the kernel writes it.
PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
# What open() and read() say of an attribute that is not there, or whose device has gone or sleeps.
_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EIO, errno.EINVAL, errno.EISDIR))
_DENIED = frozenset((errno.EACCES, errno.EPERM))


def below(root: str, path: str) -> str:
    """The absolute path as it is found on another root: below('/mnt', '/sys/bus') is '/mnt/sys/bus'."""
    return path if root == "/" else root.rstrip("/") + path


def read_bytes(
    path: str, size: int = 65536, denied: t.Callable[[str], None] | None = None, dir_fd: int | None = None
) -> bytes | None:
    """The first size bytes of an attribute; None where it is absent or may not be read.

    denied is called with the path where the kernel refused the read for want of permission. With dir_fd, an open
    folder, the path is relative to it: whoever reads many attributes of a device saves the walk to each.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as error:
        _note_absent(error, path, denied)
        return None
    try:
        return os.read(descriptor, size)
    except OSError as error:
        _note_absent(error, path, denied)
        return None
    finally:
        os.close(descriptor)


def read_text(path: str, denied: t.Callable[[str], None] | None = None, dir_fd: int | None = None) -> str | None:
    """An attribute as text without surrounding white space; None where it is absent or may not be read."""
    data = read_bytes(path, denied=denied, dir_fd=dir_fd)
    return None if data is None else data.decode("utf-8", "replace").strip()


def read_int(
    path: str, base: int = 10, denied: t.Callable[[str], None] | None = None, dir_fd: int | None = None
) -> int | None:
    """An attribute as a number; None where it is absent, may not be read, or holds no number."""
    data = read_bytes(path, denied=denied, dir_fd=dir_fd)
    try:
        return None if data is None else int(data, base)
    except ValueError:
        return None


def read_file(path: str) -> bytes | None:
    """A whole file of any size (modules.alias, pci.ids); None where it is absent or may not be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None


def link_name(path: str, dir_fd: int | None = None) -> str | None:
    """The last part of what a link points to (driver, iommu_group, physfn); None where there is no link."""
    try:
        return os.path.basename(os.readlink(path, dir_fd=dir_fd))
    except OSError:
        return None


def names(path: str) -> list[str]:
    """What a folder holds, sorted; empty where it is not there or may not be read."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _note_absent(error: OSError, path: str, denied: t.Callable[[str], None] | None) -> None:
    if error.errno in _DENIED:
        if denied is not None:
            denied(path)
    elif error.errno not in _ABSENT:
        raise error
