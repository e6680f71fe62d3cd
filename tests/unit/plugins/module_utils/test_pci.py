# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _pci, _sysfs
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import (
    IO,
    MEMORY,
    MEMORY_64,
    PCI_IDS,
    PREFETCHABLE,
    ROM,
    PciTree,
    config_space,
    express,
    msi,
    msix,
)

A = "0000:01:00.0"
KEYS = [
    "address",
    "id",
    "subsystem_id",
    "class",
    "revision",
    "vendor_name",
    "device_name",
    "subsystem_name",
    "class_name",
    "driver",
    "driver_override",
    "modules",
    "iommu_group",
    "numa_node",
    "enabled",
    "interrupt",
    "bars",
    "header_type",
    "bridge",
    "pcie_type",
    "multifunction",
    "reset_methods",
    "boot_vga",
    "power_state",
    "sriov",
    "parent",
    "path",
    "physical_slot",
]
FROM_CONFIG = ("header_type", "pcie_type", "multifunction")
NO_SRIOV: dict[str, t.Any] = {
    "total_vfs": None,
    "num_vfs": None,
    "physical_function": None,
    "virtual_functions": [],
    "vf_id": None,
    "offset": None,
    "stride": None,
}


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def read(tree: PciTree) -> tuple[dict[str, dict[str, t.Any]], list[str]]:
    warnings: list[str] = []
    devices = _pci.read_devices(str(tree.root), warnings.append)
    return {device["address"]: device for device in devices}, warnings


def only(tree: PciTree) -> dict[str, t.Any]:
    devices, warnings = read(tree)
    assert warnings == []
    (device,) = devices.values()
    assert list(device) == KEYS
    return device


# -- whole devices -----------------------------------------------------------------------------------------------------


def test_pcie_card_behind_a_root_port(tree: PciTree) -> None:
    port = config_space("8086:3420", "060400", header=0x81, capabilities=[express(4)], busses=(0, 1, 1))
    tree.add("0000:00:01.0", port, pci_id="8086:3420", pci_class="060400", subsystem="0000:0000", driver="pcieport")
    card = config_space(revision=3, capabilities=[(0x01, bytes(6)), express(0), msix(True, 5)], command=0x0406)
    tree.add(
        A,
        card,
        below="0000:00:01.0",
        driver="e1000e",
        group=12,
        irq=16,
        vectors={100: "msix", 33: "msix"},
        bars={0: (0xFE840000, 0x20000, MEMORY), 2: (0xC000, 0x20, IO), 6: (0xFE800000, 0x40000, ROM)},
        attributes={"numa_node": "1", "reset_method": "flr bus", "enable": "2"},
    )
    tree.slot("7", "0000:01:00")
    tree.write("/usr/share/misc/pci.ids", PCI_IDS)
    tree.write("/proc/sys/kernel/osrelease", "6.12.0\n")
    tree.write("/lib/modules/6.12.0/modules.alias", "alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n")
    devices, warnings = read(tree)
    assert warnings == []
    assert devices[A] == {
        "address": A,
        "id": "8086:10d3",
        "subsystem_id": "8086:a01f",
        "class": "020000",
        "revision": "03",
        "vendor_name": "Intel Corporation",
        "device_name": "82574L Gigabit Network Connection",
        "subsystem_name": "Intel Corporation Gigabit CT Desktop Adapter",
        "class_name": "Ethernet controller",
        "driver": "e1000e",
        "driver_override": None,
        "modules": ["e1000e"],
        "iommu_group": 12,
        "numa_node": 1,
        "enabled": True,
        "interrupt": {"pin": "A", "line": 16, "vectors": [33, 100], "mode": "msix"},
        "bars": [
            {"index": 0, "type": "memory", "bits": 32, "prefetchable": False, "size": 0x20000},
            {"index": 2, "type": "io", "bits": None, "prefetchable": False, "size": 0x20},
            {"index": 6, "type": "rom", "bits": None, "prefetchable": False, "size": 0x40000},
        ],
        "header_type": 0,
        "bridge": False,
        "pcie_type": "endpoint",
        "multifunction": False,
        "reset_methods": ["flr", "bus"],
        "boot_vga": False,
        "power_state": "D0",
        "sriov": NO_SRIOV,
        "parent": "0000:00:01.0",
        "path": "0000:00:01.0/00.0",
        "physical_slot": "7",
    }
    port_facts = devices["0000:00:01.0"]
    expected: dict[str, t.Any] = {
        "subsystem_id": None,
        "subsystem_name": None,
        "class_name": "PCI bridge",
        "device_name": None,
        "header_type": 1,
        "bridge": True,
        "pcie_type": "root_port",
        "multifunction": True,
        "parent": None,
        "path": "0000:00:01.0",
        # The other device shows the attribute, so the kernel has it, and this one has no method.
        "reset_methods": [],
    }
    assert {key: port_facts[key] for key in expected} == expected


