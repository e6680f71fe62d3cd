# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _checks_interrupt, _interrupts, _pci
from ansible_collections.kvm.passthrough.plugins.module_utils._check import Machine
from ansible_collections.kvm.passthrough.tests.unit.machines import Facts, bridge, device, findings, machine
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space, express

CARD = "0000:05:00.0"
USB = "0000:00:1d.0"
BRIDGE = "0000:00:1e.0"
PORT = "0000:00:1c.0"
PLACE = f"/sys/bus/pci/devices/{CARD}"
NOINTXMASK = "/sys/module/vfio_pci/parameters/nointxmask"
BUSY = (
    f"vfio {CARD}: Failed to set up TRIGGER eventfd signaling for interrupt INTX-0: VFIO_DEVICE_SET_IRQS failure:"
    " Device or resource busy"
)
INTX = {"pin": "A", "line": 16, "vectors": [], "mode": "intx"}
MSIX = {"pin": "A", "line": 16, "vectors": [40, 41], "mode": "msix"}

CONVENTIONAL: Facts = {"id": "1397:08b4", "driver": "hfc_multi", "pcie_type": None, "parent": BRIDGE}
REALTEK: Facts = {**CONVENTIONAL, "id": "10ec:8169", "driver": "r8169"}
CHELSIO: Facts = {"id": "1425:0030", "driver": "cxgb3"}
XL710: Facts = {"id": "8086:1583", "driver": "i40e"}
X550: Facts = {"id": "8086:1563", "driver": "ixgbe"}
CONNECTX3: Facts = {"id": "15b3:1003", "driver": "mlx4_core"}
CONNECTX4: Facts = {"id": "15b3:1013", "driver": "mlx5_core"}

OWN = {"hfc_multi": "HFC-multi", "r8169": "r8169", "vfio-pci": f"vfio-intx({CARD})"}


def row(*actions: str, devices: t.Sequence[str] = (CARD, USB), irq: int = 16) -> Facts:
    """Interrupt 16, as irq_facts would return it."""
    return {
        "irq": irq,
        "chip": "IO-APIC",
        "actions": list(actions),
        "devices": sorted(devices),
        "unconfirmed": [],
        "shared": len(actions) > 1 or len(devices) > 1,
    }


def host(card: Facts, *rows: Facts, root: str | Path = "/nonexistent", kvm: Facts | None = None) -> Machine:
    """A card behind a bridge, a USB controller on the root bus, and a port whose type may not be read."""
    parent = bridge(BRIDGE, pcie_type="pcie_to_pci_bridge", driver=None)
    usb = device(USB, id="8086:1c26", **{"class": "0c0320"}, driver="ehci-pci", pcie_type=None, interrupt=INTX)
    card = device(CARD, **{"interrupt": INTX, **card})
    return machine(str(root), [bridge(PORT, pcie_type=None), usb, parent, card], kvm, interrupts=rows)


def shared(card: Facts) -> Facts:
    """The line with the card's own handler and the USB controller's."""
    return row(OWN.get(card["driver"], card["driver"]), "ehci_hcd:usb1")


def found(where: Machine, address: str = CARD) -> list[tuple[str, str]]:
    """What all checks find, as id and severity."""
    every = (check.findings(where, where.devices[address]) for check in _checks_interrupt.CHECKS)
    return [(finding["check"], finding["severity"]) for findings in every for finding in findings]


@pytest.fixture
def tree(tmp_path: Path) -> PciTree:
    return PciTree(tmp_path)


BLOCKED = [("intx_shared_nomask", "blocker")]
MAYBE = [("intx_unknown", "warning")]
LATER = [("intx_unknown", "information")]
ALONE = [("broken_intx", "information")]
BROKEN = [("broken_intx", "warning")]
HIDDEN = [("nointx", "information")]


