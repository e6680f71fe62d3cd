# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._leaving import leaving

ISDN, DVB1, DVB2 = "0000:06:00.0", "0000:03:02.0", "0000:03:06.0"
DEVICES = [
    {"address": DVB1, "id": "1131:7146", "class": "048000"},
    {"address": DVB2, "id": "1131:7146", "class": "048000"},
    {"address": ISDN, "id": "1397:08b4", "class": "020400"},
]


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (["06:00.0", {"id": "1397:08b4", "count": 2}], ["06:00.0", {"id": "1397:08b4", "count": 2}]),
        ({"card": "hfc-4s", "count": "all"}, [{"card": "hfc-4s", "count": "all"}]),
        ([4860.0, {"card": "fritz"}, {"vendor": "1"}, None, "06:00.0", {"query": "[?"}], ["06:00.0"]),
        ([{"query": "[?class=='048000']"}, ISDN], [DVB1, DVB2, ISDN]),
        ([{"query": "length(@)"}], []),
        (None, []),
    ],
)
def test_what_is_judged_as_leaving(selectors: t.Any, expected: list[t.Any]) -> None:
    assert leaving(selectors, DEVICES) == expected


def test_a_query_without_devices_is_left_out() -> None:
    assert leaving([{"query": "[0]"}, "06:00.0"]) == ["06:00.0"]
