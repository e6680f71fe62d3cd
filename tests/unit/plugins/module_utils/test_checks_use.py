# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._check import Machine
from ansible_collections.kvm.passthrough.plugins.module_utils._checks_use import CHECKS
from ansible_collections.kvm.passthrough.plugins.module_utils._guests import Guest
from ansible_collections.kvm.passthrough.plugins.module_utils._host_use import Use
from ansible_collections.kvm.passthrough.tests.unit import machines

NIC, PEER, PORT = "0000:01:00.0", "0000:01:00.1", "0000:00:01.0"

ROUTE = Use("default_route", "carries the default route (enp1s0)", "/proc/net/route: enp1s0 00000000")
ROUTE6 = Use("default_route", "carries the default route (enp1s0)", "/proc/net/ipv6_route: 00 enp1s0")
SESSION = Use("session", "carries the session from 192.0.2.7 (enp1s0)", "/proc/net/route: enp1s0 000200C0")
LINK = Use("link", "is up and has a link (enp1s0)", "/sys/class/net/enp1s0/operstate: up")
BRIDGE = Use("bridge", "is a bridge (class 060400)", f"/sys/bus/pci/devices/{PORT}/class: 0x060400")


def found(where: Machine, address: str = NIC) -> dict[str, str]:
    """Message by check of all that is said of a device."""
    return {
        finding["check"]: finding["message"]
        for check in CHECKS
        for finding in check.findings(where, where.devices[address])
    }


def use(kind: str) -> Use:
    return Use(kind, f"is needed for {kind}", f"/{kind}")


def guest(name: str, running: bool, *devices: str) -> Guest:
    folder = "/run/libvirt/qemu" if running else "/etc/libvirt/qemu"
    return Guest(name, running, False, devices, 1 << 30, f"{folder}/{name}.xml")


def test_a_device_that_nobody_uses() -> None:
    assert found(machines.machine(devices=[machines.device(NIC)])) == {}


@pytest.mark.parametrize(
    ("kind", "check", "severity", "in_use"),
    [
        ("default_route", "net_inuse", "blocker", True),
        ("session", "net_inuse", "blocker", True),
        ("network", "net_inuse", "blocker", True),
        ("mount", "block_inuse", "blocker", True),
        ("swap", "block_inuse", "blocker", True),
        ("volume", "block_inuse", "blocker", True),
        ("guest_disk", "block_inuse", "blocker", True),
        ("console", "console", "blocker", True),
        ("keyboard", "usb_controller", "blocker", True),
        ("display", "vga_console", "blocker", True),
        ("drm", "drm_active", "blocker", True),
        ("bridge", None, None, None),
        # Told of by the check of the platform, among those of the group.
        ("platform", None, None, None),
    ],
)
def test_what_the_host_cannot_do_without(
    kind: str, check: str | None, severity: str | None, in_use: bool | None
) -> None:
    where = machines.machine(devices=[machines.device(NIC)], uses={NIC: [use(kind)]})
    assert found(where) == ({check: f"{NIC} is needed for {kind}"} if check else {})
    if check:
        (finding,) = machines.findings(CHECKS, check, where, NIC)
        assert (finding["severity"], finding["evidence"]) == (severity, f"/{kind}")
        assert next(entry for entry in CHECKS if entry.id == check).in_use is in_use


@pytest.mark.parametrize(
    ("kind", "check", "severity", "unless"),
    [
        ("link", "net_up", "warning", "default_route"),
        ("guest_network", "net_guests", "warning", None),
        ("no_interface", "net_unknown", "warning", None),
        ("spare_disk", "block_guests", "warning", "guest_disk"),
        ("spare_keyboard", "usb_keyboard", "information", None),
        ("screen", "screen", "warning", "drm"),
        ("sound", "sound", "warning", None),
        ("helper", "platform_helpers", "warning", None),
    ],
)
def test_what_the_host_would_miss(kind: str, check: str, severity: str, unless: str | None) -> None:
    where = machines.machine(devices=[machines.device(NIC)], soft_uses={NIC: [use(kind)]})
    assert found(where) == {check: f"{NIC} is needed for {kind}"}
    (finding,) = machines.findings(CHECKS, check, where, NIC)
    assert (finding["severity"], finding["evidence"]) == (severity, f"/{kind}")
    graver = machines.machine(
        devices=[machines.device(NIC)], soft_uses={NIC: [use(kind)]}, uses={NIC: [use(unless or "mount")]}
    )
    assert (check in found(graver)) is (unless is None)


