# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check of a device's group, bridges and functions, both ways. None says that the check keeps silent."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _verdict
from ansible_collections.kvm.passthrough.plugins.module_utils._check import Machine
from ansible_collections.kvm.passthrough.plugins.module_utils._checks_group import CHECKS
from ansible_collections.kvm.passthrough.plugins.module_utils._guests import Guest
from ansible_collections.kvm.passthrough.plugins.module_utils._host_use import Use
from ansible_collections.kvm.passthrough.tests.unit.machines import (
    ARM,
    Facts,
    bridge,
    device,
    findings,
    machine,
    merged,
    recorded,
)

A, B, C = "0000:01:00.0", "0000:01:00.1", "0000:02:00.0"
PORT = "0000:00:01.0"


def _one(check: str, where: Machine, address: str = A) -> Facts | None:
    found = findings(CHECKS, check, where, address)
    assert len(found) <= 1
    return found[0] if found else None


def _all(where: Machine, address: str = A) -> list[str]:
    return [finding["check"] for check in CHECKS for finding in check.findings(where, where.devices[address])]


def _kernel(*version: int) -> Facts:
    return {"kernel": {"version": list(version) or None}}


def _guest(name: str, *devices: str, running: bool = True) -> Guest:
    return Guest(name, running, None, devices, None, f"/run/libvirt/qemu/{name}.xml")


@pytest.mark.parametrize("kvm", [{}, ARM, _kernel(5, 10), _kernel()], ids=["x86", "arm", "old", "unknown"])
@pytest.mark.parametrize("driver", ["e1000e", "vfio-pci", None])
def test_a_device_alone_in_its_group_has_no_finding(kvm: Facts, driver: str | None) -> None:
    assert _all(machine(devices=[bridge(PORT), device(A, parent=PORT, driver=driver)], kvm=kvm)) == []


# ---------------------------------------------------------------------------------------------------------------------
# What the device is


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"header_type": 1, "class": "060400", "driver": "pcieport"}, "bridge"),
        ({"header_type": 2, "class": "060700", "driver": "yenta_cardbus"}, "bridge"),
        ({"header_type": None, "class": "060400"}, "bridge"),
        ({"header_type": 1, "class": "088000"}, "bridge"),
        ({"header_type": 0, "class": "060000", "class_name": "Host bridge", "driver": None}, "chipset"),
        ({"header_type": 0, "class": "060100", "driver": "lpc_ich"}, "chipset"),
        ({"header_type": None, "class": "060100"}, "chipset"),
        ({"header_type": 0, "class": "068000", "id": "10de:1af1"}, "chipset"),
        ({"pcie_type": "rc_event_collector", "class": "080700", "driver": "pcieport"}, "event_collector"),
        ({"pcie_type": "rc_endpoint"}, None),
        ({"header_type": None, "class": None}, None),
    ],
)
def test_what_is_no_endpoint_has_one_finding(fields: Facts, check: str | None) -> None:
    """Whatever else there is to say: a bridge with peers and without a group is a bridge."""
    where = machine(devices=[device(A, **fields), device(C)])
    assert _all(where) == ([check] if check else [])
    if check:
        assert _one(check, where)["severity"] == "blocker"  # type: ignore[index]


@pytest.mark.parametrize("group", [None, 1])
@pytest.mark.parametrize("fields", [{"class": "060100"}, {"class": "060400", "header_type": 1}])
def test_a_bridge_has_no_findings_of_its_group(fields: Facts, group: int | None) -> None:
    reserved = [{"group": 1, "start": "0x0", "end": "0x1", "type": "direct"}]
    devices = [device(A, iommu_group=group, **fields), device(B, iommu_group=1), device(C, iommu_group=1)]
    assert len(_all(machine(devices=devices, kvm={"iommu": {"reserved": reserved}}))) == 1


