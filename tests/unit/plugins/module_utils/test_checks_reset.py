# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _checks_reset, _pci
from ansible_collections.kvm.passthrough.plugins.module_utils._check import Machine
from ansible_collections.kvm.passthrough.tests.unit.machines import Facts, bridge, device, findings, machine
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import (
    IO,
    MEMORY,
    MEMORY_64,
    PREFETCHABLE,
    ROM,
    PciTree,
    config_space,
)

CARD = "0000:01:00.0"
PEER = "0000:01:00.1"
OTHER = "0000:02:00.0"
PORT = "0000:00:1c.0"
PLACE = f"/sys/bus/pci/devices/{CARD}"
GRAPHICS: Facts = {"class": "030000", "id": "10de:1b80", "driver": "nouveau"}
RADEON: Facts = {"class": "030000", "id": "1002:67df", "driver": "amdgpu"}


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def host(card: Facts, *others: Facts, root: str | Path = "/nonexistent", version: list[int] | None = None) -> Machine:
    """A card, and other devices."""
    kernel = {"kernel": {"version": version or [6, 12], "release": ".".join(map(str, version or [6, 12])) + ".0-1"}}
    return machine(str(root), [device(CARD, **card), *others], kernel)


def said(check: str, where: Machine, address: str = CARD) -> list[str]:
    return [finding["message"] for finding in findings(_checks_reset.CHECKS, check, where, address)]


NONE = ("reset_none", f"{CARD} cannot be reset: the kernel knows no way for it")
BUS = ("reset_bus_only", f"{CARD} can only be reset together with {PEER}, on the same bus")
GROUP = ("reset_group", f"{CARD} can only be reset together with {PEER}, on the same bus")


@pytest.mark.parametrize(
    ("card", "peers", "leaving", "expected"),
    [
        pytest.param({"parent": None}, [], [], [NONE], id="on the root bus"),
        pytest.param({}, [], [], [NONE], id="alone on its bus"),
        pytest.param({"parent": None}, [{}], [], [NONE], id="others on a bus below are none of its business"),
        pytest.param({}, [{}], [], [BUS], id="with another that stays"),
        pytest.param(
            {}, [{"driver": "vfio-pci"}], [], [BUS], id="with another that has left, perhaps to another guest"
        ),
        pytest.param({}, [{}], [CARD, PEER], [], id="with another that leaves too"),
        pytest.param({}, [{"iommu_group": 5}], [], [GROUP], id="with another of its group that stays"),
        pytest.param({}, [{"iommu_group": 5, "driver": None}], [], [GROUP], id="with another of its group, unbound"),
        pytest.param(
            {}, [{"iommu_group": 5, "driver": "vfio-pci"}], [], [], id="with another of its group that has left"
        ),
        pytest.param({}, [{"iommu_group": 5}], [CARD, PEER], [], id="with another of its group that leaves too"),
        pytest.param({"iommu_group": None}, [{"iommu_group": None}], [], [GROUP], id="no groups"),
        pytest.param({"reset_methods": ["flr", "bus"]}, [{}], [], [], id="has a reset of its own"),
        pytest.param({"reset_methods": ["bus"]}, [], [], [], id="its bus can be reset"),
        pytest.param({"reset_methods": None}, [{}], [], [], id="the kernel does not say"),
        pytest.param({"class": "060100"}, [{}], [], [], id="bridge"),
    ],
)
def test_reset(card: Facts, peers: list[Facts], leaving: list[str], expected: list[tuple[str, str]]) -> None:
    cards = [device(CARD, **{"reset_methods": [], "iommu_group": 5, "parent": PORT, **card})]
    cards += [device(PEER, **{"iommu_group": 7, "parent": PORT, **peer}) for peer in peers]
    where = machine(devices=[bridge(PORT), *cards], leaving=frozenset(leaving))
    checks = ("reset_none", "reset_bus_only", "reset_group")
    assert [(check, message) for check in checks for message in said(check, where)] == expected


