# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs inside a root folder, so that nothing outlives them: no mount, no process, no change to this machine.

They resolve names as this machine does, by its own resolv.conf, which they cannot write.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from ui import LabError, Step, last_lines

# All mounts are made in a mount namespace of their own: they vanish with the last process in it.
_ENTER = """
set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 lab "$root/run"
mount -t tmpfs lab "$root/tmp"
if [ -e /etc/resolv.conf ]; then
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    mount -o remount,bind,ro "$root/etc/resolv.conf"
fi
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    if [ "$3" = ro ]; then mount -o remount,bind,ro "$root$2"; fi
    shift 3
done
shift
exec chroot "$root" "$@"
"""

_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Bind(t.NamedTuple):
    """A folder of this machine, and where the program inside the root sees it (below /run or /mnt)."""

    source: Path
    target: str
    writable: bool = False


def enter(root: Path, argv: t.Sequence[str], binds: t.Sequence[Bind] = ()) -> list[str]:
    """Return the command that runs argv inside root, in mounts of its own."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "lab", str(root)]
    for bind in binds:
        command += [str(bind.source), bind.target, "rw" if bind.writable else "ro"]
    return [*command, "--", *argv]


def environment(extra: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what programs inside a root get to see; the caller's proxies are kept."""
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {**_ENVIRONMENT, **proxies, **(extra or {})}


def run(step: Step, argv: t.Sequence[str], log: Path, extra: t.Mapping[str, str] | None = None) -> None:
    """Run a command to its end, its output in the log, its last line shown; take it down with us.

    Its processes live in a PID namespace, so that killing the first one ends them all.
    """
    guarded = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
    guarded += ["--pid", "--fork", "--kill-child=KILL", *argv]
    with log.open("ab") as output:
        process = subprocess.Popen(
            guarded,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(extra),
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                step.at("".join(last_lines(log)))
                time.sleep(0.25)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
    if process.returncode != 0:
        tail = "\n  ".join(last_lines(log, 12))
        raise LabError(f"{step.what} failed (exit {process.returncode}); the end of {log}:\n  {tail}")


def output(root: Path, argv: t.Sequence[str], binds: t.Sequence[Bind] = (), timeout: float = 120.0) -> str:
    """Run a short command inside root and return what it prints."""
    done = subprocess.run(
        enter(root, argv, binds),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"{argv[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