def test_messages_of_what_is_no_endpoint() -> None:
    where = machine(
        devices=[
            bridge(PORT),
            device(A, **{"class": "060100"}, class_name="ISA bridge"),
            device(C, pcie_type="rc_event_collector"),
        ]
    )
    found = _one("bridge", where, PORT)
    assert found
    assert found["message"] == f"{PORT} is a bridge (class 060400): what is behind it can go, not the bridge"
    assert found["evidence"] == f"/sys/bus/pci/devices/{PORT}/class: 0x060400"
    assert found["symptom"] == "Non-endpoint PCI devices cannot be assigned to guests"
    found = _one("chipset", where)
    assert found
    assert found["message"] == f"{A} is part of the chipset (class 060100: ISA bridge), which the host needs"
    found = _one("event_collector", where, C)
    assert found
    assert found["symptom"] == f"vfio {C}: assignment of PCIe type 0xa devices is not currently supported"


@pytest.mark.parametrize(("kind", "fires"), [("platform", True), ("bridge", False), ("mount", False)])
def test_platform(kind: str, fires: bool) -> None:
    use = Use(kind, "is the SMBus of the host (i801_smbus)", "/sys/bus/pci/devices/x/driver: i801_smbus")
    found = _one("platform", machine(devices=[device(A)], uses={A: [use]}))
    assert bool(found) == fires
    assert found is None or found["message"] == f"{A} is the SMBus of the host (i801_smbus)"


def test_platform_is_in_use_and_not_unassignable() -> None:
    use = Use("platform", "is the SMBus of the host (i801_smbus)", "/sys/bus/pci/devices/x/driver: i801_smbus")
    smbus = device(A, driver="i801_smbus")
    assert _verdict.judge_device(machine(devices=[smbus], uses={A: [use]}), smbus, False)["verdict"] == "in_use"


@pytest.mark.parametrize(
    ("number", "driver", "parameter", "fires"),
    [
        ("8086:37c8", "c6xx", None, True),
        ("8086:0b25", "idxd", "N", True),
        ("8086:0cfe", None, "N", True),
        ("8086:37c8", "c6xx", "Y", False),
        ("8086:37c8", "vfio-pci", None, False),
        ("8086:10d3", "e1000e", None, False),
        ("1022:37c8", None, None, False),
    ],
)
def test_denylist(tmp_path: Path, number: str, driver: str | None, parameter: str | None, fires: bool) -> None:
    if parameter:
        path = tmp_path / "sys/module/vfio_pci/parameters/disable_denylist"
        path.parent.mkdir(parents=True)
        path.write_text(parameter + "\n")
    found = _one("denylist", machine(str(tmp_path), [device(A, id=number, driver=driver)]))
    assert bool(found) == fires
    if found:
        assert found["message"] == f"vfio-pci refuses {A} ({number}), for errata by which it may harm the host"
        assert found["symptom"] == f"{number} exists in vfio-pci device denylist, driver probing disallowed."


# ---------------------------------------------------------------------------------------------------------------------
# Its IOMMU group

GRAPHICS = {"id": "8086:3e92", "class": "030000", "driver": "i915"}


@pytest.mark.parametrize(
    ("fields", "iommu", "why"),
    [
        ({}, {}, "the IOMMU does not cover it"),
        (GRAPHICS, {}, "the kernel leaves Intel's own graphics out unless told intel_iommu=on"),
        (GRAPHICS, {"table": "IVRS"}, "the IOMMU does not cover it"),
        ({**GRAPHICS, "id": "10de:1eb8"}, {}, "the IOMMU does not cover it"),
        ({}, {"groups": 0, "enabled": False}, None),
        ({}, {"groups": None, "enabled": None}, None),
        ({"iommu_group": 0}, {}, None),
    ],
    ids=["outside", "graphics", "not Intel's", "not Intel's card", "no IOMMU", "unknown", "group 0"],
)
def test_dev_group(fields: Facts, iommu: Facts, why: str | None) -> None:
    where = machine(devices=[device(A, **{"iommu_group": None, **fields}), device(C)], kvm={"iommu": iommu})
    found = _one("dev_group", where)
    assert (found and found["message"]) == (why and f"{A} is in no IOMMU group, although other devices are: {why}")
    assert found is None or found["symptom"] == f"vfio {A}: no iommu_group found: No such file or directory"


