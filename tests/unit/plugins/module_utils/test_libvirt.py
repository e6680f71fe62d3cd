# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._libvirt import dhcp_reservation, guest_changes

WANTED = """
<domain type='kvm'>
  <name>fax1</name>
  <memory unit='KiB'>1048576</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><source file='/images/fax1.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><mac address='52:54:00:6b:76:01'/><source network='default'/></interface>
    <hostdev mode='subsystem' type='pci' managed='no'>
      <source><address domain='0x0000' bus='0x06' slot='0x00' function='0x0'/></source>
    </hostdev>
    <memballoon model='none'/>
  </devices>
</domain>
"""

# As libvirt 11.3 prints a definition like the wanted one, with what it filled in.
PRESENT = """
<domain type='kvm'>
  <name>fax1</name>
  <uuid>9f0d3c9a-3a52-5ea2-a7d8-8a9b6a0a3f3e</uuid>
  <memory unit='KiB'>1048576</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static'>1</vcpu>
  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type><boot dev='hd'/></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/images/fax1.qcow2'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>
    </disk>
    <controller type='pci' index='0' model='pcie-root'/>
    <interface type='network'>
      <mac address='52:54:00:6b:76:01'/>
      <source network='default'/>
      <model type='virtio'/>
    </interface>
    <hostdev mode='subsystem' type='pci' managed='no'>
      <source><address domain='0x0000' bus='0x06' slot='0x00' function='0x0'/></source>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </hostdev>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def test_a_definition_that_libvirt_completed_holds() -> None:
    assert guest_changes(WANTED, PRESENT) == []


def test_a_guest_that_is_not_there() -> None:
    assert guest_changes(WANTED, "") == ["guest fax1: is not defined"]


@pytest.mark.parametrize(
    ("wanted", "by", "lines"),
    [
        (">1048576<", ">2097152<", ["memory: 1048576 -> 2097152"]),
        ("machine='q35'", "machine='pc-i440fx-10.0'", ["os/type machine: pc-q35-10.0 -> pc-i440fx-10.0"]),
        (
            "bus='0x06'",
            "bus='0x07'",
            ["devices/hostdev 0000:07:00.0: to be added", "devices/hostdev 0000:06:00.0: to be removed"],
        ),
        (
            "76:01",
            "76:02",
            ["devices/interface 52:54:00:6b:76:02: to be added", "devices/interface 52:54:00:6b:76:01: to be removed"],
        ),
        ("memballoon model='none'", "memballoon model='virtio'", ["devices/memballoon model: none -> virtio"]),
        (
            "<memballoon",
            "<rng model='virtio'/><memballoon",
            ["devices/rng model=virtio: to be added"],
        ),
    ],
)
def test_every_difference_is_one_line(wanted: str, by: str, lines: list[str]) -> None:
    assert guest_changes(WANTED.replace(wanted, by), PRESENT) == lines


def test_a_second_host_device_is_to_be_removed() -> None:
    start, end = PRESENT.index("<hostdev"), PRESENT.index("</hostdev>") + len("</hostdev>")
    second = PRESENT[start:end].replace("bus='0x06'", "bus='0x08'")
    assert guest_changes(WANTED, PRESENT[:end] + second + PRESENT[end:]) == [
        "devices/hostdev 0000:08:00.0: to be removed"
    ]


def test_two_equal_wanted_devices_need_two_present_ones() -> None:
    start, end = WANTED.index("<interface"), WANTED.index("</interface>") + len("</interface>")
    twice = WANTED[:end] + WANTED[start:end] + WANTED[end:]
    assert guest_changes(twice, PRESENT) == ["devices/interface 52:54:00:6b:76:01: to be added"]


def test_broken_xml_is_named() -> None:
    with pytest.raises(InvalidInput, match="the present definition is no XML"):
        guest_changes(WANTED, "<domain>")


NETWORK = """
<network><name>default</name><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>
  <range start='192.168.122.2' end='192.168.122.254'/>
  <host mac='52:54:00:6B:76:01' name='fax1' ip='192.168.122.50'/>
</dhcp></ip></network>
"""


@pytest.mark.parametrize(
    ("name", "mac", "address", "answer"),
    [
        ("fax1", "52:54:00:6b:76:01", "192.168.122.50", "present"),
        ("fax1", "52:54:00:6b:76:01", "192.168.122.51", "other"),
        ("fax2", "52:54:00:6b:76:01", "192.168.122.50", "other"),
        ("fax2", "52:54:00:6b:76:02", "192.168.122.52", "absent"),
    ],
)
def test_dhcp_reservation(name: str, mac: str, address: str, answer: str) -> None:
    assert dhcp_reservation(NETWORK, name, mac, address) == answer


def test_an_address_of_another_guest_is_refused() -> None:
    with pytest.raises(Refused, match=r"192\.168\.122\.50 is reserved for 52:54:00:6B:76:01 \(fax1\); give fax2"):
        dhcp_reservation(NETWORK, "fax2", "52:54:00:6b:76:02", "192.168.122.50")


def test_a_network_without_dhcp_reserves_nothing() -> None:
    assert dhcp_reservation("<network/>", "fax1", "52:54:00:6b:76:01", "192.168.122.50") == "absent"
