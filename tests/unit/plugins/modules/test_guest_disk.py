# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.kvm.passthrough.plugins.modules import guest_disk
from ansible_collections.kvm.passthrough.tests.unit.disk_host import FakeTools

Given = t.Dict[str, t.Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., Given]:
    """Run main() with these arguments: what it answered."""
    installed = {"qemu-img": "/usr/bin/qemu-img", "virsh": None}
    monkeypatch.setattr(guest_disk, "bounded", FakeTools().run)
    monkeypatch.setattr(basic.AnsibleModule, "get_bin_path", lambda _self, name, *_args: installed[name])

    def call(check: bool = False, qemu_img: bool = True, **args: t.Any) -> Given:
        installed["qemu-img"] = "/usr/bin/qemu-img" if qemu_img else None
        control = {"_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args({**args, **control}), pytest.raises(SystemExit):
            guest_disk.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_check_predicts_and_a_second_run_changes_nothing(tmp_path: Path, run: t.Callable[..., Given]) -> None:
    path = tmp_path / "fax1.qcow2"
    for size, action in ((2097152, f"make {path}, an empty disk of 2M"), ("4M", f"grow {path} from 2M to 4M")):
        predicted = run(check=True, path=str(path), size=size, guest="fax1")
        assert predicted["actions"] == [action]
        assert run(path=str(path), size=size, guest="fax1") == predicted
        for check in (True, False):
            again = run(check=check, path=str(path), size=size, guest="fax1")
            assert (again["changed"], again["actions"]) == (False, [])
    assert (again["path"], again["size"], again["format"], again["image"]) == (str(path), 4194304, "qcow2", None)


def test_an_error_names_the_value_and_changes_nothing(tmp_path: Path, run: t.Callable[..., Given]) -> None:
    path = tmp_path / "fax1.qcow2"
    result = run(path=str(path), size="1.5G")
    assert result["failed"] is True
    assert "'1.5G' is no size of a disk" in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_without_qemu_img(tmp_path: Path, run: t.Callable[..., Given]) -> None:
    path = tmp_path / "fax1.qcow2"
    assert run(check=True, qemu_img=False, path=str(path), size="2M")["changed"] is True
    result = run(qemu_img=False, path=str(path), size="2M")
    assert (result["failed"], "install the package qemu-utils (Debian, Ubuntu)" in result["msg"]) == (True, True)
    run(path=str(path), size="2M")
    result = run(check=True, qemu_img=False, path=str(path), size="4M")
    assert (result["changed"], result["size"]) == (False, None)
    assert "cannot be looked at, since qemu-img is not installed" in json.dumps(result["warnings"])
