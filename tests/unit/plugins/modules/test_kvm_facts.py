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

from ansible_collections.kvm.passthrough.plugins.module_utils import _kvm
from ansible_collections.kvm.passthrough.plugins.modules import kvm_facts
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

Documented = t.Dict[str, t.Dict[str, t.Any]]
TYPES = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = PciTree(tmp_path)
    tree.write("/proc/sys/kernel/osrelease", "6.12.117+deb13-amd64\n")
    tree.write("/sys/kernel/iommu_groups/0/reserved_regions", "0x00000000fee00000 0x00000000feefffff msi\n")
    tree.write("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "2\n")
    tree.write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1\n")
    tree.write("/sys/kernel/mm/ksm/run", "0\n")
    return tmp_path


def test_facts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with patch_module_args({"root": str(root)}), pytest.raises(SystemExit):
        kvm_facts.main()
    result = json.loads(capsys.readouterr().out)
    assert result["ansible_facts"] == {"kvm": _kvm.read_kvm(str(root))}
    assert result["ansible_facts"]["kvm"]["kernel"]["version"] == [6, 12]
    assert result.get("changed") is not True


def compare(documented: Documented, facts: t.Mapping[str, t.Any]) -> None:
    assert list(documented) == list(facts)
    for key, value in facts.items():
        entry = documented[key]
        assert "sample" in entry or "contains" in entry, key
        assert isinstance(value, (TYPES[entry["type"]], type(None))), key
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                compare(entry["contains"], inner)


@pytest.mark.parametrize("captured", [True, False])
def test_every_key_is_documented(root: Path, captured: bool) -> None:
    """In the same order, with the type that it has, and with a sample."""
    documented = yaml.safe_load(kvm_facts.RETURN)["ansible_facts"]["contains"]["kvm"]["contains"]
    compare(documented, _kvm.read_kvm(str(root) if captured else "/"))
