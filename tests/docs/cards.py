# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the reference of all card families from the catalogue itself.

usage: python3 cards.py > docs/docsite/rst/reference_cards.rst
"""

from __future__ import annotations

import sys
import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._card_facts import FACTS, Facts
from ansible_collections.kvm.passthrough.plugins.module_utils._cards import FAMILIES, Family
from ansible_collections.kvm.passthrough.tests.docs.checks import plain

_HEAD = """\
..
  Copyright (c) 2026, the kvm.passthrough authors
  GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
  SPDX-License-Identifier: GPL-3.0-or-later

.. This page is written by `make docs` from the catalogue itself.

.. _ansible_collections.kvm.passthrough.docsite.reference_cards:

ISDN and DVB cards that the collection knows
============================================

A card is known by the PCI ids of its chip and its subsystem. Its family has a name, which selectors take as ``card``,
and what is said here of the family is what the roles go by, and what the filter ``kvm.passthrough.card_families``
returns. The ids are those of the drivers in Linux 6.12, held against the kernels of Debian 11, 12 and 13.

Driver
  The kernel module that claims the card, with the name that it has as a PCI driver where that differs. The host keeps
  it away from the card, and the guest loads it.
Old and rival drivers
  Modules of former kernels, of makers and of DAHDI that would claim the card too. They are blacklisted on the host
  together with the driver, if all cards leave it that they could claim.
Lines
  How many lines a card has, by its subsystem; each is a controller of mISDN, or a span of DAHDI.
Firmware
  What a driver may ask for below ``/lib/firmware``, and the package of Debian 13 that has it. The driver of a tuner or
  demodulator asks for it only on cards with that chip.
"""


def page() -> str:
    """The whole page, as reStructuredText."""
    return "\n".join([_HEAD, *_section("ISDN", "isdn"), *_section("DVB", "dvb")])


def _section(title: str, kind: str) -> t.Iterator[str]:
    yield from (title, "-" * len(title), "")
    for name, facts in FACTS.items():
        if facts.kind == kind:
            yield from (name, "^" * len(name), "", f"{plain(FAMILIES[name].about)}.", "")
            for label, text in _fields(FAMILIES[name], facts):
                if text:
                    yield f":{label}: {text}"
            yield from ("", *(f"- {plain(trap)}." for trap in facts.traps))
            if facts.traps:
                yield ""


def _fields(entry: Family, facts: Facts) -> t.Iterator[tuple[str, str]]:
    yield "Ids", _ids(entry.ids)
    drivers = [
        _code(module) + (f" (as a PCI driver ``{driver}``)" if driver != module else "")
        for module, driver in zip(facts.modules, facts.drivers)
    ]
    yield "Driver", ", ".join(drivers) or "none"
    yield "Kernels", " and ".join(_kernels(facts))
    yield "DAHDI", facts.dahdi and f"{_code(facts.dahdi)} takes {_ids(facts.dahdi_ids)}"
    yield "Old and rival drivers", ", ".join(map(_code, (*facts.old_modules, *facts.rivals)))
    yield (
        "In the guest",
        ", ".join(
            (
                *(f"also {_code(module)}" for module in facts.guest_modules if facts.modules),
                *(f"``options {module} {text}``" for module, text in facts.options.items()),
            )
        ),
    )
    yield "Lines", "; ".join(f"{count}: {', '.join(cards)}" for count, cards in _lines(facts))
    yield "Refused", "; ".join(_refusals(facts))
    yield (
        "Firmware",
        "; ".join(
            f"``{file.file}`` asked for by ``{file.asked_by}``"
            + (f", in {_code(file.package)}" if file.package else "")
            for file in facts.firmware
        ),
    )
    yield "Packages", ", ".join(map(_code, facts.packages))


def _kernels(facts: Facts) -> t.Iterator[str]:
    if facts.since:
        yield f"from Linux {facts.since} on"
    if facts.before:
        yield f"before Linux {facts.before}"


def _lines(facts: Facts) -> t.Iterator[tuple[int, list[str]]]:
    for count in sorted(set(facts.ports.values())):
        cards = [card for card, lines in facts.ports.items() if lines == count]
        yield count, [_card(card, facts) for card in cards]


def _refusals(facts: Facts) -> t.Iterator[str]:
    for text in dict.fromkeys(facts.refused.values()):
        cards = ", ".join(_card(card, facts) for card, why in facts.refused.items() if why == text)
        yield f"{cards}: {plain(text.format(card='by its subsystem'))}"


def _card(subsystem: str, facts: Facts) -> str:
    """A subsystem, or those that are not named."""
    if subsystem != "*":
        return _code(subsystem)
    return "all others" if len(facts.ports) > 1 else "all"


def _ids(ids: t.Mapping[str, t.Sequence[str]]) -> str:
    return "; ".join(
        _code(pci_id) + (f" with subsystem {', '.join(map(_code, cards))}" if cards else "")
        for pci_id, cards in ids.items()
    )


def _code(text: str) -> str:
    return f"``{text}``"


if __name__ == "__main__":
    sys.stdout.write(page())
