# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._boot_plan import RECORD
from ansible_collections.kvm.passthrough.plugins.module_utils._bootloader import execute
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._files import carry_out
from ansible_collections.kvm.passthrough.tests.unit.boot_host import Host, red_hat


def test_grubby_looks_at_every_entry(tmp_path):
    """The bootloader role of linux-system-roles takes the first entry for all of them."""
    host = red_hat(tmp_path, "ro iommu=pt", "ro", "ro iommu=soft")
    result = host.apply(["iommu=pt"])
    assert result["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--remove-args=iommu=soft", "--args=iommu=pt"]
    ]
    assert [line for _kernel, line in host.entries] == ["ro iommu=pt"] * 3


def test_grubby_names_are_no_patterns(tmp_path):
    host = red_hat(tmp_path, "ro vfio-pcixids=10de:1 intel_iommu=pt")
    assert host.apply(["vfio-pci.ids=10de:1", "iommu=pt"])["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--args=vfio-pci.ids=10de:1 iommu=pt"]
    ]
    assert host.apply(["vfio-pci.ids=10de:1", "iommu=pt"], present=False)["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--remove-args=vfio-pci.ids=10de:1 iommu=pt"]
    ]
    assert host.entries[0][1] == "ro vfio-pcixids=10de:1 intel_iommu=pt"
    assert host.read(RECORD) is None


def test_grubby_gives_back_what_was_replaced(tmp_path):
    host = red_hat(tmp_path, "ro iommu=off", "ro iommu=off")
    assert host.apply(["iommu=pt"])["added"] == ["iommu=pt"]
    assert json.loads(host.read(RECORD))["added"] == [{"arg": "iommu=pt", "replaced": "iommu=off"}]
    assert host.apply(["iommu=pt"], present=False)["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--remove-args=iommu=pt", "--args=iommu=off"]
    ]
    assert [line for _kernel, line in host.entries] == ["ro iommu=off"] * 2


def test_grubby_there_already_is_not_ours(tmp_path):
    host = red_hat(tmp_path, "ro iommu=pt", "ro iommu=pt")
    result = host.apply(["iommu=pt"])
    assert (result["changed"], result["added"]) == (False, [])


def test_grubby_would_take_more_than_a_bare_name(tmp_path):
    host = red_hat(tmp_path, "ro quiet quiet=1")
    with pytest.raises(Refused, match=r"grubby cannot remove quiet without quiet=1 of entry 0 \(/boot/vmlinuz-0\)"):
        host.plan(["quiet"], present=False)


def test_grubby_that_loses_an_argument_is_noticed(tmp_path):
    host = red_hat(tmp_path, "ro console=tty0")
    plan = host.plan(["console=ttyS0"])

    def careless(argv):
        if "--info=ALL" not in argv:
            host.entries = [("/boot/vmlinuz-0", "ro console=ttyS0")]
        return host.run(argv) if "--info=ALL" in argv else (0, "", "")

    with pytest.raises(HostFailure, match=r"entry 0 \(/boot/vmlinuz-0\) lost console=tty0"):
        execute(plan, careless, os.replace)


def test_grubby_finishes_a_run_that_was_killed(tmp_path):
    host = red_hat(tmp_path, "ro", "ro")
    plan = host.plan(["iommu=pt"])
    carry_out(plan.files[0], os.replace)
    host.entries = [("/boot/vmlinuz-0", "ro iommu=pt"), ("/boot/vmlinuz-1", "ro")]
    assert host.plan([]).added == ["iommu=pt"]
    assert host.apply(["iommu=pt"])["changed"]
    assert host.apply(["iommu=pt"], present=False)["changed"]
    assert [line for _kernel, line in host.entries] == ["ro", "ro"]


def test_grubby_on_another_root_is_refused(tmp_path):
    entry = "/boot/loader/entries/x-6.1.conf"
    host = Host(tmp_path, {"/usr/sbin/grubby": b"", entry: b"linux /vmlinuz\noptions ro iommu=pt\n"})
    assert host.plan(["iommu=pt"], run=False).changed is False
    with pytest.raises(Refused, match="in a chroot of .*, run /usr/sbin/grubby --update-kernel=ALL --args=a=1"):
        host.plan(["a=1"], run=False)
