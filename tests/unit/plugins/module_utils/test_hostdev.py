# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, InvalidInput, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._hostdev import (
    LIVE,
    PERSISTENT,
    Assigned,
    Definition,
    Guest,
    HostDevice,
    Request,
    decide,
    read_host,
    refuse,
    result,
    warnings,
)
from ansible_collections.kvm.passthrough.plugins.module_utils._use import Use
from ansible_collections.kvm.passthrough.tests.unit.libvirt_host import definition, interface, nvme, source
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space

A, B, C = "0000:06:00.0", "0000:06:00.1", "0000:09:00.0"
ON_VFIO = HostDevice(driver="vfio-pci")

ATTACH_A, ATTACH_B = f"attach {A} to the running fax1", f"attach {B} to the running fax1"
ADD_A, ADD_B = (f"add {address} to the persistent definition of fax1, managed='no'" for address in (A, B))
DETACH_A, DETACH_B = f"detach {A} from the running fax1", f"detach {B} from the running fax1"
REMOVE_A, REMOVE_B = (f"remove {address} from the persistent definition of fax1" for address in (A, B))


def asked(*addresses: str, **options: t.Any) -> Request:
    return Request("fax1", addresses, **options)


def guest(live: t.Sequence[str] | None, persistent: t.Sequence[str] | None, **layout: t.Any) -> Guest:
    """fax1 with these devices in its definitions, given by address or as XML; None where there is no definition."""
    found = []
    for devices in (live, persistent):
        xml = [device if device.startswith("<") else source(device) for device in devices or ()]
        found.append(None if devices is None else Definition.parse(definition(*xml, **layout)))
    return Guest("fax1", *found)


# ---------------------------------------------------------------------------------------------------------------------
# The request


def test_a_request_has_whole_addresses() -> None:
    request = Request.parse("fax1", ["09:00.0", "06:00.0"], "present", True, False, False, True, 5, ["06:00.1"])
    assert request == Request("fax1", (A, C), True, True, False, False, True, 5, (B,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"addresses": ["6:0"]}, "'6:0' is no PCI address"),
        ({"addresses": [A, "06:00.0"]}, f"{A} is named twice; name each device once"),
        ({"addresses": []}, "addresses is empty, which only makes sense together with exclusive: true"),
        ({"state": "absent", "exclusive": True}, "exclusive: true goes with state: present; with absent, name the"),
        ({"live": False, "persistent": False}, "live and persistent are both false, so that there is nothing to do"),
        ({"timeout": 0}, "timeout is 0; it is a number of seconds, at least 1"),
    ],
)
def test_a_request_that_cannot_be_meant(options: dict[str, t.Any], message: str) -> None:
    whole: dict[str, t.Any] = {"guest": "fax1", "addresses": [A], "state": "present", "live": True, "persistent": True}
    whole.update({"exclusive": False, "managed": False, "timeout": 30, **options})
    with pytest.raises(InvalidInput) as error:
        Request.parse(**whole)
    assert message in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# Definitions


def test_devices_of_a_definition() -> None:
    usb = "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='4'/></source></hostdev>"
    odd = source(C).replace("0x09", "nine")
    found = Definition.parse(
        definition(source(A, "yes", "0000:02:00.0"), interface(B), nvme("0000:0a:00.0"), usb, odd)
    ).devices
    assert [(d.address, d.kind, d.managed, d.guest_address) for d in found.values()] == [
        (A, "hostdev", True, "0000:02:00.0"),
        (B, "interface", False, "0000:04:00.0"),
        ("0000:0a:00.0", "disk", False, None),
    ]
    assert Definition.parse("<domain/>").devices == {}
    with pytest.raises(HostFailure, match="libvirt's definition of the guest is no XML"):
        Definition.parse("<domain>")


def test_what_is_handed_to_libvirt() -> None:
    device = Assigned.new("0001:0a:1f.7", managed=False)
    assert device.xml == (
        "<hostdev mode='subsystem' type='pci' managed='no'><source>"
        "<address domain='0x0001' bus='0x0a' slot='0x1f' function='0x7'/></source></hostdev>"
    )
    other = next(iter(Definition.parse(definition(source(A, "yes", "0000:02:00.0"))).devices.values()))
    same = other.with_managed(False)
    assert (same.managed, same.guest_address, same.xml) == (
        False,
        "0000:02:00.0",
        other.xml.replace('managed="yes"', 'managed="no"'),
    )


