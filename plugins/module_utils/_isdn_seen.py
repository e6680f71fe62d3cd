# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guest has the ISDN lines that its cards and variables promise, and if not, what the kernel says of it."""

from __future__ import annotations

import re
import typing as t

Facts = t.Mapping[str, t.Any]

_LAST = 4
"""So many lines of the kernel are quoted where none is known to be the reason."""
_REMEDIES = (
    (
        r"unknown hfc multiport controller",
        "the driver does not know the board{dahdi}",
    ),
    (
        r"getting no interrupts|no interrupts? (from|during)|irq.*not (working|free)|unable to (get|allocate).*irq",
        "the card's interrupt does not come through: let kvm.passthrough.assess say whether it shares its line on the"
        " hypervisor, and try isdn_guest_module_options {{hfcmulti: iomode=1}} where it is an HFC multiport card",
    ),
    (
        r"isar\.bin|firmware.*(not|fail|error|missing)|fail.*firmware",
        "put the firmware below /lib/firmware, and load the driver again",
    ),
    (
        r"failed to bind socket",
        "another program has the port: name another in isdn_guest_l1oip",
    ),
)


def shortfall(
    isdn: Facts, plan: Facts, host: str, devices: t.Sequence[Facts], refused: t.Sequence[str] = ()
) -> list[str]:
    """A sentence for each card, and for the lines without one, that have fewer controllers or spans than they should.

    isdn are the facts of isdn_facts, plan is of the filter isdn_plan, devices are those of pci_facts, now, refused is
    what modprobe has said.
    """
    misdn = plan["provider"] == "misdn"
    found = isdn["misdn"]["controllers"] if misdn else isdn["dahdi"]["spans"]
    what = "mISDN controllers" if misdn else "spans of DAHDI"
    drivers = {device["address"]: device["driver"] for device in devices}
    faults = []
    for card in plan["cards"]:
        has = sum(one["address"] == card["address"] for one in found)
        wanted = card["ports"] or 1
        if has < wanted:
            name = f"{card['address']} ({card['id']}, board {card['subsystem_id']}, {card['card']})"
            driver = drivers.get(card["address"]) or "none"
            faults.append(
                f"{name} has {has} of {wanted} {what}, and as its driver {driver}. {_why(isdn, card, refused)}"
            )
    has, wanted = sum(one["address"] is None for one in found), plan["lines"]
    if has < wanted:
        faults.append(f"{has} of {wanted} lines without a card are {what}. {_why(isdn, {}, refused)}")
    if not misdn:
        faults += [
            f"span {one['number']} ({one['name']}) is not configured: it has the signalling {one['signalling']}. Look"
            " into journalctl -u kvm-passthrough-dahdi.service"
            for one in found
            if None in one["signalling"]
        ]
    return [f"{host}: {fault}" for fault in faults]


def _why(isdn: Facts, card: Facts, refused: t.Sequence[str]) -> str:
    """The kernel's own words, and the remedy where they are known to have one."""
    said = isdn["messages"]
    texts = [*refused, *(said or [])]
    for pattern, remedy in _REMEDIES:
        known = [text for text in texts if re.search(pattern, text, re.IGNORECASE)]
        if known:
            dahdi = f"; DAHDI's {card['dahdi']} takes it: set isdn_guest_provider: dahdi" if card.get("dahdi") else ""
            return f"The kernel says: {known[-1]!r}. So {remedy.format(dahdi=dahdi)}"
    if not texts:
        return (
            "The kernel says nothing of it; look into dmesg"
            if said is not None
            else "The kernel's messages cannot be read"
        )
    return f"The kernel's last words on ISDN: {' / '.join(repr(text) for text in texts[-_LAST:])}"
