# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks prepare and deploy: all that is wrong with the plan in one message, before the first change.

The hosts are trees on this machine. They are reached by the connection local, and Python is started for each by a
script that says which tree is the host's. What runs is a copy of the collection, of which the modules read that
tree, and of which the steps of the roles after the plan only say that they were reached.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._driver import rule_text
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space, express

COLLECTION = Path(__file__).parents[3]
# Where the modules that the plan uses name the root of the running machine.
ROOTS = {
    "passthrough_info": '"root": {"type": "path", "default": "/"}',
    "pci_driver": 'apply("/", request',
    "pci_facts": '"root": {"type": "path", "default": "/"}',
}
REACHED = "{{ inventory_hostname }} would be changed now"
# The first steps after the plan; the ones after them need the hosts for real.
STEPS = {
    "kvm_host": ["install", "kernel", "devices", "verify"],
    "kvm_guest": ["read", "devices", "network", "define", "verify"],
}
ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "enp1s0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
)

# The card of card(), and a guest that runs with one.
IDENTITY = ("0x1397", "0x08b4", "0x8086", "0xa01f")
GUEST = """<domstatus><domain type='kvm'><name>fax1</name><devices><hostdev mode='subsystem' type='pci'>
<source><address domain='0x0000' bus='0x06' slot='0x00' function='0x0'/></source>
</hostdev></devices></domain></domstatus>"""

Variables = t.Dict[str, t.Any]


class Outcome(t.NamedTuple):
    """How a run ended."""

    code: int
    output: str

    def refusal(self) -> tuple[list[str], str]:
        """The faults for which it stopped, and the pattern with which the others could go on."""
        found = re.search(r'"msg": ("\d+ faults? in the plan.*")}\n', self.output)
        assert found, self.output
        heading, *lines = json.loads(found.group(1)).split("\n")
        faults = [line[2:] for line in lines if line.startswith("- ")]
        rest = lines[len(faults) :]
        assert heading == f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the plan, nothing was changed:"
        assert len(rest) <= 1
        assert all(line.startswith("The others can go on without them: --limit '") for line in rest)
        return faults, "".join(line.split("'")[1] for line in rest)

    def reached(self) -> list[str]:
        """The hosts that would have been changed."""
        return sorted(set(re.findall(r"(\w+) would be changed now", self.output)))


