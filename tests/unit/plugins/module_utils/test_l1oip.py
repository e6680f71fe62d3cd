# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _l1oip

PAIR = [
    {"remote": "127.0.0.1", "port": 1931, "remote_port": 1932, "id": 0x12345678},
    {"remote": "127.0.0.1", "port": 1932, "remote_port": 1931, "id": "0x12345678"},
]


def test_a_pair_on_one_machine() -> None:
    lines, faults = _l1oip.read_lines(PAIR)
    assert faults == []
    assert _l1oip.options(lines) == (
        "type=1,1 codec=0,0 ip=127,0,0,1,127,0,0,1 port=1931,1932 remoteport=1932,1931 ondemand=0,0"
        " id=305419896,305419896"
    )


def test_what_is_not_said() -> None:
    lines, faults = _l1oip.read_lines([{"id": 1}, {"id": 2, "type": "pri", "codec": "4bit", "ondemand": True}])
    assert faults == []
    assert _l1oip.options(lines) == (
        "type=1,2 codec=0,3 ip=0,0,0,0,0,0,0,0 port=931,932 remoteport=931,932 ondemand=0,1 id=1,2"
    )


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("bri", "'bri' is no dictionary. Write it as {type: bri, remote: 192.0.2.7, id: 305419896}"),
        ({"id": 1, "ip": "192.0.2.7"}, "ip is no key of a line; there are type, codec, remote"),
        ({}, "id is missing. Take a random number from 1 to 4294967295"),
        ({"id": 0}, "id is 0; it is a number from 1 to 4294967295"),
        ({"id": 2**32}, "id is 4294967296; it is a number from 1 to 4294967295"),
        ({"id": True}, "id is True; it is a number from 1 to 4294967295"),
        ({"id": 1, "type": "s0"}, "type is 's0'; it is one of bri, pri"),
        ({"id": 1, "codec": "g711"}, "codec is 'g711'; it is one of transparent, alaw, ulaw, 4bit"),
        (
            {"id": 1, "remote": "pbx.example.org"},
            "remote is 'pbx.example.org'; it is an address of IPv4 such as 192.0.2.7",
        ),
        ({"id": 1, "remote": "2001:db8::7"}, "remote is '2001:db8::7'; it is an address of IPv4"),
        ({"id": 1, "port": 70000}, "port is 70000; it is a number from 1 to 65535"),
        ({"id": 1, "remote_port": "x"}, "remote_port is 'x'; it is a number from 1 to 65535"),
        ({"id": 1, "ondemand": "sometimes"}, "ondemand is 'sometimes'; it is true or false"),
    ],
)
def test_a_line_that_cannot_be(entry: t.Any, fault: str) -> None:
    lines, [said] = _l1oip.read_lines([{"id": 7}, entry])
    assert said.startswith(f"isdn_guest_l1oip, line 2: {fault}")
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ({"id": 2, "port": 931}, "both have port 931; give each a port of its own"),
        ({"id": 1}, "both have id 1, which is for the two ends of one line"),
    ],
)
def test_lines_that_clash(second: dict[str, t.Any], fault: str) -> None:
    _lines, [said] = _l1oip.read_lines([{"id": 1}, second])
    assert said.startswith(f"isdn_guest_l1oip, lines 1 and 2: {fault}")


def test_too_many() -> None:
    _lines, [said] = _l1oip.read_lines([{"id": number} for number in range(1, 18)])
    assert said == "isdn_guest_l1oip has 17 lines, and the module l1oip takes 16"
