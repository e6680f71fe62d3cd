# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvm.passthrough.plugins.module_utils import _dahdi_plan, _isdn_plan

QUADBRI = {"address": "0000:05:00.0", "id": "1397:08b4", "subsystem_id": "1397:b620", "driver": None}
REFUSED = {**QUADBRI, "address": "0000:06:00.0", "subsystem_id": "1397:b752"}
FRITZ = {"address": "0000:07:00.0", "id": "1244:0a00", "subsystem_id": "1244:0a00", "driver": None}
FRITZ_21 = {**FRITZ, "id": "1244:0e80"}
SPEEDFAX = {"address": "0000:08:00.0", "id": "e159:0002", "subsystem_id": "0051:0001", "driver": None}
NIC = {"address": "0000:01:00.0", "id": "8086:10d3", "subsystem_id": "8086:a01f", "driver": "e1000e"}

WANTED: dict[str, t.Any] = {
    "provider": "misdn",
    "module_options": {},
    "l1oip": [],
    "group": "dialout",
    "members": [],
    "pin_kernel": True,
    "spans": [],
    "asterisk": False,
    "dialplan": {},
}
MACHINE: dict[str, t.Any] = {
    "family": "Debian",
    "distribution": "Debian",
    "major": "13",
    "kernel": "6.12.118+deb13-amd64",
    "modules": ["hfcmulti", "avmfritz", "speedfax", "mISDN_dsp", "l1oip"],
    "parameters": {"hfcmulti": ["type", "port", "iomode", "poll"], "l1oip": ["type", "ulaw"]},
    "firmware": [],
    "groups": ["dialout"],
    "users": [],
    "headers": True,
}


def tells(made: dict[str, t.Any], faults: list[str]) -> None:
    """A plan has these faults and no others, each by its beginning."""
    said = made["faults"]
    assert len(said) == len(faults), said
    assert all(one.startswith(f"isdn1: {fault}") for one, fault in zip(said, faults)), said


def plan(devices: t.Sequence[t.Any], machine: t.Mapping[str, t.Any] | None = None, **wanted: t.Any) -> dict[str, t.Any]:
    return _isdn_plan.make_plan([NIC, *devices], "isdn1", {**WANTED, **wanted}, {**MACHINE, **(machine or {})})


def test_a_card_of_four_ports() -> None:
    made = plan([QUADBRI, FRITZ], module_options={"hfcmulti": "type=0 iomode=1"})
    assert made["faults"] == []
    assert made["modules"] == ["hfcmulti", "avmfritz", "mISDN_dsp"]
    assert made["rivals"] == ["wcb4xxp"]
    assert sum(card["ports"] for card in made["cards"]) + made["lines"] == 5
    assert made["files"][_isdn_plan.OPTIONS].splitlines()[1:] == ["options hfcmulti type=0 iomode=1"]
    assert made["files"][_isdn_plan.LOAD].splitlines()[1:] == ["hfcmulti", "avmfritz", "mISDN_dsp"]
    assert made["files"][_isdn_plan.PIN].splitlines()[2:] == [
        "Package: linux-image-* linux-headers-*",
        "Pin: release n=*-backports",
        "Pin-Priority: -1",
    ]
    assert set(made["files"]) == {_isdn_plan.OPTIONS, _isdn_plan.LOAD, _isdn_plan.PIN}
    assert (made["packages"], made["blocks"]) == ([], {})


def test_lines_over_ip_alone() -> None:
    made = plan([], l1oip=[{"id": 7, "remote": "192.0.2.7"}], module_options={"l1oip": "ulaw=1"}, pin_kernel=False)
    assert made["faults"] == []
    assert made["modules"] == ["l1oip", "mISDN_dsp"]
    assert made["options"]["l1oip"].endswith(" id=7 ulaw=1")
    assert (made["lines"], _isdn_plan.PIN in made["files"]) == (1, False)


def test_another_group() -> None:
    made = plan([FRITZ], {"groups": ["isdn"]}, group="isdn")
    assert made["files"][_isdn_plan.UDEV].splitlines()[1:] == ['KERNEL=="mISDNtimer", GROUP="isdn", MODE="0660"']


BACKPORTS = "7.2.13+deb13-amd64"


