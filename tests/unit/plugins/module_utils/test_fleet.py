# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _fleet
from ansible_collections.kvm.passthrough.plugins.module_utils._check import BLOCKER, WARNING
from ansible_collections.kvm.passthrough.plugins.module_utils._fleet import (
    HostRelease,
    Wish,
    make_plan,
    refusal,
    release,
    staying,
)

ISDN, DVB1, DVB2, UPLINK = "0000:06:00.0", "0000:03:02.0", "0000:03:06.0", "0000:01:00.0"
DEVICES = [
    {"address": UPLINK, "id": "8086:10d3", "driver": "e1000e", "class": "020000", "iommu_group": 1},
    {"address": DVB1, "id": "1131:7146", "subsystem_id": "13c2:1003", "class": "048000", "iommu_group": 12},
    {"address": DVB2, "id": "1131:7146", "subsystem_id": "13c2:1011", "class": "048000", "iommu_group": 12},
    {"address": ISDN, "id": "1397:08b4", "driver": "vfio-pci", "class": "020400", "iommu_group": 6},
]


def finding(check: str, severity: str = BLOCKER, repaired_by: str | None = None) -> dict[str, t.Any]:
    return {
        "check": check,
        "severity": severity,
        "message": f"it has {check}",
        "remedy": f"Mend {check}",
        "repaired_by": repaired_by,
    }


def verdict(
    found: t.Mapping[str, t.Sequence[dict[str, t.Any]]] | None = None,
    host: t.Sequence[dict[str, t.Any]] = (),
    guests: t.Sequence[tuple[str, bool, list[str]]] = (),
) -> dict[str, t.Any]:
    """What passthrough_info returns, with these findings by address."""
    return {
        "host": {"verdict": "capable", "findings": list(host)},
        "devices": [
            {"address": device["address"], "findings": list((found or {}).get(str(device["address"]), ()))}
            for device in DEVICES
        ],
        "guests": [{"name": name, "running": running, "devices": devices} for name, running, devices in guests],
        "ansible_facts": {"pci_devices": DEVICES},
    }


def guest(name: str, *selectors: t.Any) -> Wish:
    return Wish(list(selectors), name, name)


def faults(
    judged: dict[str, t.Any],
    *wishes: Wish,
    own: list[t.Any] | None = None,
    force: t.Any = (),
    letting_go: t.Container[str] = (),
) -> list[str]:
    """The faults of hv1; what leaves follows from the guests, unless told."""
    derived = [selector for wish in wishes for selector in wish.selectors]
    plan = make_plan("hv1", judged, derived if own is None else own, wishes, force, letting_go)
    assert all(fault.text.startswith("hv1: ") for fault in plan.faults)
    return [fault.text[len("hv1: ") :] for fault in plan.faults]


def test_a_plan_without_faults() -> None:
    wishes = [guest("dvb1", {"card": "saa7146-budget-ci"}, DVB1), guest("fax1", {"query": "[?class=='020400']"})]
    plan = make_plan("hv1", verdict(), [selector for wish in wishes for selector in wish.selectors], wishes)
    assert plan.faults == []
    assert [device["address"] for device in plan.leaving] == [DVB1, DVB2, ISDN]
    assert plan.guests == {"dvb1": [DVB2, DVB1], "fax1": [ISDN]}