def test_conventional_card(tree: PciTree) -> None:
    config = config_space("1397:08b4", "020400", "1397:b520", revision=1, pin=2, capabilities=[(0x01, bytes(6))])
    tree.add(
        A,
        config,
        pci_id="1397:08b4",
        pci_class="020400",
        subsystem="1397:b520",
        driver="HFC-multi",
        irq=20,
        attributes={"driver_override": "vfio-pci"},
    )
    device = only(tree)
    assert device["interrupt"] == {"pin": "B", "line": 20, "vectors": [], "mode": "intx"}
    assert (device["pcie_type"], device["header_type"], device["bridge"]) == (None, 0, False)
    assert (device["driver"], device["driver_override"]) == ("HFC-multi", "vfio-pci")
    assert (device["vendor_name"], device["class_name"], device["modules"]) == (None, None, [])
    assert (device["iommu_group"], device["numa_node"], device["reset_methods"]) == (None, None, None)


def test_virtual_functions(tree: PciTree) -> None:
    tree.add(A, config_space())
    tree.split(A, 2)
    devices, _warnings = read(tree)
    assert devices[A]["sriov"] == {
        "total_vfs": 7,
        "num_vfs": 2,
        "physical_function": None,
        "virtual_functions": ["0000:01:10.0", "0000:01:10.2"],
        "vf_id": "8086:10ca",
        "offset": 128,
        "stride": 2,
    }
    assert devices["0000:01:10.2"]["sriov"] == dict(NO_SRIOV, physical_function=A)
    assert devices["0000:01:10.2"]["id"] == "8086:10ca"


def test_no_virtual_functions_yet(tree: PciTree) -> None:
    tree.add(A, config_space("15b3:1019"), pci_id="15b3:1019")
    tree.split(A, 0, vf_id="15b3:00ab", offset=0, stride=0, total=8)
    sriov = {"total_vfs": 8, "num_vfs": 0, "vf_id": "15b3:00ab", "offset": 0, "stride": 0}
    assert only(tree)["sriov"] == {**NO_SRIOV, **sriov}


def test_kernel_before_4_14_does_not_tell_where_functions_will_be(tree: PciTree) -> None:
    tree.add(A, config_space(), attributes={"sriov_totalvfs": "7", "sriov_numvfs": "0"})
    assert only(tree)["sriov"] == {**NO_SRIOV, "total_vfs": 7, "num_vfs": 0}


