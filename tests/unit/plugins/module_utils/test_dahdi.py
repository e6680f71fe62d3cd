# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _dahdi
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space

SPAN = """\
Span 1: B4/0/1 "B4XXP (PCI) Card 0 Span 1" (MASTER) AMI/CCS RED\x20
\tTiming slips: 3

\t   1 B4/0/1/1 Clear (In use)\x20
\t   2 B4/0/1/2 Clear (EC: MG2 - INACTIVE)\x20
\t   3 B4/0/1/3 Hardware-assisted HDLC (In use) RED\x20
"""


def span(root: Path, place: Path, number: int, **attributes: str) -> None:
    folder = place / f"span-{number}"
    folder.mkdir(parents=True)
    given = {"name": f"B4/0/{number}", "desc": f"B4XXP (PCI) Card 0 Span {number}", "spantype": "BRI_TE"}
    given.update(alarms="0x0", lineconfig="", is_sync_master="0", basechan=str(3 * number - 2), channels="3")
    for name, text in {**given, **attributes}.items():
        (folder / name).write_text(f"{text}\n")
    link = root / "sys/bus/dahdi_spans/devices" / folder.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)


def test_card(tmp_path: Path) -> None:
    """DAHDI puts a device of its own, pci:ADDRESS, between the card and its spans."""
    tree = PciTree(tmp_path)
    card = tree.add("0000:05:00.0", config_space(), driver="wcb4xxp") / "pci:0000:05:00.0"
    span(tmp_path, card, 10)
    span(tmp_path, card, 1, alarms="0x8", lineconfig="AMI/CCS", is_sync_master="1")
    tree.write("/proc/dahdi/1", SPAN)
    tree.write("/sys/module/dahdi/version", "3.4.0\n")
    found = _dahdi.read_dahdi(str(tmp_path))
    assert (found["available"], found["version"]) == (True, "3.4.0")
    assert [one["number"] for one in found["spans"]] == [1, 10]
    assert found["spans"][0] == {
        "number": 1,
        "name": "B4/0/1",
        "description": "B4XXP (PCI) Card 0 Span 1",
        "type": "BRI_TE",
        "line": "AMI/CCS",
        "channels": 3,
        "first_channel": 1,
        "signalling": ["Clear", "Clear", "Hardware-assisted HDLC"],
        "alarms": ["RED"],
        "master": True,
        "address": "0000:05:00.0",
        "driver": "wcb4xxp",
    }
    assert (found["spans"][1]["line"], found["spans"][1]["signalling"], found["spans"][1]["alarms"]) == (None, [], [])


def test_span_without_a_card(tmp_path: Path) -> None:
    """As Debian 13 showed two spans of dahdi_dynamic_loc, of which two channels were configured."""
    for number in (1, 2):
        name = f"DYN/loc/1:{number - 1}"
        channels = (f"\t{channel + 3 * number - 3:4} {name}/{channel} " for channel in (1, 2, 3))
        configured = ("Clear \n", "Clear \n", "\n") if number == 1 else ("\n",) * 3
        text = f"""Span {number}: {name} "Dynamic 'loc' span at '1:{number - 1}'" \n\n"""
        text += "".join(map("".join, zip(channels, configured)))
        span(tmp_path, tmp_path / "sys/devices/dahdi_dynamic", number, name=name, spantype="DYNAMIC")
        (tmp_path / "proc/dahdi").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"proc/dahdi/{number}").write_text(text)
    found = _dahdi.read_dahdi(str(tmp_path))["spans"]
    assert [(one["name"], one["type"], one["address"], one["driver"]) for one in found] == [
        ("DYN/loc/1:0", "DYNAMIC", None, None),
        ("DYN/loc/1:1", "DYNAMIC", None, None),
    ]
    assert [one["signalling"] for one in found] == [["Clear", "Clear", None], [None, None, None]]


def test_span_that_vanishes(tmp_path: Path) -> None:
    span(tmp_path, tmp_path / "sys/devices/dynamic", 1)
    (tmp_path / "sys/devices/dynamic/span-1/channels").unlink()
    assert _dahdi.read_dahdi(str(tmp_path))["spans"] == []


def test_no_dahdi(tmp_path: Path) -> None:
    assert _dahdi.read_dahdi(str(tmp_path)) == {"available": False, "version": None, "spans": []}


@pytest.mark.parametrize(
    ("line", "configured"),
    [
        ("\t   1 B4/0/1/1 \n", [None]),
        ("\t   1 B4/0/1/1", [None]),
        ("\t   1 Clear \n", ["Clear"]),
        ("\t  17 TE2/0/1/16 HDLCFCS (In use) \n", ["HDLCFCS"]),
        ("\t   1 WCTDM/0/0 FXSKS Master (In use) (EC: OSLEC - ACTIVE) \n", ["FXSKS"]),
        ("\t   1 X/1 E&M-E1 \n", ["E&M-E1"]),
        ("\t   1 X/1 DACS+RBS \n", ["DACS+RBS"]),
        ("\t   1 X/1 SF (ToneOnly) \n", ["SF (ToneOnly)"]),
        ("\t   1 X/1 Reserved \n", ["Reserved"]),
        ("\tIRQ misses: 12\n", []),
        ('Span 1: X/1 "A span" (MASTER) \n', []),
    ],
)
def test_signalling(line: str, configured: list[str | None]) -> None:
    assert _dahdi.signalling(line) == configured


@pytest.mark.parametrize(
    ("mask", "names"), [(0, []), (0x8, ["RED"]), (0x104, ["YELLOW", "LOS"]), (0x21, ["RECOVERING", "NOTOPEN"])]
)
def test_alarms(mask: int, names: list[str]) -> None:
    assert _dahdi.alarms(mask) == names
