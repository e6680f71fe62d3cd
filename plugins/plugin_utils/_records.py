# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run learns of each host, as files on the controller: host by host, so that no process holds the fleet.

The folder is Ansible's own for temporary files of a run (ansible.cfg, local_tmp). It starts empty, only its owner may
look into it, and Ansible removes it, so that a run never takes a record of another run for its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import typing as t
from datetime import datetime, timezone
from pathlib import Path

from ansible import constants

Record = t.Dict[str, t.Any]


def run_folder() -> Path:
    """Where the records of this run lie."""
    folder = Path(constants.DEFAULT_LOCAL_TMP) / "kvm.passthrough"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def empty(name: str, error: str) -> Record:
    """The record of a host that could not be judged, and why."""
    return {
        "name": name,
        "judged_at": now(),
        "error": error,
        "host": None,
        "devices": [],
        "guests": [],
        "wants": [],
        "facts": None,
    }


def write(folder: Path, record: Record) -> None:
    """Keep the record of a host."""
    with replacing(file_of(folder, record["name"])) as stream:
        json.dump(record, stream, separators=(",", ":"))


def read(folder: Path, name: str) -> Record:
    """The record of a host; where none was kept, its task ended before it was started on the controller."""
    try:
        return json.loads(file_of(folder, name).read_text())
    except FileNotFoundError:
        return empty(name, "The host was not judged. What the run printed for it says why")


def now() -> str:
    """The time, as records and reports have it: 2026-03-01T12:00:00Z."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.contextmanager
def replacing(path: Path) -> t.Iterator[t.TextIO]:
    """A file that takes its place when it is complete, or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            yield stream
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def file_of(folder: Path, name: str) -> Path:
    """The file of a host: its name in the inventory may be longer than a file's, and hold slashes."""
    return folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}.json"