@pytest.mark.parametrize(
    ("card", "rows", "expected"),
    [
        pytest.param({}, [row("eth0", "ehci_hcd:usb1")], [], id="PCI Express may share"),
        pytest.param(CHELSIO, [shared(CHELSIO)], BLOCKED, id="PCI Express, known not to mask"),
        pytest.param(REALTEK, [shared(REALTEK)], BLOCKED, id="conventional, known not to mask"),
        pytest.param(CONNECTX3, [shared(CONNECTX3)], BLOCKED, id="ConnectX-3"),
        pytest.param(CHELSIO, [row("cxgb3", devices=[CARD])], ALONE, id="alone on its line"),
        pytest.param({**CHELSIO, "interrupt": MSIX}, [shared(CHELSIO)], BROKEN, id="line not in use: MSI-X"),
        pytest.param({**CHELSIO, "enabled": False}, [row("ehci_hcd:usb1", devices=[USB])], BROKEN, id="stale number"),
        pytest.param({**CHELSIO, "enabled": None}, [shared(CHELSIO)], BROKEN, id="nobody knows whether it is enabled"),
        pytest.param({**CHELSIO, "interrupt": {"pin": None}}, [shared(CHELSIO)], [], id="no pin"),
        pytest.param(CHELSIO, [], BROKEN, id="no interrupts known"),
        pytest.param(CONVENTIONAL, [shared(CONVENTIONAL)], MAYBE, id="conventional, shared"),
        pytest.param(CONVENTIONAL, [row("HFC-multi", devices=[CARD])], [], id="conventional, alone"),
        pytest.param(CONVENTIONAL, [row("HFC-multi")], [], id="the other device has not requested the line"),
        pytest.param(CONVENTIONAL, [row("HFC-multi", "acpi", devices=[CARD])], MAYBE, id="shared with no PCI device"),
        pytest.param(
            {**CONVENTIONAL, "driver": "ehci-pci"}, [row("ehci_hcd:usb1", "ehci_hcd:usb2")], MAYBE, id="twins"
        ),
        pytest.param({**CONVENTIONAL, "interrupt": MSIX}, [shared(CONVENTIONAL)], [], id="conventional, MSI now"),
        pytest.param({**CONVENTIONAL, "enabled": False}, [shared(CONVENTIONAL)], LATER, id="conventional, not enabled"),
        pytest.param({**CONVENTIONAL, "enabled": None}, [shared(CONVENTIONAL)], [], id="conventional, unknown"),
        pytest.param(
            {**CONVENTIONAL, "interrupt": {"pin": None}}, [shared(CONVENTIONAL)], [], id="conventional, no pin"
        ),
        pytest.param(
            {**CONVENTIONAL, "driver": "vfio-pci"},
            [row(f"vfio-intx({CARD})", "ehci_hcd:usb1")],
            [],
            id="its guest runs, and shares",
        ),
        pytest.param({**XL710, "interrupt": MSIX}, [], HIDDEN, id="pin hidden"),
        pytest.param({**X550, "interrupt": MSIX}, [], HIDDEN, id="pin hidden, X550"),
        pytest.param(XL710, [row("i40e", "ehci_hcd:usb1")], HIDDEN, id="pin hidden, shared"),
        pytest.param({**XL710, "interrupt": {"pin": None}}, [], [], id="virtual function"),
        pytest.param({"id": "8086:1582", "interrupt": MSIX}, [], [], id="not in the list"),
    ],
)
def test_interrupts(card: Facts, rows: list[Facts], expected: list[tuple[str, str]]) -> None:
    assert found(host(card, *rows)) == expected


@pytest.mark.parametrize(
    ("value", "card", "rows", "expected"),
    [
        ("Y", {}, [row("eth0", "ehci_hcd:usb1")], BLOCKED),
        ("Y", CONVENTIONAL, [shared(CONVENTIONAL)], BLOCKED),
        ("Y", XL710, [row("i40e", "ehci_hcd:usb1")], BLOCKED),
        ("Y", {}, [row("eth0", devices=[CARD])], []),
        ("Y", {"interrupt": MSIX}, [], []),
        ("N", {}, [row("eth0", "ehci_hcd:usb1")], []),
        ("N", CONVENTIONAL, [shared(CONVENTIONAL)], MAYBE),
    ],
)
def test_nointxmask_wants_every_line_alone(
    tree: PciTree, value: str, card: Facts, rows: list[Facts], expected: list[tuple[str, str]]
) -> None:
    tree.write(NOINTXMASK, f"{value}\n")
    where = host(card, *rows, root=tree.root)
    assert found(where) == expected
    messages = [finding["message"] for finding in findings(_checks_interrupt.HOST_CHECKS, "nointxmask", where)]
    assert messages == (
        ["vfio-pci is loaded with nointxmask: every device needs its interrupt line for itself"] if value == "Y" else []
    )


def test_nointxmask_is_silent_where_vfio_pci_is_not_loaded() -> None:
    assert findings(_checks_interrupt.HOST_CHECKS, "nointxmask", host({})) == []


@pytest.mark.parametrize(
    ("version", "rows", "expected"),
    [
        (None, [], [("broken_intx", "information")]),
        ("12.28.2006", [], []),
        ("12.14.1100", [shared(CONNECTX4)], []),
        ("12.12.1240", [shared(CONNECTX4)], BLOCKED),
        ("12.12.1240", [], BROKEN),
        ("12.12.1240", [row("mlx5_core", devices=[CARD])], ALONE),
        ("garbage", [shared(CONNECTX4)], [("broken_intx", "information")]),
    ],
)
def test_connectx4_depends_on_its_firmware(
    tree: PciTree, version: str | None, rows: list[Facts], expected: list[tuple[str, str]]
) -> None:
    if version is not None:
        tree.write(f"{PLACE}/infiniband/mlx5_0/fw_ver", f"{version}\n")
    where = host({**CONNECTX4, **({} if rows else {"interrupt": MSIX})}, *rows, root=tree.root)
    assert found(where) == expected


