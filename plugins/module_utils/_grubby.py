# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""grubby: the boot entries of RHEL and Fedora, all of which are looked at and changed."""

from __future__ import annotations

from ._boot_entries import boot_entries
from ._boot_plan import Plan, read_record, record_around
from ._boot_tools import Run, command, needed
from ._errors import HostFailure, Refused
from ._files import FileChange
from ._kernel_line import faults_of, holds, rivals, same, words


def grubby_plan(root: str, args: list[str], present: bool, run: Run | None) -> Plan:
    binary = needed(root, "grubby")

    def lines() -> dict[str, list[str]]:
        if run is None:
            return {entry.file: entry.args for entry in boot_entries(root)}
        return grubby_entries(command([binary, "--info=ALL"], run))

    entries = lines()
    if not entries:
        raise HostFailure(
            "grubby --info=ALL names no entry with a kernel; this host is not booted by what grubby keeps"
        )
    record = read_record(root)
    there = [word for line in entries.values() for word in line]
    added = [entry for entry in record["added"] if any(same(entry["arg"], word) for word in there)]
    remove: list[str] = []
    add: list[str] = []
    for arg in args:
        known = next((entry for entry in added if same(entry["arg"], arg)), None)
        if present and any(not holds(line, arg) for line in entries.values()):
            rival = [word for line in entries.values() for word in line if rivals(word, arg)]
            previous = next((entry for entry in added if any(same(entry["arg"], word) for word in rival)), None)
            remove += rival
            add.append(arg)
            if previous:
                added.remove(previous)
            if not known:
                original = previous["replaced"] if previous else rival[-1] if rival else None
                added.append({"arg": arg, "replaced": original})
        elif not present:
            copies = [word for line in entries.values() for word in line if same(word, arg)]
            _exact(entries, copies)
            remove += copies
            if copies and known and known["replaced"]:
                add.append(known["replaced"])
            added = [entry for entry in added if not same(entry["arg"], arg)]
    expected = {place: _updated(line, remove, add) for place, line in entries.items()}
    argv = [binary, "--update-kernel=ALL"]
    argv += [f"--remove-args={' '.join(dict.fromkeys(remove))}"] if remove else []
    argv += [f"--args={' '.join(add)}"] if add else []
    commands = [argv] if remove or add else []
    if commands and run is None:
        raise Refused(f"grubby works on the running system only; in a chroot of {root}, run {' '.join(argv)}")

    def faults() -> list[str]:
        now = lines()
        lost = [
            f"{place} lost {word}"
            for place, line in expected.items()
            for word in line
            if word not in now.get(place, line)
        ]
        return lost + faults_of(now, args if present else [], [] if present else args)

    files: list[FileChange] = []
    finish: list[FileChange] = []
    if args:
        files, finish = record_around(root, record, {"added": added, "created": record["created"]}, [], commands)
    diff = []
    if commands:
        diff.append(
            {
                "before_header": "grubby --info=ALL",
                "after_header": "grubby --info=ALL",
                "before": "".join(f"{place}: {' '.join(line)}\n" for place, line in entries.items()),
                "after": "".join(f"{place}: {' '.join(line)}\n" for place, line in expected.items()),
            }
        )
    shown = [entry["arg"] for entry in added if any(same(entry["arg"], w) for line in expected.values() for w in line)]
    return Plan("grubby", root, files, commands, finish, shown, [], diff, faults)


def grubby_entries(info: str) -> dict[str, list[str]]:
    """The arguments of every entry in the output of grubby --info=ALL, by index and kernel."""
    found: dict[str, list[str]] = {}
    index = kernel = ""
    for line in info.splitlines():
        name, _equals, value = line.partition("=")
        value = value.strip()
        if len(value) > 1 and value.startswith('"') and value.endswith('"'):
            value = value[1:-1]
        if name == "index":
            index, kernel = value, ""
        elif name == "kernel":
            kernel = value
            found[f"entry {index} ({kernel})"] = []
        elif name == "args" and kernel:
            found[f"entry {index} ({kernel})"] = words(value)
    return found


def _exact(entries: dict[str, list[str]], copies: list[str]) -> None:
    """grubby takes 'name' in --remove-args for 'name=' with any value as well."""
    for bare in (word for word in copies if "=" not in word):
        for place, line in entries.items():
            other = next((word for word in line if word.startswith(bare + "=")), None)
            if other:
                raise Refused(f"grubby cannot remove {bare} without {other} of {place}; remove it by hand")


def _updated(line: list[str], remove: list[str], add: list[str]) -> list[str]:
    kept = [word for word in line if word not in remove and word not in add]
    return kept + add
