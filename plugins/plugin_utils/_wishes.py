# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wishes: which devices the guests of the inventory want of a host.

A guest names its host, so that the variables of the whole inventory say what is wanted of one host. They are looked at
once in a run, by the first worker that asks; the others find it in files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import typing as t
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.errors import AnsibleError

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError
from ansible_collections.kvm.passthrough.plugins.module_utils._selectors import parse_selectors, select

from . import _records

Wish = t.Dict[str, t.Any]
"""{guest: name in the inventory, selectors: as written, fault: why they cannot be read, or None}"""

Inventory = t.Mapping[str, t.Mapping[str, t.Any]]
"""Ansible's hostvars: the variables of each host, templated when they are looked at."""


def wishes(folder: Path, inventory: Inventory, host: str) -> list[Wish]:
    """The wishes for a host, in the order of the inventory; the folder is the run's."""
    place = folder / "wishes"
    place.mkdir(exist_ok=True)
    with (place / "complete").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not lock.tell():
            for name, wanted in collect(inventory).items():
                _records.file_of(place, name).write_text(json.dumps(wanted))
            lock.write("yes")
    try:
        return json.loads(_records.file_of(place, host).read_text())
    except FileNotFoundError:
        return []


def collect(inventory: Inventory) -> dict[str, list[Wish]]:
    """All wishes, by host."""
    found: dict[str, list[Wish]] = {}
    for guest in inventory:
        variables = inventory[guest]
        if "kvm_guest_host" not in variables:
            continue
        with contextlib.suppress(AnsibleError):  # a guest whose host cannot be told is wanted of none
            found.setdefault(str(variables["kvm_guest_host"]), []).append(_wish(guest, variables))
    return found


def fulfil(wish: Wish, devices: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """What a wish comes to on a host: {guest, devices: [addresses], fault: why it cannot be fulfilled, or None}."""
    chosen, fault = [], wish["fault"]
    if fault is None:
        try:
            chosen = [device["address"] for device in select(devices, parse_selectors(wish["selectors"]))]
        except PassthroughError as error:
            fault = str(error)
    return {"guest": wish["guest"], "devices": chosen, "fault": fault}


def _wish(guest: str, variables: t.Mapping[str, t.Any]) -> Wish:
    try:
        written = plain(variables.get("kvm_guest_pci_devices", []))
    except AnsibleError as error:
        return {"guest": str(guest), "selectors": [], "fault": f"kvm_guest_pci_devices cannot be read: {error}"}
    return {"guest": str(guest), "selectors": written if isinstance(written, list) else [written], "fault": None}


def plain(value: t.Any) -> t.Any:
    """The value as plain data: what is inside of a list or dictionary is templated when it is looked at."""
    if isinstance(value, Mapping):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
