# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selectors: how a user names PCI devices, and which devices of a host that means.

The devices are those of pci_facts, possibly from a cache of facts; so a missing field is no error, but no match.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ._errors import InvalidInput

# Facts as they come, from the module itself or through a template.
Device = t.Mapping[str, t.Any]

_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])\Z")
_ID = re.compile(r"[0-9a-f]{4}:(?:[0-9a-f]{4}|\*)\Z")
_CLASS = re.compile(r"(?:[0-9a-f]{2}){1,3}\Z")
_STEP = re.compile(r"[01][0-9a-f]\.[0-7]\Z")
_SHOWN = 20


@dataclass(frozen=True)
class Selector:
    """One selector: its conditions by key, how many devices it has to match, and the user's spelling of it."""

    written: str
    conditions: tuple[tuple[str, str], ...]
    # A number, "all" for one or more, or None where the user did not say.
    count: int | str | None = None

    def matches(self, device: Device) -> bool:
        return all(_KEYS[key].matches(device, value) for key, value in self.conditions)


@dataclass(frozen=True)
class _Key:
    """One key of selectors: its value in the kernel's spelling, and whether a device has it."""

    parse: t.Callable[[t.Any], str]
    matches: t.Callable[[Device, str], bool]


def parse_address(value: t.Any) -> str:
    """The full spelling of a PCI address, 0000:06:00.0, whether its domain was written or not."""
    found = _ADDRESS.match(_text(value, "a PCI address", "81:00.0"))
    if found is None:
        raise InvalidInput(f"{value!r} is no PCI address. Write it as 0000:06:00.0, or 06:00.0 in domain 0000")
    domain, bus, slot, function = found.groups()
    return f"{domain or '0000'}:{bus}:{slot}.{function}"


def parse_selectors(raw: t.Any) -> list[Selector]:
    """The selectors of a list; a single one may stand without the list."""
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Sequence):
        raw = [raw]
    return [_parse_selector(item) for item in raw]


def select(devices: t.Iterable[Device], selectors: t.Iterable[Selector]) -> list[Device]:
    """The devices in the order of the selectors; each matches as many as it says, and no two the same device."""
    candidates = list(devices)
    chosen: list[Device] = []
    takers: dict[str, Selector] = {}
    for selector in selectors:
        for device in _matching(candidates, selector, 1 if selector.count is None else selector.count):
            other = takers.setdefault(device["address"], selector)
            if other is not selector:
                raise InvalidInput(
                    f"Selector {other.written} and selector {selector.written} both match {_describe(device)}."
                    " Remove one of them, or add a key that tells their devices apart"
                )
            chosen.append(device)
    return chosen


def narrow(devices: t.Iterable[Device], selectors: t.Iterable[Selector]) -> list[Device]:
    """The devices that any of the selectors matches, in their own order; only a written count is enforced."""
    candidates = list(devices)
    wanted = {device["address"] for selector in selectors for device in _matching(candidates, selector, selector.count)}
    return [device for device in candidates if device["address"] in wanted]


def _matching(devices: list[Device], selector: Selector, count: int | str | None) -> list[Device]:
    found = [device for device in devices if selector.matches(device)]
    if count is None or len(found) == count or (count == "all" and found):
        return found
    expected = "at least one is needed" if count == "all" else f"{count} {'is' if count == 1 else 'are'} needed"
    if found:
        raise InvalidInput(
            f"Selector {selector.written} matches {len(found)} {'device' if len(found) == 1 else 'devices'},"
            f" {expected}. They are: {_listed(found)}. Add a key that tells them apart, such as address or path,"
            " or say how many with count"
        )
    near = [
        device for device in devices if any(_KEYS[key].matches(device, value) for key, value in selector.conditions)
    ]
    raise InvalidInput(
        f"Selector {selector.written} matches no device, {expected}."
        + (f" Some of its keys match: {_listed(near)}" if near else f" The devices are: {_listed(devices)}")
    )


def _listed(devices: list[Device]) -> str:
    more = [f"and {len(devices) - _SHOWN} more"] if len(devices) > _SHOWN else []
    return "; ".join([_describe(device) for device in devices[:_SHOWN]] + more) or "none"


def _describe(device: Device) -> str:
    names = " ".join(filter(None, (device.get("vendor_name"), device.get("device_name"))))
    driver = device.get("driver")
    return (
        f"{device.get('address')} [{device.get('id')}]{' ' + names if names else ''}"
        f" ({'driver ' + driver if driver else 'no driver'})"
    )


