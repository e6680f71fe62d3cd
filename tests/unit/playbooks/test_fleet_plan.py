# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks prepare and deploy: all that is wrong with the plan in one message, before the first change."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.tests.unit.fleet import Fleet, Tasks, card, copy_collection, uplink

# The first steps after the plan; the ones after them need the hosts for real.
STEPS = {
    "kvm_host": ["install", "kernel", "ksm", "sriov", "devices", "verify"],
    "kvm_guest": ["read", "devices", "disks", "network", "define", "live", "start", "verify"],
}


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    steps: dict[str, dict[str, Tasks | None]] = {role: dict.fromkeys(names) for role, names in STEPS.items()}
    steps["kvm_guest"]["let_go"] = []  # of a guest that is not there
    return copy_collection(tmp_path_factory.mktemp("collections"), steps)


@pytest.fixture
def fleet(tmp_path: Path, collections: Path) -> Fleet:
    return Fleet(tmp_path, collections)


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
        "fax7: kvm_guest_memory is 32 MiB; it takes 128 at least",
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


def test_prepare_judges_guests_by_their_variables_only(fleet: Fleet) -> None:
    hv1 = fleet.host("hv1")
    card(hv1, "0000:06:00.0", group=6)
    fleet.guest("fax1", "hv1", ["06:00.0"], kvm_guest_image="/nonexistent/yet", kvm_guest_name="fax/1")
    outcome = fleet.play("prepare", "--check")
    fault = "fax1: kvm_guest_name is fax/1; it takes letters, digits and _ . + - only"
    assert outcome.refusal() == ([fault], "all,!fax1")


def test_services_of_guests_yet_to_come_are_judged_by_their_variables(fleet: Fleet) -> None:
    fleet.host("hv1")
    spans = {"isdn_guest_spans": [{"side": "nt"}]}
    oliver = {"name": "oliver", "fax_numbers": ["12"], "fax_stationID": "12", "voice_numbers": ["13"]}
    said = {**oliver, "announcement": "/nonexistent/a.wav"}
    fleet.guest("fax1", "hv1", [], capisuite_guest_users=[oliver], capisuite_guest_idle_interval=0, **spans)
    fleet.guest("fax2", "hv1", [], capisuite_guest_users=[said])
    fleet.guest("tv1", "hv1", [], dvbt_guest_scan="Germany", dvbt_guest_timers=["1:1:soon"])
    fleet.guest("tv2", "hv1", [], dvbt_guest_timeout="long")
    fleet.guest("tv3", "hv1", [], dvbt_guest_scan="DE")
    fleet.guest("net1", "hv1", [], **spans)
    fleet.groups = {
        "isdn_guests": ["fax1"],
        "capisuite_guests": ["fax1", "fax2"],
        "dvbt_guests": ["tv1", "tv2", "tv3"],
    }
    faults, limit = fleet.play("deploy").refusal()
    expected = [
        "fax1: isdn_guest_spans is for isdn_guest_provider: dahdi, and the provider is misdn",
        "fax1: capisuite_guest_idle_interval is 0 and capisuite_guest_start_timeout",
        "fax2: there is no /nonexistent/a.wav on the controller to make an announcement of",
        "tv1: dvbt_guest_scan is Germany; it is a country by two letters, such as DE",
        "tv1: dvbt_guest_timers",
        "tv2 cannot be judged: Validation of arguments failed: argument 'dvbt_guest_timeout' is of type str",
    ]
    assert [fault[: len(start)] for fault, start in zip(faults, expected)] == expected
    assert limit == "all,!fax1,!fax2,!tv1,!tv2"


def test_huge_pages_may_come_with_a_boot_that_the_run_may_make(fleet: Fleet) -> None:
    huge = {"kvm_guest_disk_size": "1G", "kvm_guest_hugepages": "2M", "kvm_guest_memory": 256}
    arguments = {"kvm_host_kernel_args": ["hugepagesz=1G", "hugepages=4", "hugepagesz=2M", "hugepages=128"]}
    allowed = {"kvm_host_reboot_allowed": True}
    for name, variables in {"hv1": {}, "hv2": arguments, "hv3": {**arguments, **allowed}, "hv4": allowed}.items():
        fleet.host(name, **variables)
        fleet.guest(f"fax-{name}", name, [], **huge)
    fleet.guest("more", "hv3", [], **{**huge, "kvm_guest_memory": 258})
    faults, _limit = fleet.play("deploy").refusal()
    assert [fault.partition(" add ")[0] for fault in faults] == [
        f"{guest}: {host} has 0 huge pages of 2M, too few for kvm_guest_memory {memory} MiB;"
        for guest, host, memory in (
            ("fax-hv1", "hv1", 256),
            ("fax-hv2", "hv2", 256),
            ("fax-hv4", "hv4", 256),
            ("more", "hv3", 258),
        )
    ]
