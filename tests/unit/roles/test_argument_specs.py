# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role says of its variables, and what it does with them, is the same."""

from __future__ import annotations

import re
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


_CONDITIONS = ("when", "that", "failed_when", "changed_when", "until")


def expressions(value: t.Any, key: str = "") -> t.Iterator[str]:
    """All that Jinja evaluates in a piece of YAML, without its texts in quotes."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from expressions(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item, key)
    elif isinstance(value, str):
        found = [value] if key in _CONDITIONS else re.findall(r"{[{%](.*?)[}%]}", value, re.DOTALL)
        yield from (re.sub(r"'[^']*'", "''", one) for one in found)


def test_switches_may_come_from_the_command_line(role: Path) -> None:
    """`-e kvm_host_reboot_allowed=true` is text, of which Ansible makes no condition."""
    options = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    switches = [name for name, option in options.items() if option["type"] == "bool"]
    files = [*role.glob("tasks/*.yml"), *role.glob("vars/*.yml")]
    found = [text for path in files for text in expressions(yaml.safe_load(path.read_text()))]
    found += [text for path in role.glob("templates/*") for text in expressions(path.read_text())]
    used = [name for name in switches if any(re.search(rf"\b{name}\b", text) for text in found)]
    assert used == switches
    # A switch without a value means that its variable is left alone.
    bare = [
        (name, text)
        for name in switches
        for text in found
        if re.search(rf"\b{name}\b(?! \| bool| \| default\(false, true\) \| bool| is not none)", text)
    ]
    assert bare == []
