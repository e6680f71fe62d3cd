# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _kvm
from ansible_collections.kvm.passthrough.tests.unit import boot_host
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

INTEL = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Silver 4210R CPU @ 2.40GHz
flags\t\t: fpu lm vmx
address sizes\t: 46 bits physical, 48 bits virtual
power management:

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: another
flags\t\t: fpu lm hypervisor
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c

processor\t: 1
"""
NO_NESTING = "this host is a virtual machine whose hypervisor passes neither vmx nor svm on: nesting is off there"
NO_FLAG = "the CPU shows neither vmx nor svm: virtualization is off in the firmware, or this CPU has none"
NO_MODULE = "{} is not loaded: it is missing or blacklisted, or refused because the firmware keeps it off"
NO_EL2 = "the kernel has KVM, but no /dev/kvm: it was not started at EL2"
NOTHING = {
    "cpu": {
        "architecture": None,
        "vendor": None,
        "model": None,
        "virtualization": None,
        "reason": None,
        "guest": None,
        "nested": None,
        "address_bits": None,
    },
    "device": {"present": None, "accessible": None},
    "modules": [],
    "iommu": {
        "table": None,
        "units": [],
        "groups": None,
        "enabled": None,
        "remapping": None,
        "unsafe_interrupts": None,
        "noiommu": None,
        "address_bits": None,
        "reserved": [],
    },
    "kernel": {"release": None, "version": None, "arguments": [], "lockdown": None, "intel_iommu_default": None},
    "boot_loader": None,
    "ksm": None,
    "hugepages": [],
    "memory": {"total": None, "available": None, "swap_total": None},
    "qemu": {"path": None, "version": None},
    "libvirt": {"version": None, "assigns_pci": None, "reason": None},
}


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


def processor(flags: str, vendor: str = "GenuineIntel") -> str:
    return f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\n"


def test_a_tree_without_anything(tmp_path: Path) -> None:
    assert _kvm.read_kvm(str(tmp_path)) == NOTHING


def test_a_tree_of_nonsense(tree: PciTree) -> None:
    """What cannot be read as what it should be is unknown, and no exception."""
    for path in (
        "/dev/kvm",
        "/proc/cmdline",
        "/proc/cpuinfo",
        "/proc/config.gz",
        "/proc/interrupts",
        "/proc/meminfo",
        "/proc/sys/kernel/osrelease",
        "/sys/class/iommu/dmar0/intel-iommu/cap",
        "/sys/firmware/acpi/tables/NONE",
        "/sys/kernel/iommu_groups/none",
        "/sys/kernel/mm/hugepages/hugepages-kB/nr_hugepages",
        "/sys/kernel/mm/ksm/run",
        "/sys/kernel/security/lockdown",
        "/sys/module/kvm_intel/parameters/nested",
        "/usr/bin/qemu-system-x86_64",
        "/usr/lib/libvirt.so.0",
    ):
        tree.write(path, b"\x00\xff: /\n")
    found = _kvm.read_kvm(str(tree.root))
    assert found["kernel"] == {
        **NOTHING["kernel"],
        "release": "\x00\ufffd: /",
        "arguments": ["\x00\ufffd:", "/"],
    }
    for part in ("cpu", "memory", "qemu"):
        assert found[part] == NOTHING[part]
    assert found["ksm"] == dict.fromkeys(found["ksm"])


def test_the_running_host() -> None:
    """Whatever this machine is: the keys are all there, and what every Linux tells is told."""
    found = _kvm.read_kvm("/")
    assert {key: list(value) for key, value in found.items() if key in ("cpu", "device", "iommu", "kernel")} == {
        key: list(NOTHING[key]) for key in ("cpu", "device", "iommu", "kernel")
    }
    assert found["cpu"]["architecture"] == os.uname().machine
    assert found["kernel"]["release"] == os.uname().release
    assert None not in (found["device"]["present"], found["device"]["accessible"], found["iommu"]["enabled"])
    assert found["memory"]["total"] > 0


def test_only_the_first_processor_is_read(tree: PciTree) -> None:
    tree.write("/proc/cpuinfo", INTEL + "\nprocessor\t: 2\nflags\t\t: lm\n" * 10000)
    tree.write("/sys/module/kvm_intel/parameters/nested", "Y\n")
    assert _kvm.read_kvm(str(tree.root))["cpu"] == {
        "architecture": "x86_64",
        "vendor": "GenuineIntel",
        "model": "Intel(R) Xeon(R) Silver 4210R CPU @ 2.40GHz",
        "virtualization": "vmx",
        "reason": None,
        "guest": False,
        "nested": True,
        "address_bits": 46,
    }


@pytest.mark.parametrize(
    ("flags", "modules", "present", "expected"),
    [
        pytest.param("lm vmx", ["kvm", "kvm_intel"], True, ("vmx", False, None), id="intel"),
        pytest.param("lm svm", ["kvm", "kvm_amd"], True, ("svm", False, None), id="amd"),
        pytest.param("lm svm hypervisor", ["kvm_amd"], True, ("svm", True, None), id="nested"),
        pytest.param("lm", ["kvm"], False, (None, False, NO_FLAG), id="off-in-the-firmware"),
        pytest.param("lm hypervisor", [], False, (None, True, NO_NESTING), id="nesting-off"),
        pytest.param("lm vmx_like", [], None, (None, False, NO_FLAG), id="no-part-of-a-word"),
        pytest.param("lm vmx", [], False, ("vmx", False, NO_MODULE.format("kvm_intel")), id="intel-not-loaded"),
        pytest.param("lm svm", ["kvm"], False, ("svm", False, NO_MODULE.format("kvm_amd")), id="amd-not-loaded"),
        pytest.param(
            "lm svm",
            ["kvm", "kvm_amd"],
            False,
            ("svm", False, "kvm_amd is loaded, but there is no /dev/kvm"),
            id="no-node",
        ),
        pytest.param("lm vmx", [], None, ("vmx", False, None), id="tree-that-does-not-tell"),
    ],
)
def test_x86(tree: PciTree, flags: str, modules: list[str], present: bool | None, expected: tuple[object, ...]) -> None:
    tree.write("/proc/cpuinfo", processor(flags))
    cpu = _kvm.read_cpu(str(tree.root), modules, present)
    assert (cpu["virtualization"], cpu["guest"], cpu["reason"]) == expected
    assert cpu["architecture"] == "x86_64"


@pytest.mark.parametrize(
    ("modules", "present", "virtualization", "reason"),
    [
        (["kvm"], True, "el2", None),
        (["kvm"], False, None, NO_EL2),
        ([], False, None, None),
        (["kvm"], None, None, None),
    ],
)
def test_arm(
    tree: PciTree, modules: list[str], present: bool | None, virtualization: str | None, reason: str | None
) -> None:
    tree.write("/proc/cpuinfo", ARM)
    assert _kvm.read_cpu(str(tree.root), modules, present) == {
        "architecture": "aarch64",
        "vendor": "0x41",
        "model": None,
        "virtualization": virtualization,
        "reason": reason,
        "guest": None,
        "nested": None,
        "address_bits": None,
    }


@pytest.mark.parametrize(
    ("files", "architecture"),
    [
        ({"/proc/sys/kernel/arch": "riscv64\n", "/proc/cpuinfo": "isa : rv64imafdc\n"}, "riscv64"),
        ({"/proc/sys/kernel/arch": "i686\n", "/proc/cpuinfo": processor("lm")}, "i686"),
        ({"/proc/cpuinfo": processor("fpu sse2")}, "i686"),
        ({"/proc/cpuinfo": "processor : 0\nisa : rv64imafdc\n"}, None),
        ({"/proc/cpuinfo": "processor : 0\nCPU architecture: 7\n"}, None),
    ],
)
def test_architecture(tree: PciTree, files: dict[str, str], architecture: str | None) -> None:
    for path, text in files.items():
        tree.write(path, text)
    assert _kvm.read_cpu(str(tree.root), [], None)["architecture"] == architecture


@pytest.mark.parametrize(
    ("module", "value", "nested"),
    [
        ("kvm_intel", "Y", True),
        ("kvm_intel", "N", False),
        ("kvm_amd", "1", True),
        ("kvm_amd", "0", False),
        ("kvm_amd", "?", None),
        ("kvm", "Y", None),
    ],
)
def test_nested(tree: PciTree, module: str, value: str, nested: bool | None) -> None:
    tree.write(f"/sys/module/{module}/parameters/nested", value + "\n")
    assert _kvm.read_cpu(str(tree.root), [module], None)["nested"] is nested


@pytest.mark.parametrize(
    ("files", "present"),
    [
        pytest.param(["/sys/class/misc/kvm/dev", "/dev/kvm"], True, id="registered"),
        pytest.param(["/sys/class/misc/kvm/dev"], True, id="a-tree-without-nodes"),
        pytest.param(["/sys/class/misc/tun/dev", "/dev/kvm"], False, id="a-node-without-a-driver"),
        pytest.param(["/dev/kvm"], True, id="a-tree-without-sys"),
        pytest.param(["/dev/null"], False, id="no-node"),
        pytest.param([], None, id="unknown"),
    ],
)
def test_device(tree: PciTree, files: list[str], present: bool | None) -> None:
    for path in files:
        tree.write(path, "")
    assert _kvm.read_device(str(tree.root)) == {"present": present, "accessible": None}


def test_modules(tree: PciTree) -> None:
    for name in ("vfio_pci", "kvm_intel", "kvm", "virtio", "e1000e", "vfio"):
        tree.write(f"/sys/module/{name}/refcnt", "0\n")
    assert _kvm.read_kvm(str(tree.root))["modules"] == ["kvm", "kvm_intel", "vfio", "vfio_pci"]


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.12.117+deb13-amd64", [6, 12]),
        ("5.14.0-427.el9.x86_64", [5, 14]),
        ("2.6.32", [2, 6]),
        ("7.0-rc1", [7, 0]),
        ("next", None),
        (None, None),
    ],
)
def test_version(tree: PciTree, release: str | None, version: list[int] | None) -> None:
    if release:
        tree.write("/proc/sys/kernel/osrelease", release + "\n")
    kernel = _kvm.read_kernel(str(tree.root))
    assert (kernel["release"], kernel["version"]) == (release, version)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("root=/dev/sda2 ro intel_iommu=on\n", ["root=/dev/sda2", "ro", "intel_iommu=on"]),
        ('dyndbg="file a +p" quiet -- single\n', ['dyndbg="file a +p"', "quiet"]),
        ("\n", []),
    ],
)
def test_arguments(tree: PciTree, line: str, arguments: list[str]) -> None:
    tree.write("/proc/cmdline", line)
    assert _kvm.read_kernel(str(tree.root))["arguments"] == arguments


@pytest.mark.parametrize(
    ("text", "lockdown"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", None),
    ],
)
def test_lockdown(tree: PciTree, text: str, lockdown: str | None) -> None:
    tree.write("/sys/kernel/security/lockdown", text)
    assert _kvm.read_kernel(str(tree.root))["lockdown"] == lockdown


def config(*lines: str) -> bytes:
    return "\n".join(["# Linux/x86 6.12.0 Kernel Configuration", *lines, "CONFIG_VFIO=m", ""]).encode()


ON, NOT_ON = "CONFIG_INTEL_IOMMU_DEFAULT_ON=y", "# CONFIG_INTEL_IOMMU_DEFAULT_ON is not set"
ON_INTGPU_OFF = "CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF=y"
OFF = "CONFIG_INTEL_IOMMU_DEFAULT_OFF=y"


@pytest.mark.parametrize(
    ("lines", "default"),
    [
        pytest.param([ON, "# CONFIG_INTEL_IOMMU_DEFAULT_OFF is not set"], "on", id="on"),
        pytest.param([NOT_ON, ON_INTGPU_OFF], "on_except_graphics", id="debian"),
        pytest.param([NOT_ON, OFF], "off", id="off"),
        pytest.param([NOT_ON], "off", id="before-5.11"),
        pytest.param(["# CONFIG_INTEL_IOMMU is not set"], None, id="not-built"),
        pytest.param(["CONFIG_ARM_SMMU_V3=y"], None, id="arm"),
    ],
)
def test_intel_iommu_default(tree: PciTree, lines: list[str], default: str | None) -> None:
    tree.write("/proc/sys/kernel/osrelease", "6.12.0\n")
    tree.write("/boot/config-6.12.0", config(*lines))
    assert _kvm.read_kernel(str(tree.root))["intel_iommu_default"] == default


@pytest.mark.parametrize(
    ("files", "default"),
    [
        pytest.param({"/boot/config-6.11.0": config(ON)}, None, id="of-another-kernel"),
        pytest.param({"/usr/lib/modules/6.12.0/config": config(OFF)}, "off", id="beside-the-modules"),
        pytest.param({"/proc/config.gz": config(ON)}, "on", id="in-the-kernel"),
        pytest.param({"/boot/config-6.12.0": config(OFF), "/proc/config.gz": config(ON)}, "off", id="both"),
        pytest.param({"/proc/sys/kernel/osrelease": b"../x\n", "/boot/config-../x": config(ON)}, None, id="no-name"),
        pytest.param({"/proc/config.gz": b""}, None, id="empty"),
    ],
)
def test_where_the_configuration_is(tree: PciTree, files: dict[str, bytes], default: str | None) -> None:
    for path, content in {"/proc/sys/kernel/osrelease": b"6.12.0\n", **files}.items():
        if path.endswith(".gz") and content:
            packer = zlib.compressobj(wbits=31)
            content = packer.compress(content) + packer.flush()
        tree.write(path.replace("..", "boot"), content)
    assert _kvm.read_kernel(str(tree.root))["intel_iommu_default"] == default


@pytest.mark.parametrize(
    ("files", "boot_loader"),
    [
        pytest.param(boot_host.debian(), "grub", id="debian"),
        pytest.param(boot_host.systemd_boot(), "systemd-boot", id="systemd-boot"),
        pytest.param(boot_host.proxmox(), "proxmox", id="proxmox"),
        pytest.param({"/usr/sbin/grubby": b""}, "grubby", id="red-hat"),
        pytest.param({**boot_host.debian(), "/run/ostree-booted": b""}, None, id="ostree"),
        pytest.param({}, None, id="unknown"),
    ],
)
def test_boot_loader(tmp_path: Path, files: dict[str, bytes], boot_loader: str | None) -> None:
    assert _kvm.read_boot_loader(boot_host.Host(tmp_path, files).root) == boot_loader