BRIDGE = """
<controller type='pci' index='9' model='pcie-to-pci-bridge'>
  <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
</controller>
"""
DMI = "<controller type='pci' index='9' model='dmi-to-pci-bridge'/>"
SWITCH = "".join(
    f"<controller type='pci' index='{index}' model='pcie-switch-{kind}-port'/>"
    for index, kind in ((20, "upstream"), (21, "downstream"), (22, "downstream"))
)
UNPLUGGABLE = "<controller type='pci' index='30' model='pcie-root-port'><target hotplug='off'/></controller>"


@pytest.mark.parametrize(
    ("layout", "devices", "leaving", "express", "conventional"),
    [
        ({}, [], [], 4, 0),
        ({"ports": 0}, [], [], 0, 0),
        ({}, [source(A, place="0000:02:00.0")], [], 3, 0),
        ({}, [source(A, place="0000:02:00.0")], ["0000:02:00.0"], 4, 0),
        # Two functions in one slot: it is free once both have gone.
        ({}, [source(A, place="0000:02:00.0"), source(B, place="0000:02:00.1")], ["0000:02:00.0"], 3, 0),
        (
            {},
            [source(A, place="0000:02:00.0"), source(B, place="0000:02:00.1")],
            ["0000:02:00.0", "0000:02:00.1"],
            4,
            0,
        ),
        ({"more": BRIDGE}, [], [], 3, 31),
        ({"more": BRIDGE}, [source(A, place="0000:09:01.0"), source(B, place="0000:09:1f.0")], [], 3, 29),
        ({"more": DMI}, [], [], 4, 0),
        ({"more": SWITCH}, [], [], 6, 0),
        ({"more": UNPLUGGABLE}, [], [], 4, 0),
        ({"root": "pci-root"}, [], [], 0, 30),
        ({"root": "pci-root"}, [source(A, place="0000:00:05.0")], [], 0, 29),
        ({"root": "pci-root"}, [source(A, place="0000:00:05.0")], ["0000:00:05.0"], 0, 30),
    ],
)
def test_free_slots(
    layout: dict[str, t.Any], devices: list[str], leaving: list[str], express: int, conventional: int
) -> None:
    found = Definition.parse(definition(*devices, **layout))
    assert (found.free_slots(True, leaving), found.free_slots(False, leaving)) == (express, conventional)


# ---------------------------------------------------------------------------------------------------------------------
# Deciding


@pytest.mark.parametrize(
    ("live", "persistent", "options", "actions"),
    [
        # Present: running, stopped, transient; each definition on its own.
        ([], [], {}, [ATTACH_A, ADD_A]),
        ([A], [A], {}, []),
        ([A], [], {}, [ADD_A]),
        ([], [A], {}, [ATTACH_A]),
        (None, [], {}, [ADD_A]),
        (None, [A], {}, []),
        ([], [], {"persistent": False}, [ATTACH_A]),
        ([], [], {"live": False}, [ADD_A]),
        ([A], [], {"persistent": False}, []),
        (None, [], {"persistent": False}, []),
        ([], None, {"persistent": False}, [ATTACH_A]),
        # Absent, likewise.
        ([A], [A], {"present": False}, [REMOVE_A, DETACH_A]),
        ([A], [], {"present": False}, [DETACH_A]),
        ([], [A], {"present": False}, [REMOVE_A]),
        ([], [], {"present": False}, []),
        (None, [A], {"present": False}, [REMOVE_A]),
        ([A], None, {"present": False}, [DETACH_A]),
        ([A], [A], {"present": False, "persistent": False}, [DETACH_A]),
        ([A], [A], {"present": False, "live": False}, [REMOVE_A]),
        ([A, B], [A, B], {"present": False}, [REMOVE_A, DETACH_A]),
        # Others are kept, or not.
        ([B], [B], {}, [ATTACH_A, ADD_A]),
        ([B], [], {"exclusive": True}, [DETACH_B, ATTACH_A, ADD_A]),
        ([A, B], [A, B], {"exclusive": True}, [REMOVE_B, DETACH_B]),
        ([A, B], [A, B], {"exclusive": True, "live": False}, [REMOVE_B]),
        ([A, interface(B)], [A, nvme(C)], {"exclusive": True}, []),
        # An interface is as good as a hostdev.
        ([interface(A)], [interface(A)], {}, []),
        ([interface(A)], [interface(A)], {"present": False}, [REMOVE_A, DETACH_A]),
        # Who binds it is corrected where it can be.
        ([source(A, "yes")], [source(A, "yes")], {}, [REMOVE_A, ADD_A]),
        ([A], [A], {"managed": True}, [REMOVE_A, ADD_A.replace("'no'", "'yes'")]),
        ([source(A, "yes")], [source(A, "yes")], {"managed": True}, []),
        ([source(A, "yes")], [source(A, "yes")], {"persistent": False}, []),
    ],
)
def test_what_must_change(
    live: list[str] | None, persistent: list[str] | None, options: dict[str, t.Any], actions: list[str]
) -> None:
    request, before = asked(A, **options), guest(live, persistent)
    plan = decide(request, before)
    assert [step.action("fax1") for step in plan.steps] == actions
    # What is predicted needs no further change.
    assert decide(request, before.after(plan.steps)).steps == ()


