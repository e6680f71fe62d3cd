# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The virtual functions that the inventory wants of a host, and the verdict on the host as it will be with them.

Used on the controller, before _fleet.make_plan(), so that guests can be promised functions that are not there yet.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ._check import Machine
from ._checks_group import CHECKS
from ._errors import InvalidInput
from ._leaving import items
from ._selectors import Selector, parse_selectors, select
from ._sriov import foretell, obstacles, predict

Device = t.Mapping[str, t.Any]
Verdict = t.Mapping[str, t.Any]
"""What passthrough_info returns with facts; or, where it could not, the unreachable, failed and msg of its task."""

_SPLIT = next(check for check in CHECKS if check.id == "sriov_pf_vfs")


def make_plan(verdict: Verdict, host: str, wanted: t.Any) -> dict[str, t.Any]:
    """What the filter sriov_plan returns; wanted is kvm_host_sriov of the host."""
    if "devices" not in verdict or not items(wanted):
        return {"devices": [], "faults": [], "verdict": verdict}
    devices: t.Sequence[Device] = verdict["ansible_facts"]["pci_devices"]
    numbers, faults = _numbers(devices, items(wanted))
    split = [{"address": one, "num_vfs": numbers[one]} for one in (d["address"] for d in devices) if one in numbers]
    return {
        "devices": split,
        "faults": [f"{host}: kvm_host_sriov: {fault}" for fault in faults],
        "verdict": _foreseen(verdict, devices, split),
    }


def _numbers(devices: t.Sequence[Device], wanted: t.Iterable[t.Any]) -> tuple[dict[str, int], list[str]]:
    """By address how many functions a device is to have, as far as that is in order, and what is not."""
    numbers: dict[str, int] = {}
    faults: list[str] = []
    takers: dict[str, Selector] = {}
    for raw in wanted:
        try:
            selector, number = _parse(raw)
            chosen = select(devices, [selector])
        except InvalidInput as error:
            faults.append(str(error))
            continue
        for device in chosen:
            address = device["address"]
            first = takers.setdefault(address, selector)
            if first is not selector:
                faults.append(
                    f"selectors {first.written} and {selector.written} both match {address}. Remove one of them, or add"
                    " a key that tells their devices apart"
                )
                continue
            found = list(_faults_of(device, number, devices))
            faults += [f"Selector {selector.written}: {fault}" for fault in found]
            if not found:
                numbers[address] = number
    return numbers, faults


def _parse(raw: t.Any) -> tuple[Selector, int]:
    """The selector in an entry, and its number of functions."""
    selector = raw if not isinstance(raw, Mapping) else {key: raw[key] for key in raw if key != "vfs"}
    (parsed,) = parse_selectors([selector])
    vfs = raw.get("vfs") if isinstance(raw, Mapping) else None
    if vfs is None:
        raise InvalidInput(
            f"Selector {parsed.written} does not say how many virtual functions. Write it as"
            " {address: '0000:05:00.0', vfs: 2}"
        )
    text = str(vfs).strip()
    if isinstance(vfs, (bool, float)) or not (text.isascii() and text.isdecimal()):
        raise InvalidInput(f"Selector {parsed.written}: vfs is a number from 0 on, not {vfs!r}")
    return parsed, int(text)


def _faults_of(device: Device, number: int, devices: t.Sequence[Device]) -> t.Iterator[str]:
    address, sriov = device["address"], device["sriov"]

    def capable() -> str:
        return ", ".join(f"{one['address']} ({one['id']})" for one in devices if one["sriov"]["num_vfs"] is not None)

    found = list(obstacles(address, device["driver"], sriov["total_vfs"], sriov["num_vfs"], number, capable))
    yield from found
    functions, offset, stride = sriov["virtual_functions"], sriov.get("offset"), sriov.get("stride")
    if not found and foretell(address, functions, offset, stride, number) is None:
        yield (
            f"{address} does not tell where its virtual functions will be before it has any, so that they cannot be"
            " planned; make them once by kvm.passthrough.pci_sriov alone, then run this again"
        )


def _foreseen(verdict: Verdict, devices: t.Sequence[Device], split: t.Sequence[Device]) -> Verdict:
    """The verdict with functions that come and without those that go: nothing stands in the way of a new one."""
    before = {device["address"]: device for device in devices}
    changed = {one["address"] for one in split if before[one["address"]]["sriov"]["num_vfs"] != one["num_vfs"]}
    if not changed:
        return verdict
    after = {device["address"]: device for device in predict(devices, split)}
    known = {entry["address"]: entry for entry in verdict["devices"]}
    known.update({one: _judged(known[one], after) for one in changed if one in known})
    for address in after:
        if address not in before:
            known[address] = {"address": address, "verdict": "assignable", "findings": []}
    return {
        **verdict,
        "devices": [known[address] for address in after if address in known],
        "ansible_facts": {**verdict["ansible_facts"], "pci_devices": list(after.values())},
    }


def _judged(entry: Device, devices: t.Mapping[str, t.Any]) -> Device:
    """The verdict on a device whose number of functions changes: with functions, it cannot be given away itself."""
    others = [finding for finding in entry["findings"] if finding["check"] != _SPLIT.id]
    found = list(_SPLIT.findings(Machine("/", devices, {}), devices[entry["address"]]))
    return {**entry, "verdict": "blocked" if found else entry["verdict"], "findings": others + found}