FIRMWARE = "Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1"
INELIGIBLE = "DMAR: Device is ineligible for IOMMU domain attach due to platform RMRR requirement.  Contact"


@pytest.mark.parametrize(
    ("version", "table", "check", "severity", "symptom"),
    [
        ((6, 6), "DMAR", "rmrr_direct", "blocker", FIRMWARE),
        ((6, 12), "IVRS", "rmrr_direct", "blocker", FIRMWARE),
        ((6, 12), "IORT", "rmrr_direct", "blocker", FIRMWARE),
        ((6, 5), "DMAR", "rmrr_direct_intel", "blocker", INELIGIBLE),
        ((4, 18), "DMAR", "rmrr_direct_intel", "blocker", INELIGIBLE),
        ((6, 1), "IVRS", "rmrr_direct", "warning", FIRMWARE),
        ((6, 1), "IORT", "rmrr_direct", "warning", FIRMWARE),
        ((5, 14), "IVRS", "rmrr_direct", "blocker", FIRMWARE),
        ((), "DMAR", "rmrr_direct", "blocker", FIRMWARE),
        ((), "IVRS", "rmrr_direct", "blocker", FIRMWARE),
    ],
)
def test_rmrr_direct(version: tuple[int, ...], table: str, check: str, severity: str, symptom: str) -> None:
    region = {"group": 7, "start": "0x000000007b800000", "end": "0x000000007fffffff", "type": "direct"}
    kvm = merged(_kernel(*version), {"iommu": {"table": table, "reserved": [region]}})
    where = machine(devices=[device(A, iommu_group=7), device(C, iommu_group=8)], kvm=kvm)
    assert _all(where) == [check]
    assert _all(where, C) == []
    found = _one(check, where)
    assert found
    assert found["severity"] == severity
    assert found["symptom"].startswith(symptom)
    assert found["message"].startswith(
        f"the firmware keeps memory of its own mapped for IOMMU group 7 of {A} (1 region)"
    )
    assert found["message"].endswith("Linux 6.6 and newer refuse it") == (severity == "warning")
    assert found["evidence"] == (
        "/sys/kernel/iommu_groups/7/reserved_regions: 0x000000007b800000 0x000000007fffffff direct"
    )


@pytest.mark.parametrize("kind", ["direct-relaxable", "reserved", "msi"])
@pytest.mark.parametrize("version", [(6, 1), (6, 12), ()])
def test_rmrr_direct_keeps_silent(kind: str, version: tuple[int, ...]) -> None:
    kvm = merged(_kernel(*version), {"iommu": {"reserved": [{"group": 7, "start": "0x0", "end": "0x1", "type": kind}]}})
    assert _all(machine(devices=[device(A, iommu_group=7)], kvm=kvm)) == []


NEW, OLD, EITHER = (6, 12), (5, 10), ()


