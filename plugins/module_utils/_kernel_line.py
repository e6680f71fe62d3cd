# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The arguments of a kernel command line as the kernel takes them: what is one, which are the same, which counts."""

from __future__ import annotations

import re

from ._errors import InvalidInput
from ._sysfs import below, read_bytes

# No blank, quote, or sign that the shell, GRUB's own shell or sed in grubby would take for anything but itself.
_ARGUMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:=[A-Za-z0-9_.,:/=+@%^!~-]*)?")
# The kernel's next_arg() in lib/cmdline.c: blanks separate, double quotes hold together.
WORD_PATTERN = re.compile(r'(?:"[^"]*"?|[^\s"])+')
# Every occurrence counts, for the kernel or for who reads /proc/cmdline. Of all others the last one wins.
_REPEATED = frozenset(
    (
        *("acpi_osi", "blacklist", "bond", "bridge", "console", "crashkernel", "earlycon", "earlyprintk", "hugepages"),
        *("hugepagesz", "ifname", "initcall_blacklist", "ip", "memmap", "modprobe.blacklist", "nameserver", "pci"),
        *("systemd.mask", "systemd.setenv", "systemd.wants", "team", "video", "vlan"),
    )
)


def check(args: list[str], present: bool = True) -> list[str]:
    """The arguments without repetition, if each of them can be passed by every boot loader."""
    wanted: list[str] = []
    for arg in args:
        if not _ARGUMENT.fullmatch(arg):
            raise InvalidInput(
                f"{arg!r} is not an argument that can be passed: write NAME or NAME=VALUE, of letters, digits and "
                "_ . , : / = + @ % ^ ! ~ - only"
            )
        if not any(same(arg, other) for other in wanted):
            wanted.append(arg)
    for arg in wanted if present else []:
        rival = next((other for other in wanted if rivals(arg, other)), None)
        if rival:
            raise InvalidInput(f"{arg} and {rival} contradict each other: the kernel takes the last one only")
    return wanted


def key(arg: str) -> str:
    """The parameter's name; '-' and '_' are the same to the kernel (kernel/params.c)."""
    return arg.split("=", 1)[0].replace("-", "_")


def same(one: str, other: str) -> bool:
    return key(one) == key(other) and one.split("=", 1)[1:] == other.split("=", 1)[1:]


def repeats(arg: str) -> bool:
    return arg.split("=", 1)[0] in _REPEATED or arg.startswith("rd.")


def rivals(one: str, other: str) -> bool:
    """Whether only the later one of two arguments counts, and that makes a difference."""
    return key(one) == key(other) and not same(one, other) and not repeats(one)


def holds(line: list[str], arg: str) -> bool:
    """Whether a kernel with these arguments acts on arg."""
    named = [word for word in line if key(word) == key(arg)]
    return any(same(word, arg) for word in (named if repeats(arg) else named[-1:]))


def faults_of(lines: dict[str, list[str]], wanted: list[str], unwanted: list[str]) -> list[str]:
    """Where the boot loader would not pass what is wanted, or would pass what is not."""
    found = []
    for place, line in lines.items():
        found += [f"{place} lacks {arg}" for arg in wanted if not holds(line, arg)]
        found += [f"{place} still has {arg}" for arg in unwanted if any(same(word, arg) for word in line)]
    return found


def words(line: str) -> list[str]:
    """The arguments of a kernel command line; what follows "--" is init's."""
    found = WORD_PATTERN.findall(line)
    return found[: found.index("--")] if "--" in found else found


def running(root: str) -> list[str] | None:
    """The arguments that the running kernel got; None where none runs on this root."""
    line = read_bytes(below(root, "/proc/cmdline"))
    return None if line is None else words(line.decode("utf-8", "replace"))
