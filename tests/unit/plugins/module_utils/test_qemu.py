# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _qemu
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

DEBIAN = b"QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright (c) 2003-2025 Fabrice Bellard\n\0"
DRIVER = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"
NO_GROUPS = "there are no IOMMU groups (/sys/kernel/iommu_groups)"
NO_VFIO = "/dev/vfio/vfio is missing"
NO_DRIVER = "libvirt's QEMU driver (libvirt_driver_qemu.so) is not installed"


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


@pytest.mark.parametrize(
    ("program", "version"),
    [
        pytest.param(b"\x7fELF" + bytes(70000) + DEBIAN + bytes(70000), "10.0.13", id="debian"),
        pytest.param(b"QEMU emulator version 9.1.0 (qemu-kvm-9.1.0-15.el9)\n", "9.1.0", id="red-hat"),
        pytest.param(b"QEMU emulator version 11.0.50 (v11.0.0-12-gabc)\n", "11.0.50", id="of-its-own"),
        pytest.param(b"x QEMU emulator version 8.2", "8.2", id="at-the-end"),
        pytest.param(b"QEMU emulator version %s\n", None, id="not-written-out"),
        pytest.param(b"#!/bin/sh\nexec /opt/qemu\n", None, id="script"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_qemu_version(tree: PciTree, program: bytes, version: str | None) -> None:
    tree.write("/usr/bin/qemu-system-x86_64", program)
    assert _qemu.read_qemu(str(tree.root), "x86_64") == {"path": "/usr/bin/qemu-system-x86_64", "version": version}


@pytest.mark.parametrize(
    ("installed", "architecture", "path"),
    [
        (["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-aarch64"], "aarch64", "/usr/bin/qemu-system-aarch64"),
        (["/usr/bin/qemu-system-aarch64"], "x86_64", None),
        (["/usr/libexec/qemu-kvm"], "x86_64", "/usr/libexec/qemu-kvm"),
        (["/usr/libexec/qemu-kvm", "/usr/bin/qemu-system-x86_64"], "x86_64", "/usr/bin/qemu-system-x86_64"),
        (["/usr/bin/qemu-img"], "x86_64", None),
        (["/usr/libexec/qemu-kvm"], None, "/usr/libexec/qemu-kvm"),
    ],
)
def test_qemu_path(tree: PciTree, installed: list[str], architecture: str | None, path: str | None) -> None:
    for program in installed:
        tree.write(program, b"")
    assert _qemu.read_qemu(str(tree.root), architecture)["path"] == path


def test_a_link_out_of_the_tree(tree: PciTree) -> None:
    """It is installed, but its target is not the tree's."""
    (tree.root / "usr/bin").mkdir(parents=True)
    (tree.root / "usr/bin/qemu-system-x86_64").symlink_to("/etc/alternatives/nowhere")
    assert _qemu.read_qemu(str(tree.root), "x86_64") == {"path": "/usr/bin/qemu-system-x86_64", "version": None}


@pytest.mark.parametrize(
    ("folder", "library", "version"),
    [
        # As in the packages libvirt0 of Debian 12 and 13, and libvirt-libs of RHEL 8.
        ("/usr/lib/x86_64-linux-gnu", "libvirt.so.0.9000.0", "9.0.0"),
        ("/usr/lib/aarch64-linux-gnu", "libvirt.so.0.11003.0", "11.3.0"),
        ("/usr/lib64", "libvirt.so.0.4005.0", "4.5.0"),
        ("/usr/lib", "libvirt.so.0.10010.12", "10.10.12"),
        ("/usr/lib64", "libvirt.so.0", None),
        ("/usr/lib/python3", "libvirt.so.0.9000.0", None),
    ],
)
def test_libvirt_version(tree: PciTree, folder: str, library: str, version: str | None) -> None:
    tree.write(f"{folder}/other.so", "")
    (tree.root / folder[1:] / "libvirt.so.0").symlink_to(library)
    assert _qemu.read_libvirt(str(tree.root), 1)["version"] == version


@pytest.mark.parametrize(
    ("groups", "files", "assigns", "reason"),
    [
        pytest.param(12, ["/dev/vfio/vfio", DRIVER], True, None, id="all"),
        pytest.param(12, ["/sys/class/misc/vfio/dev", DRIVER], True, None, id="a-tree-without-nodes"),
        pytest.param(
            12,
            ["/dev/vfio/vfio", "/usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so"],
            True,
            None,
            id="red-hat",
        ),
        pytest.param(0, ["/dev/vfio/vfio", DRIVER], False, NO_GROUPS, id="no-groups"),
        pytest.param(12, ["/dev/null", DRIVER], False, NO_VFIO, id="no-vfio"),
        pytest.param(12, ["/dev/vfio/vfio", "/usr/lib/os-release"], False, NO_DRIVER, id="no-driver"),
        pytest.param(
            0, ["/dev/null", "/usr/lib/os-release"], False, f"{NO_GROUPS}; {NO_VFIO}; {NO_DRIVER}", id="nothing"
        ),
        pytest.param(None, ["/dev/vfio/vfio", DRIVER], None, None, id="a-tree-without-groups"),
        pytest.param(12, [DRIVER], None, None, id="a-tree-without-dev"),
        pytest.param(12, ["/dev/vfio/vfio"], None, None, id="a-tree-without-libraries"),
        pytest.param(None, ["/dev/null", DRIVER], False, NO_VFIO, id="one-is-missing-one-unknown"),
    ],
)
def test_assigns_pci(
    tree: PciTree, groups: int | None, files: list[str], assigns: bool | None, reason: str | None
) -> None:
    for path in files:
        tree.write(path, "")
    found = _qemu.read_libvirt(str(tree.root), groups)
    assert (found["assigns_pci"], found["reason"]) == (assigns, reason)