def test_nothing_is_wanted() -> None:
    """A host that gives nothing away may lack all that it takes."""
    plan = make_plan("hv1", verdict({UPLINK: [finding("net_inuse")]}, host=[finding("iommu_table")]), [], [])
    assert (plan.faults, plan.leaving, plan.guests) == ([], [], {})


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        ({"unreachable": True, "msg": "No route to host"}, "hv1 is unreachable: No route to host"),
        ({"failed": True, "msg": "No python"}, "hv1 cannot be judged: No python"),
        ({"skipped": True}, "hv1 cannot be judged: no reason given"),
    ],
)
def test_a_host_without_a_verdict(ended: dict[str, t.Any], text: str) -> None:
    plan = make_plan("hv1", ended, [ISDN], [guest("fax1", ISDN)])
    assert [(fault.text, fault.guests) for fault in plan.faults] == [(text, ())]
    assert not plan.leaving


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ([guest("fax1", 4860.0)], ["kvm_guest_pci_devices of fax1: 4860.0 is a number where a PCI address belongs"]),
        (
            [guest("fax1", {"vendor": "avm"})],
            ['kvm_guest_pci_devices of fax1: Selector {"vendor": "avm"} has the unknown'],
        ),
        (
            [guest("fax1", {"id": "1397:16b8"})],
            ['kvm_guest_pci_devices of fax1: Selector {"id": "1397:16b8"} matches no'],
        ),
        (
            [guest("dvb1", {"id": "1131:7146"})],
            ['kvm_guest_pci_devices of dvb1: Selector {"id": "1131:7146"} matches 2'],
        ),
        (
            [guest("fax1", 4860.0, "07:00.0"), guest("fax2", "08:00.0")],
            [
                "kvm_guest_pci_devices of fax1: 4860.0 is a number",
                'kvm_guest_pci_devices of fax1: Selector "07:00.0" matches no device',
                'kvm_guest_pci_devices of fax2: Selector "08:00.0" matches no device',
            ],
        ),
        (
            [guest("fax1", ISDN, {"card": "hfc-4s"})],
            [
                f'kvm_guest_pci_devices of fax1: selectors "{ISDN}" and {{"card": "hfc-4s"}} both match {ISDN}. Remove'
                " one of them, or add a key that tells their devices apart"
            ],
        ),
        (
            [guest("fax1", ISDN), guest("fax2", {"id": "1397:08b4"})],
            [
                f'{ISDN} is promised twice, by kvm_guest_pci_devices of fax1 ("{ISDN}") and kvm_guest_pci_devices of'
                ' fax2 ({"id": "1397:08b4"}). Only one guest can have it'
            ],
        ),
        (
            [guest("fax1", ISDN), guest("fax2", ISDN), guest("fax3", ISDN)],
            [f"{ISDN} is promised 3 times, by kvm_guest_pci_devices of fax1"],
        ),
        (
            [guest("dvb1", DVB1), guest("dvb2", DVB2)],
            [
                f"IOMMU group 12 is split between dvb1 ({DVB1}) and dvb2 ({DVB2}). Promise all of it to one of them, or"
                " put the cards into slots whose groups are their own"
            ],
        ),
        ([guest("dvb1", DVB1, DVB2)], []),
        ([guest("dvb1", DVB1), guest("fax1", ISDN)], []),
        (
            [guest("dvb1", DVB1), guest("dvb2", DVB1)],
            [f"{DVB1} is promised twice"],
        ),
        (
            [Wish([], "fax1", "fax1", "kvm_guest_pci_devices cannot be read")],
            ["kvm_guest_pci_devices of fax1: kvm_guest_"],
        ),
    ],
)
def test_promises(wishes: list[Wish], expected: list[str]) -> None:
    found = faults(verdict(), *wishes)
    assert [fault[: len(start)] for fault, start in zip(found, expected)] == expected
    assert len(found) == len(expected)


def test_faults_know_their_guests() -> None:
    wishes = [guest("fax1", ISDN), guest("fax2", ISDN), guest("dvb1", 1.0)]
    plan = make_plan("hv1", verdict(host=[finding("kvm_dev")]), [ISDN, ISDN, 1.0], wishes)
    assert [fault.guests for fault in plan.faults] == [("dvb1",), (), ("fax1", "fax2")]


def test_groups_that_are_unknown_are_not_split() -> None:
    """As on a host of which the IOMMU is yet to be switched on."""
    judged = verdict()
    judged["ansible_facts"] = {"pci_devices": [dict(device, iommu_group=None) for device in DEVICES]}
    assert faults(judged, guest("dvb1", DVB1), guest("dvb2", DVB2)) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (finding("reset_none", WARNING), []),
        (finding("iommu_intel", repaired_by="kvm.passthrough.prepare"), []),
        (finding("iommu_on"), ["it has iommu_on. Mend iommu_on"]),
    ],
)
def test_findings_on_the_host(found: dict[str, t.Any], expected: list[str]) -> None:
    assert faults(verdict(host=[found]), guest("fax1", ISDN)) == expected


@pytest.mark.parametrize(
    ("found", "force", "expected"),
    [
        ([finding("reset_none", WARNING)], [], []),
        ([finding("dev_group", repaired_by="kvm.passthrough.prepare")], [], []),
        ([finding("bridge")], [], ["bridge"]),
        ([finding("bridge")], ["06:00.0"], ["bridge"]),
        ([finding("net_inuse")], [], ["net_inuse"]),
        ([finding("net_inuse")], ["06:00.0"], []),
        ([finding("net_inuse")], ISDN, []),
        ([finding("net_inuse")], [UPLINK], ["net_inuse"]),
        ([finding("net_inuse"), finding("bridge")], [ISDN], ["bridge"]),
        ([finding("guest_holds")], [ISDN], ["guest_holds"]),
        ([finding("group_viable"), finding("group_critical")], [], ["group_viable", "group_critical"]),
        ([finding("group_critical")], [], ["group_critical"]),
    ],
)
def test_findings_on_a_device(found: list[dict[str, t.Any]], force: t.Any, expected: list[str]) -> None:
    assert faults(verdict({ISDN: found, UPLINK: [finding("net_inuse")]}), guest("fax1", ISDN), force=force) == [
        f"kvm_guest_pci_devices of fax1: it has {check}. Mend {check}" for check in expected
    ]


