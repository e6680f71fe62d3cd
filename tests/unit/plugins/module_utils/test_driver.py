# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _attributes, _driver
from ansible_collections.kvm.passthrough.plugins.module_utils._driver import Device, Host, Request, Step
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, InvalidInput, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._host_use import Use

A = "0000:01:00.0"
B = "0000:02:00.0"
CARD = ("0x8086", "0x10d3", "0x8086", "0x0000")
OTHER_CARD = ("0x8086", "0x10d3", "0x8086", "0xa01f")
RULE = f"""\
# {A} belongs to vfio-pci while it is this card; written by kvm.passthrough.pci_driver, which also removes it.
ACTION=="add", SUBSYSTEM=="pci", ATTR{{[pci/{A}]vendor}}=="0x8086", ATTR{{[pci/{A}]device}}=="0x10d3", \
ATTR{{[pci/{A}]subsystem_vendor}}=="0x8086", ATTR{{[pci/{A}]subsystem_device}}=="0x0000", GOTO="found"
GOTO="end"
LABEL="found"
ATTR{{[pci/{A}]driver_override}}!="vfio-pci", ATTR{{[pci/{A}]driver_override}}="vfio-pci"
KERNEL!="{A}", GOTO="end"
TEST=="driver", DRIVER!="vfio-pci", TEST!="driver/module/initstate", ATTR{{driver/unbind}}="{A}"
TEST!="driver", IMPORT{{builtin}}="kmod load vfio-pci", ATTR{{[subsystem/pci]drivers_probe}}="{A}"
LABEL="end"
""".encode()
HOST = Host({"vfio-pci": "vfio_pci", "e1000e": "e1000e"}, native=lambda modalias: "e1000e")

LOAD = Step("load", "vfio-pci")
TAKE = Step("override", "vfio-pci")
CLEAR = Step("override", "")
OFF_NATIVE = Step("unbind", "e1000e")
OFF_VFIO = Step("unbind", "vfio-pci")
NATIVE = Step("native")
PROBE = Step("probe")


def device(address: str = A, **values: t.Any) -> Device:
    return Device(**{"address": address, "identity": CARD, "driver": "e1000e", **values})


# -- the rule ----------------------------------------------------------------------------------------------------------


def test_rule_text() -> None:
    assert _driver.rule_text(A, CARD, "vfio-pci", "vfio-pci") == RULE


def test_rule_of_a_driver_whose_module_bears_another_name() -> None:
    lines = _driver.rule_text(A, CARD, "hfc_multi", "hfcmulti").decode().splitlines()
    assert lines[4] == f'ATTR{{[pci/{A}]driver_override}}!="hfc_multi", ATTR{{[pci/{A}]driver_override}}="hfc_multi"'
    assert 'IMPORT{builtin}="kmod load hfcmulti"' in lines[7]


@pytest.mark.parametrize(("text", "card"), [(RULE, CARD), (b"# nothing\n", ("", "", "", "")), (None, ("", "", "", ""))])
def test_rule_identity(text: bytes | None, card: tuple[str, ...]) -> None:
    assert _driver.rule_identity(text) == card


def test_the_rule_sorts_before_the_one_that_loads_native_drivers() -> None:
    assert os.path.basename(_driver.rule_path(A)) < "80-drivers.rules"
    assert _driver.rule_path(A) == f"/etc/udev/rules.d/10-passthrough-{A}.rules"


# -- the request -------------------------------------------------------------------------------------------------------


def parse(**values: t.Any) -> Request:
    given = {"driver": "vfio-pci", "persistent": True, "exclusive": False, "force": [], "timeout": 30}
    return Request.parse(**{"addresses": ["01:00.0"], **given, **values})


