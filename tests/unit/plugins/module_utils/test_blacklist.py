# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._blacklist import leaving_modules


def device(address: str, *modules: str) -> dict[str, t.Any]:
    return {"address": address, "modules": list(modules)}


UPLINK = device("0000:00:02.0", "e1000e")
TWIN = device("0000:01:00.0", "e1000e")
ISDN = device("0000:06:00.0", "hfcmulti")
OTHER_ISDN = device("0000:06:01.0", "hfcmulti", "hfcpci")
BARE = device("0000:07:00.0")


@pytest.mark.parametrize(
    ("devices", "leaving", "blacklist", "kept"),
    [
        ([UPLINK, ISDN], [ISDN], ["hfcmulti"], []),
        ([UPLINK, TWIN], [TWIN], [], ["e1000e (0000:00:02.0 stays on the host and needs it)"]),
        ([UPLINK, TWIN], [UPLINK, TWIN], ["e1000e"], []),
        (
            [ISDN, OTHER_ISDN],
            [OTHER_ISDN],
            ["hfcpci"],
            ["hfcmulti (0000:06:00.0 stays on the host and needs it)"],
        ),
        ([UPLINK, BARE], [BARE], [], []),
        ([UPLINK], [], [], []),
    ],
)
def test_only_a_module_that_loses_all_its_devices_goes(
    devices: list[dict[str, t.Any]], leaving: list[dict[str, t.Any]], blacklist: list[str], kept: list[str]
) -> None:
    assert leaving_modules(devices, leaving) == {"blacklist": blacklist, "kept": kept}


def card(address: str, pci_id: str, *modules: str, subsystem: str | None = None) -> dict[str, t.Any]:
    return {**device(address, *modules), "id": pci_id, "subsystem_id": subsystem}


QUADBRI = card("0000:06:00.0", "1397:08b4", "hfcmulti", subsystem="1397:b752")
B410P = card("0000:06:01.0", "d161:b410", "hfcmulti", subsystem="d161:b410")
ONE_PORT = card("0000:06:02.0", "1397:2bd0", "hfcpci")
FRITZ = card("0000:06:03.0", "1244:0a00", "avmfritz")
B430P = card("0000:06:04.0", "d161:8014", "wcb4xxp")  # of DAHDI, and of no family
ACTIVE = card("0000:06:05.0", "1244:0700")
TUNER = card("0000:06:06.0", "1131:7146", "budget_ci", subsystem="13c2:1011")


@pytest.mark.parametrize(
    ("devices", "leaving", "blacklist", "kept"),
    [
        ([QUADBRI], [QUADBRI], ["hfc4s8s_l1", "hfcmulti", "qozap", "wcb4xxp"], []),
        ([QUADBRI, B410P], [QUADBRI], [], ["hfcmulti (0000:06:01.0 stays on the host and needs it)"]),
        ([QUADBRI, B410P], [QUADBRI, B410P], ["hfc4s8s_l1", "hfcmulti", "qozap", "wcb4xxp"], []),
        # A card that stays needs a rival, and says so through modules.alias, whether the catalogue knows it or not.
        ([QUADBRI, B430P], [QUADBRI], ["hfc4s8s_l1", "hfcmulti", "qozap"], []),
        # hisax would drive both.
        ([ONE_PORT, FRITZ], [FRITZ], ["avmfritz", "fcpci", "hisax_fcpcipnp"], []),
        (
            [ONE_PORT, FRITZ],
            [ONE_PORT, FRITZ],
            ["avmfritz", "fcpci", "hfc_pci", "hfcpci", "hisax", "hisax_fcpcipnp", "vzaphfc", "zaphfc"],
            [],
        ),
        # No driver of today, but some of old.
        ([ACTIVE], [ACTIVE], ["b1pci", "c4", "t1pci"], []),
        ([TUNER], [TUNER], ["budget_ci"], []),
        ([QUADBRI], [], [], []),
    ],
)
def test_a_card_brings_along_its_drivers_of_old_and_of_other_stacks(
    devices: list[dict[str, t.Any]], leaving: list[dict[str, t.Any]], blacklist: list[str], kept: list[str]
) -> None:
    assert leaving_modules(devices, leaving) == {"blacklist": blacklist, "kept": kept}