def test_one_finding_tells_of_all_uses() -> None:
    uses = {NIC: [ROUTE, ROUTE6, SESSION]}
    (finding,) = machines.findings(
        CHECKS, "net_inuse", machines.machine(devices=[machines.device(NIC)], uses=uses), NIC
    )
    said = "carries the default route (enp1s0) and carries the session from 192.0.2.7 (enp1s0)"
    assert (finding["message"], finding["evidence"]) == (f"{NIC} {said}", ROUTE.evidence)
    assert f"name {NIC} in force" in finding["remedy"]


def test_a_bridge_is_told_of_once() -> None:
    where = machines.machine(
        devices=[machines.bridge(PORT, iommu_group=3), machines.device(NIC, iommu_group=3)],
        uses={PORT: [BRIDGE, ROUTE], NIC: [ROUTE]},
        soft_uses={PORT: [LINK], NIC: [LINK]},
    )
    assert found(where, PORT) == {}
    assert list(found(where, NIC)) == ["net_inuse"]


@pytest.mark.parametrize(
    ("peer", "uses", "leaving", "critical"),
    [
        pytest.param({}, [ROUTE], [], True, id="needed"),
        pytest.param({}, [], [], False, id="not-needed"),
        pytest.param({}, [ROUTE], [PEER], False, id="leaving-as-well"),
        pytest.param({}, [BRIDGE], [], False, id="bridge"),
        pytest.param({"class": "060400", "header_type": 1}, [BRIDGE, ROUTE], [], False, id="above-a-needed-one"),
        pytest.param({"iommu_group": 8}, [ROUTE], [], False, id="another-group"),
        pytest.param({"driver": None}, [use("display")], [], False, id="firmware-console"),
        pytest.param({"driver": "pci-stub"}, [use("display")], [], False, id="stub"),
    ],
)
def test_a_peer_that_the_host_needs(peer: dict[str, Any], uses: list[Use], leaving: list[str], critical: bool) -> None:
    where = machines.machine(
        devices=[machines.device(NIC, iommu_group=7), machines.device(PEER, **{"iommu_group": 7, **peer})],
        uses={PEER: uses},
        leaving=frozenset(leaving),
    )
    findings = machines.findings(CHECKS, "group_critical", where, NIC)
    assert len(findings) == critical
    if critical:
        said = f"{NIC} shares IOMMU group 7 with {PEER}, which carries the default route (enp1s0)"
        assert (findings[0]["message"], findings[0]["severity"]) == (said, "blocker")
        assert findings[0]["symptom"] == f"vfio {NIC}: group 7 is not viable"
        assert f"{PEER} must stay" in findings[0]["remedy"]
        assert not next(check for check in CHECKS if check.id == "group_critical").in_use


OPEN = {NIC: [Use("guest", "is open", f"/sys/bus/pci/devices/{NIC}/enable: 1")]}
HELD = {"guest_running": f"{NIC} is held by the running guest db"}
STRANGER = {"guest_holds": f"{NIC} is open: a running guest, or another program, has it"}


@pytest.mark.parametrize(
    ("driver", "enabled", "guests", "soft", "said"),
    [
        pytest.param("vfio-pci", True, [guest("db", True, NIC)], OPEN, HELD, id="held"),
        pytest.param("vfio-pci", True, [guest("db", True, NIC)], {}, HELD, id="held-though-not-seen-open"),
        pytest.param("vfio-pci", None, [guest("db", True, NIC)], {}, HELD, id="enable-unreadable"),
        pytest.param("vfio-pci", False, [guest("db", True, NIC)], {}, {}, id="listed-and-not-open"),
        pytest.param("e1000e", True, [guest("db", True, NIC)], {}, {}, id="configured-for-its-next-start"),
        pytest.param("vfio-pci", True, [guest("db", True, PEER)], OPEN, STRANGER, id="somebody-else"),
        pytest.param("vfio-pci", True, [], {}, {}, id="left-enabled"),
        pytest.param("e1000e", True, [], OPEN, {}, id="native"),
    ],
)
def test_a_device_with_a_guest(
    driver: str, enabled: bool | None, guests: list[Guest], soft: dict[str, list[Use]], said: dict[str, str]
) -> None:
    device = machines.device(NIC, driver=driver, enabled=enabled, iommu_group=7)
    where = machines.machine(devices=[device], guests=guests, soft_uses=soft)
    assert found(where) == said