def test_a_request() -> None:
    request = parse(addresses=["02:00.0", "01:00.0"], force=["01:00.0"])
    assert request == Request((A, B), "vfio-pci", True, False, frozenset((A,)), 30)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"addresses": ["01:00.0", A]}, f"{A} is named twice; name each device once"),
        ({"addresses": []}, "addresses is empty, which only makes sense together with exclusive: true"),
        ({"driver": 'x", RUN+="y'}, "is no name of a driver; it is one below /sys/bus/pci/drivers, or 'native'"),
        ({"driver": "../e1000e"}, "is no name of a driver"),
        ({"timeout": 0}, "timeout is 0; it is a number of seconds, at least 1"),
        ({"force": ["eth0"]}, "'eth0' is no PCI address"),
        ({"pending": ["eth0"]}, "'eth0' is no PCI address"),
    ],
)
def test_a_request_that_cannot_be_meant(values: dict[str, t.Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(**values)
    assert message in str(caught.value)


# -- deciding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "request_", "steps", "rule"),
    [
        pytest.param({}, {}, (TAKE, OFF_NATIVE, PROBE), RULE, id="on its native driver"),
        pytest.param({}, {"persistent": False}, (TAKE, OFF_NATIVE, PROBE), None, id="until the next boot"),
        pytest.param({"driver": None}, {}, (TAKE, PROBE), RULE, id="without a driver"),
        pytest.param({"driver": None, "override": "vfio-pci", "rule": RULE}, {}, (PROBE,), RULE, id="override only"),
        pytest.param({"override": "vfio-pci"}, {}, (OFF_NATIVE, PROBE), RULE, id="native came first at boot"),
        pytest.param({"driver": "vfio-pci", "override": "vfio-pci", "rule": RULE}, {}, (), RULE, id="done"),
        pytest.param({"driver": "vfio-pci"}, {}, (), RULE, id="bound by ids="),
        pytest.param({"driver": "vfio-pci", "rule": RULE}, {"persistent": False}, (), None, id="not at boot any more"),
        pytest.param({"driver": "pci-stub"}, {}, (TAKE, Step("unbind", "pci-stub"), PROBE), RULE, id="from a stand-in"),
        pytest.param({"driver": "hfc_multi"}, {}, (), RULE, id="a driver that cannot be removed"),
        pytest.param({"driver": "hfc_multi", "rule": RULE}, {}, (), RULE, id="waiting for the boot"),
        pytest.param({"rule": RULE + b"\n"}, {}, (TAKE, OFF_NATIVE, PROBE), RULE, id="rule was edited"),
        pytest.param(
            {"driver": "vfio-pci", "override": "vfio-pci", "rule": RULE},
            {"driver": "native"},
            (CLEAR, OFF_VFIO, NATIVE, PROBE),
            None,
            id="back",
        ),
        pytest.param({}, {"driver": "native"}, (), None, id="native already"),
        pytest.param({"driver": None}, {"driver": "native"}, (), None, id="no driver ever"),
        pytest.param({"override": "e1000e"}, {"driver": "native"}, (CLEAR,), None, id="native by override"),
        pytest.param({"rule": RULE}, {"driver": "native"}, (), None, id="back before the first boot"),
        pytest.param({"driver": None, "rule": RULE}, {"driver": "native"}, (NATIVE, PROBE), None, id="back, unbound"),
        pytest.param({"driver": "vfio-pci"}, {"driver": "native"}, (OFF_VFIO, NATIVE, PROBE), None, id="from ids="),
    ],
)
def test_steps(before: dict[str, t.Any], request_: dict[str, t.Any], steps: tuple[Step, ...], rule: bytes) -> None:
    (plan,) = _driver.decide(parse(**request_), [device(**before)], HOST)
    assert (plan.steps, plan.rule.after) == (steps, rule)
    assert plan.changed is bool(steps or before.get("rule") != rule)


def test_the_module_is_loaded_once() -> None:
    plans = _driver.decide(parse(addresses=[A, B]), [device(), device(B)], Host({}))
    assert [plan.steps for plan in plans] == [(LOAD, TAKE, OFF_NATIVE, PROBE), (TAKE, OFF_NATIVE, PROBE)]


def test_a_driver_that_does_not_exist() -> None:
    message = "vfio-pcx is neither a registered driver nor a module that the running kernel could load"
    with pytest.raises(InvalidInput, match=message):
        _driver.decide(parse(driver="vfio-pcx"), [device()], Host({}, loadable=lambda module: False))


def test_a_native_driver_asked_for_by_name() -> None:
    before = device(driver="vfio-pci", override="vfio-pci", rule=RULE)
    (plan,) = _driver.decide(parse(driver="e1000e"), [before], HOST)
    assert plan.steps == (Step("override", "e1000e"), OFF_VFIO, PROBE)
    assert plan.rule.after == _driver.rule_text(A, CARD, "e1000e", "e1000e")


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({"held": "enable: 1"}, f"{B} is in use by a running guest (enable: 1); shut the guest down, or detach the"),
        (
            {"peer_held": A},
            f"{B} shares its IOMMU group with {A}, which a running guest uses, so that the kernel gives",
        ),
    ],
)
def test_exclusive_keeps_what_a_guest_has(held: dict[str, t.Any], reason: str) -> None:
    rule = RULE.replace(A.encode(), B.encode())
    left = device(B, driver="vfio-pci", override="vfio-pci", rule=rule, **held)
    bound = device(driver="vfio-pci", override="vfio-pci", rule=RULE)
    plans = _driver.decide(parse(exclusive=True), [bound, left], HOST)
    assert [(plan.changed, plan.rule.after) for plan in plans] == [(False, RULE), (False, rule)]
    assert [(plan.kept or "")[: len(reason)] for plan in plans] == ["", reason]
    with pytest.raises(Refused) as caught:
        _driver.decide(parse(addresses=[B], driver="native"), [left], HOST)
    assert str(caught.value).startswith(reason)


