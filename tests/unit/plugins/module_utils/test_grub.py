# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._boot_detect import GRUB_DEFAULT
from ansible_collections.kvm.passthrough.plugins.module_utils._boot_plan import RECORD
from ansible_collections.kvm.passthrough.plugins.module_utils._bootloader import execute
from ansible_collections.kvm.passthrough.plugins.module_utils._cmdline_file import CMDLINE
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._files import carry_out
from ansible_collections.kvm.passthrough.plugins.module_utils._grub import DROP_IN, HEADER, grub_lines
from ansible_collections.kvm.passthrough.plugins.module_utils._kernel_line import holds
from ansible_collections.kvm.passthrough.tests.unit.boot_host import Host, debian, proxmox, suse

DROP_IN_TEXT = HEADER + 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {}"\n'

# the user's settings, arguments, the drop-in afterwards, conflicts as (other, file, line)
GRUB = {
    "new": (
        "GRUB_CMDLINE_LINUX_DEFAULT=quiet\n",
        ["intel_iommu=on", "iommu=pt"],
        DROP_IN_TEXT.format("intel_iommu=on iommu=pt"),
        [],
    ),
    "there already": ("GRUB_CMDLINE_LINUX='iommu=pt'\n", ["iommu=pt"], None, []),
    "there already, among the defaults": ('GRUB_CMDLINE_LINUX_DEFAULT="quiet iommu=pt"\n', ["iommu=pt"], None, []),
    "a longer name is another": (
        "GRUB_CMDLINE_LINUX=intel_iommu=pt\n",
        ["iommu=pt"],
        DROP_IN_TEXT.format("iommu=pt"),
        [],
    ),
    "in a comment": ("#GRUB_CMDLINE_LINUX=iommu=pt\n", ["iommu=pt"], DROP_IN_TEXT.format("iommu=pt"), []),
    "another value, which then comes first": (
        '# x\nGRUB_CMDLINE_LINUX="iommu=off"\n',
        ["iommu=pt"],
        DROP_IN_TEXT.format("iommu=pt"),
        [("iommu=off", GRUB_DEFAULT, 2)],
    ),
    "another value among the defaults, which come last": (
        "GRUB_CMDLINE_LINUX_DEFAULT='quiet iommu=off'\n",
        ["iommu=pt", "x=1"],
        DROP_IN_TEXT.format("iommu=pt x=1") + 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT iommu=pt"\n',
        [("iommu=off", GRUB_DEFAULT, 1)],
    ),
    "a name that may stand twice": (
        "GRUB_CMDLINE_LINUX_DEFAULT=console=tty0\n",
        ["console=ttyS0,115200"],
        DROP_IN_TEXT.format("console=ttyS0,115200"),
        [],
    ),
    "over several lines, with a variable": (
        'MINE="iommu=pt"\nGRUB_CMDLINE_LINUX="quiet \\\n  a=1 ${MINE}"\nX=`lsb_release -i || echo Debian`\n',
        ["iommu=pt", "a=1"],
        None,
        [],
    ),
    "CR LF": ("GRUB_CMDLINE_LINUX_DEFAULT=quiet\r\n", ["iommu=pt"], DROP_IN_TEXT.format("iommu=pt"), []),
}


@pytest.mark.parametrize(("default", "args", "expected", "conflicts"), GRUB.values(), ids=GRUB)
def test_grub(tmp_path, default, args, expected, conflicts):
    host = Host(tmp_path, debian(default))
    host.mkconfig("/boot/grub/grub.cfg")
    before = host.snapshot()
    result = host.apply(args)
    assert (host.read(DROP_IN) or b"").decode() == (expected or "")
    assert [(c["other"], c["file"], c["line"]) for c in result["conflicts"]] == [
        (other, host.path(file), line) for other, file, line in conflicts
    ]
    assert result["commands"] == ([["/usr/sbin/update-grub"]] if expected else [])
    for line in grub_lines(host.read("/boot/grub/grub.cfg")).values():
        assert all(holds(line, arg) for arg in args)
    assert host.read(GRUB_DEFAULT) == before[GRUB_DEFAULT]
    if expected:
        assert host.apply(args, present=False)["added"] == []
        assert host.snapshot() == before


def test_grub_replaces_what_is_ours(tmp_path):
    host = Host(tmp_path, debian())
    host.apply(["iommu=pt", "a=1"])
    assert host.apply(["iommu=soft"])["added"] == ["a=1", "iommu=soft"]
    assert host.apply(["a_b=1", "a-b=1"])["added"] == ["a=1", "iommu=soft", "a_b=1"]
    assert host.apply([], present=False)["added"] == ["a=1", "iommu=soft", "a_b=1"]


@pytest.mark.parametrize("ours", [[], ["iommu=pt"]])
def test_grub_does_not_take_away_what_the_user_gave(tmp_path, ours):
    host = Host(tmp_path, debian("# x\n"))
    host.apply([*ours, "a=1"])
    host.write(GRUB_DEFAULT, "# x\n\nGRUB_CMDLINE_LINUX_DEFAULT='quiet iommu=pt'\n")
    before = host.snapshot()
    with pytest.raises(Refused, match=f"{host.path(GRUB_DEFAULT)}:3 gives iommu=pt: remove it there"):
        host.plan(["a=1", "iommu=pt"], present=False)
    assert host.snapshot() == before


