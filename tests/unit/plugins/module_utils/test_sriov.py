# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _attributes, _driver, _pci, _sriov
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, InvalidInput, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._host_use import Use
from ansible_collections.kvm.passthrough.plugins.module_utils._sriov import Device, Host, Request
from ansible_collections.kvm.passthrough.tests.unit.libvirt_host import definition, source
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space, express

A, B = "0000:05:00.0", "0000:05:00.1"
F0, F1, F2 = "0000:05:10.0", "0000:05:10.2", "0000:05:10.4"
CARD = ("0x8086", "0x10c9", "0x8086", "0xa03c")
OTHER_CARD = ("0x8086", "0x10c9", "0x8086", "0x0000")
RULE = f"""\
# {A} has 2 virtual functions while it is this card; written by kvm.passthrough.pci_sriov, which also removes it.
ACTION!="add|bind", GOTO="end"
SUBSYSTEM!="pci", GOTO="end"
KERNEL!="{A}", GOTO="end"
# An initramfs may hold an older copy of this, and the add event comes again once it is left.
TEST=="/etc/initrd-release", GOTO="end"
TEST=="/conf/initramfs.conf", GOTO="end"
DRIVER=="?*", ATTR{{[pci/{A}]vendor}}=="0x8086", ATTR{{[pci/{A}]device}}=="0x10c9", \
ATTR{{[pci/{A}]subsystem_vendor}}=="0x8086", ATTR{{[pci/{A}]subsystem_device}}=="0xa03c", \
ATTR{{sriov_numvfs}}=="0", ATTR{{sriov_numvfs}}="2"
LABEL="end"
""".encode()
NAME = f"20-passthrough-sriov-{A}.rules"


# -- foretelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "offset", "stride", "number", "expected"),
    [
        pytest.param(A, 128, 2, 3, [F0, F1, F2], id="82576"),
        pytest.param(B, 128, 2, 2, ["0000:05:10.1", "0000:05:10.3"], id="its other port"),
        pytest.param("0000:05:00.0", 128, 2, 5, [F0, F1, F2, "0000:05:10.6", "0000:05:11.0"], id="next slot"),
        pytest.param("0001:17:00.0", 16, 1, 2, ["0001:17:02.0", "0001:17:02.1"], id="XL710, another domain"),
        pytest.param("0000:05:00.1", 384, 2, 1, ["0000:06:10.1"], id="another bus"),
        pytest.param("10000:e0:1f.7", 1, 1, 1, ["10000:e1:00.0"], id="long domain"),
        pytest.param(A, 128, 0, 1, [F0], id="stride unknown, and not needed"),
        pytest.param(A, 128, 0, 2, None, id="stride unknown"),
        pytest.param(A, 0, 0, 1, None, id="offset unknown"),
        pytest.param(A, None, None, 1, None, id="old kernel"),
        pytest.param(A, None, None, 0, [], id="none wanted"),
    ],
)
def test_foretell(
    address: str, offset: int | None, stride: int | None, number: int, expected: list[str] | None
) -> None:
    assert _sriov.foretell(address, [], offset, stride, number) == expected


@pytest.mark.parametrize(("number", "expected"), [(1, [F0]), (2, [F0, F1]), (3, [F0, F1, F2])])
def test_foretell_from_what_is_there(number: int, expected: list[str]) -> None:
    assert _sriov.foretell(A, [F0, F1], 128, 2, number) == expected


def test_foretell_fewer_where_nothing_is_told() -> None:
    assert _sriov.foretell(A, [F0, F1], None, None, 1) == [F0]


# -- predicting --------------------------------------------------------------------------------------------------------

