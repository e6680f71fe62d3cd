# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _fleet, _verdict
from ansible_collections.kvm.passthrough.plugins.module_utils._sriov_plan import make_plan
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space, express

Facts = t.Dict[str, t.Any]

A, B, NIC, GIVEN = "0000:05:00.0", "0000:05:00.1", "0000:07:00.0", "0000:08:00.0"
F0, F1 = "0000:05:10.0", "0000:05:10.2"
CAPABLE = f"{A} (8086:10c9), {B} (8086:10c9), {GIVEN} (8086:10c9), 0000:09:00.0 (8086:10c9)"


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    """A card of two ports that can be split, one that cannot, one that a guest is to have, and one without driver."""
    tree = PciTree(tmp_path)
    card = config_space("8086:10c9", capabilities=[express(0)], header=0x80)
    drivers = {A: "igb", B: "igb", GIVEN: "vfio-pci", "0000:09:00.0": None}
    for group, (address, driver) in enumerate(drivers.items()):
        more: Facts = {"attributes": {"enable": "0"}}
        tree.add(address, card, pci_id="8086:10c9", subsystem="8086:a03c", driver=driver, group=group, **more)
        tree.split(address, 0)
    tree.add(NIC, config_space(capabilities=[express(0)]), driver="e1000e", group=9)
    return tree


def verdict(tree: PciTree, **more: t.Any) -> Facts:
    """What passthrough_info returns with facts."""
    machine = _verdict.read_machine(str(tree.root), lambda warning: None)
    return {**_verdict.judge(machine, **more), "ansible_facts": _verdict.facts(machine), "changed": False}


def addresses(judged: Facts) -> tuple[list[str], list[str]]:
    """Of the facts, and of the verdicts."""
    facts = judged["ansible_facts"]["pci_devices"]
    return [device["address"] for device in facts], [device["address"] for device in judged["devices"]]


def test_functions_that_come(tree: PciTree) -> None:
    judged = verdict(tree)
    untouched = copy.deepcopy(judged)
    plan = make_plan(judged, "hv1", [{"address": "05:00.0", "vfs": 2}, {"address": B, "vfs": "1"}])
    assert (plan["devices"], plan["faults"]) == ([{"address": A, "num_vfs": 2}, {"address": B, "num_vfs": 1}], [])
    expected = [A, B, F0, "0000:05:10.1", F1, NIC, GIVEN, "0000:09:00.0"]
    assert addresses(plan["verdict"]) == (expected, expected)
    by_address = {entry["address"]: entry for entry in plan["verdict"]["devices"]}
    assert by_address[F0] == {"address": F0, "verdict": "assignable", "findings": []}
    assert by_address[NIC] is judged["devices"][2]
    assert {key: plan["verdict"][key] for key in ("host", "guests", "changed")} == {
        key: judged[key] for key in ("host", "guests", "changed")
    }
    assert judged == untouched


@pytest.mark.parametrize("wanted", [[], None, [{"address": A, "vfs": 0}], [{"id": "8086:10c9", "vfs": 0, "count": 4}]])
def test_nothing_to_do_changes_nothing(tree: PciTree, wanted: t.Any) -> None:
    judged = verdict(tree)
    plan = make_plan(judged, "hv1", wanted)
    assert plan["verdict"] is judged
    assert plan["faults"] == []


def test_done_changes_nothing(tree: PciTree) -> None:
    tree.split(A, 2)
    judged = verdict(tree)
    plan = make_plan(judged, "hv1", {"address": A, "vfs": 2})
    assert (plan["devices"], plan["faults"]) == ([{"address": A, "num_vfs": 2}], [])
    assert plan["verdict"] is judged


@pytest.mark.parametrize(
    "judged", [{"msg": "No route to host", "unreachable": True}, {"msg": "root: there is no folder", "failed": True}]
)
def test_a_host_that_is_not_judged(judged: Facts) -> None:
    plan = make_plan(judged, "hv1", [{"address": A, "vfs": 2}])
    assert plan == {"devices": [], "faults": [], "verdict": judged}


def test_functions_that_go(tree: PciTree) -> None:
    tree.split(A, 3)
    plan = make_plan(verdict(tree), "hv1", [{"address": A, "vfs": 1}])
    expected = [A, B, F0, NIC, GIVEN, "0000:09:00.0"]
    assert addresses(plan["verdict"]) == (expected, expected)
    assert [entry["findings"] for entry in plan["verdict"]["devices"] if entry["address"] == F0] != [[]]


def test_verdicts_on_some_devices_only(tree: PciTree) -> None:
    judged = verdict(tree, wanted=[{"address": NIC}])
    plan = make_plan(judged, "hv1", [{"address": A, "vfs": 1}])
    assert addresses(plan["verdict"])[1] == [F0, NIC]


