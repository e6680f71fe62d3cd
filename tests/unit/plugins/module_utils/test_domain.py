# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._domain import apply
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, InvalidInput, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._hostdev import Request
from ansible_collections.kvm.passthrough.tests.unit.libvirt_host import (
    VIR_DOMAIN_AFFECT_CONFIG,
    VIR_DOMAIN_AFFECT_LIVE,
    FakeDomain,
    FakeLibvirt,
    definition,
    source,
)
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space

A, B, C = "0000:06:00.0", "0000:06:00.1", "0000:09:00.0"
LIVE, CONFIG = VIR_DOMAIN_AFFECT_LIVE, VIR_DOMAIN_AFFECT_CONFIG
REFUSAL = "operation failed: unplug of device was rejected by the guest"

Run = t.Callable[..., t.Dict[str, t.Any]]


def domain(live: t.Sequence[str] | None, persistent: t.Sequence[str] | None, name: str = "fax1") -> FakeDomain:
    """A guest with these devices in its definitions; None where it has no such definition."""

    def xml(devices: t.Sequence[str] | None) -> str | None:
        places = (f"0000:{bus:02x}:00.0" for bus in range(2, 250))
        sources = [source(address, place=place) for address, place in zip(devices or (), places)]
        return None if devices is None else definition(*sources, name=name)

    return FakeDomain(xml(live), xml(persistent))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Ask for devices of a host that has A, B and C on vfio-pci."""
    tree = PciTree(tmp_path)
    for address in (A, B, C):
        tree.add(address, config_space(), driver="vfio-pci", attributes={"max_link_speed": "2.5 GT/s PCIe"})

    def call(libvirt: FakeLibvirt, *addresses: str, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        request = Request(**{"guest": "fax1", "addresses": addresses, "timeout": 30, **options})
        try:
            return apply(libvirt, "qemu:///system", request, str(tmp_path), None, check, True, libvirt)
        finally:
            assert libvirt.opened == []

    return call


def holds(guest: FakeDomain) -> list[list[str] | None]:
    """What the guest has, live and as it is defined."""
    return [None if guest.xml[which] is None else sorted(guest.holds(which)) for which in (LIVE, CONFIG)]


@pytest.mark.parametrize(
    ("live", "persistent", "options", "calls"),
    [
        ([], [], {}, ["attach live A", "attach config A"]),
        ([], [A], {}, ["attach live A"]),
        ([A], [], {}, ["attach config A"]),
        ([A], [A], {}, []),
        (None, [], {}, ["attach config A"]),
        ([], None, {"persistent": False}, ["attach live A"]),
        ([A], [A], {"present": False}, ["detach config A", "detach live A"]),
        ([A], [], {"present": False}, ["detach live A"]),
        ([], [A], {"present": False}, ["detach config A"]),
        (None, [A], {"present": False}, ["detach config A"]),
        ([], [], {"present": False}, []),
        ([B], [B], {"exclusive": True}, ["detach config B", "detach live B", "attach live A", "attach config A"]),
        ([A], [A], {"managed": True}, ["detach config A", "attach config A"]),
    ],
)
def test_four_runs(
    run: Run, live: list[str] | None, persistent: list[str] | None, options: dict[str, t.Any], calls: list[str]
) -> None:
    guest = domain(live, persistent)
    libvirt = FakeLibvirt(guest)
    predicted = run(libvirt, A, check=True, **options)
    assert guest.calls == []
    done = run(libvirt, A, **options)
    assert guest.calls == [call.replace("A", A).replace("B", B) for call in calls]
    assert done["changed"] == bool(calls)
    for device in [*done["devices"], *predicted["devices"]]:
        device.pop("guest_address")
    assert predicted == done
    again, again_predicted = run(libvirt, A, **options), run(libvirt, A, check=True, **options)
    assert again == again_predicted
    assert (again["changed"], again["actions"], len(guest.calls)) == (False, [], len(calls))


def test_where_the_guest_has_it(run: Run) -> None:
    libvirt = FakeLibvirt(domain([], []))
    answer = run(libvirt, A, B)
    assert [device["guest_address"] for device in answer["devices"]] == ["0000:02:00.0", "0000:03:00.0"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([domain([A], [], name="fax2")], f"{A} is held by the running guest fax2; take it from there with"),
        ([domain(None, [A], name="fax2")], f"{A} is held by the persistent definition of guest fax2; take it"),
        ([domain([], [A], name="fax2")], f"{A} is held by the persistent definition of guest fax2; take it"),
        ([domain([B], [B], name="fax2")], ""),
    ],
)
def test_another_guest_has_it(run: Run, others: list[FakeDomain], message: str) -> None:
    guest = domain([], [])
    libvirt = FakeLibvirt(guest, *others)
    if not message:
        assert run(libvirt, A)["changed"] is True
        return
    for check in (True, False):
        with pytest.raises(Refused) as error:
            run(libvirt, A, check=check)
        assert str(error.value).startswith(message)
    assert guest.calls == []


def test_another_guest_that_vanishes(run: Run) -> None:
    class Gone(FakeDomain):
        def XMLDesc(self, flags: int) -> str:  # noqa: N802 (libvirt's name)
            raise FakeLibvirt.libvirtError("Domain not found")

    gone = Gone(definition(source(A), name="fax2"), None)
    assert run(FakeLibvirt(domain([], []), gone), A)["changed"] is True


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([domain([], [], name="fax3"), domain(None, [], name="fax2")], "there are: fax2, fax3"),
        ([], "there are: none at all"),
    ],
)
def test_no_such_guest(run: Run, others: list[FakeDomain], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        run(FakeLibvirt(*others), A)
    assert str(error.value) == f"there is no guest fax1 on this host; {message}"


def test_no_daemon() -> None:
    with pytest.raises(HostFailure) as error:
        apply(FakeLibvirt(), "xen:///", Request("fax1", (A,)), "/", None, False, False)
    assert str(error.value) == (
        "libvirt did not connect to xen:/// (is virtqemud or libvirtd installed and enabled?): no connection driver"
        " available for xen:///"
    )


def test_no_room_is_said_before_anything_is_changed(run: Run) -> None:
    guest = FakeDomain(definition(source(C, place="0000:02:00.0"), ports=2), definition(ports=2))
    for check in (True, False):
        with pytest.raises(
            Refused, match="1 free slot for the PCI Express devices .* Set kvm_guest_hotplug_slots to at"
        ):
            run(FakeLibvirt(guest), A, B, check=check)
    assert guest.calls == []


# ---------------------------------------------------------------------------------------------------------------------
# Guests that do not let go


@pytest.mark.parametrize("after", [2, 3, 4])
def test_a_guest_that_takes_its_time(run: Run, after: int) -> None:
    guest = domain([A], [A])
    guest.releases_after[A] = after
    assert run(FakeLibvirt(guest), A, present=False)["changed"] is True
    assert (holds(guest), guest.asked) == ([[], []], {A: after})


@pytest.mark.parametrize(
    ("paused", "persistent", "message"),
    [
        (
            False,
            True,
            f"fax1 has not released {A} after 30 s: its kernel must be up and support hot-plug; the persistent"
            f" definition is without {A}, so that a shutdown frees it as well; run this again to ask once"
            f" more",
        ),
        (
            True,
            False,
            f"fax1 has not released {A} after 30 s: it is paused; resume it; run this again to ask once more",
        ),
    ],
)
def test_a_guest_that_never_answers(run: Run, paused: bool, persistent: bool, message: str) -> None:
    guest = domain([A, B], [A, B])
    guest.paused = paused
    guest.releases_after[A] = 1000
    libvirt = FakeLibvirt(guest)
    with pytest.raises(HostFailure) as error:
        run(libvirt, A, B, present=False, persistent=persistent)
    assert str(error.value) == message
    assert 30 <= libvirt.seconds <= 32
    # B was let go all the same, and the next run does what is left.
    assert holds(guest) == [[A], [] if persistent else [A, B]]
    guest.releases_after[A] = guest.asked[A] + 1
    again = run(libvirt, A, B, present=False, persistent=persistent)
    assert (again["changed"], again["actions"]) == (True, [f"detach {A} from the running fax1"])
    assert holds(guest)[0] == []


def test_a_transient_guest_that_never_answers(run: Run) -> None:
    guest = domain([A], None)
    guest.releases_after[A] = 1000
    with pytest.raises(HostFailure) as error:
        run(FakeLibvirt(guest), A, present=False)
    assert str(error.value).endswith("support hot-plug; run this again to ask once more")


def test_a_guest_that_refuses(run: Run) -> None:
    guest = domain([A, B, C], [A, B])
    guest.releases_after = {A: REFUSAL, B: 3, C: 1000}
    libvirt = FakeLibvirt(guest)
    with pytest.raises(HostFailure) as error:
        run(libvirt, A, B, present=False)
    assert str(error.value) == (
        f"libvirt did not detach {A} from the running fax1: {REFUSAL}; the persistent definition is without {A}, so"
        f" that a shutdown frees it as well; run this again to ask once more"
    )
    # It is not asked again and again, but B has its time.
    assert (guest.asked, holds(guest)) == ({A: 1, B: 3}, [[A, C], []])


def test_a_guest_that_refuses_one_and_does_not_answer_for_another(run: Run) -> None:
    guest = domain([A, B], [])
    guest.releases_after = {A: REFUSAL, B: 1000}
    with pytest.raises(HostFailure) as error:
        run(FakeLibvirt(guest), A, B, present=False)
    assert f"{REFUSAL}; fax1 has not released {B} after 30 s" in str(error.value)


def test_a_guest_that_stops_meanwhile(run: Run) -> None:
    guest = domain([A], [A])

    def stop(xml: str, flags: int) -> int:
        if flags == CONFIG:
            return FakeDomain.detachDeviceFlags(guest, xml, flags)
        guest.xml[LIVE] = None
        raise FakeLibvirt.libvirtError("Requested operation is not valid: domain is not running")

    guest.detachDeviceFlags = stop  # type: ignore[method-assign]
    assert run(FakeLibvirt(guest), A, present=False)["devices"][0]["live"] is False


def test_nothing_is_attached_before_the_others_have_gone(run: Run) -> None:
    guest = domain([B], [B])
    guest.releases_after[B] = REFUSAL
    with pytest.raises(HostFailure, match=REFUSAL):
        run(FakeLibvirt(guest), A, exclusive=True)
    assert (holds(guest), guest.calls) == ([[B], []], [f"detach config {B}", f"detach live {B}"])


# ---------------------------------------------------------------------------------------------------------------------
# All or none


@pytest.mark.parametrize(
    ("fails", "options", "action"),
    [
        ((B, LIVE), {}, f"attach {B} to the running fax1"),
        ((A, CONFIG), {}, f"add {A} to the persistent definition of fax1, managed='no'"),
        ((B, CONFIG), {}, f"add {B} to the persistent definition of fax1, managed='no'"),
        ((B, CONFIG), {"exclusive": True}, f"add {B} to the persistent definition of fax1, managed='no'"),
    ],
)
def test_what_was_attached_is_detached_again(
    run: Run, fails: tuple[str, int], options: dict[str, t.Any], action: str
) -> None:
    guest = domain([C], [C])
    guest.attach_fails[fails] = "internal error: qemu said no"
    with pytest.raises(HostFailure) as error:
        run(FakeLibvirt(guest), A, B, **options)
    assert str(error.value) == (
        f"libvirt did not {action}: internal error: qemu said no; fax1 has the devices that it had before"
    )
    assert holds(guest) == [[C], [C]]


def test_a_correction_is_taken_back(run: Run) -> None:
    guest = FakeDomain(definition(), definition(source(A, "yes", "0000:03:00.0")))
    guest.attach_fails[B, CONFIG] = "internal error: disk full"
    before = guest.XMLDesc(CONFIG)
    with pytest.raises(HostFailure, match="fax1 has the devices that it had before"):
        run(FakeLibvirt(guest), A, B, live=False)
    assert guest.XMLDesc(CONFIG) == before


def test_a_device_that_libvirt_does_not_show(run: Run) -> None:
    guest = domain([], [])
    guest.hidden.add(A)
    libvirt = FakeLibvirt(guest)
    with pytest.raises(HostFailure) as error:
        run(libvirt, A)
    assert str(error.value) == (
        f"libvirt took the request to attach {A} to the running fax1, but has not done it after 30 s; fax1 has the"
        f" devices that it had before"
    )
    assert libvirt.seconds == 30


def test_what_cannot_be_taken_back_is_said(run: Run) -> None:
    guest = domain([], [])
    guest.releases_after[A] = 1000
    guest.attach_fails[B, LIVE] = "internal error: qemu said no"
    with pytest.raises(HostFailure) as error:
        run(FakeLibvirt(guest), A, B)
    assert str(error.value).startswith(
        f"libvirt did not attach {B} to the running fax1: internal error: qemu said no; not all that was done before"
        f" could be taken back: fax1 has not released {A} after 30 s: its kernel must be up and support hot-plug"
    )
    # The next run repairs it.
    guest.attach_fails.clear()
    assert run(FakeLibvirt(guest), A, B)["changed"] is True
    assert holds(guest) == [[A, B], [A, B]]


def test_check_mode_takes_pending_devices_for_ready(run: Run) -> None:
    """A is another guest's, D does not exist, and B is where A goes: in the only slot of this guest."""
    missing = "0000:06:10.0"
    other, guest = domain([A], [A], name="fax2"), domain([B], [B])
    guest.xml[LIVE] = ET.fromstring(definition(source(B, place="0000:02:00.0"), ports=2))
    libvirt, pending = FakeLibvirt(other, guest), {"pending": (A, B, missing)}
    told = run(libvirt, A, missing, check=True, **pending)
    assert told["actions"] == [
        f"attach {A} to the running fax1",
        f"attach {missing} to the running fax1",
        f"add {A} to the persistent definition of fax1, managed='no'",
        f"add {missing} to the persistent definition of fax1, managed='no'",
    ]
    assert told["kept"] == []
    with pytest.raises(Refused) as error:
        run(libvirt, A, missing, check=False, **pending)
    assert f"{A} is held by the running guest fax2" in str(error.value)
    assert f"{missing} is not on this host" in str(error.value)
    assert guest.calls == []


