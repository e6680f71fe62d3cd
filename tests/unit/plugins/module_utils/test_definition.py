# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import string
import typing as t
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._definition import merge, noted, parse, parse_wanted
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._hostdev import Definition
from ansible_collections.kvm.passthrough.tests.unit.guest_xml import (
    DATA,
    IMAGES,
    MAC,
    NOTE,
    ROOT,
    SEED,
    cdrom,
    disk,
    hostdev,
    nic,
    recorded,
    wanted,
)

PRESENT = recorded("noted-inactive")
# What somebody did with virsh edit.
BY_HAND = (
    disk("scratch", "vdc")
    + hostdev(9)
    + "<interface type='bridge'><mac address='52:54:00:00:00:09'/><source bridge='br0'/></interface>"
    + "<sound model='ich9'/>"
)
VDA_TO_VDY = [f"vd{letter}" for letter in string.ascii_lowercase[:25]]


def plan(want: str, present: str = PRESENT, exclusive: bool = False) -> tuple[ET.Element, list[str]]:
    """The merge of these, of which the next one changes nothing."""
    there = parse(present, "it") if present else None
    merged, lines = merge(parse_wanted(want), there, exclusive)
    assert merge(parse_wanted(want), merged, exclusive)[1] == []
    assert (there is not None and ET.canonicalize(present) == canonical(merged)) == (lines == [])
    return merged, lines


def canonical(domain: ET.Element) -> str:
    return ET.canonicalize(ET.tostring(domain, encoding="unicode"))


def with_device(xml: str, present: str = PRESENT) -> str:
    return present.replace("</devices>", f"{xml}</devices>")


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def test_what_libvirt_made_of_it_holds() -> None:
    merged, lines = plan(wanted())
    assert lines == []
    assert canonical(merged) == ET.canonicalize(PRESENT)


def test_a_guest_that_is_not_there() -> None:
    merged, lines = plan(wanted(hostdev(6)), "")
    assert lines == ["guest fax1: is not defined"]
    assert "hostdev 0000:06:00.0" in noted(merged)


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        ({"memory": "<memory unit='KiB'>131072</memory>"}, ["memory: 65536 -> 131072 KiB"]),
        ({"memory": "<memory unit='MiB'>64</memory>"}, []),
        ({"memory": "<memory unit='M'>1</memory>"}, ["memory: 65536 -> 1024 KiB"]),
        ({"vcpu": "<vcpu cpuset='0-1'>2</vcpu>"}, ["vcpu: 1 -> 2"]),
        ({"vcpu": "<vcpu cpuset='0-3,^2'>1</vcpu>"}, ["vcpu cpuset: 0-1 -> 0-3,^2"]),
        ({"vcpu": "<vcpu>1</vcpu>"}, ["vcpu cpuset: removed", NOTE]),
        ({"numa": ""}, ["numatune memory: removed", NOTE]),
        ({"backing": ""}, ["memoryBacking nosharepages: removed", NOTE]),
        (
            {"backing": "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>"},
            ["memoryBacking hugepages: added", "memoryBacking nosharepages: removed", NOTE],
        ),
        ({"machine": "pc-q35-9.2"}, ["os type machine: pc-q35-10.0 -> pc-q35-9.2"]),
        ({"os": "<os firmware='efi'>"}, ["os firmware: not set -> efi", NOTE]),
        (
            {"log": "other"},
            ["serial log file: /var/log/libvirt/qemu/fax1-console.log -> /var/log/libvirt/qemu/other.log"],
        ),
        ({"slots": 2}, [NOTE]),
        ({"slots": 6}, ["controller pci pcie-root-port: 2 added", NOTE]),
        (
            {"conventional": "yes"},
            ["controller pci pcie-root-port: 1 added", "controller pci pcie-to-pci-bridge: added", NOTE],
        ),
    ],
)
def test_every_change_is_one_line(parts: dict[str, t.Any], lines: list[str]) -> None:
    assert plan(wanted(**parts))[1] == lines


