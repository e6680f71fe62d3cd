# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The example inventories say nothing that a role would not take, and name cards that the catalogue has."""

from __future__ import annotations

import json
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvm.passthrough.plugins.module_utils import _vdr
from ansible_collections.kvm.passthrough.plugins.module_utils._cards import FAMILIES

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.yml"))


def read(example: Path) -> dict[str, dict[str, t.Any]]:
    """The variables of all hosts, as Ansible reads them."""
    listed = subprocess.run(
        ["ansible-inventory", "--inventory", str(example), "--list"], capture_output=True, text=True, check=True
    )
    return json.loads(listed.stdout)["_meta"]["hostvars"]


def options(role: str) -> set[str]:
    return set(
        yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
            "options"
        ]
    )


def test_there_are_the_three_deployments_and_the_article() -> None:
    assert [example.stem for example in EXAMPLES] == ["article", "capisuite", "dvbt", "isdn"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_variable_is_one_of_a_role(example: Path) -> None:
    known = set().union(*(options(role.name) for role in (ROOT / "roles").iterdir()))
    said = {name for variables in read(example).values() for name in variables if not name.startswith("ansible_")}
    assert said
    assert said <= known


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_card_is_in_the_catalogue(example: Path) -> None:
    cards = [
        entry["card"] for variables in read(example).values() for entry in variables.get("kvm_guest_pci_devices", [])
    ]
    assert cards
    assert set(cards) <= set(FAMILIES)


def test_the_recorder_takes_its_variables() -> None:
    for example in EXAMPLES:
        for variables in read(example).values():
            if "dvbt_guest_disk" in variables:
                empty = {"channels": [], "scan": "", "svdrp_hosts": [], "plugins": {}, "settings": {}, "timers": []}
                said = {key: variables.get(f"dvbt_guest_{key}", value) for key, value in empty.items()}
                assert _vdr.faults(said) == []
                assert variables["dvbt_guest_disk"] in [disk["name"] for disk in variables["kvm_guest_data_disks"]]
