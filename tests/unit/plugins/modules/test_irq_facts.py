# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.kvm.passthrough.plugins.modules import irq_facts
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space

INTERRUPTS = """\
           CPU0       CPU1
  16:          5          1   IO-APIC  16-fasteoi   eth0, acpi
  17:          3          0   IO-APIC  17-edge      i8042
 ERR:          0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = PciTree(tmp_path)
    # Its capabilities are cut off, which pci_facts warns of and nobody needs here.
    tree.add("0000:05:00.0", config_space(capabilities=[(0x01, b"")])[:64], driver="e1000", irq=16)
    tree.add("0000:05:02.0", config_space(), irq=17)
    tree.write("/proc/interrupts", INTERRUPTS)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], **arguments: t.Any) -> dict[str, t.Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        irq_facts.main()
    return json.loads(capsys.readouterr().out)


def test_facts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, root=str(root))
    assert "warnings" not in result
    shown = [
        (row["irq"], row["actions"], row["devices"], row["unconfirmed"], row["shared"])
        for row in result["ansible_facts"]["interrupts"]
    ]
    assert shown == [
        (16, ["eth0", "acpi"], ["0000:05:00.0"], [], True),
        (17, ["i8042"], [], ["0000:05:02.0"], False),
        ("ERR", [], [], [], False),
    ]


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is, its rows are read."""
    rows = run(capsys)["ansible_facts"]["interrupts"]
    numbers = [row["irq"] for row in rows if isinstance(row["irq"], int)]
    assert numbers == sorted(set(numbers))
    assert all(row["count"] == sum(row["counts"]) for row in rows)


def test_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, root=str(tmp_path / "absent"))
    assert result["failed"]
    assert result["msg"] == f"root: there is no folder {tmp_path / 'absent'}"


def test_every_key_is_documented(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the same order, with the type that it has and a sample of it."""
    documented = yaml.safe_load(irq_facts.RETURN)["ansible_facts"]["contains"]["interrupts"]["contains"]
    types = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict, "raw": (int, str)}
    assert all(isinstance(key["sample"], types[key["type"]]) for key in documented.values())
    for row in run(capsys, root=str(root))["ansible_facts"]["interrupts"]:
        assert list(documented) == list(row)
        assert all(isinstance(row[key], (types[documented[key]["type"]], type(None))) for key in row)
