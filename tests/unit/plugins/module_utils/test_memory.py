# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _memory
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def test_ksm(tree: PciTree) -> None:
    for name, number in (("run", 1), ("pages_shared", 3), ("pages_sharing", 9), ("use_zero_pages", 0)):
        tree.write(f"/sys/kernel/mm/ksm/{name}", f"{number}\n")
    assert _memory.read_ksm(str(tree.root)) == {
        "run": 1,
        "pages_shared": 3,
        "pages_sharing": 9,
        "pages_unshared": None,
        "pages_to_scan": None,
        "sleep_millisecs": None,
        "full_scans": None,
    }


def test_a_kernel_without_ksm(tree: PciTree) -> None:
    tree.write("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n")
    assert _memory.read_ksm(str(tree.root)) is None


def test_hugepages(tree: PciTree) -> None:
    machine, node = (
        "/sys/kernel/mm/hugepages/hugepages-{}kB",
        "/sys/devices/system/node/node{}/hugepages/hugepages-{}kB",
    )
    pools = {
        machine.format(1048576): (4, 1),
        machine.format(2048): (512, 256),
        node.format(10, 2048): (100, 50),
        node.format(2, 2048): (412, 206),
    }
    for pool, (total, free) in pools.items():
        tree.write(f"{pool}/nr_hugepages", f"{total}\n")
        tree.write(f"{pool}/free_hugepages", f"{free}\n")
    tree.write(machine.format(64) + "/nr_hugepages", "7\n")
    tree.write("/sys/devices/system/node/nodes/online", "")
    assert _memory.read_hugepages(str(tree.root)) == [
        {"size": 2 * MIB, "node": None, "total": 512, "free": 256},
        {"size": GIB, "node": None, "total": 4, "free": 1},
        {"size": 2 * MIB, "node": 2, "total": 412, "free": 206},
        {"size": 2 * MIB, "node": 10, "total": 100, "free": 50},
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "MemTotal:       65849848 kB\nMemFree:         1000 kB\nMemAvailable:   50331648 kB\n"
            "SwapTotal:             0 kB\nHugePages_Total:       0\n",
            {"total": 65849848 * 1024, "available": 48 * GIB, "swap_total": 0},
            id="whole",
        ),
        pytest.param("MemTotal: 1024 kB\n", {"total": MIB, "available": None, "swap_total": None}, id="before-3.14"),
        pytest.param("", {"total": None, "available": None, "swap_total": None}, id="empty"),
    ],
)
def test_memory(tree: PciTree, text: str, expected: dict[str, int | None]) -> None:
    tree.write("/proc/meminfo", text)
    assert _memory.read_memory(str(tree.root)) == expected
