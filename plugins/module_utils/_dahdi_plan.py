# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest needs for its ISDN lines with DAHDI, and with Asterisk on it: packages, modules, and configuration.

The spans of cards come first, in the order of their addresses, as the drivers register them; those of local lines,
which dahdi_cfg makes, come behind. All are basic rates, with two B channels and the D channel as their third.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from ._errors import InvalidInput

Card = t.Mapping[str, t.Any]

SYSTEM = "/etc/dahdi/system.conf"
CHANNELS = "/etc/asterisk/chan_dahdi.conf"
EXTENSIONS = "/etc/asterisk/extensions.conf"
BLOCKS = (SYSTEM, CHANNELS, EXTENSIONS)
"""Files that may be of a package or of somebody else, in which the role has a block of lines."""
UNIT = "/etc/systemd/system/kvm-passthrough-dahdi.service"

_DKMS = {"11": "dahdi-dkms", "12": "dahdi-dkms", "13": "osmocom-dahdi-dkms"}
_SIDES = {"te": "cpe", "nt": "net"}
_MODES = {"ptmp": "_ptmp", "ptp": ""}
_KEYS = ("side", "mode", "local", "context", "group", "options")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DIALPLAN = re.compile(r"(exten|same|include|ignorepat|switch) ?=> ?\S.*")
_UNIT_TEXT = """\
[Unit]
Description=Configure DAHDI's spans for ISDN
After=systemd-modules-load.service
Before=asterisk.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/dahdi_cfg
ExecStop=/usr/sbin/dahdi_cfg -s

[Install]
WantedBy=multi-user.target
"""


class Span(t.NamedTuple):
    """One line, as isdn_guest_spans describes it."""

    side: str
    mode: str
    local: int | None
    context: str
    group: int
    options: t.Mapping[str, t.Any]


def judge(wanted: t.Mapping[str, t.Any]) -> list[str]:
    """What is wrong with the variables that are for DAHDI."""
    faults = _read_spans(wanted["spans"])[1]
    if wanted["provider"] == "dahdi" and wanted["dialplan"] and not wanted["asterisk"]:
        faults.append("isdn_guest_dialplan is for Asterisk; set isdn_guest_asterisk: true, or leave it out")
    return [*faults, *_dialplan(wanted["dialplan"])]


def make_plan(
    cards: t.Sequence[Card], wanted: t.Mapping[str, t.Any], machine: t.Mapping[str, t.Any]
) -> dict[str, t.Any]:
    """The part of the plan that DAHDI is for; see the filter isdn_plan."""
    ports = sum(card["ports"] or 0 for card in cards if card["dahdi"])
    described, wrong = _read_spans(wanted["spans"])
    spans = _number_spans(described, ports)
    local = [span for span in spans if span.local is not None]
    modules = list(dict.fromkeys(card["dahdi"] for card in cards if card["dahdi"]))
    modules += ["dahdi_dynamic", "dahdi_dynamic_loc"] if local else []
    blocks = {SYSTEM: _system(spans)}
    if wanted["asterisk"]:
        blocks[CHANNELS] = "\n".join(_section(number, span) for number, span in enumerate(spans, 1))
        blocks[EXTENSIONS] = _extensions(wanted["dialplan"])
    return {
        "faults": [
            *_machine(wanted, machine),
            *_cards(cards),
            *([] if wrong else _ports(described, ports)),
            *_lines(cards, spans),
        ],
        "modules": ["dahdi", *modules],
        "rivals": sorted({module for card in cards for module in card["modules"]}),
        "packages": _packages(wanted, machine),
        "blocks": {path: text for path, text in blocks.items() if text},
        "spans": [{**span._asdict(), "number": number} for number, span in enumerate(spans, 1)],
        "lines": len(local),
        "files": {UNIT: _UNIT_TEXT},
        # Else spans wait for a number until somebody assigns them; Debian's tools then leave them to us.
        "options": {"dahdi": "auto_assign_spans=1"},
    }


