# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter is thin: what it does is in test_sriov_plan.py. Here are values as a play has them."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.kvm.passthrough.plugins.filter.sriov_plan import FilterModule
from ansible_collections.kvm.passthrough.tests.unit.machines import device

sriov_plan = FilterModule().filters()["sriov_plan"]
SRIOV = {"total_vfs": 7, "num_vfs": 0, "vf_id": "8086:10ca", "offset": 128, "stride": 2}
VERDICT: dict[str, t.Any] = {
    "host": {"verdict": "capable", "findings": []},
    "devices": [{"address": "0000:05:00.0", "verdict": "assignable", "findings": []}],
    "guests": [],
    "ansible_facts": {"pci_devices": [device("0000:05:00.0", driver="igb", sriov=SRIOV)]},
}


def _from_yaml(text: str) -> t.Any:
    """As variables of a play are: strings, numbers and dictionaries that bear tags of where they stand."""
    return DataLoader().load(f"value: {text}", file_name="/inventory/group_vars/all.yml")["value"]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [("[{address: '05:00.0', vfs: 2}]", 2), ("[{driver: igb, vfs: '2'}]", 2), ("{card: hfc-4s, vfs: 1}", None)],
)
def test_values_from_yaml(wanted: str, number: int | None) -> None:
    plan = sriov_plan(_from_yaml(json.dumps(VERDICT)), _from_yaml("hv1"), _from_yaml(wanted))
    assert plan["devices"] == ([{"address": "0000:05:00.0", "num_vfs": number}] if number else [])
    assert len(plan["verdict"]["ansible_facts"]["pci_devices"]) == 1 + (number or 0)
    assert len(plan["faults"]) == (0 if number else 1)


def test_what_it_returns_can_be_written_down() -> None:
    plan = sriov_plan(VERDICT, "hv1", [{"address": "05:00.0", "vfs": 2}])
    assert json.loads(json.dumps(plan)) == plan
    assert sriov_plan(VERDICT, "hv1", []) == {"devices": [], "faults": [], "verdict": VERDICT}
