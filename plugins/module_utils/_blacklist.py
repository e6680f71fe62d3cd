# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kernel modules may be blacklisted when some devices leave a host, and which may not."""

from __future__ import annotations

import typing as t

from ._card_facts import claimants

Device = t.Mapping[str, t.Any]


def leaving_modules(devices: t.Iterable[Device], leaving: t.Iterable[Device]) -> dict[str, list[str]]:
    """Split the modules that claim leaving devices, by whether a device that stays could need them.

    devices and leaving are entries of pci_facts. Returns blacklist, the modules of which every device leaves, and kept,
    a plain sentence for each of the others, which names the device that stays. A card of the catalogue brings along the
    modules of former kernels and of other stacks that could claim it (hisax, wcb4xxp), if all such cards leave.
    """
    gone = {device["address"] for device in leaving}
    wanted: set[str] = set()
    others: set[str] = set()
    for device in leaving:
        wanted.update(device["modules"])
        others.update(claimants(device))
    staying: dict[str, str] = {}
    for device in devices:
        if device["address"] not in gone:
            for module in device["modules"]:
                staying.setdefault(module, device["address"])
            others -= claimants(device)
    return {
        "blacklist": sorted((wanted | others) - set(staying)),
        "kept": [f"{name} ({staying[name]} stays on the host and needs it)" for name in sorted(wanted & set(staying))],
    }
