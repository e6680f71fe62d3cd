# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selectors: how a user names PCI devices, and which devices of a host that means.

The devices are those of pci_facts, possibly from a cache of facts; so a missing field is no error, but no match.
"""

from __future__ import annotations

import json
import re
import sys
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ._cards import family
from ._errors import InvalidInput

# Facts as they come, from the module itself or through a template.
Device = t.Mapping[str, t.Any]

_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])\Z")
_ID = re.compile(r"[0-9a-f]{4}:(?:[0-9a-f]{4}|\*)\Z")
_CLASS = re.compile(r"(?:[0-9a-f]{2}){1,3}\Z")
_STEP = re.compile(r"[01][0-9a-f]\.[0-7]\Z")
_SHOWN = 20
_QUERY = "[?driver=='hfc_multi']"


@dataclass(frozen=True)
class Selector:
    """One selector: its conditions by key, how many devices it has to match, and the user's spelling of it."""

    written: str
    conditions: tuple[tuple[str, str], ...]
    # A number, "all" for one or more, or None where the user did not say.
    count: int | str | None = None

    def among(self, devices: t.Sequence[Device], some: bool = False) -> list[Device]:
        """Those of the devices that meet all conditions, or some of them."""
        try:
            tests = [_KEYS[key].test(value, devices) for key, value in self.conditions]
        except InvalidInput as error:
            raise InvalidInput(f"Selector {self.written}: {error}") from None
        meets = any if some else all
        return [device for device in devices if meets(test(device) for test in tests)]


_Test = t.Callable[[Device], bool]


@dataclass(frozen=True)
class _Key:
    """One key of selectors: its value in the kernel's spelling, and the test whether one of these devices has it."""

    parse: t.Callable[[t.Any], str]
    test: t.Callable[[str, t.Sequence[Device]], _Test]


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


def narrow(devices: t.Iterable[Device], selectors: t.Iterable[Selector], loosely: bool = False) -> list[Device]:
    """The devices that any of the selectors matches, in their own order; a written count is enforced unless loosely."""
    candidates = list(devices)
    wanted = {
        device["address"]
        for selector in selectors
        for device in _matching(candidates, selector, None if loosely else selector.count)
    }
    return [device for device in candidates if device["address"] in wanted]


def _matching(devices: list[Device], selector: Selector, count: int | str | None) -> list[Device]:
    found = selector.among(devices)
    if count is None or len(found) == count or (count == "all" and found):
        return found
    expected = "at least one is needed" if count == "all" else f"{count} {'is' if count == 1 else 'are'} needed"
    if found:
        raise InvalidInput(
            f"Selector {selector.written} matches {len(found)} {'device' if len(found) == 1 else 'devices'},"
            f" {expected}. They are: {_listed(found)}. Add a key that tells them apart, such as address or path,"
            " or say how many with count"
        )
    near = selector.among(devices, some=True)
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


def _parse_card(value: t.Any) -> str:
    return family(_text(value, "a family of cards", "hfc-4s")).name


def _parse_query(value: t.Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{value!r} stands where a JMESPath query belongs. Write it as {_QUERY}")
    _compile(value)
    return value


def _compile(query: str) -> t.Any:
    """The query, ready to search with. Its library is needed by nothing else, and seldom there on a target."""
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError
    except ImportError:
        raise InvalidInput(
            f"a query needs Python's jmespath, which is missing here ({sys.executable}). Install the package"
            " python3-jmespath, or resolve the query on the controller with the filter kvm.passthrough.pci_select"
        ) from None
    try:
        return jmespath.compile(query)
    except JMESPathError as error:
        raise InvalidInput(f"this is no JMESPath query: {_complaint(error)}") from None


def _complaint(error: Exception) -> str:
    """What JMESPath says, without the query and the pointer into it that follow on lines of their own."""
    return str(error).partition("\n")[0].partition(", for expression:")[0].rstrip(":")


def _named_by(query: str, devices: t.Sequence[Device]) -> _Test:
    """The test for devices that the result of a query names: the devices themselves, or their addresses."""
    # JMESPath knows types by name, and not those that a template makes of strings and lists.
    plain = json.loads(json.dumps(list(devices), default=str))
    try:
        result = _compile(query).search(plain)
    except ValueError as error:  # that of JMESPath's errors
        raise InvalidInput(f"the query fails: {_complaint(error)}") from None
    if result is None:
        result = []
    addresses = [_address_in(item) for item in (result if isinstance(result, list) else [result])]
    return lambda device: device.get("address") in addresses


def _address_in(item: t.Any) -> str:
    address = item.get("address") if isinstance(item, dict) else item
    try:
        return parse_address(address)
    except InvalidInput:
        raise InvalidInput(
            f"the query gives {_written(item)} where a device or its address is needed. Write it as {_QUERY}"
        ) from None


def _each(matches: t.Callable[[Device, str], bool]) -> t.Callable[[str, t.Sequence[Device]], _Test]:
    """A test that looks at one device at a time."""
    return lambda value, devices: lambda device: matches(device, value)


def _has_id(key: str) -> t.Callable[[Device, str], bool]:
    def matches(device: Device, value: str) -> bool:
        found = str(device.get(key) or "")
        return found.startswith(value[:-1]) if value.endswith("*") and found else found == value

    return matches


def _has_driver(device: Device, value: str) -> bool:
    names = [device.get("driver"), *(device.get("modules") or ())]
    return any(name is not None and name.replace("-", "_") == value for name in names)


def _parse_index(value: t.Any) -> str:
    text = str(value).strip()
    if isinstance(value, (bool, float)) or not (text.isascii() and text.isdecimal()):
        raise InvalidInput(f"{value!r} is no number of a virtual function. The first one of a device is 0")
    return str(int(text))


def _of_function(device: Device, value: str) -> bool:
    return (device.get("sriov") or {}).get("physical_function") == value


def _numbered(index: str, devices: t.Sequence[Device]) -> _Test:
    """The test for virtual functions with this place in the list of their physical function."""
    lists = ((device.get("sriov") or {}).get("virtual_functions") or () for device in devices)
    addresses = {functions[int(index)] for functions in lists if int(index) < len(functions)}
    return lambda device: device.get("address") in addresses


# A key more is a line more.
_KEYS: dict[str, _Key] = {
    "address": _Key(parse_address, _each(lambda device, value: device.get("address") == value)),
    "id": _Key(_parse_id, _each(_has_id("id"))),
    "subsystem_id": _Key(_parse_id, _each(_has_id("subsystem_id"))),
    "class": _Key(_parse_class, _each(lambda device, value: (device.get("class") or "").startswith(value))),
    "driver": _Key(_parse_driver, _each(_has_driver)),
    "path": _Key(_parse_path, _each(lambda device, value: device.get("path") == value)),
    "physical_function": _Key(parse_address, _each(_of_function)),
    "virtual_function": _Key(_parse_index, _numbered),
    "card": _Key(_parse_card, _each(lambda device, value: family(value).has(device))),
    "query": _Key(_parse_query, _named_by),
}
