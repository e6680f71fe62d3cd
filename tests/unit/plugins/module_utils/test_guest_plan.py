# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput
from ansible_collections.kvm.passthrough.plugins.module_utils._guest_plan import guest_plan
from ansible_collections.kvm.passthrough.tests.unit.guest_xml import (
    DATA,
    IMAGES,
    MAC,
    ROOT,
    SEED,
    cdrom,
    disk,
    hostdev,
    nic,
    recorded,
    wanted,
)

PRESENT, LIVE = recorded("noted-inactive"), recorded("noted-live")
ALL = (disk("root", "vda"), disk("data", "vdb", serial="data"), cdrom(), nic())
NEW = f"disk {IMAGES}/fax1-new.qcow2"


def plan(want: str, live: str = LIVE, present: str = PRESENT, exclusive: bool = False) -> dict[str, t.Any]:
    """The plan, whose definition is libvirt's XML again, and leaves the running guest as it is judged."""
    found = guest_plan(want, present, live, exclusive)
    again = guest_plan(want, found["definition"], live, exclusive)
    assert again["changes"] == []
    assert again["restart"] == found["restart"]
    return found


def actions(found: t.Mapping[str, t.Any]) -> list[str]:
    return [f"{step['action']} {step['what']}" for step in found["live"]]


def plugged(*devices: str, into: str = LIVE) -> str:
    return into.replace("</devices>", f"{''.join(devices)}</devices>")


def at(bus: int, device: str) -> str:
    """A device with a place in the guest."""
    place, tag = (
        f"<address type='pci' domain='0x0000' bus='{bus:#04x}' slot='0x00' function='0x0'/>",
        device[1:].split()[0],
    )
    return device.replace(f"</{tag}>", f"{place}</{tag}>")


def test_the_guest_that_libvirt_made_of_it() -> None:
    found = plan(wanted())
    assert found.pop("definition")
    assert found == {"changes": [], "live": [], "restart": [], "let_go": [], "kept": []}


def test_a_guest_that_does_not_run() -> None:
    found = plan(wanted(*ALL, disk("new", "vdc"), memory="<memory unit='KiB'>131072</memory>"), live="")
    assert (found["live"], found["restart"]) == ([], [])


def test_the_persistent_definition_may_be_gone() -> None:
    assert plan(wanted(), present="")["changes"] == ["guest fax1: is not defined"]


# ---------------------------------------------------------------------------------------------------------------------
# While it runs


@pytest.mark.parametrize(
    ("devices", "live", "done", "restart"),
    [
        ([*ALL, disk("new", "vdc")], LIVE, [f"attach {NEW}"], []),
        ([*ALL, disk("new", "vdc", "sata")], LIVE, [], [f"{NEW}: added"]),
        ([*ALL, disk("new", "sdb", "scsi")], LIVE, [], [f"{NEW}: added"]),
        (
            [*ALL, disk("new", "sdb", "scsi")],
            plugged("<controller type='scsi' index='0' model='virtio-scsi'/>"),
            [f"attach {NEW}"],
            [],
        ),
        ([*ALL, disk("new", "sdb", "usb")], LIVE, [], [f"{NEW}: added"]),
        (
            [*ALL, disk("new", "sdb", "usb")],
            LIVE.replace("index='0' model='none'", "index='0' model='qemu-xhci'"),
            [f"attach {NEW}"],
            [],
        ),
        ([ALL[0], *ALL[2:]], LIVE, [f"detach {DATA}"], []),
        ([ALL[0], disk("new", "vdb"), *ALL[2:]], LIVE, [f"detach {DATA}", f"attach {NEW}"], []),
        ([disk("root", "vda", "scsi"), *ALL[1:]], LIVE, [], [f"{ROOT} bus: virtio -> scsi"]),
        ([ALL[0], disk("data", "vdq", serial="b"), *ALL[2:]], LIVE, [], [f"{DATA} serial: data -> b"]),
        # The drive: another disc in it, none, one more.
        ([*ALL[:2], cdrom("new"), ALL[3]], LIVE, [], []),
        ([*ALL[:2], ALL[3]], LIVE, [], [f"{SEED}: removed"]),
        ([*ALL, cdrom("new")], LIVE, [], [f"cdrom {IMAGES}/fax1-new.iso: added"]),
        # The network.
        (ALL[:3], LIVE, [f"detach {MAC}"], []),
        ([*ALL[:3], nic(source="network='other'")], LIVE, [f"update {MAC}"], []),
        ([*ALL[:3], nic(more="<link state='down'/>")], LIVE, [f"update {MAC}"], []),
        ([*ALL[:3], nic("bridge", "bridge='br0'")], LIVE, [], [f"{MAC} type: network -> bridge"]),
        ([*ALL[:3], nic(model="e1000")], LIVE, [], [f"{MAC} model: virtio -> e1000"]),
        ([*ALL, nic().replace("DD", "EE")], LIVE, ["attach interface 52:54:00:6b:76:ee"], []),
        (
            [*ALL, nic(model="e1000").replace("DD", "EE")],
            LIVE,
            [],
            ["interface 52:54:00:6b:76:ee: added"],
        ),
        # That is what guest_pci_device does.
        ([*ALL, hostdev(6)], LIVE, [], []),
    ],
)
def test_what_the_running_guest_can_take_or_lose(
    devices: list[str], live: str, done: list[str], restart: list[str]
) -> None:
    found = plan(wanted(*devices), live)
    assert (actions(found), found["restart"]) == (done, restart)


