# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
import tarfile
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _misdn
from ansible_collections.kvm.passthrough.tests.unit.machines import FIXTURES
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space

TIES = {
    "d_protocols": ["TE_S0", "NT_S0"],
    "b_protocols": ["RAW", "HDLC", "X75SLP", "L2DSP", "L2DSPHDLC"],
    "address": None,
    "driver": None,
}


@pytest.fixture
def guest(tmp_path: Path) -> str:
    """Debian 13 with mISDN_dsp, two basic rates and a primary rate of l1oip; a program has opened the first."""
    with tarfile.open(FIXTURES / "l1oip-guest.tar.xz") as capture:
        capture.extractall(tmp_path, filter="tar")
    return str(tmp_path)


def controller(root: Path, folder: str, name: str, **attributes: str) -> Path:
    place = root / folder.lstrip("/") / "mISDN" / name
    place.mkdir(parents=True)
    given = {"id": "0\n", "name": name, "nrbchan": "2\n", "d_protocols": "6\n", "b_protocols": "14\n"}
    for attribute, text in {**given, "protocol": "0\n", "channelmap": "011", **attributes}.items():
        (place / attribute).write_text(text)
    link = root / "sys/class/mISDN" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(place)
    return place


def test_recorded_guest(guest: str) -> None:
    """The last channel of a primary rate is not in sysfs, so that a capture does not tell the numbers."""
    primary = {**TIES, "d_protocols": ["TE_E1", "NT_E1"]}
    assert _misdn.read_misdn(guest) == {
        "available": True,
        "version": None,
        "controllers": [
            {"id": 0, "name": "l1oip-s0.1", "channels": 2, "channel_numbers": [1, 2], "mode": "TE_S0", **TIES},
            {"id": 1, "name": "l1oip-s0.2", "channels": 2, "channel_numbers": [1, 2], "mode": None, **TIES},
            {"id": 2, "name": "l1oip-e1.3", "channels": 30, "channel_numbers": None, "mode": None, **primary},
        ],
    }


@pytest.mark.parametrize("loaded", [True, False])
def test_no_controllers(tmp_path: Path, loaded: bool) -> None:
    """The class comes with mISDN_core."""
    if loaded:
        (tmp_path / "sys/class/mISDN").mkdir(parents=True)
    assert _misdn.read_misdn(str(tmp_path)) == {"available": loaded, "version": None, "controllers": []}


def test_port_of_a_card(tmp_path: Path) -> None:
    tree = PciTree(tmp_path)
    card = tree.add("0000:05:00.0", config_space(), driver="hfc_multi")
    for number, port in enumerate((2, 1)):
        place = controller(tmp_path, str(card.relative_to(tmp_path)), f"hfc-4s.1-{port}", id=f"{1 - number}\n")
        (place / "device").symlink_to(card)
    found = _misdn.read_misdn(str(tmp_path))["controllers"]
    assert [(one["name"], one["address"], one["driver"]) for one in found] == [
        ("hfc-4s.1-1", "0000:05:00.0", "hfc_multi"),
        ("hfc-4s.1-2", "0000:05:00.0", "hfc_multi"),
    ]


def test_adapter_on_usb(tmp_path: Path) -> None:
    place = controller(tmp_path, "sys/devices/usb1/1-1/1-1:1.0", "HFC-S_USB.1")
    (place / "device").symlink_to(place.parent.parent)
    found = _misdn.read_misdn(str(tmp_path))["controllers"]
    assert [(one["name"], one["address"]) for one in found] == [("HFC-S_USB.1", None)]


def test_controller_that_vanishes(tmp_path: Path) -> None:
    (controller(tmp_path, "sys/devices/virtual", "l1oip-s0.1") / "nrbchan").unlink()
    assert _misdn.read_misdn(str(tmp_path))["controllers"] == []


@pytest.mark.parametrize(
    ("protocol", "mode"), [("0", None), ("1", "TE_S0"), ("2", "NT_S0"), ("6", "NT_UP0"), ("16", None), ("", None)]
)
def test_mode(tmp_path: Path, protocol: str, mode: str | None) -> None:
    place = controller(tmp_path, "sys/devices/virtual", "l1oip-s0.1", protocol=f"{protocol}\n")
    assert (_misdn.read_controller(str(place)) or {})["mode"] == mode


