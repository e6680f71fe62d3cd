# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._boot_plan import RECORD
from ansible_collections.kvm.passthrough.plugins.module_utils._bootloader import execute
from ansible_collections.kvm.passthrough.plugins.module_utils._cmdline_file import CMDLINE
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._files import carry_out
from ansible_collections.kvm.passthrough.tests.unit.boot_host import Host, proxmox, systemd_boot

# before, arguments, after, and whether taking them back gives the same bytes
CMDLINES = {
    "appended": (b"root=x quiet\n", ["iommu=pt", "a=1"], b"root=x quiet iommu=pt a=1\n"),
    "no final newline": (b"root=x quiet", ["iommu=pt"], b"root=x quiet iommu=pt"),
    "blanks and empty lines": (b"root=x  quiet \t\n\n", ["iommu=pt"], b"root=x  quiet iommu=pt \t\n\n"),
    "there already": (b"root=x iommu=pt\n", ["iommu=pt"], b"root=x iommu=pt\n"),
    "a value is replaced where it stands": (b"iommu=off root=x\n", ["iommu=pt"], b"iommu=pt root=x\n"),
    "the last value counts": (b"iommu=pt iommu=off x\n", ["iommu=pt"], b"iommu=pt iommu=pt x\n"),
    "quotes, Latin-1": (b'root=x a="b iommu=pt" caf\xe9\n', ["iommu=pt"], b'root=x a="b iommu=pt" caf\xe9 iommu=pt\n'),
    "a name that may stand twice": (
        b"root=x console=tty0\n",
        ["console=ttyS0"],
        b"root=x console=tty0 console=ttyS0\n",
    ),
    "what follows -- is init's": (b"root=x -- iommu=pt\n", ["iommu=pt"], b"root=x iommu=pt -- iommu=pt\n"),
    "another spelling": (b"root=x vfio_pci.ids=1:2\n", ["vfio-pci.ids=1:2"], b"root=x vfio_pci.ids=1:2\n"),
}


@pytest.mark.parametrize(("before", "args", "after"), CMDLINES.values(), ids=CMDLINES)
@pytest.mark.parametrize("boot_loader", ["systemd-boot", "proxmox"])
def test_cmdline(tmp_path, boot_loader, before, args, after):
    host = Host(tmp_path, {**(systemd_boot if boot_loader == "systemd-boot" else proxmox)(before)})
    if boot_loader == "systemd-boot":
        host.run(["timeout", "--kill-after=10", "600", "kernel-install", "add", "6.1", "x"])
        host.run(["timeout", "--kill-after=10", "600", "kernel-install", "add", "5.10", "x"])
    start = host.snapshot()
    result = host.apply(args, boot_loader=boot_loader)
    assert host.read(CMDLINE) == after
    expected = []
    if after != before and boot_loader == "proxmox":
        expected = [["/usr/sbin/proxmox-boot-tool", "refresh"]]
    elif after != before:
        expected = [
            ["/usr/bin/kernel-install", "add", version, image]
            for version, image in (("5.10", "/usr/lib/modules/5.10/vmlinuz"), ("6.1", "/boot/vmlinuz-6.1"))
        ]
    assert result["commands"] == expected
    assert result["added"] == (args if after != before else [])
    host.apply(result["added"], present=False, boot_loader=boot_loader)
    if before != CMDLINES["the last value counts"][0]:
        assert host.snapshot() == start


def test_cmdline_restores_what_was_replaced_first(tmp_path):
    host = Host(tmp_path, proxmox(b"root=x iommu=off\n"))
    host.apply(["iommu=pt"])
    assert host.apply(["iommu=soft"])["added"] == ["iommu=soft"]
    host.apply(["iommu=soft"], present=False)
    assert host.read(CMDLINE) == b"root=x iommu=off\n"
    host.apply(["iommu=pt"])
    assert host.apply(["iommu=off"])["added"] == []
    assert host.read(CMDLINE) == b"root=x iommu=off\n"
    assert host.read(RECORD) is None