def test_what_may_be_forced() -> None:
    assert {"net_inuse", "block_inuse", "vga_console"} <= _fleet._FORCED
    assert not {"guest_running", "guest_holds", "bridge", "group_viable", "group_critical"} & _fleet._FORCED


@pytest.mark.parametrize("force", ["6:0.0", 360.0])
def test_force_that_names_no_device(force: t.Any) -> None:
    assert [text[:15] for text in faults(verdict(), guest("fax1", ISDN), force=[force])] == ["kvm_host_force:"]


HELD = {ISDN: [finding("guest_running")]}
HOLDS = "kvm_guest_pci_devices of fax1: it has guest_running. Mend guest_running"


@pytest.mark.parametrize(
    ("guests", "wish", "expected"),
    [
        ([("fax1", True, [ISDN])], guest("fax1", ISDN), []),
        ([("fax1", True, [ISDN]), ("fax2", False, [ISDN])], guest("fax1", ISDN), []),
        ([("libvirt1", True, [ISDN])], Wish([ISDN], "fax1", "libvirt1"), []),
        ([("fax2", True, [ISDN])], guest("fax1", ISDN), [HOLDS]),
        ([("fax1", True, [ISDN]), ("fax2", True, [ISDN])], guest("fax1", ISDN), [HOLDS]),
        ([("fax1", False, [ISDN]), ("fax2", True, [ISDN])], guest("fax1", ISDN), [HOLDS]),
        ([], guest("fax1", ISDN), [HOLDS]),
    ],
)
def test_a_guest_that_runs_with_what_it_is_promised(
    guests: list[tuple[str, bool, list[str]]], wish: Wish, expected: list[str]
) -> None:
    assert faults(verdict(HELD, guests=guests), wish) == expected


HINT = "; or have dvb1 in the run of deploy (--limit), which lets go first"


@pytest.mark.parametrize(
    ("guests", "others", "letting_go", "expected"),
    [
        ([("tv", True, [ISDN])], [Wish([DVB1], "dvb1", "tv")], ["dvb1", "fax1"], []),
        ([("tv", True, [ISDN])], [Wish([DVB1], "dvb1", "tv")], ["fax1"], [HOLDS + HINT]),
        ([("tv", True, [ISDN])], [Wish([DVB1], "dvb1", "tv")], ["tv"], [HOLDS + HINT]),
        ([("tv", True, [ISDN]), ("fax1", True, [ISDN])], [Wish([], "dvb1", "tv")], ["dvb1"], []),
        ([("tv", True, [ISDN]), ("mine", True, [ISDN])], [Wish([], "dvb1", "tv")], ["dvb1"], [HOLDS]),
        ([("mine", True, [ISDN])], [], ["dvb1"], [HOLDS]),
        ([], [Wish([], "dvb1", "tv")], ["dvb1"], [HOLDS]),
    ],
)
def test_a_guest_that_lets_go_of_what_it_is_not_promised(
    guests: list[tuple[str, bool, list[str]]], others: list[Wish], letting_go: list[str], expected: list[str]
) -> None:
    judged = verdict(HELD, guests=guests)
    assert faults(judged, guest("fax1", ISDN), *others, letting_go=letting_go) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"name": "pbx"}, {"name": "pbx"}, ["fax1 and fax2 have the same kvm_guest_name, pbx. Give each its own"]),
        (
            {"mac": "52:54:00:AA:00:01"},
            {"mac": "52:54:00:aa:00:01"},
            ["fax1 and fax2 have the same kvm_guest_mac, 52:54:00:aa:00:01. Give each its own"],
        ),
        (
            {"disks": ["/srv/a", "/srv/b"]},
            {"disks": ["/srv/b"]},
            ["fax1 and fax2 have the same disk, /srv/b. Give each its own"],
        ),
        ({"disks": ["/srv/a", "/srv/a"]}, {}, []),
        ({"name": "pbx", "mac": "52:54:00:aa:00:01", "disks": ["/srv/a"]}, {"name": "fax2"}, []),
    ],
)
def test_what_two_guests_cannot_share(one: dict[str, t.Any], other: dict[str, t.Any], expected: list[str]) -> None:
    wishes = [Wish([], "fax1", **{"name": "fax1", **one}), Wish([], "fax2", **{"name": "fax2", **other})]
    assert faults(verdict(), *wishes) == expected
    assert all(fault.guests == ("fax1", "fax2") for fault in make_plan("hv1", verdict(), [], wishes).faults)


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [
        (ISDN, ISDN, []),
        (ISDN, UPLINK, ["device: it has net_inuse. Mend net_inuse"]),
        (
            ISDN,
            DVB2,
            [
                f'{DVB2} is promised twice, by device ("{DVB2}") and kvm_guest_pci_devices of dvb1 ("{DVB2}"). Only one'
                " guest can have it"
            ],
        ),
        (DVB1, DVB1, [f"IOMMU group 12 is split between fax1 ({DVB1}) and dvb1 ({DVB2}). Promise all of it to one"]),
        (ISDN, "09:00.0", ['device: Selector "09:00.0" matches no device']),
    ],
)
def test_a_wish_more_of_a_guest(own: str, wanted: str, expected: list[str]) -> None:
    """As the playbook attach has it: not from the inventory, and the guest may have the device already."""
    wishes = [Wish([own], "fax1", "fax1"), Wish([wanted], "fax1", "fax1", source="device"), guest("dvb1", DVB2)]
    found = faults(verdict({UPLINK: [finding("net_inuse")]}), *wishes)
    assert [fault[: len(start)] for fault, start in zip(found, expected)] == expected
    assert len(found) == len(expected)


