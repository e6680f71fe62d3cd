# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput
from ansible_collections.kvm.passthrough.plugins.module_utils._kernel_line import check, holds, running, words
from ansible_collections.kvm.passthrough.tests.unit.boot_host import Host


@pytest.mark.parametrize(
    "arg",
    [
        "a b",
        "a\n",
        "",
        "-x",
        "--",
        "a$b",
        "a`b",
        'a="b"',
        "a'b",
        "a\\b",
        "a;b",
        "a&b",
        "a|b",
        "a#b",
        "a{b",
        "x=a;b",
        "ä",
        "a*",
    ],
)
def test_an_argument_that_needs_quoting_is_refused(arg):
    with pytest.raises(InvalidInput, match="is not an argument that can be passed") as error:
        check([arg])
    assert repr(arg) in str(error.value)


@pytest.mark.parametrize(
    "arg",
    [
        "intel_iommu=on,sm_on",
        "vfio-pci.ids=10de:1eb8,10de:10f8",
        "console=ttyS0,115200n8",
        "isolcpus=1-3",
        "memmap=1G!4G",
        "root=/dev/sda1",
        "quiet",
        "x=",
        "pci=resource_alignment=12@0000:00:1f.0",
        "video=HDMI-A-1:1920x1080@60",
    ],
)
def test_what_parameters_need_is_allowed(arg):
    assert check([arg, arg]) == [arg]
    assert shlex.split(arg) == [arg]


def test_contradicting_arguments_are_refused():
    with pytest.raises(InvalidInput, match="iommu=pt and iommu=off contradict each other"):
        check(["iommu=pt", "iommu=off"])
    assert check(["console=tty0", "console=ttyS0"]) == ["console=tty0", "console=ttyS0"]


# The faults of peers: a pattern where a name was meant, only a part of the line, the wrong one of two values.
@pytest.mark.parametrize(
    ("line", "arg", "there"),
    [
        ("intel_iommu=on", "iommu=on", False),
        ("amd_iommu=pt", "iommu=pt", False),
        ("vfio-pcixids=10de:1", "vfio-pci.ids=10de:1", False),
        ("vfio_pci.ids=10de:1", "vfio-pci.ids=10de:1", True),
        ("iommu=pt iommu=off", "iommu=pt", False),
        ("iommu=off iommu=pt", "iommu=pt", True),
        ("console=tty0 console=ttyS0", "console=tty0", True),
        ("rd.lvm.lv=a rd.lvm.lv=b", "rd.lvm.lv=a", True),
        ("quiet=1", "quiet", False),
        ("quiet", "quiet", True),
        ("iommu=PT", "iommu=pt", False),
        ('dyndbg="file a.c iommu=pt +p"', "iommu=pt", False),
    ],
)
def test_holds(line, arg, there):
    assert holds(words(line), arg) is there


def test_running_arguments_end_where_those_of_init_start(tmp_path):
    assert running(str(tmp_path)) is None
    host = Host(tmp_path, {"/proc/cmdline": b"a=1 -- iommu=pt\n"})
    assert running(host.root) == ["a=1"]
