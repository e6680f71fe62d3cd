# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _guests
from ansible_collections.kvm.passthrough.plugins.module_utils._guests import Guest
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

GIB = 1 << 30
CARD = "<address domain='0x0000' bus='0x06' slot='0x0a' function='0x1'/>"
TYPED = CARD.replace(" ", " type='pci' ", 1)
NOTE = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n"


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def hostdev(address: str = CARD, kind: str = "pci") -> str:
    inside = "<address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>"
    return f"<hostdev mode='subsystem' type='{kind}' managed='yes'><source>{address}</source>{inside}</hostdev>"


def domain(name: str = "fax1", devices: str = "", memory: str = "<memory unit='KiB'>1048576</memory>") -> str:
    return f"<domain type='kvm'>\n<name>{name}</name>\n{memory}\n<devices>{devices}</devices>\n</domain>\n"


def running(tree: PciTree, text: str, name: str = "fax1", state: str = "running") -> None:
    wrapped = f"<domstatus state='{state}' reason='booted' pid='4711'>\n<taint flag='x'/>\n{text}</domstatus>\n"
    tree.write(f"/run/libvirt/qemu/{name}.xml", NOTE + wrapped)


def configured(tree: PciTree, text: str, name: str = "fax1") -> None:
    tree.write(f"/etc/libvirt/qemu/{name}.xml", NOTE + text)


def test_no_libvirt(tree: PciTree) -> None:
    assert _guests.read_guests(str(tree.root)) == []


def test_a_configured_guest(tree: PciTree) -> None:
    configured(tree, domain(devices=hostdev()))
    assert _guests.read_guests(str(tree.root)) == [
        Guest("fax1", False, False, ("0000:06:0a.1",), GIB, "/etc/libvirt/qemu/fax1.xml")
    ]


@pytest.mark.parametrize("state", ["running", "paused", "pmsuspended"])
def test_a_running_guest(tree: PciTree, state: str) -> None:
    """A transient one: nothing of it is configured, so that its autostart cannot be told."""
    running(tree, domain(devices=hostdev()), state=state)
    assert _guests.read_guests(str(tree.root)) == [
        Guest("fax1", True, None, ("0000:06:0a.1",), GIB, "/run/libvirt/qemu/fax1.xml")
    ]


def test_running_and_configured_is_one(tree: PciTree) -> None:
    other = "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>"
    running(tree, domain(devices=hostdev(), memory="<memory unit='KiB'>2097152</memory>"))
    configured(tree, domain(devices=hostdev() + hostdev(other)))
    configured(tree, domain("dvb1"), "dvb1")
    assert _guests.read_guests(str(tree.root)) == [
        Guest("dvb1", False, False, (), GIB, "/etc/libvirt/qemu/dvb1.xml"),
        Guest("fax1", True, False, ("0000:01:00.0", "0000:06:0a.1"), 2 * GIB, "/run/libvirt/qemu/fax1.xml"),
    ]


@pytest.mark.parametrize(
    ("devices", "addresses"),
    [
        pytest.param(hostdev(), ("0000:06:0a.1",), id="hostdev"),
        pytest.param(hostdev() + hostdev(), ("0000:06:0a.1",), id="twice"),
        pytest.param(hostdev("<address bus='6' slot='10' function='1'/>"), ("0000:06:0a.1",), id="decimal"),
        pytest.param(
            hostdev("<address domain='0x10000' bus='0xe1' slot='0x1f' function='0x7'/>"), ("10000:e1:1f.7",), id="vmd"
        ),
        pytest.param(
            f"<interface type='hostdev'><source>{TYPED}</source></interface>",
            ("0000:06:0a.1",),
            id="interface",
        ),
        pytest.param(
            "<interface type='network'><source network='vfs'/>"
            f"<actual type='hostdev'><source>{CARD}</source></actual></interface>",
            ("0000:06:0a.1",),
            id="network-of-virtual-functions",
        ),
        pytest.param(
            f"<disk type='nvme' device='disk'><source type='pci' namespace='1'>{CARD}</source></disk>",
            ("0000:06:0a.1",),
            id="nvme",
        ),
        pytest.param(hostdev("<vendor id='0x1234'/><address bus='1' device='3'/>", "usb"), (), id="usb"),
        pytest.param(
            hostdev("<adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/>", "scsi"), (), id="scsi"
        ),
        pytest.param(hostdev("<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/>", "mdev"), (), id="mdev"),
        pytest.param(
            f"<interface type='bridge'><source bridge='br0'/>{CARD}</interface>", (), id="address-in-the-guest"
        ),
        pytest.param(hostdev("<address bus='six' slot='0' function='0'/>"), (), id="no-number"),
        pytest.param("", (), id="none"),
    ],
)
def test_devices(tree: PciTree, devices: str, addresses: tuple[str, ...]) -> None:
    configured(tree, domain(devices=devices))
    assert [guest.devices for guest in _guests.read_guests(str(tree.root))] == [addresses]


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("<memory unit='KiB'>524288</memory>", GIB // 2),
        ("<memory>524288</memory>", GIB // 2),
        ("<memory unit='GiB'>2</memory>", 2 * GIB),
        ("<memory dumpCore='on' unit='bytes'>4096</memory>", 4096),
        ("<memory unit='furlong'>1</memory>", None),
        ("<memory unit='KiB'>much</memory>", None),
        ("<memory unit='KiB'/>", None),
        ("", None),
    ],
)
def test_memory(tree: PciTree, memory: str, size: int | None) -> None:
    configured(tree, domain(memory=memory))
    assert [guest.memory for guest in _guests.read_guests(str(tree.root))] == [size]


@pytest.mark.parametrize(("linked", "autostart"), [(["fax1.xml"], True), (["dvb1.xml"], False), ([], False)])
def test_autostart(tree: PciTree, linked: list[str], autostart: bool) -> None:
    configured(tree, domain())
    folder = tree.root / "etc/libvirt/qemu/autostart"
    folder.mkdir()
    for name in linked:
        (folder / name).symlink_to(f"/etc/libvirt/qemu/{name}")
    assert [guest.autostart for guest in _guests.read_guests(str(tree.root))] == [autostart]


def test_autostart_that_cannot_be_read(tree: PciTree) -> None:
    configured(tree, domain())
    tree.write("/etc/libvirt/qemu/autostart", "")
    assert [guest.autostart for guest in _guests.read_guests(str(tree.root))] == [None]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(domain()[:-20].encode(), id="cut-off"),
        pytest.param(b"\xff\xfe<", id="no-utf-8"),
        pytest.param(domain().encode("utf-16"), id="utf-16"),
        pytest.param(b"<network><name>default</name></network>", id="network"),
        pytest.param(b"<domstatus state='running'/>", id="status-of-nothing"),
        pytest.param(b"<domain type='kvm'><memory>1</memory></domain>", id="no-name"),
        pytest.param(b"<!DOCTYPE d [<!ENTITY a 'fax1'>]>" + domain("&a;").encode(), id="entity"),
        pytest.param(b"<!DOCTYPE domain>" + domain().encode(), id="doctype"),
    ],
)
def test_what_is_no_definition_is_left_out(tree: PciTree, content: bytes) -> None:
    for folder in ("/etc/libvirt/qemu", "/run/libvirt/qemu"):
        tree.write(f"{folder}/bad.xml", content)
    tree.write("/etc/libvirt/qemu/fax1.xml.new", domain())
    tree.write("/etc/libvirt/qemu/networks/default.xml", domain())
    configured(tree, domain("good"), "good")
    assert [guest.name for guest in _guests.read_guests(str(tree.root))] == ["good"]
