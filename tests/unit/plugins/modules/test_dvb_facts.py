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

from ansible_collections.kvm.passthrough.plugins.modules import dvb_facts

MISSING = "av7110 0000:06:01.0: Direct firmware load for dvb-ttpci-01.fw failed with error -2"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sys/class/dvb").mkdir(parents=True)
    (tmp_path / "sys/class/dvb/dvb0.frontend0").touch()
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/dmesg").write_text(f"[    3.0] {MISSING}\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], **arguments: t.Any) -> dict[str, t.Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        dvb_facts.main()
    return json.loads(capsys.readouterr().out)


def test_facts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dvb = run(capsys, root=str(root))["ansible_facts"]["dvb"]
    assert [(one["number"], one["devices"]) for one in dvb["adapters"]] == [(0, ["frontend0"])]
    assert dvb["missing_firmware"] == [{"file": "dvb-ttpci-01.fw", "driver": "av7110", "message": MISSING}]
    assert dvb["messages"] == [MISSING]


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is: all adapters of the kernel are there, and a frontend has either answered or says why not."""
    dvb = run(capsys)["ansible_facts"]["dvb"]
    assert [f"dvb{one['number']}" for one in dvb["adapters"]] == sorted(
        {path.name.partition(".")[0] for path in Path("/sys/class/dvb").glob("dvb*")}, key=lambda name: int(name[3:])
    )
    for frontend in (one for adapter in dvb["adapters"] for one in adapter["frontends"]):
        assert (frontend["name"] is None) == (frontend["error"] is not None)


def test_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, root=str(tmp_path / "absent"))
    assert result["failed"]
    assert result["msg"] == f"root: there is no folder {tmp_path / 'absent'}"


def compare(documented: dict[str, t.Any], value: dict[str, t.Any]) -> None:
    assert list(documented) == list(value)
    for key, entry in documented.items():
        if entry.get("elements") == "dict":
            for one in value[key]:
                compare(entry["contains"], one)
        else:
            assert "sample" in entry


def test_every_key_is_documented(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the same order, with a sample."""
    documented = yaml.safe_load(dvb_facts.RETURN)["ansible_facts"]["contains"]["dvb"]["contains"]
    compare(documented, run(capsys, root=str(root))["ansible_facts"]["dvb"])