def test_attributes_of_sriov_are_read_only_where_there_is_some(tree: PciTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add(A, config_space())
    opened = _watch(monkeypatch)
    assert only(tree)["sriov"] == NO_SRIOV
    assert [name for name in opened if name.startswith("sriov_")] == ["sriov_numvfs"]


def test_more_virtual_functions_promised_than_there_are(tree: PciTree) -> None:
    tree.add(A, config_space(), attributes={"sriov_totalvfs": "7", "sriov_numvfs": "99999999999"})
    assert only(tree)["sriov"]["virtual_functions"] == []


def test_order_of_domains(tree: PciTree) -> None:
    for address in ("10000:00:00.0", "0001:00:00.0", "0000:ff:1f.7", "0000:00:00.0"):
        tree.add(address, config_space())
    assert list(read(tree)[0]) == ["0000:00:00.0", "0000:ff:1f.7", "0001:00:00.0", "10000:00:00.0"]


# -- what is not to be had ---------------------------------------------------------------------------------------------


def test_sleeping_device_is_not_woken(tree: PciTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add(A, config_space(revision=7), attributes={"power_state": "D3cold", "revision": "0x09"}, irq=11)
    opened = _watch(monkeypatch)
    device = only(tree)
    assert "config" not in opened
    assert [device[key] for key in FROM_CONFIG] == [None, None, None]
    assert device["interrupt"] == {"pin": None, "line": 11, "vectors": [], "mode": None}
    assert (device["power_state"], device["revision"]) == ("D3cold", "09")


@pytest.mark.parametrize(
    ("of_port", "of_card", "is_read"),
    [
        ({"power_state": "D0"}, {"power_state": "D0"}, True),
        ({"power_state": "D0"}, {"power_state": "D3hot"}, True),
        ({"power_state": "unknown"}, {"power_state": "unknown"}, True),
        ({"power_state": "D0"}, {"power_state": "D3cold"}, False),
        ({"power_state": "D3hot"}, {"power_state": "D3hot"}, False),
        # A kernel that does not show the state.
        ({"power_state": None}, {"power_state": None}, True),
        ({"power_state": None}, {"power_state": None, "power/runtime_status": "active"}, True),
        ({"power_state": None}, {"power_state": None, "power/runtime_status": "suspended"}, False),
        ({"power_state": None, "power/runtime_status": "suspended"}, {"power_state": None}, False),
    ],
)
def test_nothing_above_is_woken(tree: PciTree, of_port: dict[str, str], of_card: dict[str, str], is_read: bool) -> None:
    tree.add("0000:00:01.0", config_space(header=1), pci_class="060400", attributes=of_port)
    tree.add(A, config_space(), below="0000:00:01.0", attributes=of_card)
    devices, warnings = read(tree)
    assert devices[A]["header_type"] == (0 if is_read else None)
    assert devices[A]["power_state"] == of_card["power_state"]
    assert warnings == []


def test_unprivileged(tree: PciTree) -> None:
    full = config_space(capabilities=[express(0)], header=0x80)
    for number in range(3):
        tree.add(f"0000:01:00.{number}", full[:64], driver="e1000e", irq=5)
    tree.add("0000:02:00.0", config_space()[:64])
    devices, warnings = read(tree)
    assert warnings == [
        "pcie_type is null for 3 PCI devices: their capability lists lie beyond the first 64 bytes of the configuration"
        " space, which only root may read"
    ]
    assert devices[A]["pcie_type"] is None
    assert (devices[A]["header_type"], devices[A]["multifunction"]) == (0, True)
    assert devices[A]["interrupt"] == {"pin": "A", "line": 5, "vectors": [], "mode": "intx"}


def test_unreadable_attribute_is_named_once(tree: PciTree, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        tree.add(f"0000:01:00.{number}", config_space(), driver="e1000e")

    def denied(path: str, *_arguments: t.Any, **_keywords: t.Any) -> int:
        raise PermissionError(13, "Permission denied", path)

    _watch(monkeypatch, {"enable": denied})
    devices, warnings = read(tree)
    assert [device["enabled"] for device in devices.values()] == [None, None]
    assert warnings == ["The attribute enable of 2 PCI devices may not be read by this user: its fields are null"]


@pytest.mark.parametrize("moment", ["uevent", "power_state", "irq", "sriov_numvfs", "config"])
def test_device_vanishes_while_it_is_read(tree: PciTree, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    tree.add("0000:00:02.0", config_space())
    place = tree.add(A, config_space())

    def unplug(path: str, *_arguments: t.Any, **_keywords: t.Any) -> int:
        (tree.bus / "devices" / A).unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        raise FileNotFoundError(2, "No such file or directory", path)

    _watch(monkeypatch, {moment: unplug}, only_below=place)
    devices, warnings = read(tree)
    assert (list(devices), warnings) == (["0000:00:02.0"], [])


@pytest.mark.parametrize(
    "garbage", ["", "\x00", "nonsense", "0x", "-5", "99999999999999999999", "a b c d\n\n1 2", "\n" * 30]
)
def test_garbage_raises_nothing(tree: PciTree, garbage: str) -> None:
    names = [
        "uevent",
        "subsystem_vendor",
        "subsystem_device",
        "class",
        "revision",
        "modalias",
        "irq",
        "enable",
        "numa_node",
        "driver_override",
        "power_state",
        "resource",
        "reset_method",
        "boot_vga",
        "sriov_numvfs",
        "sriov_totalvfs",
        "sriov_offset",
        "sriov_stride",
        "sriov_vf_device",
    ]
    place = tree.add(A, config_space(), attributes=dict.fromkeys(names, garbage))
    (place / "driver").write_text(garbage)
    (place / "iommu_group").symlink_to(garbage.replace("\x00", "") or "nowhere")
    (place / "msi_irqs").write_text(garbage)
    device = only(tree)
    assert device["id"] == "8086:10d3"
    assert device["class"] is None or len(device["class"]) == 6
    assert device["bars"] == []
    assert device["driver"] is None
    assert device["interrupt"]["vectors"] == []


@pytest.mark.parametrize("vendor", [None, "", "nonsense", "0x123456"])
def test_no_identity_no_device(tree: PciTree, vendor: str | None) -> None:
    tree.add(A, config_space(), attributes={"uevent": None, "vendor": vendor})
    assert read(tree) == ({}, [])


def test_capture_without_uevent(tree: PciTree) -> None:
    tree.add("0000:00:02.0", config_space())
    complete = only(tree)
    (tree.device("0000:00:02.0") / "uevent").unlink()
    assert only(tree) == complete


def test_bare_capture(tree: PciTree) -> None:
    """Folders in place of links, and nothing in them but the ids."""
    place = tree.bus / "devices" / A
    place.mkdir()
    (place / "vendor").write_text("0x1397\n")
    (place / "device").write_text("0x08b4\n")
    device = only(tree)
    assert device["id"] == "1397:08b4"
    known = {key for key, value in device.items() if value not in (None, [], False) and not isinstance(value, dict)}
    assert known == {"address", "id"}
    assert device["interrupt"] == {"pin": None, "line": None, "vectors": [], "mode": None}


def test_machine_without_pci(tmp_path: Path) -> None:
    assert _pci.read_devices(str(tmp_path), pytest.fail) == []


def test_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"root: there is no folder {tmp_path}/nowhere"):
        _pci.read_devices(f"{tmp_path}/nowhere", pytest.fail)


# -- single fields -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pin", "irq", "enabled", "command", "vectors", "expected"),
    [
        (0, 0, "1", 6, {}, (None, None, [], None)),
        (0, 11, "1", 6, {}, (None, 11, [], None)),
        (1, 0, "1", 6, {}, ("A", 0, [], None)),
        (4, 19, "1", 6, {}, ("D", 19, [], "intx")),
        (5, 19, "1", 6, {}, (None, 19, [], None)),
        (1, 11, "0", 0, {}, ("A", 11, [], None)),
        (1, 11, "1", 0x406, {}, ("A", 11, [], None)),
        (1, 40, "1", 0x406, {40: "msi"}, ("A", 40, [40], "msi")),
        (0, 0, "1", 0x406, {9: "msix", 10: "msix"}, (None, None, [9, 10], "msix")),
        # A driver that suspended its device keeps the vectors.
        (1, 40, "0", 6, {40: "msi"}, ("A", 40, [40], "msi")),
        (1, 40, "1", 6, {40: "?"}, ("A", 40, [40], None)),
    ],
)
def test_interrupt(
    tree: PciTree,
    pin: int,
    irq: int,
    enabled: str,
    command: int,
    vectors: dict[int, str],
    expected: tuple[t.Any, ...],
) -> None:
    config = config_space(pin=pin, command=command)
    tree.add(A, config, irq=irq, vectors=vectors, attributes={"enable": enabled})
    assert tuple(only(tree)["interrupt"].values()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"0xf0000000 0xf1ffffff 0x{MEMORY_64:x}", (0, "memory", 64, False, 1 << 25)),
        (f"0xf0000000 0xf00000ff 0x{PREFETCHABLE:x}", (0, "memory", 64, True, 256)),
        ("0xf0000000 0xf000ffff 0x42208", (0, "memory", 32, True, 65536)),
        (f"0xc000 0xc01f 0x{IO:x}", (0, "io", None, False, 32)),
        ("0x0 0x0 0x0\n" * 6 + f"0x000c0000 0x000dffff 0x{ROM | 2:x}", (6, "rom", None, False, 0x20000)),
        ("0x0 0x0 0x0\n" * 7 + "0xc000 0xcfff 0x101", None),
        ("0xf0000000 0xf1ffffff 0x0", None),
        ("0xf0000000 0xf1ffffff", None),
        ("\n\n", None),
    ],
)
def test_resource(text: str, expected: tuple[t.Any, ...] | None) -> None:
    assert [tuple(region.values()) for region in _pci.parse_resource(text)] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (0, "endpoint"),
        (1, "legacy_endpoint"),
        (4, "root_port"),
        (5, "upstream_port"),
        (6, "downstream_port"),
        (7, "pcie_to_pci_bridge"),
        (8, "pci_to_pcie_bridge"),
        (9, "rc_endpoint"),
        (10, "rc_event_collector"),
        (3, None),
    ],
)
def test_pcie_type(kind: int, expected: str | None) -> None:
    config = _pci.parse_config(config_space(capabilities=[(0x05, bytes(12)), express(kind)]))
    assert (config.pcie_type, config.capabilities_hidden) == (expected, False)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ([msi(False), express(0)], None),
        ([msi(True), express(0)], "msi"),
        ([express(0), msix(True, 4)], "msix"),
        ([msi(False), express(0), msix(False, 4)], None),
        ([msi(False), msix(True, 1)], "msix"),
    ],
)
def test_enabled_messages(capabilities: list[tuple[int, bytes]], expected: str | None) -> None:
    assert _pci.parse_config(config_space(capabilities=capabilities)).signalled == expected


