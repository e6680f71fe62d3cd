# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One XML element laid over another of the same name, with the values compared as libvirt means them. Pure.

What wanted says is set, what it does not say stays. Paths name what is below an element: memoryBacking/locked is a
child, vcpu@cpuset an attribute.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from copy import deepcopy


def overlay(wanted: ET.Element, base: ET.Element, place: str) -> list[str]:
    """Set what wanted says otherwise than base, an element of the same name, and say so."""
    lines = []
    for key, value in wanted.attrib.items():
        if not _same(wanted.tag, key, value, base.get(key)):
            lines.append(f"{place or wanted.tag} {key}: {base.get(key, 'not set')} -> {value}")
            base.set(key, value)
    text, now = (wanted.text or "").strip(), (base.text or "").strip()
    if text and not _same(wanted.tag, "", text, now):
        unit = f" {wanted.get('unit')}" if wanted.get("unit") else ""
        lines.append(f"{place}: {now or 'not set'} -> {text}{unit}")
        base.text = text
    for child in wanted:
        inner = f"{place} {child.tag}".strip()
        match = _match(child, base)
        if match is None:
            base.append(deepcopy(child))
            lines.append(f"{inner}: added")
        else:
            lines += overlay(child, match, inner)
    return lines


def _match(wanted: ET.Element, base: ET.Element) -> ET.Element | None:
    """The child of base that wanted is laid over: one that holds already, or else the first of its name."""
    there = base.findall(wanted.tag)
    return next((other for other in there if not overlay(wanted, deepcopy(other), "")), there[0] if there else None)


def _same(tag: str, key: str, wanted: str, present: str | None) -> bool:
    if present is None:
        return False
    if (tag, key) == ("type", "machine"):
        return present == wanted or present.startswith(_versioned(wanted))
    if key in ("cpuset", "nodeset"):
        return _numbers(present) == _numbers(wanted)
    if tag in ("mac", "uuid"):
        return present.lower() == wanted.lower()
    if tag == "address":  # 0x6 and 0x06
        return _hex(present) == _hex(wanted)
    return present == wanted


def _versioned(machine: str) -> str:
    """How the machine types begin that an alias stands for: q35 is pc-q35-10.0, virt is virt-10.0."""
    return {"pc": "pc-i440fx-", "q35": "pc-q35-"}.get(machine, f"{machine}-")


def _numbers(text: str) -> frozenset[int] | str:
    """A set of processors or nodes, such as 0-3,8; a ^4 takes one away."""
    found: set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.strip().lstrip("^").partition("-")
            numbers = range(int(first), int(last if dash else first) + 1)
            found = found.difference(numbers) if part.strip().startswith("^") else found.union(numbers)
    except ValueError:
        return text
    return frozenset(found)


def _hex(text: str) -> int | str:
    try:
        return int(text, 16)
    except ValueError:
        return text


def _split(base: ET.Element, path: str) -> tuple[ET.Element | None, str, str]:
    """Where a path leads: the element that has it, and the attribute, or the child."""
    if "@" in path:
        tag, attribute = path.split("@")
        return base.find(tag), attribute, ""
    parent, slash, child = path.rpartition("/")
    return base.find(parent) if slash else base, "", child


def has(base: ET.Element, path: str) -> bool:
    holder, attribute, child = _split(base, path)
    return holder is not None and (attribute in holder.attrib if attribute else holder.find(child) is not None)


def value(base: ET.Element, path: str) -> str | None:
    holder, attribute, child = _split(base, path)
    return None if holder is None else holder.get(attribute) if attribute else holder.findtext(child)


def drop(base: ET.Element, path: str) -> None:
    """Take a part away, and the one around it that is empty then."""
    holder, attribute, child = _split(base, path)
    if holder is None:
        return
    holder.attrib.pop(attribute, None)
    for element in holder.findall(child) if child else ():
        holder.remove(element)
    if holder is not base and not (holder.attrib or len(holder) or (holder.text or "").strip()):
        base.remove(holder)
