# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attributes of PCI devices that take the device's lock: driver_override, unbind, sriov_numvfs.

The kernel may hold whoever touches them for ever, where a driver's removal waits for its users (device_lock in
drivers/base). So a child does, for at most so long.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import typing as t

from ._errors import HostFailure
from ._sysfs import below
from ._use import DEVICES

LOOK_TIMEOUT = 10  # seconds for what only reads

WRITE_SCRIPT = """
import os, sys
try:
    descriptor = os.open(sys.argv[1], os.O_WRONLY)
    os.write(descriptor, sys.argv[2].encode())
except OSError as error:
    sys.exit(error.errno)
"""
_READ_SCRIPT = """
import sys
for path in sys.argv[1:]:
    try:
        with open(path) as attribute:
            print(attribute.read().strip())
    except OSError:
        print()
"""

Run = t.Callable[[t.List[str], float], t.Tuple[int, str]]
"""bounded(), or what stands for it: runs a command for at most so many seconds; its return code and what it said."""


class StuckError(Exception):
    """The kernel has not answered within the time limit."""


def read(root: str, addresses: t.Sequence[str], name: str, run: Run) -> dict[str, str]:
    """What an attribute holds, by address; empty where it cannot be read. Raises HostFailure where a device is held."""
    if not addresses:
        return {}
    paths = [below(root, f"{DEVICES}/{address}/{name}") for address in addresses]
    try:
        output = run(_python(_READ_SCRIPT, *paths), LOOK_TIMEOUT)[1]
    except StuckError:
        raise HostFailure(
            f"the kernel does not tell the {name} of {', '.join(addresses)} within {LOOK_TIMEOUT} s: an operation that"
            f" never ended, such as an unbind, still holds a device; reboot the host"
        ) from None
    return dict(zip(addresses, output.split("\n")))


def write(path: str, value: str, timeout: float, run: Run) -> tuple[int, str]:
    """Write an attribute: the kernel's errno, 0 if it took it, and that in words. Raises StuckError."""
    code, output = run(_python(WRITE_SCRIPT, path, value), timeout)
    return code, f"{errno.errorcode[code]}, {os.strerror(code)}" if code in errno.errorcode else output.strip()


def _python(script: str, *args: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", script, *args]


def bounded(argv: list[str], timeout: float) -> tuple[int, str]:
    """Run a command for at most so long: its return code and what it said.

    A child that the kernel holds cannot be killed. It has its own session and none of our streams, so that neither
    this process nor the connection it was started through waits for it.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
        universal_newlines=True,
    )
    try:
        output = child.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        if child.stdout:
            child.stdout.close()
        raise StuckError("") from None
    return child.returncode, output
