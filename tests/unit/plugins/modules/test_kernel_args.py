# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.kvm.passthrough.plugins.modules import kernel_args


@pytest.fixture
def host(tmp_path):
    for path, content in {
        "etc/default/grub": "GRUB_CMDLINE_LINUX_DEFAULT=quiet\n",
        "usr/sbin/update-grub": "",
        "usr/sbin/grub-mkconfig": "default/grub.d",
        "proc/cmdline": "ro quiet\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    return tmp_path


@pytest.fixture
def run(host, tmp_path_factory, capsys):
    drafts = str(tmp_path_factory.mktemp("drafts"))

    def _run(check=False, **options):
        control = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": drafts}
        with patch_module_args({"root": str(host), **options, **control}), pytest.raises(SystemExit):
            kernel_args.main()
        return json.loads(capsys.readouterr().out)

    return _run


def test_check_predicts_and_a_second_run_changes_nothing(host, run):
    drop_in = host / "etc/default/grub.d/passthrough.cfg"
    for state in ("present", "absent"):
        predicted = run(check=True, args=["iommu=pt"], state=state)
        assert predicted["changed"] is True
        assert drop_in.exists() is (state == "absent")
        assert run(args=["iommu=pt"], state=state) == predicted
        assert drop_in.exists() is (state == "present")
        assert predicted["diff"][0]["before"] != predicted["diff"][0]["after"]
        assert "still to be run there: [['/usr/sbin/update-grub']]" in json.dumps(predicted["warnings"])
        for check in (True, False):
            assert run(check=check, args=["iommu=pt"], state=state)["changed"] is False


def test_an_error_names_the_value_and_changes_nothing(host, run):
    result = run(args=["iommu=pt", "a b"])
    assert result["failed"] is True
    assert "'a b' is not an argument" in result["msg"]
    assert not (host / "etc/default/grub.d").exists()
