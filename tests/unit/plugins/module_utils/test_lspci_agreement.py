# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pci_facts and lspci say the same of every field that both give: here, on written trees, and on recorded machines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _pci
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

RECORDED = sorted((Path(__file__).parents[2] / "fixtures").glob("*.tar.gz"))
needs_lspci = pytest.mark.skipif(shutil.which("lspci") is None, reason="lspci is not installed (package pciutils)")

_HEAD = re.compile(
    r"(?P<class_name>.*) \[(?P<class>\w{4})\]: (?P<name>.*) \[(?P<id>\w{4}:\w{4})\](?: \(rev (?P<revision>\w\w)\))?"
)
_PROG_IF = re.compile(r" \(prog-if (\w\w)(?: \[.*\])?\)$")
_SIZE = re.compile(r"\[size=(\d+)([KMGT]?)\]")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_PCIE_TYPES = {
    "Endpoint": "endpoint",
    "Legacy Endpoint": "legacy_endpoint",
    "Root Port": "root_port",
    "Upstream Port": "upstream_port",
    "Downstream Port": "downstream_port",
    "PCI-Express to PCI/PCI-X Bridge": "pcie_to_pci_bridge",
    "PCI/PCI-X to PCI-Express Bridge": "pci_to_pcie_bridge",
    "Root Complex Integrated Endpoint": "rc_endpoint",
    "Root Complex Event Collector": "rc_event_collector",
}


def by_lspci(text: str, paths: str) -> dict[str, dict[str, t.Any]]:
    """What lspci -Dvvnnk and lspci -D -P print, in the keys of pci_facts."""
    devices = {}
    for block, path in zip(text.strip().split("\n\n"), paths.splitlines()):
        address, _blank, rest = block.partition(" ")
        devices[address] = dict(_lspci_device(rest.split("\n")), address=address, path=path.split(" ")[0])
    return devices


def _lspci_device(lines: list[str]) -> dict[str, t.Any]:
    prog_if = _PROG_IF.search(lines[0])
    head = _HEAD.match(_PROG_IF.sub("", lines[0]))
    assert head is not None, lines[0]
    device: dict[str, t.Any] = {
        "id": head["id"],
        "class": head["class"] + (prog_if[1] if prog_if else "00"),
        "class_name": None if head["class_name"] == "Class" else re.sub(r" \[\w{4}\]$", "", head["class_name"]),
        "name": head["name"],
        "revision": head["revision"] or "00",
        "subsystem_id": None,
        "subsystem": None,
        "driver": None,
        "modules": [],
        "iommu_group": None,
        "numa_node": None,
        "pin": None,
        "line": None,
        "physical_slot": None,
        "pcie_type": None,
        "msi": None,
        "bars": [],
        "windows": False,
    }
    for line in lines[1:]:
        key, _colon, value = line.strip().partition(": ")
        if key == "Subsystem":
            # A card whose vendor alone has a name is called VENDOR Device.
            device["subsystem"], device["subsystem_id"] = re.sub(r"(?<=.) Device$", "", value[:-12]), value[-10:-1]
        elif key == "Physical Slot":
            device["physical_slot"] = value
        elif key == "Kernel driver in use":
            device["driver"] = value
        elif key == "Kernel modules":
            device["modules"] = value.split(", ")
        elif key == "IOMMU group":
            device["iommu_group"] = int(value)
        elif key == "NUMA node":
            device["numa_node"] = int(value)
        elif key == "Interrupt":
            device["pin"] = None if value[4] == "?" else value[4]
            device["line"] = int(value.rpartition(" ")[2])
        elif key == "Bus":
            device["windows"] = True
        elif key.startswith("Region "):
            device["bars"].append((int(key[7:]), *_region(value)))
        elif key.startswith("Expansion ROM at ") and _SIZE.search(line):
            device["bars"].append((6, "rom", None, False, _size(line)))
        elif key == "Capabilities":
            express_type = re.match(r"\[\w+\] Express \(v\d\) ([^,(]*)", value)
            if express_type:
                device["pcie_type"] = _PCIE_TYPES[express_type[1].strip()]
            enabled = re.match(r"\[\w+\] (MSI(?:-X)?): Enable\+", value)
            if enabled:
                device["msi"] = enabled[1].replace("-", "").lower()
    return device


def _region(value: str) -> tuple[str, int | None, bool, int]:
    if value.startswith("I/O ports"):
        return "io", None, False, _size(value)
    return "memory", 64 if "(64-bit" in value else 32, "non-prefetchable" not in value, _size(value)