def test_a_rule_of_another_card_goes_although_a_guest_has_that() -> None:
    rule = RULE.replace(A.encode(), B.encode())
    left = device(B, identity=OTHER_CARD, driver="vfio-pci", override="vfio-pci", rule=rule, held="enable: 1")
    (plan,) = _driver.decide(parse(addresses=[], exclusive=True), [left], HOST)
    assert (plan.kept, plan.steps, plan.rule.after) == (None, (), None)


@pytest.mark.parametrize(
    ("identity", "steps"),
    [
        pytest.param(CARD, (CLEAR, OFF_VFIO, NATIVE, PROBE), id="the rule's card"),
        pytest.param(OTHER_CARD, (), id="another card in its place"),
        pytest.param(None, (), id="nothing there any more"),
    ],
)
def test_released_by_exclusive(identity: tuple[str, ...] | None, steps: tuple[Step, ...]) -> None:
    rule = RULE.replace(A.encode(), B.encode())
    left = device(B, identity=identity, driver="vfio-pci", override="vfio-pci", rule=rule)
    kept = device(driver="vfio-pci", override="vfio-pci", rule=RULE)
    plans = _driver.decide(parse(exclusive=True), [kept, left], HOST)
    assert [(plan.steps, plan.rule.after) for plan in plans] == [((), RULE), (steps, None)]


DEFAULT6 = Use("default_route", "carries the default route (enp1s0)", "/proc/net/ipv6_route: …")
DEFAULT = Use("default_route", "carries the default route (enp1s0)", "/proc/net/route: …")
ROOT = Use("mount", "holds the mounted file system / (vda1)", "/proc/self/mountinfo: …")
BRIDGE = Use("bridge", "is a bridge (class 060400)", "…/class: 0x060400")
FORCE = " If the host can do without it, name it in force"
HELD = f"/sys/bus/pci/devices/{A}/enable: 1"


