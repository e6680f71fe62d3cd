# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import sys
import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _cards, _selectors
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput
from ansible_collections.kvm.passthrough.plugins.module_utils._selectors import (
    narrow,
    parse_address,
    parse_selectors,
    select,
)


def _device(address: str, pci_id: str, **more: t.Any) -> dict[str, t.Any]:
    return {"address": address, "id": pci_id, "subsystem_id": None, "driver": None, "modules": [], **more}


UPLINK = _device(
    "0000:01:00.0",
    "8086:10d3",
    subsystem_id="8086:a01f",
    driver="e1000e",
    modules=["e1000e"],
    path="0000:00:01.0/00.0",
    vendor_name="Intel Corporation",
    device_name="82574L Gigabit Network Connection",
    **{"class": "020000"},
)
SPARE = dict(UPLINK, address="0000:02:00.0", path="0000:00:01.1/00.0", driver="vfio-pci")
ISDN = _device(
    "0000:06:04.0",
    "1397:08b4",
    subsystem_id="1397:b520",
    driver="HFC-multi",
    modules=["hfcmulti", "hfc_other"],
    path="0000:00:1e.0/04.0",
    **{"class": "020400"},
)
BARE = _device("0001:06:04.0", "1397:ffff")
DEVICES = [UPLINK, SPARE, ISDN, BARE]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0000:06:00.0", "0000:06:00.0"),
        ("06:00.0", "0000:06:00.0"),
        (" 0A:1F.7 ", "0000:0a:1f.7"),
        ("10000:E0:06.0", "10000:e0:06.0"),
    ],
)
def test_address(value: str, expected: str) -> None:
    assert parse_address(value) == expected


@pytest.mark.parametrize("value", [4860.0, 360, True])
def test_address_that_yaml_made_a_number(value: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(value)
    assert str(caught.value) == (
        f"{value} is a number where a PCI address belongs: YAML reads unquoted digits as a number, 81:00.0 in base 60"
        " as 4860.0, 020000 in base 8 as 8192. Quote it, as in '81:00.0'"
    )


@pytest.mark.parametrize(
    "value",
    ["", "06:00", "6:0.0", "06:20.0", "06:00.8", "06:00.0\n0", "0000:06:00.0/1", "pci_0000_06_00_0", "000:06:00.0"],
)
def test_address_that_is_none(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(value)
    assert str(caught.value) == f"{value!r} is no PCI address. Write it as 0000:06:00.0, or 06:00.0 in domain 0000"


@pytest.mark.parametrize("value", [None, ["06:00.0"], {}])
def test_address_of_another_kind(value: t.Any) -> None:
    with pytest.raises(InvalidInput, match="stands where a PCI address belongs. Write it as '81:00.0'"):
        parse_address(value)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("01:00.0", [UPLINK]),
        ("0001:06:04.0", [BARE]),
        ("1397:08B4", [ISDN]),
        ("1397:*", [ISDN, BARE]),
        ({"address": "06:04.0"}, [ISDN]),
        ({"id": "8086:10d3"}, [UPLINK, SPARE]),
        ({"id": "8086:*", "path": "00:01.1/00.0"}, [SPARE]),
        ({"subsystem_id": "1397:b520"}, [ISDN]),
        ({"subsystem_id": "1397:*"}, [ISDN]),
        ({"class": "02"}, [UPLINK, SPARE, ISDN]),
        ({"class": "0204"}, [ISDN]),
        ({"class": "020000"}, [UPLINK, SPARE]),
        ({"driver": "e1000e"}, [UPLINK, SPARE]),
        ({"driver": "vfio_pci"}, [SPARE]),
        ({"driver": "vfio-pci"}, [SPARE]),
        ({"driver": "hfc-other"}, [ISDN]),
        ({"driver": "HFC_multi"}, [ISDN]),
        ({"driver": "hfc"}, []),
        ({"path": "0000:00:1E.0/04.0"}, [ISDN]),
        ({"path": "0000:00:1e.0"}, []),
        ({"id": "1397:08b4", "class": "0200"}, []),
        ({"id": "8086:10d3", "count": 2}, [UPLINK, SPARE]),
        ({"id": "8086:10d3", "count": "2"}, [UPLINK, SPARE]),
        ({"class": "02", "count": "all"}, [UPLINK, SPARE, ISDN]),
        ({"card": "hfc-4s"}, [ISDN]),
        ({"card": " HFC-4S "}, [ISDN]),
        ({"card": "hfc-8s"}, []),
        ({"query": "[?driver=='e1000e']"}, [UPLINK]),
        ({"query": "[?starts_with(id, '8086')].address"}, [UPLINK, SPARE]),
        ({"query": "[?class=='020000'] | [0]"}, [UPLINK]),
        ({"query": "[1].address"}, [SPARE]),
        ({"query": "[].{address: address}"}, DEVICES),
        ({"query": "['06:04.0']"}, [ISDN]),
        ({"query": "['0009:06:04.0']"}, []),
        ({"query": "[?driver=='hfc']"}, []),
        ({"query": "[9]"}, []),
        ({"query": "[]", "class": "020000", "path": "0000:00:01.1/00.0"}, [SPARE]),
        ({"query": "[?class=='020000']", "count": 2}, [UPLINK, SPARE]),
    ],
)
def test_narrow(selector: t.Any, expected: list[dict[str, t.Any]]) -> None:
    assert narrow(DEVICES, parse_selectors([selector])) == expected


