# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of vendors, devices, subsystems and classes, from the pci.ids file that the host has (see pci.ids(5)).

The file holds 40,000 lines, a host has a few devices: so the bytes are searched, and only the sections that are asked
for are looked into.
"""

from __future__ import annotations

import re
import zlib

from . import _sysfs

# Debian and Ubuntu; Red Hat, Arch, Alpine and newer Debian; SUSE.
FOLDERS = ("/usr/share/misc", "/usr/share/hwdata", "/usr/share")

# Where a block of lines ends: at the next line with less indentation that is neither a comment nor empty.
_NO_TAB = re.compile(rb"\n(?![\t#\n])")
_LESS_THAN_TWO_TABS = re.compile(rb"\n(?!\t\t|[#\n])")
_LINE = re.compile(rb"\n")


class PciIds:
    """Answers from the content of a pci.ids file; every answer may be None."""

    def __init__(self, content: bytes) -> None:
        self._content = b"\n" + content
        self._sections: dict[str, bytes] = {}

    def vendor(self, vendor: str) -> str | None:
        return _name(self._section(vendor))

    def device(self, vendor: str, device: str) -> str | None:
        return _name(_below(self._section(vendor), device))

    def subsystem(self, vendor: str, device: str, subvendor: str, subdevice: str) -> str | None:
        """The vendor of the card and, where it is known, the card's own name: the two in the way lspci joins them."""
        entry = _below(self._section(vendor), device)
        card = _name(_block(entry, f"\n\t\t{subvendor} {subdevice}  ", _LINE))
        if card is None and (vendor, device) == (subvendor, subdevice):
            card = _name(entry)
        return " ".join(filter(None, (self.vendor(subvendor), card))) or None

    def pci_class(self, pci_class: str) -> str | None:
        """The name of the subclass, or else of the class, of six hexadecimal digits."""
        section = self._section(f"C {pci_class[:2]}")
        return _name(_below(section, pci_class[2:4])) or _name(section)

    def _section(self, head: str) -> bytes:
        if head not in self._sections:
            self._sections[head] = _block(self._content, f"\n{head}  ", _NO_TAB)
        return self._sections[head]


def load(root: str) -> PciIds:
    """The host's own pci.ids; one that knows no names where there is none."""
    for folder in FOLDERS:
        path = _sysfs.below(root, folder + "/pci.ids")
        content = _sysfs.read_file(path)
        if content is None:
            content = _decompressed(_sysfs.read_file(path + ".gz"))
        if content is not None:
            return PciIds(content)
    return PciIds(b"")


def _decompressed(content: bytes | None) -> bytes | None:
    try:
        # 31: the header and trailer of gzip around it.
        return None if content is None else zlib.decompress(content, 31)
    except zlib.error:
        return None


def _below(section: bytes, number: str) -> bytes:
    """A device of a vendor, or a subclass of a class, and what is below it."""
    return _block(section, f"\n\t{number}  ", _LESS_THAN_TWO_TABS)


def _block(text: bytes, head: str, end: re.Pattern[bytes]) -> bytes:
    """What follows head: the rest of its line, and the lines below it up to the end."""
    # From the end, since the classes are there.
    start = text.rfind(head.encode())
    if start < 0:
        return b""
    start += len(head)
    found = end.search(text, start)
    return text[start : found.start()] if found else text[start:]


def _name(block: bytes) -> str | None:
    return block.partition(b"\n")[0].strip().decode("utf-8", "replace") or None
