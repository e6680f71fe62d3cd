# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role kvm_guest says of its variables before it connects to anybody, and what definition it makes of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

COLLECTION = Path(__file__).parents[3]
GOOD = {"kvm_guest_host": "hv1", "kvm_guest_address": "192.168.122.50", "kvm_guest_image": "/srv/debian.qcow2"}
CHECKSUM = "sha256:" + "0" * 64

# Each a guest of its own: all are judged in one run.
FAULTS: dict[str, tuple[dict[str, t.Any], str]] = {
    "host": (
        {"kvm_guest_host": "hv9"},
        "kvm_guest_host is hv9; it must be the inventory name of its hypervisor, a host",
    ),
    "nohost": ({"kvm_guest_host": ""}, "kvm_guest_host is not set; it must be the inventory name of its hypervisor"),
    "name": ({"kvm_guest_name": "a b"}, "kvm_guest_name is a b; it takes letters, digits and _ . + - only"),
    "memory": (
        {"kvm_guest_memory": 64},
        "kvm_guest_memory is 64 MiB; it takes 128 at least, since a kernel that cannot",
    ),
    "pages": ({"kvm_guest_hugepages": "1G", "kvm_guest_memory": 1536}, "which is no whole number of pages of 1G"),
    "cpus": ({"kvm_guest_vcpus": 0}, "kvm_guest_vcpus is 0 and kvm_guest_hotplug_slots 4; a guest has one processor"),
    "node": ({"kvm_guest_numa_node": "east"}, "kvm_guest_numa_node is east; it is auto, none or the number of a node"),
    "image": (
        {"kvm_guest_image": "http://x/y"},
        "kvm_guest_image is http://x/y; it is a path on the hypervisor, or an",
    ),
    "checksum": ({"kvm_guest_image": "https://x/y"}, "kvm_guest_image is a URL and kvm_guest_image_checksum is empty;"),
    "network": (
        {"kvm_guest_network": "a'; b"},
        "kvm_guest_network is a'; b; it takes letters, digits and _ . : + - only",
    ),
    "nets": ({"kvm_guest_bridge": "br0", "kvm_guest_macvtap": "eno1"}, "set one of them"),
    "mac": ({"kvm_guest_mac": "01:00:5e:00:00:01"}, "kvm_guest_mac is 01:00:5e:00:00:01; it must be a unicast MAC"),
    "address": ({"kvm_guest_address": "fax1"}, "kvm_guest_address is fax1; it must be an IPv4 address, or empty"),
    "nowhere": (
        {"kvm_guest_bridge": "br0", "kvm_guest_address": ""},
        "nothing says where it answers: its network is none",
    ),
    "disks": ({"kvm_guest_data_disks": [{"name": "a", "size": "much"}]}, "kvm_guest_data_disks[0] has the size 'much'"),
    "word": (
        {"kvm_guest_delete_disks": ["/etc/passwd"]},
        "kvm_guest_delete_disks names /etc/passwd, no disk of this guest",
    ),
}
RIGHT: dict[str, dict[str, t.Any]] = {
    "plain": {},
    "url": {"kvm_guest_image": "https://x/y.qcow2", "kvm_guest_image_checksum": CHECKSUM},
    "huge": {"kvm_guest_hugepages": "2M", "kvm_guest_memory": 130},
    "bridged": {"kvm_guest_bridge": "br0"},
    "silent": {"kvm_guest_bridge": "br0", "kvm_guest_address": "", "kvm_guest_ready": "running"},
    "deleted": {"kvm_guest_delete_disks": ["/var/lib/libvirt/images/deleted.qcow2"]},
    "full": {
        "kvm_guest_hugepages": "1G",
        "kvm_guest_memory_locked": True,
        "kvm_guest_ksm": False,
        "kvm_guest_firmware": "efi",
        "kvm_guest_cloud_init": True,
        "kvm_guest_macvtap": "eno1",
        "kvm_guest_data_disks": [{"name": "a_b", "size": "1G"}, {"name": "c", "path": "/dev/vg/c"}],
    },
}