def _size(text: str) -> int:
    found = _SIZE.search(text)
    return int(found[1]) << _UNITS[found[2]] if found else 0


def by_facts(device: dict[str, t.Any]) -> dict[str, t.Any]:
    """The facts, in the form and with the fields that lspci has."""
    same = (
        "address id class class_name revision subsystem_id driver modules iommu_group numa_node physical_slot pcie_type"
        " path"
    )
    vendor, name = device["vendor_name"], device["device_name"]
    mode = device["interrupt"]["mode"]
    return {
        **{key: device[key] for key in same.split()},
        "name": f"{vendor} {name or 'Device'}" if vendor else "Device",
        # lspci writes a word where it knows no name.
        "subsystem": device["subsystem_id"] and (device["subsystem_name"] or "Device"),
        "pin": device["interrupt"]["pin"],
        "line": device["interrupt"]["line"],
        "msi": mode if mode in ("msi", "msix") else None,
        "bars": [tuple(region.values()) for region in device["bars"]],
        "windows": device["header_type"] in (1, 2),
    }


def assert_agreement(root: Path, text: str, paths: str, without: t.Collection[str] = ()) -> None:
    expected = by_lspci(text, paths)
    facts = {device["address"]: by_facts(device) for device in _pci.read_devices(str(root), pytest.fail)}
    assert list(facts) == list(expected)
    for address, device in expected.items():
        found = facts[address]
        assert {k: v for k, v in found.items() if k not in without} == {
            k: v for k, v in device.items() if k not in without
        }


def lspci(root: Path, *options: str) -> str:
    names = root / "usr/share/misc/pci.ids"
    argv = [
        "lspci",
        "-A",
        "linux-sysfs",
        "-O",
        f"sysfs.path={root}/sys/bus/pci",
        "-O",
        "hwdb.disable=1",
        "-D",
        *options,
    ]
    if root != Path("/"):
        argv += ["-i", str(names)]
    return subprocess.run(
        argv, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ, LC_ALL="C.UTF-8")
    ).stdout


def ask_lspci(root: Path) -> tuple[str, str]:
    return lspci(root, "-vvnnk"), lspci(root, "-P")


@needs_lspci
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the capabilities")
def test_this_machine() -> None:
    if not os.listdir("/sys/bus/pci/devices"):
        pytest.skip("this machine has no PCI devices")
    assert_agreement(Path("/"), *ask_lspci(Path("/")))


@pytest.mark.parametrize("archive", RECORDED, ids=lambda path: path.name)
def test_recorded_machine(archive: Path, tmp_path: Path) -> None:
    _extract(archive, tmp_path)
    assert_agreement(
        tmp_path, (tmp_path / "lspci.txt").read_text("utf-8"), (tmp_path / "lspci-path.txt").read_text("utf-8")
    )


@needs_lspci
@pytest.mark.parametrize("archive", RECORDED, ids=lambda path: path.name)
def test_recorded_machine_with_the_lspci_of_this_one(archive: Path, tmp_path: Path) -> None:
    _extract(archive, tmp_path)
    # The modules are those of the running kernel, for lspci.
    assert_agreement(tmp_path, *ask_lspci(tmp_path), without=("modules",))


def test_there_are_recorded_machines() -> None:
    assert RECORDED


@needs_lspci
def test_written_machine(tmp_path: Path) -> None:
    tree = PciTree(tmp_path)
    tree.write("/usr/share/misc/pci.ids", PCI_IDS)
    _write_machine(tree)
    assert_agreement(tmp_path, *ask_lspci(tmp_path), without=("modules",))


@needs_lspci
@pytest.mark.parametrize("count", [10, 300])
def test_written_fleet_of_cards(tmp_path: Path, count: int) -> None:
    tree = PciTree(tmp_path)
    tree.write("/usr/share/misc/pci.ids", PCI_IDS)
    for number in range(count):
        address = f"{number // 256:04x}:{number % 256 // 32:02x}:{number % 32:02x}.0"
        pci_id = ("8086:10d3", "1397:08b4", "abcd:0001")[number % 3]
        is_express = number % 4 != 3
        capabilities = [express(0), msix(True, 2)] if is_express else [(0x01, bytes(6))]
        tree.add(
            address,
            config_space(pci_id, "020400", revision=number % 5, pin=number % 5, capabilities=capabilities),
            pci_id=pci_id,
            pci_class="020400",
            driver="card",
            group=number // 2,
            irq=16 + number % 8 if number % 5 else 0,
            vectors={32 + number: "msix"} if is_express else {},
            bars={number % 6: (0xFE000000, 1 << number % 20 + 4, MEMORY)},
        )
    assert_agreement(tmp_path, *ask_lspci(tmp_path), without=("modules",))