@pytest.mark.parametrize(
    ("before", "uses", "request_", "message"),
    [
        pytest.param(
            {},
            [DEFAULT],
            {},
            f"{A} carries the default route (enp1s0); choose another device, or move the route to another interface"
            f" first." + FORCE,
            id="default route",
        ),
        pytest.param(
            {},
            [ROOT],
            {},
            f"{A} holds the mounted file system / (vda1); choose another device, or unmount the file system first."
            + FORCE,
            id="mount",
        ),
        pytest.param(
            {"driver": "pcieport"},
            [BRIDGE, DEFAULT, DEFAULT6],
            {},
            f"{A} is a bridge (class 060400) and carries the default route (enp1s0); pass on the devices behind it"
            f" instead." + FORCE,
            id="two uses",
        ),
        pytest.param(
            {"driver": "vfio-pci", "held": HELD},
            [],
            {"driver": "native", "force": [A]},
            f"{A} is in use by a running guest ({HELD}); shut the guest down, or detach the device from it, first",
            id="guest, forced",
        ),
        pytest.param(
            {"grouped": False},
            [],
            {},
            f"{A} has no IOMMU group, so that vfio-pci cannot take it; switch the IOMMU on in the firmware (VT-d,"
            f" AMD-Vi) and the kernel arguments (intel_iommu=on), and reboot",
            id="no group",
        ),
        pytest.param(
            {"driver": "vfio-pci", "peer_held": B},
            [],
            {"driver": "native"},
            f"{A} shares its IOMMU group with {B}, which a running guest uses, so that the kernel gives it to no driver"
            f" of the host; shut that guest down first",
            id="guest has the group",
        ),
        pytest.param(
            {"driver": "hfc_multi"},
            [],
            {"persistent": False},
            f"{A} is bound to hfc_multi, whose removal is a bug of its own: it sleeps under a spinlock, and the kernel"
            " hangs; have it bound at boot instead, with persistent: true, and reboot the host",
            id="a driver that cannot be removed",
        ),
        pytest.param(
            {"driver": "hfc_multi"},
            [DEFAULT],
            {},
            f"{A} carries the default route (enp1s0); choose another device, or move the route to another interface"
            f" first." + FORCE,
            id="needed, and waiting for the boot",
        ),
        pytest.param({"peer_held": B}, [], {}, None, id="guest may have the group already"),
        pytest.param({"driver": "vfio-pci", "held": HELD}, [DEFAULT], {}, None, id="bound already"),
        pytest.param({}, [DEFAULT, ROOT], {"force": [A]}, None, id="forced"),
        pytest.param({"override": "e1000e"}, [DEFAULT], {"driver": "native"}, None, id="native keeps it"),
        pytest.param({"grouped": False}, [], {"driver": "pci-stub"}, None, id="a stub needs no group"),
    ],
)
def test_refusals(before: dict[str, t.Any], uses: list[Use], request_: dict[str, t.Any], message: str | None) -> None:
    host = Host({**HOST.drivers, "pci-stub": None}, {A: uses})
    if message is None:
        assert len(_driver.decide(parse(**request_), [device(**before)], host)) == 1
        return
    with pytest.raises(Refused) as caught:
        _driver.decide(parse(**request_), [device(**before)], host)
    assert str(caught.value) == message


def test_force_is_for_that_very_device() -> None:
    host = Host(HOST.drivers, {A: [DEFAULT], B: [ROOT]})
    with pytest.raises(Refused) as caught:
        _driver.decide(parse(addresses=[A, B], force=[A]), [device(), device(B)], host)
    assert str(caught.value).startswith(f"{B} holds the mounted file system")
    with pytest.raises(Refused) as caught:
        _driver.decide(parse(addresses=[A, B]), [device(), device(B)], host)
    assert [line[:12] for line in str(caught.value).splitlines()] == [A, B]


# -- doing -------------------------------------------------------------------------------------------------------------