@pytest.mark.parametrize(
    ("command", "power_state", "parent_state", "expected"),
    [
        (0x0407, "D0", "D0", []),
        (0x0407, "D0", "unknown", []),
        (0x0007, "D0", "D0", MAYBE),
        (0x0407, "D3hot", "D0", MAYBE),
        (0x0407, "D0", "D3hot", MAYBE),
        (0x0407, None, None, MAYBE),
    ],
)
def test_command_is_read_only_of_who_is_awake(
    tree: PciTree, command: int, power_state: str | None, parent_state: str | None, expected: list[tuple[str, str]]
) -> None:
    tree.write(f"{PLACE}/config", config_space(command=command)[:64])
    where = host({**CONVENTIONAL, "power_state": power_state}, shared(CONVENTIONAL), root=tree.root)
    where.devices[BRIDGE]["power_state"] = parent_state
    assert found(where) == expected


@pytest.mark.parametrize(
    ("card", "parent_type", "other_type", "links", "expected"),
    [
        pytest.param({}, "pcie_to_pci_bridge", None, [], True, id="behind a bridge to conventional PCI"),
        pytest.param({}, "pci_to_pcie_bridge", "endpoint", [], False, id="behind a bridge to PCI Express, asleep"),
        pytest.param({}, None, "endpoint", [], True, id="root has read all capabilities"),
        pytest.param({"header_type": None}, None, "endpoint", [], False, id="root has not read those of this one"),
        pytest.param({}, None, None, [], False, id="not root, bare tree"),
        pytest.param({}, None, None, [PORT], True, id="not root, a port has a link"),
        pytest.param({}, None, None, [PORT, CARD], False, id="not root, it has a link"),
        pytest.param({"pcie_type": "endpoint"}, None, None, [], False, id="PCI Express"),
        pytest.param({"parent": None}, None, "endpoint", [], True, id="on the root bus"),
    ],
)
def test_conventional_only_where_it_is_certain(
    tree: PciTree, card: Facts, parent_type: str | None, other_type: str | None, links: list[str], expected: bool
) -> None:
    where = host({**CONVENTIONAL, **card}, shared(CONVENTIONAL), root=tree.root)
    where.devices[BRIDGE]["pcie_type"] = parent_type
    where.devices[USB]["pcie_type"] = other_type
    for address in links:
        tree.write(f"/sys/bus/pci/devices/{address}/max_link_speed", "8.0 GT/s PCIe\n")
    assert found(where) == (MAYBE if expected else [])


@pytest.mark.parametrize(
    ("card", "version", "error"),
    [
        ({"interrupt": {"pin": "A", "line": 0, "vectors": [], "mode": None}}, [6, 12], "No such device"),
        (
            {"interrupt": {"pin": "B", "line": 1 << 31, "vectors": [40], "mode": "msix"}},
            [5, 14],
            "Transport endpoint is not connected",
        ),
        ({"interrupt": {"line": 0}}, [6, 15], None),
        ({"interrupt": {"line": 0}}, None, None),
        ({"interrupt": {"line": 0}, "enabled": False}, [6, 12], None),
        ({"interrupt": {"line": 0}, "enabled": None}, [6, 12], None),
        ({"interrupt": {"line": 0, "pin": None}}, [6, 12], None),
        ({"interrupt": {"line": None}}, [6, 12], None),
        ({"interrupt": {"line": 16}}, [6, 12], None),
        ({**XL710, "interrupt": {"line": 0}}, [6, 12], None),
    ],
)
def test_a_pin_that_leads_nowhere(card: Facts, version: list[int] | None, error: str | None) -> None:
    where = host({"interrupt": {}, **card}, kvm={"kernel": {"version": version}})
    irq0 = findings(_checks_interrupt.CHECKS, "irq0", where, CARD)
    if error is None:
        assert irq0 == []
    else:
        interrupt = card["interrupt"]
        assert [(finding["severity"], finding["message"]) for finding in irq0] == [
            ("warning", f"{CARD} has interrupt pin {interrupt['pin']}, but the firmware connects it to no interrupt")
        ]
        assert irq0[0]["evidence"] == f"{PLACE}/irq: {interrupt['line']}"
        assert irq0[0]["symptom"] == BUSY.replace("Device or resource busy", error)


@pytest.mark.parametrize("line", [0, 16, 1 << 31])
def test_a_bridge_is_never_meant(line: int) -> None:
    interrupt = {**INTX, "line": line}
    where = host({**CHELSIO, "class": "060401", "interrupt": interrupt}, row("cxgb3", "ehci_hcd:usb1", irq=line))
    assert [finding for finding in found(where) if finding[0] != "broken_intx"] == []
    assert found(where, BRIDGE) == []