def _patched(**bytes_at: int) -> bytes:
    data = bytearray(config_space(capabilities=[express(0)]))
    for position, value in bytes_at.items():
        data[int(position[1:], 16)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "header_type", "hidden"),
    [
        (None, None, False),
        (b"", None, False),
        (bytes(63), None, False),
        (bytes([0xFF]) * 256, None, False),
        (_patched(x0e=0x03), None, False),
        (_patched(x0e=0x82), 2, False),
        (_patched()[:64], 0, True),
        (_patched()[:66], 0, True),
        (_patched(x40=0x01, x41=0x40), 0, False),
        (_patched(x40=0x01, x41=0xFC), 0, False),
        (_patched(x40=0xFF), 0, False),
        (_patched(x34=0x04), 0, False),
    ],
    ids=["none", "empty", "short", "gone", "unknown", "cardbus", "64", "66", "loop", "last", "broken", "in-header"],
)
def test_config_that_is_cut_or_broken(data: bytes | None, header_type: int | None, hidden: bool) -> None:
    config = _pci.parse_config(data)
    assert (config.header_type, config.capabilities_hidden, config.pcie_type) == (header_type, hidden, None)


@pytest.mark.parametrize(
    ("target", "chain"),
    [
        ("../../../devices/pci0000:00/0000:00:1f.0", ["0000:00:1f.0"]),
        (
            "../../../devices/pci0000:00/0000:00:1c.0/0000:05:00.0/0000:06:02.0",
            ["0000:00:1c.0", "0000:05:00.0", "0000:06:02.0"],
        ),
        # Behind an Intel VMD controller begins a tree of its own.
        ("../../../devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0", ["10000:e0:06.0"]),
        ("../../../devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0", ["0000:00:01.0"]),
        ("nonsense", []),
    ],
)
def test_link(target: str, chain: list[str]) -> None:
    assert _pci.parse_link(target) == chain