def test_a_network_that_is_made_of_something_else() -> None:
    assert plan(wanted(), LIVE.replace("<interface type='network'>", "<interface type='bridge'>"))["restart"] == []


def test_what_is_handed_to_libvirt() -> None:
    (step,) = plan(wanted(*ALL, disk("new", "vda", serial="new")))["live"]
    assert ET.canonicalize(step["xml"]) == ET.canonicalize(disk("new", "vdc", serial="new"))
    (step,) = plan(wanted(*ALL[:3], nic(source="network='other'")))["live"]
    source, target, alias = (ET.fromstring(step["xml"]).find(tag) for tag in ("source", "target", "alias"))
    assert source is not None
    assert source.attrib == {"network": "other"}
    assert target is not None
    assert alias is not None


@pytest.mark.parametrize(
    ("bus", "live", "kept"),
    [
        (7, LIVE, True),
        (7, plugged(at(7, disk("scratch", "vdx"))), False),
        (0, LIVE, False),
        (9, LIVE, False),  # a port that the definition has got since
    ],
)
def test_a_place_of_the_definition_is_taken_where_it_is_free(bus: int, live: str, kept: bool) -> None:
    want, there = wanted(*ALL, disk("new", "vdc")), plugged(at(bus, disk("new", "vdc")), into=PRESENT)
    (step,) = guest_plan(want, there, live)["live"]
    assert (ET.fromstring(step["xml"]).find("address") is not None) == kept


def test_a_name_that_somebody_uses_in_the_running_guest() -> None:
    live = plugged(at(6, disk("scratch", "vdc")))
    found = plan(wanted(*ALL, disk("new", "vdc")), live)
    assert 'dev="vdd"' in found["live"][0]["xml"]
    assert '<target dev="vdd"' in found["definition"]
    assert found["kept"] == [f"disk {IMAGES}/fax1-scratch.qcow2 (until it stops)"]
    there = plugged(disk("new", "vdc"), into=PRESENT)
    assert 'dev="vdd"' in guest_plan(wanted(*ALL, disk("new", "vdc")), there, live)["live"][0]["xml"]


def test_only_so_many_as_there_are_ports() -> None:
    new = [disk(f"new{number}", "vdc") for number in range(5)]
    found = plan(wanted(*ALL, *new))
    assert actions(found) == [f"attach disk {IMAGES}/fax1-new{number}.qcow2" for number in range(4)]
    assert found["restart"] == [f"disk {IMAGES}/fax1-new4.qcow2: added"]
    # What goes makes room.
    found = guest_plan(wanted(ALL[0], *ALL[2:], *new), PRESENT, LIVE)
    assert (len(found["live"]), found["restart"]) == (6, [])


def test_a_disk_at_the_root_complex_cannot_go() -> None:
    live = LIVE.replace("bus='0x03' slot='0x00'", "bus='0x00' slot='0x09'")
    found = plan(wanted(ALL[0], *ALL[2:]), live)
    assert (actions(found), found["restart"]) == ([], [f"{DATA}: removed"])


# ---------------------------------------------------------------------------------------------------------------------
# With the next start


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        ({"memory": "<memory unit='KiB'>131072</memory>"}, ["memory: 65536 -> 131072 KiB"]),
        ({"vcpu": "<vcpu cpuset='0-1'>2</vcpu>"}, ["vcpu: 1 -> 2"]),
        ({"backing": ""}, ["memoryBacking nosharepages: removed"]),
        ({"os": "<os firmware='efi'>"}, ["os firmware: not set -> efi"]),
        ({"log": "x"}, ["serial log file: /var/log/libvirt/qemu/fax1-console.log -> /var/log/libvirt/qemu/x.log"]),
        ({"slots": 3}, []),
        ({"slots": 6}, ["controller pci pcie-root-port: 4 free -> 6"]),
        ({"conventional": "yes"}, ["controller pci pcie-to-pci-bridge: added"]),
        ({"machine": "pc"}, ["os type machine: pc-q35-10.0 -> pc"]),
    ],
)
def test_what_waits_for_a_restart(parts: dict[str, t.Any], lines: list[str]) -> None:
    assert plan(wanted(**parts))["restart"] == lines


