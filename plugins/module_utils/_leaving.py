# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selectors on their way from the inventory to a host that is to be judged: none of them may be an error there."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from ._errors import InvalidInput
from ._selectors import Device, narrow, parse_selectors


def items(selectors: t.Any) -> list[t.Any]:
    """The items of a list, of which a single one may stand without it (see _selectors.parse_selectors)."""
    if selectors is None:
        return []
    return list(selectors) if isinstance(selectors, Sequence) and not isinstance(selectors, str) else [selectors]


def leaving(selectors: t.Any, devices: t.Sequence[Device] = ()) -> list[t.Any]:
    """The selectors as passthrough_info takes them in its option leaving, where none of them is an error.

    What cannot be read is left out: _fleet.make_plan() tells what is wrong with it. A query becomes the addresses of
    those of the devices that it matches, for the target may be unable to resolve it.
    """
    taken: list[t.Any] = []
    for raw in items(selectors):
        try:
            parsed = parse_selectors([raw])
            if isinstance(raw, Mapping) and "query" in raw:
                taken += [str(device["address"]) for device in narrow(devices, parsed, loosely=True)]
            else:
                taken.append(raw)
        except InvalidInput:
            continue
    return taken
