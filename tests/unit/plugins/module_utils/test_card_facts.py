# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue held against itself, and against the kernels of Debian 11, 12 and 13."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _card_facts
from ansible_collections.kvm.passthrough.plugins.module_utils._card_facts import FACTS, Facts, claimants, describe
from ansible_collections.kvm.passthrough.plugins.module_utils._cards import FAMILIES
from ansible_collections.kvm.passthrough.tests.unit import card_aliases

# Made by card_aliases.py -o from the packages linux-image-amd64 of the three releases.
FIXTURE = Path(__file__).parents[2] / "fixtures/debian-aliases.tar.xz"
SAA7146 = {"saa7146-av7110", "saa7146-budget", "saa7146-budget-ci", "saa7146-budget-av"}
WITHOUT = {
    "5.10.0-46-amd64": {"netjet"},
    "6.1.0-56-amd64": {"netjet", *SAA7146},
    "6.12.117+deb13-amd64": {"netjet"},
}

# What /sys/bus/pci/drivers shows after modprobe of all modules on Debian 13's 6.12.
DRIVERS = {
    "avmfritz": "fcpci",
    "b2c2_flexcop_pci": "b2c2_flexcop_pci",
    "budget": "budget dvb",
    "budget_av": "budget_av",
    "budget_ci": "budget_ci dvb",
    "cx23885": "cx23885",
    "cx8800": "cx8800",
    "cx8802": "cx88-mpeg driver manager",
    "ddbridge": "ddbridge",
    "dm1105": "dm1105",
    "dvb_ttpci": "av7110",
    "hfcmulti": "hfc_multi",
    "hfcpci": "hfcpci",
    "hopper": "Hopper",
    "mISDNinfineon": "ISDN Infineon pci",
    "mantis": "Mantis",
    "netup_unidvb": "netup_unidvb",
    "ngene": "ngene",
    "pluto2": "pluto2",
    "saa7134": "saa7134",
    "saa7164": "saa7164",
    "smipcie": "SMI PCIe driver",
    "speedfax": "speedfax+ pci",
    "w6692": "w6692",
}


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The roots of the recorded kernels, by release."""
    folder = tmp_path_factory.mktemp("kernels")
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("release", WITHOUT)
def test_the_catalogue_and_a_kernel_agree(kernels: Path, release: str) -> None:
    assert card_aliases.faults(kernels / release) == []
    assert card_aliases.lacking(kernels / release) == WITHOUT[release]


def test_all_recorded_kernels_are_tried(kernels: Path) -> None:
    assert {path.name for path in kernels.iterdir()} == set(WITHOUT)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        # The kernel has forgotten a card.
        (
            "alias pci:v00001244d00000E00sv*sd*bc*sc*i* avmfritz\n",
            "",
            "fritz-pci: 1244:0e00 with subsystem 1244:0e00 resolves to [], not to ['avmfritz']",
        ),
        # It learned of one.
        (
            "alias pci:v00001244d00000E00sv*",
            "alias pci:v00001244d00000E80sv*sd*bc*sc*i* avmfritz\nalias pci:v00001244d00000E00sv*",
            "fritz-pci-v2.1: 1244:0e80 with subsystem 1244:0e80 resolves to ['avmfritz'], not to []",
        ),
        # A second module claims one.
        (
            "alias pci:v00001050d00006692sv*",
            "alias pci:v00001050d00006692sv*sd*bc*sc*i* another\nalias pci:v00001050d00006692sv*",
            "w6692: 1050:6692 with subsystem 1050:6692 resolves to ['another', 'w6692'], not to ['w6692']",
        ),
        # It takes a board that the catalogue calls refused.
        (
            "sv00001397sd0000B567bc*",
            "sv00001397sd0000B752bc*sc*i* hfcmulti\nalias pci:v00001397d000008B4sv00001397sd0000B567bc*",
            "hfc-4s: 1397:b752 is refused, says the catalogue alone",
        ),
        # It does not take one of those that the catalogue counts.
        (
            "alias pci:v00001397d000008B4sv00001397sd0000B567bc*sc*i* hfcmulti\n",
            "",
            "hfc-4s: 1397:b567 is taken, says the catalogue alone",
        ),
    ],
)
def test_a_kernel_that_does_not_agree(kernels: Path, tmp_path: Path, old: str, new: str, fault: str) -> None:
    own = kernels / "6.12.117+deb13-amd64/lib/modules/6.12.117+deb13-amd64/modules.alias"
    assert old in own.read_text()
    other = tmp_path / "lib/modules/6.12.200/modules.alias"
    other.parent.mkdir(parents=True)
    other.write_text(own.read_text().replace(old, new))
    assert fault in card_aliases.faults(tmp_path)


@pytest.mark.parametrize(
    ("release", "fault"),
    [
        ("7.1.0", "w6692: 7.1.0 has it, though not older than 7.1"),
        ("2.6.18-6-686", "w6692: 2.6.18-6-686 has it, though older than 2.6.32"),
    ],
)
def test_a_kernel_of_another_time(tmp_path: Path, release: str, fault: str) -> None:
    folder = tmp_path / "lib/modules" / release
    folder.mkdir(parents=True)
    lines = ("v00001050d00006692", "v00000675d00001702")
    (folder / "modules.alias").write_text("".join(f"alias pci:{line}sv*sd*bc*sc*i* w6692\n" for line in lines))
    assert card_aliases.faults(tmp_path) == [fault]


def test_drivers_by_their_own_name() -> None:
    named = {module: driver for facts in FACTS.values() for module, driver in zip(facts.modules, facts.drivers)}
    assert named == {**DRIVERS, "netjet": "netjet"}


def test_every_family_has_facts() -> None:
    assert list(FACTS) == list(FAMILIES)
    kinds = [facts.kind for facts in FACTS.values()]
    assert kinds == sorted(kinds, reverse=True), "ISDN before DVB"


@pytest.mark.parametrize("name", FACTS)
def test_spelling(name: str) -> None:
    facts = FACTS[name]
    assert facts.kind in ("isdn", "dvb")
    assert len(facts.modules) == len(facts.drivers)
    for module in (*facts.modules, *facts.old_modules, *facts.guest_modules, *facts.rivals, *facts.options):
        assert re.fullmatch(r"\w+", module)
    assert not set(facts.modules) & {*facts.old_modules, *facts.rivals}
    assert set(facts.options) <= set(facts.modules)
    assert all(re.fullmatch(r"(\d+\.\d+(\.\d+)?)?", version) for version in (facts.since, facts.before))
    for subsystem in (*facts.ports, *facts.refused):
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{4}|\*", subsystem)
    assert bool(facts.dahdi) == bool(facts.dahdi_ids)
    assert set(facts.dahdi_ids) <= set(FAMILIES[name].ids)
    assert bool(facts.ports) == (facts.kind == "isdn" and bool(facts.modules))
    for sentence in facts.traps:
        assert re.match(r"[A-Z0-9']|[a-z0-9]+ ", sentence)
        assert not sentence.endswith(".")


def device(pci_id: str | None, subsystem: str | None = None) -> dict[str, t.Any]:
    return {"address": "0000:06:00.0", "id": pci_id, "subsystem_id": subsystem, "driver": None}


UNKNOWN = (
    "hfcmulti matches the chip but does not know the board {}: it loads, says 'Unknown HFC multiport controller' and"
    " takes nothing"
)


@pytest.mark.parametrize(
    ("pci_id", "subsystem", "ports", "refused", "dahdi"),
    [
        ("1397:08b4", "1397:b752", 4, UNKNOWN.format("1397:b752"), "wcb4xxp"),  # the quadBRI of the article
        ("1397:08b4", "1397:b556", 2, UNKNOWN.format("1397:b556"), "wcb4xxp"),
        ("1397:08b4", "1397:b559", None, UNKNOWN.format("1397:b559"), ""),
        ("1397:08b4", "1397:b520", 4, "", "wcb4xxp"),
        ("1397:08b4", "1397:b569", 2, "", ""),
        ("1397:08b4", "1397:b567", 1, "", ""),
        ("1397:08b4", None, None, "", ""),
        ("d161:b410", "d161:b410", 4, "", "wcb4xxp"),
        ("10b5:9030", "1397:3136", 4, "", ""),
        ("10b5:9030", "1397:3137", 1, "", ""),
        ("1397:16b8", "1397:b55b", 8, "", "wcb4xxp"),
        ("1397:16b8", "1397:b55a", None, UNKNOWN.format("1397:b55a"), ""),
        ("1397:30b1", "1397:b565", 1, "", ""),
        ("1397:2bd0", "0675:1704", 1, "", "zaphfc"),
        ("1397:b700", "1397:b700", 1, "", ""),
        ("1244:0a00", None, 1, "", ""),
        ("10b5:9050", "0871:ffa8", 4, "", ""),
        ("1133:e002", "1133:e002", 1, "", ""),
        (
            "e159:0001",
            "8086:0003",
            1,
            "netjet matches the chip but does not take Digium's X100P and X101P, which are analogue",
            "",
        ),
        ("e159:0001", "0059:0001", 1, "", ""),
        ("1244:0e80", "1244:0e00", None, "", ""),
        ("1131:7146", "13c2:1011", None, "", ""),
    ],
)
def test_one_card(pci_id: str, subsystem: str | None, ports: int | None, refused: str, dahdi: str) -> None:
    [row] = describe([device(pci_id, subsystem)])
    assert (row["ports"], row["refused"], row["dahdi"]) == (ports, refused, dahdi)


def test_a_kind_of_cards() -> None:
    devices = [device("8086:10d3"), device("1131:7146", "13c2:0001"), device("1244:0a00"), device(None)]
    assert [row["card"] for row in describe(devices)] == ["saa7146-av7110", "fritz-pci"]
    assert [row["card"] for row in describe(devices, "isdn")] == ["fritz-pci"]
    assert [row["card"] for row in describe(devices, "dvb")] == ["saa7146-av7110"]
    assert describe([]) == []


def test_who_else_could_claim_a_card() -> None:
    assert claimants(device("1397:08b4", "1397:b752")) == {"hfc4s8s_l1", "qozap", "wcb4xxp"}
    assert claimants(device("8086:10d3")) == frozenset()


def test_facts_are_those_of_a_family() -> None:
    assert Facts("isdn").ports_of("1397:b520") is None
    assert Facts("isdn").refusal("1397:b520") == ""


def test_no_module_carries_the_facts() -> None:
    """What a target imports is compiled there with each task: the ids are enough for it."""
    modules = "pci_facts, pci_driver, passthrough_info, passthrough_record, guest_pci_device"
    code = f"from ansible_collections.kvm.passthrough.plugins.modules import {modules}\nimport sys\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert _card_facts.__name__.replace("_card_facts", "_verdict") in loaded
    assert _card_facts.__name__ not in loaded
