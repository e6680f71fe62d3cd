# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a check is, and the machine it looks at.

A check is one small function that looks at a machine, or at one device of it, and yields a Fault for each obstacle.
What is the same for every fault of a check (severity, symptom, remedy, where the rule comes from) is data beside it.
Checks read and never write; none of them wakes a device or raises for what a machine lacks: unknown is no fault.
"""

from __future__ import annotations

import functools
import typing as t
from dataclasses import dataclass, field

from . import _sysfs
from ._guests import Guest
from ._host_use import Use
from ._pci import Device

BLOCKER, WARNING, INFORMATION = "blocker", "warning", "information"

_DEVICES = "/sys/bus/pci/devices"


@dataclass(frozen=True)
class Machine:
    """One machine as it was read, for checks to look at. Facts are those of pci_facts, irq_facts and kvm_facts."""

    root: str
    devices: t.Mapping[str, Device]
    """pci_devices by address, in their order."""

    kvm: t.Mapping[str, t.Any]
    interrupts: t.Sequence[t.Mapping[str, t.Any]] = ()
    uses: t.Mapping[str, t.Sequence[Use]] = field(default_factory=dict)
    """What the host cannot do without, by address."""

    soft_uses: t.Mapping[str, t.Sequence[Use]] = field(default_factory=dict)
    """What the host would miss, and which devices somebody has open, by address."""

    guests: t.Sequence[Guest] = ()
    """The guests that libvirt knows here, running or not."""

    leaving: frozenset[str] = frozenset()
    """Addresses of the devices that are to leave the host together: a peer among them stands in nobody's way."""

    def text(self, path: str) -> str | None:
        """A file of the machine without surrounding white space, None where it is absent or may not be read."""
        return _sysfs.read_text(_sysfs.below(self.root, path))

    def names(self, path: str) -> list[str]:
        """What a folder of the machine holds, sorted."""
        return _sysfs.names(_sysfs.below(self.root, path))

    def attribute(self, address: str, name: str) -> str | None:
        """An attribute of a PCI device. Never config: reading that may wake the device (see _pci)."""
        return self.text(f"{_DEVICES}/{address}/{name}")

    def kernel_at_least(self, major: int, minor: int) -> bool | None:
        """Whether the running kernel is this or newer; None where the machine does not say."""
        version = self.kvm.get("kernel", {}).get("version")
        return None if not version else tuple(version) >= (major, minor)

    def peers(self, device: Device) -> list[Device]:
        """The other devices of the device's IOMMU group."""
        group = device.get("iommu_group")
        members = [] if group is None else self._groups.get(group, [])
        return [peer for peer in members if peer is not device]

    def reserved(self, group: int) -> list[t.Mapping[str, t.Any]]:
        """The regions of memory that the kernel keeps as they are for an IOMMU group (reserved_regions)."""
        return self._reserved.get(group, [])

    @functools.cached_property
    def _reserved(self) -> dict[int, list[t.Mapping[str, t.Any]]]:
        regions: dict[int, list[t.Mapping[str, t.Any]]] = {}
        for region in (self.kvm.get("iommu") or {}).get("reserved") or []:
            regions.setdefault(region["group"], []).append(region)
        return regions

    @functools.cached_property
    def _groups(self) -> dict[int, list[Device]]:
        groups: dict[int, list[Device]] = {}
        for device in self.devices.values():
            if device.get("iommu_group") is not None:
                groups.setdefault(device["iommu_group"], []).append(device)
        return groups


@dataclass(frozen=True)
class Fault:
    """One obstacle that a check has found."""

    message: str
    """A plain sentence that says what, which and why: 0000:01:00.0 carries the default route (enp1s0)."""

    evidence: str
    """The file read and what it says: /sys/bus/pci/devices/0000:01:00.0/class: 0x060400."""

    severity: str | None = None
    """Where it differs from the check's."""

    words: t.Mapping[str, t.Any] = field(default_factory=dict)
    """What fills the {blanks} of the check's symptom and remedy; {address} is filled anyway."""


@dataclass(frozen=True)
class Check:
    """A rule as data; judge is the function behind it."""

    id: str
    about: str
    """What stands in the way when it fires, for the documentation's table."""

    source: str
    """Where the rule stands: a kernel, QEMU or libvirt source file and function, or a page."""

    severity: str
    symptom: str
    """What QEMU, libvirt or the kernel would print, word by word; empty where nothing is printed."""

    remedy: str
    judge: t.Callable[..., t.Iterable[Fault]]
    """judge(machine) for a check of the host, judge(machine, device) for a check of devices."""

    in_use: bool = False
    """Whether its blockers mean that the device is needed where it is, not that it cannot be assigned."""

    repaired_by: str | None = None
    """The playbook that removes the obstacle by itself: kvm.passthrough.prepare."""

    def findings(self, machine: Machine, device: Device | None = None) -> t.Iterator[dict[str, t.Any]]:
        """Every fault, complete."""
        faults = self.judge(machine) if device is None else self.judge(machine, device)
        for fault in faults:
            words = {"address": "" if device is None else device["address"], **fault.words}
            yield {
                "check": self.id,
                "severity": fault.severity or self.severity,
                "message": fault.message,
                "evidence": fault.evidence,
                "symptom": self.symptom.format(**words) or None,
                "remedy": self.remedy.format(**words),
                "repaired_by": self.repaired_by,
            }