def test_what_a_blocker_says() -> None:
    assert findings(_checks_interrupt.CHECKS, "intx_shared_nomask", host(CHELSIO, shared(CHELSIO)), CARD) == [
        {
            "check": "intx_shared_nomask",
            "severity": "blocker",
            "message": f"{CARD} shares interrupt 16 with ehci_hcd:usb1 ({USB}) and cannot mask it",
            "evidence": f"/proc/interrupts: 16: cxgb3, ehci_hcd:usb1; {PLACE}/device: 0x0030",
            "symptom": BUSY,
            "remedy": f"Free interrupt 16 of ehci_hcd:usb1 ({USB}) (unbind it from its driver), or move {CARD} to"
            " another slot",
            "repaired_by": None,
        }
    ]


@pytest.mark.parametrize(
    ("check", "card", "rows", "message", "remedy"),
    [
        (
            "intx_unknown",
            CONVENTIONAL,
            [shared(CONVENTIONAL)],
            f"{CARD} shares interrupt 16 with ehci_hcd:usb1 ({USB}) and, being conventional PCI, may be unable to mask"
            " it",
            f"Start the guest once as a test; if it fails, free interrupt 16 of ehci_hcd:usb1 ({USB}), or move {CARD}"
            " to another slot",
        ),
        (
            "intx_unknown",
            {**CONVENTIONAL, "enabled": False},
            [],
            f"{CARD} is conventional PCI and not enabled: which interrupt it gets, and who shares that, is unknown",
            "Start the guest once as a test; if it fails, free its interrupt of others,"
            f" or move {CARD} to another slot",
        ),
        (
            "broken_intx",
            CHELSIO,
            [row("cxgb3", devices=[CARD])],
            f"{CARD} cannot mask its interrupt and needs 16 for itself; nobody else is on it now",
            f"Keep the interrupt line of {CARD} free of others, by its slot; of a ConnectX-4, update the firmware",
        ),
        (
            "broken_intx",
            {**CHELSIO, "interrupt": MSIX},
            [],
            f"{CARD} cannot mask its interrupt, and who else is on its line is not known",
            f"Keep the interrupt line of {CARD} free of others, by its slot; of a ConnectX-4, update the firmware",
        ),
        (
            "broken_intx",
            {**CONNECTX4, "interrupt": MSIX},
            [],
            f"{CARD} cannot mask its interrupt if its firmware is older than 12.14 (ConnectX-4) or 14.14 (ConnectX-4"
            " Lx); which one it has is not known",
            f"Keep the interrupt line of {CARD} free of others, by its slot; of a ConnectX-4, update the firmware",
        ),
        (
            "nointx",
            XL710,
            [],
            f"{CARD} has a broken interrupt pin, which vfio-pci hides from the guest",
            "Use a driver in the guest that signals by MSI or MSI-X",
        ),
    ],
)
def test_what_the_others_say(check: str, card: Facts, rows: list[Facts], message: str, remedy: str) -> None:
    said = findings(_checks_interrupt.CHECKS, check, host(card, *rows), CARD)
    assert [(finding["message"], finding["remedy"]) for finding in said] == [(message, remedy)]


@pytest.mark.parametrize("readable", [256, 64])
def test_on_a_tree_with_and_without_privilege(tree: PciTree, readable: int) -> None:
    """An ISDN card of conventional PCI on one line with a USB controller, as root and others read it."""

    def add(address: str, config: bytes, **fields: t.Any) -> None:
        tree.add(address, config[:readable], **fields)

    link = {"max_link_speed": "8.0 GT/s PCIe"}
    port = config_space(pci_class="060400", header=1, capabilities=[express(7)], busses=(0, 5, 5))
    add(BRIDGE, port, pci_class="060400", attributes=link)
    add(PORT, port, pci_class="060400", driver="pcieport", attributes=link)
    isdn = config_space("1397:08b4", "020400")
    add(CARD, isdn, pci_id="1397:08b4", pci_class="020400", below=BRIDGE, driver="hfc_multi", irq=16)
    usb = config_space("8086:1c26", "0c0320", capabilities=[express(9)])
    add(USB, usb, pci_id="8086:1c26", pci_class="0c0320", driver="ehci-pci", irq=16, attributes=link)
    tree.write(
        "/proc/interrupts", "           CPU0\n 16:         12   IO-APIC  16-fasteoi   ehci_hcd:usb1, HFC-multi\n"
    )
    root = str(tree.root)
    devices = _pci.read_devices(root, lambda message: None)
    where = machine(root, devices, interrupts=_interrupts.read_interrupts(root, devices))
    assert found(where) == MAYBE
    assert found(where, USB) == []