def test_ports_that_were_taken_since_are_no_reason() -> None:
    live = plugged(at(6, disk("new", "vdc")), at(7, hostdev(9)))
    found = plan(wanted(*ALL, disk("new", "vdc")), live)
    assert (found["live"], found["restart"]) == ([], [])


def test_efi_as_older_versions_tell_it() -> None:
    loader = "<os><loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>"
    assert plan(wanted(os="<os firmware='efi'>"), LIVE.replace("<os>", loader))["restart"] == []


def test_what_somebody_changed_by_hand_is_no_reason() -> None:
    present = PRESENT.replace("</domain>", "<description>mine</description></domain>")
    present = plugged("<sound model='ich9'/>", into=present.replace("<on_crash>destroy", "<on_crash>restart"))
    assert plan(wanted(), present=present)["restart"] == []


# ---------------------------------------------------------------------------------------------------------------------
# Host devices, and what people attached


GIVEN = PRESENT.replace("</kvm:guest>", "<kvm:given>hostdev 0000:06:00.0</kvm:given></kvm:guest>")


@pytest.mark.parametrize(
    ("present", "live", "exclusive", "let_go", "kept"),
    [
        (plugged(hostdev(6), hostdev(9), into=GIVEN), "", False, ["0000:06:00.0"], ["hostdev 0000:09:00.0"]),
        (plugged(hostdev(6), hostdev(9), into=GIVEN), "", True, ["0000:06:00.0", "0000:09:00.0"], []),
        (GIVEN, plugged(hostdev(6), hostdev(9)), False, ["0000:06:00.0"], ["hostdev 0000:09:00.0 (until it stops)"]),
        (GIVEN, LIVE, True, [], []),
        # Without the note, what goes is not known.
        (PRESENT, plugged(hostdev(6)), False, [], ["hostdev 0000:06:00.0 (until it stops)"]),
        (PRESENT, plugged(hostdev(6)), True, ["0000:06:00.0"], []),
    ],
)
def test_who_lets_go(present: str, live: str, exclusive: bool, let_go: list[str], kept: list[str]) -> None:
    found = plan(wanted(), live, present, exclusive)
    assert (found["let_go"], found["kept"]) == (let_go, kept)
    assert ("hostdev 0000:09:00.0" in kept) == ('bus="0x9"' in found["definition"] and not exclusive)


def test_a_wanted_device_is_not_let_go() -> None:
    found = plan(wanted(*ALL, hostdev(6)), plugged(hostdev(6)), plugged(hostdev(6), into=GIVEN), exclusive=True)
    assert (found["let_go"], found["kept"]) == ([], [])


def test_what_was_attached_by_hand_is_told() -> None:
    usb = "<hostdev mode='subsystem' type='usb'><source><vendor id='0x046d'/><product id='0xc534'/></source></hostdev>"
    empty = "<disk type='file' device='cdrom'><target dev='sdf' bus='sata'/></disk>"
    network = "<disk type='network'><source protocol='rbd' name='pool/a'/><target dev='vdn' bus='virtio'/></disk>"
    present = plugged(usb, empty, network, nic().replace("DD", "EE"), into=PRESENT)
    assert plan(wanted(), "", present)["kept"] == [
        "cdrom sdf",
        "disk rbd pool/a",
        "hostdev usb 0x046d 0xc534",
        "interface 52:54:00:6b:76:ee",
    ]


def test_a_guest_of_version_0_2() -> None:
    """It has all that is wanted but the note and the ports, which only its next start brings."""
    present, live = recorded("bare-inactive"), recorded("bare-live")
    want = wanted(disk("root", "vda"), nic(), hostdev(2), hostdev(1), numa="", backing="", vcpu="<vcpu>1</vcpu>")
    want = want.replace("fax1-root", "guest").replace("fax1", "guest").replace("76:DD", "76:01")
    want = want.replace("DDDDDDDD-ab27-5cb3-a76f-f124141d5f35", "ef5a0bd8-ab27-5cb3-a76f-f124141d5f35")
    found = plan(want.replace("65536", "786432"), live, present)
    assert found["changes"] == [
        "controller pci pcie-root-port: 3 added",
        "note of what the inventory gives: brought up to date",
    ]
    assert found["restart"] == ["controller pci pcie-root-port: 1 free -> 4"]
    assert (found["live"], found["let_go"], found["kept"]) == ([], [], [])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("<domain>", "", ""), "the wanted definition is no XML"),
        ((wanted(), "nothing", ""), "the present definition is no XML"),
        ((wanted(), "", "<domain"), "the definition of the running guest is no XML"),
    ],
)
def test_what_is_no_definition(texts: tuple[str, str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        guest_plan(*texts)
