# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _iommu
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

INTERRUPTS_OF = {
    "remapped": """\
            CPU0       CPU1
   0:         45          0  IR-IO-APIC    2-edge      timer
 120:          0          0  DMAR-MSI    0-edge      dmar0
 NMI:          1          1   Non-maskable interrupts
""",
    "remapped-3.2": "           CPU0\n 16:         33  IR-IO-APIC-fasteoi   uhci_hcd:usb3\n",
    "plain": """\
           CPU0       CPU1
   9:          0          4   IO-APIC   9-fasteoi   acpi
  32:          7          0  PCI-MSIX-0000:00:02.0   0-edge      IR-remote
""",
    "plain-2.6": "           CPU0\n 16:         33   IO-APIC-fasteoi   uhci_hcd:usb3\n",
    "its": """\
           CPU0
 11:          5     GICv3  27 Level     arch_timer
 50:          2   ITS-MSI 16384 Edge      eth0
""",
    "its-per-device": "  CPU0\n 50:     2   ITS-PCI-MSIX-0000:01:00.0   0 Edge      eth0\n",
    "gicv2m": """\
           CPU0
 11:          5     GICv2  27 Level     arch_timer
 50:          2       MSI 16384 Edge      eth0
""",
    "gicv2m-per-device": "  CPU0\n 50:     2   GICv2m-PCI-MSIX-0000:01:00.0   0 Edge      eth0\n",
    "other": "           CPU0\n  1:        9  SiFive PLIC   1 Edge      virtio0\n  2:    3    XT-PIC  cascade\n",
    "cut-off": "           CPU0       CPU1\n  16:         45          0",
}


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def groups(tree: PciTree, *numbers: int) -> None:
    for number in numbers:
        tree.write(f"/sys/kernel/iommu_groups/{number}/type", "DMA-FQ\n")


@pytest.mark.parametrize(
    ("tables", "table"),
    [
        (["APIC", "DMAR", "FACP"], "DMAR"),
        (["IVRS", "SSDT1"], "IVRS"),
        (["GTDT", "IORT"], "IORT"),
        (["VIOT"], "VIOT"),
        (["APIC", "FACP", "dynamic"], None),
        ([], None),
    ],
)
def test_table(tree: PciTree, tables: list[str], table: str | None) -> None:
    for name in tables:
        tree.write(f"/sys/firmware/acpi/tables/{name}", "")
    assert _iommu.read_iommu(str(tree.root))["table"] == table


@pytest.mark.parametrize(
    ("units", "numbers", "expected"),
    [
        pytest.param(["dmar1", "dmar0"], [0, 1, 12], (["dmar0", "dmar1"], 3, True), id="intel"),
        pytest.param(["smmu3.0x0000000009050000"], [0], (["smmu3.0x0000000009050000"], 1, True), id="arm"),
        pytest.param(["dmar0"], [], (["dmar0"], 0, False), id="units-without-groups"),
        pytest.param([], [0], ([], 1, False), id="noiommu-groups"),
        pytest.param([], [], ([], 0, False), id="off"),
    ],
)
def test_enabled(tree: PciTree, units: list[str], numbers: list[int], expected: tuple[object, ...]) -> None:
    for folder in ("kernel/iommu_groups", "class/iommu"):
        (tree.root / "sys" / folder).mkdir(parents=True)
    groups(tree, *numbers)
    for unit in units:
        tree.write(f"/sys/class/iommu/{unit}/uevent", "")
    found = _iommu.read_iommu(str(tree.root))
    assert (found["units"], found["groups"], found["enabled"]) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/sys/class/iommu/dmar0/uevent", (["dmar0"], None, None)),
        ("/sys/kernel/iommu_groups/3/type", ([], 1, None)),
        ("/sys/kernel/uevent_seqnum", ([], None, None)),
    ],
)
def test_a_tree_that_does_not_tell(tree: PciTree, file: str, expected: tuple[object, ...]) -> None:
    tree.write(file, "")
    found = _iommu.read_iommu(str(tree.root))
    assert (found["units"], found["groups"], found["enabled"]) == expected


