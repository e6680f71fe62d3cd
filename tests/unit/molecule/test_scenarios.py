# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Molecule passes over a step whose playbook is missing, and calls it a success: no scenario has such a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

MOLECULE = Path(__file__).parents[3] / "extensions" / "molecule"
SCENARIOS = sorted(path.parent for path in MOLECULE.glob("*/molecule.yml"))


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda folder: folder.name)
def test_every_step_has_its_playbook(folder: Path) -> None:
    said = yaml.safe_load((folder / "molecule.yml").read_text())
    named = said.get("provisioner", {}).get("playbooks", {})
    steps = said["scenario"]["test_sequence"]
    assert steps
    for step in steps:
        action, _blank, playbook = step.partition(" ")
        # Molecule runs a step with a playbook of its own only where the action has a default one.
        default = folder / named.get(action, f"{action}.yml")
        assert default.exists(), step
        assert not playbook or (folder / playbook).exists(), step


def test_every_step_of_default_is_in_guests() -> None:
    default, guests = (
        [
            step.rpartition("/")[2].rpartition(" ")[2]
            for step in yaml.safe_load((MOLECULE / name / "molecule.yml").read_text())["scenario"]["test_sequence"]
        ]
        for name in ("default", "guests")
    )
    assert [step for step in guests if step in default] == default
