# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _vdr

CHANNEL = "Beethoven:474000:B8C999D999G999I999M999S0T999Y999:T:0:0:273:0:0:2176:65348:16513:0"
TIMER = "1:1:MTWTF--:2000:2015:50:99:News:"
ONCE = "1:1:2026-11-27:2000:2015:50:99:Film:"
WANTED: dict[str, t.Any] = {
    "channels": [CHANNEL],
    "scan": "",
    "svdrp_hosts": ["192.0.2.7"],
    "plugins": {"streamdev-server": ["192.0.2.0/24"]},
    "settings": {"EPGScanTimeout": 5},
    "timers": [TIMER],
}


def test_what_is_in_order() -> None:
    assert _vdr.faults(WANTED) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"channels": ["Beethoven:474000"]}, "is no line of channels.conf, which has 13 fields"),
        ({"channels": [CHANNEL.replace(":T:", ":S19.2E:")]}, "has the source S19.2E; that of DVB-T is T"),
        ({"scan": "DE"}, "dvbt_guest_channels and dvbt_guest_scan are both set"),
        ({"svdrp_hosts": ["tv.lan"]}, "dvbt_guest_svdrp_hosts has 'tv.lan'; it is an address of IPv4"),
        ({"svdrp_hosts": ["2001:db8::1"]}, "dvbt_guest_svdrp_hosts has '2001:db8::1'"),
        ({"svdrp_hosts": ["192.0.2.7\n0.0.0.0/0"]}, "dvbt_guest_svdrp_hosts has '192.0.2.7\\n0.0.0.0/0'"),
        ({"plugins": {"live": []}}, "dvbt_guest_plugins has live; those whose access the role can limit are"),
        ({"plugins": {"vnsiserver": "192.0.2.7"}}, "dvbt_guest_plugins, vnsiserver is '192.0.2.7'; it is a list"),
        ({"settings": {"Margin Start": 2}}, "dvbt_guest_settings has 'Margin Start'; a key of setup.conf is a word"),
        ({"settings": {"MarginStart": [2]}}, "dvbt_guest_settings, MarginStart is [2]; it is one word, number or line"),
        ({"timers": ["1:1:today:2000:2015:50:99:News:"]}, "dvbt_guest_timers has '1:1:today:"),
    ],
)
def test_what_is_wrong(change: dict[str, t.Any], fault: str) -> None:
    [said] = _vdr.faults({**WANTED, **change})
    assert fault in said


def test_nobody_but_those_given_may_connect() -> None:
    lines = _vdr.hosts(["192.0.2.7", "127.0.0.1", "192.0.2.7"]).splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["127.0.0.1", "192.0.2.7"]


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("", {"EPGScanTimeout": 5}, "EPGScanTimeout = 5\n"),
        ("A = 1\nEPGScanTimeout = 0\nB = 2\n", {"EPGScanTimeout": 5}, "A = 1\nEPGScanTimeout = 5\nB = 2\n"),
        ("EPGScanTimeout=5", {"EPGScanTimeout": 5}, "EPGScanTimeout=5"),
        ("EmergencyExit = 0\n", {"EmergencyExit": False}, "EmergencyExit = 0\n"),
        ("live.Port = 1\n", {}, "live.Port = 1\n"),
    ],
)
def test_settings_are_held_against_what_is_said(text: str, wanted: dict[str, t.Any], expected: str) -> None:
    assert _vdr.setup(text, wanted) == expected


def test_a_channel_that_vdr_knows_more_of_is_the_same() -> None:
    # What VDR 2.6.9 made of the line: it has found out the kind of sound.
    text = CHANNEL.replace(":273:", ":273=@4:") + "\n"
    assert _vdr.channels(text, [CHANNEL]) == text
    assert _vdr.channels("Other" + text, [CHANNEL]) == CHANNEL + "\n"
    assert _vdr.channels(text, []) == text
    assert _vdr.terrestrial(f":Group\n{text}{CHANNEL.replace(':T:', ':S19.2E:')}\n") == 1


@pytest.mark.parametrize(
    ("text", "wanted", "before", "expected"),
    [
        ("", [TIMER], [], f"{TIMER}\n"),
        # As VDR 2.6.9 writes it: the channel by its identity.
        (
            "1:T-65348-16513-2176:MTWTF--:2000:2015:50:99:News:\n",
            [TIMER],
            [TIMER],
            "1:T-65348-16513-2176:MTWTF--:2000:2015:50:99:News:\n",
        ),
        (f"{TIMER}\n{ONCE}\n", [], [TIMER], f"{ONCE}\n"),  # that of somebody else stays
        (f"{TIMER}\n", [TIMER, ONCE], [TIMER], f"{TIMER}\n{ONCE}\n"),
    ],
)
def test_timers(text: str, wanted: list[str], before: list[str], expected: str) -> None:
    assert _vdr.timers(text, wanted, before, "2026-11-27") == expected


def test_a_timer_of_a_day_that_has_passed_is_not_set_again() -> None:
    assert _vdr.timers("", [ONCE], [ONCE], "2026-11-28") == ""


def test_files_that_are_as_wanted_are_not_named() -> None:
    present = {"setup.conf": "EPGScanTimeout = 5\n", "channels.conf": "", "timers.conf": f"{TIMER}\n", "before": ""}
    assert _vdr.files(WANTED, present, "2026-11-27") == {"channels.conf": f"{CHANNEL}\n"}
