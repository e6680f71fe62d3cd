# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader

from ansible_collections.kvm.passthrough.plugins.filter.pci_select import FilterModule

DEVICES = [
    {"address": "0000:01:00.0", "id": "8086:10d3", "class": "020000", "driver": "e1000e", "modules": ["e1000e"]},
    {"address": "0000:06:04.0", "id": "1397:08b4", "class": "020400", "driver": "HFC-multi", "modules": ["hfcmulti"]},
]
pci_select = FilterModule().filters()["pci_select"]


def test_devices_in_the_order_of_the_selectors() -> None:
    assert pci_select(DEVICES, [{"id": "1397:08b4"}, "01:00.0"]) == DEVICES[::-1]


@pytest.mark.parametrize("devices", [None, "text", [1], {"address": "0000:01:00.0"}])
def test_something_else_than_devices(devices: t.Any) -> None:
    with pytest.raises(
        AnsibleFilterError, match="pci_select works on the list pci_devices of kvm.passthrough.pci_facts"
    ):
        pci_select(devices, [])


def test_message() -> None:
    with pytest.raises(AnsibleFilterError, match='^Selector "02:00.0" matches no device, 1 is needed.'):
        pci_select(DEVICES, ["02:00.0"])


def _from_yaml(selectors: str) -> t.Any:
    """As variables of a play are: strings, numbers and dictionaries that bear tags of where they stand."""
    return DataLoader().load(f"selectors: {selectors}", file_name="/inventory/group_vars/all.yml")["selectors"]


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ("[{address: '06:04.0'}]", DEVICES[1:]),
        ("['06:04.0', {class: '0200', driver: e1000e, count: 1}]", DEVICES[::-1]),
        ("[{class: '02', count: all}]", DEVICES),
        ("'1397:08b4'", DEVICES[1:]),
        ("[{card: hfc-4s}]", DEVICES[1:]),
        ("""[{query: "[?driver=='e1000e']"}]""", DEVICES[:1]),
    ],
)
def test_values_from_yaml(selectors: str, expected: list[dict[str, t.Any]]) -> None:
    assert pci_select(DEVICES, _from_yaml(selectors)) == expected


def test_query_over_devices_from_yaml() -> None:
    """Their strings are of a type of Ansible's own, which JMESPath does not know."""
    query = """[{query: "[?contains(driver, 'e1000')]"}]"""
    assert pci_select(_from_yaml(json.dumps(DEVICES)), _from_yaml(query)) == DEVICES[:1]


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        ("[81:00.0]", "4860.0 is a number where a PCI address belongs: YAML reads unquoted digits as a number"),
        ("[{class: 020000}]", 'Selector {"class": 8192}: class: 8192 is a number where a class belongs'),
        ("[{id: '1397:08b5'}]", 'Selector {"id": "1397:08b5"} matches no device, 1 is needed.'),
        ("[{vendor: avm}]", 'Selector {"vendor": "avm"} has the unknown key vendor.'),
        (
            "[{card: fritz}]",
            'Selector {"card": "fritz"}: card: \'fritz\' is no family of cards. Those known are hfc-4s, ',
        ),
        ("[{query: '[?'}]", 'Selector {"query": "[?"}: query: this is no JMESPath query: '),
        (
            "[{query: 'length(@)'}]",
            'Selector {"query": "length(@)"}: the query gives 2 where a device or its address is needed.',
        ),
        ("[{id: x}]", 'Selector {"id": "x"}: id: \'x\' is no id.'),
    ],
)
def test_message_about_values_from_yaml(selectors: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        pci_select(DEVICES, _from_yaml(selectors))
    assert str(caught.value).startswith(message)