def _sriov(physical: str | None = None, *functions: str) -> dict[str, t.Any]:
    return {"sriov": {"physical_function": physical, "virtual_functions": list(functions)}}


PORTS = [
    _device("0000:05:00.0", "8086:10c9", **_sriov(None, "0000:05:10.0", "0000:05:10.2")),
    _device("0000:05:00.1", "8086:10c9", **_sriov(None, "0000:05:10.1")),
    *(_device(f"0000:05:10.{number}", "8086:10ca", **_sriov(f"0000:05:00.{number % 2}")) for number in range(3)),
]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"physical_function": "05:00.0"}, ["0000:05:10.0", "0000:05:10.2"]),
        ({"physical_function": "05:10.0"}, []),
        ({"virtual_function": 0}, ["0000:05:10.0", "0000:05:10.1"]),
        ({"virtual_function": "1"}, ["0000:05:10.2"]),
        ({"virtual_function": 2}, []),
        ({"physical_function": "0000:05:00.1", "virtual_function": "00"}, ["0000:05:10.1"]),
        ({"physical_function": "0000:05:00.1", "virtual_function": 1}, []),
        ({"virtual_function": 0, "id": "8086:10ca", "count": 2}, ["0000:05:10.0", "0000:05:10.1"]),
    ],
)
def test_virtual_functions(selector: dict[str, t.Any], expected: list[str]) -> None:
    found = narrow([*DEVICES, *PORTS], parse_selectors([selector]))
    assert [device["address"] for device in found] == expected


def test_narrow_is_a_union_in_the_order_of_the_devices() -> None:
    assert narrow(DEVICES, parse_selectors(["1397:*", "06:04.0", "01:00.0"])) == [UPLINK, ISDN, BARE]
    assert narrow(DEVICES, []) == []


def test_select_keeps_the_order_of_the_selectors() -> None:
    assert select(DEVICES, parse_selectors(["1397:08b4", {"id": "8086:10d3", "count": 2}])) == [ISDN, UPLINK, SPARE]


@pytest.mark.parametrize("single", ["1397:08b4", {"id": "1397:08b4"}])
def test_a_selector_without_a_list(single: t.Any) -> None:
    assert select(DEVICES, parse_selectors(single)) == [ISDN]