class Run(t.NamedTuple):
    faults: dict[str, list[str]]
    definitions: dict[str, ET.Element]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("guests")
    guests = {name: {**GOOD, **own} for name, own in {**{n: v for n, (v, _text) in FAULTS.items()}, **RIGHT}.items()}
    hosts = {"kvm_hosts": {"hosts": {"hv1": {}}}, "kvm_guests": {"hosts": guests}}
    (folder / "inventory.json").write_text(json.dumps({"all": {"children": hosts}}))
    (folder / "play.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "kvm_guests",
                    "gather_facts": False,
                    "connection": "local",
                    "tasks": [
                        {"include_role": {"name": "kvm.passthrough.kvm_guest", "tasks_from": "inventory"}},
                        {
                            "copy": {
                                "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
                                "content": "{{ {'faults': __kvm_guest_faults} | to_json }}",
                            }
                        },
                        {
                            "include_role": {"name": "kvm.passthrough.kvm_guest", "tasks_from": "shown"},
                            "when": "not __kvm_guest_faults",
                        },
                    ],
                }
            ]
        )
    )
    # A step of its own for the test, in a copy of the role: the definition as it is handed to the filter.
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_FORKS": "2"}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(_copy(folder))
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventory.json", "play.yml", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(
        {name: json.loads((folder / f"{name}.json").read_text())["faults"] for name in guests},
        {name: ET.parse(folder / f"{name}.xml").getroot() for name in RIGHT},
    )


def _copy(folder: Path) -> Path:
    place = folder / "ansible_collections" / "kvm" / "passthrough"
    place.mkdir(parents=True)
    for name in ("galaxy.yml", "meta", "plugins"):
        (place / name).symlink_to(COLLECTION / name)
    role = place / "roles" / "kvm_guest"
    (role / "tasks").mkdir(parents=True)
    for name in ("defaults", "templates", "vars"):
        (role / name).symlink_to(COLLECTION / "roles/kvm_guest" / name)
    (role / "tasks/inventory.yml").symlink_to(COLLECTION / "roles/kvm_guest/tasks/inventory.yml")
    show = {
        "copy": {
            "dest": f"{folder}/{{{{ inventory_hostname }}}}.xml",
            "content": "{{ lookup('template', 'domain.xml.j2') }}",
        },
        "vars": {
            "__kvm_guest_devices": [{"address": "0000:06:00.0"}],
            "__kvm_guest_node": "1",
            "__kvm_guest_cpus": "0-3",
        },
    }
    (role / "tasks/shown.yml").write_text(json.dumps([show]))
    return folder


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_the_guest_the_value_and_the_remedy(run: Run, name: str) -> None:
    assert len(run.faults[name]) == 1, run.faults[name]
    assert run.faults[name][0].startswith(f"{name}: ")
    assert FAULTS[name][1] in re.sub(r"\s+", " ", run.faults[name][0])


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_has_no_fault(run: Run, name: str) -> None:
    assert run.faults[name] == []


def test_a_plain_guest(run: Run) -> None:
    domain = run.definitions["plain"]
    assert domain.findtext("memory") == "1048576"
    assert domain.find("memoryBacking") is None
    assert [disk.find("source").attrib for disk in domain.iterfind("devices/disk")] == [
        {"file": "/var/lib/libvirt/images/plain.qcow2"}
    ]
    interface = domain.find("devices/interface")
    assert (interface.get("type"), interface.find("source").attrib) == ("network", {"network": "default"})
    assert re.fullmatch("52:54:00(:[0-9a-f]{2}){3}", interface.find("mac").get("address"))
    assert domain.find("devices/hostdev/source/address").attrib == {
        "domain": "0x0000",
        "bus": "0x06",
        "slot": "0x00",
        "function": "0x0",
    }
    assert domain.find("devices/hostdev").get("managed") == "no"


def test_a_guest_with_everything(run: Run) -> None:
    domain = run.definitions["full"]
    assert domain.find("os").get("firmware") == "efi"
    assert domain.find("memoryBacking/hugepages/page").attrib == {"size": "1048576", "unit": "KiB"}
    assert [child.tag for child in domain.find("memoryBacking")] == ["hugepages", "locked", "nosharepages"]
    assert domain.find("vcpu").get("cpuset") == "0-3"
    assert domain.find("numatune/memory").attrib == {"mode": "preferred", "nodeset": "1"}
    assert [disk.get("type") for disk in domain.iterfind("devices/disk")] == ["file", "file", "file", "block"]
    assert [disk.find("target").get("dev") for disk in domain.iterfind("devices/disk")] == ["sda", "vda", "vdb", "vdc"]
    assert domain.find("devices/interface").get("type") == "direct"
    assert domain.find("devices/interface/source").attrib == {"dev": "eno1", "mode": "bridge"}


def test_a_mac_follows_from_the_name_alone(run: Run) -> None:
    macs = {name: domain.find("devices/interface/mac").get("address") for name, domain in run.definitions.items()}
    assert len(set(macs.values())) == len(macs)
    digest = hashlib.sha256(b"plain").hexdigest()
    assert macs["plain"] == f"52:54:00:{digest[:2]}:{digest[2:4]}:{digest[4:6]}"
