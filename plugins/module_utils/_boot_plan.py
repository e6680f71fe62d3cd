# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be done so that a boot loader passes arguments, and the record that tells a later run what was added."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ._errors import HostFailure
from ._files import FileChange, read_file
from ._sysfs import below

RECORD = "/var/lib/kvm.passthrough/kernel_args.json"


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order: files, commands, then the files of finish."""

    boot_loader: str
    root: str
    files: list[FileChange] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    finish: list[FileChange] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    conflicts: list[dict[str, t.Any]] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    # What the boot loader would still do wrong; asked after the commands were run.
    faults: t.Callable[[], list[str]] = list
    # Whether the commands can be run: not on another root, where also what follows them has to wait.
    runs: bool = True

    @property
    def writes(self) -> list[FileChange]:
        return [change for change in self.files + (self.finish if self.runs else []) if change.changed]

    @property
    def changed(self) -> bool:
        return bool(self.writes or (self.commands and self.runs))


def read_record(root: str) -> dict[str, t.Any]:
    """What was added where no file is ours, and whether commands are still to be run."""
    path = below(root, RECORD)
    content = read_file(path)
    try:
        record = {"added": [], "created": None, "pending": False, **json.loads(content or b"{}")}
        record["added"] = [{"arg": str(entry["arg"]), "replaced": entry["replaced"]} for entry in record["added"]]
    except (ValueError, TypeError, KeyError) as error:
        raise HostFailure(
            f"{path} is damaged ({error}); remove it to go on without the record of what was added"
        ) from error
    return record


def _recorded(root: str, before: bytes | None, record: dict[str, t.Any]) -> FileChange:
    empty = not record["added"] and record["created"] is None and not record["pending"]
    after = None if empty else json.dumps(record, indent=2, sort_keys=True).encode() + b"\n"
    return FileChange(below(root, RECORD), before, after)


def record_around(
    root: str, record: dict[str, t.Any], final: dict[str, t.Any], places: list[FileChange], commands: list[list[str]]
) -> tuple[list[FileChange], list[FileChange]]:
    """The record's changes before and after the commands; in between it says that they are still to be run.

    Until they were, it names what was added before and what is added now: a killed run forgets neither.
    """
    before = read_file(below(root, RECORD))
    if not commands:
        return [*places, _recorded(root, before, {**final, "pending": False})], []
    known = [entry["arg"] for entry in final["added"]]
    both = final["added"] + [entry for entry in record["added"] if entry["arg"] not in known]
    created = record["created"] if final["created"] is None else final["created"]
    first = _recorded(root, before, {"added": both, "created": created, "pending": True})
    return [first, *places], [_recorded(root, first.after, {**final, "pending": False})]
