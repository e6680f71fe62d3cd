# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _checks_memory
from ansible_collections.kvm.passthrough.plugins.module_utils._guests import Guest
from ansible_collections.kvm.passthrough.tests.unit.machines import Facts, device, findings, machine
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

CARD = "0000:81:00.0"
GIB = 1 << 30


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def guest(name: str, memory: int | None, running: bool = False, devices: tuple[str, ...] = (CARD,)) -> Guest:
    return Guest(name, running, None, devices, memory, f"/etc/libvirt/qemu/{name}.xml")


def pool(total: int, free: int, size: int = 2 << 20, node: int | None = None) -> Facts:
    return {"size": size, "node": node, "total": total, "free": free}


TOGETHER = "the guests with PCI devices (fax1, dvb) need 72.0 GiB, but the host has 64.0 GiB"


@pytest.mark.parametrize(
    ("guests", "hugepages", "expected"),
    [
        pytest.param([], [], [], id="no guests"),
        pytest.param([guest("fax1", 8 * GIB)], [], [], id="fits"),
        pytest.param(
            [guest("fax1", 56 * GIB)],
            [],
            ["fax1 has PCI devices and needs 56.0 GiB at its start, but 48.0 GiB of the host's memory is free"],
            id="does not fit now",
        ),
        pytest.param([guest("fax1", 56 * GIB, running=True)], [], [], id="has its memory already"),
        pytest.param([guest("fax1", 56 * GIB, devices=())], [], [], id="has no devices"),
        pytest.param([guest("fax1", None)], [], [], id="memory unknown"),
        pytest.param([guest("fax1", 56 * GIB)], [pool(8192, 4096)], [], id="free huge pages count"),
        pytest.param([guest("fax1", 56 * GIB)], [pool(8192, 4096, node=0)], ["fax1 "], id="those of a node not again"),
        pytest.param([guest("fax1", 40 * GIB), guest("dvb", 32 * GIB, running=True)], [], [TOGETHER], id="never fits"),
        pytest.param([guest("fax1", 32 * GIB), guest("dvb", 32 * GIB)], [], [], id="one after the other"),
    ],
)
def test_pinned_memory(guests: list[Guest], hugepages: list[Facts], expected: list[str]) -> None:
    where = machine(kvm={"hugepages": hugepages}, guests=guests)
    found = findings(_checks_memory.HOST_CHECKS, "pinned_memory", where)
    assert len(found) == len(expected)
    for finding, message in zip(found, expected):
        assert finding["message"].startswith(message)
        assert finding["evidence"] in (
            "/proc/meminfo: MemTotal: 67108864 kB",
            "/proc/meminfo: MemAvailable: 50331648 kB",
        )


def test_pinned_memory_of_a_host_that_does_not_say() -> None:
    memory = {"total": None, "available": None, "swap_total": None}
    where = machine(kvm={"memory": memory}, guests=[guest("fax1", 999 * GIB)])
    assert findings(_checks_memory.HOST_CHECKS, "pinned_memory", where) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512\n", ["vfio_iommu_type1 is loaded with dma_entry_limit=512, fewer mappings than the kernel's 65535"]),
        ("65535\n", []),
        ("1000000\n", []),
        ("garbage\n", []),
        (None, []),
    ],
)
def test_dma_entry_limit(tree: PciTree, text: str | None, expected: list[str]) -> None:
    if text is not None:
        tree.write("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", text)
    found = findings(_checks_memory.HOST_CHECKS, "dma_entry_limit", machine(tree.root))
    assert [finding["message"] for finding in found] == expected


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ([pool(1024, 0)], ["all 1024 reserved huge pages of 2048 KiB are taken"]),
        ([pool(1024, 1)], []),
        ([pool(0, 0)], []),
        ([pool(512, 0, node=0), pool(512, 512, node=1), pool(1024, 512)], []),
        ([pool(0, 0), pool(4, 0, size=GIB)], ["all 4 reserved huge pages of 1048576 KiB are taken"]),
        ([], []),
    ],
)
def test_hugepages(pools: list[Facts], expected: list[str]) -> None:
    found = findings(_checks_memory.HOST_CHECKS, "hugepages", machine(kvm={"hugepages": pools}))
    assert [finding["message"] for finding in found] == expected


@pytest.mark.parametrize(
    ("ksm", "fires"),
    [({"run": 1}, True), ({"run": 0}, False), ({"run": 2}, False), ({"run": None}, False), (None, False)],
)
def test_ksm(ksm: Facts | None, fires: bool) -> None:
    found = findings(_checks_memory.HOST_CHECKS, "ksm", machine(kvm={"ksm": ksm}))
    assert [(finding["severity"], finding["message"], finding["symptom"]) for finding in found] == [
        ("information", "the host merges equal memory of guests (KSM), but not that of guests with PCI devices", None)
    ][: int(fires)]


@pytest.mark.parametrize(
    ("mode", "fires"), [("integrity", True), ("confidentiality", True), ("none", False), (None, False)]
)
def test_lockdown_is_no_hindrance(mode: str | None, fires: bool) -> None:
    found = findings(_checks_memory.HOST_CHECKS, "lockdown", machine(kvm={"kernel": {"lockdown": mode}}))
    assert [(finding["severity"], finding["message"], finding["evidence"]) for finding in found] == [
        (
            "information",
            f"the kernel is locked down ({mode}): devices go to guests all the same, but a module that is not signed,"
            " such as vendor-reset, is not loaded",
            f"/sys/kernel/security/lockdown: {mode}",
        )
    ][: int(fires)]


@pytest.mark.parametrize(
    ("fields", "guests", "leaving", "nodes", "remedy"),
    [
        pytest.param({}, [guest("fax1", GIB)], [], 2, "fax1", id="of a guest"),
        pytest.param({}, [], [CARD], 2, "the guest", id="leaving"),
        pytest.param({"driver": "vfio-pci"}, [], [], 2, "the guest", id="left"),
        pytest.param({}, [], [], 2, None, id="stays"),
        pytest.param({}, [guest("fax1", GIB, devices=("0000:01:00.0",))], [], 2, None, id="another's guest"),
        pytest.param({"driver": "vfio-pci"}, [], [], 1, None, id="one node"),
        pytest.param({"driver": "vfio-pci"}, [], [], 0, None, id="bare tree"),
        pytest.param({"driver": "vfio-pci", "numa_node": None}, [], [], 2, None, id="node unknown"),
        pytest.param({"class": "060400"}, [], [CARD], 2, None, id="bridge"),
    ],
)
def test_numa(
    tree: PciTree, fields: Facts, guests: list[Guest], leaving: list[str], nodes: int, remedy: str | None
) -> None:
    for number in range(nodes):
        tree.write(f"/sys/devices/system/node/node{number}/cpulist", "0-3\n")
    tree.write("/sys/devices/system/node/possible", "0-1\n")
    card = device(CARD, **{"numa_node": 1, **fields})
    where = machine(tree.root, [card], guests=guests, leaving=frozenset(leaving))
    found = findings(_checks_memory.DEVICE_CHECKS, "numa", where, CARD)
    assert [(finding["message"], finding["remedy"]) for finding in found] == [
        (
            f"{CARD} is on NUMA node 1 of 2",
            f"Pin CPUs and memory of {remedy} to node 1 (<cputune>, <numatune>), and reserve huge pages there",
        )
    ][: int(remedy is not None)]


def test_a_healthy_host_is_silent() -> None:
    assert [check.id for check in _checks_memory.HOST_CHECKS if list(check.findings(machine()))] == []
