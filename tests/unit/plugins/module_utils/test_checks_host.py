# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check of the host, both ways. A message of None says that the check keeps silent."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _pci
from ansible_collections.kvm.passthrough.plugins.module_utils._check import Machine
from ansible_collections.kvm.passthrough.plugins.module_utils._checks_host import CHECKS
from ansible_collections.kvm.passthrough.plugins.module_utils._kvm import read_kvm
from ansible_collections.kvm.passthrough.tests.unit.machines import (
    ARM,
    bridge,
    device,
    findings,
    machine,
    merged,
    recorded,
)

OFF = {"units": [], "groups": 0, "enabled": False, "remapping": None, "address_bits": None}
IN_VM = "this host is a virtual machine whose hypervisor passes neither vmx nor svm on: nesting is off there"
Kvm = t.Dict[str, t.Any]


def _off(table: str | None, *arguments: str, default: str | None = None, **parts: t.Any) -> Kvm:
    """A host whose IOMMU is off."""
    kernel = {"arguments": ["quiet", *arguments], "intel_iommu_default": default}
    return merged({"iommu": {**OFF, "table": table}, "kernel": kernel}, parts)


def _host(kvm: Kvm, root: str | Path = "/nonexistent", group: int | None = None) -> Machine:
    """Two devices; without an IOMMU they have no group."""
    return machine(
        str(root), [bridge("0000:00:01.0", iommu_group=group), device("0000:01:00.0", iommu_group=group)], kvm
    )


def _one(check: str, kvm: Kvm, root: str | Path = "/nonexistent", group: int | None = None) -> dict[str, t.Any] | None:
    found = findings(CHECKS, check, _host(kvm, root, group))
    assert len(found) <= 1
    return found[0] if found else None


def _all(host: Machine) -> list[str]:
    return [finding["check"] for check in CHECKS for finding in check.findings(host)]


@pytest.mark.parametrize("kvm", [{}, ARM], ids=["x86", "arm"])
def test_a_healthy_host_has_no_finding(kvm: Kvm) -> None:
    assert _all(_host(kvm, group=1)) == []


def test_what_is_unknown_is_no_finding() -> None:
    assert _all(Machine(root="/nonexistent", devices={}, kvm={})) == []
    assert _all(Machine(root="/nonexistent", devices={"0000:01:00.0": device("0000:01:00.0")}, kvm={})) == []


# ---------------------------------------------------------------------------------------------------------------------
# CPU and KVM


@pytest.mark.parametrize(
    ("cpu", "present", "virt", "dev"),
    [
        ({}, True, None, None),
        ({"virtualization": None, "reason": IN_VM, "guest": True}, False, IN_VM, None),
        ({"virtualization": None, "reason": None}, None, None, None),
        (
            {"reason": "kvm_intel is not loaded: it is missing or blacklisted"},
            False,
            None,
            "kvm_intel is not loaded: it is missing or blacklisted",
        ),
        ({"virtualization": "svm", "reason": None}, False, None, "the kernel offers no /dev/kvm"),
        ({"virtualization": "svm", "reason": None}, None, None, None),
    ],
    ids=["healthy", "no vmx", "nothing known", "not loaded", "no node", "captured without /dev"],
)
def test_cpu_and_kvm(cpu: Kvm, present: bool | None, virt: str | None, dev: str | None) -> None:
    kvm = {"cpu": cpu, "device": {"present": present}}
    for check, reason in (("cpu_virt", virt), ("kvm_dev", dev)):
        found = _one(check, kvm, group=1)
        assert (found and found["message"]) == (reason and f"guests cannot run with KVM: {reason}")
        assert found is None or (found["severity"], found["repaired_by"]) == ("blocker", None)


def test_cpu_virt_of_arm() -> None:
    reason = "the kernel has KVM, but no /dev/kvm: it was not started at EL2"
    kvm = merged(ARM, {"cpu": {"virtualization": None, "reason": reason}, "device": {"present": False}})
    found = _one("cpu_virt", kvm, group=1)
    assert found
    assert found["evidence"] == "/dev/kvm: absent"
    assert _all(_host(kvm, group=1)) == ["cpu_virt"]