def test_a_pending_device_that_the_guest_has_already(run: Run) -> None:
    told = run(FakeLibvirt(domain([A], [A])), A, check=True, pending=(A,))
    assert (told["changed"], told["kept"]) == (False, [])


@pytest.mark.parametrize("state", ["present", "absent"])
def test_killed_at_any_call(run: Run, state: str) -> None:
    """Whatever call is the last one of a killed run, the next run ends where one that was not killed does."""
    options = {"present": state == "present", "exclusive": state == "present"}
    start = ([C], [B]) if state == "present" else ([A, B], [A, B])
    whole = domain(*start)
    run(FakeLibvirt(whole), A, B, **options)
    for survived in range(len(whole.calls)):
        guest = domain(*start)
        _die_after(guest, survived)
        with pytest.raises(KeyboardInterrupt):
            run(FakeLibvirt(guest), A, B, **options)
        del guest.attachDeviceFlags, guest.detachDeviceFlags
        run(FakeLibvirt(guest), A, B, **options)
        assert holds(guest) == holds(whole)


def _die_after(guest: FakeDomain, calls: int) -> None:
    def mortal(call: t.Callable[[str, int], int]) -> t.Callable[[str, int], int]:
        def attempt(xml: str, flags: int) -> int:
            if len(guest.calls) == calls:
                raise KeyboardInterrupt
            return call(xml, flags)

        return attempt

    guest.attachDeviceFlags = mortal(guest.attachDeviceFlags)  # type: ignore[method-assign]
    guest.detachDeviceFlags = mortal(guest.detachDeviceFlags)  # type: ignore[method-assign]