def test_the_order_of_several() -> None:
    plan = decide(asked(A, B), guest([], []))
    assert [step.action("fax1") for step in plan.steps] == [ATTACH_A, ATTACH_B, ADD_A, ADD_B]
    plan = decide(asked(exclusive=True), guest([A, B], [A, B]))
    assert [step.action("fax1") for step in plan.steps] == [REMOVE_A, REMOVE_B, DETACH_A, DETACH_B]


def test_a_correction_attaches_nothing_new() -> None:
    plan = decide(asked(A), guest([A], [source(A, "yes")]))
    assert (plan.attached(LIVE), plan.attached(PERSISTENT)) == ([], [])


def refusal(
    request: Request,
    present: Guest,
    host: t.Mapping[str, HostDevice] | None = None,
    holders: t.Mapping[str, str] | None = None,
) -> str:
    """The refusal of what is asked, or nothing. By default every device is on vfio-pci, and nobody has it."""
    devices = dict.fromkeys((A, B, C), ON_VFIO)
    devices.update(host or {})
    try:
        refuse(request, present, decide(request, present), devices, holders or {})
    except Refused as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("device", "options", "message"),
    [
        (ON_VFIO, {}, ""),
        (HostDevice(driver="mlx5_vfio_pci"), {}, ""),
        (HostDevice(exists=False), {}, f"{A} is not on this host; see kvm.passthrough.pci_facts for what is"),
        (
            HostDevice(driver="e1000e"),
            {},
            f"{A} is bound to e1000e, where fax1 needs it on vfio-pci; bind it with kvm.passthrough.pci_driver or the"
            f" playbook kvm.passthrough.prepare, or set managed: true",
        ),
        (
            HostDevice(driver="hfc_multi"),
            {"managed": True},
            f"{A} is bound to hfc_multi, whose removal is a bug of its own: it sleeps under a spinlock, and the kernel"
            f" hangs; run the playbook kvm.passthrough.prepare and reboot the host",
        ),
        (HostDevice(), {}, f"{A} is bound to no driver, where fax1 needs it on vfio-pci; bind it with"),
        (HostDevice(driver="e1000e"), {"managed": True}, ""),
        (
            HostDevice(driver="e1000e", uses=(Use("default_route", "carries the default route (enp6s0)", "x"),) * 2),
            {"managed": True},
            f"{A} carries the default route (enp6s0); give fax1 another device. If the host can do without it, bind it"
            f" with kvm.passthrough.pci_driver and force first",
        ),
    ],
)
@pytest.mark.parametrize("running", [True, False])
def test_devices_that_cannot_be_given(
    device: HostDevice, options: dict[str, t.Any], message: str, running: bool
) -> None:
    said = refusal(asked(A, **options), guest([] if running else None, []), {A: device})
    assert said.startswith(message)
    assert bool(said) == bool(message)
    # What the guest has already, or loses, is not looked at.
    assert refusal(asked(A), guest([A] if running else None, [A]), {A: device}) == ""
    assert refusal(asked(A, present=False), guest([A] if running else None, [A]), {A: device}) == ""


