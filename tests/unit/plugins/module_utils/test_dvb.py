# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import struct
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _dvb, _kmsg
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

LOADER = "budget_ci dvb 0000:06:01.0: Direct firmware load for dvb-fe-tda10046.fw failed with error -2"


def info(name: bytes, frequencies: tuple[int, int], rates: tuple[int, int] = (0, 0)) -> bytes:
    """struct dvb_frontend_info as the kernel fills it in."""
    return struct.pack("=128s10I", name, 0, *frequencies, 166667, 0, *rates, 0, 0, 0x2C0)


def properties(systems: bytes, current: int) -> bytes:
    """struct dtv_property of DTV_ENUM_DELSYS and of DTV_DELIVERY_SYSTEM."""
    pointer = "8x" if sys.maxsize > 1 << 32 else "4x"
    both = struct.Struct(f"=I12x32sI12x{pointer}i")
    return both.pack(44, systems, len(systems), 0) + both.pack(17, struct.pack("=I", current), 0, 0)


@pytest.mark.parametrize(
    ("answer", "systems", "expected"),
    [
        pytest.param(
            info(b"Philips TDA10046H DVB-T\0rest", (48000000, 864000000)),
            properties(b"\x03", 3),
            ("Philips TDA10046H DVB-T", ["DVBT"], 48000000, 864000000, None, None),
            id="terrestrial: Hz",
        ),
        pytest.param(
            info(b"ST STV0299 DVB-S", (950000, 2150000), (1000000, 45000000)),
            properties(b"\x05", 5),
            ("ST STV0299 DVB-S", ["DVBS"], 950000000, 2150000000, 1000000, 45000000),
            id="satellite: kHz",
        ),
        pytest.param(
            info(b"Silicon Labs Si2183", (42000000, 870000000), (1000000, 7200000)),
            properties(b"\x03\x10\x01\x05\x06\x07", 16),
            ("Silicon Labs Si2183", ["DVBT", "DVBT2", "DVBC_ANNEX_A", "DVBS", "DVBS2", "DVBH"])
            + (42000000, 870000000, 1000000, 7200000),
            id="both, set to DVB-T2",
        ),
        pytest.param(
            info(b"Silicon Labs Si2183", (250000, 2300000), (1000000, 45000000)),
            properties(b"\x03\x10\x06", 6),
            ("Silicon Labs Si2183", ["DVBT", "DVBT2", "DVBS2"], 250000000, 2300000000, 1000000, 45000000),
            id="both, set to DVB-S2",
        ),
        pytest.param(
            info(b"", (0, 0)),
            properties(b"\x2a", 0),
            ("", ["42"], None, None, None, None),
            id="a driver without limits",
        ),
    ],
)
def test_decode(answer: bytes, systems: bytes, expected: tuple[t.Any, ...]) -> None:
    assert tuple(_dvb.decode(answer, systems).values()) == (*expected, None)


def test_requests() -> None:
    """As the kernel's headers make them for a 64-bit program."""
    assert _dvb._FE_GET_INFO == 0x80A86F3D
    if sys.maxsize > 1 << 32:
        assert _dvb._FE_GET_PROPERTY == 0x80106F53
        assert _dvb._PROPERTY.size == 76


