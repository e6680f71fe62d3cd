# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what this machine lacks to run a lab, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import typing as t
from pathlib import Path

import images
import store
from profiles import DEFAULT, PROFILES

_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "chroot": "coreutils",
    "apt-get": "apt",
}
_DISK_GIB = 6  # to build the images
_LAB_GIB = 2  # what a lab writes
_PATH = "/usr/sbin:/sbin"  # not everybody's PATH has them


class Report(t.NamedTuple):
    """What was looked at, and what has to change; nothing has to if there are no problems."""

    found: list[str]
    problems: list[str]


def examine(cards: str = DEFAULT) -> Report:
    """Look at everything that a lab with these cards needs of this machine."""
    found: list[str] = []
    problems: list[str] = []
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        problems.append(f"this is {platform.system()} on {platform.machine()}; a lab needs Linux on x86_64")
    if os.geteuid() != 0:
        problems.append("the lab needs root (mounts, chroot): run it with sudo")
    if not problems:
        found.append("machine: Linux on x86_64, and we are root")
    path = f"{os.environ.get('PATH', '')}:{_PATH}"
    missing = sorted({package for program, package in _PACKAGES.items() if not shutil.which(program, path=path)})
    if not images.KEYRING.exists():
        missing.append("debian-archive-keyring")
    if missing:
        problems.append(f"missing packages: apt-get install --yes --no-install-recommends {' '.join(missing)}")
    elif subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        problems.append("mounts are not allowed here (unshare --mount): use a real machine or a privileged container")
    found.append(f"Debian mirror: {images.mirror() or 'the default of mmdebstrap'}")
    problems += _room(PROFILES[cards].memory, found)
    return Report(found, problems)


def _room(memory: int, found: list[str]) -> list[str]:
    """Return what is too small."""
    problems = []
    folder = store.cache()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free >> 30
    found.append(f"cache: {folder}, {free} GiB free")
    needed = _LAB_GIB if list(folder.glob("images/host-*/disk.raw")) else _DISK_GIB
    if free < needed:
        problems.append(f"{folder} has {free} GiB free, a lab takes {needed}: set KVM_PASSTHROUGH_CACHE")
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) >> 10
    found.append(f"memory: {available} MiB available")
    if available < memory:
        problems.append(f"{available} MiB of memory available, this lab takes up to {memory}: end something big")
    return problems
