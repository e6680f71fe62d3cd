# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _kmsg
from ansible_collections.kvm.passthrough.plugins.module_utils._kmsg import Message

REFUSED = "Unknown HFC multiport controller (vendor:1397 device:08b4 subvendor:1397 subdevice:b752)"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(f"3,1042,5123456,-;{REFUSED}", Message(5.123456, 3, REFUSED), id="/dev/kmsg"),
        pytest.param("6,7,0,c;continued", Message(0.0, 6, "continued"), id="/dev/kmsg, part of a line"),
        pytest.param("4,9,2000000,-,caller=T12;said", Message(2.0, 4, "said"), id="/dev/kmsg, with its caller"),
        pytest.param(r"4,9,0,-;a\x09b \xc3\xa9 \x5c", Message(0.0, 4, "a\tb é \\"), id="/dev/kmsg, escaped"),
        pytest.param(f"[    5.123456] {REFUSED}", Message(5.123456, None, REFUSED), id="dmesg"),
        pytest.param("<3>[   12.500000] x; y", Message(12.5, 3, "x; y"), id="dmesg --raw"),
        pytest.param("[    0.000000][    T0] said", Message(0.0, None, "said"), id="dmesg, with its caller"),
        pytest.param("[Sun Nov 22 09:05:01 2026] said", Message(None, None, "said"), id="dmesg --ctime"),
        pytest.param("[    1.000000] kernel: said", Message(1.0, None, "said"), id="journalctl -o short-monotonic"),
        pytest.param("[drm] Initialized", Message(None, None, "[drm] Initialized"), id="printk.time=0"),
        pytest.param(r"[    1.000000] C:\x41", Message(1.0, None, r"C:\x41"), id="dmesg escapes nothing"),
        pytest.param("[    1.000000]   RIP: 0010", Message(1.0, None, "  RIP: 0010"), id="indented by the kernel"),
    ],
)
def test_line(line: str, expected: Message) -> None:
    assert _kmsg.parse(line + "\n") == [expected]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="empty"),
        pytest.param(" SUBSYSTEM=pci", id="property of a record"),
        pytest.param("\tDEVICE=+pci:0000:03:01.0", id="property after a tab"),
        pytest.param(f"11,5,6,-;{REFUSED}", id="a program wrote it to /dev/kmsg"),
        pytest.param(f"<30>[    5.000000] {REFUSED}", id="the same, in dmesg --raw"),
    ],
)
def test_no_message(line: str) -> None:
    assert _kmsg.parse(line) == []


def test_only_the_last_boot() -> None:
    """A log that was appended to, and a kexec."""
    text = "[   99.000000] old\n[    0.000000] Linux version 6.12.1\n[    1.000000] new\n"
    assert [message.text for message in _kmsg.parse(text)] == ["Linux version 6.12.1", "new"]


@pytest.mark.parametrize(("pattern", "expected"), [("hfcmulti|mISDN", ["hfcmulti: a", "mISDN: b"]), ("dahdi", [])])
def test_matching(pattern: str, expected: list[str]) -> None:
    messages = _kmsg.parse("[    1.0] hfcmulti: a\n[    2.0] eth0: up\n[    3.0] mISDN: b\n")
    assert _kmsg.matching(messages, re.compile(pattern)) == expected
    assert _kmsg.matching(None, re.compile(pattern)) is None


def test_another_root(tmp_path: Path) -> None:
    """It is judged by its own log, or by none."""
    assert _kmsg.read_messages(str(tmp_path)) is None
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/dmesg").write_bytes(b"[    1.000000] card \xff\n")
    assert _kmsg.read_messages(str(tmp_path)) == [Message(1.0, None, "card \ufffd")]


def test_this_machine() -> None:
    """Whatever it is: no exception, and what was read is in order."""
    messages = _kmsg.read_messages()
    if messages is not None:
        assert all(message.level in range(8) and message.time is not None for message in messages)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([b"a", b"b", BlockingIOError()], b"ab", id="to the end"),
        pytest.param([BrokenPipeError(), b"b", BlockingIOError()], b"b", id="the oldest were overwritten meanwhile"),
    ],
)
def test_drain(answers: list[bytes | OSError], expected: bytes) -> None:
    def read() -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert _kmsg._drain(read) == expected


def test_a_driver_that_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kmsg, "_MOST", 3)
    assert _kmsg._drain(lambda: b"x") == b"xxx"


@pytest.mark.parametrize("place", ["absent", "file", "null"])
def test_no_kmsg(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some containers have another device of that name."""
    paths: dict[str, t.Any] = {"absent": tmp_path / "kmsg", "file": tmp_path / "log", "null": os.devnull}
    (tmp_path / "log").write_text("6,1,0,-;text\n")
    monkeypatch.setattr(_kmsg, "_KMSG", str(paths[place]))
    assert _kmsg.read_messages() is None