@pytest.mark.parametrize(
    ("peer", "version", "fires"),
    [
        # Both rules agree on what is no bridge.
        *[({"driver": "e1000e"}, version, True) for version in (NEW, OLD, EITHER, (5, 14), (5, 18), (5, 19))],
        *[({"driver": None}, version, False) for version in (NEW, OLD, EITHER)],
        *[({"driver": "vfio-pci"}, version, False) for version in (NEW, OLD, EITHER)],
        *[({"driver": "mlx5_vfio_pci"}, version, False) for version in (NEW, OLD, EITHER)],
        *[({"driver": "pci-stub"}, version, False) for version in (NEW, OLD, EITHER)],
        *[({"driver": "xen-pciback"}, version, True) for version in (NEW, OLD, EITHER)],
        # pcieport on a root complex event collector, which is no bridge.
        *[
            ({"driver": "pcieport", "class": "080700"}, version, fires)
            for version, fires in ((NEW, False), (OLD, True), (EITHER, True), ((5, 14), True))
        ],
    ],
)
@pytest.mark.parametrize("base", [{}, ARM], ids=["x86", "arm"])
def test_group_viable(base: Facts, peer: Facts, version: tuple[int, ...], fires: bool) -> None:
    devices = [device(A, iommu_group=1), device(C, iommu_group=1, **peer), device("0000:03:00.0")]
    found = _one("group_viable", machine(devices=devices, kvm=merged(base, _kernel(*version))))
    assert bool(found) == fires
    if found:
        assert found["severity"] == "blocker"
        assert found["message"].startswith(f"{A} shares IOMMU group 1 with {C} ({peer['driver']})")
        assert ("which one holds is unknown" in found["message"]) == (version in (EITHER, (5, 14)))
        assert found["evidence"] == f"/sys/bus/pci/devices/{C}/driver: {peer['driver']}"
        assert found["symptom"] == f"vfio {A}: group 1 is not viable"
        assert found["remedy"].startswith(f"Give {C} to the same guest, or unbind")


@pytest.mark.parametrize(
    ("peer", "version", "fires"),
    [
        ({"driver": "pcieport"}, NEW, False),
        ({"driver": "pcieport"}, OLD, False),
        ({"driver": "pcieport"}, EITHER, False),
        ({"driver": "shpchp"}, NEW, True),
        ({"driver": "shpchp"}, OLD, False),
        ({"driver": "shpchp"}, EITHER, True),
        ({"driver": "shpchp"}, (5, 14), True),
        ({"driver": "shpchp", "header_type": None}, OLD, False),
        ({"driver": None}, NEW, False),
        # A bridge to another bus has the header of a device.
        ({"driver": "lpc_ich", "class": "060100", "header_type": 0}, NEW, True),
        ({"driver": "lpc_ich", "class": "060100", "header_type": 0}, OLD, True),
        ({"driver": None, "class": "060100", "header_type": 0}, NEW, False),
    ],
)
def test_group_bridge(peer: Facts, version: tuple[int, ...], fires: bool) -> None:
    where = machine(
        devices=[bridge(PORT, iommu_group=1, **peer), device(A, iommu_group=1, parent=PORT)], kvm=_kernel(*version)
    )
    assert _all(where) == (["group_bridge"] if fires else [])
    if fires:
        found = _one("group_bridge", where)
        assert found
        assert found["message"].startswith(f"{A} shares IOMMU group 1 with {PORT} ({peer['driver']})")
        assert found["symptom"] == f"vfio {A}: group 1 is not viable"


def test_group_viable_names_each_peer() -> None:
    devices = [
        bridge(PORT),
        device(A, iommu_group=1, parent=PORT, driver="nouveau"),
        device(B, iommu_group=1, parent=PORT, driver="snd_hda_intel"),
        device(C, iommu_group=1),
    ]
    found = _one("group_viable", machine(devices=devices))
    assert found
    assert found["message"] == f"{A} shares IOMMU group 1 with {B} (snd_hda_intel, same card) and {C} (e1000e)"


@pytest.mark.parametrize(
    "fields",
    [
        {"leaving": frozenset((A, C))},
        {"uses": {C: [Use("mount", "holds the mounted file system / (sda2)", "/proc/self/mountinfo: x")]}},
    ],
    ids=["they leave together", "group_critical tells of it"],
)
def test_group_viable_keeps_silent(fields: Facts) -> None:
    where = machine(devices=[device(A, iommu_group=1), device(C, iommu_group=1)], **fields)
    assert _one("group_viable", where) is None