ONLY_THE_KERNEL_KNOWS = {
    *("subsystem_id", "subsystem_name", "revision", "device_name", "modules", "bars"),
    *("driver", "iommu_group", "enabled", "reset_methods", "power_state"),
}


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    """A card of two ports behind a root port, and one on the root bus."""
    tree = PciTree(tmp_path)
    port = config_space("8086:3420", "060400", header=1, capabilities=[express(4)], busses=(0, 5, 6))
    tree.add("0000:00:01.0", port, pci_id="8086:3420", pci_class="060400", subsystem="0000:0000", driver="pcieport")
    card = config_space("8086:10c9", capabilities=[express(0)], header=0x80)
    for address, below in ((A, "0000:00:01.0"), (B, "0000:00:01.0"), ("0000:00:02.0", None)):
        more: dict[str, t.Any] = {"attributes": {"numa_node": "1", "reset_method": "flr bus"}}
        tree.add(address, card, pci_id="8086:10c9", subsystem="8086:a03c", below=below, driver="igb", **more)
        tree.split(address, 0)
    tree.add("0000:07:00.0", config_space(), driver="e1000e")
    tree.slot("7", "0000:05:00")
    tree.write("/usr/share/misc/pci.ids", "8086  Intel Corporation\nC 02  Network\n\t00  Ethernet controller\n")
    return tree


def read(tree: PciTree) -> list[dict[str, t.Any]]:
    return _pci.read_devices(str(tree.root), pytest.fail)


@pytest.mark.parametrize(
    ("before", "after", "how"),
    [
        pytest.param({}, {A: 2}, {}, id="the first"),
        pytest.param({}, {A: 7, B: 7}, {}, id="both ports, interleaved"),
        pytest.param({}, {"0000:00:02.0": 1}, {}, id="on the root bus"),
        pytest.param({A: 2}, {A: 4}, {}, id="more"),
        pytest.param({A: 4, B: 2}, {A: 1}, {}, id="fewer"),
        pytest.param({A: 2, B: 1}, {A: 0, B: 0}, {}, id="none any more"),
        pytest.param({A: 2}, {A: 2}, {}, id="the same"),
        pytest.param({}, {A: 2}, {"offset": 384}, id="on another bus"),
        pytest.param({}, {A: 2}, {"offset": 2, "stride": 1}, id="in the slot of the card"),
    ],
)
def test_what_is_predicted_is_what_is_read_later(
    tree: PciTree, before: dict[str, int], after: dict[str, int], how: dict[str, int]
) -> None:
    for address in {**before, **after}:
        tree.split(address, before.get(address, 0), **how)
    seen = read(tree)
    kept = {device["address"] for device in seen}
    predicted = _sriov.predict(seen, [{"address": address, "num_vfs": number} for address, number in after.items()])
    for address, number in after.items():
        tree.split(address, number, **how)
    later = read(tree)
    assert [device["address"] for device in predicted] == [device["address"] for device in later]
    for foreseen, real in zip(predicted, later):
        assert list(foreseen) == list(real)
        unknown = set() if real["address"] in kept else ONLY_THE_KERNEL_KNOWS
        assert {key: foreseen[key] for key in set(real) - unknown} == {key: real[key] for key in set(real) - unknown}
        assert {foreseen[key] for key in unknown - {"modules", "bars"}} <= {None}


def test_predict_leaves_the_facts_alone(tree: PciTree) -> None:
    seen = read(tree)
    _sriov.predict(seen, [{"address": A, "num_vfs": 2}])
    assert seen == read(tree)


def test_predict_where_the_device_does_not_tell(tree: PciTree) -> None:
    tree.split(A, 0, offset=0, stride=0)
    predicted = _sriov.predict(read(tree), [{"address": A, "num_vfs": 2}])
    (card,) = (device for device in predicted if device["address"] == A)
    assert (len(predicted), card["sriov"]["num_vfs"], card["sriov"]["virtual_functions"]) == (5, 2, [])


# -- the rule ----------------------------------------------------------------------------------------------------------


def test_rule_text() -> None:
    assert _sriov.rule_text(A, CARD, 2) == RULE
    assert _sriov.rule_text(A, CARD, 1).startswith(f"# {A} has 1 virtual function while it".encode())


def test_rule_identity() -> None:
    assert _driver.rule_identity(RULE) == CARD


def test_rule_path() -> None:
    assert _sriov.rule_path(A) == f"/etc/udev/rules.d/{NAME}"


# -- the request -------------------------------------------------------------------------------------------------------


def parse(*devices: tuple[str, int], **values: t.Any) -> Request:
    given = {"persistent": True, "exclusive": False, "pending": [], "timeout": 30}
    return Request.parse([{"address": one, "num_vfs": number} for one, number in devices], **{**given, **values})


def test_a_request() -> None:
    request = parse(("05:00.0", 2), (B, 0), pending=["05:10.0"])
    assert request == Request({A: 2, B: 0}, True, False, frozenset((F0,)), 30)
    assert parse(exclusive=True).devices == {}