def test_devices_of_another_guest() -> None:
    holders = {A: "the running guest fax2"}
    assert refusal(asked(A, B), guest([], []), holders=holders) == (
        f"{A} is held by the running guest fax2; take it from there with state: absent first"
    )
    assert refusal(asked(A), guest([A], [A]), holders=holders) == ""


def test_all_reasons_are_told_at_once() -> None:
    said = refusal(asked(A, B), guest([], None), {A: HostDevice(driver="e1000e"), B: HostDevice(exists=False)})
    assert [line.split(";")[0] for line in said.split("\n")] == [
        "fax1 is transient and has no persistent definition",
        f"{A} is bound to e1000e, where fax1 needs it on vfio-pci",
        f"{B} is not on this host",
    ]


def test_a_transient_guest() -> None:
    assert refusal(asked(A), guest([], None)).endswith("define it, or set persistent: false")
    assert refusal(asked(A, persistent=False), guest([], None)) == ""
    assert refusal(asked(A, present=False), guest([A], None)) == ""


@pytest.mark.parametrize("present", [True, False])
def test_disks_are_not_ours(present: bool) -> None:
    message = f"{A} is an NVMe disk of fax1; change it among the guest's disks"
    assert refusal(asked(A, present=present), guest([nvme(A)], [nvme(A)])) == message


CONVENTIONAL = HostDevice(driver="vfio-pci", express=False)
FULL = [source(C, place="0000:02:00.0")]
NO_PORT = (
    "fax1 has no free slot for the PCI Express device {}; it has 2 pcie-root-ports that take a device while it runs."
    " Set kvm_guest_hotplug_slots to at least {}, and restart it"
)
NO_BRIDGE = (
    "fax1 has no free slot for the conventional PCI device {}; such a device needs a pcie-to-pci-bridge, which cannot"
    " be added while it runs. Set live: false, so that libvirt adds one to the persistent definition, and restart it"
)


@pytest.mark.parametrize(
    ("present", "request_", "host", "message"),
    [
        (guest([], [], ports=1), asked(A), {}, ""),
        (guest(FULL, FULL, ports=1), asked(A), {}, NO_PORT.format(A, 1)),
        # What was plugged in by hand wants its slot again.
        (guest(FULL, [], ports=1), asked(A), {}, NO_PORT.format(A, 2)),
        (guest(FULL, FULL, ports=1), asked(A, exclusive=True), {}, ""),
        (guest(FULL, FULL, ports=1), asked(A, live=False), {}, ""),
        (guest(None, FULL, ports=0), asked(A), {}, ""),
        (
            guest([], [], ports=1),
            asked(A, B),
            {},
            NO_PORT.format("", 2).replace("no free slot", "1 free slot").replace("device ;", f"devices {A}, {B};"),
        ),
        (guest([], []), asked(A), {A: CONVENTIONAL}, NO_BRIDGE.format(A)),
        (guest([], [], more=BRIDGE), asked(A), {A: CONVENTIONAL}, ""),
        (guest([], [], ports=1), asked(A, B), {A: CONVENTIONAL}, NO_BRIDGE.format(A)),
        # Without PCI Express, all devices go to the root.
        (guest([], [], root="pci-root"), asked(A, B), {A: CONVENTIONAL}, ""),
    ],
)
def test_room_in_the_running_guest(
    present: Guest, request_: Request, host: dict[str, HostDevice], message: str
) -> None:
    assert refusal(request_, present, host) == message


def test_a_full_root() -> None:
    full = [source(f"0000:0b:{slot:02x}.0", place=f"0000:00:{slot:02x}.0") for slot in range(1, 32)]
    assert refusal(asked(A), guest(full, full, root="pci-root")) == (
        f"fax1 has no free slot for the conventional PCI device {A}; detach another device first"
    )


