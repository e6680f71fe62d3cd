# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from collections import UserDict
from pathlib import Path

import pytest
from ansible.errors import AnsibleUndefinedVariable

from ansible_collections.kvm.passthrough.plugins.plugin_utils import _wishes
from ansible_collections.kvm.passthrough.tests.unit.machines import device

Variables = t.Dict[str, t.Any]

ISDN = device("0000:05:00.0", id="1397:08b4", **{"class": "020400"})
NIC = device("0000:01:00.0")


class Templated(UserDict):  # type: ignore[type-arg]
    """Variables that fail when they are looked at, as those do that name another one that is not there."""

    def __getitem__(self, key: str) -> t.Any:
        value = super().__getitem__(key)
        if isinstance(value, Exception):
            raise value
        return value


UNDEFINED = AnsibleUndefinedVariable("'card' is undefined")


def wish(guest: str = "fax1", selectors: t.Any = (), fault: str | None = None) -> _wishes.Wish:
    return {"guest": guest, "selectors": list(selectors), "fault": fault}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"kvm_guest_host": "hv1", "kvm_guest_pci_devices": [{"id": "1397:08b4"}]},
            {"hv1": [wish(selectors=[{"id": "1397:08b4"}])]},
        ),
        ({"kvm_guest_host": "hv1", "kvm_guest_pci_devices": "05:00.0"}, {"hv1": [wish(selectors=["05:00.0"])]}),
        ({"kvm_guest_host": "hv1"}, {"hv1": [wish()]}),
        ({"kvm_guest_pci_devices": ["05:00.0"]}, {}),
        ({"kvm_guest_host": UNDEFINED}, {}),
        (
            {"kvm_guest_host": "hv1", "kvm_guest_pci_devices": UNDEFINED},
            {"hv1": [wish(fault="kvm_guest_pci_devices cannot be read: 'card' is undefined")]},
        ),
    ],
)
def test_wishes_of_a_guest(variables: Variables, expected: dict[str, list[_wishes.Wish]]) -> None:
    assert _wishes.collect({"hv1": Templated(), "fax1": Templated(variables)}) == expected


def test_the_inventory_is_looked_at_once(tmp_path: Path) -> None:
    inventory = {
        "fax1": {"kvm_guest_host": "hv1", "kvm_guest_pci_devices": ["05:00.0"]},
        "fax2": {"kvm_guest_host": "hv1"},
    }
    expected = [wish(selectors=["05:00.0"]), wish("fax2")]
    assert _wishes.wishes(tmp_path, inventory, "hv1") == expected
    assert _wishes.wishes(tmp_path, {}, "hv1") == expected
    assert _wishes.wishes(tmp_path, {}, "hv2") == []


@pytest.mark.parametrize(
    ("wanted", "devices", "fault"),
    [
        (wish(selectors=["05:00.0", {"class": "0200"}]), ["0000:05:00.0", "0000:01:00.0"], None),
        (wish(), [], None),
        (wish(selectors=[{"id": "1397:16b8"}]), [], 'Selector {"id": "1397:16b8"} matches no device, 1 is needed.'),
        (wish(selectors=[4860.0]), [], "4860.0 is a number where a PCI address belongs"),
        (wish(fault="cannot be read"), [], "cannot be read"),
    ],
)
def test_what_a_wish_comes_to(wanted: _wishes.Wish, devices: list[str], fault: str | None) -> None:
    result = _wishes.fulfil(wanted, [NIC, ISDN])
    assert (result["guest"], result["devices"]) == ("fax1", devices)
    assert (result["fault"] is None) is (fault is None)
    assert (result["fault"] or "").startswith(fault or "")
