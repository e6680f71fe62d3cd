# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Boot entries as the Boot Loader Specification has them; grubby and kernel-install write such files."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ._boot_tools import exists
from ._files import read_file
from ._kernel_line import words
from ._sysfs import below, names


@dataclass(frozen=True)
class BootEntry:
    """An entry of the Boot Loader Specification."""

    file: str
    version: str
    args: list[str]
    image: str | None = None


def boot_entries(root: str) -> list[BootEntry]:
    """The entries in loader/entries, wherever the boot partition is mounted."""
    found = []
    for folder in ("/boot", "/boot/efi", "/efi"):
        place = below(root, f"{folder}/loader/entries")
        for name in (name for name in names(place) if name.endswith(".conf")):
            keys: dict[str, str] = {}
            for line in (read_file(os.path.join(place, name)) or b"").decode("utf-8", "replace").splitlines():
                word, _blank, value = line.strip().partition(" ")
                # options may stand more than once, and are joined.
                keys[word] = f"{keys[word]} {value.strip()}" if word == "options" and word in keys else value.strip()
            version = keys.get("version", "")
            images = (
                f"/usr/lib/modules/{version}/vmlinuz",
                f"/lib/modules/{version}/vmlinuz",
                f"/boot/vmlinuz-{version}",
            )
            image = next((path for path in images if version and exists(root, path)), None)
            if "linux" in keys:
                found.append(BootEntry(os.path.join(place, name), version, words(keys.get("options", "")), image))
    return found


def kernel_install_entries(root: str) -> list[BootEntry]:
    """Those that kernel-install wrote: their names start with its token."""
    tokens = [
        (read_file(below(root, path)) or b"").decode("ascii", "replace").strip()
        for path in ("/etc/kernel/entry-token", "/etc/machine-id")
    ]
    starts = tuple(f"{token}-" for token in tokens if token)
    return [entry for entry in boot_entries(root) if starts and os.path.basename(entry.file).startswith(starts)]
