# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _dahdi_plan
from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_plan import make_plan
from ansible_collections.kvm.passthrough.tests.unit.plugins.module_utils.test_isdn_plan import (
    FRITZ,
    MACHINE,
    QUADBRI,
    REFUSED,
    WANTED,
    tells,
)

BULLSEYE = {"major": "11", "kernel": "5.10.0-32-amd64"}
LOCAL = [
    {"side": "nt", "local": 1, "context": "exchange"},
    {"side": "te", "local": 1, "context": "office", "options": {"overlapdial": True}},
]
DIALPLAN = {"exchange": ["exten => 100,1,Answer()", "same => n,Hangup()"], "office": ["exten => s,1,Answer()"]}


def plan(devices: t.Sequence[t.Any], machine: t.Mapping[str, t.Any] | None = None, **wanted: t.Any) -> dict[str, t.Any]:
    return make_plan(devices, "isdn1", {**WANTED, "provider": "dahdi", **wanted}, {**MACHINE, **(machine or {})})


def test_the_card_that_the_kernel_refuses() -> None:
    made = plan([REFUSED])
    assert made["faults"] == []
    assert made["modules"] == ["dahdi", "wcb4xxp"]
    assert made["rivals"] == ["hfcmulti"]
    assert made["options"] == {"dahdi": "auto_assign_spans=1"}
    assert made["packages"] == [
        "osmocom-dahdi-dkms",
        "dahdi",
        "linux-headers-6.12.118+deb13-amd64",
        "linux-headers-amd64",
    ]
    assert made["blocks"] == {
        _dahdi_plan.SYSTEM: "span=1,1,0,ccs,ami\nspan=2,2,0,ccs,ami\nspan=3,3,0,ccs,ami\nspan=4,4,0,ccs,ami\n"
        "bchan=1-2\nhardhdlc=3\nbchan=4-5\nhardhdlc=6\nbchan=7-8\nhardhdlc=9\nbchan=10-11\nhardhdlc=12"
    }
    assert _dahdi_plan.UNIT in made["files"]


def test_asterisk_on_two_ends_of_a_line() -> None:
    made = plan([], BULLSEYE, spans=LOCAL, asterisk=True, dialplan=DIALPLAN)
    assert made["faults"] == []
    assert made["modules"] == ["dahdi", "dahdi_dynamic", "dahdi_dynamic_loc"]
    assert made["lines"] == 2
    assert made["packages"][:1] + made["packages"][3:] == [
        "dahdi-dkms",
        "linux-headers-amd64",
        "asterisk",
        "asterisk-dahdi",
    ]
    assert made["blocks"][_dahdi_plan.SYSTEM] == (
        "dynamic=loc,1:0,3,0\ndynamic=loc,1:1,3,0\nbchan=1-2\ndchan=3\nbchan=4-5\ndchan=6"
    )
    assert made["blocks"][_dahdi_plan.CHANNELS] == (
        "[isdn-span-1]\nswitchtype=euroisdn\nsignalling=bri_net\ncontext=exchange\ngroup=1\ndahdichan=1-2\n"
        "[isdn-span-2]\nswitchtype=euroisdn\nsignalling=bri_cpe\ncontext=office\ngroup=2\noverlapdial=yes\ndahdichan=4-5"
    )
    assert made["blocks"][_dahdi_plan.EXTENSIONS] == (
        "[exchange]\nexten => 100,1,Answer()\nsame => n,Hangup()\n[office]\nexten => s,1,Answer()"
    )


def test_ports_that_are_not_described() -> None:
    made = plan([QUADBRI | {"subsystem_id": "1397:e888"}], spans=[{"side": "nt", "group": 9}, *LOCAL])
    assert [(one["number"], one["side"], one["mode"], one["group"]) for one in made["spans"]] == [
        (1, "nt", "ptmp", 9),
        (2, "te", "ptmp", 2),
        (3, "te", "ptmp", 3),
        (4, "te", "ptmp", 4),
        (5, "nt", "ptp", 5),
        (6, "te", "ptp", 6),
    ]
    assert made["blocks"][_dahdi_plan.SYSTEM].splitlines()[:2] == ["span=1,0,0,ccs,ami", "span=2,1,0,ccs,ami"]


