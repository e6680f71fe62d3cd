# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Entries of modprobe.d that keep a module from being loaded, and what the host has of it now.

The files are read as libkmod reads them (libkmod-config.c, modprobe.d(5)): a backslash joins lines and is dropped
before any other character, only a '#' in the first column makes a comment, words are separated by blanks and tabs, and
a carriage return is a part of the word before it. They are edited as bytes, whole lines at a time.
"""

from __future__ import annotations

import fnmatch
import os
import re
import typing as t
from dataclasses import dataclass

from . import _initramfs
from ._errors import InvalidInput, Refused
from ._files import FileChange, read_file
from ._sysfs import below, names, read_text

FOLDER = "/etc/modprobe.d"
# From high to low: a file hides those of the same name in the folders after its own (modprobe.d(5)).
FOLDERS = (FOLDER, "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
HEADER = b"# Written by kvm.passthrough.modprobe_blacklist; lines of your own may stand beside its entries.\n"

_MODULE = re.compile(r"[A-Za-z0-9_-]+")
# A command that does nothing, so that the module is never loaded. A comment may follow, since a shell runs it.
_NOTHING = re.compile(rb"[ \t]*(?:/usr)?/bin/(?:false|true)[ \t\r]*(?:[ \t]#.*)?")


@dataclass(frozen=True)
class Line:
    """A logical line: its bytes in the file with every continuation, and the text that libkmod makes of them."""

    raw: bytes
    number: int
    text: bytes
    complete: bool = True  # It ends in a newline that no backslash takes away, so that a line may follow it.


@dataclass(frozen=True)
class Entry:
    """A blacklist or install entry. command is None for blacklist."""

    module: str
    command: bytes | None
    file: str
    line: int
    effective: bool = True

    @property
    def blocks(self) -> bool:
        return self.command is None or bool(_NOTHING.fullmatch(self.command))

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Plan:
    """The change of the file, and what the module returns of it."""

    change: FileChange
    report: dict[str, t.Any]
    warnings: list[str]


def normalise(module: str) -> str:
    """A module's name in the kernel's spelling; '-' and '_' are the same to kmod."""
    if not _MODULE.fullmatch(module):
        raise InvalidInput(
            f"{module!r} is not a module's name: it may hold letters, digits, '_' and '-' only, as in snd_hda_intel"
        )
    return module.replace("-", "_")


def lines(content: bytes) -> list[Line]:
    """The logical lines of a file; joined, their bytes are the file."""
    found = []
    start = position = 0
    number, first = 1, 1
    text = bytearray()
    while position < len(content):
        byte = content[position : position + 1]
        position += 1
        if byte == b"\\" and position < len(content):
            byte = content[position : position + 1]
            position += 1
            if byte == b"\n":
                number += 1
            else:
                text += byte
        elif byte == b"\n":
            found.append(Line(content[start:position], first, bytes(text)))
            number += 1
            start, first = position, number
            text.clear()
        elif byte != b"\\":
            text += byte
    if start < len(content):
        found.append(Line(content[start:], first, bytes(text), complete=False))
    return found


def entry(line: Line, file: str) -> Entry | None:
    """The blacklist or install entry that a line makes, if any."""
    if line.text.startswith(b"#"):
        return None
    words = re.match(rb"[ \t]*(blacklist|install)[ \t]+([^ \t]+)(.*)", line.text, re.DOTALL)
    if not words:
        return None
    name = words.group(2).decode("ascii", "backslashreplace")
    command = words.group(3) if words.group(1) == b"install" else None
    if command is not None and not command.strip():
        return None
    # kmod would blacklist a module whose name ends in a carriage return: what was meant is clear, that it fails, too.
    return Entry(name.rstrip("\r").replace("-", "_"), command, file, line.number, effective=not name.endswith("\r"))


def entries(content: bytes | None, file: str) -> list[Entry]:
    """The blacklist and install entries of a file, in its order."""
    return [found for found in (entry(line, file) for line in lines(content or b"")) if found]


def read_order(root: str) -> list[str]:
    """The files that modprobe reads, in its order, each by its path below the root."""
    files: dict[str, str] = {}
    for folder in (below(root, folder) for folder in FOLDERS):
        for name in names(folder):
            path = os.path.join(folder, name)
            if name.endswith(".conf") and not name.startswith(".") and not os.path.isdir(path):
                files.setdefault(name, path)
    # Python sorts text by code point, as strcmp sorts UTF-8.
    return [files[name] for name in sorted(files)]


def edit(content: bytes | None, path: str, modules: list[str], present: bool, install: bool) -> bytes | None:
    """The file's content with, or without, the entries of the modules. None is a file that is not there."""
    kept = lines(content or b"")
    if not present:
        return _without(content, kept, path, lambda found: found.module in modules)
    if not install:
        unwanted = [line for line in kept if _is(line, path, lambda e: e.module in modules and e.command is not None)]
        kept = [line for line in kept if line not in unwanted]
    held = [found for found in (entry(line, path) for line in kept) if found and found.effective and found.blocks]
    added = b""
    for module in modules:
        if not any(found.module == module and found.command is None for found in held):
            added += b"blacklist " + module.encode() + b"\n"
        if install and not any(found.module == module and found.command is not None for found in held):
            added += b"install " + module.encode() + b" /bin/false\n"
    if added and content is None:
        added = HEADER + added
    # Before a last line that nothing may follow, so that its missing newline or its backslash stays what it is.
    place = len(kept) - 1 if kept and not kept[-1].complete else len(kept)
    result = b"".join(line.raw for line in kept[:place]) + added + b"".join(line.raw for line in kept[place:])
    return result if result or content is not None else None