class Fleet:
    """An inventory whose hosts are trees."""

    def __init__(self, folder: Path, collections: Path) -> None:
        self.folder = folder
        self.collections = collections
        self.hosts: dict[str, Variables] = {}
        self.guests: dict[str, Variables] = {}

    def host(self, name: str, **variables: t.Any) -> PciTree:
        tree = PciTree(self.folder / name)
        python = self.folder / f"python-{name}"
        python.write_text(f'#!/bin/sh\nTREE={tree.root} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.hosts[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(python), **variables}
        return tree

    def guest(self, name: str, host: str, devices: list[t.Any], **variables: t.Any) -> None:
        """A guest that is not there yet."""
        common = {"kvm_guest_image": "/dev/null", "ansible_host": "192.0.2.1"}
        self.guests[name] = {"kvm_guest_host": host, "kvm_guest_pci_devices": devices, **common, **variables}

    def play(self, playbook: str, *arguments: str) -> Outcome:
        """Run a playbook of the collection on the inventory."""
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps({"kvm_hosts": {"hosts": self.hosts}, "kvm_guests": {"hosts": self.guests}}))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))},
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
        }
        command = [str(Path(sys.executable).parent / "ansible-playbook"), f"kvm.passthrough.{playbook}"]
        run = subprocess.run(
            [*command, "--inventory", str(inventory), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            check=False,
        )
        assert not re.search(r"changed=[1-9]", run.stdout), run.stdout
        return Outcome(run.returncode, run.stdout)


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collections")
    place = folder / "ansible_collections/kvm/passthrough"
    for name in ("meta", "playbooks", "plugins", "roles"):
        shutil.copytree(COLLECTION / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(COLLECTION / "galaxy.yml", place)
    for name, root in ROOTS.items():
        module = place / f"plugins/modules/{name}.py"
        source = module.read_text()
        assert source.count(root) == 1
        module.write_text(source.replace(root, root.replace('"/"', '__import__("os").environ["TREE"]')))
    for role, steps in STEPS.items():
        for step in steps:
            stop = [{"name": "Stop", "ansible.builtin.fail": {"msg": REACHED}}]
            (place / f"roles/{role}/tasks/{step}.yml").write_text(json.dumps(stop))
    return folder


@pytest.fixture
def fleet(tmp_path: Path, collections: Path) -> Fleet:
    return Fleet(tmp_path, collections)


def card(tree: PciTree, address: str, pci_id: str = "1397:08b4", pci_class: str = "020400", **more: t.Any) -> None:
    """A card with which nothing is wrong by itself."""
    tree.add(
        address,
        config_space(pci_id, pci_class, pin=0, capabilities=[express(0)]),
        pci_id=pci_id,
        pci_class=pci_class,
        attributes={"reset_method": "flr", "enable": "0"},
        **more,
    )


def uplink(tree: PciTree, address: str, interface: str) -> None:
    card(tree, address, "8086:10d3", "020000", group=1, driver="e1000e")
    folder = tree.device(address) / "net" / interface
    folder.mkdir(parents=True)
    (folder / "device").symlink_to("../..")
    classes = tree.root / "sys/class/net"
    classes.mkdir(parents=True)
    (classes / interface).symlink_to(os.path.relpath(folder, classes))
    tree.write("/proc/net/route", ROUTES)


def test_all_faults_of_all_hosts_in_one_message_and_the_others_go_on(fleet: Fleet) -> None:
    hv1 = fleet.host("hv1")
    uplink(hv1, "0000:01:00.0", "enp1s0")
    card(hv1, "0000:03:02.0", "1131:7146", "048000", group=12)
    card(hv1, "0000:03:06.0", "1131:7146", "048000", group=12)
    card(hv1, "0000:06:00.0", group=6)
    card(hv1, "0000:09:00.0", "8086:1533", "020000", group=9)
    card(hv1, "0000:09:00.1", "8086:1533", "020000", group=9, driver="igb")
    fleet.guest("fax1", "hv1", [{"id": "1397:08b4"}])
    fleet.guest("fax2", "hv1", ["06:00.0", {"id": "8086:10d3"}])
    fleet.guest("dvb1", "hv1", ["03:02.0", {"path": "0000:03:02.0"}])
    fleet.guest("dvb2", "hv1", [{"query": "[?class=='048000'].address | [1]"}, 4860.0, {"card": "saa7146-budget"}])
    fleet.guest("net1", "hv1", ["09:00.0"])

    fleet.hosts["hv2"] = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    fleet.guest("fax3", "hv2", ["06:00.0"])

    hv3 = fleet.host("hv3")
    card(hv3, "0000:06:00.0", group=6)
    card(hv3, "0000:07:00.0", group=7)
    fleet.guest("fax4", "hv3", [{"card": "hfc-4s"}])

    fleet.host("hv4", ansible_python_interpreter="/nonexistent/python")
    fleet.guest("fax5", "hv4", ["06:00.0"])

    fleet.guest("fax6", "hv9", ["06:00.0"])
    fleet.guests["fax7"] = {"kvm_guest_memory": 32, "kvm_guest_mac": "01:00:5e:00:00:01"}

    hv5 = fleet.host("hv5", kvm_host_force=["01:00.0"])
    uplink(hv5, "0000:01:00.0", "enp1s0")
    card(hv5, "0000:06:00.0", group=6)
    fleet.guest("fax8", "hv5", [], kvm_guest_image="/nonexistent/debian.qcow2")
    fleet.guest("fax9", "hv5", [], kvm_guest_vcpus="many")
    fleet.guest("fax10", "hv5", [{"query": "[?starts_with(id, '1397:')]"}, "01:00.0"])

    outcome = fleet.play("deploy")
    faults, limit = outcome.refusal()
    hv1_has = (
        "0000:01:00.0 [8086:10d3] (driver e1000e); 0000:03:02.0 [1131:7146] (no driver); 0000:03:06.0 [1131:7146]"
        " (no driver); 0000:06:00.0 [1397:08b4] (no driver); 0000:09:00.0 [8086:1533] (no driver);"
        " 0000:09:00.1 [8086:1533] (driver igb)"
    )
    expected = [
        'hv1: kvm_guest_pci_devices of dvb1: selectors "03:02.0" and {"path": "0000:03:02.0"} both match 0000:03:02.0.'
        " Remove one of them, or add a key that tells their devices apart",
        "hv1: kvm_guest_pci_devices of dvb2: 4860.0 is a number where a PCI address belongs: YAML reads unquoted digits"
        " as a number, 81:00.0 in base 60 as 4860.0, 020000 in base 8 as 8192. Quote it, as in '81:00.0'",
        'hv1: kvm_guest_pci_devices of dvb2: Selector {"card": "saa7146-budget"} matches no device, 1 is needed. The'
        f" devices are: {hv1_has}",
        'hv1: 0000:06:00.0 is promised twice, by kvm_guest_pci_devices of fax1 ({"id": "1397:08b4"}) and'
        ' kvm_guest_pci_devices of fax2 ("06:00.0"). Only one guest can have it',
        "hv1: IOMMU group 12 is split between dvb1 (0000:03:02.0) and dvb2 (0000:03:06.0). Promise all of it to one of"
        " them, or put the cards into slots whose groups are their own",
        "hv1: kvm_guest_pci_devices of fax2: 0000:01:00.0 carries the default route (enp1s0). ",
        "hv1: kvm_guest_pci_devices of net1: 0000:09:00.0 shares IOMMU group 9 with 0000:09:00.1",
        "hv2 is unreachable: Failed to connect to the host",
        'hv3: kvm_guest_pci_devices of fax4: Selector {"card": "hfc-4s"} matches 2 devices, 1 is needed. They are: '
        "0000:06:00.0 [1397:08b4] (no driver); 0000:07:00.0 [1397:08b4] (no driver).",
        "hv4 cannot be judged: The module interpreter '/nonexistent/python' was not found.",
        "fax6: kvm_guest_host is hv9; it must be the inventory name of its hypervisor, a host of the group kvm_hosts",
        "fax7: kvm_guest_host is not set; it must be the inventory name of its hypervisor, a host of the group",
        "fax7: kvm_guest_memory is 32 MiB; a guest needs 64 at least",
        "fax7: kvm_guest_mac is 01:00:5e:00:00:01; it must be a unicast MAC, in quotes",
        "fax8: there is no disk /var/lib/libvirt/images/fax8.qcow2 on hv5, and no image /nonexistent/debian.qcow2 to"
        " make it from",
        "fax9 cannot be judged: Validation of arguments failed: argument 'kvm_guest_vcpus' is of type str",
    ]
    assert [fault[: len(start)] for fault, start in zip(faults, expected)] == expected
    assert len(faults) == len(expected)
    assert outcome.code != 0
    assert outcome.reached() == []
    assert limit == ("all,!hv1,!hv2,!hv3,!hv4,!fax6,!fax7,!fax8,!fax9,!fax1,!fax2,!dvb1,!dvb2,!net1,!fax3,!fax4,!fax5")

    outcome = fleet.play("deploy", "--limit", limit)
    assert "in the plan, nothing was changed" not in outcome.output
    assert outcome.reached() == ["hv5"]


def test_a_guest_alone_is_held_against_its_hypervisor(fleet: Fleet) -> None:
    hv1 = fleet.host("hv1")
    card(hv1, "0000:06:00.0", group=6)
    card(hv1, "0000:07:00.0", group=7, driver="vfio-pci")
    fleet.guest("fax1", "hv1", ["06:00.0", "08:00.0"])
    fleet.guest("fax2", "hv1", [{"query": "[?driver=='vfio-pci']"}])
    fleet.guest("fax3", "hv1", ["09:00.0"])
    outcome = fleet.play("deploy", "--limit", "fax1,fax2")
    there = "0000:06:00.0 [1397:08b4] (no driver); 0000:07:00.0 [1397:08b4] (driver vfio-pci)"
    assert outcome.refusal() == (
        [
            'hv1: kvm_guest_pci_devices of fax1: Selector "08:00.0" matches no device, 1 is needed.'
            f" The devices are: {there}",
            "hv1: 0000:06:00.0 for fax1 not bound to vfio-pci. Run the playbook prepare on it, and reboot it if a"
            " reboot is due",
        ],
        "fax1,fax2,!fax1",
    )
    assert outcome.reached() == []


def test_a_device_that_nobody_wants_any_more_must_be_able_to_go_back(fleet: Fleet) -> None:
    hv1 = fleet.host("hv1")
    hv1.write("/sys/class/iommu/dmar0/intel-iommu/version", "1:0\n")
    for address, opened in (("0000:06:00.0", "1"), ("0000:07:00.0", "0"), ("0000:08:00.0", "1")):
        card(hv1, address, group=int(address[5:7]), driver="vfio-pci")
        (hv1.device(address) / "enable").write_text(opened + "\n")
        (hv1.device(address) / "driver_override").write_text("vfio-pci\n")
        hv1.write(
            f"/etc/udev/rules.d/10-passthrough-{address}.rules", rule_text(address, IDENTITY, "vfio-pci", "vfio-pci")
        )
    hv1.write("/run/libvirt/qemu/fax1.xml", GUEST)
    fleet.guest("fax1", "hv1", ["06:00.0"])
    assert fleet.play("prepare", "--limit", "hv1").refusal() == (
        [
            "hv1: 0000:08:00.0 is in use by a running guest (/sys/bus/pci/devices/0000:08:00.0/enable: 1); shut the"
            " guest down, or detach the device from it, first"
        ],
        "",
    )


def test_prepare_judges_guests_by_their_variables_only(fleet: Fleet) -> None:
    hv1 = fleet.host("hv1")
    card(hv1, "0000:06:00.0", group=6)
    fleet.guest("fax1", "hv1", ["06:00.0"], kvm_guest_image="/nonexistent/yet", kvm_guest_name="fax/1")
    outcome = fleet.play("prepare", "--check")
    fault = "fax1: kvm_guest_name is fax/1; it takes letters, digits and _ . + - only"
    assert outcome.refusal() == ([fault], "all,!fax1")
