# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of VDR that VDR itself writes again: setup.conf, channels.conf and timers.conf (vdr(5)).

A wanted line is looked for by what it is about, and a file that has all of them is left as VDR wrote it.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import typing as t

Wanted = t.Mapping[str, t.Any]

PLUGINS = {
    "streamdev-server": "/etc/vdr/plugins/streamdevhosts.conf",
    "vnsiserver": "/etc/vdr/plugins/vnsiserver/allowed_hosts.conf",
}
"""Plugins that stream, and the file with the addresses that each serves."""

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z][A-Za-z0-9_]*)?\Z")
# Flags, channel, day (one date, weekdays, or weekdays from a date on), start, stop, priority, lifetime, file, rest.
_TIMER = re.compile(
    r"\d+:[^:]+:([MTWFS-]{7}(@(?P<since>\d{4}-\d\d-\d\d))?|(?P<date>\d{4}-\d\d-\d\d)):(?P<start>\d{4}):(?P<stop>\d{4})"
    r":\d{1,2}:\d{1,2}:[^:\n]+:[^\n]*\Z"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")
_CLOCK = re.compile(r"([01]\d|2[0-3])[0-5]\d\Z")
_HOSTS = re.compile(r"[0-9.]+(/\d{1,2})?\Z")
# Name;provider, frequency, parameters, source, symbol rate, VPID, APID, TPID, CA, SID, NID, TID, RID.
_CHANNEL_FIELDS = 13


def faults(wanted: Wanted) -> list[str]:
    """What is wrong with the variables channels, svdrp_hosts, plugins, settings and timers."""
    found = [f"dvbt_guest_channels: {why}" for why in map(_channel_fault, wanted["channels"]) if why]
    hosts = {"dvbt_guest_svdrp_hosts": wanted["svdrp_hosts"]}
    for plugin, allowed in wanted["plugins"].items():
        if plugin not in PLUGINS:
            found.append(
                f"dvbt_guest_plugins has {plugin}; those whose access the role can limit are {' and '.join(PLUGINS)}"
            )
        hosts[f"dvbt_guest_plugins, {plugin}"] = allowed
    for where, addresses in hosts.items():
        if isinstance(addresses, str) or not isinstance(addresses, t.Sequence):
            found.append(f"{where} is {addresses!r}; it is a list of addresses such as 192.0.2.0/24")
            continue
        found += [f"{where} has {address!r}; {_ADDRESS}" for address in addresses if not _address(address)]
    for key, value in wanted["settings"].items():
        if not _KEY.match(str(key)):
            found.append(f"dvbt_guest_settings has {key!r}; a key of setup.conf is a word such as EPGScanTimeout")
        elif isinstance(value, (dict, list)) or "\n" in str(value):
            found.append(f"dvbt_guest_settings, {key} is {value!r}; it is one word, number or line")
    seen = set()
    for timer in map(str, wanted["timers"]):
        if not _is_timer(timer):
            found.append(
                f"dvbt_guest_timers has {timer!r}; a timer is FLAGS:CHANNEL:DAY:START:STOP:PRIORITY:LIFETIME:TITLE:"
                f" as in 1:1:MTWTF--:2000:2015:50:99:News:"
            )
        elif _about(timer) in seen:
            found.append(f"dvbt_guest_timers has {timer!r} twice: one day, start, stop and title are one timer")
        seen.add(_about(timer))
    if wanted["channels"] and wanted["scan"]:
        found.append("dvbt_guest_channels and dvbt_guest_scan are both set; channels are given, or scanned for")
    return found


_ADDRESS = "it is an address of IPv4, with or without the length of a network, such as 192.0.2.0/24"


def _address(text: t.Any) -> bool:
    """Whether VDR takes it: the length of a network, no mask, and everybody as 0.0.0.0/0 alone (VDR: cSVDRPhost)."""
    try:
        network = ipaddress.IPv4Network(str(text), strict=False)
    except ValueError:
        return False
    return bool(_HOSTS.match(str(text))) and (network.prefixlen > 0 or str(text) == "0.0.0.0/0")


def _is_timer(text: str) -> bool:
    found = _TIMER.match(text)
    if not found:
        return False
    try:
        datetime.date.fromisoformat(found["date"] or found["since"] or "2000-01-01")
    except ValueError:
        return False
    return bool(_CLOCK.match(found["start"]) and _CLOCK.match(found["stop"]))


def _channel_fault(line: t.Any) -> str:
    text = str(line)
    if text.startswith(":"):
        return ""
    fields = text.split(":")
    if len(fields) != _CHANNEL_FIELDS or "\n" in text or not fields[1].isdigit():
        return f"{text!r} is no line of channels.conf: {_CHANNEL_FIELDS} fields, of which the second is the frequency"
    if fields[3] != "T":
        return f"{text!r} has the source {fields[3]}; that of DVB-T is T"
    return ""


def hosts(addresses: t.Sequence[str]) -> str:
    """The text of svdrphosts.conf and its like: these addresses and the guest itself, and nobody else."""
    lines = dict.fromkeys(("127.0.0.1", *map(str, addresses)))
    return "# Written by the role kvm.passthrough.dvbt_guest. What is changed here is lost.\n" + "".join(
        f"{line}\n" for line in lines
    )


def setup(text: str, wanted: t.Mapping[str, t.Any]) -> str:
    """setup.conf with these keys: the same text where it has them with these values."""
    # VDR does not tell capitals from small letters in them (VDR: cSetup::Parse).
    said = {key.lower(): (key, _value(value)) for key, value in wanted.items()}
    lines, seen = [], set()
    for line in text.splitlines():
        key, _equals, value = (part.strip() for part in line.partition("="))
        if key.lower() in said:
            seen.add(key.lower())
            line = line if value == said[key.lower()][1] else f"{key} = {said[key.lower()][1]}"
        lines.append(line)
    lines += [f"{key} = {value}" for name, (key, value) in said.items() if name not in seen]
    return _text(lines, text)


def _value(value: t.Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def channels(text: str, wanted: t.Sequence[str]) -> str:
    """channels.conf with these channels in this order: the same text where it has them, whatever VDR has added."""
    if not wanted or _order(text.splitlines()) == _order(wanted):
        return text
    return "".join(f"{line}\n" for line in wanted)


def _order(lines: t.Iterable[str]) -> list[tuple[str, ...]]:
    """What the lines are about: groups by name; channels by name, frequency, source and SID."""
    found: list[tuple[str, ...]] = []
    for line in lines:
        fields = line.split(":")
        if line.startswith(":"):
            found.append((line,))
        elif len(fields) == _CHANNEL_FIELDS:
            found.append((re.split("[,;]", fields[0])[0], fields[1], fields[3], fields[9]))
    return found


def timers(text: str, wanted: t.Sequence[str], before: t.Sequence[str], now: str) -> str:
    """timers.conf with the wanted timers, and without those of before that are wanted no more.

    VDR writes the channel, the flags and the rest of a timer anew, so that day, start, stop and title tell which one it
    is. It removes a timer of one day that is over; now is the guest's clock, YYYY-MM-DD HHMM.
    """
    coming = [timer for timer in wanted if not _is_over(timer, now)]
    kept = {_about(timer) for timer in wanted}
    dropped = {_about(timer) for timer in before} - kept
    lines = [line for line in text.splitlines() if _about(line) not in dropped]
    there = {_about(line) for line in lines}
    return _text(lines + [timer for timer in coming if _about(timer) not in there], text)


def _is_over(timer: str, now: str) -> bool:
    """Whether a timer of one day has ended; one that stops before it starts ends on the next day."""
    day, start, stop, _title = _about(timer)
    if not _DATE.match(day):
        return False
    end = datetime.date.fromisoformat(day) + datetime.timedelta(days=stop <= start)
    return f"{end} {stop}" <= now


def _about(timer: str) -> tuple[str, str, str, str]:
    """Day, start, stop and title. The date from which weekdays count is left out, as VDR does once it has come."""
    fields = [*timer.split(":"), *[""] * 9]
    return fields[2].partition("@")[0], fields[3], fields[4], fields[7]


def _text(lines: t.Sequence[str], before: str) -> str:
    text = "".join(f"{line}\n" for line in lines)
    return before if text.splitlines() == before.splitlines() else text


def files(wanted: Wanted, present: t.Mapping[str, str], now: str) -> dict[str, str]:
    """By name the files that VDR writes again and that have to be others than they are, with their texts."""
    texts = {
        "setup.conf": setup(present["setup.conf"], wanted["settings"]),
        "channels.conf": channels(present["channels.conf"], wanted["channels"]),
        "timers.conf": timers(present["timers.conf"], wanted["timers"], present["before"].splitlines(), now),
    }
    return {name: text for name, text in texts.items() if text != present[name]}