def _write_machine(tree: PciTree) -> None:
    """A machine with one of everything."""
    host: dict[str, t.Any] = {"pci_id": "8086:29c0", "pci_class": "060000", "subsystem": "0000:0000"}
    tree.add("0000:00:00.0", config_space("8086:29c0", "060000", "0000:0000", pin=0), **host)
    port = config_space("8086:3420", "060400", header=0x81, capabilities=[express(4), msi(True)], busses=(0, 1, 1))
    bridge: dict[str, t.Any] = {"pci_class": "060400", "subsystem": "0000:0000"}
    tree.add(
        "0000:00:01.0", port, pci_id="8086:3420", driver="pcieport", irq=24, vectors={24: "msi"}, group=1, **bridge
    )
    bars = {
        0: (0xFE840000, 0x20000, MEMORY),
        1: (0x380000000000, 1 << 35, PREFETCHABLE),
        3: (0xFE860000, 0x4000, MEMORY_64),
        5: (0xC000, 0x20, IO),
        6: (0xFE800000, 0x40000, ROM),
    }
    card = config_space(capabilities=[(0x01, bytes(6)), express(0), msix(True, 2)], header=0x80, revision=0xA1)
    place = tree.add(
        "0000:01:00.0",
        card,
        below="0000:00:01.0",
        driver="e1000e",
        irq=16,
        group=2,
        vectors={33: "msix", 34: "msix"},
        bars=bars,
        attributes={"numa_node": "1", "sriov_totalvfs": "1", "sriov_numvfs": "1"},
    )
    tree.add("0000:01:10.0", config_space("ffff:ffff", pin=0), pci_id="8086:10ca", below="0000:00:01.0", group=3)
    (place / "virtfn0").symlink_to("../0000:01:10.0")
    (tree.device("0000:01:10.0") / "physfn").symlink_to("../0000:01:00.0")
    tree.slot("2-1", "0000:01:00")
    # Conventional cards behind a PCI Express to PCI bridge behind a root port.
    port = config_space("8086:3420", "060400", header=1, capabilities=[express(4)], busses=(0, 2, 3), pin=2)
    tree.add("0000:00:02.0", port, pci_id="8086:3420", driver="pcieport", irq=17, **bridge)
    to_pci = config_space("1b36:000e", "060400", header=1, capabilities=[express(7)], busses=(2, 3, 3))
    tree.add("0000:02:00.0", to_pci, pci_id="1b36:000e", below="0000:00:02.0", **bridge)
    for slot, subsystem in ((4, "1397:08b4"), (5, "1397:0001"), (6, "4321:0001"), (7, "ffff:ffff")):
        config = config_space("1397:08b4", "020400", subsystem, pin=slot - 3, capabilities=[(0x01, bytes(6))])
        card_ids: dict[str, t.Any] = {"pci_id": "1397:08b4", "pci_class": "020400", "subsystem": subsystem}
        tree.add(f"0000:03:{slot:02x}.0", config, below="0000:02:00.0", irq=20 + slot, driver="HFC-multi", **card_ids)
    for number, kind in enumerate((1, 9, 10, 8), 0x10):
        config = config_space("abcd:0001", "ff0000", capabilities=[express(kind)])
        tree.add(f"0000:00:{number:02x}.0", config, pci_id="abcd:0001", pci_class="ff0000")
    cardbus = config_space("104c:ac56", "060700", header=2)
    tree.add("0000:00:1d.0", cardbus, pci_id="104c:ac56", pci_class="060700", irq=9)
    gone = tree.add("0000:00:1e.0", bytes([0xFF]) * 256, attributes={"revision": "0x02"}, irq=7)
    assert gone.exists()
    # Behind an Intel VMD controller begins a domain of its own.
    tree.add("10000:e0:06.0", config_space(), below="0000:00:10.0")
    _move(tree, "10000:e0:06.0", "pci10000:e0")


def _move(tree: PciTree, address: str, folder: str) -> None:
    place = tree.device(address)
    moved = place.parent / folder / address
    moved.parent.mkdir()
    place.rename(moved)
    link = tree.bus / "devices" / address
    link.unlink()
    link.symlink_to(os.path.relpath(moved, link.parent))


def _extract(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="tar")
        else:
            tar.extractall(folder)
