# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.filter import vdr_plan
from ansible_collections.kvm.passthrough.plugins.module_utils import _vdr

ARD = "Das Erste,;ARD:578000:B8C23D12G8M16T8Y0S0:T:27500:101=2:102=deu@3:104:0:224:8468:3329:0"
ZDF = "ZDF,;ZDF:514000:B8C23D12G8M16T8Y0S0:T:27500:545=2:546=deu@3:551:0:514:8468:514:0"
# As VDR writes it: it has found another audio track, and a name in full.
ARD_LATER = "Das Erste,ARD;ARD:578000:B8C23D12G8M16T8Y0S0:T:27500:101=2:102=deu@3,103=mul@3:104:0:224:8468:3329:0"
ASTRA = "Das Erste;ARD:11836:HC34M2S0:S19.2E:27500:101=2:102=deu@3:104:0:28106:1:1101:0"
NEWS = "1:1:MTWTF--:2000:2015:50:99:News:"
NEWS_LATER = "1:T-8468-3329-224:MTWTF--:2000:2015:50:99:News:<event/>"
FILM = "1:2:2026-12-24:2015:2200:50:99:Film:"


def wanted(**values: t.Any) -> dict[str, t.Any]:
    empty = {"channels": [], "scan": "", "svdrp_hosts": [], "plugins": {}, "settings": {}, "timers": []}
    return {**empty, **values}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({}, None),
        ({"channels": [":Public", ARD, ZDF], "timers": [NEWS, FILM, "1:1:MTWTF--@2026-12-01:0000:0100:0:99:A:"]}, None),
        ({"scan": "DE", "svdrp_hosts": ["192.0.2.7", "198.51.100.0/24"], "plugins": {"vnsiserver": []}}, None),
        ({"settings": {"EPGScanTimeout": 5, "live.LocalNetMask": "192.0.2.0/24", "UseDolbyDigital": True}}, None),
        ({"channels": ["ARD:578000"]}, "dvbt_guest_channels: 'ARD:578000' is no line of channels.conf"),
        ({"channels": [ASTRA]}, f"dvbt_guest_channels: {ASTRA!r} has the source S19.2E; that of DVB-T is T"),
        ({"channels": [ARD], "scan": "DE"}, "dvbt_guest_channels and dvbt_guest_scan are both set"),
        ({"svdrp_hosts": ["tv.lan"]}, "dvbt_guest_svdrp_hosts has 'tv.lan'; it is an address of IPv4"),
        ({"svdrp_hosts": ["192.0.2.7\n0.0.0.0/0"]}, "dvbt_guest_svdrp_hosts has '192.0.2.7"),
        ({"plugins": {"live": []}}, "dvbt_guest_plugins has live; those whose access the role can limit are"),
        ({"plugins": {"vnsiserver": "192.0.2.7"}}, "dvbt_guest_plugins, vnsiserver is '192.0.2.7'; it is a list"),
        ({"settings": {"EPG Scan": 5}}, "dvbt_guest_settings has 'EPG Scan'; a key of setup.conf is a word"),
        ({"settings": {"VideoDir": ["a"]}}, "dvbt_guest_settings, VideoDir is ['a']; it is one word"),
        ({"timers": ["News at eight"]}, "dvbt_guest_timers has 'News at eight'; a timer is FLAGS:CHANNEL:DAY"),
        ({"timers": ["1:1:2026-99-99:2015:2200:50:99:Film:"]}, "dvbt_guest_timers has '1:1:2026-99-99"),
        ({"timers": ["1:1:2026-12-24:2415:2200:50:99:Film:"]}, "dvbt_guest_timers has '1:1:2026-12-24:2415"),
        ({"timers": ["1:1::2015:2200:50:99:Film:"]}, "dvbt_guest_timers has '1:1::2015"),
        ({"timers": ["1:1:MTWTF--@:2015:2200:50:99:Film:"]}, "dvbt_guest_timers has '1:1:MTWTF--@:"),
        ({"timers": ["1:1:MTWTF--@2026-13-01:2015:2200:50:99:Film:"]}, "dvbt_guest_timers has '1:1:MTWTF--@2026-13"),
        ({"timers": [NEWS, NEWS]}, f"dvbt_guest_timers has {NEWS!r} twice"),
        ({"svdrp_hosts": ["0.0.0.0/0"]}, None),
        ({"svdrp_hosts": ["10.0.0.1/0"]}, "dvbt_guest_svdrp_hosts has '10.0.0.1/0'; it is an address of IPv4"),
        ({"svdrp_hosts": ["192.0.2.0/255.255.255.0"]}, "dvbt_guest_svdrp_hosts has '192.0.2.0/255.255.255.0'; it is"),
        ({"timers": ["1:1:24.12.2026:2015:2200:50:99:Film:"]}, "dvbt_guest_timers has '1:1:24.12.2026"),
    ],
)
def test_what_is_wrong(values: dict[str, t.Any], fault: str | None) -> None:
    found = _vdr.faults(wanted(**values))
    assert len(found) == (fault is not None)
    assert not fault or found[0].startswith(fault)
    plan = vdr_plan.FilterModule().filters()["vdr_plan"](wanted(**values))
    assert plan["faults"] == found
    assert bool(plan["files"]) is not bool(found)