@pytest.mark.parametrize(
    ("cpu", "iommu", "fires"),
    [
        ({"guest": True}, {}, True),
        ({"guest": False}, {}, False),
        ({"guest": None}, {}, False),
        ({"guest": True}, OFF, False),
    ],
    ids=["guest", "hardware", "unknown", "guest without IOMMU is told of by iommu_table"],
)
def test_nested(cpu: Kvm, iommu: Kvm, fires: bool) -> None:
    found = _one("nested", {"cpu": cpu, "iommu": iommu}, group=1)
    assert bool(found) == fires
    assert found is None or found["severity"] == "information"


# ---------------------------------------------------------------------------------------------------------------------
# IOMMU


NO_TABLE = "there is no IOMMU: the firmware reports none (no table DMAR, IVRS, IORT or VIOT)"
NO_VIOMMU = "there is no IOMMU: this host is a virtual machine, and its hypervisor gives it none"
DMAR_OFF = "the firmware has an IOMMU (table DMAR), but it is off: "
IVRS_OFF = "the firmware has an IOMMU (table IVRS), but it is off: "
NOT_USED = "the kernel does not use it, although no argument says so"


@pytest.mark.parametrize(
    ("kvm", "check", "message"),
    [
        (_off(None), "iommu_table", NO_TABLE),
        (_off(None, "intel_iommu=on", "iommu=pt"), "iommu_table", NO_TABLE),
        (_off(None, "iommu=off"), "iommu_table", NO_TABLE),
        (merged(ARM, _off(None)), "iommu_table", NO_TABLE),
        (_off(None, cpu={"guest": True}), "iommu_table", NO_VIOMMU),
        (_off("DMAR"), "iommu_intel", DMAR_OFF + "the kernel needs the argument intel_iommu=on, which it has not got"),
        (
            _off("DMAR", default="off"),
            "iommu_intel",
            DMAR_OFF + "this kernel leaves it off by default (CONFIG_INTEL_IOMMU_DEFAULT_OFF), without intel_iommu=on",
        ),
        (
            _off("DMAR", "intel_iommu=off", default="on"),
            "iommu_intel",
            DMAR_OFF + "the kernel argument intel_iommu=off switches it off",
        ),
        (
            _off("DMAR", "intel_iommu=on", "intel_iommu=off"),
            "iommu_intel",
            DMAR_OFF + "the kernel argument intel_iommu=off switches it off",
        ),
        (_off("DMAR", "iommu=off"), "iommu_on", DMAR_OFF + "the kernel argument iommu=off switches it off"),
        (
            _off("DMAR", "intel_iommu=on", "iommu=pt,off"),
            "iommu_on",
            DMAR_OFF + "the kernel argument iommu=off switches it off",
        ),
        (_off("DMAR", "intel_iommu=on,sm_on"), "iommu_on", DMAR_OFF + NOT_USED),
        (_off("DMAR", default="on_except_graphics"), "iommu_on", DMAR_OFF + NOT_USED),
        (_off("IVRS", "amd_iommu=off"), "iommu_on", IVRS_OFF + "the kernel argument amd_iommu=off switches it off"),
        (_off("IVRS", "amd_iommu=on"), "iommu_on", IVRS_OFF + NOT_USED),
        (_off("IVRS", "intel_iommu=off"), "iommu_on", IVRS_OFF + NOT_USED),
        (
            merged(ARM, _off("IORT", "iommu=off")),
            "iommu_on",
            "the firmware has an IOMMU (table IORT), but it is off: " + NOT_USED,
        ),
    ],
)
def test_a_host_without_iommu_has_one_finding(kvm: Kvm, check: str, message: str) -> None:
    host = _host(kvm)
    found = [finding for entry in CHECKS for finding in entry.findings(host)]
    assert [finding["check"] for finding in found] == [check]
    assert found[0]["message"] == message
    assert found[0]["severity"] == "blocker"
    assert found[0]["symptom"] == "host doesn't support passthrough of host PCI devices"
    assert found[0]["repaired_by"] == ("kvm.passthrough.prepare" if check == "iommu_intel" else None)


