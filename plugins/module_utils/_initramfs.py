# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the initramfs images are older than the files that they were made from.

The times of the files are compared, no image is opened. So a rebuild is asked for once too often where a file was only
touched, and not at all where an image was copied or restored later than the change that it lacks.
"""

from __future__ import annotations

import os
import re
import time

from ._sysfs import below, names

# initrd.img-6.1.0-9-amd64 (Debian), initrd-6.4.0-150600-default (SUSE), initramfs-5.14.0-427.el9.x86_64.img (RHEL)
_IMAGE = re.compile(r"(?:initrd\.img-|initrd-)(?P<version>.+)|initramfs-(?P<named>.+)\.img")
# What is not booted in daily use, or is a copy that no tool rebuilds.
_SPARE = re.compile(r"rescue|kdump|\.(?:bak|old|orig|dpkg|old-dkms|rpmsave|rpmnew)|~$")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")


def stale(root: str, sources: list[str]) -> bool | None:
    """Whether any image in ROOT/boot is older than what it was made from; None where there is no image.

    sources are files and folders as the host names them (/etc/modprobe.d), whatever the root; those that do not exist
    do not count. A folder is named beside its files since its time is what tells that one of them was removed.
    """
    images = [stamp for stamp in map(_modified, _images(root)) if stamp is not None]
    if not images:
        return None
    changes = [stamp for stamp in (_changed(below(root, source)) for source in sources) if stamp is not None]
    return bool(changes) and max(changes) > min(images)


def exists(root: str) -> bool:
    """Whether the host boots with an initramfs at all, as far as its files tell."""
    return bool(_images(root))


def _images(root: str) -> list[str]:
    """The images that a kernel of this host may be booted with, wherever the boot loaders keep them."""
    found = []
    kernels = names(below(root, "/lib/modules")) or names(below(root, "/usr/lib/modules"))
    for folder in (below(root, place) for place in ("/boot", "/boot/efi", "/efi")):
        for name in names(folder):
            path = os.path.join(folder, name)
            match = _IMAGE.fullmatch(name)
            if match and not _SPARE.search(name) and not os.path.islink(path):
                version = match.group("version") or match.group("named")
                # The image of a kernel that was removed is never rebuilt, and never booted.
                if not kernels or version in kernels or not version[0].isdigit():
                    found.append(path)
            elif _MACHINE_ID.fullmatch(name):
                # The Boot Loader Specification's layout: MACHINE-ID/VERSION/initrd.
                found += [
                    os.path.join(path, version, image)
                    for version in names(path)
                    for image in names(os.path.join(path, version))
                    if image.startswith("initrd")
                ]
            elif name == "EFI":
                unified = os.path.join(path, "Linux")
                found += [os.path.join(unified, image) for image in names(unified) if image.endswith(".efi")]
    return found


def _modified(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _changed(path: str) -> int | None:
    """When a source was changed; a time that is yet to come never counts, else every image were stale for ever."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    now = time.time_ns()
    past = [stamp for stamp in (status.st_mtime_ns, status.st_ctime_ns) if stamp <= now]
    return past[0] if past else None
