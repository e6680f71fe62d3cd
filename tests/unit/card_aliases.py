# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold the catalogue of cards against the modules.alias of a kernel, both ways, with the collection's own code.

usage, with the collection on PYTHONPATH: python3 card_aliases.py ROOT         says what differs below ROOT/lib/modules
                                          python3 card_aliases.py -o FILE ROOT…  writes the fixture of the unit tests

The fixture holds, of each kernel, the aliases for PCI whose module or whose vendor and device the catalogue knows.
"""

from __future__ import annotations

import io
import re
import sys
import tarfile
import typing as t
from pathlib import Path

from ansible_collections.kvm.passthrough.plugins.module_utils import _modalias
from ansible_collections.kvm.passthrough.plugins.module_utils._card_facts import FACTS, family_of
from ansible_collections.kvm.passthrough.plugins.module_utils._cards import FAMILIES, Family

MODULES = {module for facts in FACTS.values() for module in facts.modules}
IDS = {pci_id for entry in FAMILIES.values() for pci_id in entry.ids}
_ALIAS = re.compile(
    r"alias pci:v0000([0-9A-F]{4})d0000([0-9A-F]{4})sv(?:0000([0-9A-F]{4})|\*)sd(?:0000([0-9A-F]{4})|\*)\S* (\w+)$"
)


class Alias(t.NamedTuple):
    """A line about a PCI device; subsystem is None where the driver takes any, or any of one vendor."""

    pci_id: str
    subsystem: str | None
    module: str


def release(root: Path) -> str:
    """The kernel whose modules lie below a root, such as 6.12.48+deb13-amd64."""
    [folder] = (root / "lib/modules").iterdir()
    return folder.name


def aliases(root: Path) -> t.Iterator[Alias]:
    """The aliases that name vendor and device, which those of drivers for whole classes do not."""
    for line in _lines(root):
        found = _ALIAS.match(line)
        if found:
            vendor, device, sub_vendor, sub_device, module = found.groups()
            subsystem = f"{sub_vendor}:{sub_device}".lower() if sub_vendor and sub_device else None
            yield Alias(f"{vendor}:{device}".lower(), subsystem, module)


def cards(entry: Family) -> t.Iterator[tuple[str, str]]:
    """Id and subsystem id of one card for each row; where any subsystem will do, one of the vendor itself."""
    for pci_id, subsystems in entry.ids.items():
        for subsystem in subsystems or [pci_id]:
            yield pci_id, subsystem


def lacking(root: Path) -> set[str]:
    """The families with modules that a kernel is built without."""
    present = {alias.module for alias in aliases(root)}
    return {name for name, facts in FACTS.items() if facts.modules and not present.intersection(facts.modules)}


def faults(root: Path) -> list[str]:
    """What the catalogue and a kernel do not agree upon; a kernel without a driver is not asked about its cards."""
    return [*_cards_without_module(root), *_modules_without_card(root), *_refusals(root), *_ages(root)]


def _cards_without_module(root: Path) -> t.Iterator[str]:
    """Each card has to resolve to modules of its family, and to no others."""
    without = lacking(root)
    wanted = {
        _modaliased(*card): (name, card)
        for name, entry in FAMILIES.items()
        if name not in without
        for card in cards(entry)
    }
    claimed = _modalias.claims(str(root), wanted)
    for modalias, (name, card) in wanted.items():
        modules, known = set(claimed.get(modalias, ())), set(FACTS[name].modules)
        if bool(known) != bool(modules) or not modules <= known:
            yield f"{name}: {card[0]} with subsystem {card[1]} resolves to {sorted(modules)}, not to {sorted(known)}"


def _modules_without_card(root: Path) -> t.Iterator[str]:
    """Each alias of a family's modules has to be a card of such a family."""
    for alias in aliases(root):
        if alias.module in MODULES:
            device = {"id": alias.pci_id, "subsystem_id": alias.subsystem or alias.pci_id}
            card = family_of(device)
            if card is None or alias.module not in FACTS[card.name].modules:
                yield f"{alias.module} claims {device['id']} with subsystem {device['subsystem_id']}: {card}"


def _refusals(root: Path) -> t.Iterator[str]:
    """A driver that refuses boards has an alias for each that it takes, besides the one for the bare chip."""
    for name, facts in FACTS.items():
        if "*" in facts.refused and name not in lacking(root):
            named = {
                alias.subsystem
                for alias in aliases(root)
                if alias.module in facts.modules and alias.subsystem and alias.pci_id in FAMILIES[name].ids
                if FAMILIES[name].has({"id": alias.pci_id, "subsystem_id": alias.subsystem})
            }
            taken = {subsystem for subsystem in facts.ports if not facts.refusal(subsystem)}
            for subsystem in sorted(named ^ taken):
                yield f"{name}: {subsystem} is {'refused' if subsystem in named else 'taken'}, says the catalogue alone"


def _ages(root: Path) -> t.Iterator[str]:
    """No kernel has a driver before its time, or after it."""
    own = _version(release(root))
    for name, facts in FACTS.items():
        if facts.modules and name not in lacking(root):
            if facts.since and own < _version(facts.since):
                yield f"{name}: {release(root)} has it, though older than {facts.since}"
            if facts.before and own >= _version(facts.before):
                yield f"{name}: {release(root)} has it, though not older than {facts.before}"


def record(target: Path, roots: t.Sequence[Path]) -> None:
    """Write the fixture: a root RELEASE for each kernel, with those lines of modules.alias that matter here."""
    with tarfile.open(target, "w:xz") as archive:
        for root in roots:
            lines = [line for line in _lines(root) if _matters(line)]
            content = "".join(f"{line}\n" for line in lines).encode()
            member = tarfile.TarInfo(f"{release(root)}/lib/modules/{release(root)}/modules.alias")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _matters(line: str) -> bool:
    found = _ALIAS.match(line)
    return bool(found and (found[5] in MODULES or f"{found[1]}:{found[2]}".lower() in IDS))


def _lines(root: Path) -> list[str]:
    return (root / "lib/modules" / release(root) / "modules.alias").read_text("utf-8").splitlines()


def _modaliased(pci_id: str, subsystem: str) -> str:
    """As a device of that kind shows it in sysfs; the class decides in none of these drivers."""
    vendor, device, sub_vendor, sub_device = f"{pci_id}:{subsystem}".upper().split(":")
    return f"pci:v0000{vendor}d0000{device}sv0000{sub_vendor}sd0000{sub_device}bc02sc80i00"


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


if __name__ == "__main__":
    if sys.argv[1] == "-o":
        record(Path(sys.argv[2]), [Path(root) for root in sys.argv[3:]])
    else:
        print(*(f"{name}: this kernel has no driver" for name in sorted(lacking(Path(sys.argv[1])))), sep="\n")
        sys.exit("\n".join(faults(Path(sys.argv[1]))))