UPLINK_TEXT = "0000:01:00.0 [8086:10d3] Intel Corporation 82574L Gigabit Network Connection (driver e1000e)"
SPARE_TEXT = "0000:02:00.0 [8086:10d3] Intel Corporation 82574L Gigabit Network Connection (driver vfio-pci)"
ISDN_TEXT = "0000:06:04.0 [1397:08b4] (driver HFC-multi)"
BARE_TEXT = "0001:06:04.0 [1397:ffff] (no driver)"
WRITE_IT = "Write it as [?driver=='hfc_multi']"
NEEDED = f"where a device or its address is needed. {WRITE_IT}"
REMEDY = ". Add a key that tells them apart, such as address or path, or say how many with count"


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        (
            [{"id": "8086:10d3"}],
            f'Selector {{"id": "8086:10d3"}} matches 2 devices, 1 is needed.'
            f" They are: {UPLINK_TEXT}; {SPARE_TEXT}{REMEDY}",
        ),
        (
            [{"id": "1397:08b4", "count": 4}],
            f'Selector {{"id": "1397:08b4", "count": 4}} matches 1 device, 4 are needed. They are: {ISDN_TEXT}{REMEDY}',
        ),
        (
            [{"id": "1397:08b4", "path": "0000:00:01.0"}],
            'Selector {"id": "1397:08b4", "path": "0000:00:01.0"} matches no device, 1 is needed.'
            f" Some of its keys match: {ISDN_TEXT}",
        ),
        (
            ["0000:07:00.0"],
            'Selector "0000:07:00.0" matches no device, 1 is needed.'
            f" The devices are: {UPLINK_TEXT}; {SPARE_TEXT}; {ISDN_TEXT}; {BARE_TEXT}",
        ),
        (
            [{"class": "03", "count": "all"}],
            'Selector {"class": "03", "count": "all"} matches no device, at least one is needed.'
            f" The devices are: {UPLINK_TEXT}; {SPARE_TEXT}; {ISDN_TEXT}; {BARE_TEXT}",
        ),
        (
            ["06:04.0", {"class": "0204"}],
            f'Selector "06:04.0" and selector {{"class": "0204"}} both match {ISDN_TEXT}.'
            " Remove one of them, or add a key that tells their devices apart",
        ),
        (
            ["06:04.0", "06:04.0"],
            f'Selector "06:04.0" and selector "06:04.0" both match {ISDN_TEXT}.'
            " Remove one of them, or add a key that tells their devices apart",
        ),
    ],
)
def test_select_that_does_not_come_out(selectors: list[t.Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        select(DEVICES, parse_selectors(selectors))
    assert str(caught.value) == message


def test_narrow_enforces_a_written_count() -> None:
    with pytest.raises(InvalidInput, match="matches 2 devices, 1 is needed"):
        narrow(DEVICES, parse_selectors([{"id": "8086:10d3", "count": 1}]))


def test_narrow_loosely_minds_no_count() -> None:
    selectors = parse_selectors([{"id": "8086:10d3", "count": 1}, {"id": "1397:0000", "count": "all"}, "1397:08b4"])
    assert narrow(DEVICES, selectors, loosely=True) == [UPLINK, SPARE, ISDN]


def test_long_lists_are_cut() -> None:
    many = [_device(f"0000:{bus:02x}:00.0", "1af4:1041") for bus in range(30)]
    with pytest.raises(InvalidInput) as caught:
        select(many, parse_selectors(["1af4:1041"]))
    assert "; 0000:13:00.0 [1af4:1041] (no driver); and 10 more. Add" in str(caught.value)
    with pytest.raises(InvalidInput, match="The devices are: none$"):
        select([], parse_selectors(["1af4:1041"]))


def test_a_query_reads_whatever_yaml_makes_of_facts() -> None:
    odd = dict(ISDN, seen=datetime.date(2026, 1, 1))
    assert narrow([odd], parse_selectors([{"query": "[?seen=='2026-01-01']"}])) == [odd]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("length(@)", f"the query gives 4 {NEEDED}"),
        ("[].id", f'the query gives "8086:10d3" {NEEDED}'),
        ("[].modules", f'the query gives ["e1000e"] {NEEDED}'),
        (
            "[].{at: address}",
            f'the query gives {{"at": "0000:01:00.0"}} {NEEDED}',
        ),
        ("shortest(@)", "the query fails: Unknown function: shortest()"),
        (
            "[?contains(driver, 'e1000')]",
            "the query fails: In function contains(), invalid type for value: None, expected one of:"
            " ['array', 'string'], received: \"null\"",
        ),
    ],
)
def test_query_that_names_no_devices(query: str, message: str) -> None:
    for take in (select, narrow):
        with pytest.raises(InvalidInput) as caught:
            take(DEVICES, parse_selectors([{"query": query}]))
        assert str(caught.value) == f"Selector {json.dumps({'query': query})}: {message}"