def test_what_a_reset_of_the_bus_needs() -> None:
    where = host({"parent": PORT, "reset_methods": []}, device(PEER, parent=PORT, iommu_group=7))
    (finding,) = findings(_checks_reset.CHECKS, "reset_bus_only", where, CARD)
    assert finding["evidence"] == f"{PLACE}/reset_method: not there"
    assert finding["symptom"] == f"vfio: Cannot reset device {CARD}, depends on group 7 which is not owned."
    assert finding["remedy"] == f"Give {PEER} to the same guest, or put {CARD} into a slot with a bus of its own"


@pytest.mark.parametrize(
    ("version", "shown", "expected"),
    [
        ([5, 10], ["remove"], [f"{CARD} cannot be reset: the kernel knows no way for it"]),
        ([5, 10], ["remove", "reset"], []),
        ([5, 10], [], []),
        ([5, 15], ["remove"], []),
        (None, ["remove"], []),
    ],
)
def test_reset_on_kernels_without_reset_method(
    tree: PciTree, version: list[int] | None, shown: list[str], expected: list[str]
) -> None:
    for name in shown:
        tree.write(f"{PLACE}/{name}", "")
    where = machine(tree.root, [device(CARD, reset_methods=None)], {"kernel": {"version": version}})
    found = findings(_checks_reset.CHECKS, "reset_none", where, CARD)
    assert [finding["message"] for finding in found] == expected
    assert {finding["evidence"] for finding in found} <= {f"{PLACE}/reset: not there"}


@pytest.mark.parametrize(
    ("pci_id", "revision", "methods", "harmful", "left"),
    [
        ("8086:1502", "04", ["flr", "pm"], "flr", "pm"),
        ("1022:149c", "00", ["af_flr"], "af_flr", "nothing"),
        ("8086:1502", "04", ["pm"], None, None),
        ("d063:1000", "01", ["flr"], "flr", "nothing"),
        ("d063:1000", "02", ["flr"], None, None),
        ("168c:003e", "00", ["pm", "bus"], "bus", "pm"),
        ("168c:003e", "00", ["pm"], None, None),
        ("10de:2342", "00", ["bus"], "bus", "nothing"),
        ("10de:2382", "00", ["bus"], None, None),
        ("10de:22ce", "00", ["flr", "bus"], "bus", "flr"),
        ("8086:10d3", "00", ["flr", "bus"], None, None),
        ("168c:003e", "00", None, None, None),
        ("168c:003e", "00", [], None, None),
    ],
)
def test_reset_quirk(
    pci_id: str, revision: str, methods: list[str] | None, harmful: str | None, left: str | None
) -> None:
    where = host({"id": pci_id, "revision": revision, "reset_methods": methods})
    found = findings(_checks_reset.CHECKS, "reset_quirk", where, CARD)
    if harmful is None:
        assert found == []
    else:
        assert [(finding["message"], finding["evidence"], finding["remedy"]) for finding in found] == [
            (
                f"{CARD} ({pci_id}) hangs when it is reset by {harmful}, and this kernel would do that",
                f"{PLACE}/reset_method: {' '.join(methods or [])}",
                f"Update the kernel, or leave only {left} in {PLACE}/reset_method",
            )
        ]


@pytest.mark.parametrize(
    ("card", "methods", "fires"),
    [
        (RADEON, ["bus"], True),
        (RADEON, ["pm", "bus"], True),
        (RADEON, [], True),
        ({**RADEON, "class": "038000"}, ["bus"], True),
        (RADEON, ["device_specific", "bus"], False),
        (RADEON, ["flr"], False),
        (RADEON, None, False),
        ({**RADEON, "class": "040300"}, ["bus"], False),
        (GRAPHICS, ["bus"], False),
    ],
)
def test_reset_of_amd_graphics(card: Facts, methods: list[str] | None, fires: bool) -> None:
    found = findings(_checks_reset.CHECKS, "reset_amd", host({**card, "reset_methods": methods}), CARD)
    assert [(finding["message"], finding["symptom"]) for finding in found] == [
        (
            f"{CARD} is an AMD graphics card without a reset of its own, and many do not come back from a reset of"
            " their bus",
            f"Unknown PCI header type '127' for device '{CARD}'",
        )
    ][: int(fires)]


