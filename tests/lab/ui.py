# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab says while it works: steps with elapsed time, and errors with a remedy."""

from __future__ import annotations

import re
import shutil
import sys
import time
import types
import typing as t
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1bc|[\x00-\x08\x0b-\x1f\x7f]")
_TAIL = 4096
_QUIET_SECONDS = 15.0  # without a terminal: one line each


class LabError(Exception):
    """Something the user can act on: one line that says what, why and what to do."""


def say(message: str) -> None:
    """Print a line for the user; standard output is left to what a command is asked for."""
    print(message, file=sys.stderr, flush=True)


def last_lines(path: Path, count: int = 1) -> list[str]:
    """Return the last lines of a log that hold anything to read."""
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - _TAIL))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [_CONTROL.sub("", line).strip() for line in re.split(r"[\r\n]+", text)]
    return [line for line in lines if line][-count:]


class Step:
    """One step of work: shows how long it has run and what it is at, and ends with its time."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.started = time.monotonic()
        self._shown = self.started
        self._live = sys.stderr.isatty()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def __enter__(self) -> Step:
        if not self._live:
            say(f"[    0 s] {self.what} ...")
        return self

    def at(self, detail: str = "") -> None:
        """Show where the step is."""
        line = f"[{self.elapsed:5.0f} s] {self.what} ... {detail}".rstrip()
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{line[:width]}")
            sys.stderr.flush()
        elif time.monotonic() - self._shown >= _QUIET_SECONDS:
            self._shown = time.monotonic()
            say(line[:160])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        clear = "\r\x1b[K" if self._live else ""
        end = "done" if kind is None else "stopped"
        say(f"{clear}[{self.elapsed:5.0f} s] {self.what}: {end}")


def table(rows: t.Sequence[t.Sequence[str]]) -> str:
    """Return rows as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