@pytest.mark.parametrize(
    ("pci_class", "text", "expected"), [("030000", "1", True), ("030000", "0", False), ("020000", None, False)]
)
def test_boot_vga(tree: PciTree, pci_class: str, text: str | None, expected: bool) -> None:
    tree.add(A, config_space(), pci_class=pci_class, attributes={"boot_vga": text})
    assert only(tree)["boot_vga"] is expected


def test_no_reset_method_at_all(tree: PciTree) -> None:
    tree.add(A, config_space(), attributes={"reset_method": ""})
    assert only(tree)["reset_methods"] == []


def _watch(
    monkeypatch: pytest.MonkeyPatch,
    replaced: t.Mapping[str, t.Callable[..., int]] | None = None,
    only_below: Path | None = None,
) -> list[str]:
    """The names of all attributes that are opened; some opens may be replaced, those of one device if so wished."""
    opened: list[str] = []
    real = os.open

    def spy(path: str, *arguments: t.Any, **keywords: t.Any) -> int:
        name = os.path.basename(path)
        opened.append(name)
        folder = keywords.get("dir_fd")
        here = only_below is None or (folder is not None and os.readlink(f"/proc/self/fd/{folder}") == str(only_below))
        return (
            (replaced or {}).get(name, real)(path, *arguments, **keywords)
            if here
            else real(path, *arguments, **keywords)
        )

    monkeypatch.setattr(_sysfs.os, "open", spy)
    return opened