def test_absent_of_no_arguments_removes_nothing(tmp_path):
    """StackHPC's empty list matched, and removed, everything."""
    host = Host(tmp_path, debian())
    host.apply(["iommu=pt"])
    before = host.snapshot()
    assert host.apply([], present=False) == {**host.apply([]), "changed": False, "added": ["iommu=pt"]}
    assert host.snapshot() == before


def test_absent_is_exact(tmp_path):
    """StackHPC's unanchored names also removed amd_iommu and vfio_iommu_type1.allow_unsafe_interrupts."""
    args = ["amd_iommu=force_enable", "vfio_iommu_type1.allow_unsafe_interrupts=1", "iommu=pt"]
    host = Host(tmp_path, debian())
    host.apply(args)
    assert host.apply(["iommu", "iommu=off"], present=False)["changed"] is False
    assert host.apply(["iommu=pt"], present=False)["added"] == args[:2]


@pytest.mark.parametrize(
    "content", ['GRUB_CMDLINE_LINUX="a=1"\n', 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu=off"\n']
)
def test_grub_names_the_file_that_overrules_ours(tmp_path, content):
    host = Host(tmp_path, debian(**{"/etc/default/grub.d/zz.cfg": content, "/etc/default/grub.d/aa.cfg": content}))
    with pytest.raises(Refused, match=r"zz\.cfg is read after .*passthrough\.cfg and overrules it, so that iommu=pt"):
        host.plan(["iommu=pt"])


def test_grub_leaves_a_drop_in_of_that_name_alone(tmp_path):
    host = Host(tmp_path, debian(**{DROP_IN: "GRUB_TIMEOUT=1\n"}))
    with pytest.raises(Refused, match="was not written by this module"):
        host.plan(["iommu=pt"])


@pytest.mark.parametrize("present", [True, False])
def test_grub_finishes_a_run_that_was_killed(tmp_path, present):
    """The drop-in was written, or removed, and mkconfig did not run."""
    host = Host(tmp_path, debian())
    if not present:
        host.apply(["iommu=pt"])
    host.mkconfig("/boot/grub/grub.cfg")
    execute(host.plan(["iommu=pt"], present, run=False), None, os.replace)
    result = host.apply(["iommu=pt"], present)
    assert (result["changed"], result["files"], result["commands"]) == (True, [], [["/usr/sbin/update-grub"]])


def test_grub_puts_the_drop_in_back_when_mkconfig_fails(tmp_path):
    host = Host(tmp_path, debian())
    host.apply(["a=1"])
    before = host.snapshot()
    host.fails = "warning\n/usr/sbin/grub-probe: error: no device\n"
    with pytest.raises(HostFailure) as error:
        execute(host.plan(["iommu=pt"]), host.run, os.replace)
    assert str(error.value) == (
        "/usr/sbin/update-grub failed with code 1: warning / /usr/sbin/grub-probe: error: no device. "
        f"Restored as it was before: {host.path(DROP_IN)}"
    )
    assert host.snapshot() == before


def test_grub_notices_a_mkconfig_that_does_not_do_as_asked(tmp_path):
    host = Host(tmp_path, debian("if true; then :; fi\n"))
    host.apply(["a=1"])
    before = host.snapshot()
    with pytest.raises(
        HostFailure, match=r"update-grub succeeded, but .*grub.cfg:5 \(vmlinuz-6.1\) lacks iommu=pt.*Restored"
    ):
        execute(host.plan(["iommu=pt"]), lambda argv: (0, "", ""), os.replace)
    assert host.snapshot() == before


@pytest.mark.parametrize("default", ["GRUB_TIMEOUT=1\n", "GRUB_TIMEOUT=1", "", 'GRUB_CMDLINE_LINUX="x=1"\n\n'])
def test_grub_without_a_folder_of_drop_ins(tmp_path, default):
    """SUSE: the user's file reads ours in its last line, and is itself again afterwards, byte for byte."""
    host = Host(tmp_path, suse(default))
    result = host.apply(["iommu=pt"])
    assert result["commands"] == [["/usr/sbin/grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]]
    assert result["files"] == [host.path(DROP_IN), host.path(GRUB_DEFAULT)]
    assert host.read(GRUB_DEFAULT).decode().startswith(default)
    assert all("iommu=pt" in line for line in grub_lines(host.read("/boot/grub2/grub.cfg")).values())
    assert host.apply(["a=1"])["files"] == [host.path(DROP_IN)]
    host.apply(["iommu=pt", "a=1"], present=False)
    assert host.read(GRUB_DEFAULT) == default.encode()
    assert host.read(DROP_IN) is None


def test_grub_that_reads_boot_entries_needs_grubby(tmp_path):
    host = Host(tmp_path, {**suse("GRUB_ENABLE_BLSCFG=true\n")})
    with pytest.raises(Refused, match="sets GRUB_ENABLE_BLSCFG.*install grubby"):
        host.plan(["iommu=pt"])


def test_grub_of_proxmox_is_refreshed_on_its_boot_partitions(tmp_path):
    host = Host(tmp_path, proxmox(info=None))
    plan = host.plan(["iommu=pt"])
    for change in plan.files:
        carry_out(change, os.replace)
    # Killed here. What the partitions hold cannot be seen, so that the record has to tell.
    result = host.apply(["iommu=pt"])
    assert result["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]
    assert host.read(RECORD) is None
    assert not os.path.exists(os.path.dirname(host.path(RECORD)))
    assert host.read(CMDLINE) == proxmox()[CMDLINE]