NO_ADDRESS = "'eth0' is no PCI address. Write it as 0000:06:00.0, or 06:00.0 in domain 0000"


@pytest.mark.parametrize(
    ("devices", "values", "message"),
    [
        ([("05:00.0", 2), (A, 2)], {}, f"{A} is named twice; name each device once"),
        ([], {}, "devices is empty, which only makes sense together with exclusive: true"),
        ([(A, -1)], {}, f"num_vfs of {A} is -1; it is a number from 0 on"),
        ([(A, 1)], {"timeout": 0}, "timeout is 0; it is a number of seconds, at least 1"),
        ([("eth0", 1)], {}, NO_ADDRESS),
        (
            [(A, 1)],
            {"pending": ["eth0"]},
            NO_ADDRESS,
        ),
    ],
)
def test_a_request_that_cannot_be_meant(devices: list[tuple[str, int]], values: dict[str, t.Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(*devices, **values)
    assert str(caught.value) == message


# -- deciding ----------------------------------------------------------------------------------------------------------


def device(address: str = A, **values: t.Any) -> Device:
    usual = {"identity": CARD, "driver": "igb", "num_vfs": 0, "total": 7, "offset": 128, "stride": 2}
    count = values.get("num_vfs") or 0
    functions = tuple((_sriov.foretell(address, [], 128, 2, count) or [])[:count])
    return Device(**{"address": address, "functions": functions, **usual, **values})


@pytest.mark.parametrize(
    ("before", "number", "more", "writes", "rule"),
    [
        pytest.param({}, 2, {}, (2,), RULE, id="the first"),
        pytest.param({}, 2, {"persistent": False}, (2,), None, id="until the next boot"),
        pytest.param({"num_vfs": 2, "rule": RULE}, 2, {}, (), RULE, id="done"),
        pytest.param({"num_vfs": 2}, 2, {}, (), RULE, id="done by somebody else, once"),
        pytest.param({"num_vfs": 2, "rule": RULE}, 2, {"persistent": False}, (), None, id="not at boot any more"),
        pytest.param({"rule": RULE}, 2, {}, (2,), RULE, id="lost at boot"),
        pytest.param({"num_vfs": 4, "rule": RULE}, 2, {}, (0, 2), RULE, id="fewer, through 0"),
        pytest.param({"num_vfs": 1}, 2, {}, (0, 2), RULE, id="more, through 0"),
        pytest.param({"num_vfs": 2, "rule": RULE}, 0, {}, (0,), None, id="none"),
        pytest.param({}, 0, {}, (), None, id="none, as ever"),
        pytest.param({"rule": RULE + b"\n", "num_vfs": 2}, 2, {}, (), RULE, id="rule was edited"),
        pytest.param({"driver": None, "num_vfs": 2}, 2, {}, (), RULE, id="done, driver gone"),
    ],
)
def test_writes(
    before: dict[str, t.Any], number: int, more: dict[str, t.Any], writes: tuple[int, ...], rule: bytes | None
) -> None:
    (plan,) = _sriov.decide(parse((A, number), **more), [device(**before)], Host())
    assert (plan.writes, plan.rule.after) == (writes, rule)
    assert plan.changed is bool(writes or before.get("rule") != rule)


@pytest.mark.parametrize(
    ("before", "writes"),
    [
        pytest.param({"num_vfs": 2}, (0,), id="the rule's card"),
        pytest.param({}, (), id="without functions"),
        pytest.param({"num_vfs": 2, "identity": OTHER_CARD}, (), id="another card in its place"),
        pytest.param({"num_vfs": None, "identity": None}, (), id="nothing there any more"),
        pytest.param({"num_vfs": None}, (), id="switched off in the firmware"),
    ],
)
def test_released_by_exclusive(before: dict[str, t.Any], writes: tuple[int, ...]) -> None:
    (plan,) = _sriov.decide(parse(exclusive=True), [device(**before, rule=RULE)], Host())
    assert (plan.writes, plan.rule.after, plan.kept) == (writes, None, None)


LOST = "and goes when the number changes from 2 to 4; free it first"
HELD = "shut the guest down, or detach the function from it, first"
ROUTE = Use("default_route", "carries the default route (enp5s0v0)", "/proc/net/route: …")
ROUTE6 = Use("default_route", "carries the default route (enp5s0v0)", "/proc/net/ipv6_route: …")
DISK = Use("mount", "holds the mounted file system / (nvme0n1p1)", "/proc/self/mountinfo: …")


@pytest.mark.parametrize(
    ("before", "number", "host", "messages"),
    [
        pytest.param(
            {"num_vfs": None, "total": None},
            0,
            Host(capable=lambda: f"{B} (8086:10c9)"),
            [
                f"{A} has no SR-IOV, or the firmware's setup switches it off; devices that have it are {B} (8086:10c9)",
            ],
            id="no SR-IOV",
        ),
        pytest.param(
            {"num_vfs": None, "total": None},
            2,
            Host(),
            [f"{A} has no SR-IOV, or the firmware's setup switches it off; no device of this host has it"],
            id="nobody has",
        ),
        pytest.param(
            {"driver": None},
            8,
            Host(),
            [
                f"{A} can have 7 virtual functions at most, not 8; ask for no more than 7",
                f"{A} has no driver, and only a driver makes virtual functions; load its module first",
            ],
            id="too many, and no driver",
        ),
        pytest.param({"total": None}, 8, Host(), [], id="total unknown"),
        pytest.param({}, 7, Host(), [], id="all of them"),
        pytest.param(
            {"driver": "vfio-pci"},
            2,
            Host(),
            [
                f"{A} is with vfio-pci, which is for guests and makes no virtual functions; take it from its guest and"
                " give it back to its own driver first, or split another device"
            ],
            id="with a guest",
        ),
        pytest.param({"driver": "vfio-pci"}, 0, Host(), [], id="with a guest, no functions wanted"),
        pytest.param(
            {"num_vfs": 2},
            4,
            Host(
                holder=lambda address: "the running guest fax1" if address == F1 else None,
                uses={F0: [ROUTE, ROUTE6, DISK], B: [ROUTE]},
            ),
            [
                f"{F1}, a virtual function of {A}, is in use by the running guest fax1; {HELD}",
                f"{F0}, a virtual function of {A}, {ROUTE.what} and {DISK.what}, {LOST}",
            ],
            id="functions in use",
        ),
        pytest.param({"num_vfs": 2}, 2, Host(holder=lambda address: "x", uses={F0: [ROUTE]}), [], id="functions stay"),
        pytest.param({}, 2, Host(holder=lambda address: "x", uses={F0: [ROUTE]}), [], id="functions come"),
        pytest.param({}, 2, Host(uses={A: [ROUTE]}), [], id="the host uses the device itself"),
    ],
)
def test_refusals(before: dict[str, t.Any], number: int, host: Host, messages: list[str]) -> None:
    if not messages:
        assert len(_sriov.decide(parse((A, number)), [device(**before)], host)) == 1
        return
    with pytest.raises(Refused) as caught:
        _sriov.decide(parse((A, number)), [device(**before)], host)
    assert str(caught.value).splitlines() == messages


def test_all_devices_are_told_of() -> None:
    with pytest.raises(Refused) as caught:
        _sriov.decide(parse((A, 8), (B, 9)), [device(), device(B)], Host())
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [A, B]


def test_exclusive_keeps_what_a_guest_has() -> None:
    before = device(num_vfs=2, rule=RULE)
    (plan,) = _sriov.decide(parse(exclusive=True), [before], Host(holder=lambda address: "the running guest fax1"))
    assert (plan.changed, plan.rule.after) == (False, RULE)
    assert plan.kept == f"{F0}, a virtual function of {A}, is in use by the running guest fax1; {HELD}"


def test_exclusive_takes_nothing_from_the_host() -> None:
    with pytest.raises(Refused, match="enp5s0v0.*changes from 2 to 0"):
        _sriov.decide(parse(exclusive=True), [device(num_vfs=2, rule=RULE)], Host(uses={F0: [ROUTE]}))


# -- doing -------------------------------------------------------------------------------------------------------------


class Kernel:
    """The tree, and what drivers/pci/iov.c does with it when a number is written."""

    def __init__(self, tree: PciTree) -> None:
        self.tree = tree
        self.calls: list[str] = []
        self.refuses: dict[int, int] = {}
        self.makes = 7
        self.hangs: int | None = None

    def run(self, argv: list[str], timeout: float) -> tuple[int, str]:
        """Stands for _attributes.bounded: attributes are read for real, and written in play."""
        if argv[0] == "udevadm":
            self.calls.append(" ".join(argv))
            return 0, ""
        if argv[4] is not _attributes.WRITE_SCRIPT:
            return _attributes.bounded(argv, timeout)
        address, number = Path(argv[5]).parent.name, int(argv[6])
        assert argv[5] == f"{self.tree.root}/sys/bus/pci/devices/{address}/sriov_numvfs"
        self.calls.append(f"{address} < {number}")
        if number == self.hangs:
            raise _attributes.StuckError("")
        return self.written(address, number), ""

    def written(self, address: str, number: int) -> int:
        place = self.tree.device(address)
        before = int((place / "sriov_numvfs").read_text())
        if number > int((place / "sriov_totalvfs").read_text()):
            return errno.ERANGE
        if number == before:
            return 0
        if not (place / "driver").exists():
            return errno.ENOENT
        if before and number:
            return errno.EBUSY
        if number not in self.refuses:
            self.tree.split(address, min(number, self.makes))
        return self.refuses.get(number, 0)

    def apply(self, *devices: tuple[str, int], check: bool = False, **values: t.Any) -> dict[str, t.Any]:
        request = parse(*devices, **values)
        return _sriov.apply(str(self.tree.root), request, check, True, shutil.move, "udevadm", None, self.run)

    def number(self, address: str = A) -> int:
        return int((self.tree.device(address) / "sriov_numvfs").read_text())

    def rules(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.tree.root / "etc/udev/rules.d").glob("*")}


@pytest.fixture
def kernel(tree: PciTree) -> Kernel:
    return Kernel(tree)


SETTLE = "udevadm settle --timeout=30"


def test_make_change_and_take_away(kernel: Kernel) -> None:
    forecast = kernel.apply((A, 2), check=True)
    assert (kernel.calls, kernel.rules(), kernel.number()) == ([], {}, 0)

    made = kernel.apply((A, 2))
    assert made == forecast
    assert made["devices"] == [
        {
            "address": A,
            "before": 0,
            "num_vfs": 2,
            "virtual_functions": [F0, F1],
            "rule": f"/etc/udev/rules.d/{NAME}",
        }
    ]
    assert made["actions"] == [f"write /etc/udev/rules.d/{NAME}", f"write 2 to sriov_numvfs of {A}"]
    assert (kernel.calls, kernel.rules()) == ([f"{A} < 2", SETTLE], {NAME: RULE})
    for check in (True, False):
        assert (kernel.apply((A, 2), check=check)["changed"], len(kernel.calls)) == (False, 2)

    kernel.calls.clear()
    forecast = kernel.apply((A, 3), check=True)
    changed = kernel.apply((A, 3))
    assert changed == forecast
    assert (changed["devices"][0]["before"], changed["devices"][0]["virtual_functions"]) == (2, [F0, F1, F2])
    assert (kernel.calls, kernel.rules()[NAME]) == ([f"{A} < 0", f"{A} < 3", SETTLE], _sriov.rule_text(A, CARD, 3))

    kernel.calls.clear()
    forecast = kernel.apply(check=True, exclusive=True)
    gone = kernel.apply(exclusive=True)
    assert gone == forecast
    assert gone["devices"] == [{"address": A, "before": 3, "num_vfs": 0, "virtual_functions": [], "rule": None}]
    assert (kernel.calls, kernel.rules(), kernel.number()) == ([f"{A} < 0", SETTLE], {}, 0)
    again = kernel.apply(exclusive=True)
    assert (again["changed"], again["devices"], again["diff"]) == (False, [], [])


def test_the_difference_shows_functions_and_rule(kernel: Kernel) -> None:
    (difference,) = kernel.apply((A, 2), check=True)["diff"]
    path = f"/etc/udev/rules.d/{NAME}"
    assert difference["before"] == f"sriov_numvfs: 0\nvirtual functions: (none)\n{path}: (none)\n"
    assert difference["after"] == f"sriov_numvfs: 2\nvirtual functions: {F0} {F1}\n{path}:\n{RULE.decode()}"


def test_check_mode_where_the_device_does_not_tell(kernel: Kernel) -> None:
    kernel.tree.split(A, 0, offset=0, stride=0)
    result = kernel.apply((A, 2), check=True)
    assert (result["devices"][0]["num_vfs"], result["devices"][0]["virtual_functions"]) == (2, None)
    assert "virtual functions: (unknown)\n" in result["diff"][0]["after"]
    assert kernel.apply((A, 2))["devices"][0]["virtual_functions"] == [F0, F1]


def test_exclusive_minds_its_own_rules(kernel: Kernel) -> None:
    kernel.apply((A, 2), (B, 2))
    rules = kernel.tree.root / "etc/udev/rules.d"
    (rules / "20-passthrough-sriov-0000:7f:00.0.rules").write_bytes(RULE)
    (rules / f"10-passthrough-{A}.rules").write_bytes(b"# of pci_driver\n")
    result = kernel.apply((A, 2), exclusive=True)
    assert [(entry["address"], entry["before"], entry["num_vfs"]) for entry in result["devices"]] == [
        (A, 2, 2),
        (B, 2, 0),
        ("0000:7f:00.0", None, None),
    ]
    assert sorted(kernel.rules()) == [f"10-passthrough-{A}.rules", NAME]


def open_for_a_guest(tree: PciTree, address: str) -> None:
    """As the kernel shows it once QEMU has opened the device."""
    place = tree.device(address)
    driver = tree.bus / "drivers/vfio-pci"
    driver.mkdir(parents=True, exist_ok=True)
    (place / "driver").symlink_to(os.path.relpath(driver, place))
    (place / "enable").write_text("1\n")


def test_a_function_that_a_guest_has(kernel: Kernel) -> None:
    kernel.apply((A, 2))
    open_for_a_guest(kernel.tree, F1)
    evidence = f"/sys/bus/pci/devices/{F1}/enable: 1"
    kernel.calls.clear()
    with pytest.raises(Refused) as caught:
        kernel.apply((A, 3))
    assert str(caught.value) == (f"{F1}, a virtual function of {A}, is in use by a running guest ({evidence}); {HELD}")
    kernel.tree.write("/run/libvirt/qemu/fax1.xml", definition(source(F1)))
    for check in (True, False):
        result = kernel.apply(exclusive=True, check=check)
        assert (result["changed"], result["devices"], result["kept"]) == (False, [], [A])
        assert result["warnings"] == [
            f"{A} is left as it is: {F1}, a virtual function of {A}, is in use by the running guest fax1; {HELD}"
        ]
    assert (kernel.calls, kernel.number(), kernel.rules()) == ([], 2, {NAME: RULE})

    # What earlier tasks have taken from the guest, check mode takes for free, and only check mode.
    assert kernel.apply((A, 3), check=True, pending=[F1])["changed"] is True
    with pytest.raises(Refused, match="is in use by the running guest fax1"):
        kernel.apply((A, 3), pending=[F1])


def test_a_guest_that_does_not_run_holds_nothing(kernel: Kernel) -> None:
    kernel.apply((A, 2))
    kernel.tree.write("/etc/libvirt/qemu/fax1.xml", definition(source(F1)))
    assert kernel.apply((A, 3))["devices"][0]["num_vfs"] == 3


def test_an_unknown_address_changes_nothing(kernel: Kernel) -> None:
    with pytest.raises(InvalidInput) as caught:
        kernel.apply((A, 2), ("05:00.2", 2))
    assert str(caught.value).startswith("0000:05:00.2 is not on this host; near it are 0000:00:02.0 (8086:10c9), ")
    assert (kernel.calls, kernel.rules()) == ([], {})


def test_a_refusal_changes_nothing_and_names_who_could(kernel: Kernel) -> None:
    with pytest.raises(Refused) as caught:
        kernel.apply((A, 2), ("07:00.0", 2))
    assert str(caught.value) == (
        "0000:07:00.0 has no SR-IOV, or the firmware's setup switches it off; devices that have it are"
        f" 0000:00:02.0 (8086:10c9), {A} (8086:10c9), {B} (8086:10c9)"
    )
    assert (kernel.calls, kernel.rules()) == ([], {})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOENT, f"ENOENT, {os.strerror(errno.ENOENT)}; igb makes no virtual functions, or was told not to"),
        (errno.ENOSYS, f"ENOSYS, {os.strerror(errno.ENOSYS)}; igb makes no virtual functions, or was told not to"),
        (
            errno.ENOMEM,
            f"ENOMEM, {os.strerror(errno.ENOMEM)}; the firmware left no bus numbers or no memory for so many; switch"
            " SR-IOV on in its setup, or boot with pci=assign-busses,realloc",
        ),
        (errno.EPERM, f"EPERM, {os.strerror(errno.EPERM)}; the kernel's log may tell more"),
    ],
)
def test_a_number_that_the_kernel_refuses(kernel: Kernel, code: int, reason: str) -> None:
    kernel.refuses = {4: code}
    with pytest.raises(HostFailure) as caught:
        kernel.apply((A, 4), (B, 2))
    path = f"{kernel.tree.root}/sys/bus/pci/devices/{A}/sriov_numvfs"
    assert str(caught.value) == f"writing 4 to {path} failed: {reason}; {A} has 0, as before"
    assert (kernel.rules(), kernel.number(A), kernel.number(B)) == ({}, 0, 0)