def test_what_goes_with_a_value_goes_with_it() -> None:
    by_hand = PRESENT.replace("static' cpuset", "static' current='1' cpuset")
    by_hand = by_hand.replace("<cpu mode='host-passthrough' check='none' migratable='on'/>", "<cpu mode='custom'/>")
    by_hand = by_hand.replace(
        "<cpu mode='custom'/>", "<cpu mode='custom' match='exact'><model>EPYC</model><cache/></cpu>"
    )
    merged, lines = plan(
        wanted(memory="<memory unit='KiB'>131072</memory>", vcpu="<vcpu cpuset='0-1'>2</vcpu>"), by_hand
    )
    assert lines == ["memory: 65536 -> 131072 KiB", "vcpu: 1 -> 2", "cpu mode: custom -> host-passthrough"]
    assert merged.find("currentMemory") is None
    assert merged.find("vcpu[@current]") is None
    cpu = merged.find("cpu")
    assert cpu is not None
    assert (cpu.attrib, [child.tag for child in cpu]) == ({"mode": "host-passthrough"}, ["cache"])


EFI = """<os firmware='efi'>
    <firmware><feature enabled='yes' name='secure-boot'/></firmware>
    <loader readonly='yes' secure='yes' type='pflash' format='raw'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'>/var/lib/libvirt/qemu/nvram/fax1_VARS.fd</nvram>"""


def test_firmware_that_libvirt_chose_stays_and_goes_with_efi() -> None:
    merged, _lines = plan(wanted(os="<os firmware='efi'>"))
    chosen = ET.tostring(merged, encoding="unicode").replace('<os firmware="efi">', EFI)
    assert plan(wanted(os="<os firmware='efi'>"), chosen)[1] == []
    merged, lines = plan(wanted(), chosen)
    assert lines == ["os firmware: removed", NOTE]
    assert [child.tag for child in merged.iterfind("os/*")] == ["type", "boot"]


def test_firmware_chosen_by_hand_stays() -> None:
    merged, lines = plan(wanted(), PRESENT.replace("<os>", EFI))
    assert lines == []
    assert merged.find("os/loader") is not None


@pytest.mark.parametrize(
    "by_hand",
    [
        "<description>mine</description>",
        "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-S'/>"
        "</qemu:commandline>",
    ],
)
def test_what_people_added_stays(by_hand: str) -> None:
    present = PRESENT.replace("</domain>", f"{by_hand}</domain>")
    present = present.replace("</metadata>", "<x:y xmlns:x='http://example.org/x'>1</x:y></metadata>")
    merged, lines = plan(wanted(memory="<memory unit='KiB'>131072</memory>", slots=5), present)
    assert lines == ["memory: 65536 -> 131072 KiB", "controller pci pcie-root-port: 1 added", NOTE]
    text = ET.tostring(merged, encoding="unicode")
    assert merged.findtext("metadata/{http://example.org/x}y") == "1"
    assert all(word in text for word in by_hand.split() if "=" not in word and "<" not in word)
    assert ("qemu:arg" in by_hand) == ('<qemu:arg value="-S"' in text)


def test_boot_order_by_hand_excludes_ours() -> None:
    by_hand = PRESENT.replace("<boot dev='hd'/>", "").replace("<serial>data", "<boot order='1'/><serial>data")
    assert plan(wanted(), by_hand)[1] == []


def test_several_parts_of_a_name() -> None:
    by_hand = PRESENT.replace("<boot dev='hd'/>", "<boot dev='network'/><boot dev='hd'/>")
    assert plan(wanted(), by_hand)[1] == []


def test_a_definition_without_the_note_loses_nothing() -> None:
    want = wanted(disk("root", "vda"), nic(), numa="", backing="", vcpu="<vcpu>1</vcpu>")
    bare = PRESENT[: PRESENT.index("<metadata")] + PRESENT[PRESENT.index("</metadata>") + len("</metadata>") :]
    merged, lines = plan(want, bare)
    assert lines == [NOTE]
    assert [part.tag for part in merged].count("metadata") == 1
    assert merged.find("memoryBacking/nosharepages") is not None
    assert len(merged.findall("devices/disk")) == 3
    assert DATA not in noted(merged)


# ---------------------------------------------------------------------------------------------------------------------
# Devices


