# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kernel modules a guest has to load, and which to unload first: what runs against what is wanted.

Options of a module count when it is loaded. Those of l1oip are held against /sys/module/l1oip/parameters; other drivers
round their own there (hfcpci its poll), so that for them the file of modprobe.d tells whether something has changed.
"""

from __future__ import annotations

import typing as t

from ._card_facts import FACTS
from ._use import sticks

_COMPARED = "l1oip"
_STAYING = {
    module for facts in FACTS.values() for module, driver in zip(facts.modules, facts.drivers) if sticks(driver)
}
"""Modules whose removal from a card can hang the kernel: they go at the next boot."""


class Loaded(t.NamedTuple):
    """A line of /proc/modules: how often a module is used, and by which modules."""

    uses: int
    users: frozenset[str]


def plan_modules(
    plan: t.Mapping[str, t.Any], loaded: str, before: t.Mapping[str, str], parameters: str
) -> dict[str, list[str]]:
    """What to load, what to unload before, and what cannot be unloaded, being in use or a danger to the kernel.

    loaded is the text of /proc/modules, before are the texts of the role's files as they were, with what an earlier run
    could not unload, parameters is what grep says of /sys/module/l1oip/parameters, a line PATH:VALUE each.
    """
    there = _read(loaded)
    wanted: list[str] = plan["modules"]
    rivals = [module for module in plan["rivals"] if module in there]
    due = _names(before["due"])
    stale = [
        module
        for module in wanted
        if rivals or module in due or _stale(module, plan["options"], before["options"], parameters)
    ]
    gone = [module for module in [*reversed(_names(before["load"])), *due] if module not in wanted]
    leaving = [module for module in dict.fromkeys([*gone, *rivals, *reversed(stale)]) if module in there]
    unload = _unused(leaving, there)
    return {
        "unload": unload,
        "busy": [module for module in leaving if module not in unload],
        "load": [module for module in wanted if module not in there or module in unload],
    }


def plan_release(load: str, loaded: str, freed: bool) -> list[str]:
    """Which of the modules that the role had loaded at boot can go, those that use others first.

    load is the text of the role's file for that, freed is whether a service is stopped before that uses them.
    """
    there = _read(loaded)
    leaving = [module for module in reversed(_names(load)) if module in there]
    return _unused(leaving, there, freed)


def _read(text: str) -> dict[str, Loaded]:
    """By name what is loaded, from lines such as `mISDN_core 122880 2 hfcmulti,mISDN_dsp, Live 0x0000000000000000`."""
    fields = [line.split() for line in text.splitlines()]
    return {one[0]: Loaded(int(one[2]), frozenset(one[3].split(",")) - {"", "-"}) for one in fields if len(one) > 3}


def _names(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _unused(leaving: t.Iterable[str], there: t.Mapping[str, Loaded], freed: bool = False) -> list[str]:
    """Those that nobody uses but modules that leave before them; freed is that programs let go of them before."""
    found: list[str] = []
    for module in leaving:
        uses, users = there[module]
        if module not in _STAYING and users.issubset(found) and (freed or uses <= len(users)):
            found.append(module)
    return found


def _stale(module: str, options: t.Mapping[str, str], before: str, parameters: str) -> bool:
    """Whether a module, if it is loaded, runs with other options than those that are wanted."""
    wanted = options.get(module, "")
    written = [line for line in before.splitlines() if line.split()[:2] == ["options", module]]
    if written != ([f"options {module} {wanted}"] if wanted else []):
        return True
    return module == _COMPARED and bool(wanted) and not _runs_with(wanted, parameters)


def _runs_with(options: str, parameters: str) -> bool:
    """Whether l1oip was loaded with these options. An array shows all its positions, those that were not given as 0."""
    lines = (line.partition(":") for line in parameters.splitlines())
    values = {path.rpartition("/")[2]: value.split(",") for path, _colon, value in lines}
    for option in options.split():
        name, _equals, text = option.partition("=")
        given, has = text.split(","), values.get(name, [])
        if has[: len(given)] != given or any(value != "0" for value in has[len(given) :]):
            return False
    return True