def test_a_failure_gives_the_functions_back(kernel: Kernel) -> None:
    kernel.apply((A, 2))
    kernel.calls.clear()
    kernel.refuses = {4: errno.ENOMEM}
    with pytest.raises(HostFailure, match=f"; {A} has 2, as before$"):
        kernel.apply((A, 4))
    assert (kernel.calls, kernel.rules(), kernel.number()) == ([f"{A} < 0", f"{A} < 4", f"{A} < 2"], {NAME: RULE}, 2)
    kernel.refuses = {2: errno.ENOMEM, 4: errno.ENOMEM}
    with pytest.raises(HostFailure, match=f"; {A} had 2 before and cannot be given them back: writing 2 to "):
        kernel.apply((A, 4))


def test_fewer_than_asked_for(kernel: Kernel) -> None:
    kernel.makes = 3
    with pytest.raises(HostFailure) as caught:
        kernel.apply((A, 4))
    assert str(caught.value) == (
        f"{A} has 3 virtual functions where igb was asked for 4; the kernel's log may tell more; {A} has 0, as before"
    )
    assert (kernel.rules(), kernel.number()) == ({}, 0)


def test_a_driver_that_never_ends(kernel: Kernel) -> None:
    kernel.hangs = 2
    with pytest.raises(HostFailure) as caught:
        kernel.apply((A, 2))
    assert str(caught.value) == (
        f"{A} is held by the kernel: changing its virtual functions has not ended after 30 s, and cannot be stopped;"
        f" /etc/udev/rules.d/{NAME} is in place. Reboot the host: until then the device is of no use"
    )
    assert kernel.rules() == {NAME: RULE}


