# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_seen import shortfall

ADDRESS = "0000:05:00.0"
CARD: dict[str, t.Any] = {
    "address": ADDRESS,
    "id": "1397:08b4",
    "subsystem_id": "1397:b620",
    "card": "hfc-4s",
    "ports": 4,
    "dahdi": "wcb4xxp",
}
NAME = "isdn1: 0000:05:00.0 (1397:08b4, board 1397:b620, hfc-4s) has"


def isdn(
    controllers: t.Sequence[str | None] = (), spans: t.Sequence[t.Any] = (), messages: t.Any = ()
) -> dict[str, t.Any]:
    return {
        "misdn": {"controllers": [{"address": address} for address in controllers]},
        "dahdi": {"spans": spans},
        "messages": messages,
    }


def span(number: int, address: str | None, *signalling: str | None) -> dict[str, t.Any]:
    return {"number": number, "name": f"S{number}", "address": address, "signalling": list(signalling)}


def told(
    facts: t.Any, cards: t.Sequence[t.Any], lines: int, provider: str = "misdn", driver: str | None = None
) -> list[str]:
    plan = {"cards": cards, "lines": lines, "provider": provider}
    return shortfall(facts, plan, "isdn1", [{"address": ADDRESS, "driver": driver}])


@pytest.mark.parametrize(
    ("controllers", "cards", "lines"),
    [
        ([ADDRESS] * 4, [CARD], 0),
        ([ADDRESS] * 4 + [None, None], [CARD], 2),
        ([None], [], 1),
        ([ADDRESS], [{**CARD, "ports": None}], 0),
    ],
)
def test_all_there(controllers: list[str | None], cards: list[t.Any], lines: int) -> None:
    assert told(isdn(controllers), cards, lines) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            isdn(
                messages=[
                    "Modular ISDN core version 1.1.29",
                    "HFC_multi: Unknown HFC multiport controller (vendor:1397)",
                ]
            ),
            f"{NAME} 0 of 4 mISDN controllers, and as its driver none. The kernel says: 'HFC_multi: Unknown HFC"
            " multiport controller (vendor:1397)'. So the driver does not know the board; DAHDI's wcb4xxp takes it: set"
            " isdn_guest_provider: dahdi",
        ),
        (
            isdn([ADDRESS], messages=["HFC PCI: IRQ(11) getting no interrupts during init."]),
            f"{NAME} 1 of 4 mISDN controllers, and as its driver none. The kernel says: 'HFC PCI: IRQ(11) getting no"
            " interrupts during init.'. So the card's interrupt does not come through",
        ),
        (
            isdn(messages=["one", "two", "three", "four", "five"]),
            f"{NAME} 0 of 4 mISDN controllers, and as its driver none. The kernel's last words on ISDN: 'two' / 'th",
        ),
        (isdn(messages=[]), f"{NAME} 0 of 4 mISDN controllers, and as its driver none. The kernel says nothing of it"),
        (isdn(messages=None), f"{NAME} 0 of 4 mISDN controllers, and as its driver none. The kernel's messages cannot"),
    ],
)
def test_the_kernel_says_why(facts: t.Any, said: str) -> None:
    [fault] = told(facts, [CARD], 0)
    assert fault.startswith(said)


def test_lines_without_a_card() -> None:
    [fault] = told(isdn([None], messages=["l1oip_socket_thread: Failed to bind socket to port 931."]), [], 2)
    assert fault.startswith("isdn1: 1 of 2 lines without a card are mISDN controllers. The kernel says: 'l1oip_socket")
    assert fault.endswith("another program has the port: name another in isdn_guest_l1oip")


def test_what_modprobe_said() -> None:
    plan = {"cards": [], "lines": 1, "provider": "misdn"}
    [fault] = shortfall(
        isdn(messages=[]), plan, "isdn1", [], ["modprobe: ERROR: could not insert 'l1oip': Invalid argument"]
    )
    assert "'modprobe: ERROR: could not insert 'l1oip': Invalid argument'" in fault.replace('"', "'")


def test_spans() -> None:
    configured = [span(number, ADDRESS, "Clear", "Clear", "Hardware-assisted HDLC") for number in range(1, 5)]
    assert told(isdn(spans=configured), [CARD], 0, "dahdi", "wcb4xxp") == []
    assert told(isdn(spans=[*configured, span(5, None, "Clear")]), [CARD], 1, "dahdi") == []
    [fault] = told(isdn(spans=configured[:3]), [CARD], 0, "dahdi", "hfc_multi")
    assert fault.startswith(f"{NAME} 3 of 4 spans of DAHDI, and as its driver hfc_multi.")
    [fault] = told(isdn(spans=[span(1, None, None, None, None)]), [], 1, "dahdi")
    assert fault.startswith("isdn1: span 1 (S1) is not configured")
