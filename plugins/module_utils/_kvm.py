# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host offers to KVM guests, of a running host or of a captured tree: the fact kvm.

All of it is read from files. No command is run and no daemon is asked, so that a tree says what its host would say.
"""

from __future__ import annotations

import os
import re
import typing as t
import zlib

from . import _boot_detect, _iommu, _kernel_line, _memory, _qemu
from ._errors import PassthroughError
from ._sysfs import below, names, read_bytes, read_file, read_text

# The first processor's block is about 2 KiB long, and longer with every CPU generation.
_CPUINFO_SIZE = 16384
# The configuration of a kernel with everything is a third of that.
_CONFIG_SIZE = 1 << 20
_MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}
_INTEL_IOMMU_DEFAULT = {"ON": "on", "ON_INTGPU_OFF": "on_except_graphics", "OFF": "off"}

Facts = t.Dict[str, t.Any]


def read_kvm(root: str = "/") -> Facts:
    """The fact kvm of the machine below root; its keys are documented in kvm_facts, and None means: cannot be told."""
    modules = [name for name in names(below(root, "/sys/module")) if name.startswith(("kvm", "vfio"))]
    device = read_device(root)
    cpu = read_cpu(root, modules, device["present"])
    iommu = _iommu.read_iommu(root)
    return {
        "cpu": cpu,
        "device": device,
        "modules": modules,
        "iommu": iommu,
        "kernel": read_kernel(root),
        "boot_loader": read_boot_loader(root),
        "ksm": _memory.read_ksm(root),
        "hugepages": _memory.read_hugepages(root),
        "memory": _memory.read_memory(root),
        "qemu": _qemu.read_qemu(root, cpu["architecture"]),
        "libvirt": _qemu.read_libvirt(root, iommu["groups"]),
    }


def read_device(root: str) -> Facts:
    """/dev/kvm: present (bool or None) and accessible (bool or None, by the user that reads).

    kvm_init() (virt/kvm/kvm_main.c) registers it among the misc devices once the CPU's module works. The node alone
    proves nothing: systemd makes one for every module that wants to be loaded by opening it (kmod static-nodes).
    """
    node = below(root, "/dev/kvm")
    registered = names(below(root, "/sys/class/misc"))
    present: bool | None = None
    if registered:
        present = "kvm" in registered
    elif names(below(root, "/dev")):
        present = os.path.lexists(node)
    if root != "/":
        return {"present": present, "accessible": None}
    return {"present": present is not False and os.path.exists(node), "accessible": os.access(node, os.R_OK | os.W_OK)}


def read_cpu(root: str, modules: t.Collection[str], present: bool | None) -> Facts:
    """What the first processor of /proc/cpuinfo says (arch/x86/kernel/cpu/proc.c, arch/arm64/kernel/cpuinfo.c).

    modules are the loaded ones, present tells of /dev/kvm: it is what shows that an arm64 kernel started at EL2.
    """
    block = _first_processor(root)
    flags = block["flags"].split() if "flags" in block else None
    architecture = _architecture(root, block, flags)
    virtualization = next((flag for flag in _MODULES if flag in (flags or ())), None)
    if architecture == "aarch64" and present:
        virtualization = "el2"
    guest = None if flags is None else "hypervisor" in flags
    nested = [_iommu.parameter(root, name, "nested") for name in _MODULES.values()]
    bits = re.match(r"(\d+) bits physical", block.get("address sizes", ""))
    return {
        "architecture": architecture,
        "vendor": block.get("vendor_id") or block.get("CPU implementer"),
        "model": block.get("model name"),
        "virtualization": virtualization,
        "reason": _reason(architecture, virtualization, guest, modules, present),
        "guest": guest,
        "nested": next((value for value in nested if value is not None), None),
        "address_bits": int(bits.group(1)) if bits else None,
    }


def read_kernel(root: str) -> Facts:
    """The running kernel: release, version, arguments, lockdown (security/lockdown/lockdown.c), IOMMU default."""
    release = read_text(below(root, "/proc/sys/kernel/osrelease"))
    version = re.match(r"(\d+)\.(\d+)", release or "")
    lockdown = re.search(r"\[(\w+)\]", read_text(below(root, "/sys/kernel/security/lockdown")) or "")
    return {
        "release": release,
        "version": [int(part) for part in version.groups()] if version else None,
        "arguments": _kernel_line.running(root) or [],
        "lockdown": lockdown.group(1) if lockdown else None,
        "intel_iommu_default": _intel_iommu_default(_kernel_config(root, release)),
    }


def read_boot_loader(root: str) -> str | None:
    """The boot loader that kernel_args would use; None where it would refuse to choose one."""
    try:
        return _boot_detect.detect(root)
    except PassthroughError:
        return None


def _first_processor(root: str) -> dict[str, str]:
    text = (read_bytes(below(root, "/proc/cpuinfo"), _CPUINFO_SIZE) or b"").decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.lstrip().partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _colon, value in pairs}


def _architecture(root: str, block: t.Mapping[str, str], flags: t.Collection[str] | None) -> str | None:
    """The kernel's own word where it has one (/proc/sys/kernel/arch, since 6.1), else what the processor shows."""
    told = read_text(below(root, "/proc/sys/kernel/arch"))
    if told or root == "/":
        return told or os.uname().machine
    if flags is not None:
        return "x86_64" if "lm" in flags else "i686"
    return "aarch64" if block.get("CPU architecture") == "8" else None


def _reason(
    architecture: str | None,
    virtualization: str | None,
    guest: bool | None,
    modules: t.Collection[str],
    present: bool | None,
) -> str | None:
    """Why guests cannot run with KVM, as far as it can be told."""
    if guest and not virtualization:
        return "this host is a virtual machine whose hypervisor passes neither vmx nor svm on: nesting is off there"
    if guest is False and not virtualization:
        return "the CPU shows neither vmx nor svm: virtualization is off in the firmware, or this CPU has none"
    if present is not False:
        return None
    module = _MODULES.get(virtualization or "")
    if module and module not in modules:
        return f"{module} is not loaded: it is missing or blacklisted, or refused because the firmware keeps it off"
    if module:
        return f"{module} is loaded, but there is no /dev/kvm"
    if architecture == "aarch64" and "kvm" in modules:
        return "the kernel has KVM, but no /dev/kvm: it was not started at EL2"
    return None


def _kernel_config(root: str, release: str | None) -> bytes:
    """The configuration that the running kernel was built with; empty where it is nowhere."""
    for path in (f"/boot/config-{release}", f"/usr/lib/modules/{release}/config"):
        # The release of a captured tree may be anything, and is to be part of a file's name.
        found = read_file(below(root, path)) if re.fullmatch(r"[\w.+~-]+", release or "") else None
        if found:
            return found
    try:
        packed = read_file(below(root, "/proc/config.gz")) or b""
        return zlib.decompressobj(wbits=31).decompress(packed, _CONFIG_SIZE)
    except zlib.error:
        return b""


def _intel_iommu_default(config: bytes) -> str | None:
    """drivers/iommu/intel/Kconfig: one of three; before 5.11 on was a switch of its own."""
    chosen = re.search(rb"^CONFIG_INTEL_IOMMU_DEFAULT_(ON|ON_INTGPU_OFF|OFF)=y$", config, re.MULTILINE)
    if chosen:
        return _INTEL_IOMMU_DEFAULT[chosen.group(1).decode()]
    return "off" if b"\n# CONFIG_INTEL_IOMMU_DEFAULT_ON is not set\n" in config else None
