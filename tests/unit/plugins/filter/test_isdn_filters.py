# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters are thin: what they do is in test_isdn_plan.py and its neighbours. Here are values as a play has them."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader

from ansible_collections.kvm.passthrough.plugins.filter import (
    isdn_faults,
    isdn_leaving,
    isdn_modules,
    isdn_plan,
    isdn_shortfall,
)
from ansible_collections.kvm.passthrough.tests.unit.plugins.module_utils.test_isdn_plan import MACHINE, QUADBRI, WANTED

faults = isdn_faults.FilterModule().filters()["isdn_faults"]
plan = isdn_plan.FilterModule().filters()["isdn_plan"]
modules = isdn_modules.FilterModule().filters()["isdn_modules"]
leaving = isdn_leaving.FilterModule().filters()["isdn_leaving"]
shortfall = isdn_shortfall.FilterModule().filters()["isdn_shortfall"]


def _from_yaml(value: t.Any) -> t.Any:
    """As variables of a play are: strings, numbers and dictionaries that bear tags of where they stand."""
    return DataLoader().load(f"value: {json.dumps(value)}", file_name="/inventory/group_vars/all.yml")["value"]


@pytest.mark.parametrize("provider", ["misdn", "dahdi"])
def test_what_a_plan_returns(provider: str) -> None:
    devices = _from_yaml([{**QUADBRI, "subsystem_id": "1397:b550"}])
    made = plan(devices, "isdn1", _from_yaml({**WANTED, "provider": provider}), _from_yaml(MACHINE))
    assert made["faults"] == []
    assert set(made) == set(yaml.safe_load(isdn_plan.RETURN)["_value"]["contains"])
    assert json.loads(json.dumps(made)) == made, "plain data, for a fact"


@pytest.mark.parametrize(
    "wrong",
    [
        {"l1oip": [{"id": 0}]},
        {"asterisk": True},
        {"provider": "dahdi", "spans": [{"side": "both"}, {"local": 1}]},
        {"provider": "dahdi", "dialplan": {"isdn": ["100"]}},
        {"module_options": {"hfcmulti": "poll", "e1000e": "x=1", "l1oip": "id=7"}},
    ],
)
def test_a_plan_has_the_faults_of_the_variables_first(wrong: dict[str, t.Any]) -> None:
    wanted = _from_yaml({**WANTED, **wrong})
    found = faults(wanted, "isdn1")
    assert found
    made = plan(_from_yaml([{**QUADBRI, "subsystem_id": "1397:b550"}]), "isdn1", wanted, _from_yaml(MACHINE))
    assert made["faults"] == found


def test_from_the_plan_to_the_lines() -> None:
    made = plan(_from_yaml([QUADBRI]), "isdn1", _from_yaml(WANTED), _from_yaml(MACHINE))
    todo = modules(made, "", {"options": "", "load": "", "due": ""}, "")
    assert set(todo) == set(yaml.safe_load(isdn_modules.RETURN)["_value"]["contains"])
    assert todo == {"unload": [], "busy": [], "load": ["hfcmulti", "mISDN_dsp"]}
    isdn = {"misdn": {"controllers": [{"address": QUADBRI["address"]}] * 3}, "messages": ["HFC"]}
    [missing] = shortfall(isdn, made, "isdn1", [{**QUADBRI, "driver": "hfc_multi"}], refused=[])
    assert missing.startswith(
        "isdn1: 0000:05:00.0 (1397:08b4, board 1397:b620, hfc-4s) has 3 of 4 mISDN controllers, and"
    )
    assert leaving("mISDN_dsp\n", "mISDN_dsp 258048 0 - Live 0x0000000000000000\n", freed=False) == ["mISDN_dsp"]