@pytest.mark.parametrize(
    ("peer", "guests", "what"),
    [
        ({"driver": "vfio-pci"}, [_guest("fax", C)], "is held by the running guest fax"),
        ({"driver": "vfio-pci", "enabled": False}, [_guest("fax", C)], "is promised to the guest fax"),
        ({"driver": "vfio-pci", "enabled": False}, [_guest("fax", C, running=False)], "is promised to the guest fax"),
        ({"driver": "vfio-pci"}, [], "is open for a guest"),
        ({"driver": "vfio-pci", "enabled": False}, [], None),
        ({"driver": "vfio-pci", "enabled": None}, [], None),
        ({"driver": "vfio-pci"}, [_guest("fax", A, C)], None),
        ({"driver": "e1000e"}, [], None),
        ({"driver": "vfio-pci", "enabled": False}, [_guest("fax", "0000:09:00.0")], None),
    ],
)
def test_group_held(peer: Facts, guests: list[Guest], what: str | None) -> None:
    where = machine(devices=[device(A, iommu_group=1), device(C, iommu_group=1, **peer)], guests=guests)
    found = _one("group_held", where)
    assert (found and found["message"]) == (
        what and f"{A} shares IOMMU group 1 with {C}, which {what}: both can go to one guest only"
    )
    if found:
        assert found["severity"] == "warning"
        assert found["symptom"] == f"PCI device {C} is in use by driver QEMU, domain {'fax' if guests else '...'}"


def test_group_held_tells_of_each_guest_once() -> None:
    devices = [device(f"0000:01:00.{number}", iommu_group=1, driver="vfio-pci") for number in range(4)]
    guests = [_guest("fax", "0000:01:00.1", "0000:01:00.2"), _guest("tv", "0000:01:00.3")]
    found = findings(CHECKS, "group_held", machine(devices=devices, guests=guests), A)
    assert [finding["message"].split(", which ")[1] for finding in found] == [
        "is held by the running guest fax: both can go to one guest only",
        "is held by the running guest tv: both can go to one guest only",
    ]


@pytest.mark.parametrize(
    ("peer", "fires"),
    [
        ({"driver": None}, True),
        ({"driver": "vfio-pci", "enabled": False}, True),
        ({"driver": "pci-stub"}, True),
        ({"driver": "e1000e"}, False),
        ({"driver": "vfio-pci", "enabled": True}, False),
        ({"driver": None, "class": "060100"}, False),
        ({"driver": None, "iommu_group": 2}, False),
    ],
    ids=["unbound", "vfio", "stub", "group_viable tells", "group_held tells", "chipset", "other group"],
)
def test_group_together(peer: Facts, fires: bool) -> None:
    found = _one("group_together", machine(devices=[device(A, iommu_group=1), device(C, **{"iommu_group": 1, **peer})]))
    assert bool(found) == fires
    if found:
        driver = peer["driver"] or "no driver"
        assert found["severity"] == "information"
        assert found["message"] == (
            f"{A} shares IOMMU group 1 with {C} ({driver}): they can go to no other guest than this device"
        )
        assert found["symptom"] == "Could not open '/dev/vfio/1': Device or resource busy"


def test_a_large_group_is_not_listed_to_its_end() -> None:
    devices = [device(f"0000:02:00.{number}", iommu_group=1, driver=None) for number in range(8)]
    devices += [device(f"0000:03:00.{number}", iommu_group=1, driver=None) for number in range(8)]
    found = _one("group_together", machine(devices=[device(A, iommu_group=1), *devices]))
    assert found
    assert "0000:02:00.7 (no driver) and 8 more:" in found["message"]


CONVENTIONAL = "0000:03:00.0"


