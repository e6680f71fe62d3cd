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

from ansible_collections.kvm.passthrough.plugins.module_utils import _pci
from ansible_collections.kvm.passthrough.plugins.modules import pci_facts
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space, express


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = PciTree(tmp_path)
    tree.add("0000:01:00.0", config_space(capabilities=[express(0)])[:64])
    tree.add("0000:02:00.0", config_space("1397:08b4"), pci_id="1397:08b4", pci_class="020400", driver="HFC-multi")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], **arguments: t.Any) -> dict[str, t.Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        pci_facts.main()
    return json.loads(capsys.readouterr().out)


def addresses(result: dict[str, t.Any]) -> list[str]:
    return [device["address"] for device in result["ansible_facts"]["pci_devices"]]


def test_facts(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    # Where the controller's code is loaded as well, a warning is printed and not returned.
    monkeypatch.setattr(pci_facts.AnsibleModule, "warn", lambda _module, message: warnings.append(message))
    result = run(capsys, root=str(root))
    assert addresses(result) == ["0000:01:00.0", "0000:02:00.0"]
    assert warnings == [
        "pcie_type is null for 1 PCI devices: their capability lists lie beyond the first 64 bytes of the configuration"
        " space, which only root may read"
    ]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([], []),
        (["1397:08b4"], ["0000:02:00.0"]),
        ([{"class": "02"}, "02:00.0"], ["0000:01:00.0", "0000:02:00.0"]),
        ([{"driver": "nouveau"}], []),
    ],
)
def test_devices(root: Path, capsys: pytest.CaptureFixture[str], devices: list[t.Any], expected: list[str]) -> None:
    assert addresses(run(capsys, root=str(root), devices=devices)) == expected


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([81.0], "81.0 is a number where a PCI address belongs: YAML reads unquoted digits as a number"),
        (
            [{"class": "02", "count": 1}],
            'Selector {"class": "02", "count": 1} matches 2 devices, 1 is needed. They are: ',
        ),
    ],
)
def test_failure(root: Path, capsys: pytest.CaptureFixture[str], devices: list[t.Any], message: str) -> None:
    result = run(capsys, root=str(root), devices=devices)
    assert result["failed"]
    assert result["msg"].startswith(message)


def test_every_key_is_documented(root: Path) -> None:
    """In the same order, with the type that it has."""
    documented = yaml.safe_load(pci_facts.RETURN)["ansible_facts"]["contains"]["pci_devices"]["contains"]
    for device in _pci.read_devices(str(root), lambda _warning: None):
        assert list(documented) == list(device)
        for key in ("interrupt", "sriov"):
            assert list(documented[key]["contains"]) == list(device[key])
        types = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
        assert all(isinstance(value, (types[documented[key]["type"]], type(None))) for key, value in device.items())