IOMEM = """\
00000000-00000000 : PCI Bus 0000:00
  00000000-00000000 : PCI Bus 0000:01
    00000000-00000000 : {holder}
      00000000-00000000 : {name}
      00000000-00000000 : {name}
  00000000-00000000 : 0000:03:00.0
    00000000-00000000 : nvme
"""


@pytest.mark.parametrize(
    ("version", "holder", "name", "pci_class", "fires"),
    [
        ([5, 10], CARD, "efifb", "030000", True),
        ([5, 19], CARD, "BOOTFB", "030000", True),
        ([4, 18], CARD, "vesafb", "038000", True),
        ([6, 0], CARD, "efifb", "030000", False),
        ([6, 12], CARD, "BOOTFB", "030000", False),
        ([5, 10], CARD, "nouveau", "030000", False),
        ([5, 10], OTHER, "efifb", "030000", False),
        ([5, 10], CARD, "efifb", "020000", False),
    ],
)
def test_fb_claims(tree: PciTree, version: list[int], holder: str, name: str, pci_class: str, fires: bool) -> None:
    tree.write("/proc/iomem", IOMEM.format(holder=holder, name=name))
    where = host({**GRAPHICS, "class": pci_class}, root=tree.root, version=version)
    expected = [
        f"{CARD} shows the firmware's picture: {name} holds its memory, and kernel {version[0]}.{version[1]}.0-1 does"
        " not evict that for a guest"
    ]
    assert said("fb_claims", where) == expected[: int(fires)]


def test_fb_claims_where_nothing_is_known(tree: PciTree) -> None:
    assert said("fb_claims", host(GRAPHICS, version=[5, 10])) == []
    tree.write("/proc/iomem", IOMEM.format(holder=CARD, name="efifb"))
    assert said("fb_claims", machine(tree.root, [device(CARD, **GRAPHICS)], {"kernel": {"version": None}})) == []


RESOURCE = """\
0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200
0x00000000e0000000 0x00000000efffffff 0x000000000014220c
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000000c0000 0x00000000000dffff 0x0000000000000{flags}
"""


@pytest.mark.parametrize(
    ("boot_vga", "flags", "fires"), [(True, "212", True), (True, "200", False), (False, "212", False)]
)
def test_rom(tree: PciTree, boot_vga: bool, flags: str, fires: bool) -> None:
    tree.write(f"{PLACE}/resource", RESOURCE.format(flags=flags))
    found = findings(_checks_reset.CHECKS, "rom", host({**GRAPHICS, "boot_vga": boot_vga}, root=tree.root), CARD)
    assert [(finding["message"], finding["evidence"]) for finding in found] == [
        (
            f"{CARD} would show the guest not its own ROM, but the copy that the firmware has used and may have"
            " changed",
            f"{PLACE}/resource: 0x00000000000c0000 0x00000000000dffff 0x0000000000000212",
        )
    ][: int(fires)]


@pytest.mark.parametrize("text", [None, "", "garbage", "0x0 0x0\n0x0 0x0 zero"])
def test_rows_that_cannot_be_read_say_nothing(tree: PciTree, text: str | None) -> None:
    if text is not None:
        tree.write(f"{PLACE}/resource", text)
    where = host({**GRAPHICS, "boot_vga": True, "enabled": False}, root=tree.root)
    assert said("rom", where) == said("bar_unassigned", where) == []


@pytest.mark.parametrize(
    ("size", "fields", "expected"),
    [
        (16 << 30, {}, [f"{CARD} has a region of 16 GiB (BAR 1), which only fits above 4 GiB"]),
        (4 << 30, {}, [f"{CARD} has a region of 4 GiB (BAR 1), which only fits above 4 GiB"]),
        (256 << 20, {}, []),
        (16 << 30, {"class": "060400"}, []),
        (None, {}, []),
    ],
)
def test_big_bar(size: int | None, fields: Facts, expected: list[str]) -> None:
    regions = [{"index": 0, "type": "memory", "bits": 32, "prefetchable": False, "size": 1 << 24}]
    regions += [{"index": 1, "type": "memory", "bits": 64, "prefetchable": True, "size": size or 0}]
    assert said("big_bar", host({"bars": regions if size else [], **fields})) == expected