def test_what_libvirt_and_qemu_say_of_a_device_in_use() -> None:
    device = machines.device(NIC, driver="vfio-pci", iommu_group=7)
    where = machines.machine(devices=[device], guests=[guest("db", True, NIC)], soft_uses=OPEN)
    (finding,) = machines.findings(CHECKS, "guest_running", where, NIC)
    assert finding["symptom"] == f"PCI device {NIC} is in use by driver QEMU, domain db"
    assert finding["evidence"] == f"/run/libvirt/qemu/db.xml: {NIC}"
    (finding,) = machines.findings(CHECKS, "guest_holds", machines.machine(devices=[device], soft_uses=OPEN), NIC)
    assert finding["symptom"] == "Could not open '/dev/vfio/7': Device or resource busy"
    assert finding["evidence"] == f"/sys/bus/pci/devices/{NIC}/enable: 1"


@pytest.mark.parametrize(
    ("guests", "severity", "message", "domain"),
    [
        ([guest("db", False, NIC)], "information", f"{NIC} is promised to the guest db, which is off", "db"),
        (
            [guest("db", False, NIC), guest("web", False, NIC)],
            "warning",
            f"{NIC} is promised to db and web, of which only one can have it at a time",
            "db",
        ),
        (
            [guest("db", False, NIC), guest("web", True, NIC)],
            "warning",
            f"{NIC} is promised to db and web, of which only one can have it at a time",
            "web",
        ),
        ([guest("db", True, NIC)], None, None, None),
        ([guest("db", False, PEER)], None, None, None),
    ],
)
def test_guests_that_are_off(
    guests: list[Guest], severity: str | None, message: str | None, domain: str | None
) -> None:
    where = machines.machine(devices=[machines.device(NIC)], guests=guests)
    findings = machines.findings(CHECKS, "libvirt_config", where, NIC)
    assert [(finding["severity"], finding["message"]) for finding in findings] == (
        [(severity, message)] if message else []
    )
    for finding in findings:
        assert finding["symptom"] == f"PCI device {NIC} is in use by driver QEMU, domain {domain}"


@pytest.mark.parametrize(
    ("override", "driver", "said"),
    [
        ("pci-stub", "e1000e", f"{NIC} is reserved for the driver pci-stub, and has e1000e: no other driver takes it"),
        ("none", None, f"{NIC} is reserved for the driver none, and has none: no other driver takes it"),
        ("vfio-pci", "e1000e", None),
        ("mlx5_vfio_pci", None, None),
        ("e1000e", "e1000e", None),
        (None, "e1000e", None),
    ],
)
def test_an_override_for_another_driver(override: str | None, driver: str | None, said: str | None) -> None:
    where = machines.machine(devices=[machines.device(NIC, driver=driver, driver_override=override)])
    assert found(where) == ({"driver_override_other": f"{said} by itself"} if said else {})


@pytest.mark.parametrize(("driver", "sticks"), [("hfc_multi", True), ("hfcpci", False), (None, False)])
def test_a_driver_that_cannot_be_removed(driver: str | None, sticks: bool) -> None:
    where = machines.machine(devices=[machines.device(NIC, driver=driver)])
    said = (
        f"{NIC} is bound to hfc_multi, whose removal is a bug of its own:"
        " it sleeps under a spinlock, and the kernel hangs"
    )
    assert found(where) == ({"driver_sticks": said} if sticks else {})


BMC = {"id": "1a03:2000", "class": "030000", "driver": "ast"}


@pytest.mark.parametrize(
    ("display", "uses", "leaving", "own", "other"),
    [
        pytest.param(BMC, [], [], True, True, id="aspeed"),
        pytest.param({**BMC, "id": "102b:0536", "driver": "mgag200"}, [], [], True, True, id="matrox"),
        pytest.param(BMC, [use("display")], [], False, False, id="told-of-as-the-only-display"),
        pytest.param({**BMC, "driver": None}, [], [], False, False, id="without-driver"),
        pytest.param({**BMC, "id": "1a03:1150"}, [], [], False, False, id="its-bridge"),
        pytest.param(BMC, [], [PEER], True, False, id="leaving"),
        pytest.param({**BMC, "iommu_group": 8}, [], [], True, False, id="another-group"),
    ],
)
def test_the_screen_of_the_management_controller(
    display: dict[str, Any], uses: list[Use], leaving: list[str], own: bool, other: bool
) -> None:
    where = machines.machine(
        devices=[machines.device(NIC, iommu_group=7), machines.device(PEER, **{"iommu_group": 7, **display})],
        uses={PEER: uses},
        leaving=frozenset(leaving),
    )
    end = "the display that the management controller (BMC) shows from afar"
    assert [finding["message"] for finding in machines.findings(CHECKS, "bmc", where, PEER)] == (
        [f"{PEER} is {end}"] if own else []
    )
    assert [finding["message"] for finding in machines.findings(CHECKS, "bmc", where, NIC)] == (
        [f"{NIC} shares its IOMMU group with {PEER}, which is {end}"] if other else []
    )