@pytest.mark.parametrize(
    ("kernel", "package"),
    [
        ("5.10.0-32-amd64", "linux-headers-amd64"),
        ("5.10.0-32-rt-amd64", "linux-headers-rt-amd64"),
        ("6.1.0-0.deb11.21-cloud-amd64", "linux-headers-cloud-amd64"),
        ("6.12.118+deb13-amd64", "linux-headers-amd64"),
    ],
)
def test_headers_of_the_kernels_to_come(kernel: str, package: str) -> None:
    assert plan([REFUSED], {"kernel": kernel})["packages"][-1] == package


@pytest.mark.parametrize(
    ("devices", "machine", "wanted", "faults"),
    [
        ([], {}, {}, ["none of its PCI devices is an ISDN card, and isdn_guest_spans has no local lines"]),
        (
            [FRITZ],
            {},
            {},
            ["0000:07:00.0 (1244:0a00, board 1244:0a00, fritz-pci): DAHDI has no driver for it. Linux has"],
        ),
        (
            [REFUSED],
            {"major": "14"},
            {},
            ["it runs Debian 14; DAHDI with the drivers of ISDN cards is in Debian 11, 12"],
        ),
        ([REFUSED], {"headers": False}, {}, ["no linux-headers-6.12.118+deb13-amd64 is to be had"]),
        (
            [REFUSED],
            {},
            {"asterisk": True},
            ["isdn_guest_asterisk: it runs Debian 13, and of Debian 11, 12 and 13 only"],
        ),
        ([REFUSED], {}, {"dialplan": DIALPLAN}, ["isdn_guest_dialplan is for Asterisk; set isdn_guest_asterisk: true"]),
        ([REFUSED], {}, {"l1oip": [{"id": 7}]}, ["isdn_guest_l1oip is for isdn_guest_provider: misdn"]),
        (
            [REFUSED],
            {},
            {"spans": [{}] * 5},
            ["isdn_guest_spans describes 5 ports of cards, and those that DAHDI drives"],
        ),
        ([], {}, {"spans": LOCAL[:1]}, ["isdn_guest_spans: the local line 1 has the ends nt; it has two"]),
        ([], {}, {"spans": [LOCAL[0]] * 2}, ["isdn_guest_spans: the local line 1 has the ends nt and nt; it has two"]),
        ([REFUSED], {}, {"spans": ["te"]}, ["isdn_guest_spans, entry 1: 'te' is no dictionary"]),
        (
            [REFUSED],
            {},
            {"spans": [{"type": "te"}]},
            ["isdn_guest_spans, entry 1: type is no key of a span; there are"],
        ),
        (
            [REFUSED],
            {},
            {"spans": [{"side": "cpe"}]},
            ["isdn_guest_spans, entry 1: side is 'cpe'; it is one of te, nt"],
        ),
        (
            [REFUSED],
            {},
            {"spans": [{"mode": "p2p"}]},
            ["isdn_guest_spans, entry 1: mode is 'p2p'; it is one of ptmp, ptp"],
        ),
        (
            [REFUSED],
            {},
            {"spans": [{"group": 64}]},
            ["isdn_guest_spans, entry 1: group is 64; it is a number from 1 to 63"],
        ),
        ([REFUSED], {}, {"spans": [{"context": "a b"}]}, ["isdn_guest_spans, entry 1: context is 'a b'; the name of"]),
        (
            [REFUSED],
            {},
            {"spans": [{"options": {"a": "b\nc"}}]},
            ["isdn_guest_spans, entry 1: options is {'a': 'b\\nc'}"],
        ),
        (
            [REFUSED],
            BULLSEYE,
            {"asterisk": True, "dialplan": {"a]": ["exten => 1,1,Answer()"]}},
            ["isdn_guest_dialplan: 'a]' cannot be the name of a context"],
        ),
        (
            [REFUSED],
            BULLSEYE,
            {"asterisk": True, "dialplan": {"a": ["[b]"]}},
            ["isdn_guest_dialplan, context a: '[b]' is no line of a dialplan"],
        ),
        (
            [REFUSED],
            BULLSEYE,
            {"asterisk": True, "dialplan": {"a": "exten => 1,1,Answer()"}},
            ["isdn_guest_dialplan, context a: 'exten => 1,1,Answer()' is no line of a dialplan. A context has a list"],
        ),
    ],
)
def test_what_stands_in_the_way(
    devices: list[t.Any], machine: dict[str, t.Any], wanted: dict[str, t.Any], faults: list[str]
) -> None:
    tells(plan(devices, machine, **wanted), faults)