def test_wishes_of_one_guest_come_together() -> None:
    wishes = [Wish([ISDN], "fax1", "fax1"), Wish([DVB1, ISDN], "fax1", "fax1", source="device")]
    assert make_plan("hv1", verdict(), [ISDN, DVB1, ISDN], wishes).guests == {"fax1": [ISDN, DVB1]}


def test_what_leaves_may_be_written_by_hand() -> None:
    judged = verdict({DVB1: [finding("bridge")], **HELD})
    plan = make_plan("hv1", judged, [DVB1, {"id": "1397:*"}, "09:00.0"], [guest("fax1", UPLINK)])
    assert [device["address"] for device in plan.leaving] == [DVB1, ISDN]
    assert plan.guests == {"fax1": [UPLINK]}
    found = [fault.text for fault in plan.faults]
    assert found[0].startswith('hv1: kvm_host_pci_devices: Selector "09:00.0" matches no device')
    # A guest of somebody else's may hold what was let go for it.
    assert found[1:] == [
        f"hv1: kvm_guest_pci_devices of fax1 names {UPLINK}, which kvm_host_pci_devices does not let go. Add it there,"
        " or leave kvm_host_pci_devices to follow from the guests",
        "hv1: kvm_host_pci_devices: it has bridge. Mend bridge",
    ]


@pytest.mark.parametrize("single", [{"id": "1397:08b4"}, "06:00.0"])
def test_a_selector_without_a_list(single: t.Any) -> None:
    plan = make_plan("hv1", verdict(), [single], [Wish(single, "fax1", "fax1")])
    assert (plan.faults, plan.guests) == ([], {"fax1": [ISDN]})


@pytest.mark.parametrize(
    ("found", "limit", "expected"),
    [
        ({"hv1": [], "fax1": []}, None, ""),
        (
            {"hv1": ["hv1: one"], "hv2": [], "fax1": [], "fax2": []},
            None,
            "1 fault in the plan, nothing was changed:\n- hv1: one\n"
            "The others can go on without them: --limit 'all,!hv1,!fax1'",
        ),
        (
            {"hv1": ["hv1: one", "hv1: two"], "hv2": [], "fax1": ["hv1: two"], "fax2": ["fax2: three\n of  it"]},
            "site_a:&new",
            "3 faults in the plan, nothing was changed:\n- hv1: one\n- hv1: two\n- fax2: three of it\n"
            "The others can go on without them: --limit 'site_a:&new:!hv1:!fax1:!fax2'",
        ),
        (
            {"hv1": ["hv1: one"], "fd00::2": []},
            "hv1,fd00::2",
            "1 fault in the plan, nothing was changed:\n- hv1: one\n"
            "The others can go on without them: --limit 'hv1,fd00::2,!hv1'",
        ),
        (
            {"hv2": ["hv2 is unreachable: Task failed: No route"], "fax2": []},
            None,
            "1 fault in the plan, nothing was changed:\n- hv2 is unreachable: No route",
        ),
    ],
)
def test_refusal(found: dict[str, list[str]], limit: str | None, expected: str) -> None:
    guests = {"fax1": "hv1", "fax2": "hv2", "fax3": "hv1"}
    assert refusal(found, {name: host for name, host in guests.items() if name in found}, limit) == expected


