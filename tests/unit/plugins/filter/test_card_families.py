# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.filter import card_families

call = card_families.FilterModule().filters()["card_families"]

QUADBRI = {"address": "0000:06:00.0", "id": "1397:08b4", "subsystem_id": "1397:b752", "driver": "vfio-pci"}
TUNER = {"address": "0000:06:01.0", "id": "1131:7146", "subsystem_id": "13c2:0001", "driver": None}
UPLINK = {"address": "0000:01:00.0", "id": "8086:10d3", "subsystem_id": "8086:a01f", "driver": "e1000e"}


def test_a_row_is_what_the_documentation_says() -> None:
    returned = yaml.safe_load(card_families.RETURN)["_value"]["contains"]
    [row] = call([UPLINK, QUADBRI], "isdn")
    assert set(row) == set(returned)
    for name in ("address", "id", "subsystem_id", "driver", "card", "kind", "modules", "drivers", "guest_modules"):
        assert row[name] == returned[name]["sample"]
    for name in ("packages", "since", "before", "ports", "refused", "dahdi", "rivals"):
        assert row[name] == returned[name]["sample"]
    assert row["about"].startswith(returned["about"]["sample"])
    assert returned["traps"]["sample"][0] in row["traps"]
    [tuner] = call([TUNER], "dvb")
    assert set(tuner["firmware"][1]) == set(returned["firmware"]["contains"])
    assert tuner["firmware"][1] == {name: field["sample"] for name, field in returned["firmware"]["contains"].items()}


def test_kinds() -> None:
    devices = [UPLINK, QUADBRI, TUNER]
    assert [row["address"] for row in call(devices)] == ["0000:06:00.0", "0000:06:01.0"]
    assert [row["address"] for row in call(devices, kind="isdn")] == ["0000:06:00.0"]
    assert [row["address"] for row in call(devices, "dvb")] == ["0000:06:01.0"]
    assert json.loads(json.dumps(call(devices))) == call(devices), "plain data, for a fact"


@pytest.mark.parametrize(
    ("devices", "kind", "message"),
    [
        ("1397:08b4", "", "card_families works on the list pci_devices of kvm.passthrough.pci_facts"),
        (["1397:08b4"], "", "card_families works on the list pci_devices of kvm.passthrough.pci_facts"),
        ([QUADBRI], "tv", "card_families: kind is 'tv'; it is isdn, dvb or empty for both"),
        ([QUADBRI], None, "card_families: kind is None; it is isdn, dvb or empty for both"),
    ],
)
def test_what_it_does_not_work_on(devices: t.Any, kind: t.Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(message)):
        call(devices, kind)
