# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import re

import pytest

from ansible_collections.kvm.passthrough.plugins.doc_fragments.selectors import ModuleDocFragment
from ansible_collections.kvm.passthrough.plugins.module_utils._card_facts import family_of
from ansible_collections.kvm.passthrough.plugins.module_utils._cards import FAMILIES, Family, family
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput


@pytest.mark.parametrize(
    ("pci_id", "subsystem", "name"),
    [
        ("1397:08b4", "1397:b752", "hfc-4s"),  # Junghanns quadBRI PCIe, which hfcmulti does not know
        ("1397:08b4", None, "hfc-4s"),
        ("d161:b410", "d161:b410", "hfc-4s"),
        ("10b5:9030", "1397:3136", "hfc-4s"),
        ("10b5:9030", "1397:3137", "hfc-e1"),
        ("10b5:9030", "10b5:9030", None),
        ("1397:16b8", "1397:b562", "hfc-8s"),
        ("1397:2bd0", "0675:1704", "hfc-s-pci"),
        ("1244:0a00", "1244:0a00", "fritz-pci"),
        ("1244:0e00", "1244:0e00", "fritz-pci"),
        ("1244:0e80", "1244:0e00", "fritz-pci-v2.1"),
        ("1244:2900", "1244:2900", None),  # Fritz!Card DSL
        ("e159:0002", "0051:0001", "speedfax"),
        ("e159:0002", "0053:0001", "infineon"),
        ("e159:0002", "e159:0002", None),
        ("1131:7146", "13c2:0001", "saa7146-av7110"),
        ("1131:7146", "13c2:1005", "saa7146-budget"),
        ("1131:7146", "13c2:1011", "saa7146-budget-ci"),
        ("1131:7146", "1894:003a", "saa7146-budget-av"),
        ("1131:7146", "0000:0000", None),  # hexium_orion, mxb: analogue
        ("1131:7146", None, None),
        ("14f1:8852", "0070:71d3", "cx23885"),
        ("dd01:0003", "dd01:0020", "ddbridge"),
        ("dd01:0004", "dd01:0020", None),
        ("1822:4e35", "1822:0028", "mantis"),  # by the module hopper
        ("1822:4e35", "1822:0002", None),
        ("18c3:0720", "18c3:dd20", "ngene"),
        ("1ade:3038", "13c2:3016", "smipcie"),
        ("8086:10d3", "8086:a01f", None),
        (None, None, None),
    ],
)
def test_a_card_belongs_to_one_family_or_none(pci_id: str | None, subsystem: str | None, name: str | None) -> None:
    device = {"id": pci_id, "subsystem_id": subsystem}
    assert [entry.name for entry in FAMILIES.values() if entry.has(device)] == ([name] if name else [])
    found = family_of(device)
    assert (found and found.name) == name


def test_no_two_families_share_an_id() -> None:
    def rows(entry: Family) -> set[tuple[str, str]]:
        return {(pci_id, card) for pci_id, cards in entry.ids.items() for card in (cards or ["any"])}

    for one, other in itertools.combinations(FAMILIES.values(), 2):
        assert not rows(one) & rows(other), f"{one.name}, {other.name}"
        whole = {pci_id for entry in (one, other) for pci_id, cards in entry.ids.items() if not cards}
        assert not whole & one.ids.keys() & other.ids.keys(), f"{one.name}, {other.name}"


@pytest.mark.parametrize("entry", FAMILIES.values(), ids=list(FAMILIES))
def test_spelling(entry: Family) -> None:
    assert re.fullmatch(r"[a-z0-9.-]+", entry.name)
    for pci_id, cards in entry.ids.items():
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", pci_id)
        assert all(re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}", card) for card in cards)
        assert len(set(cards)) == len(cards)


def test_the_documentation_names_every_family() -> None:
    notes = ModuleDocFragment.DOCUMENTATION.split("C(card) is")[1].split("C(query) is")[0]
    assert re.findall(r"V\(([^)]+)\)", notes) == list(FAMILIES)


def test_unknown_family() -> None:
    assert family(" Fritz-PCI ") is FAMILIES["fritz-pci"]
    with pytest.raises(InvalidInput, match="^'fritz' is no family of cards. Those known are hfc-4s, .*, tbsecp3$"):
        family("fritz")
