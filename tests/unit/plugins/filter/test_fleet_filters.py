# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters of the plan are thin: what they do is in test_fleet.py, and tests/unit/playbooks uses them."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleError, AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.filter import (
    fleet_refusal,
    guest_wishes,
    host_plan,
    host_staying,
    pci_leaving,
    release_plan,
)

NO_MARKS: dict[str, t.Any] = {"mac": None, "disks": []}
WISHES = [
    {"guest": "fax1", "name": "fax1", "selectors": ["06:00.0"], "fault": None, **NO_MARKS},
    {"guest": "fax2", "name": "FAX", "selectors": ["07:00.0"], "fault": None, **NO_MARKS},
]
VERDICT: dict[str, t.Any] = {
    "host": {"findings": []},
    "devices": [],
    "guests": [],
    "ansible_facts": {"pci_devices": [{"address": "0000:06:00.0", "id": "1397:08b4"}]},
}
FAULT = (
    'hv1: kvm_guest_pci_devices of fax2: Selector "07:00.0" matches no device, 1 is needed. The devices are:'
    " 0000:06:00.0 [1397:08b4] (no driver)"
)


class Broken(t.Dict[str, t.Any]):
    """Variables of which one is a template that fails."""

    def get(self, key: str, default: t.Any = None) -> t.Any:
        if key == "kvm_guest_name":
            raise AnsibleError("a variable that is not there")
        return super().get(key, default)


def test_guest_wishes() -> None:
    call = guest_wishes.FilterModule().filters()["guest_wishes"]
    inventory = {
        "hv1": {},
        "fax1": {"kvm_guest_host": "hv1", "kvm_guest_pci_devices": ["06:00.0"]},
        "fax2": {"kvm_guest_host": "hv1", "kvm_guest_pci_devices": "07:00.0", "kvm_guest_name": "FAX"},
        "fax3": Broken(kvm_guest_host="hv2"),
    }
    assert call(inventory) == {
        "hv1": WISHES,
        "hv2": [{"guest": "fax3", "name": "fax3", "selectors": [], "fault": None, **NO_MARKS}],
    }
    with pytest.raises(AnsibleFilterError, match="guest_wishes works on hostvars"):
        call(["hv1"])


def test_what_no_two_guests_of_a_host_can_share() -> None:
    call = guest_wishes.FilterModule().filters()["guest_wishes"]
    disks = [{"name": "data", "path": "/srv/data.qcow2"}, {"name": "own"}, "damaged"]
    more = {"kvm_guest_mac": "52:54:00:00:00:01", "kvm_guest_disk": "/srv/fax1.qcow2", "kvm_guest_data_disks": disks}
    (wish,) = call({"fax1": {"kvm_guest_host": "hv1", **more}})["hv1"]
    assert (wish["mac"], wish["disks"]) == ("52:54:00:00:00:01", ["/srv/fax1.qcow2", "/srv/data.qcow2"])


def test_host_plan() -> None:
    call = host_plan.FilterModule().filters()["host_plan"]
    assert call(VERDICT, "hv1", ["06:00.0", "07:00.0"], WISHES) == {
        "faults": [FAULT],
        "leaving": VERDICT["ansible_facts"]["pci_devices"],
        "guests": {"fax1": ["0000:06:00.0"], "fax2": []},
    }
    assert call(VERDICT, "hv1", ["06:00.0", "07:00.0"], WISHES, guest="fax1")["faults"] == []
    assert call(VERDICT, "hv1", ["06:00.0", "07:00.0"], WISHES, guest="fax2")["faults"] == [FAULT]
    assert call({"msg": "No route", "unreachable": True}, "hv1", [], WISHES, [], "fax1") == {
        "faults": ["hv1 is unreachable: No route"],
        "leaving": [],
        "guests": {},
    }
    with pytest.raises(AnsibleFilterError, match="the wishes are not those of kvm.passthrough.guest_wishes"):
        call(VERDICT, "hv1", [], [{"guest": "fax1"}])


def test_release_plan() -> None:
    call = release_plan.FilterModule().filters()["release_plan"]
    groups = {"groups": {"kvm_hosts": ["hv1"], "kvm_guests": ["fax1", "fax2"]}}
    inventory = {
        "hv1": groups,
        "fax1": {"kvm_guest_host": "hv1", "kvm_guest_pci_devices": ["06:00.0"], "kvm_guest_name": "FAX", **groups},
        "fax2": {"kvm_guest_host": "hv1", "kvm_guest_pci_devices": ["07:00.0"], **groups},
    }
    assert call(inventory, ["hv1", "fax1"]) == {
        "refusal": "",
        "hosts": {"hv1": {"guests": ["FAX"], "keep": ["07:00.0"]}},
    }
    assert call(inventory, ["fax1"]) == {
        "refusal": "1 fault in what is to be released, nothing was changed:\n- fax1: the hypervisor hv1, which gets the"
        " devices back, is not in this run. To release what it has: --limit 'fax1,hv1'",
        "hosts": {},
    }
    assert call({}, []) == {"refusal": "", "hosts": {}}
    with pytest.raises(AnsibleFilterError, match="release_plan works on hostvars"):
        call(["hv1"], [])


def test_host_staying() -> None:
    call = host_staying.FilterModule().filters()["host_staying"]
    devices = [{"address": "0000:06:00.0", "id": "1397:08b4", "driver": "vfio-pci", "modules": ["hfcmulti"]}]
    assert call({**VERDICT, "ansible_facts": {"pci_devices": devices}}, ["06:00.0"], ["fax1"]) == {
        "addresses": ["0000:06:00.0"],
        "modules": ["hfc4s8s_l1", "hfcmulti", "qozap", "wcb4xxp"],
        "functions": [],
        "pending": [],
    }


def test_pci_leaving() -> None:
    call = pci_leaving.FilterModule().filters()["pci_leaving"]
    assert call([{"card": "hfc-4s", "count": 2}, {"colour": "red"}]) == [{"card": "hfc-4s", "count": 2}]
    assert call([{"query": "[0]"}], VERDICT["ansible_facts"]["pci_devices"]) == ["0000:06:00.0"]


def test_fleet_refusal() -> None:
    call = fleet_refusal.FilterModule().filters()["fleet_refusal"]
    inventory = {
        "hv1": {"__kvm_host_faults": ["hv1: one"]},
        "hv2": {"__kvm_host_faults": []},
        "fax1": {"kvm_guest_host": "hv1", "__kvm_guest_faults": []},
        "fax2": {"kvm_guest_host": "hv2", "__kvm_guest_faults": ["fax2: two"]},
        "web1": {},
        "tv1": {"__isdn_guest_faults": ["tv1: three"], "__dvbt_guest_faults": ["tv1: four"]},
    }
    assert call(inventory, ["tv1"], None, "no service was changed") == (
        "2 faults in the plan, no service was changed:\n- tv1: three\n- tv1: four"
    )
    assert call(inventory, ["hv1", "hv2", "fax1", "fax2"], "site_a") == (
        "2 faults in the plan, nothing was changed:\n- hv1: one\n- fax2: two\n"
        "The others can go on without them: --limit 'site_a,!hv1,!fax2,!fax1'"
    )
    assert call(inventory, ["hv2", "web1"]) == ""
    with pytest.raises(AnsibleFilterError, match="fleet_refusal works on hostvars"):
        call(["hv1"], [])
