# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A planned change of a file: decided first, shown by check mode and diff, then carried out at once or not at all."""

from __future__ import annotations

import os
import tempfile
import typing as t
from dataclasses import dataclass

from ._errors import HostFailure


@dataclass(frozen=True)
class FileChange:
    """A file's content before and after, as bytes; None stands for a file that is not there."""

    path: str
    before: bytes | None
    after: bytes | None

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def diff(self) -> dict[str, str]:
        """One entry of Ansible's diff: what stands in the file before and after, under its path."""
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": _printable(self.before),
            "after": _printable(self.after),
        }


def read_file(path: str) -> bytes | None:
    """The whole content of a file of the user's; None where it is not there."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostFailure(f"{path} cannot be read: {error.strerror}") from error


def carry_out(change: FileChange, atomic_move: t.Callable[[str, str], None], tmpdir: str | None = None) -> None:
    """Bring the file to its content after, atomically; atomic_move (of AnsibleModule) keeps mode, owner and label.

    A new file is readable by everyone, whatever the umask of the connection, as what boot tools read has to be.
    """
    if not change.changed:
        return
    try:
        if change.after is None:
            os.unlink(change.path)
            return
        os.makedirs(os.path.dirname(change.path), mode=0o755, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=tmpdir)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(change.after)
    except OSError as error:
        raise HostFailure(f"{change.path} cannot be written: {error.strerror}") from error
    atomic_move(draft, change.path)
    if change.before is None:
        os.chmod(change.path, 0o644)


def _printable(content: bytes | None) -> str:
    return "" if content is None else content.decode("utf-8", "backslashreplace")