def test_the_evidence_is_the_command_line() -> None:
    found = _one("iommu_on", _off("IVRS", "amd_iommu=off"))
    assert found
    assert found["evidence"] == "/proc/cmdline: quiet amd_iommu=off"
    assert "amd_iommu=on is no option" in found["remedy"]


@pytest.mark.parametrize(
    ("kvm", "group"),
    [({}, 1), (_off(None), 1), (_off(None, iommu={"enabled": None, "groups": None}), None)],
    ids=["on", "a capture whose devices have groups", "a capture without /sys/kernel"],
)
def test_an_iommu_is_not_missed_where_there_may_be_one(kvm: Kvm, group: int | None) -> None:
    assert _all(_host(kvm, group=group)) == []


def test_a_host_without_devices_misses_no_iommu() -> None:
    assert _all(machine(kvm=_off(None))) == []


@pytest.mark.parametrize(
    ("kvm", "group", "checks"),
    [
        (_off(None, iommu={"noiommu": True, "groups": 1}), 0, ["noiommu"]),
        (_off(None, iommu={"noiommu": True}), None, ["iommu_table"]),
        (_off(None, iommu={"noiommu": False, "groups": 1}), 0, []),
        ({"iommu": {"noiommu": True}}, 1, []),
    ],
    ids=["its groups", "no groups yet", "not set", "beside a real one"],
)
def test_noiommu(kvm: Kvm, group: int | None, checks: list[str]) -> None:
    assert _all(_host(kvm, group=group)) == checks


@pytest.mark.parametrize(
    ("iommu", "arguments", "severity", "words"),
    [
        ({"remapping": True}, [], None, ""),
        ({"remapping": None}, [], None, ""),
        (
            {"remapping": False},
            [],
            "blocker",
            "does not isolate interrupts: a guest could send the host any interrupt, and vfio",
        ),
        ({"remapping": False, "unsafe_interrupts": None}, [], "blocker", "and vfio refuses"),
        ({"remapping": False}, ["intremap=off"], "blocker", "interrupts (the kernel argument intremap=off): a guest"),
        (
            {"remapping": False},
            ["intremap=nosid,off"],
            "blocker",
            "interrupts (the kernel argument intremap=off): a guest",
        ),
        ({"remapping": False, "unsafe_interrupts": True}, [], "warning", "which vfio has been told to accept"),
        ({**OFF, "remapping": False}, [], None, ""),
    ],
)
@pytest.mark.parametrize("base", [{}, ARM], ids=["x86", "arm"])
def test_irq_remap(base: Kvm, iommu: Kvm, arguments: list[str], severity: str | None, words: str) -> None:
    found = _one("irq_remap", merged(base, {"iommu": iommu, "kernel": {"arguments": arguments}}), group=1)
    assert (found and found["severity"]) == severity
    assert found is None or words in found["message"]


def test_irq_remap_prints_what_the_kernel_prints() -> None:
    found = _one("irq_remap", {"iommu": {"remapping": False}}, group=1)
    assert found
    assert found["symptom"] == (
        "vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param"
        ' "allow_unsafe_interrupts" to enable VFIO IOMMU support on this platform'
    )


@pytest.mark.parametrize(
    ("iommu", "cpu", "fires"),
    [(39, 46, True), (48, 46, False), (39, 39, False), (None, 46, False), (39, None, False)],
)
def test_aw_bits(iommu: int | None, cpu: int | None, fires: bool) -> None:
    found = _one("aw_bits", {"iommu": {"address_bits": iommu}, "cpu": {"address_bits": cpu}}, group=1)
    assert bool(found) == fires
    if found:
        assert found["message"].startswith("the IOMMU translates addresses of 39 bits, the CPU has 46: ")
        assert "limit='39'" in found["remedy"]
        assert found["severity"] == "warning"


@pytest.mark.parametrize(
    ("argument", "fires"),
    [
        ("pcie_acs_override=downstream,multifunction", True),
        ("pci=config_acs=101xxxx@pci:0:0", False),
        ("pci=disable_acs_redir=0000:00:01.0", False),
        ("quiet", False),
    ],
)
def test_acs_override(argument: str, fires: bool) -> None:
    found = _one("acs_override", {"kernel": {"arguments": ["ro", argument]}}, group=1)
    assert bool(found) == fires
    if found:
        assert f"({argument})" in found["message"]
        assert (found["severity"], found["evidence"]) == ("warning", f"/proc/cmdline: ro {argument}")