@pytest.mark.parametrize(
    ("chips", "remapping"),
    [
        (["IR-IO-APIC", "DMAR-MSI", "IR-PCI-MSIX-0000:01:00.0"], True),
        (["IO-APIC", "IR-PCI-MSI"], True),
        (["", "IO-APIC", "PCI-MSI"], False),
        (["PCI-MSIX-0000:01:00.0"], False),
        (["GICv3", "ITS-PCI-MSI-0000:01:00.0"], True),
        (["GICv3", "ITS-MSI"], True),
        (["GICv2", "GICv2m-PCI-MSI-0000:01:00.0"], False),
        (["GICv2", "MSI"], False),
        (["HPET-MSI", "DMAR-MSI", "XT-PIC", "None"], None),
        (["GICv3"], None),
        ([], None),
    ],
)
def test_remapping_by_chip_names(tree: PciTree, chips: list[str], remapping: bool | None) -> None:
    for number, chip in enumerate(chips):
        tree.write(f"/sys/kernel/irq/{number}/chip_name", chip + "\n")
    assert _iommu.read_remapping(str(tree.root)) is remapping


@pytest.mark.parametrize(
    ("rows", "remapping"),
    [
        ("remapped", True),
        ("remapped-3.2", True),
        ("plain", False),
        ("plain-2.6", False),
        ("its", True),
        ("its-per-device", True),
        ("gicv2m", False),
        ("gicv2m-per-device", False),
        ("other", None),
        ("cut-off", None),
    ],
)
def test_remapping_by_rows(tree: PciTree, rows: str, remapping: bool | None) -> None:
    tree.write("/proc/interrupts", INTERRUPTS_OF[rows])
    assert _iommu.read_remapping(str(tree.root)) is remapping


@pytest.mark.parametrize(
    ("value", "on"), [("Y", True), ("N", False), ("1", True), ("0", False), ("maybe", None), (None, None)]
)
@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("unsafe_interrupts", "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"),
        ("noiommu", "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"),
    ],
)
def test_switches_of_vfio(tree: PciTree, key: str, path: str, value: str | None, on: bool | None) -> None:
    if value is not None:
        tree.write(path, value + "\n")
    assert _iommu.read_iommu(str(tree.root))[key] is on


@pytest.mark.parametrize(
    ("registers", "bits"),
    [
        pytest.param({"dmar0": "d2008c222f0686"}, 48, id="48-bits"),
        pytest.param({"dmar0": "d2008c40660462", "dmar1": "1c0000c40660462"}, 39, id="39-bits"),
        pytest.param({"dmar0": "d2008c222f0686", "dmar1": "d2008c40660462"}, 39, id="the-weaker-one"),
        pytest.param({"dmar0": ""}, None, id="empty"),
        pytest.param({"ivhd0": None}, None, id="amd"),
    ],
)
def test_address_bits(tree: PciTree, registers: dict[str, str | None], bits: int | None) -> None:
    for unit, register in registers.items():
        tree.write(f"/sys/class/iommu/{unit}/uevent", "")
        if register is not None:
            tree.write(f"/sys/class/iommu/{unit}/intel-iommu/cap", register + "\n")
    assert _iommu.read_iommu(str(tree.root))["address_bits"] == bits


def test_reserved_regions(tree: PciTree) -> None:
    msi = "0x00000000fee00000 0x00000000feefffff msi\n"
    groups(tree, 0, 2, 10)
    tree.write("/sys/kernel/iommu_groups/10/reserved_regions", msi)
    tree.write(
        "/sys/kernel/iommu_groups/2/reserved_regions",
        "0x00000000bdf6f000 0x00000000bdf7efff direct\n0x000000008d800000 0x000000008fffffff direct-relaxable\n" + msi,
    )
    found = _iommu.read_iommu(str(tree.root))["reserved"]
    assert [(region["group"], region["type"]) for region in found] == [
        (2, "direct"),
        (2, "direct-relaxable"),
        (2, "msi"),
        (10, "msi"),
    ]
    assert found[0] == {"group": 2, "start": "0x00000000bdf6f000", "end": "0x00000000bdf7efff", "type": "direct"}


@pytest.mark.parametrize("text", ["", "0x0 0x1", "\n\n"])
def test_no_reserved_regions(tree: PciTree, text: str) -> None:
    groups(tree, 0)
    tree.write("/sys/kernel/iommu_groups/0/reserved_regions", text)
    assert _iommu.read_iommu(str(tree.root))["reserved"] == []