@pytest.mark.parametrize(
    ("above", "peer", "fires"),
    [
        ({"pcie_type": "pcie_to_pci_bridge"}, {}, True),
        ({"pcie_type": None, "class": "060401"}, {}, True),
        ({"pcie_type": None}, {}, False),
        ({"pcie_type": "downstream_port"}, {}, False),
        ({"pcie_type": "pcie_to_pci_bridge"}, {"iommu_group": 2}, False),
    ],
    ids=["pcie to pci", "subtractive", "capabilities unknown", "switch", "alone"],
)
@pytest.mark.parametrize("deep", [False, True], ids=["directly", "behind one more bridge"])
def test_pcie2pci(above: Facts, peer: Facts, fires: bool, deep: bool) -> None:
    parent = "0000:04:00.0" if deep else CONVENTIONAL
    between = [bridge("0000:04:00.0", parent=CONVENTIONAL, pcie_type=None, iommu_group=10, driver=None)] if deep else []
    one, other = "0000:05:01.0", "0000:05:02.0"
    where = machine(
        devices=[
            bridge("0000:00:1c.0"),
            bridge(CONVENTIONAL, parent="0000:00:1c.0", iommu_group=10, driver=None, **above),
            *between,
            device(one, parent=parent, iommu_group=10, driver=None, pcie_type=None),
            device(other, parent=parent, driver=None, pcie_type=None, **{"iommu_group": 10, **peer}),
        ]
    )
    together = [] if peer else ["group_together"]
    assert _all(where, one) == (["pcie2pci"] if fires else together)
    found = _one("pcie2pci", where, one)
    if found:
        assert found["message"] == (
            f"{one} is behind {CONVENTIONAL}, a bridge to conventional PCI, together with {other} (no driver): the"
            " IOMMU cannot tell them apart, and they can go to one guest only"
        )
        assert found["remedy"].endswith(f"another slot behind {CONVENTIONAL} does not help")


CARD = {"id": "10de:1eb8", "class": "030000", "driver": "nouveau"}
SOUND = {"id": "10de:10f8", "class": "040300", "driver": "snd_hda_intel"}


@pytest.mark.parametrize(
    ("first", "second", "leaving", "fires"),
    [
        (CARD, SOUND, (), True),
        (CARD, {**SOUND, "driver": None}, (), True),
        (CARD, SOUND, (A, B), False),
        (CARD, {**SOUND, "driver": "vfio-pci"}, (), False),
        (CARD, {**SOUND, "iommu_group": 1}, (), False),
        # The USB controller in a processor with graphics is of another maker's number.
        ({**CARD, "id": "1002:1638"}, {"id": "1022:1639", "class": "0c0330"}, (), False),
        ({}, {}, (), False),
        (CARD, {**SOUND, "sriov": {"physical_function": A}}, (), False),
    ],
    ids=["sound stays", "unbound", "both leave", "waits", "same group", "processor", "ports of a network card", "VF"],
)
def test_multifunction(first: Facts, second: Facts, leaving: tuple[str, ...], fires: bool) -> None:
    devices = [device(A, **{"iommu_group": 1, **first}), device(B, **{"iommu_group": 2, **second})]
    where = machine(devices=devices, leaving=frozenset(leaving))
    found = _one("multifunction", where)
    assert bool(found) == fires
    if found:
        assert found["severity"] == "warning"
        assert found["message"].startswith(f"{A} would leave other functions of its card to the host: {B} (")
        assert found["remedy"].startswith(f"Give {B} to the same guest")
    assert _one("multifunction", where, B) is None


# ---------------------------------------------------------------------------------------------------------------------
# Virtual functions


@pytest.mark.parametrize(
    ("count", "driver", "fires"),
    [
        (2, "igb", True),
        (1, "igb", True),
        (2, None, True),
        (0, "igb", False),
        (None, "igb", False),
        (2, "vfio-pci", False),
    ],
)
def test_sriov_pf_vfs(count: int | None, driver: str | None, fires: bool) -> None:
    where = machine(devices=[device(A, driver=driver, sriov={"total_vfs": 7, "num_vfs": count})])
    assert _all(where) == (["sriov_pf_vfs"] if fires else [])
    found = _one("sriov_pf_vfs", where)
    if found:
        plural = "" if count == 1 else "s"
        assert found["message"] == f"{A} has {count} virtual function{plural}, which would go with it"
        assert found["symptom"] == "Cannot bind to PF with SR-IOV enabled"
        assert (found["severity"], found["evidence"]) == ("blocker", f"/sys/bus/pci/devices/{A}/sriov_numvfs: {count}")


