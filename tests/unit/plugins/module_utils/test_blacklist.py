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
