# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kernel arguments that the boot loader passes at the next boot.

What is there is judged from what the boot loader will read (grub.cfg, the entries of the Boot Loader Specification),
not from the files that this is generated from; so a run that was killed in between is finished by the next one.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ._boot_detect import detect
from ._boot_plan import RECORD, Plan
from ._boot_tools import Run, command, limited
from ._cmdline_file import cmdline_plan
from ._errors import HostFailure, PassthroughError
from ._files import FileChange, carry_out, read_file
from ._grub import grub_plan
from ._grubby import grubby_plan
from ._kernel_line import check, holds, running, same
from ._sysfs import below, names


def decide(root: str, wanted_loader: str, args: list[str], present: bool, run: Run | None) -> Plan:
    """What has to be done on this root. run is None where no command can be run; deciding only asks grubby."""
    args = check(args, present)
    boot_loader = detect(root) if wanted_loader == "auto" else wanted_loader
    if boot_loader == "grub":
        plan = grub_plan(root, args, present)
    elif boot_loader == "grubby":
        plan = grubby_plan(root, args, present, run)
    else:
        plan = cmdline_plan(root, boot_loader, args, present)
    return replace(plan, runs=run is not None)


def report(plan: Plan, args: list[str], present: bool) -> dict[str, t.Any]:
    """What the module returns, the same before and after the plan was carried out."""
    args = check(args, present)
    subject = args or plan.added
    line = running(plan.root)
    passed = [holds(line or [], arg) for arg in subject]
    # An argument that is taken back may be given twice, so that any copy of it matters.
    copies = [any(same(word, arg) for word in line or []) for arg in subject]
    due = not all(passed) if present or not args else any(copies)
    return {
        "changed": plan.changed,
        "boot_loader": plan.boot_loader,
        "args": args,
        "added": plan.added,
        "conflicts": plan.conflicts,
        "active": all(passed),
        "reboot_required": line is not None and due,
        "files": list(dict.fromkeys(change.path for change in plan.writes)),
        "commands": plan.commands,
    }


def execute(plan: Plan, run: Run | None, atomic_move: t.Callable[[str, str], None], tmpdir: str | None = None) -> None:
    """Carry the plan out. After a failure the files are what they were before, and the error says so."""
    succeeded: list[list[str]] = []
    try:
        for change in plan.files:
            carry_out(change, atomic_move, tmpdir)
        if run is not None:
            for argv in plan.commands:
                command(argv, run)
                succeeded.append(argv)
            faults = plan.faults() if plan.commands else []
            if faults:
                raise HostFailure(
                    f"{plan.commands[0][0]} succeeded, but the boot loader would not do as asked: {'; '.join(faults)}"
                )
            for change in plan.finish:
                carry_out(change, atomic_move, tmpdir)
    except PassthroughError as error:
        restored = _restore(plan, atomic_move, tmpdir)
        if run is not None and restored:
            # What was generated from the files follows them back, as far as that is possible.
            for argv in succeeded:
                run(limited(argv))
        said = f"Restored as it was before: {', '.join(restored)}" if restored else "No file had been changed"
        raise HostFailure(f"{error}. {said}") from error
    record = below(plan.root, RECORD)
    if any(change.path == record for change in plan.writes) and not names(os.path.dirname(record)):
        os.rmdir(os.path.dirname(record))


def _restore(plan: Plan, atomic_move: t.Callable[[str, str], None], tmpdir: str | None) -> list[str]:
    """Bring back every file but the record, which tells the next run what is still to be finished."""
    restored = []
    for change in plan.files:
        now = read_file(change.path)
        if change.path != below(plan.root, RECORD) and now != change.before:
            carry_out(FileChange(change.path, now, change.before), atomic_move, tmpdir)
            restored.append(change.path)
    return restored