class Kernel:
    """A root folder, and what kernel and modprobe do when told to; claims names the drivers that take a device."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.claims = ["e1000e", "vfio-pci"]
        self.modules = {"vfio-pci": "vfio-pci", "pci:alias": "e1000e"}
        self.busy = False
        self.calls: list[str] = []
        for name in ("vfio-pci", "e1000e"):
            self.register(name)
        (root / "sys/bus/pci/drivers_probe").touch()

    def register(self, driver: str) -> None:
        folder = self.root / "sys/bus/pci/drivers" / driver
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "unbind").touch()
        (folder / "bind").touch()

    def device(self, address: str, driver: str | None = "e1000e", override: str = "(null)") -> Path:
        place = self.root / "sys/devices/pci0000:00" / address
        place.mkdir(parents=True)
        (self.root / "sys/bus/pci/devices").mkdir(exist_ok=True)
        (self.root / "sys/bus/pci/devices" / address).symlink_to(place)
        values = dict(zip(("vendor", "device", "subsystem_vendor", "subsystem_device"), CARD), driver_override=override)
        for name, value in {**values, "class": "0x020000", "enable": "0", "modalias": "pci:alias"}.items():
            (place / name).write_text(value + "\n", encoding="utf-8")
        (place / "iommu_group").mkdir()
        if driver:
            (place / "driver").symlink_to(self.root / "sys/bus/pci/drivers" / driver)
        return place

    def run(self, argv: list[str], timeout: float) -> tuple[int, str]:
        """Stands for _attributes.bounded: modprobe is played, attributes are written and read for real, then played."""
        if argv[0] == "modprobe":
            return self.modprobe(argv[1:])
        code, output = _attributes.bounded(argv, timeout)
        if argv[4] is _attributes.WRITE_SCRIPT and code == 0:
            path, value = argv[5:]
            self.calls.append(f"{os.path.relpath(path, self.root / 'sys/bus/pci')} < {value!r}")
            code = self.written(Path(path), value)
        return code, output

    def modprobe(self, arguments: list[str]) -> tuple[int, str]:
        if "--resolve-alias" in arguments:
            return 0, self.modules.get(arguments[-1], "") + "\n"
        name = self.modules.get(arguments[-1])
        if "--dry-run" not in arguments:
            self.calls.append(f"modprobe {arguments[-1]}")
            if name:
                self.register(name)
        return (0, "") if name else (1, f"modprobe: FATAL: Module {arguments[-1]} not found.")

    def written(self, path: Path, value: str) -> int:
        if path.name == "driver_override":
            path.write_text((value.strip() or "(null)") + "\n", encoding="utf-8")
            return 0
        place = self.root / "sys/bus/pci/devices" / value
        link = place / "driver"
        if path.name == "unbind":
            link.unlink()
        elif path.name == "bind":
            return errno.EINVAL
        elif self.busy:
            self.busy = False
            return errno.EBUSY
        elif not link.is_symlink():
            override = (place / "driver_override").read_text(encoding="utf-8").strip()
            wanted = [name for name in self.claims if override in ("(null)", name)]
            if wanted and (self.root / "sys/bus/pci/drivers" / wanted[0]).is_dir():
                link.symlink_to(self.root / "sys/bus/pci/drivers" / wanted[0])
        return 0

    def apply(self, check: bool = False, **values: t.Any) -> dict[str, t.Any]:
        request = parse(**{"timeout": 10, **values})
        return _driver.apply(str(self.root), request, check, True, shutil.move, "modprobe", None, self.run)

    def driver(self, address: str = A) -> str | None:
        link = self.root / "sys/bus/pci/devices" / address / "driver"
        return link.resolve().name if link.is_symlink() else None

    def rules(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "etc/udev/rules.d").glob("*")}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    return Kernel(tmp_path)


def test_take_and_give_back(kernel: Kernel) -> None:
    kernel.device(A)
    shutil.rmtree(kernel.root / "sys/bus/pci/drivers/vfio-pci")
    forecast = kernel.apply(check=True)
    assert (kernel.calls, kernel.rules()) == ([], {})

    taken = kernel.apply()
    assert taken == forecast
    assert taken["devices"] == [
        {
            "address": A,
            "id": "8086:10d3",
            "before": "e1000e",
            "driver": "vfio-pci",
            "persistent": True,
            "rule": f"/etc/udev/rules.d/10-passthrough-{A}.rules",
        }
    ]
    assert kernel.calls == [
        "modprobe vfio-pci",
        f"devices/{A}/driver_override < 'vfio-pci'",
        f"drivers/e1000e/unbind < '{A}'",
        f"drivers_probe < '{A}'",
    ]
    assert (kernel.driver(), kernel.rules()) == ("vfio-pci", {f"10-passthrough-{A}.rules": RULE})
    for check in (False, True):
        assert (kernel.apply(check)["changed"], len(kernel.calls)) == (False, 4)

    kernel.calls.clear()
    forecast = kernel.apply(check=True, driver="native")
    assert kernel.apply(driver="native") == forecast
    assert kernel.calls == [
        f"devices/{A}/driver_override < '\\n'",
        f"drivers/vfio-pci/unbind < '{A}'",
        "modprobe pci:alias",
        f"drivers_probe < '{A}'",
    ]
    assert (kernel.driver(), kernel.rules()) == ("e1000e", {})
    assert kernel.apply(driver="native")["changed"] is False


def test_a_driver_that_cannot_be_removed_goes_at_the_next_boot(kernel: Kernel) -> None:
    kernel.register("hfc_multi")
    kernel.device(A, "hfc_multi")
    forecast = kernel.apply(check=True)
    taken = kernel.apply()
    assert taken == forecast
    assert (taken["changed"], taken["waiting"], taken["devices"][0]["driver"]) == (True, [A], "hfc_multi")
    assert taken["warnings"][0].startswith(f"{A} goes to vfio-pci at the next boot: it is bound to hfc_multi, whose")
    assert (kernel.calls, kernel.rules()) == ([], {f"10-passthrough-{A}.rules": RULE})
    again = kernel.apply()
    assert (again["changed"], again["waiting"]) == (False, [A])


def test_the_difference_shows_driver_override_and_rule(kernel: Kernel) -> None:
    kernel.device(A)
    (difference,) = kernel.apply(check=True)["diff"]
    path = f"/etc/udev/rules.d/10-passthrough-{A}.rules"
    assert difference["before"] == f"driver: e1000e\ndriver_override: (null)\n{path}: (none)\n"
    assert difference["after"] == f"driver: vfio-pci\ndriver_override: vfio-pci\n{path}:\n{RULE.decode()}"


def test_exclusive_takes_back_what_is_not_named(kernel: Kernel) -> None:
    kernel.device(A)
    kernel.device(B)
    gone = kernel.root / "etc/udev/rules.d/10-passthrough-0000:7f:00.0.rules"
    kernel.apply(addresses=[A, B])
    gone.write_bytes(RULE)
    (gone.parent / "99-mine.rules").write_bytes(b"# not ours\n")

    result = kernel.apply(addresses=[A], exclusive=True)
    assert result["released"] == [B, "0000:7f:00.0"]
    assert [(entry["driver"], entry["persistent"]) for entry in result["devices"]] == [
        ("vfio-pci", True),
        ("e1000e", False),
        (None, False),
    ]
    assert sorted(kernel.rules()) == [f"10-passthrough-{A}.rules", "99-mine.rules"]
    assert kernel.apply(addresses=[A], exclusive=True)["changed"] is False

    assert kernel.apply(addresses=[], exclusive=True)["released"] == [A]
    assert (kernel.driver(A), sorted(kernel.rules())) == ("e1000e", ["99-mine.rules"])


def test_exclusive_keeps_until_the_guest_lets_go(kernel: Kernel) -> None:
    place = kernel.device(A)
    kernel.apply()
    (place / "enable").write_text("1\n", encoding="utf-8")
    kernel.calls.clear()
    for check in (True, False):
        kept = kernel.apply(check, addresses=[], exclusive=True)
        assert (kept["changed"], kept["released"], kept["kept"], kept["actions"]) == (False, [], [A], [])
        assert [(entry["driver"], entry["persistent"]) for entry in kept["devices"]] == [("vfio-pci", True)]
        assert kept["warnings"][0].startswith(f"{A} is left as it is: {A} is in use by a running guest")
    assert (kernel.calls, kernel.driver(), list(kernel.rules().values())) == ([], "vfio-pci", [RULE])

    # Outside of check mode, what is pending has become so, or not.
    assert kernel.apply(addresses=[], exclusive=True, pending=[A])["kept"] == [A]
    forecast = kernel.apply(check=True, addresses=[], exclusive=True, pending=[A])
    assert (forecast["kept"], forecast["released"]) == ([], [A])
    (place / "enable").write_text("0\n", encoding="utf-8")
    assert kernel.apply(addresses=[], exclusive=True, pending=[A]) == forecast
    assert (kernel.driver(), kernel.rules()) == ("e1000e", {})


def test_a_peer_that_is_let_go_of(kernel: Kernel) -> None:
    place = kernel.device(A, "vfio-pci", "vfio-pci")
    peer = kernel.device(B, "vfio-pci", "vfio-pci")
    (peer / "enable").write_text("1\n", encoding="utf-8")
    (place / "iommu_group/devices").mkdir()
    (place / "iommu_group/devices" / B).symlink_to(peer)
    assert kernel.apply(check=True, driver="native", pending=[B])["changed"] is True
    with pytest.raises(Refused, match=f"{A} shares its IOMMU group with {B}"):
        kernel.apply(check=True, driver="native", pending=[A])


def test_a_function_that_is_yet_to_come(kernel: Kernel) -> None:
    forecast = kernel.apply(check=True, pending=[A])
    assert forecast["devices"] == [
        {
            "address": A,
            "id": None,
            "before": None,
            "driver": "vfio-pci",
            "persistent": True,
            "rule": f"/etc/udev/rules.d/10-passthrough-{A}.rules",
        }
    ]
    assert (forecast["changed"], forecast["actions"]) == (
        True,
        [
            f"write /etc/udev/rules.d/10-passthrough-{A}.rules",
            f"set driver_override of {A} to vfio-pci",
            f"let the kernel probe {A}",
        ],
    )
    assert 'vendor}=="0x????"' in forecast["diff"][0]["after"]
    assert kernel.apply(check=True, driver="native", pending=[A])["changed"] is False
    with pytest.raises(InvalidInput, match=f"{A} is not on this host"):
        kernel.apply(pending=[A])
    assert (kernel.calls, kernel.rules()) == ([], {})


def test_an_unknown_address_changes_nothing(kernel: Kernel) -> None:
    kernel.device(A)
    with pytest.raises(InvalidInput) as caught:
        kernel.apply(addresses=[A, "01:00.1"])
    assert str(caught.value) == f"0000:01:00.1 is not on this host; near it are {A} (8086:10d3)"
    assert (kernel.calls, kernel.rules(), kernel.driver()) == ([], {}, "e1000e")


def test_a_refusal_changes_nothing(kernel: Kernel) -> None:
    kernel.device(A)
    (kernel.device(B) / "class").write_text("0x060400\n", encoding="utf-8")
    with pytest.raises(Refused, match="0000:02:00.0 is a bridge"):
        kernel.apply(addresses=[A, B])
    assert (kernel.calls, kernel.rules(), kernel.driver()) == ([], {}, "e1000e")


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ({}, "failed: EINVAL, Invalid argument; the kernel's log may tell more, such as that the device is on"),
        ({"sriov_numvfs": "2"}, "its virtual functions are in the way, write 0 to"),
        ({"secondary_bus_number": "3"}, "it is a bridge, and only endpoints can be passed on"),
    ],
)
def test_a_driver_that_refuses_the_device(kernel: Kernel, attribute: dict[str, str], reason: str) -> None:
    place = kernel.device(A)
    for name, value in attribute.items():
        (place / name).write_text(value + "\n", encoding="utf-8")
    kernel.claims = ["e1000e"]
    with pytest.raises(HostFailure) as caught:
        kernel.apply(force=[A])
    assert str(caught.value).startswith(f"vfio-pci did not take {A}: ")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"; {A} has e1000e, as before")
    assert (kernel.driver(), kernel.rules()) == ("e1000e", {})
    assert (place / "driver_override").read_text(encoding="utf-8") == "(null)\n"


def test_a_module_that_does_not_load_leaves_the_driver(kernel: Kernel) -> None:
    kernel.device(A)
    shutil.rmtree(kernel.root / "sys/bus/pci/drivers/vfio-pci")
    kernel.modules = {"vfio-pci": "vfio"}
    with pytest.raises(HostFailure, match="modprobe vfio-pci ended with 0 and brought no driver vfio-pci"):
        kernel.apply()
    assert (kernel.calls, kernel.driver(), kernel.rules()) == (["modprobe vfio-pci"], "e1000e", {})


def test_given_back_to_nobody(kernel: Kernel) -> None:
    kernel.device(A, "vfio-pci", "vfio-pci")
    kernel.claims, kernel.modules = [], {}
    result = kernel.apply(driver="native")
    assert (result["changed"], result["devices"][0]["driver"]) == (True, None)
    (warning,) = result["warnings"]
    assert warning.startswith(f"no driver claims {A} (8086:10d3): its modules are blacklisted, not installed")


def test_given_back_but_claimed_by_ids(kernel: Kernel) -> None:
    kernel.device(A, "vfio-pci", "vfio-pci")
    kernel.claims = ["vfio-pci"]
    with pytest.raises(HostFailure, match=f"vfio-pci claims {A} again; look for its id in 'options vfio-pci ids='"):
        kernel.apply(driver="native")


def test_a_group_that_a_guest_still_has(kernel: Kernel) -> None:
    place = kernel.device(A)
    kernel.apply()
    kernel.busy = True
    with pytest.raises(HostFailure) as caught:
        kernel.apply(driver="native")
    assert str(caught.value) == (
        f"writing {A} to {kernel.root}/sys/bus/pci/drivers_probe failed: EBUSY, {os.strerror(errno.EBUSY)}; its IOMMU"
        f" group is still in the hands of a guest, shut that down first; {A} has vfio-pci, as before"
    )
    assert (kernel.driver(), kernel.rules()) == ("vfio-pci", {f"10-passthrough-{A}.rules": RULE})
    assert (place / "driver_override").read_text(encoding="utf-8") == "vfio-pci\n"


def test_peers_of_the_group(kernel: Kernel) -> None:
    place = kernel.device(A, "vfio-pci", "vfio-pci")
    peer = kernel.device(B, "vfio-pci", "vfio-pci")
    (peer / "enable").write_text("1\n", encoding="utf-8")
    (place / "iommu_group/devices").mkdir()
    (place / "iommu_group/devices" / B).symlink_to(peer)
    (place / "enable").write_text("1\n", encoding="utf-8")
    (place / "iommu_group/devices" / A).symlink_to(place)
    assert _driver.look(str(kernel.root), parse(), kernel.run)[0].peer_held == B
    (place / "enable").write_text("0\n", encoding="utf-8")
    with pytest.raises(Refused, match=f"{A} shares its IOMMU group with {B}, which a running guest uses"):
        kernel.apply(driver="native")
    assert (kernel.calls, kernel.driver()) == ([], "vfio-pci")


def test_an_unbind_that_never_ends(kernel: Kernel) -> None:
    kernel.device(A)
    unbind = kernel.root / "sys/bus/pci/drivers/e1000e/unbind"
    unbind.unlink()
    os.mkfifo(unbind)  # whoever opens it for writing waits for a reader
    started = time.monotonic()
    with pytest.raises(HostFailure) as caught:
        kernel.apply(timeout=1)
    assert time.monotonic() - started < 8
    path = f"/etc/udev/rules.d/10-passthrough-{A}.rules"
    assert str(caught.value) == (
        f"{A} is held by the kernel: unbinding it from e1000e has not ended after 1 s, and cannot be stopped; {path}"
        f" is in place and gives it to vfio-pci at the next boot. Reboot the host: until then the device is of no use"
        f" to host or guest"
    )
    assert kernel.rules() == {f"10-passthrough-{A}.rules": RULE}


def test_a_device_that_an_earlier_unbind_still_holds(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    override = kernel.device(A) / "driver_override"
    override.unlink()
    os.mkfifo(override)
    monkeypatch.setattr(_attributes, "LOOK_TIMEOUT", 1)
    with pytest.raises(HostFailure, match=f"does not tell the driver_override of {A} within 1 s: .*; reboot the host"):
        kernel.apply()


def test_bounded_tells_what_a_command_said() -> None:
    assert _attributes.bounded(["sh", "-c", "echo $LC_ALL; echo wrong >&2; exit 3"], 10) == (3, "C\nwrong\n")


@pytest.mark.parametrize(("path", "code"), [("absent", errno.ENOENT), (".", errno.EISDIR)])
def test_a_write_tells_the_error_of_the_kernel(tmp_path: Path, path: str, code: int) -> None:
    argv = [sys.executable, "-I", "-S", "-c", _attributes.WRITE_SCRIPT, str(tmp_path / path), "x"]
    assert _attributes.bounded(argv, 10)[0] == code
