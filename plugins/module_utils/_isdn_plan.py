# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest needs for its ISDN lines, and what stands in the way.

Used on the controller. Whether the kernel has a driver is what modinfo has found, never what its version promises; the
version only tells the remedy.
"""

from __future__ import annotations

import re
import typing as t

from . import _dahdi_plan, _l1oip
from ._card_facts import FACTS, describe

Device = t.Mapping[str, t.Any]
Wanted = t.Mapping[str, t.Any]
Machine = t.Mapping[str, t.Any]

OPTIONS = "/etc/modprobe.d/kvm-passthrough-isdn.conf"
LOAD = "/etc/modules-load.d/kvm-passthrough-isdn.conf"
UDEV = "/etc/udev/rules.d/90-kvm-passthrough-isdn.rules"
PIN = "/etc/apt/preferences.d/kvm-passthrough-isdn.pref"
FILES = (OPTIONS, LOAD, UDEV, PIN, _dahdi_plan.UNIT)
"""What the role may have written; what a plan does not name of them goes."""

_HEADER = "# Written by kvm.passthrough.isdn_guest.\n"
_ISDN = [facts for facts in FACTS.values() if facts.kind == "isdn"]
_MISDN_MODULES = {"mISDN_core", "mISDNipac", "mISDNisar", "l1oip"}.union(
    *({*facts.modules, *facts.guest_modules} for facts in _ISDN)
)
_DAHDI_MODULES = {"dahdi", "dahdi_dynamic", "dahdi_dynamic_loc"}.union(facts.dahdi for facts in _ISDN if facts.dahdi)
_ASSIGNMENT = re.compile(r"([A-Za-z0-9_]+)=[^\s#]+")


def judge(host: str, wanted: Wanted) -> list[str]:
    """What the filter isdn_faults returns: what is wrong with the variables, whatever the guest turns out to be."""
    faults = [*_provider(wanted), *_l1oip.read_lines(wanted["l1oip"])[1], *_dahdi_plan.judge(wanted), *_options(wanted)]
    return [f"{host}: {fault}" for fault in faults]


def make_plan(devices: t.Iterable[Device], host: str, wanted: Wanted, machine: Machine) -> dict[str, t.Any]:
    """What the filter isdn_plan returns."""
    cards = describe(devices, "isdn")
    lines, _faults = _l1oip.read_lines(wanted["l1oip"])
    if wanted["provider"] == "dahdi":
        plan = _dahdi_plan.make_plan(cards, wanted, machine)
    else:
        plan = _misdn(cards, lines, wanted, machine)
    faults = [
        *_distribution(machine),
        *plan.pop("faults"),
        *_people(wanted, machine),
        *_parameters(wanted, machine),
    ]
    own, given = plan.pop("options"), wanted["module_options"]
    options = {module: f"{own.get(module, '')} {given.get(module, '')}".strip() for module in {**own, **given}}
    texts = {
        OPTIONS: "".join(f"options {module} {options[module]}\n" for module in sorted(options)),
        LOAD: "".join(f"{module}\n" for module in plan["modules"]),
        UDEV: f'KERNEL=="mISDNtimer", GROUP="{wanted["group"]}", MODE="0660"\n' if wanted["group"] != "dialout" else "",
        PIN: _pin() if wanted["pin_kernel"] else "",
        **plan.pop("files"),
    }
    return {
        "faults": [*judge(host, wanted), *(f"{host}: {fault}" for fault in faults)],
        "cards": cards,
        "provider": wanted["provider"],
        "options": options,
        "files": {path: _HEADER + text for path, text in texts.items() if text},
        **plan,
    }


def _provider(wanted: Wanted) -> t.Iterator[str]:
    if wanted["provider"] == "dahdi":
        if wanted["l1oip"]:
            yield "isdn_guest_l1oip is for isdn_guest_provider: misdn, and the provider is dahdi"
        return
    for name in ("spans", "dialplan"):
        if wanted[name]:
            yield f"isdn_guest_{name} is for isdn_guest_provider: dahdi, and the provider is misdn"
    if wanted["asterisk"]:
        yield (
            "isdn_guest_asterisk needs isdn_guest_provider: dahdi, for no Asterisk of Debian has a channel driver for"
            " mISDN"
        )


def _misdn(
    cards: list[dict[str, t.Any]], lines: t.Sequence[t.Any], wanted: Wanted, machine: Machine
) -> dict[str, t.Any]:
    modules = dict.fromkeys(module for card in cards for module in card["modules"])
    modules.update(dict.fromkeys(module for card in cards for module in card["guest_modules"]))
    if lines:
        modules.update(dict.fromkeys(("l1oip", "mISDN_dsp")))
    faults = [fault for card in cards for fault in _card_faults(card, machine)]
    missing = [module for module in modules if module not in machine["modules"]]
    if missing:
        faults.append(f"Linux {machine['kernel']} has no module {', '.join(missing)}. {_remedy(machine['kernel'])}")
    if not cards and not wanted["l1oip"]:
        faults.append(
            "none of its PCI devices is an ISDN card, and isdn_guest_l1oip has no lines. Give it a card"
            " (kvm_guest_pci_devices), or lines of ISDN over IP"
        )
    return {
        "faults": faults,
        "modules": list(modules),
        "rivals": sorted({rival for card in cards for rival in card["rivals"]}),
        "packages": [],
        "blocks": {},
        "spans": [],
        "lines": len(lines),
        "files": {},
        "options": {"l1oip": _l1oip.options(lines)} if lines else {},
    }


def _card_faults(card: Device, machine: Machine) -> t.Iterator[str]:
    name = f"{card['address']} ({card['id']}, board {card['subsystem_id']}, {card['card']})"
    dahdi = f". DAHDI's {card['dahdi']} takes it: set isdn_guest_provider: dahdi" if card["dahdi"] else ""
    if not card["modules"]:
        yield f"{name} has no driver in Linux. {'. '.join(card['traps'])}{dahdi}"
    elif card["refused"]:
        yield f"{name}: {card['refused']}{dahdi}"
    for file in card["firmware"]:
        if file["file"] not in machine["firmware"]:
            yield f"{name}: {file['asked_by']} needs the firmware /lib/firmware/{file['file']}; put it there"


def _remedy(kernel: str) -> str:
    if "cloud" in kernel:
        return "Debian's cloud kernel leaves drivers of cards out: install linux-image-amd64, boot it, and run again"
    release = re.match(r"(\d+)\.(\d+)", kernel)
    if release and (int(release[1]), int(release[2])) >= (7, 1):
        return (
            "Linux 7.1 removed ISDN: boot the kernel that Debian 13 (6.12), 12 (6.1) or 11 (5.10) came with, and remove"
            " the one of backports, so that it is not booted again"
        )
    return "Boot a kernel that is built with it, such as linux-image-amd64 of Debian 13, 12 or 11"


def _distribution(machine: Machine) -> list[str]:
    if machine["family"] == "Debian":
        return []
    return [f"it runs {machine['distribution']} {machine['major']}; the role knows Debian and what derives from it"]


def _people(wanted: Wanted, machine: Machine) -> t.Iterator[str]:
    if wanted["group"] not in machine["groups"]:
        yield f"isdn_guest_group is {wanted['group']}, and there is no such group. Make it, or name another"
    for user in wanted["members"]:
        if user not in machine["users"]:
            yield f"isdn_guest_members names {user}, and there is no such user. Make it, or leave it out"


def _options(wanted: Wanted) -> t.Iterator[str]:
    known = _DAHDI_MODULES if wanted["provider"] == "dahdi" else _MISDN_MODULES
    for module, text in wanted["module_options"].items():
        place = _place(module)
        if module not in known:
            yield f"{place}: that is no module of {wanted['provider']}; there are {', '.join(sorted(known))}"
        elif _names(text) is None:
            yield f"{place}: {text!r} is not of the form NAME=VALUE NAME=VALUE, as in type=4 iomode=1"
        else:
            for name in _names(text) or ():
                if _follows(module, name):
                    yield f"{place}: {name} follows from isdn_guest_l1oip; leave it out"


def _parameters(wanted: Wanted, machine: Machine) -> t.Iterator[str]:
    """The kernel only logs a parameter that the module does not have, and goes on without it."""
    for module, text in wanted["module_options"].items():
        has = machine["parameters"].get(module)
        for name in (_names(text) or ()) if has else ():
            if name not in has and not _follows(module, name):
                yield (
                    f"{_place(module)}: the module has no parameter {name} in this kernel; it has"
                    f" {', '.join(sorted(has))}"
                )


def _follows(module: str, name: str) -> bool:
    return module == "l1oip" and name in _l1oip.PARAMETERS


def _place(module: str) -> str:
    return f"isdn_guest_module_options of {module}"


def _names(text: t.Any) -> list[str] | None:
    """The parameters that options of a module set; None if they cannot be read."""
    words = [_ASSIGNMENT.fullmatch(word) for word in str(text).split(" ")]
    return [word[1] for word in words if word] if isinstance(text, str) and all(words) else None


def _pin() -> str:
    return (
        "# The kernels of backports have no ISDN any more: Linux 7.1 removed it.\n"
        "Package: linux-image-* linux-headers-*\n"
        "Pin: release n=*-backports\n"
        "Pin-Priority: -1\n"
    )