def test_a_device_that_is_split_cannot_be_promised_itself(tree: PciTree) -> None:
    def faults(vfs: int, *selectors: t.Any) -> list[str]:
        plan = make_plan(judged, "hv1", [{"address": A, "vfs": vfs}])
        wishes = [_fleet.Wish([selector], guest) for guest, selector in zip(("fax1", "fax2"), selectors)]
        assert plan["faults"] == []
        own = list(selectors)
        found = _fleet.make_plan("hv1", {**plan["verdict"], "host": {"findings": []}}, own, wishes).faults
        return [fault.text for fault in found]

    def word() -> str:
        plan = make_plan(judged, "hv1", [{"address": A, "vfs": 2}])
        return next(entry["verdict"] for entry in plan["verdict"]["devices"] if entry["address"] == A)

    judged = verdict(tree)
    functions = ({"physical_function": A, "virtual_function": index} for index in range(2))
    assert faults(2, *functions) == []
    assert faults(2, A) == [
        f"hv1: kvm_guest_pci_devices of fax1: {A} has 2 virtual functions, which would go with it. Assign the virtual"
        f" functions instead, or free them and write 0 to sriov_numvfs of {A}"
    ]
    assert faults(0, A) == []
    assert word() == "blocked"
    tree.split(A, 2)
    judged = verdict(tree)
    assert len(faults(2, A)) == 1
    assert faults(0, A) == []


NOT_CAPABLE = "has no SR-IOV, or the firmware's setup switches it off; devices that have it are"
WRITE_IT = "does not say how many virtual functions. Write it as {address: '0000:05:00.0', vfs: 2}"


@pytest.mark.parametrize(
    ("wanted", "faults", "devices"),
    [
        pytest.param([{"address": A}], [f'Selector {{"address": "{A}"}} {WRITE_IT}'], [], id="no vfs"),
        pytest.param(["05:00.0"], [f'Selector "05:00.0" {WRITE_IT}'], [], id="plain text"),
        *(
            pytest.param(
                [{"address": A, "vfs": vfs}],
                [f'Selector {{"address": "{A}"}}: vfs is a number from 0 on, not {vfs!r}'],
                [],
                id=f"vfs {vfs}",
            )
            for vfs in ("many", -1, 1.5, True, "")
        ),
        pytest.param(
            [{"address": A, "vfs": 8}],
            [f'Selector {{"address": "{A}"}}: {A} can have 7 virtual functions at most, not 8; ask for no more than 7'],
            [],
            id="too many",
        ),
        pytest.param(
            [{"address": NIC, "vfs": 2}, {"address": B, "vfs": 2}],
            [f'Selector {{"address": "{NIC}"}}: {NIC} {NOT_CAPABLE} {CAPABLE}'],
            [B],
            id="not capable; the others are told of",
        ),
        pytest.param(
            [{"address": GIVEN, "vfs": 2}],
            [
                f'Selector {{"address": "{GIVEN}"}}: {GIVEN} is with vfio-pci, which is for guests and makes no virtual'
                " functions; take it from its guest and give it back to its own driver first, or split another device"
            ],
            [],
            id="with a guest",
        ),
        pytest.param(
            [{"address": "09:00.0", "vfs": 2}],
            [
                'Selector {"address": "09:00.0"}: 0000:09:00.0 has no driver, and only a driver makes virtual'
                " functions; load its module first"
            ],
            [],
            id="no driver",
        ),
        pytest.param(
            [{"address": A, "vfs": 2}, {"driver": "igb", "count": 2, "vfs": 1}],
            [
                f'selectors {{"address": "{A}"}} and {{"driver": "igb", "count": 2}} both match {A}. Remove one of'
                " them, or add a key that tells their devices apart"
            ],
            [A, B],
            id="twice",
        ),
        pytest.param(
            [{"vendor": "8086", "vfs": 1}],
            [
                'Selector {"vendor": "8086"} has the unknown key vendor. Known keys are address, id, subsystem_id,'
                " class, driver, path, physical_function, virtual_function, card, query, count"
            ],
            [],
            id="unknown key",
        ),
        pytest.param([{"driver": "igb", "count": 2, "vfs": 1}], [], [A, B], id="two by one selector"),
    ],
)
def test_faults(tree: PciTree, wanted: t.Any, faults: list[str], devices: list[str]) -> None:
    plan = make_plan(verdict(tree), "hv1", wanted)
    assert plan["faults"] == [f"hv1: kvm_host_sriov: {fault}" for fault in faults]
    assert [device["address"] for device in plan["devices"]] == devices


def test_a_selector_that_matches_too_much(tree: PciTree) -> None:
    (fault,) = make_plan(verdict(tree), "hv1", [{"driver": "igb", "vfs": 1}])["faults"]
    assert fault.startswith('hv1: kvm_host_sriov: Selector {"driver": "igb"} matches 2 devices, 1 is needed. They are')


@pytest.mark.parametrize(("number", "fault"), [(0, False), (1, True)])
def test_a_device_that_does_not_tell(tree: PciTree, number: int, fault: bool) -> None:
    tree.split(A, 0, offset=0, stride=0)
    plan = make_plan(verdict(tree), "hv1", [{"address": A, "vfs": number}])
    expected = (
        f'hv1: kvm_host_sriov: Selector {{"address": "{A}"}}: {A} does not tell where its virtual functions will be'
        " before it has any, so that they cannot be planned; make them once by kvm.passthrough.pci_sriov alone, then"
        " run this again"
    )
    assert plan["faults"] == ([expected] if fault else [])