@pytest.mark.parametrize(
    ("devices", "machine", "wanted", "faults"),
    [
        ([], {}, {}, ["none of its PCI devices is an ISDN card, and isdn_guest_l1oip has no lines. Give it a card"]),
        (
            [REFUSED],
            {},
            {},
            [
                "0000:06:00.0 (1397:08b4, board 1397:b752, hfc-4s): hfcmulti matches the chip but does not know the"
                " board 1397:b752: it loads, says 'Unknown HFC multiport controller' and takes nothing. DAHDI's"
                " wcb4xxp takes it: set isdn_guest_provider: dahdi"
            ],
        ),
        (
            [FRITZ_21],
            {},
            {},
            ["0000:07:00.0 (1244:0e80, board 1244:0a00, fritz-pci-v2.1) has no driver in Linux. No kernel"],
        ),
        (
            [QUADBRI],
            {"kernel": BACKPORTS, "modules": []},
            {},
            [f"Linux {BACKPORTS} has no module hfcmulti, mISDN_dsp. Linux 7.1 removed ISDN: boot the kernel"],
        ),
        (
            [QUADBRI],
            {"kernel": "6.12.118+deb13-cloud-amd64", "modules": []},
            {},
            ["Linux 6.12.118+deb13-cloud-amd64 has no module hfcmulti, mISDN_dsp. Debian's cloud kernel leaves"],
        ),
        (
            [QUADBRI],
            {"kernel": "6.12.1-custom", "modules": ["mISDN_dsp"]},
            {},
            ["Linux 6.12.1-custom has no module hfcmulti. Boot a kernel that is built with it"],
        ),
        (
            [SPEEDFAX],
            {},
            {},
            [
                "0000:08:00.0 (e159:0002, board 0051:0001, speedfax): speedfax needs the firmware"
                " /lib/firmware/isdn/ISAR.BIN; put it there"
            ],
        ),
        ([SPEEDFAX], {"firmware": ["isdn/ISAR.BIN"]}, {}, []),
        (
            [FRITZ],
            {"family": "RedHat", "distribution": "Fedora", "major": "43"},
            {},
            ["it runs Fedora 43; the role knows"],
        ),
        ([FRITZ], {}, {"group": "isdn"}, ["isdn_guest_group is isdn, and there is no such group"]),
        ([FRITZ], {}, {"members": ["fax"]}, ["isdn_guest_members names fax, and there is no such user"]),
        ([FRITZ], {"users": ["fax"]}, {"members": ["fax"]}, []),
        (
            [FRITZ],
            {},
            {"spans": [{}]},
            ["isdn_guest_spans is for isdn_guest_provider: dahdi, and the provider is misdn"],
        ),
        ([FRITZ], {}, {"asterisk": True}, ["isdn_guest_asterisk needs isdn_guest_provider: dahdi"]),
        ([FRITZ], {}, {"l1oip": [{"id": 0}]}, ["isdn_guest_l1oip, line 1: id is 0"]),
        (
            [FRITZ],
            {},
            {"module_options": {"wcb4xxp": "a=1"}},
            ["isdn_guest_module_options of wcb4xxp: that is no module of misdn; there are avmfritz, hfcmulti"],
        ),
        (
            [QUADBRI],
            {},
            {"module_options": {"hfcmulti": "type=4\noptions x y=1"}},
            ["isdn_guest_module_options of hfcmulti: 'type=4\\noptions x y=1' is not of the form NAME=VALUE"],
        ),
        (
            [QUADBRI],
            {},
            {"module_options": {"hfcmulti": "dslot=1"}},
            ["isdn_guest_module_options of hfcmulti: the module has no parameter dslot in this kernel; it has iomode"],
        ),
        (
            [],
            {},
            {"module_options": {"l1oip": "type=1"}, "l1oip": [{"id": 7}]},
            ["isdn_guest_module_options of l1oip: type follows from isdn_guest_l1oip; leave it out"],
        ),
    ],
)
def test_what_stands_in_the_way(
    devices: list[t.Any], machine: dict[str, t.Any], wanted: dict[str, t.Any], faults: list[str]
) -> None:
    tells(plan(devices, machine, **wanted), faults)


def test_all_is_told_at_once() -> None:
    made = plan([REFUSED, FRITZ_21], {"groups": []}, l1oip=[{}], module_options={"x": "y"})
    assert len(made["faults"]) == 5


def test_the_role_knows_all_files() -> None:
    role = yaml.safe_load((Path(__file__).parents[4] / "roles/isdn_guest/vars/main.yml").read_text())
    names = {f"{{{{ {name} }}}}": role[name] for name in role if isinstance(role[name], str)}
    assert tuple(names.get(path, path) for path in role["__isdn_guest_files"]) == _isdn_plan.FILES
    assert tuple(names.get(path, path) for path in role["__isdn_guest_blocks"]) == _dahdi_plan.BLOCKS
