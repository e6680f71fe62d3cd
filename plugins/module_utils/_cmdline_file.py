# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""/etc/kernel/cmdline: kernel-install with systemd-boot, and Proxmox."""

from __future__ import annotations

import re
import typing as t

from ._boot_entries import kernel_install_entries
from ._boot_plan import Plan, read_record, record_around
from ._boot_tools import needed
from ._errors import Refused
from ._files import FileChange, read_file
from ._kernel_line import WORD_PATTERN, faults_of, holds, rivals, same
from ._sysfs import below, read_bytes

CMDLINE = "/etc/kernel/cmdline"


def cmdline_plan(root: str, boot_loader: str, args: list[str], present: bool) -> Plan:
    path = below(root, CMDLINE)
    before = read_file(path)
    record = read_record(root)
    base = _base(root) if before is None else before
    if b"\r" in base and args:
        raise Refused(f"{path} holds a carriage return, which the kernel gets as a part of an argument; remove it")
    first_only = boot_loader == "proxmox"
    text = base.decode("latin-1")
    there = [text[start:end] for start, end in _spans(text, first_only)]
    added = [entry for entry in record["added"] if any(same(entry["arg"], word) for word in there)]
    for arg in args:
        text = _with(text, arg, first_only, added) if present else _without(text, arg, first_only, added)
    # Where the file is ours as a whole, the record keeps what it was made from, so that it can go again.
    created = base.decode("latin-1") if before is None else record["created"]
    unmade = text == created and not added
    whole = FileChange(path, before, None if unmade else text.encode("latin-1"))
    # kernel-install would take the arguments of the running kernel again, were the file gone while it runs.
    change = FileChange(path, before, text.encode("latin-1")) if before is not None else whole
    final = {"added": added, "created": created if added else None}

    def faults() -> list[str]:
        lines = {} if first_only else {e.file: e.args for e in kernel_install_entries(root) if e.image}
        return faults_of(lines, args if present else [], [] if present else args)

    commands = []
    if args and (whole.changed or record["pending"] or faults()):
        commands = _refresh(root, first_only)
    files: list[FileChange] = []
    finish: list[FileChange] = []
    if args:
        files, finish = record_around(root, record, final, [change], commands)
        finish = [FileChange(path, change.after, whole.after), *finish]
    diff = [whole.diff()] if args and whole.changed else []
    return Plan(boot_loader, root, files, commands, finish, [entry["arg"] for entry in added], [], diff, faults)


def _base(root: str) -> bytes:
    """What kernel-install takes where /etc/kernel/cmdline is missing (90-loaderentry.install)."""
    packaged = read_file(below(root, "/usr/lib/kernel/cmdline"))
    if packaged is not None:
        return packaged
    passed = (read_bytes(below(root, "/proc/cmdline")) or b"").split()
    line = [word for word in passed if not word.startswith((b"BOOT_IMAGE=", b"initrd="))]
    if not line:
        raise Refused(f"{below(root, CMDLINE)} is missing, and there is no running kernel to take its arguments from")
    return b" ".join(line) + b"\n"


def _spans(text: str, first_only: bool) -> list[tuple[int, int]]:
    """Where the kernel's arguments stand. kernel-install joins all lines, proxmox-boot-tool reads the first."""
    found: list[tuple[int, int]] = []
    for line in re.finditer(r"[^\n]*\S[^\n]*", text):
        if line.group().startswith("#") and not first_only:
            continue
        for word in WORD_PATTERN.finditer(line.group()):
            if word.group() == "--":
                return found
            found.append((line.start() + word.start(), line.start() + word.end()))
        if first_only:
            break
    return found


def _with(text: str, arg: str, first_only: bool, added: list[dict[str, t.Any]]) -> str:
    spans = _spans(text, first_only)
    if holds([text[start:end] for start, end in spans], arg):
        return text
    rival = [span for span in spans if rivals(text[span[0] : span[1]], arg)]
    if not rival:
        end = spans[-1][1] if spans else 0
        added.append({"arg": arg, "replaced": None})
        return f"{text[:end]} {arg}{text[end:]}" if spans else f"{arg} {text}".rstrip(" ")
    start, end = rival[-1]
    previous = next((entry for entry in added if same(entry["arg"], text[start:end])), None)
    if previous:
        # It was ours: what the user had before is still what is restored.
        added.remove(previous)
    original = previous["replaced"] if previous else text[start:end]
    if original is None or not same(original, arg):
        added.append({"arg": arg, "replaced": original})
    return text[:start] + (original if original and same(original, arg) else arg) + text[end:]


def _without(text: str, arg: str, first_only: bool, added: list[dict[str, t.Any]]) -> str:
    entry = next((entry for entry in added if same(entry["arg"], arg)), None)
    for start, end in reversed([s for s in _spans(text, first_only) if same(text[s[0] : s[1]], arg)]):
        if entry and entry["replaced"]:
            text = text[:start] + entry["replaced"] + text[end:]
            entry = {**entry, "replaced": None}
            continue
        left = len(text[:start].rstrip(" \t"))
        if left == 0 or text[left - 1] == "\n":
            # The first of its line takes the blanks after it along.
            text = text[:start] + text[end:].lstrip(" \t")
        else:
            text = text[:left] + text[end:]
    added[:] = [other for other in added if not same(other["arg"], arg)]
    return text


def _refresh(root: str, is_proxmox: bool) -> list[list[str]]:
    if is_proxmox:
        return [[needed(root, "proxmox-boot-tool"), "refresh"]]
    tool_path = needed(root, "kernel-install")
    kernels = {entry.version: entry.image for entry in kernel_install_entries(root) if entry.image}
    if not kernels:
        raise Refused(
            "no entry in loader/entries below /boot, /boot/efi or /efi was written by kernel-install for a kernel that "
            f"is installed, so that this host does not boot with {CMDLINE}; add the arguments to its entries by hand"
        )
    return [[tool_path, "add", version, image] for version, image in sorted(kernels.items()) if image]