def test_access_lists_have_the_guest_itself_and_nobody_else() -> None:
    call = vdr_plan.FilterModule().filters()["vdr_plan"]
    files = call(wanted(svdrp_hosts=["127.0.0.1", "192.0.2.7"], plugins={"vnsiserver": []}))["files"]
    lines = {path: [line for line in text.splitlines() if line[0] != "#"] for path, text in files.items()}
    assert lines == {
        "/etc/vdr/svdrphosts.conf": ["127.0.0.1", "192.0.2.7"],
        "/etc/vdr/plugins/vnsiserver/allowed_hosts.conf": ["127.0.0.1"],
    }


@pytest.mark.parametrize(
    ("text", "settings", "after"),
    [
        ("", {}, ""),
        ("", {"EPGScanTimeout": 5}, "EPGScanTimeout = 5\n"),
        ("EPGScanTimeout=5\nOther = 1\n", {"EPGScanTimeout": 5}, "EPGScanTimeout=5\nOther = 1\n"),
        ("EPGScanTimeout = 0\nOther = 1\n", {"EPGScanTimeout": 5}, "EPGScanTimeout = 5\nOther = 1\n"),
        ("UseDolbyDigital = 1\n", {"UseDolbyDigital": True}, "UseDolbyDigital = 1\n"),
        ("OSDLanguage = \n", {"OSDLanguage": ""}, "OSDLanguage = \n"),
        ("EPGScanTimeout = 5\n", {"epgscantimeout": 5}, "EPGScanTimeout = 5\n"),
        ("SVDRPHostName = x\n", {"SVDRPHostName": " x "}, "SVDRPHostName = x\n"),
    ],
)
def test_settings(text: str, settings: dict[str, t.Any], after: str) -> None:
    assert _vdr.setup(text, settings) == after


@pytest.mark.parametrize(
    ("text", "channels", "changed"),
    [
        (f"{ARD_LATER}\n{ZDF}\n", [ARD, ZDF], False),
        (f":Public\n{ARD_LATER}\n", [":Public", ARD], False),
        (f"{ZDF}\n{ARD}\n", [ARD, ZDF], True),
        (f"{ARD}\n", [ARD, ZDF], True),
        ("", [ARD], True),
        (f"{ASTRA}\n", [], False),
    ],
)
def test_channels(text: str, channels: list[str], changed: bool) -> None:
    after = _vdr.channels(text, channels)
    assert after == ("".join(f"{line}\n" for line in channels) if changed else text)


@pytest.mark.parametrize(
    ("text", "timers", "before", "after"),
    [
        ("", [NEWS], [], f"{NEWS}\n"),
        (f"{NEWS_LATER}\n", [NEWS], [NEWS], f"{NEWS_LATER}\n"),
        (f"{FILM}\n", [NEWS], [], f"{FILM}\n{NEWS}\n"),
        (f"{NEWS_LATER}\n{FILM}\n", [], [NEWS], f"{FILM}\n"),
        (f"{NEWS_LATER}\n", [NEWS.replace("--:", "--@2026-11-25:")], [], f"{NEWS_LATER}\n"),
        ("", [FILM.replace("2026-12-24", "2026-11-26")], [], ""),
        ("", [FILM], [], f"{FILM}\n"),
        ("", ["1:2:2026-11-27:1400:1530:50:99:Over:"], [], ""),
        ("", ["1:2:2026-11-27:1400:1531:50:99:On:"], [], "1:2:2026-11-27:1400:1531:50:99:On:\n"),
        ("", ["1:2:2026-11-26:2300:0100:50:99:Night:"], [], ""),
        ("", ["1:2:2026-11-27:2300:0100:50:99:Night:"], [], "1:2:2026-11-27:2300:0100:50:99:Night:\n"),
    ],
)
def test_timers(text: str, timers: list[str], before: list[str], after: str) -> None:
    assert _vdr.timers(text, timers, before, "2026-11-27 1530") == after


def test_files_that_are_as_wanted_are_not_written() -> None:
    present = {"setup.conf": "MarginStart = 2\n", "channels.conf": f"{ARD}\n", "timers.conf": "", "before": ""}
    asked = wanted(channels=[ARD], settings={"MarginStart": 2})
    assert _vdr.files(asked, present, "2026-11-27 1530") == {}
    asked = wanted(channels=[ARD], settings={"MarginStart": 5}, timers=[NEWS])
    assert _vdr.files(asked, present, "2026-11-27 1530") == {
        "setup.conf": "MarginStart = 5\n",
        "timers.conf": f"{NEWS}\n",
    }