@pytest.mark.parametrize(
    ("devices", "lines"),
    [
        ([disk("root", "vda"), nic()], [f"{DATA}: removed", f"{SEED}: removed", NOTE]),
        (
            [disk("root", "vda", "scsi"), disk("data", "vdb"), cdrom(), nic()],
            [f"{ROOT} bus: virtio -> scsi", "controller scsi virtio-scsi: added"],
        ),
        ([disk("root", "vdx"), disk("data", "vdy", serial="data"), cdrom(), nic()], []),
        (
            [disk("root", "vda").replace("qcow2'/><s", "raw'/><s"), disk("data", "vdb", serial="b"), cdrom(), nic()],
            [f"{ROOT} driver type: qcow2 -> raw", f"{DATA} serial: data -> b"],
        ),
        (
            [disk("root", "vda"), disk("data", "vdb"), cdrom("new"), nic()],
            [f"{SEED}: removed", f"cdrom {IMAGES}/fax1-new.iso: added", NOTE],
        ),
        (
            [disk("root", "vda"), disk("data", "vdb"), cdrom(), nic(), hostdev(6)],
            ["hostdev 0000:06:00.0: added", "controller pci pcie-root-port: 1 added", NOTE],
        ),
        (
            [disk("root", "vda"), disk("data", "vdb"), cdrom(), nic(source="network='other'")],
            [f"{MAC} source network: default -> other"],
        ),
        (
            [disk("root", "vda"), disk("data", "vdb"), cdrom(), nic("bridge", "bridge='br0'")],
            [f"{MAC} type: network -> bridge"],
        ),
        (
            [disk("root", "vda"), disk("data", "vdb"), cdrom(), nic(model="e1000e")],
            [f"{MAC} model: virtio -> e1000e"],
        ),
    ],
)
def test_devices(devices: list[str], lines: list[str]) -> None:
    assert plan(wanted(*devices))[1] == lines


def test_a_device_keeps_its_place_unless_the_guest_sees_another_one() -> None:
    where = {}
    for kind, model in (("network", "virtio"), ("bridge", "virtio"), ("network", "e1000e")):
        merged, _lines = plan(wanted(disk("root", "vdq"), nic(kind, f"{kind}='default'", model)))
        where[kind, model] = merged.find("devices/interface/address") is not None
        target = merged.find("devices/disk/target")
        assert target is not None
        assert target.get("dev") == "vda"
    assert where == {("network", "virtio"): True, ("bridge", "virtio"): True, ("network", "e1000e"): False}


@pytest.mark.parametrize(
    ("devices", "taken", "names"),
    [
        ([disk("root", "vda"), disk("new", "vda")], [], ["vda", "vdb", "sda", "vdc"]),
        ([disk("new", "vdc"), disk("more", "vdd")], ["vdc", "vde"], ["vda", "vdb", "sda", "vdd", "vdf"]),
        ([disk("root", "sda", "scsi"), disk("new", "vda")], [], ["vdb", "sda", "sdb", "vda"]),
        ([disk("new", "vdz"), disk("more", "vdz")], VDA_TO_VDY, ["vda", "vdb", "sda", "vdz", "vdaa"]),
    ],
)
def test_a_taken_name_is_not_given_again(devices: list[str], taken: list[str], names: list[str]) -> None:
    # Without the note nothing goes, so that vda, vdb and sda are there.
    bare = parse(PRESENT.replace("kvm:given", "kvm:other"), "it")
    merged, _lines = merge(parse_wanted(wanted(*devices)), bare, False, taken)
    assert [target.get("dev") for target in merged.iterfind("devices/disk/target")] == names


def test_what_was_attached_by_hand_stays() -> None:
    merged, lines = plan(wanted(), with_device(BY_HAND))
    assert lines == ["controller pci pcie-root-port: 3 added"]  # libvirt has not placed it yet
    assert len(merged.findall("devices/disk")) == 4
    assert merged.find("devices/sound") is not None