def decide(
    root: str, file: str, modules: list[str], present: bool = True, install: bool = False, release: str = ""
) -> Plan:
    """What becomes of the file. release is the running kernel's, for a root that does not tell its own."""
    if "/" in file or file.startswith(".") or not re.fullmatch(r"[\x21-\x7e]+\.conf", file):
        raise InvalidInput(
            f"{file!r} is not a file that modprobe reads below {FOLDER}: name one that ends in .conf, without a folder"
        )
    path = os.path.join(below(root, FOLDER), file)
    wanted = list(dict.fromkeys(normalise(module) for module in modules))
    if os.path.islink(path):
        raise Refused(f"{path} is a link to {os.readlink(path)}, which would be replaced; choose a file of its own")
    before = read_file(path)
    change = FileChange(path, before, edit(before, path, wanted, present, install) if wanted else before)
    if before is None and change.changed:
        _refuse_to_hide(root, file)

    after = entries(change.after, path)
    held = sorted({found.module for found in after if found.blocks and found.effective})
    subject = wanted or held
    others = [found for other in read_order(root) if other != path for found in entries(read_file(other), other)]
    if present and install:
        _refuse_to_lose(root, path, wanted, after, others)
    stale = _initramfs.stale(root, [f"{FOLDER}/{file}", FOLDER])
    return Plan(
        change,
        {
            "changed": change.changed,
            "file": path,
            "modules": wanted,
            "entries": held,
            "also_in": [
                {"module": found.module, "file": found.file, "line": found.line}
                for found in others
                if found.module in subject and found.blocks and found.effective
            ],
            "loaded": [module for module in subject if module in loaded(root)],
            "built_in": [module for module in subject if module in built_in(root, release)],
            # No image can hold what is yet to be written.
            "initramfs_stale": True if change.changed and stale is not None else stale,
        },
        _warnings(path, subject, after, others, present and install),
    )


def loaded(root: str) -> set[str]:
    """The modules that are loaded now, from /proc/modules."""
    text = read_file(below(root, "/proc/modules")) or b""
    return {line.split()[0].decode("ascii", "replace") for line in text.splitlines() if line.strip()}


def built_in(root: str, release: str = "") -> set[str]:
    """The modules that are a part of the kernel, which no blacklist reaches; of all kernels where none runs."""
    running = read_text(below(root, "/proc/sys/kernel/osrelease")) or release
    found: set[str] = set()
    for folder in (below(root, "/lib/modules"), below(root, "/usr/lib/modules")):
        for kernel in [running] if running else names(folder):
            text = read_file(os.path.join(folder, kernel, "modules.builtin")) or b""
            paths = text.decode("ascii", "replace").split()
            found |= {os.path.basename(path).split(".ko")[0].replace("-", "_") for path in paths}
    return found


def _without(
    content: bytes | None, all_lines: list[Line], path: str, leaves: t.Callable[[Entry], bool]
) -> bytes | None:
    kept = [line for line in all_lines if not _is(line, path, leaves)]
    if len(kept) == len(all_lines):
        return content
    if not any(_is(line, path, lambda found: True) for line in kept):
        kept = [line for line in kept if line.raw != HEADER]
    return b"".join(line.raw for line in kept) or None


def _is(line: Line, path: str, condition: t.Callable[[Entry], bool]) -> bool:
    found = entry(line, path)
    return found is not None and found.blocks and condition(found)


def _refuse_to_hide(root: str, file: str) -> None:
    for folder in FOLDERS[1:]:
        hidden = os.path.join(below(root, folder), file)
        if os.path.exists(hidden):
            raise Refused(f"{below(root, FOLDER)}/{file} would hide {hidden} from modprobe; choose another name for it")


def _refuse_to_lose(root: str, path: str, modules: list[str], ours: list[Entry], others: list[Entry]) -> None:
    """Another install line, with a command of its own, is what modprobe uses if it reads that one first."""
    earlier = [found for found in others if os.path.basename(found.file) < os.path.basename(path)]
    for module in modules:
        matching = [
            found for found in earlier + ours if found.command is not None and fnmatch.fnmatchcase(module, found.module)
        ]
        if matching and not matching[0].blocks:
            found = matching[0]
            command = (found.command or b"").strip().decode("utf-8", "backslashreplace")
            raise Refused(
                f"{found.place} already says what happens instead of loading {module} ({command}), and wins over "
                f"an entry in {path}; remove it there, or do not ask for install"
            )


def _warnings(path: str, subject: list[str], ours: list[Entry], others: list[Entry], install: bool) -> list[str]:
    result = [
        f"{found.place} ends in a carriage return, which modprobe takes for a part of the name: its entry for "
        f"{found.module} has no effect"
        for found in ours + others
        if found.module in subject and not found.effective and found.command is None
    ]
    if install:
        result += [
            f"{found.place} has a command of its own for {module}, which the install entry now keeps from being run"
            for found in others
            for module in subject
            if os.path.basename(found.file) > os.path.basename(path)
            and found.command is not None
            and not found.blocks
            and fnmatch.fnmatchcase(module, found.module)
        ]
    return result