def _packages(wanted: t.Mapping[str, t.Any], machine: t.Mapping[str, t.Any]) -> list[str]:
    """The headers of the kernel that runs, and those of the kernels to come, for which DKMS builds the modules too."""
    kernel = machine["kernel"]
    flavour = re.sub(r"^[^-]*-([^-]*\d-)?", "", kernel)
    found = [_DKMS.get(machine["major"], ""), "dahdi", f"linux-headers-{kernel}", f"linux-headers-{flavour}"]
    return found + (["asterisk", "asterisk-dahdi"] if wanted["asterisk"] else [])


def _machine(wanted: t.Mapping[str, t.Any], machine: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    system = f"{machine['distribution']} {machine['major']}"
    if machine["distribution"] != "Debian" or machine["major"] not in _DKMS:
        yield f"it runs {system}; DAHDI with the drivers of ISDN cards is in Debian 11, 12 and 13"
    elif not machine["headers"]:
        yield (
            f"no linux-headers-{machine['kernel']} is to be had, which DAHDI's modules are built with. Run apt update;"
            " if the archive has a newer kernel by now, install that and boot it"
        )
    if wanted["asterisk"] and (machine["distribution"], machine["major"]) != ("Debian", "11"):
        yield (
            f"isdn_guest_asterisk: it runs {system}, and of Debian 11, 12 and 13 only Debian 11 has Asterisk with its"
            " channel driver for DAHDI (asterisk-dahdi)"
        )


def _cards(cards: t.Sequence[Card]) -> t.Iterator[str]:
    for card in cards:
        if not card["dahdi"]:
            name = f"{card['address']} ({card['id']}, board {card['subsystem_id']}, {card['card']})"
            other = " Linux has: set isdn_guest_provider: misdn" if card["modules"] and not card["refused"] else ""
            yield f"{name}: DAHDI has no driver for it.{other}"


def _lines(cards: t.Sequence[Card], spans: t.Sequence[Span]) -> t.Iterator[str]:
    if not cards and not spans:
        yield (
            "none of its PCI devices is an ISDN card, and isdn_guest_spans has no local lines. Give it a card"
            " (kvm_guest_pci_devices), or two spans with the same number as local"
        )


def _read_spans(raw: t.Any) -> tuple[list[Span], list[str]]:
    """The spans as they are described, and what is wrong with that."""
    spans: list[Span] = []
    faults: list[str] = []
    for number, entry in enumerate(raw, 1):
        try:
            spans.append(_span(entry))
        except InvalidInput as error:
            faults.append(f"isdn_guest_spans, entry {number}: {error}")
    ends = [span for span in spans if span.local is not None]
    for local in dict.fromkeys(span.local for span in ends):
        sides = sorted(span.side for span in ends if span.local == local)
        if sides != ["nt", "te"]:
            faults.append(
                f"isdn_guest_spans: the local line {local} has the ends {' and '.join(sides)}; it has two, one with"
                " side: nt and one with side: te"
            )
    return spans, faults


def _ports(spans: t.Sequence[Span], ports: int) -> t.Iterator[str]:
    on_cards = [span for span in spans if span.local is None]
    if len(on_cards) > ports:
        yield (
            f"isdn_guest_spans describes {len(on_cards)} ports of cards, and those that DAHDI drives have {ports}."
            " Remove what is too much, or make a local line of it by the key local"
        )


def _number_spans(described: t.Sequence[Span], ports: int) -> list[Span]:
    """All spans in their order: of each port of a card, described or not, and of local lines."""
    on_cards = [span for span in described if span.local is None]
    on_cards += [_span({})] * (ports - len(on_cards))
    ordered = [*on_cards, *(span for span in described if span.local is not None)]
    return [span._replace(group=span.group or number) for number, span in enumerate(ordered, 1)]


def _span(entry: t.Any) -> Span:
    if not isinstance(entry, Mapping):
        raise InvalidInput(f"{entry!r} is no dictionary. Write it as {{side: te, mode: ptmp, context: isdn}}")
    unknown = [str(key) for key in entry if key not in _KEYS]
    if unknown:
        raise InvalidInput(f"{', '.join(unknown)} is no key of a span; there are {', '.join(_KEYS)}")
    local, group = (_number(key, entry.get(key)) for key in ("local", "group"))
    options = entry.get("options", {})
    if not isinstance(options, Mapping) or not all(
        _NAME.fullmatch(str(key)) and "\n" not in str(options[key]) for key in options
    ):
        raise InvalidInput(
            f"options is {options!r}; it is a dictionary of settings of chan_dahdi.conf, each on one line"
        )
    context = str(entry.get("context", "isdn"))
    if not _NAME.fullmatch(context):
        raise InvalidInput(f"context is {context!r}; the name of a context has letters, digits, - and _")
    return Span(
        side=_word("side", entry.get("side", "te"), _SIDES),
        mode=_word("mode", entry.get("mode", "ptmp" if local is None else "ptp"), _MODES),
        local=local,
        context=context,
        group=group or 0,
        options=options,
    )


def _word(key: str, value: t.Any, words: t.Mapping[str, str]) -> str:
    if str(value) not in words:
        raise InvalidInput(f"{key} is {value!r}; it is one of {', '.join(words)}")
    return str(value)


def _number(key: str, value: t.Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, (bool, float)) or not re.fullmatch(r"[1-9]\d?", str(value)) or int(value) > 63:
        raise InvalidInput(f"{key} is {value!r}; it is a number from 1 to 63")
    return int(value)


def _system(spans: t.Sequence[Span]) -> str:
    """The block in system.conf. The timing of all spans comes from lines that others clock, those of terminals."""
    lines: list[str] = []
    channels: list[str] = []
    timing = 0
    ends: dict[int, int] = {}
    for number, span in enumerate(spans, 1):
        first = 3 * number - 2
        channels.append(f"bchan={first}-{first + 1}")
        if span.local is None:
            timing += span.side == "te"
            lines.append(f"span={number},{timing if span.side == 'te' else 0},0,ccs,ami")
            channels.append(f"hardhdlc={first + 2}")
        else:
            end = ends[span.local] = ends.get(span.local, -1) + 1
            lines.append(f"dynamic=loc,{span.local}:{end},3,0")
            channels.append(f"dchan={first + 2}")
    return "\n".join(lines + channels)


def _section(number: int, span: Span) -> str:
    settings = {
        "switchtype": "euroisdn",
        "signalling": f"bri_{_SIDES[span.side]}{_MODES[span.mode]}",
        "context": span.context,
        "group": span.group,
        **span.options,
        "dahdichan": f"{3 * number - 2}-{3 * number - 1}",
    }
    return "\n".join([f"[isdn-span-{number}]", *(f"{name}={_text(value)}" for name, value in settings.items())])


def _text(value: t.Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _extensions(dialplan: t.Mapping[str, t.Any]) -> str:
    return "\n".join("\n".join([f"[{context}]", *map(str, lines)]) for context, lines in dialplan.items())


def _dialplan(dialplan: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    for context, lines in dialplan.items():
        if not _NAME.fullmatch(str(context)) or context in ("general", "globals"):
            yield f"isdn_guest_dialplan: {context!r} cannot be the name of a context; take letters, digits, - and _"
        for line in lines if isinstance(lines, (list, tuple)) else [lines]:
            if not isinstance(lines, (list, tuple)) or not _DIALPLAN.fullmatch(str(line)):
                yield (
                    f"isdn_guest_dialplan, context {context}: {line!r} is no line of a dialplan. A context has a list"
                    " of lines such as exten => 100,1,Answer()"
                )
