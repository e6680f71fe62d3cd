# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.kvm.passthrough.plugins.modules import modprobe_blacklist


@pytest.fixture
def run(tmp_path, tmp_path_factory, capsys):
    drafts = str(tmp_path_factory.mktemp("drafts"))

    def _run(check=False, **options):
        control = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": drafts}
        with patch_module_args({"root": str(tmp_path), **options, **control}), pytest.raises(SystemExit):
            modprobe_blacklist.main()
        return json.loads(capsys.readouterr().out)

    return _run


def snapshot(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("state", ["present", "absent"])
def test_check_predicts_and_a_second_run_changes_nothing(tmp_path, run, state):
    """Fault B: check mode neither writes nor makes a folder; what it says is what the run then does."""
    file = tmp_path / "etc/modprobe.d/passthrough.conf"
    if state == "absent":
        run(modules=["a"])
    before = snapshot(tmp_path)
    predicted = run(check=True, modules=["a"], state=state)
    assert snapshot(tmp_path) == before
    assert (tmp_path / "etc").exists() is (state == "absent")
    assert run(modules=["a"], state=state) == predicted
    assert predicted["changed"]
    assert file.exists() is (state == "present")
    assert predicted["diff"]["before"] != predicted["diff"]["after"]
    for check in (True, False):
        assert run(check=check, modules=["a"], state=state)["changed"] is False


def test_modes(tmp_path, run):
    file = tmp_path / "etc/modprobe.d/passthrough.conf"
    mask = os.umask(0o077)
    try:
        run(modules=["a"])
        assert file.stat().st_mode & 0o777 == 0o644
        file.chmod(0o600)
        run(modules=["b"])
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(mask)


def test_backup_is_kept(tmp_path, run):
    """Fault F: the copy is there after the run, with the bytes of before."""
    run(modules=["a"])
    before = (tmp_path / "etc/modprobe.d/passthrough.conf").read_bytes()
    result = run(modules=["a"], state="absent", backup=True)
    with open(result["backup_file"], "rb") as stream:
        assert stream.read() == before
    assert "backup_file" not in run(modules=["a"], state="absent", backup=True)


def test_the_initramfs_is_stale_after_a_change(tmp_path, run):
    (tmp_path / "boot").mkdir()
    image = tmp_path / "boot/initrd.img-6.1"
    image.write_bytes(b"")
    os.utime(image, (1, 1))
    assert run(check=True, modules=["a"])["initramfs_stale"] is True
    assert run(modules=["a"])["initramfs_stale"] is True
    assert run(modules=["a"])["initramfs_stale"] is True
    os.utime(image)
    assert run(modules=["a"])["initramfs_stale"] is False
    assert run(modules=["a"], state="absent")["initramfs_stale"] is True


def test_an_error_names_the_value(run):
    result = run(modules=["a b"])
    assert result["failed"]
    assert "'a b' is not a module's name" in result["msg"]