# ---------------------------------------------------------------------------------------------------------------------
# What is installed


NO_NODE = {"assigns_pci": False, "reason": "/dev/vfio/vfio is missing"}
NO_DRIVER = "libvirt's QEMU driver (libvirt_driver_qemu.so) is not installed"


@pytest.mark.parametrize(
    ("modules", "files", "libvirt", "checks"),
    [
        (["vfio_pci"], [], {}, []),
        ([], ["drivers/vfio/pci/vfio-pci.ko.xz"], {}, []),
        ([], ["drivers/vfio/pci/vfio-pci.ko"], NO_NODE, ["vfio"]),
        ([], ["drivers/vfio/vfio.ko", "drivers/vfio/pci/mlx5/mlx5-vfio-pci.ko"], {}, ["vfio_module"]),
        ([], ["drivers/net/virtio_net.ko"], NO_NODE, ["vfio_module"]),
        (["vfio_pci"], ["drivers/net/virtio_net.ko"], {}, []),
        ([], [], {}, []),
        ([], [], NO_NODE, ["vfio"]),
    ],
    ids=[
        "loaded",
        "to be loaded",
        "no node",
        "only a variant",
        "built without",
        "built in",
        "unknown",
        "no node, modules unknown",
    ],
)
def test_vfio(tmp_path: Path, modules: list[str], files: list[str], libvirt: Kvm, checks: list[str]) -> None:
    for name in files:
        path = tmp_path / "lib/modules/6.12.117+deb13-amd64/kernel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    host = _host({"modules": modules, "libvirt": libvirt}, tmp_path, 1)
    assert _all(host) == checks
    for finding in findings(CHECKS, "vfio_module", host):
        assert finding["message"] == "the kernel 6.12.117+deb13-amd64 has no vfio-pci, neither built in nor as a module"
        assert (finding["severity"], finding["repaired_by"]) == ("blocker", None)
    for finding in findings(CHECKS, "vfio", host):
        assert (finding["severity"], finding["repaired_by"]) == ("warning", "kvm.passthrough.prepare")


@pytest.mark.parametrize(
    ("kvm", "programs", "message"),
    [
        ({}, True, None),
        ({"qemu": {"path": None, "version": None}}, True, "QEMU is not installed"),
        ({"qemu": {"path": None, "version": None}}, False, None),
        ({"qemu": {"path": None, "version": None}, "cpu": {"architecture": None}}, True, None),
        ({"qemu": {"version": None}}, True, None),
        ({"libvirt": {"version": None, "assigns_pci": False, "reason": NO_DRIVER}}, True, "libvirt is not installed"),
        (
            {"libvirt": {"assigns_pci": False, "reason": f"there are no IOMMU groups; {NO_DRIVER}"}},
            True,
            "libvirt's driver for QEMU is not installed",
        ),
        (
            {"libvirt": {"assigns_pci": False, "reason": "there are no IOMMU groups (/sys/kernel/iommu_groups)"}},
            True,
            None,
        ),
        (
            {"qemu": {"path": None}, "libvirt": {"version": None, "assigns_pci": False, "reason": NO_DRIVER}},
            True,
            "QEMU and libvirt are not installed",
        ),
    ],
)
def test_packages(tmp_path: Path, kvm: Kvm, programs: bool, message: str | None) -> None:
    if programs:
        (tmp_path / "usr/bin").mkdir(parents=True)
    found = _one("packages", kvm, tmp_path, 1)
    assert (found and found["message"]) == message
    assert found is None or (found["severity"], found["repaired_by"]) == ("warning", "kvm.passthrough.prepare")


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lab-host", "virtio-vm"])
def test_recorded_machines(tmp_path: Path, name: str) -> None:
    """They hold PCI devices and little else: what they do not tell is no finding."""
    root = recorded(name, tmp_path)
    devices = {entry["address"]: entry for entry in _pci.read_devices(root, lambda message: None)}
    assert _all(Machine(root=root, devices=devices, kvm=read_kvm(root))) == []