@pytest.mark.parametrize(
    ("place", "reason"), [("absent", "No such file or directory"), ("file", "Inappropriate ioctl for device")]
)
def test_cannot_ask(place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = str(tmp_path / place)
    answer = _dvb.ask_frontend(path)
    assert answer.pop("error") == f"{path}: {reason}"
    assert set(answer.values()) == {None}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_may_not_ask(tmp_path: Path) -> None:
    (tmp_path / "frontend0").touch(mode=0)
    path = str(tmp_path / "frontend0")
    assert _dvb.ask_frontend(path)["error"] == f"{path}: Permission denied"


def adapter(root: Path, number: int, device: Path, names: str) -> None:
    """A registered adapter, as dvb_register_device of dvbdev.c leaves it in sysfs."""
    (root / "sys/class/dvb").mkdir(parents=True, exist_ok=True)
    for name in names.split():
        place = device / "dvb" / f"dvb{number}.{name}"
        place.mkdir(parents=True)
        link = root / "sys/class/dvb" / place.name
        link.symlink_to(os.path.relpath(place, link.parent))
        (place / "device").symlink_to(f"../../../{device.name}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A PCI card with two frontends, and vidtv."""
    tree = PciTree(tmp_path)
    card = tree.add("0000:06:01.0", None, pci_id="1131:7146", subsystem="13c2:1011", driver="budget_ci dvb")
    (card / "subsystem").symlink_to(os.path.relpath(tmp_path / "sys/bus/pci", card))
    adapter(tmp_path, 10, card, "net0 frontend1 frontend0 dvr0 demux0")
    # Its adapter belongs to the I2C bus of the card, as with some real ones.
    software = tmp_path / "sys/devices/platform/vidtv.0"
    (tmp_path / "sys/bus/platform/drivers/vidtv").mkdir(parents=True)
    (software / "i2c-1").mkdir(parents=True)
    (software / "subsystem").symlink_to("../../../bus/platform")
    (software / "driver").symlink_to("../../../bus/platform/drivers/vidtv")
    (software / "i2c-1/subsystem").symlink_to("../../../../bus/i2c")
    adapter(tmp_path, 2, software / "i2c-1", "frontend0 demux0")
    return tmp_path


def test_adapters(root: Path) -> None:
    """By number, not by name; each frontend is asked once."""
    (root / "sys/class/dvb/other").touch()
    found = _dvb.read_adapters(str(root), lambda path: {"path": path})
    assert found == [
        {
            "number": 2,
            "address": None,
            "driver": "vidtv",
            "devices": ["demux0", "frontend0"],
            "frontends": [{"number": 0, "path": "/dev/dvb/adapter2/frontend0"}],
        },
        {
            "number": 10,
            "address": "0000:06:01.0",
            "driver": "budget_ci dvb",
            "devices": ["demux0", "dvr0", "frontend0", "frontend1", "net0"],
            "frontends": [
                {"number": 0, "path": "/dev/dvb/adapter10/frontend0"},
                {"number": 1, "path": "/dev/dvb/adapter10/frontend1"},
            ],
        },
    ]


def test_another_root(root: Path) -> None:
    """Its frontends are named but not asked, whatever this machine has below /dev/dvb."""
    facts = _dvb.read_dvb(str(root))
    assert [set(one.values()) for one in facts["adapters"][1]["frontends"]] == [{0, None}, {1, None}]
    assert (facts["missing_firmware"], facts["messages"]) == (None, None)


def test_messages(root: Path) -> None:
    (root / "var/log").mkdir(parents=True)
    (root / "var/log/dmesg").write_text(
        "[    1.0] e1000e 0000:01:00.0: registered\n"
        "[    2.0] dvbdev: DVB: registering new adapter (TT-Budget/WinTV-NOVA-T\tPCI)\n"
        f"[    3.0] {LOADER}\n"
        "[    4.0] iwlwifi 0000:02:00.0: Direct firmware load for iwlwifi-9000.ucode failed with error -2\n"
    )
    facts = _dvb.read_dvb(str(root))
    assert facts["messages"] == ["dvbdev: DVB: registering new adapter (TT-Budget/WinTV-NOVA-T\tPCI)", LOADER]
    assert facts["missing_firmware"] == [{"file": "dvb-fe-tda10046.fw", "driver": "budget_ci dvb", "message": LOADER}]


@pytest.mark.parametrize(
    "place",
    [
        "lib/firmware",
        "lib/firmware/6.12.1",
        "lib/firmware/updates",
        "lib/firmware/updates/6.12.1",
        "srv/firmware",
    ],
)
@pytest.mark.parametrize("ending", ["", ".xz", ".zst"])
def test_firmware_installed_since(place: str, ending: str, root: Path) -> None:
    files = {
        "var/log/dmesg": f"[    3.0] {LOADER}\n",
        "proc/sys/kernel/osrelease": "6.12.1\n",
        "sys/module/firmware_class/parameters/path": "/srv/firmware\n",
        f"{place}/dvb-fe-tda10046.fw{ending}": "",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    assert _dvb.read_dvb(str(root))["missing_firmware"] == []


def missing(*texts: str) -> list[tuple[str, str | None, str]]:
    messages = [_kmsg.Message(1.0, 4, text) for text in texts]
    return [
        (one["file"], one["driver"], one["message"]) for one in _dvb.missing_firmware(messages, lambda _file: False)
    ]


@pytest.mark.parametrize(
    ("text", "file", "driver"),
    [
        (LOADER, "dvb-fe-tda10046.fw", "budget_ci dvb"),
        ("dvb_ttpci: could not load firmware, file not found: dvb-ttpci-01.fw", "dvb-ttpci-01.fw", "dvb_ttpci"),
        ("si2168 6-0064: firmware file 'dvb-demod-si2168-b40-01.fw' not found", "dvb-demod-si2168-b40-01.fw", "si2168"),
        ("drxk: Could not load firmware file drxk_a3.mc.", "drxk_a3.mc", "drxk"),
        ("ngene 0000:03:00.0: Could not load firmware file ngene_18.fw.", "ngene_18.fw", "ngene"),
        (
            "cx23885: did not find the firmware file 'dvb-netup-altera-01.fw'. You can use <kernel_dir>/scripts/…",
            "dvb-netup-altera-01.fw",
            "cx23885",
        ),
        ("xc2028 5-0061: Failed to request firmware xc3028-v27.fw", "xc3028-v27.fw", "xc2028"),
        ("cx25840 4-0044: unable to open firmware v4l-cx23885-avcore-01.fw", "v4l-cx23885-avcore-01.fw", "cx25840"),
        ("usb 1-1: Direct firmware load for dvb-usb-it9135-02.fw failed with error -2", "dvb-usb-it9135-02.fw", "usb"),
        ("SMI PCIe driver 0000:05:00.0: Direct firmware load for x.fw failed with error -2", "x.fw", "SMI PCIe driver"),
    ],
)
def test_missing_firmware(text: str, file: str, driver: str) -> None:
    assert missing(text) == [(file, driver, text)]


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(
            ["i915 0000:00:02.0: Direct firmware load for i915/x.bin failed with error -2"], id="other drivers"
        ),
        pytest.param([LOADER.replace("-2", "-5")], id="there, but unreadable"),
        pytest.param(["sp8870: no firmware upload (timeout or file not found?)"], id="no name"),
        pytest.param(["budget: firmware: failed to load dvb.fw (-2)"], id="a try, of which Debian's kernel tells"),
        pytest.param(
            [LOADER, "budget_ci dvb 0000:06:01.0: firmware: direct-loading firmware dvb-fe-tda10046.fw"],
            id="found later, kernels of Debian up to 6.1",
        ),
        pytest.param(
            [
                "si2168 6-0064: firmware file 'dvb-demod-si2168-b40-01.fw' not found",
                "si2168 6-0064: downloading firmware from file 'dvb-demod-si2168-b40-01.fw'",
            ],
            id="found later, by the driver",
        ),
        pytest.param(
            [LOADER, "tda1004x: please rename the firmware file to dvb-fe-tda10046.fw"], id="another file will do"
        ),
        pytest.param(
            [
                "si2157 6-0060: firmware: failed to load dvb_driver_si2157_rom50.fw (-2)",
                "si2157 6-0060: downloading firmware from file 'dvb-tuner-si2157-a30-01.fw'",
            ],
            id="the second name is there",
        ),
        pytest.param(
            [
                "si2157 6-0060: firmware: failed to load dvb_driver_si2158_rom51.fw (-2)",
                "si2157 6-0060: Can't continue without a firmware.",
                "si2157 6-0060: downloading firmware from file 'dvb-tuner-si2158-a20-01.fw'",
            ],
            id="the second name was there later",
        ),
        pytest.param(
            [
                "si2157 6-0060: firmware: failed to load dvb_driver_si2157_rom50.fw (-2)",
                "si2157 7-0060: Can't continue without a firmware.",
            ],
            id="another chip gave up",
        ),
    ],
)
def test_no_missing_firmware(texts: list[str]) -> None:
    assert missing(*texts) == []


def test_each_file_once() -> None:
    """The loader tells first, with the device; what the driver says of it adds nothing."""
    other = LOADER.replace("tda10046", "tda10045")
    assert [file for file, _driver, _text in missing(LOADER, other, LOADER)] == [
        "dvb-fe-tda10046.fw",
        "dvb-fe-tda10045.fw",
    ]


def test_quiet_tries() -> None:
    """si2157 asks without the loader's message, and names no file when it gives up."""
    tries = [f"si2157 6-0060: firmware: failed to load {file} (-2)" for file in ("a.fw", "b.fw")]
    quiet = "si2157 6-0060: Can't continue without a firmware."
    assert missing(*tries, quiet) == [("a.fw", "si2157", tries[0]), ("b.fw", "si2157", tries[1])]


def test_a_neighbour_is_still_missing() -> None:
    """That one file of a device was loaded says nothing about its other one."""
    absent = "cx23885 0000:05:00.0: Direct firmware load for v4l-cx23885-enc.fw failed with error -2"
    texts = [
        "cx23885 0000:05:00.0: firmware: failed to load v4l-cx23885-enc.fw (-2)",
        absent,
        "cx23885 0000:05:00.0: firmware: direct-loading firmware v4l-cx23885-avcore-01.fw",
    ]
    assert missing(*texts) == [("v4l-cx23885-enc.fw", "cx23885", absent)]


def test_no_root(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"root: there is no folder {tmp_path}/absent"):
        _dvb.read_dvb(f"{tmp_path}/absent")