def test_exclusive_takes_the_pci_devices_only() -> None:
    usb = "<hostdev mode='subsystem' type='usb'><source><vendor id='0x046d'/><product id='0xc534'/></source></hostdev>"
    merged, lines = plan(wanted(), with_device(hostdev(9) + usb), exclusive=True)
    assert lines == ["hostdev 0000:09:00.0: removed"]
    assert [device.get("type") for device in merged.iterfind("devices/hostdev")] == ["usb"]


def test_a_controller_for_usb_by_hand_stays() -> None:
    usb = "index='0' model='qemu-xhci'><address type='pci' bus='0x07' slot='0x00'/></controller>"
    by_hand = PRESENT.replace("index='0' model='none'/>", usb)
    assert plan(wanted(), by_hand)[1] == ["controller pci pcie-root-port: 1 added"]


def test_a_host_device_that_is_there_as_an_interface() -> None:
    function = (
        "<interface type='hostdev'><mac address='52:54:00:00:00:01'/><source><address type='pci' domain='0x0000'"
        " bus='0x06' slot='0x00' function='0x0'/></source><address type='pci' bus='0x06' slot='0x00'/></interface>"
    )
    devices = disk("root", "vda"), disk("data", "vdb"), cdrom(), nic(), hostdev(6)
    assert plan(wanted(*devices, slots=3), with_device(function))[1] == [NOTE]


def test_managed_is_corrected() -> None:
    present = with_device(
        hostdev(6, "yes").replace("</hostdev>", "<address type='pci' bus='0x05' slot='0'/></hostdev>")
    )
    devices = disk("root", "vda"), disk("data", "vdb"), cdrom(), nic(), hostdev(6)
    lines = plan(wanted(*devices, slots=2), present)[1]
    assert lines == ["hostdev 0000:06:00.0 managed: yes -> no", NOTE]


# ---------------------------------------------------------------------------------------------------------------------
# Slots and machines


@pytest.mark.parametrize(
    ("devices", "parts", "ports"),
    [
        ([], {}, 4 + 4),  # two disks, the network, rng
        ([], {"slots": 0}, 4),
        ([], {"conventional": "yes"}, 4 + 5),
        ([hostdev(6), hostdev(7)], {}, 4 + 3),  # rng
        ([disk("root", "sda", "scsi")], {}, 4 + 2),
        ([disk("root", "sda", "sata"), nic(model="e1000")], {}, 4 + 2),
        ([nic()], {"machine": "pc"}, 0),
    ],
)
def test_ports_of_a_new_guest(devices: list[str], parts: dict[str, t.Any], ports: int) -> None:
    merged, _lines = plan(wanted(*devices, **parts), "")
    assert Definition.read(merged).ports() == ports
    indexes = [controller.get("index") for controller in merged.iterfind("devices/controller[@type='pci']")]
    assert indexes == [str(index) for index in range(1, len(indexes) + 1)]


def test_another_machine_places_everything_anew() -> None:
    merged, lines = plan(wanted(machine="pc"))
    assert lines == ["os type machine: pc-q35-10.0 -> pc"]
    assert [controller.get("type") for controller in merged.iterfind("devices/controller")] == ["usb"]
    assert merged.find("devices/*/address[@type='pci']") is None
    assert merged.find("devices/watchdog") is None


# ---------------------------------------------------------------------------------------------------------------------
# Faults


def test_another_guest_of_the_name_is_refused() -> None:
    other = PRESENT.replace("dddddddd-", "eeeeeeee-")
    with pytest.raises(Refused, match="guest fax1 exists and was not made from this inventory: its UUID is eeeeeeee-"):
        plan(wanted(), other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<domain>", "the wanted definition is no XML: no element found"),
        ("<network/>", "the wanted definition is no domain's XML: its root element is <network>"),
        (wanted(memory="<memory unit='GiB'>1.5</memory>"), "has a size of '1.5' GiB; write a whole number of KiB"),
        (wanted(memory="<memory unit='pages'>1</memory>"), "has a size of '1' pages"),
        (wanted(slots="four"), "hotplug-slots is 'four'; it is a number of pcie-root-ports, such as 4"),
    ],
)
def test_what_cannot_be_meant(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        merge(parse_wanted(text), None, False)
    assert message in str(error.value)