UNSET = 0x20000000


@pytest.mark.parametrize(
    ("flags", "size", "enabled", "pci_class", "region"),
    [
        (MEMORY | UNSET, 1 << 14, "0", "020000", "[mem size 0x00004000]"),
        (MEMORY_64 | UNSET, 1 << 14, "0", "020000", "[mem size 0x00004000 64bit]"),
        (PREFETCHABLE | UNSET, 1 << 33, "0", "020000", "[mem size 0x200000000 64bit pref]"),
        (IO | UNSET, 32, "0", "020000", "[io  size 0x0020]"),
        (MEMORY | UNSET, 1 << 14, None, "020000", "[mem size 0x00004000]"),
        (MEMORY | UNSET, 1 << 14, "1", "020000", None),
        (MEMORY | UNSET, 1 << 14, "0", "060400", None),
        (MEMORY, 1 << 14, "0", "020000", None),
    ],
)
def test_bar_unassigned(
    tree: PciTree, flags: int, size: int, enabled: str | None, pci_class: str, region: str | None
) -> None:
    """An unassigned ROM keeps nobody from enabling the device."""
    tree.add(
        CARD,
        config_space(pci_class=pci_class),
        pci_class=pci_class,
        bars={0: (0, 1 << 12, MEMORY), 2: (0, size, flags), 6: (0, 1 << 16, ROM | UNSET)},
        attributes={"enable": enabled},
    )
    devices = _pci.read_devices(str(tree.root), lambda message: None)
    found = findings(_checks_reset.CHECKS, "bar_unassigned", machine(tree.root, devices), CARD)
    assert [(finding["severity"], finding["message"], finding["symptom"]) for finding in found] == [
        (
            "blocker",
            f"{CARD} has no address for its BAR 2: neither the firmware nor the kernel has found room for it",
            f"vfio-pci {CARD}: BAR 2 {region}: not assigned; can't enable device",
        )
    ][: int(region is not None)]


@pytest.mark.parametrize(
    ("fields", "fires"),
    [
        ({"power_state": "D3cold"}, True),
        ({"power_state": "D3cold", "driver": None}, True),
        ({"power_state": "D3cold", "driver": "vfio-pci"}, False),
        ({"power_state": "D3cold", "bridge": True}, False),
        ({"power_state": "D3hot"}, False),
        ({"power_state": None}, False),
    ],
)
def test_d3cold(fields: Facts, fires: bool) -> None:
    assert (
        said("d3cold", host(fields))
        == [f"{CARD} is switched off to save power (D3cold), and was not woken to read its capabilities"][: int(fires)]
    )


@pytest.mark.parametrize(
    ("address", "pci_id", "pci_class", "fires"),
    [
        ("0000:00:02.0", "8086:3e92", "030000", True),
        ("0000:00:02.0", "8086:3e92", "038000", True),
        ("0000:03:00.0", "8086:56a0", "030000", False),
        ("0000:00:02.0", "1234:1111", "030000", False),
        ("0000:00:02.0", "8086:10d3", "020000", False),
        ("0000:00:02.0", "8086:10d3", None, False),
    ],
)
def test_igd(address: str, pci_id: str, pci_class: str | None, fires: bool) -> None:
    where = machine(devices=[device(address, **{"id": pci_id, "class": pci_class})])
    expected = [f"{address} is Intel's integrated graphics, which a guest can only have from its start"]
    assert said("igd", where, address) == expected[: int(fires)]


def test_a_healthy_card_is_silent() -> None:
    where = host({})
    assert [check.id for check in _checks_reset.CHECKS if list(check.findings(where, where.devices[CARD]))] == []
