# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kernel modules claim a PCI device: its modalias against the aliases that depmod collected (see depmod(8)).

Like libkmod, and so like lspci -k: loadable modules in the order of modules.alias, and what is built into the kernel
only where no loadable module claims the device. An alias has the form pci:vVdDsvSVsdSDbcBCscSCiI, where each number
is eight, or for the class two, hexadecimal digits, or a star (file2alias.c of the kernel).
"""

from __future__ import annotations

import os
import typing as t

from . import _sysfs

_FOLDERS = ("/lib/modules", "/usr/lib/modules")
_PREFIX = "pci:v"
_VENDOR = len("00008086d")
_DEVICE = len("00008086d000010D3")


def claims(root: str, modaliases: t.Iterable[str]) -> dict[str, list[str]]:
    """For every modalias the modules that claim it; none where the modules of the kernel are not installed."""
    wanted = {modalias for modalias in modaliases if modalias.startswith(_PREFIX)}
    folder = _module_folder(root)
    if folder is None:
        return {}
    claimed = _matches(_loadable(folder), wanted)
    unclaimed = wanted.difference(claimed)
    if unclaimed:
        claimed.update(_matches(_builtin(folder), unclaimed))
    return claimed


def _module_folder(root: str) -> str | None:
    """Where depmod's files of the kernel lie: the running one, or of another root the one that ran or is installed."""
    folders = [_sysfs.below(root, folder) for folder in _FOLDERS]
    release = os.uname().release if root == "/" else _sysfs.read_text(_sysfs.below(root, "/proc/sys/kernel/osrelease"))
    for folder in folders:
        installed = _sysfs.names(folder)
        if release in installed:
            return f"{folder}/{release}"
        if release is None and len(installed) == 1:
            return f"{folder}/{installed[0]}"
    return None


def _loadable(folder: str) -> list[bytes]:
    """The aliases of modules.alias, each from behind its pci:v on, followed by a blank and the module."""
    content = b"\n" + (_sysfs.read_file(folder + "/modules.alias") or b"")
    # Split at C speed instead of 20,000 steps of a loop; a piece may go on with lines about other busses.
    return content.split(b"\nalias pci:v")[1:]


def _builtin(folder: str) -> list[bytes]:
    """The same of what is built into the kernel: entries MODULE.alias=ALIAS, each ended by a NUL."""
    entries = (_sysfs.read_file(folder + "/modules.builtin.modinfo") or b"").split(b"\0")
    found = (entry.partition(b".alias=pci:v") for entry in entries)
    return [alias + b" " + module for module, _separator, alias in found if alias]


def _matches(pieces: list[bytes], modaliases: t.Iterable[str]) -> dict[str, list[str]]:
    """The modules of each modalias that has any, in the order of the pieces."""
    numbers = {modalias: modalias[len(_PREFIX) :].encode() for modalias in modaliases}
    starts = {text[:_DEVICE] for text in numbers.values()} | {text[:_VENDOR] + b"*" for text in numbers.values()}
    # Few of the pieces concern these devices; each is then tried only on the devices whose numbers it starts with.
    near = [
        (order, piece)
        for order, piece in enumerate(pieces)
        if piece[:_DEVICE] in starts or piece[: _VENDOR + 1] in starts or piece[:1] == b"*"
    ]
    index: dict[bytes, list[tuple[int, bytes, str]]] = {}
    for order, piece in near:
        alias, _blank, module = piece.partition(b"\n")[0].partition(b" ")
        start = next((alias[:size] for size in (_DEVICE, _VENDOR + 1) if alias[:size] in starts), b"*")
        index.setdefault(start, []).append((order, alias, module.strip().decode("utf-8", "replace")))
    claimed: dict[str, list[str]] = {}
    for modalias, text in numbers.items():
        tried = sorted(sum((index.get(start, []) for start in (text[:_DEVICE], text[:_VENDOR] + b"*", b"*")), []))
        modules = [module for _order, alias, module in tried if module and _glob(alias, text)]
        if modules:
            claimed[modalias] = list(dict.fromkeys(modules))
    return claimed


def _glob(pattern: bytes, text: bytes) -> bool:
    """Whether a pattern whose only wildcard is the star matches the whole text."""
    first, *parts = pattern.split(b"*")
    if not parts:
        return first == text
    if not text.startswith(first):
        return False
    position, last = len(first), parts.pop()
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return position <= len(text) - len(last) and text.endswith(last)