@pytest.mark.parametrize(
    ("mask", "known", "protocols"),
    [
        (0x06, _misdn.D_PROTOCOLS, ["TE_S0", "NT_S0"]),
        (0x18, _misdn.D_PROTOCOLS, ["TE_E1", "NT_E1"]),
        (0x0E, _misdn.B_PROTOCOLS, ["RAW", "HDLC", "X75SLP"]),
        (0x82, _misdn.B_PROTOCOLS, ["RAW", "T30_FAX"]),
        (0x01, _misdn.D_PROTOCOLS, []),
    ],
)
def test_protocols(mask: int, known: tuple[str, ...], protocols: list[str]) -> None:
    assert _misdn.named(mask, known) == protocols


@pytest.mark.parametrize(
    ("channels", "count"), [([1, 2], 2), ([*range(1, 16), *range(17, 32)], 30), ([*range(1, 127)], 126)]
)
def test_channels_of_devinfo(channels: list[int], count: int) -> None:
    """As the kernel writes it: 126 channels are what ISDN over IP can have."""
    mask = sum(1 << number for number in channels).to_bytes(16, "little")
    devinfo = struct.pack("=IIII16sI20s", 2, 0x18, 0x0E, 0, mask, count, b"l1oip-e1.3")
    assert _misdn.channel_numbers(devinfo) == channels


def test_this_machine() -> None:
    """Whatever it has, nothing fails."""
    found = _misdn.read_misdn()
    assert found["available"] == Path(_misdn.CLASS).is_dir()
    assert len({one["id"] for one in found["controllers"]}) == len(found["controllers"])


def test_messages_of_a_recorded_guest(guest: str) -> None:
    assert _misdn.read_messages(guest) == [
        "DSP module 2.0",
        "mISDN_dsp: DSP clocks every 64 samples. This equals 2 jiffies.",
        "mISDN: Layer-1-over-IP driver Rev. 2.00",
        "3 virtual devices registered",
    ]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("mISDN: HFC-multi driver 2.03", True),
        ("Unknown HFC multiport controller (vendor:1397 device:08b4 subvendor:1397 subdevice:b752)", True),
        ("Please contact the driver maintainer for support.", True),
        ("HFC_multi: detected HFC with chip ID=0xc0 revision=1", True),
        ("card 1: defined at MEMBASE 0x12 (0x34) IRQ 20 HZ 250 leds-type 2", True),
        ("controller has given PCM BUS ID 3", True),
        ("4 devices registered", True),
        ("AVM.1: IRQ(20) getting no IRQs during init 1", True),
        ("AVM Fritz PCI driver Rev. 2.3", True),
        ("speedfax+ pci 0000:05:00.0: Direct firmware load for isdn/ISAR.BIN failed with error -2", True),
        ("Infineon ISDN Driver Rev. 1.0", True),
        ("Winbond W6692 PCI driver Rev. 2.0", True),
        ("Codec(7) not supported.", True),
        ("Warning: No 'id' value given or 0, this is highly unsecure. Please use 32 bit random number 0x...", True),
        ("wcb4xxp 0000:05:00.0: probe called for b4xx...", True),
        ("dahdi: Version: 3.4.0", True),
        ("e1000e 0000:01:00.0 eth0: registered PHC clock", False),
        ("usb 1-2: Product: FRITZ!WLAN AC 860", False),
        ("cx23885 driver version 0.0.4 loaded", False),
        ("snd_hda_intel 0000:00:1b.0: DSP detected with PCI class", False),
        ("NET: Registered PF_VSOCK protocol family", False),
    ],
)
def test_message(tmp_path: Path, line: str, shown: bool) -> None:
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/dmesg").write_text(f"[    1.000000] Linux version 6.12\n[    2.000000] {line}\n")
    assert _misdn.read_messages(str(tmp_path)) == ([line] if shown else [])


def test_no_messages_to_read(tmp_path: Path) -> None:
    assert _misdn.read_messages(str(tmp_path)) is None