def test_a_driver_that_never_gives_back(kernel: Kernel) -> None:
    kernel.tree.split(A, 1)
    kernel.refuses, kernel.hangs = {2: errno.ENOMEM}, 1
    with pytest.raises(HostFailure, match=f"; {A} could not be given back its 1, the kernel still holds it; reboot "):
        kernel.apply((A, 2))


def test_a_device_that_an_earlier_operation_still_holds(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    number = kernel.tree.device(A) / "sriov_numvfs"
    number.unlink()
    os.mkfifo(number)  # whoever opens it for reading waits for a writer
    monkeypatch.setattr(_attributes, "LOOK_TIMEOUT", 1)
    with pytest.raises(HostFailure, match=f"does not tell the sriov_numvfs of {A} within 1 s: .*; reboot the host"):
        kernel.apply((A, 2))


def test_without_udevadm(kernel: Kernel) -> None:
    result = _sriov.apply(str(kernel.tree.root), parse((A, 1)), False, False, shutil.move, None, None, kernel.run)
    assert ("diff" in result, kernel.calls) == (False, [f"{A} < 1"])


def test_udev_that_does_not_settle(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], timeout: float) -> tuple[int, str]:
        if argv[0] == "udevadm":
            raise _attributes.StuckError("")
        return kernel.run(argv, timeout)

    result = _sriov.apply(str(kernel.tree.root), parse((A, 1)), False, False, shutil.move, "udevadm", None, run)
    assert result["devices"][0]["virtual_functions"] == [F0]