def test_cmdline_removes_the_users_argument_when_asked(tmp_path):
    host = Host(tmp_path, proxmox(b"iommu=pt root=x  quiet=1 quiet iommu=pt\n"))
    assert host.apply(["iommu=pt", "quiet"], present=False)["changed"]
    assert host.read(CMDLINE) == b"root=x  quiet=1\n"


def test_proxmox_reads_one_line(tmp_path):
    host = Host(tmp_path, proxmox(b"\nroot=x\niommu=pt\n"))
    host.apply(["iommu=pt"])
    assert host.read(CMDLINE) == b"\nroot=x iommu=pt\niommu=pt\n"
    other = Host(tmp_path / "other", systemd_boot(b"root=x\niommu=pt\n# end\n"))
    other.apply(["iommu=pt", "a=1"])
    assert other.read(CMDLINE) == b"root=x\niommu=pt a=1\n# end\n"


def test_cmdline_with_a_carriage_return_is_refused(tmp_path):
    host = Host(tmp_path, proxmox(b"root=x quiet\r\n"))
    with pytest.raises(Refused, match="holds a carriage return"):
        host.plan(["iommu=pt"])


@pytest.mark.parametrize(
    ("more", "base"),
    [({}, b"root=UUID=1 ro quiet"), ({"/usr/lib/kernel/cmdline": b"root=y\nquiet\n"}, b"root=y\nquiet")],
)
def test_a_missing_cmdline_starts_as_kernel_install_would(tmp_path, more, base):
    host = Host(tmp_path, systemd_boot(None, **more))
    host.apply(["iommu=pt"])
    assert host.read(CMDLINE) == base + b" iommu=pt\n"
    host.apply(["iommu=pt"], present=False)
    assert host.read(CMDLINE) is None
    assert host.read(RECORD) is None


def test_a_missing_cmdline_of_an_image_is_an_error(tmp_path):
    host = Host(tmp_path, {k: v for k, v in systemd_boot(None).items() if k != "/proc/cmdline"})
    with pytest.raises(Refused, match="is missing, and there is no running kernel"):
        host.plan(["iommu=pt"])


def test_entries_that_kernel_install_did_not_write_are_not_ours(tmp_path):
    host = Host(tmp_path, systemd_boot(**{"/etc/machine-id": b"f" * 32}))
    with pytest.raises(Refused, match="no entry in loader/entries .* was written by kernel-install"):
        host.plan(["iommu=pt"], boot_loader="systemd-boot")


@pytest.mark.parametrize("boot_loader", ["systemd-boot", "proxmox"])
@pytest.mark.parametrize("present", [True, False])
def test_cmdline_finishes_a_run_that_was_killed(tmp_path, boot_loader, present):
    host = Host(tmp_path, (systemd_boot if boot_loader == "systemd-boot" else proxmox)())
    start = host.snapshot()
    if not present:
        host.apply(["iommu=pt"])
    for change in host.plan(["iommu=pt"], present).files:
        carry_out(change, os.replace)
    assert host.plan([]).added == (["iommu=pt"] if present else [])
    result = host.apply(["iommu=pt"], present)
    assert result["changed"]
    assert result["commands"]
    assert result["files"] == [host.path(RECORD)]
    if boot_loader == "proxmox":
        assert (host.snapshot() == start) is not present


def test_cmdline_is_put_back_when_a_command_fails(tmp_path):
    host = Host(tmp_path, proxmox())
    host.fails = "no ESP"
    with pytest.raises(HostFailure, match=f"no ESP. Restored as it was before: {host.path(CMDLINE)}"):
        execute(host.plan(["iommu=pt"]), host.run, os.replace)
    assert host.read(CMDLINE) == proxmox()[CMDLINE]
    assert host.plan([]).added == []
    host.fails = None
    assert host.apply(["iommu=pt"])["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]