def _parse_selector(raw: t.Any) -> Selector:
    if isinstance(raw, str):
        key = "address" if "." in raw else "id"
        try:
            return Selector(_written(raw), ((key, _KEYS[key].parse(raw)),))
        except InvalidInput:
            raise InvalidInput(
                f"{_written(raw)} is no selector: as plain text it is an address such as '06:00.0', or an id such as"
                f" '1397:08b4'. Other keys are written as {{key: value}}, with the keys {_known_keys()}"
            ) from None
    if not isinstance(raw, Mapping):
        # A number in the list is the same trap as a number behind a key.
        parse_address(raw)
    conditions = []
    for key, value in raw.items():
        if key == "count":
            continue
        if key not in _KEYS:
            raise InvalidInput(
                f"Selector {_written(raw)} has the unknown key {key}. Known keys are {_known_keys()}, count"
            )
        try:
            conditions.append((str(key), _KEYS[key].parse(value)))
        except InvalidInput as error:
            raise InvalidInput(f"Selector {_written(raw)}: {key}: {error}") from None
    if not conditions:
        raise InvalidInput(
            f"Selector {_written(raw)} names no device. It needs at least one of the keys {_known_keys()}"
        )
    return Selector(_written(raw), tuple(conditions), _count(raw))


def _count(raw: t.Mapping[str, t.Any]) -> int | str | None:
    count = raw.get("count")
    if count is None or count == "all":
        return count
    try:
        number = 0 if isinstance(count, (bool, float)) else int(count)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise InvalidInput(f"Selector {_written(raw)}: count is a number from 1 on, or all, not {count!r}")
    return number


def _known_keys() -> str:
    return ", ".join(_KEYS)


def _written(raw: t.Any) -> str:
    """The user's spelling; JSON, since it is YAML as well and looks the same for every kind of template result."""
    return json.dumps(raw, ensure_ascii=False, default=str)


def _text(value: t.Any, what: str, example: str) -> str:
    """The value in lower case; a number is what YAML makes of unquoted digits, and cannot be turned back."""
    if isinstance(value, (int, float)):
        raise InvalidInput(
            f"{value!r} is a number where {what} belongs: YAML reads unquoted digits as a number, 81:00.0 in base 60 as"
            f" 4860.0, 020000 in base 8 as 8192. Quote it, as in '{example}'"
        )
    if not isinstance(value, str):
        raise InvalidInput(f"{value!r} stands where {what} belongs. Write it as '{example}'")
    return value.strip().lower()


def _parse_id(value: t.Any) -> str:
    text = _text(value, "an id", "1397:08b4")
    if not _ID.match(text):
        raise InvalidInput(f"{value!r} is no id. Write it as '1397:08b4', or as '1397:*' for all devices of a vendor")
    return text


def _parse_class(value: t.Any) -> str:
    text = _text(value, "a class", "020000")
    if not _CLASS.match(text):
        raise InvalidInput(f"{value!r} is no class. Write 2, 4 or 6 hexadecimal digits, such as '02' or '020000'")
    return text


def _parse_driver(value: t.Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{value!r} is no name of a driver or module")
    return value.strip().replace("-", "_")


def _parse_path(value: t.Any) -> str:
    first, *steps = _text(value, "a path", "0000:00:1c.0/00.0").split("/")
    try:
        root = parse_address(first)
    except InvalidInput:
        root = ""
    if not root or not all(_STEP.match(step) for step in steps):
        raise InvalidInput(f"{value!r} is no path. Write it as lspci -D -P does, such as '0000:00:1c.0/00.0'")
    return "/".join([root, *steps])


def _has_id(key: str) -> t.Callable[[Device, str], bool]:
    def matches(device: Device, value: str) -> bool:
        found = str(device.get(key) or "")
        return found.startswith(value[:-1]) if value.endswith("*") and found else found == value

    return matches


def _has_driver(device: Device, value: str) -> bool:
    names = [device.get("driver"), *(device.get("modules") or ())]
    return any(name is not None and name.replace("-", "_") == value for name in names)


# A key more is a line more.
_KEYS: dict[str, _Key] = {
    "address": _Key(parse_address, lambda device, value: device.get("address") == value),
    "id": _Key(_parse_id, _has_id("id")),
    "subsystem_id": _Key(_parse_id, _has_id("subsystem_id")),
    "class": _Key(_parse_class, lambda device, value: (device.get("class") or "").startswith(value)),
    "driver": _Key(_parse_driver, _has_driver),
    "path": _Key(_parse_path, lambda device, value: device.get("path") == value),
}
