# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps things, and the locks that let two of them run side by side."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import typing as t
from pathlib import Path

from ui import LabError


def cache() -> Path:
    """Return the cache folder."""
    chosen = os.environ.get("KVM_PASSTHROUGH_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().resolve() / "kvm.passthrough"


def images_folder() -> Path:
    return _made(cache() / "images")


def labs_folder() -> Path:
    return _made(cache() / "labs")


def locks_folder() -> Path:
    return _made(cache() / "locks")


def _made(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"cannot make the cache folder {path}: {error.strerror}; set KVM_PASSTHROUGH_CACHE") from error
    return path


class Lock:
    """A file lock that the kernel releases when its holder ends, however it ends."""

    def __init__(self, name: str) -> None:
        self._file: t.IO[str] = (locks_folder() / name).open("a")

    def shared(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def exclusive(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def try_exclusive(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        self._file.close()


@contextlib.contextmanager
def locked(name: str) -> t.Iterator[None]:
    """Hold the lock of that name."""
    lock = Lock(name)
    lock.exclusive()
    try:
        yield
    finally:
        lock.release()


def ssh_key() -> Path:
    """Return the private key of this cache's labs; the first call makes it."""
    key = _made(cache() / "ssh") / "id_ed25519"
    with locked("ssh-key"):
        if not key.with_suffix(".pub").exists():
            key.unlink(missing_ok=True)
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kvm.passthrough lab", "-f", str(key)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return key
