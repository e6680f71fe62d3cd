# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict: what can go from a host to a guest, and why not.

One pass over the machine: facts first, then every check. Nothing is written and no device is woken.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import (
    _checks_group,
    _checks_host,
    _checks_interrupt,
    _checks_memory,
    _checks_reset,
    _checks_use,
    _guests,
    _host_use,
    _interrupts,
    _kvm,
    _pci,
)
from ._check import BLOCKER, Check, Machine

HOST_CHECKS: tuple[Check, ...] = (
    *_checks_host.CHECKS,
    *_checks_interrupt.HOST_CHECKS,
    *_checks_memory.HOST_CHECKS,
)
DEVICE_CHECKS: tuple[Check, ...] = (
    *_checks_use.CHECKS,
    *_checks_group.CHECKS,
    *_checks_interrupt.CHECKS,
    *_checks_reset.CHECKS,
    *_checks_memory.DEVICE_CHECKS,
)


def read_machine(
    root: str,
    warn: t.Callable[[str], None],
    session: str | None = None,
    leaving: t.Sequence[t.Any] = (),
) -> Machine:
    """Read everything that the checks look at.

    session is the address of whom the host must be able to answer; leaving are selectors, as the user wrote them.
    """
    devices = _pci.read_devices(root, warn)
    interrupts = _interrupts.read_interrupts(root, devices)
    return Machine(
        root=root,
        devices={device["address"]: device for device in devices},
        kvm=_kvm.read_kvm(root),
        interrupts=interrupts,
        uses=_host_use.host_uses(root, session),
        soft_uses=_host_use.soft_uses(root, devices, interrupts),
        guests=_guests.read_guests(root),
        leaving=_addresses(devices, leaving, loosely=True),
    )


def judge(machine: Machine, wanted: t.Sequence[t.Any] | None = None) -> dict[str, t.Any]:
    """The verdict on the host, on its devices (all, or those that these selectors match), and the guests it knows."""
    host = judge_host(machine)
    chosen = list(machine.devices.values())
    if wanted is not None:
        addresses = _addresses(chosen, wanted)
        chosen = [device for device in chosen if device["address"] in addresses]
    return {
        "host": host,
        "devices": [judge_device(machine, device, host["verdict"] == "blocked") for device in chosen],
        "guests": [dataclasses.asdict(guest) for guest in machine.guests],
    }


def facts(machine: Machine) -> dict[str, t.Any]:
    """What the verdict stands on, as pci_facts, irq_facts and kvm_facts return it."""
    return {"pci_devices": list(machine.devices.values()), "interrupts": machine.interrupts, "kvm": machine.kvm}


def judge_host(machine: Machine) -> dict[str, t.Any]:
    """The verdict on the host as a whole: blocked where nothing can be assigned on it, else capable."""
    findings = [finding for check in HOST_CHECKS for finding in check.findings(machine)]
    blocked = any(finding["severity"] == BLOCKER for finding in findings)
    return {"verdict": "blocked" if blocked else "capable", "findings": findings}


def judge_device(machine: Machine, device: _pci.Device, host_blocked: bool) -> dict[str, t.Any]:
    """The verdict on one device: blocked, in_use, ready or assignable."""
    findings = [(check, finding) for check in DEVICE_CHECKS for finding in check.findings(machine, device)]
    blockers = [check for check, finding in findings if finding["severity"] == BLOCKER]
    if host_blocked or not all(check.in_use for check in blockers):
        verdict = "blocked"
    elif blockers:
        verdict = "in_use"
    else:
        verdict = "ready" if _host_use.is_vfio(device["driver"] or "") else "assignable"
    return {"address": device["address"], "verdict": verdict, "findings": [finding for _check, finding in findings]}


def _addresses(devices: t.Sequence[_pci.Device], selectors: t.Sequence[t.Any], loosely: bool = False) -> frozenset[str]:
    if not selectors:
        return frozenset()
    # Only where a device is named: a host compiles whatever is imported here, again with each task.
    from ._selectors import narrow, parse_selectors

    return frozenset(device["address"] for device in narrow(devices, parse_selectors(selectors), loosely))
