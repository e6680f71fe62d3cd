# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import tarfile
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.kvm.passthrough.plugins.modules import isdn_facts
from ansible_collections.kvm.passthrough.tests.unit.machines import FIXTURES

ANSWER = {"installed": True, "error": None, "library": "/usr/lib/libcapi20.so.3", "via": "misdn", "controllers": []}


@pytest.fixture
def root(tmp_path: Path) -> str:
    with tarfile.open(FIXTURES / "l1oip-guest.tar.xz") as capture:
        capture.extractall(tmp_path, filter="tar")
    return str(tmp_path)


def run(capsys: pytest.CaptureFixture[str], **arguments: t.Any) -> dict[str, t.Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        isdn_facts.main()
    return json.loads(capsys.readouterr().out)


def test_facts(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, root=root)["ansible_facts"]["isdn"]
    assert [one["name"] for one in found["misdn"]["controllers"]] == ["l1oip-s0.1", "l1oip-s0.2", "l1oip-e1.3"]
    assert found["messages"][-1] == "3 virtual devices registered"
    assert (found["capi"], found["dahdi"]["available"]) == (None, False)


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it has, and whoever asks."""
    result = run(capsys)
    assert not result.get("failed")
    assert list(result["ansible_facts"]["isdn"]) == ["misdn", "capi", "dahdi", "messages"]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, ("", "", 0, 10.0)),
        (
            {"capi_driver": "rcapi", "capi_host": "pbx", "capi_port": 99, "capi_timeout": 2.5},
            ("rcapi", "pbx", 99, 2.5),
        ),
    ],
)
def test_capi(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, t.Any],
    asked: tuple[t.Any, ...],
) -> None:
    seen = []

    def read_capi(driver: str, host: str, port: int, timeout: float) -> dict[str, t.Any]:
        seen.append((driver, host, port, timeout))
        return ANSWER

    monkeypatch.setattr(isdn_facts._capi, "read_capi", read_capi)
    assert run(capsys, capi=True, **given)["ansible_facts"]["isdn"]["capi"] == ANSWER
    assert seen == [asked]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"root": "/srv/captures/pbx3"},
            "capi: libcapi20 tells of the running machine, and not of root /srv/captures/pbx3; leave one out",
        ),
        ({"capi_host": "pbx"}, "capi_host: pbx is asked only with capi_driver rcapi or fritzbox"),
    ],
)
def test_failure(capsys: pytest.CaptureFixture[str], given: dict[str, t.Any], message: str) -> None:
    result = run(capsys, capi=True, **given)
    assert (result["failed"], result["msg"]) == (True, message)


def test_every_key_is_documented(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In the same order, with the type that it has."""
    documented = yaml.safe_load(isdn_facts.RETURN)["ansible_facts"]["contains"]["isdn"]["contains"]
    types = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}
    found = run(capsys, root=root)["ansible_facts"]["isdn"]
    assert list(documented) == list(found)
    part = documented["misdn"]["contains"]
    assert list(part) == list(found["misdn"])
    for one in found["misdn"]["controllers"]:
        assert list(part["controllers"]["contains"]) == list(one)
        for key, described in part["controllers"]["contains"].items():
            assert isinstance(one[key], (types[described["type"]], type(None)))