@pytest.mark.parametrize(
    ("fields", "guests", "held"),
    [
        ({"driver": "igbvf"}, [], ""),
        ({"driver": "vfio-pci", "enabled": False}, [], ""),
        ({"driver": "vfio-pci"}, [], f": {C} is open for a guest"),
        ({"driver": "vfio-pci"}, [_guest("fax", C)], f": {C} is held by the running guest fax"),
        ({"driver": "igbvf"}, [_guest("fax", C, running=False)], f": {C} is promised to the guest fax"),
    ],
)
def test_virtual_functions_of_guests_are_named(fields: Facts, guests: list[Guest], held: str) -> None:
    physical = device(A, driver="igb", sriov={"num_vfs": 1, "virtual_functions": [C]})
    virtual = device(C, sriov={"physical_function": A}, **fields)
    found = _one("sriov_pf_vfs", machine(devices=[physical, virtual], guests=guests))
    assert found
    assert found["message"] == f"{A} has 1 virtual function, which would go with it{held}"


@pytest.mark.parametrize(
    ("driver", "checks"),
    [("igb", ["is_vf"]), (None, ["is_vf"]), ("vfio-pci", ["vf_of_vfio_pf", "is_vf"])],
)
def test_virtual_function(driver: str | None, checks: list[str]) -> None:
    virtual = device(C, driver="igbvf", sriov={"physical_function": A})
    where = machine(devices=[device(A, driver=driver), virtual])
    assert _all(where, C) == checks
    found = _one("is_vf", where, C)
    assert found
    assert found["message"] == f"{C} is a virtual function of {A}, and is gone after a boot until it is made again"
    assert found["severity"] == "information"
    found = _one("vf_of_vfio_pf", where, C)
    if found:
        assert found["severity"] == "warning"
        assert found["symptom"] == "VF token required to access device"
        assert found["message"].startswith(f"{C} is a virtual function of {A}, which is itself with vfio-pci")


def test_a_virtual_function_without_its_physical_one() -> None:
    assert _all(machine(devices=[device(C, sriov={"physical_function": A})]), C) == ["is_vf"]


# ---------------------------------------------------------------------------------------------------------------------


def test_lab_host(tmp_path: Path) -> None:
    """The recorded lab: a card of its own, conventional cards behind one bridge, SR-IOV, and the chipset."""
    where = _verdict.read_machine(recorded("lab-host", tmp_path), lambda message: None)
    found: dict[str, t.Any] = {address: _all(where, address) for address in where.devices}
    assert {address: checks for address, checks in found.items() if checks} == {
        "0000:00:00.0": ["chipset"],
        "0000:00:11.0": ["bridge"],
        "0000:00:12.0": ["bridge"],
        "0000:00:13.0": ["bridge"],
        "0000:00:1f.0": ["chipset"],
        "0000:00:1f.2": ["group_bridge"],
        "0000:00:1f.3": ["platform", "group_viable", "group_bridge"],
        "0000:02:00.0": ["sriov_pf_vfs"],
        "0000:02:10.0": ["is_vf"],
        "0000:02:10.2": ["is_vf"],
        "0000:03:00.0": ["bridge"],
        "0000:04:01.0": ["group_viable", "pcie2pci"],
        "0000:04:02.0": ["group_viable", "pcie2pci"],
        "0000:04:06.0": ["group_viable", "pcie2pci"],
    }


def test_virtio_vm(tmp_path: Path) -> None:
    where = _verdict.read_machine(recorded("virtio-vm", tmp_path), lambda message: None)
    assert {address: _all(where, address) for address in where.devices if _all(where, address)} == {
        "0000:00:00.0": ["chipset"]
    }
