# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of ISDN over IP: from variables to the options of the kernel's module l1oip.

Its parameters are arrays, one position for each line (drivers/isdn/mISDN/l1oip_core.c). All of them are always written,
so that what a loaded module runs with can be compared.
"""

from __future__ import annotations

import ipaddress
import itertools
import typing as t
from collections.abc import Mapping

from ._errors import InvalidInput

TYPES = {"bri": 1, "pri": 2}
CODECS = {"transparent": 0, "alaw": 1, "ulaw": 2, "4bit": 3}
MOST = 16
PORT = 931
"""Of the first line, if it names none; the next has the next."""
PARAMETERS = ("type", "codec", "ip", "port", "remoteport", "ondemand", "id")


class Line(t.NamedTuple):
    """One line as the kernel is told of it."""

    type: int
    codec: int
    ip: str
    port: int
    remoteport: int
    ondemand: int
    id: int

    def faces(self, other: Line) -> bool:
        """Whether the other line is, or may be, this one's far end on the same machine."""
        return (self.port, self.remoteport) == (other.remoteport, other.port)


def read_lines(raw: t.Any) -> tuple[list[Line], list[str]]:
    """The lines of isdn_guest_l1oip, and what is wrong with it; with faults, only the lines that are in order."""
    lines: dict[int, Line] = {}
    faults: list[str] = []
    if len(raw) > MOST:
        faults.append(f"isdn_guest_l1oip has {len(raw)} lines, and the module l1oip takes {MOST}")
    for number, entry in enumerate(raw, 1):
        try:
            lines[number] = _line(entry, number)
        except InvalidInput as error:
            faults.append(f"isdn_guest_l1oip, line {number}: {error}")
    for (first, one), (second, other) in itertools.combinations(lines.items(), 2):
        faults += [f"isdn_guest_l1oip, lines {first} and {second}: {fault}" for fault in _clashes(one, other)]
    return list(lines.values()), faults


def options(lines: t.Sequence[Line]) -> str:
    """The options of the module for these lines, `type=1,1 codec=0,0` and so on."""
    columns = ((name, [str(getattr(line, name)) for line in lines]) for name in PARAMETERS)
    return " ".join(f"{name}={','.join(values)}" for name, values in columns)


def _line(entry: t.Any, number: int) -> Line:
    known = ("type", "codec", "remote", "port", "remote_port", "ondemand", "id")
    if not isinstance(entry, Mapping):
        raise InvalidInput(f"{entry!r} is no dictionary. Write it as {{type: bri, remote: 192.0.2.7, id: 305419896}}")
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise InvalidInput(f"{', '.join(unknown)} is no key of a line; there are {', '.join(known)}")
    if entry.get("id") is None:
        raise InvalidInput(
            "id is missing. Take a random number from 1 to 4294967295, and the same at the other end; without it the"
            " kernel would take frames of anybody"
        )
    port = _number("port", entry.get("port", PORT + number - 1), 65535)
    return Line(
        type=_word("type", entry.get("type", "bri"), TYPES),
        codec=_word("codec", entry.get("codec", "transparent"), CODECS),
        ip=_ip(entry.get("remote")),
        port=port,
        remoteport=_number("remote_port", entry.get("remote_port", port), 65535),
        ondemand=_flag("ondemand", entry.get("ondemand", False)),
        id=_number("id", entry["id"], 2**32 - 1),
    )


def _clashes(one: Line, other: Line) -> t.Iterator[str]:
    if one.port == other.port:
        yield f"both have port {one.port}; give each a port of its own"
    if one.id == other.id and not one.faces(other):
        yield (
            f"both have id {one.id}, which is for the two ends of one line; take another number, or cross port and"
            " remote_port if one is to be the far end of the other"
        )


def _word(key: str, value: t.Any, words: t.Mapping[str, int]) -> int:
    if str(value) not in words:
        raise InvalidInput(f"{key} is {value!r}; it is one of {', '.join(words)}")
    return words[str(value)]


def _number(key: str, value: t.Any, most: int) -> int:
    try:
        number = 0 if isinstance(value, (bool, float)) else int(str(value), 0)
    except ValueError:
        number = 0
    if not 1 <= number <= most:
        raise InvalidInput(f"{key} is {value!r}; it is a number from 1 to {most}")
    return number


def _flag(key: str, value: t.Any) -> int:
    if not isinstance(value, bool):
        raise InvalidInput(f"{key} is {value!r}; it is true or false")
    return int(value)


def _ip(value: t.Any) -> str:
    """Four bytes for the kernel; all 0, without an address, waits for whoever comes with the right id."""
    if value is None:
        return "0,0,0,0"
    try:
        return str(ipaddress.IPv4Address(str(value))).replace(".", ",")
    except ValueError:
        raise InvalidInput(
            f"remote is {value!r}; it is an address of IPv4 such as 192.0.2.7, for l1oip knows no names and no IPv6"
        ) from None
