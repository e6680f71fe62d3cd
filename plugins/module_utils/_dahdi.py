# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spans of DAHDI: /sys/bus/dahdi_spans, and /proc/dahdi for the signalling of their channels.

DAHDI is not part of the kernel; the attributes are those of its dahdi-sysfs.c, the lines those of dahdi_seq_show() in
its dahdi-base.c, the bits of an alarm those of its user.h.
"""

from __future__ import annotations

import os
import re
import typing as t

from ._sysfs import below, link_name, names, read_int, read_text
from ._use import DEVICES, addresses

Facts = t.Dict[str, t.Any]

SPANS = "/sys/bus/dahdi_spans/devices"
ALARMS = {0: "RECOVERING", 1: "LOOP", 2: "YELLOW", 3: "RED", 4: "BLUE", 5: "NOTOPEN", 8: "LOS", 9: "LFA", 10: "LMFA"}
_CHANNEL = re.compile(r"\t *\d+ (.*)")
# What sigstr() says, between the channel's name and what is in brackets.
_SIGNALLING = re.compile(
    r"(?:^| )(Hardware-assisted HDLC|HDLC(?:RAW|FCS|NET)|Clear|E&M(?:-E1)?|FX[SO][LKG]S|MTP2|Slave|CAS|DACS(?:\+RBS)?"
    r"|SF \(ToneOnly\)|Reserved)(?: |$)"
)


def read_dahdi(root: str = "/") -> Facts:
    """The part dahdi of the fact isdn; its keys are documented in isdn_facts."""
    folder = below(root, SPANS)
    found = [read_span(root, name) for name in names(folder)]
    return {
        "available": os.path.isdir(folder),
        "version": read_text(below(root, "/sys/module/dahdi/version")),
        "spans": sorted((span for span in found if span is not None), key=lambda span: span["number"]),
    }


def read_span(root: str, name: str) -> Facts | None:
    """One span by its name on the bus, span-NUMBER; None if it has gone."""
    folder, number = below(root, f"{SPANS}/{name}"), name.partition("-")[2]
    channels = read_int(f"{folder}/channels")
    if channels is None:
        return None
    leading = addresses(root, f"{SPANS}/{name}")
    address = leading[-1] if leading else None  # those before it are bridges
    return {
        "number": int(number),
        "name": read_text(f"{folder}/name"),
        "description": read_text(f"{folder}/desc"),
        "type": read_text(f"{folder}/spantype"),
        "line": read_text(f"{folder}/lineconfig") or None,
        "channels": channels,
        "first_channel": read_int(f"{folder}/basechan"),
        "signalling": signalling(read_text(below(root, f"/proc/dahdi/{number}")) or ""),
        "alarms": alarms(read_int(f"{folder}/alarms", 16) or 0),
        "master": read_int(f"{folder}/is_sync_master") == 1,
        "address": address,
        "driver": link_name(below(root, f"{DEVICES}/{address}/driver")) if address else None,
    }


def alarms(mask: int) -> list[str]:
    """The names of an alarm's bits, as DAHDI's tools write them; empty where all is well."""
    return [name for bit, name in ALARMS.items() if mask & 1 << bit]


def signalling(text: str) -> list[str | None]:
    """What the channels are configured for, in their order, from the text of /proc/dahdi/SPAN; None is: for nothing."""
    found = []
    for line in text.splitlines():
        channel = _CHANNEL.match(line)
        if channel:
            configured = _SIGNALLING.search(channel[1])
            found.append(configured[1] if configured else None)
    return found
