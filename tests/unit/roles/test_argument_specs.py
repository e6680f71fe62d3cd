# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role says of its variables, and what it does with them, is the same."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[3] / "roles").iterdir() if path.is_dir())


def load(role: Path, place: str) -> dict[str, t.Any]:
    return yaml.safe_load((role / place).read_text())


@pytest.fixture(params=ROLES, ids=[role.name for role in ROLES])
def role(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_every_entry_point_is_specified(role: Path) -> None:
    specified = set(load(role, "meta/argument_specs.yml")["argument_specs"])
    assert "main" in specified
    assert all((role / f"tasks/{name}.yml").exists() for name in specified)


def test_options_and_defaults_have_the_same_keys(role: Path) -> None:
    defaults = set(load(role, "defaults/main.yml"))
    for name, entry in load(role, "meta/argument_specs.yml")["argument_specs"].items():
        optional = {key for key, option in entry["options"].items() if not option.get("required")}
        assert optional == defaults, f"{role.name}, entry point {name}"


def test_literal_defaults_are_equal(role: Path) -> None:
    defaults = load(role, "defaults/main.yml")
    for entry in load(role, "meta/argument_specs.yml")["argument_specs"].values():
        for key, option in entry["options"].items():
            if "default" in option:
                assert option["default"] == defaults[key], f"{role.name}: {key}"


def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    assert all(key.startswith(f"{role.name}_") for key in load(role, "defaults/main.yml"))
    if (role / "vars/main.yml").exists():
        assert all(key.startswith(f"__{role.name}_") for key in load(role, "vars/main.yml"))
