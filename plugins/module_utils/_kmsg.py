# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's messages of this boot: why a driver gave up is told nowhere else.

Of the running machine they come from /dev/kmsg, which shows what dmesg shows, and what was there before `dmesg --clear`
as well (Documentation/ABI/testing/dev-kmsg). The kernel keeps the newest and forgets the oldest.
"""

from __future__ import annotations

import os
import re
import typing as t

from . import _sysfs

# A record: priority (facility * 8 + level), sequence number, microseconds since boot, flags and more; text.
_RECORD = re.compile(r"(?P<priority>\d+),\d+,(?P<time>\d+),[^;]*;(?P<text>.*)")
# A line of dmesg: `<level>` only with --raw, the caller only with CONFIG_PRINTK_CALLER, `kernel:` from the journal.
_LINE = re.compile(
    r"(?=\S)(?:<(?P<priority>\d+)>)?"
    r"(?:\[ *(?P<time>\d+\.\d+)\](?:\[ *[TC]\d+\])? |\[\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\] )?"
    r"(?:kernel: )?(?P<text>.*)"
)
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_KMSG = "/dev/kmsg"
_KMSG_DEVICE = os.makedev(1, 11)
_RECORD_SIZE = 8192  # bytes; no record is longer, and one that did not fit would be EINVAL
_MOST = 1 << 17  # records; a driver that never stops talking is not waited for


class Message(t.NamedTuple):
    """One message of the kernel.

    time: seconds since boot, None where the text has none; level: 0 (emergency) to 7 (debug), None where the text has
    none; text: without either, as in `hfcmulti_drv: Unknown HFC multiport controller`.
    """

    time: float | None
    level: int | None
    text: str


def read_messages(root: str = "/") -> list[Message] | None:
    """The kernel's messages since the boot, oldest first; None where they may not be read or there are none to read.

    Of another root it is the text of dmesg in /var/log/dmesg, never the log of the machine that runs this.
    """
    if root == "/":
        text = _read_kmsg()
    else:
        data = _sysfs.read_file(_sysfs.below(root, "/var/log/dmesg"))
        text = None if data is None else data.decode("utf-8", "replace")
    return None if text is None else parse(text)


def parse(text: str) -> list[Message]:
    """Messages of /dev/kmsg or of dmesg, whose text may be raw, with seconds or with the time of day.

    Left out are lines that a program has written to /dev/kmsg, a record's properties (which begin with a blank), and
    what is older than the last boot.
    """
    found: list[Message] = []
    for line in text.split("\n"):
        record = _RECORD.match(line)
        fields = record or _LINE.match(line)
        if fields is None or int(fields["priority"] or 0) >= 8:
            continue
        said = _unescape(fields["text"]) if record else fields["text"]
        if said.startswith("Linux version "):
            found.clear()
        time = None if fields["time"] is None else float(fields["time"]) / (1e6 if record else 1)
        found.append(Message(time, None if fields["priority"] is None else int(fields["priority"]), said))
    return found


def matching(messages: list[Message] | None, pattern: t.Pattern[str]) -> list[str] | None:
    """The texts in which the pattern is found, oldest first; None if there are no messages to search."""
    return None if messages is None else [message.text for message in messages if pattern.search(message.text)]


def _unescape(text: str) -> str:
    r"""What is not printable the kernel writes as \x0a, byte by byte, and so the backslash itself."""
    if "\\x" not in text:
        return text
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode()).decode("utf-8", "replace")


def _read_kmsg() -> str | None:
    try:
        # In a container it may be a terminal, and whoever reads that takes away what somebody types.
        if os.stat(_KMSG).st_rdev != _KMSG_DEVICE:
            return None
        descriptor = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _drain(lambda: os.read(descriptor, _RECORD_SIZE)).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _drain(read: t.Callable[[], bytes]) -> bytes:
    """All records that are there; read returns one, and says EAGAIN after the last one."""
    records = []
    for _turn in range(_MOST):
        try:
            records.append(read())
        except BlockingIOError:
            break
        except BrokenPipeError:
            # Overwritten before it was read: the next one is the oldest that is left.
            continue
    return b"".join(records)
