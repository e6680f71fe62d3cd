# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _pci_ids
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PCI_IDS

IDS = _pci_ids.PciIds(PCI_IDS.encode())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (IDS.vendor("8086"), "Intel Corporation"),
        (IDS.vendor("1397"), "Cologne Chip Designs GmbH"),
        (IDS.vendor("ffff"), None),
        (IDS.device("1397", "08b4"), "ISDN network Controller [HFC-4S]"),
        (IDS.device("1397", "16b8"), "ISDN network Controller [HFC-8S]"),
        # A device of the next vendor, and a subsystem that looks like a device.
        (IDS.device("1397", "10d3"), None),
        (IDS.device("1397", "1397"), None),
        (IDS.device("ffff", "08b4"), None),
        (IDS.subsystem("1397", "08b4", "1397", "b520"), "Cologne Chip Designs GmbH HFC-4S [IOB4ST]"),
        (IDS.subsystem("1397", "16b8", "1397", "b520"), "Cologne Chip Designs GmbH"),
        (IDS.subsystem("8086", "10d3", "8086", "10d3"), "Intel Corporation 82574L Gigabit Network Connection"),
        (IDS.subsystem("8086", "10d3", "1397", "0001"), "Cologne Chip Designs GmbH"),
        (IDS.subsystem("8086", "10d3", "abcd", "0001"), None),
        (IDS.pci_class("020400"), "ISDN controller"),
        (IDS.pci_class("028000"), "Network controller"),
        (IDS.pci_class("060401"), "PCI bridge"),
        (IDS.pci_class("ff0000"), None),
    ],
)
def test_names(found: str | None, expected: str | None) -> None:
    assert found == expected


@pytest.mark.parametrize("content", [b"", b"\n", b"8086", b"\x1f\x8b\x00", b"\t10d3  orphan\n", b"8086  \n\t10d3  \n"])
def test_odd_files_know_nothing(content: bytes) -> None:
    ids = _pci_ids.PciIds(content)
    assert (ids.vendor("8086"), ids.device("8086", "10d3"), ids.pci_class("020000")) == (None, None, None)


def test_a_name_that_is_not_utf8() -> None:
    assert _pci_ids.PciIds(b"8086  Int\xe9l\n").vendor("8086") == "Int\ufffdl"


@pytest.mark.parametrize("folder", ["usr/share/misc", "usr/share/hwdata", "usr/share"])
@pytest.mark.parametrize("compressed", [False, True])
def test_where_the_file_is(tmp_path: Path, folder: str, compressed: bool) -> None:
    (tmp_path / folder).mkdir(parents=True)
    content = PCI_IDS.encode()
    name = "pci.ids.gz" if compressed else "pci.ids"
    (tmp_path / folder / name).write_bytes(gzip.compress(content) if compressed else content)
    assert _pci_ids.load(str(tmp_path)).vendor("8086") == "Intel Corporation"


@pytest.mark.parametrize("content", [None, b"", b"no gzip", gzip.compress(PCI_IDS.encode())[:-20]])
def test_no_file_or_a_broken_one(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "usr/share/misc").mkdir(parents=True)
    if content is not None:
        (tmp_path / "usr/share/misc/pci.ids.gz").write_bytes(content)
    assert _pci_ids.load(str(tmp_path)).vendor("8086") is None
