# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.plugin_utils._guest_disks import complete

SYSTEM = {
    "name": "system",
    "path": "/srv/images/tv1.qcow2",
    "size": "",
    "format": "qcow2",
    "bus": "virtio",
    "serial": "",
}


def test_what_is_left_out_is_filled_in() -> None:
    disks, faults = complete("tv1", SYSTEM, [{"name": "recordings", "size": "500G"}])
    assert faults == []
    assert disks[0] == {**SYSTEM, "target": "vda"}
    assert disks[1] == {
        "name": "recordings",
        "path": "/srv/images/tv1-recordings.qcow2",
        "size": "500G",
        "format": "qcow2",
        "bus": "virtio",
        "serial": "recordings",
        "target": "vdb",
    }


def test_a_block_device_is_raw_and_needs_no_size() -> None:
    disks, faults = complete("tv1", SYSTEM, [{"name": "films", "path": "/dev/vg/films", "bus": "scsi"}])
    assert faults == []
    assert (disks[1]["format"], disks[1]["target"], disks[1]["size"]) == ("raw", "sda", "")


def test_every_bus_counts_for_itself() -> None:
    data = [{"name": f"d{at}", "size": "1G", "bus": bus} for at, bus in enumerate(["scsi", "virtio", "sata", "ide"])]
    disks, faults = complete("tv1", {**SYSTEM, "bus": "ide"}, data)
    assert faults == []
    assert [disk["target"] for disk in disks] == ["hda", "sda", "vda", "sdb", "hdb"]


def test_there_are_more_disks_than_letters() -> None:
    disks, faults = complete("tv1", SYSTEM, [{"name": f"d{at}", "size": "1G"} for at in range(27)])
    assert faults == []
    assert [disk["target"] for disk in disks[25:]] == ["vdz", "vdaa", "vdab"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("100G", "kvm_guest_data_disks is '100G'; it is a list of disks, each with name and size"),
        ({"name": "a"}, "it is a list of disks"),
        (["100G"], "kvm_guest_data_disks[0] is '100G'; write it as {name: recordings, size: 100G}"),
        ([{"size": "1G"}], "kvm_guest_data_disks[0] has the name ''; a name takes letters"),
        ([{"name": "a/b", "size": "1G"}], "has the name 'a/b'"),
        ([{"name": "a", "size": "1G", "path": "a.img"}], "has the path 'a.img'; it must begin with /"),
        ([{"name": "a", "size": "1.5G"}], "has the size '1.5G'; write a whole number of K, M, G or T, such as 20G"),
        ([{"name": "a", "size": "0"}], "has the name|has the size '0'"),
        ([{"name": "a", "size": "1G", "format": "vdi"}], "has the format vdi; formats are qcow2 and raw"),
        ([{"name": "a", "size": "1G", "bus": "nvme"}], "is on the bus nvme; buses are virtio, scsi, sata, usb, ide"),
        ([{"name": "a", "size": "1G", "serial": "x" * 21}], "a serial has at most 20 letters"),
        ([{"name": "a", "size": "1G", "seral": "x"}], "has the unknown key seral; keys are name, size, bus"),
        ([{"name": "a", "size": "1G"}] * 2, "two of the guest's disks have the name a; give each its own"),
        (
            [{"name": "a", "size": "1G", "path": "/srv/images/tv1.qcow2"}],
            "two of the guest's disks have the path /srv/images/tv1.qcow2",
        ),
        (
            [{"name": "a", "size": "1G"}, {"name": "b", "serial": "a", "size": "1G"}],
            "two of the guest's disks have the serial a",
        ),
    ],
)
def test_faults_name_the_place_and_the_remedy(data: t.Any, fault: str) -> None:
    faults = complete("tv1", SYSTEM, data)[1]
    assert any(part in said for said in faults for part in fault.split("|")), faults