FLEET = {
    "hv1": [Wish([ISDN], "fax1", "FAX"), Wish([DVB1, DVB2], "dvb1", "dvb1")],
    "hv2": [Wish([ISDN], "fax2", "fax2")],
    "hv9": [Wish([], "fax9", "fax9")],
}
GUESTS = ["fax1", "dvb1", "fax2"]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (
            ["hv1", "hv2", "hv3", *GUESTS],
            {
                "hv1": HostRelease(["FAX", "dvb1"], []),
                "hv2": HostRelease(["fax2"], []),
                "hv3": HostRelease([], []),
            },
        ),
        (["fax1", "hv1"], {"hv1": HostRelease(["FAX"], [DVB1, DVB2])}),
        (["dvb1", "hv1", "hv3"], {"hv1": HostRelease(["dvb1"], [ISDN]), "hv3": HostRelease([], [])}),
        ([], {}),
    ],
)
def test_release(run: list[str], expected: dict[str, HostRelease]) -> None:
    assert release(FLEET, run, ["hv1", "hv2", "hv3"], GUESTS) == ([], expected)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (
            ["hv1"],
            [
                "hv1 has the guests fax1, dvb1, which are not in this run. To release the host and all of them: --limit"
                " 'hv1,fax1,dvb1'"
            ],
        ),
        (
            ["fax1", "dvb1", "fax2", "hv2"],
            [
                "fax1, dvb1: the hypervisor hv1, which gets the devices back, is not in this run. To release what they"
                " have: --limit 'fax1,dvb1,hv1'"
            ],
        ),
        (
            ["hv1", "fax2"],
            ["hv1 has the guests fax1, dvb1, which", "fax2: the hypervisor hv2, which gets the devices back, is not"],
        ),
        (["fax9", "fax8"], ["fax9: kvm_guest_host is hv9; it must be", "fax8: kvm_guest_host is not set; it must be"]),
    ],
)
def test_a_release_that_cannot_be_meant(run: list[str], expected: list[str]) -> None:
    found = release(FLEET, run, ["hv1", "hv2", "hv3"], [*GUESTS, "fax8", "fax9"])[0]
    assert [fault[: len(start)] for fault, start in zip(found, expected)] == expected
    assert len(found) == len(expected)


PF, VF0, VF1 = "0000:05:00.0", "0000:05:10.0", "0000:05:10.2"


def bound(
    address: str, pci_id: str, *modules: str, driver: str | None = "vfio-pci", **sriov: t.Any
) -> dict[str, t.Any]:
    return {"address": address, "id": pci_id, "driver": driver, "modules": list(modules), "sriov": sriov}


MACHINE = [
    bound(DVB1, "1131:7146", "budget_av"),
    bound(DVB2, "1131:7146", "budget_av"),
    bound(PF, "8086:10c9", "igb", driver="igb", num_vfs=2),
    bound(VF0, "8086:10ca", "igbvf", physical_function=PF),
    bound(VF1, "8086:10ca", "igbvf", physical_function=PF),
    bound(ISDN, "1397:08b4", "hfcmulti"),
]


@pytest.mark.parametrize(
    ("keep", "released", "expected"),
    [
        ([], ["fax1", "dvb1"], ([], [], [], [DVB1, VF0, ISDN])),
        ([ISDN], ["dvb1"], ([ISDN], ["hfc4s8s_l1", "hfcmulti", "qozap", "wcb4xxp"], [], [DVB1, VF0])),
        ([DVB1], ["fax1"], ([DVB1], [], [], [ISDN])),
        ([{"id": "1131:7146"}], ["fax1"], ([DVB1, DVB2], ["budget_av"], [], [ISDN])),
        ([VF1, 4860.0, "09:00.0"], ["dvb1"], ([VF1], [], [{"address": PF, "num_vfs": 2}], [DVB1, VF0])),
        ([], [], ([], [], [], [])),
    ],
)
def test_staying(keep: list[t.Any], released: list[str], expected: tuple[list[t.Any], ...]) -> None:
    guests = [{"name": "fax1", "devices": [ISDN]}, {"name": "dvb1", "devices": [DVB1, VF0]}]
    judged = {"guests": guests, "ansible_facts": {"pci_devices": MACHINE}}
    keys = ("addresses", "modules", "functions", "pending")
    assert staying(judged, keep, released) == dict(zip(keys, expected))