@pytest.mark.parametrize(
    ("live", "persistent", "options", "expected"),
    [
        ([], [], {}, []),
        (None, [], {}, []),
        (
            None,
            [],
            {"persistent": False},
            ["fax1 does not run, and its persistent definition is left alone (persistent:"],
        ),
        (None, [], {"persistent": False, "present": False}, []),
        (
            [source(A, "yes")],
            [A],
            {},
            [f"{A} runs in fax1 with managed='yes', so that libvirt gives it to the host's own"],
        ),
        ([source(A, "yes")], [A], {"managed": True}, []),
        ([source(A, "yes")], [A], {"live": False}, []),
        ([source(A, "yes")], [A], {"present": False}, []),
    ],
)
def test_warnings(
    live: list[str] | None, persistent: list[str], options: dict[str, t.Any], expected: list[str]
) -> None:
    said = warnings(asked(A, **options), guest(live, persistent))
    assert len(said) == len(expected)
    assert all(warning.startswith(start) for warning, start in zip(said, expected))


# ---------------------------------------------------------------------------------------------------------------------
# Looking, and telling


def test_what_the_host_says_of_devices(tmp_path: Path) -> None:
    tree = PciTree(tmp_path)
    tree.add(A, config_space(), driver="vfio-pci", attributes={"max_link_speed": "2.5 GT/s PCIe"})
    tree.add(B, config_space())
    assert read_host(str(tmp_path), [A, B, C], False, None) == {
        A: HostDevice(True, "vfio-pci", True),
        B: HostDevice(True, None, False),
        C: HostDevice(False, None, False),
    }


def test_what_will_be_ready(tmp_path: Path) -> None:
    """A conventional device of the host's own driver, and a virtual function that does not exist yet."""
    PciTree(tmp_path).add(A, config_space(), driver="hfcmulti")
    assert read_host(str(tmp_path), [A, B, C], False, None, pending=[A, B]) == {
        A: HostDevice(driver="vfio-pci", express=False),
        B: ON_VFIO,
        C: HostDevice(exists=False, express=False),
    }


@pytest.mark.parametrize("managed", [True, False])
def test_what_the_host_needs_counts_where_libvirt_would_take_it(tmp_path: Path, managed: bool) -> None:
    tree = PciTree(tmp_path)
    tree.add(A, config_space(header=1), pci_class="060400", driver="pcieport")
    uses = read_host(str(tmp_path), [A], managed, None)[A].uses
    assert [use.kind for use in uses] == (["bridge"] if managed else [])


def test_the_answer() -> None:
    request = asked(A)
    before = guest([B, source(C, place="0000:02:00.0")], [B])
    plan = decide(request, before)
    answer = result(request, before, before.after(plan.steps), plan, diff=True)
    assert answer == {
        "changed": True,
        "guest": "fax1",
        "running": True,
        "devices": [{"address": A, "live": True, "persistent": True, "guest_address": None}],
        "kept": [
            {"address": B, "live": True, "persistent": True, "guest_address": None},
            {"address": C, "live": True, "persistent": False, "guest_address": "0000:02:00.0"},
        ],
        "actions": [ATTACH_A, ADD_A],
        "warnings": [],
        "diff": {
            "before_header": "PCI devices of fax1",
            "after_header": "PCI devices of fax1",
            "before": f"live:\n  {B} managed='no'\n  {C} managed='no'\npersistent:\n  {B} managed='no'\n",
            "after": f"live:\n  {A} managed='no'\n  {B} managed='no'\n  {C} managed='no'\n"
            f"persistent:\n  {A} managed='no'\n  {B} managed='no'\n",
        },
    }


def test_the_answer_names_what_was_taken_away() -> None:
    request = asked(A, exclusive=True)
    before = guest(None, [source(A, place="0000:02:00.0"), B])
    plan = decide(request, before)
    answer = result(request, before, before.after(plan.steps), plan, diff=False)
    assert answer["devices"] == [
        {"address": A, "live": False, "persistent": True, "guest_address": "0000:02:00.0"},
        {"address": B, "live": False, "persistent": False, "guest_address": None},
    ]
    assert (answer["running"], answer["kept"], "diff" in answer) == (False, [], False)
