# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands that boot loaders bring: which of them a root has, and how they are run."""

from __future__ import annotations

import os
import typing as t

from ._errors import HostFailure, Refused
from ._files import read_file
from ._sysfs import below

_TOOL_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
_TIME_LIMIT = 600

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]


def tool(root: str, *candidates: str) -> str | None:
    """The path, on the host itself, of the first of these commands that is installed."""
    for name in candidates:
        for folder in _TOOL_FOLDERS:
            if exists(root, f"{folder}/{name}"):
                return f"{folder}/{name}"
    return None


def needed(root: str, *candidates: str) -> str:
    found = tool(root, *candidates)
    if found is None:
        raise Refused(
            f"{' or '.join(candidates)} is not installed; install it, or set boot_loader to what boots this host"
        )
    return found


def proxmox(root: str) -> str | None:
    """proxmox-boot-tool, where it is what fills the boot partitions."""
    listed = (read_file(below(root, "/etc/kernel/proxmox-boot-uuids")) or b"").strip()
    return tool(root, "proxmox-boot-tool") if listed else None


def exists(root: str, path: str) -> bool:
    # A link whose target is absolute looks broken below another root.
    return os.path.lexists(below(root, path))


def command(argv: list[str], run: Run) -> str:
    """Run a command with a time limit (timeout of coreutils); its output."""
    code, out, err = run(limited(argv))
    if code in (124, 137):
        raise HostFailure(f"{' '.join(argv)} took longer than {_TIME_LIMIT} seconds and was ended")
    if code:
        said = (err.strip() or out.strip() or "nothing").splitlines()
        raise HostFailure(f"{' '.join(argv)} failed with code {code}: {' / '.join(said[-5:])}")
    return out


def limited(argv: list[str]) -> list[str]:
    return ["timeout", "--kill-after=10", str(_TIME_LIMIT), *argv]