def test_query_without_jmespath(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jmespath", None)
    with pytest.raises(InvalidInput) as caught:
        parse_selectors([{"query": "[0]"}])
    assert str(caught.value) == (
        'Selector {"query": "[0]"}: query: a query needs Python\'s jmespath, which is missing here'
        f" ({sys.executable}). Install the package python3-jmespath, or resolve the query on the controller with the"
        " filter kvm.passthrough.pci_select"
    )
    assert parse_selectors([{"card": "hfc-4s"}, "06:00.0"])


KNOWN = "address, id, subsystem_id, class, driver, path, physical_function, virtual_function, card, query"
NUMBER = (
    "YAML reads unquoted digits as a number, 81:00.0 in base 60 as 4860.0, 020000 in base 8 as 8192. Quote it, as in"
)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"vendor": "8086"},
            f'Selector {{"vendor": "8086"}} has the unknown key vendor. Known keys are {KNOWN}, count',
        ),
        ({}, f"Selector {{}} names no device. It needs at least one of the keys {KNOWN}"),
        ({"count": 2}, f'Selector {{"count": 2}} names no device. It needs at least one of the keys {KNOWN}'),
        (4860.0, f"4860.0 is a number where a PCI address belongs: {NUMBER} '81:00.0'"),
        (None, "None stands where a PCI address belongs. Write it as '81:00.0'"),
        (
            {"address": 4860.0},
            f'Selector {{"address": 4860.0}}: address: 4860.0 is a number where a PCI address belongs:'
            f" {NUMBER} '81:00.0'",
        ),
        ({"id": 1397}, f"Selector {{\"id\": 1397}}: id: 1397 is a number where an id belongs: {NUMBER} '1397:08b4'"),
        (
            {"class": 8192},
            f"Selector {{\"class\": 8192}}: class: 8192 is a number where a class belongs: {NUMBER} '020000'",
        ),
        (
            {"path": 1.0},
            f"Selector {{\"path\": 1.0}}: path: 1.0 is a number where a path belongs: {NUMBER} '0000:00:1c.0/00.0'",
        ),
        (
            {"id": "1397"},
            "Selector {\"id\": \"1397\"}: id: '1397' is no id. Write it as '1397:08b4', or as '1397:*' for all devices"
            " of a vendor",
        ),
        (
            {"class": "020"},
            "Selector {\"class\": \"020\"}: class: '020' is no class. Write 2, 4 or 6 hexadecimal digits, such as '02'"
            " or '020000'",
        ),
        ({"driver": ""}, 'Selector {"driver": ""}: driver: \'\' is no name of a driver or module'),
        ({"driver": None}, 'Selector {"driver": null}: driver: None is no name of a driver or module'),
        (
            {"path": "00:1c.0/0"},
            'Selector {"path": "00:1c.0/0"}: path: \'00:1c.0/0\' is no path. Write it as lspci -D -P does, such as'
            " '0000:00:1c.0/00.0'",
        ),
        ({"query": 3}, f'Selector {{"query": 3}}: query: 3 stands where a JMESPath query belongs. {WRITE_IT}'),
        (
            {"query": "[?driver=="},
            'Selector {"query": "[?driver=="}: query: this is no JMESPath query: Invalid jmespath expression:'
            " Incomplete expression",
        ),
        (
            {"query": "[?id==1397]"},
            'Selector {"query": "[?id==1397]"}: query: this is no JMESPath query: invalid token: Parse error at column'
            ' 6, token "1397" (NUMBER)',
        ),
        (
            {"card": "fritz"},
            'Selector {"card": "fritz"}: card: \'fritz\' is no family of cards. Those known are'
            f" {', '.join(_cards.FAMILIES)}",
        ),
        (
            {"card": 4},
            f"Selector {{\"card\": 4}}: card: 4 is a number where a family of cards belongs: {NUMBER} 'hfc-4s'",
        ),
        (
            {"physical_function": 300.0},
            'Selector {"physical_function": 300.0}: physical_function: 300.0 is a number where a PCI address belongs:'
            f" {NUMBER} '81:00.0'",
        ),
        *(
            (
                {"virtual_function": value},
                f'Selector {{"virtual_function": {json.dumps(value)}}}: virtual_function: {value!r} is no number of a'
                " virtual function. The first one of a device is 0",
            )
            for value in (-1, 1.0, True, None, "first", "")
        ),
        (
            "e1000e",
            "\"e1000e\" is no selector: as plain text it is an address such as '06:00.0', or an id such as '1397:08b4'."
            f" Other keys are written as {{key: value}}, with the keys {KNOWN}",
        ),
        (
            {"id": "1397:08b4", "count": 0},
            'Selector {"id": "1397:08b4", "count": 0}: count is a number from 1 on, or all, not 0',
        ),
        (
            {"id": "1397:08b4", "count": True},
            'Selector {"id": "1397:08b4", "count": true}: count is a number from 1 on, or all, not True',
        ),
        (
            {"id": "1397:08b4", "count": "many"},
            'Selector {"id": "1397:08b4", "count": "many"}: count is a number from 1 on, or all, not \'many\'',
        ),
    ],
)
def test_selector_that_cannot_be_meant(raw: t.Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_selectors([raw])
    assert str(caught.value) == message


@pytest.mark.parametrize("key", list(_selectors._KEYS))
def test_devices_that_lack_fields_match_nothing(key: str) -> None:
    values = {"address": "06:00.0", "class": "02", "driver": "e1000e", "path": "06:00.0", "card": "hfc-4s"}
    values.update(query="[?driver=='e1000e']", physical_function="05:00.0", virtual_function="0")
    value = values.get(key, "1397:*")
    assert narrow([{"address": "0000:01:00.0"}], parse_selectors([{key: value}])) == []
