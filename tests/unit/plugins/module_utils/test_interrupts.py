# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _interrupts, _pci
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space, express

NIC, USB, PORT = "0000:05:00.0", "0000:00:1a.0", "0000:00:1c.0"

# A few rows in the layout of each kind of kernel: text, and irq, counts, chip, hwirq, trigger, actions of each row.
LAYOUTS: dict[str, tuple[str, list[tuple[t.Any, ...]]]] = {
    "Linux 2.6.9, x86": (
        "           CPU0       \n"
        "  0:   50016429    IO-APIC-edge  timer\n"
        " 10:          0    IO-APIC-edge  MPU401 UART\n"
        " 16:    1087373   IO-APIC-level  uhci_hcd:usb3, libata, libata\n"
        "114:    1067499       PCI-MSI-X  cciss0\n"
        "NMI:          0 \n"
        "ERR:          0\n",
        [
            (0, [50016429], "IO-APIC", None, "edge", ["timer"]),
            (10, [0], "IO-APIC", None, "edge", ["MPU401 UART"]),
            (16, [1087373], "IO-APIC", None, "level", ["uhci_hcd:usb3", "libata", "libata"]),
            (114, [1067499], "PCI-MSI-X", None, None, ["cciss0"]),
            ("NMI", [0], None, None, None, []),
            ("ERR", [0], None, None, None, []),
        ],
    ),
    "Linux 2.6.24 to 3, x86": (
        "           CPU0       CPU1       \n"
        "  2:          0          0    XT-PIC-XT-PIC    cascade\n"
        "  4:          2          3   IO-APIC-edge    \n"
        " 14:         11          0   IO-APIC-edge      ata_piix, ata_piix\n"
        " 22:      38178        313   IO-APIC-fasteoi   HDA Intel, 3w-9xxx\n"
        "2296:       250         14   PCI-MSI-edge      eth0\n"
        "2297:         1          0   DMAR_MSI-edge      dmar0\n"
        "LOC:      80944     347183   Local timer interrupts\n"
        "MIS:          7\n",
        [
            (2, [0, 0], "XT-PIC", None, None, ["cascade"]),
            (4, [2, 3], "IO-APIC", None, "edge", []),
            (14, [11, 0], "IO-APIC", None, "edge", ["ata_piix", "ata_piix"]),
            (22, [38178, 313], "IO-APIC", None, "level", ["HDA Intel", "3w-9xxx"]),
            (2296, [250, 14], "PCI-MSI", None, "edge", ["eth0"]),
            (2297, [1, 0], "DMAR_MSI", None, "edge", ["dmar0"]),
            ("LOC", [80944, 347183], None, None, None, []),
            ("MIS", [7], None, None, None, []),
        ],
    ),
    "Linux 4 to 6.1, x86": (
        "            CPU0       CPU1       \n"
        "   0:         43          0  IR-IO-APIC    2-edge      timer\n"
        "  16:          5          0   IO-APIC  16-fasteoi   ehci_hcd:usb1, snd_hda_intel:card0\n"
        "  24:         15          0   PCI-MSI 16384-edge      PCIe PME, pciehp, PCIe bwctrl\n"
        "  25:          0          0  PCI-MSI 5242880-edge      nvme 0 io5\n"
        "  26:          0          0  Hyper-V PCIe MSI 1073741824-edge      nvme0q0\n"
        "  27:       4294967295          3  IR-PCI-MSI 512000-edge      ahci[0000:00:1f.2]\n"
        "  28:          0          1     None\n"
        "  29:         12          0  amd_gpio   90  ITE8227:00\n",
        [
            (0, [43, 0], "IR-IO-APIC", 2, "edge", ["timer"]),
            (16, [5, 0], "IO-APIC", 16, "level", ["ehci_hcd:usb1", "snd_hda_intel:card0"]),
            (24, [15, 0], "PCI-MSI", 16384, "edge", ["PCIe PME", "pciehp", "PCIe bwctrl"]),
            (25, [0, 0], "PCI-MSI", 5242880, "edge", ["nvme 0 io5"]),
            (26, [0, 0], "Hyper-V PCIe MSI", 1073741824, "edge", ["nvme0q0"]),
            (27, [4294967295, 3], "IR-PCI-MSI", 512000, "edge", ["ahci[0000:00:1f.2]"]),
            (28, [0, 1], None, None, None, []),
            (29, [12, 0], "amd_gpio", 90, None, ["ITE8227:00"]),
        ],
    ),
    "since Linux 6.2, x86, CPUs 0 to 3 and 8 to 9 online": (
        "            CPU0       CPU1       CPU2       CPU3       CPU8       CPU9       \n"
        " 126:          1          2          3          4          5          6 IR-PCI-MSIX-0000:01:00.0    3-edge"
        "      eth0-TxRx-2\n"
        " IWI:          0          0          0          0          0          9   IRQ work interrupts\n"
        " ERR:          0\n"
        " PIW:          0          0          0          0          0          0   Posted-interrupt wakeup event\n",
        [
            (126, [1, 2, 3, 4, 5, 6], "IR-PCI-MSIX-0000:01:00.0", 3, "edge", ["eth0-TxRx-2"]),
            ("IWI", [0, 0, 0, 0, 0, 9], None, None, None, []),
            ("ERR", [0], None, None, None, []),
            ("PIW", [0, 0, 0, 0, 0, 0], None, None, None, []),
        ],
    ),
    "Xen": (
        "           CPU0       CPU1       \n"
        " 23:         23          0  xen-pirq-ioapic-level  uhci_hcd:usb1\n"
        " 24:         23          0  xen-pirq    -ioapic-level  ehci_hcd:usb2\n"
        " 64: 2844203322          0  xen-percpu-virq      timer0\n"
        " 65:         41          0   xen-dyn     Edge    -virq      hvc_console\n"
        " 66:         41          0   xen-dyn    -event     eth0\n",
        [
            (23, [23, 0], "xen-pirq-ioapic", None, "level", ["uhci_hcd:usb1"]),
            (24, [23, 0], "xen-pirq", None, "level", ["ehci_hcd:usb2"]),
            (64, [2844203322, 0], "xen-percpu", None, None, ["timer0"]),
            (65, [41, 0], "xen-dyn", None, "edge", ["hvc_console"]),
            (66, [41, 0], "xen-dyn", None, None, ["eth0"]),
        ],
    ),
    "arm and arm64": (
        "           CPU0       CPU1       \n"
        " 10: 3287008667 3310445093     GICv3  27 Level     arch_timer\n"
        " 11:          7          0       GIC  uart-pl011\n"
        " 44:          1          0   ITS-MSI 16384 Edge      aerdrv, PCIe PME, pciehp\n"
        " 45:          0          0  ITS-PCI-MSI-0000:01:00.0   5 Edge      ce2\n"
        " 46:          0          0  GICv2m-PCI-MSIX-0000:00:05.0   0 Edge      nic\n"
        " 83:          0          0  rockchip_gpio_irq   7 Edge      fe320000.mmc cd\n"
        "FIQ:              usb_fiq\n"
        "IPI0:2768808080 2844211768       Rescheduling interrupts\n"
        "Err:          0\n",
        [
            (10, [3287008667, 3310445093], "GICv3", 27, "level", ["arch_timer"]),
            (11, [7, 0], "GIC", None, None, ["uart-pl011"]),
            (44, [1, 0], "ITS-MSI", 16384, "edge", ["aerdrv", "PCIe PME", "pciehp"]),
            (45, [0, 0], "ITS-PCI-MSI-0000:01:00.0", 5, "edge", ["ce2"]),
            (46, [0, 0], "GICv2m-PCI-MSIX-0000:00:05.0", 0, "edge", ["nic"]),
            (83, [0, 0], "rockchip_gpio_irq", 7, "edge", ["fe320000.mmc cd"]),
            ("FIQ", [], None, None, None, []),
            ("IPI0", [2768808080, 2844211768], None, None, None, []),
            ("Err", [0], None, None, None, []),
        ],
    ),
    "riscv": (
        "           CPU0       CPU1       \n"
        "  2:        379          0  SiFive PLIC  10  ttyS0\n"
        "  3:          0          0  SiFive PLIC 110\n"
        "  5:       5079      10821  RISC-V INTC   5 Edge      riscv-timer\n"
        "  6:          1          0  APLIC-MSI-d000000.interrupt-controller  33 Level     virtio0\n"
        "IPI1:         9        269  Function call interrupts\n",
        [
            (2, [379, 0], "SiFive PLIC", 10, None, ["ttyS0"]),
            (3, [0, 0], "SiFive PLIC", 110, None, []),
            (5, [5079, 10821], "RISC-V INTC", 5, "edge", ["riscv-timer"]),
            (6, [1, 0], "APLIC-MSI-d000000.interrupt-controller", 33, "level", ["virtio0"]),
            ("IPI1", [9, 269], None, None, None, []),
        ],
    ),
    "ppc": (
        "           CPU0       CPU8       \n"
        " 16:       2198          0  XIVE-IPI   0 Edge      IPI-0\n"
        " 18:          0       6401  XIVE-IRQ 4609 Level     virtio3, virtio0, virtio2\n"
        " 19:          1          0   XICS      Level     hvc_console\n"
        "LOC:      10508         10   Local timer interrupts for timer event device\n",
        [
            (16, [2198, 0], "XIVE-IPI", 0, "edge", ["IPI-0"]),
            (18, [0, 6401], "XIVE-IRQ", 4609, "level", ["virtio3", "virtio0", "virtio2"]),
            (19, [1, 0], "XICS", None, "level", ["hvc_console"]),
            ("LOC", [10508, 10], None, None, None, []),
        ],
    ),
    "s390": (
        "           CPU0       CPU1       \n"
        "EXT:   70237223   62544108 \n"
        "I/O:    1831143    2098595 \n"
        "CLK:   51867246   37950149   [EXT] Clock Comparator\n"
        "  3:       9392          0   PCI-MSI  mlx5_async@pci:0001:00:00.0\n",
        [
            ("EXT", [70237223, 62544108], None, None, None, []),
            ("I/O", [1831143, 2098595], None, None, None, []),
            ("CLK", [51867246, 37950149], None, None, None, []),
            (3, [9392, 0], "PCI-MSI", None, None, ["mlx5_async@pci:0001:00:00.0"]),
        ],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_layouts(layout: str, line_end: str) -> None:
    text, expected = LAYOUTS[layout]
    _cpus, rows = _interrupts.parse_interrupts(text.replace("\n", line_end))
    assert [(row.irq, row.counts, row.chip, row.hwirq, row.trigger, row.actions) for row in rows] == expected


@pytest.mark.parametrize(
    ("header", "cpus"),
    [
        ("           CPU0       ", [0]),
        ("           CPU0       CPU1       CPU4       CPU128     ", [0, 1, 4, 128]),
        ("           CPU8       CPU9       CPU10      CPU1", None),
        ("           CPU0       CPU1       CP", None),
        (" 16:          0          0   IO-APIC  16-fasteoi   eth0", None),
        ("", None),
    ],
)
def test_header(header: str, cpus: list[int] | None) -> None:
    assert _interrupts.parse_interrupts(header + "\n")[0] == cpus


WHOLE = " 16:         11         22   IO-APIC  16-fasteoi   ehci_hcd:usb1, eth0"


@pytest.mark.parametrize(
    ("text", "counts", "actions"),
    [
        # Nothing tells whether a last line without its end is whole, and a row without a chip is not.
        ("  CPU0  CPU1\n" + WHOLE + "\n", [11, 22], ["ehci_hcd:usb1", "eth0"]),
        ("  CPU0  CPU1\n" + WHOLE, [11, 22], None),
        ("  CPU0  CPU1\n" + WHOLE[:50], [11, 22], None),
        ("  CPU0  CPU1\n" + WHOLE[:25], [11], None),
        ("  CPU0  CPU1\n" + WHOLE[:25] + "\n", [11], None),
        ("  CPU0  CPU1\n 16:\n", [], None),
        # A cut-off header tells no number, but then the rows do.
        ("  CPU0  CP\n" + WHOLE + "\n", [11, 22], ["ehci_hcd:usb1", "eth0"]),
        (WHOLE + "\n", [11, 22], ["ehci_hcd:usb1", "eth0"]),
        # A CPU went while the text was made.
        ("  CPU0  CPU1 CPU2\n" + WHOLE + "\n", [11, 22], ["ehci_hcd:usb1", "eth0"]),
    ],
)
def test_cut_off(text: str, counts: list[int], actions: list[str] | None) -> None:
    (row,) = _interrupts.parse_interrupts(text)[1]
    assert (row.irq, row.counts, row.actions) == (16, counts, actions)


@pytest.mark.parametrize("text", ["", "\n", "  CPU0\n", "  CPU0\n\n   \n", "  CPU0\nno row\n a b: 1\n: 1\n"])
def test_no_rows(text: str) -> None:
    assert _interrupts.parse_interrupts(text)[1] == []


@pytest.mark.parametrize(
    ("text", "listed", "names"),
    [
        ("PCIe PME,pciehp", ["PCIe PME", "pciehp"], ["PCIe PME", "pciehp"]),
        ("PCIe PME,pciehp", [], ["PCIe PME", "pciehp"]),
        ("", [], []),
        ("", ["eth0"], ["eth0"]),
        ("(null)", [], []),
        # A name with a comma is whole in /proc, one with a comma and a blank in /sys.
        ("arm,pl011,eth0", ["arm,pl011", "eth0"], ["arm,pl011", "eth0"]),
        ("reader, slot 1,eth0", ["reader", "slot 1", "eth0"], ["reader, slot 1", "eth0"]),
    ],
)
def test_split_actions(text: str, listed: list[str], names: list[str]) -> None:
    assert _interrupts.split_actions(text, listed) == names


@pytest.mark.parametrize(
    ("hwirq", "address"),
    [
        (524288, "0000:01:00.0"),
        (524291, "0000:01:00.0"),
        (442368, "0000:00:1b.0"),
        (2621440, "0000:05:00.0"),
        (512000, "0000:00:1f.2"),
        (134742016, "0001:01:00.0"),
        (0x10000 << 27 | 0xFF << 19 | 0x1F << 14 | 7 << 11 | 2047, "10000:ff:1f.7"),
    ],
)
def test_decode_hwirq(hwirq: int, address: str) -> None:
    assert _interrupts.decode_hwirq(hwirq) == address


# -- a whole machine ---------------------------------------------------------------------------------------------------


class Machine:
    """A tree with devices and rows; the text of /proc/interrupts has one CPU."""

    def __init__(self, root: Path) -> None:
        self.tree = PciTree(root)
        self.rows: list[str] = []

    def add(self, address: str, driver: str | None = None, irq: int = 0, **others: t.Any) -> None:
        self.tree.add(address, others.pop("config", config_space()), driver=driver, irq=irq, **others)

    def port(self, address: str, irq: int, driver: str | None = "pcieport") -> None:
        config = config_space("8086:3420", "060400", header=1, capabilities=[express(4)])
        self.add(address, driver, irq, config=config, pci_id="8086:3420", pci_class="060400")

    def row(self, irq: int, actions: str = "", chip: str = "IO-APIC", hwirq: int | None = None) -> None:
        hwirq = irq if hwirq is None else hwirq
        self.rows.append(f"{irq:4}:{7:11}  {chip:>8} {hwirq:4}-fasteoi   {actions}\n")

    def sys(self, irq: int, **attributes: str) -> None:
        defaults = {"actions": "", "chip_name": "IO-APIC", "hwirq": str(irq), "type": "level", "per_cpu_count": "7,9"}
        for name, text in {**defaults, **attributes}.items():
            self.tree.write(f"/sys/kernel/irq/{irq}/{name}", text + "\n" if text else "")

    def devices(self) -> dict[str, dict[str, t.Any]]:
        found = _pci.read_devices(str(self.tree.root), lambda _warning: None)
        return {device["address"]: device for device in found}

    def read(self) -> dict[t.Any, dict[str, t.Any]]:
        if self.rows:
            self.tree.write("/proc/interrupts", "            CPU0\n" + "".join(self.rows) + " ERR:          0\n")
        facts = _interrupts.read_interrupts(str(self.tree.root), list(self.devices().values()))
        return {row["irq"]: row for row in facts}

    def sharers(self, address: str) -> list[str] | None:
        return _interrupts.sharers(list(self.read().values()), self.devices()[address])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_facts(machine: Machine) -> None:
    machine.add(NIC, "e1000", 16)
    machine.add(USB, "ehci-pci", 16)
    machine.add("0000:05:02.0", None, 16)
    machine.row(16, "ehci_hcd:usb1, eth0")
    facts = machine.read()
    assert list(facts) == [16, "ERR"]
    assert facts[16] == {
        "irq": 16,
        "counts": [7],
        "count": 7,
        "chip": "IO-APIC",
        "hwirq": 16,
        "trigger": "level",
        "actions": ["ehci_hcd:usb1", "eth0"],
        "devices": [USB, NIC],
        "interfaces": {},
        "unconfirmed": ["0000:05:02.0"],
        "shared": True,
    }
    assert facts["ERR"] == {
        "irq": "ERR",
        "counts": [0],
        "count": 0,
        "chip": None,
        "hwirq": None,
        "trigger": None,
        "actions": [],
        "devices": [],
        "interfaces": {},
        "unconfirmed": [],
        "shared": False,
    }


def test_order(machine: Machine) -> None:
    machine.rows += [" 120:  1  PCI-MSI 1-edge  a\n", "   9:  1  IO-APIC 9-edge  b\n", " NMI:  0\n", " LOC:  0\n"]
    machine.sys(40, actions="c")
    assert list(machine.read()) == [9, 40, 120, "NMI", "LOC", "ERR"]


def test_nothing_to_read(tmp_path: Path) -> None:
    assert _interrupts.read_interrupts(str(tmp_path), []) == []


def test_without_proc(machine: Machine) -> None:
    """The counts are those of the possible CPUs: the header would tell which are online."""
    machine.sys(16, actions="eth0,acpi")
    machine.sys(17)
    (row,) = machine.read().values()
    assert (row["irq"], row["counts"], row["count"], row["actions"]) == (16, [7, 9], 16, ["eth0", "acpi"])
    assert (row["chip"], row["hwirq"], row["trigger"], row["shared"]) == ("IO-APIC", 16, "level", True)


def test_online_cpus_of_the_possible(machine: Machine) -> None:
    text = "   CPU1  CPU3\n  16:  1  2  GIC  eth0\n  17:  1\n ERR:  0\n"
    machine.tree.write("/proc/interrupts", text)
    for irq in (16, 17, 18):
        machine.sys(irq, actions="eth0", per_cpu_count="0,11,0,33")
    facts = machine.read()
    assert [facts[irq]["counts"] for irq in (16, 17, 18)] == [[1, 2], [11, 33], [11, 33]]


def test_completed_from_sys(machine: Machine) -> None:
    """What /proc says is kept; what it lacks is filled in."""
    machine.rows.append("  16:         5    GIC  reader, slot 1, eth0\n  17:        5    GIC  eth1\n")
    machine.sys(16, actions="reader, slot 1,eth0", chip_name="other", hwirq="48", type="level")
    machine.sys(17, hwirq="", type="")
    facts = machine.read()
    assert facts[16]["actions"] == ["reader, slot 1", "eth0"]
    assert (facts[16]["counts"], facts[16]["chip"]) == ([5], "GIC")
    assert (facts[16]["hwirq"], facts[16]["trigger"]) == (48, "level")
    assert (facts[17]["hwirq"], facts[17]["trigger"], facts[17]["actions"]) == (None, None, ["eth1"])


def test_cut_off_row_is_completed_or_unknown(machine: Machine) -> None:
    text = "   CPU0\n  16:    1   IO-APIC  16-fasteoi   eth0, uhci"
    machine.tree.write("/proc/interrupts", text)
    assert machine.read()[16]["shared"] is None
    assert machine.read()[16]["actions"] == []
    machine.sys(16, actions="eth0,uhci_hcd:usb3")
    assert machine.read()[16]["actions"] == ["eth0", "uhci_hcd:usb3"]
    assert machine.read()[16]["shared"] is True


def test_hidden_rows(machine: Machine) -> None:
    """Newer kernels leave out what nobody requested; a PCI device behind it makes it worth telling."""
    machine.add(NIC, "foo", 16)
    machine.add(USB, "foo", 30, vectors={30: "msi"})
    machine.add("0000:05:02.0", None, 17)
    machine.row(9, "acpi")
    for irq in (16, 17, 18):
        machine.sys(irq)
    machine.sys(19, actions="IPI")
    machine.sys(20, actions="(null)")
    machine.sys(30, chip_name=f"PCI-MSI-{USB}", hwirq="0", type="edge")
    facts = machine.read()
    assert list(facts) == [9, 16, 19, 30, "ERR"]
    assert (facts[16]["devices"], facts[16]["actions"], facts[16]["shared"]) == ([NIC], [], False)
    assert (facts[30]["devices"], facts[30]["chip"]) == ([USB], f"PCI-MSI-{USB}")


# -- devices behind a row ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "row", "devices", "unconfirmed"),
    [
        # By the vectors that the kernel lists, whatever the chip.
        ({"irq": 30, "vectors": {30: "msi"}}, {"chip": "PCI-MSI", "hwirq": 1}, [NIC], []),
        ({"irq": 30, "vectors": {30: "msi"}}, {"chip": "XIVE-IRQ", "hwirq": 4609}, [NIC], []),
        ({"irq": 30, "vectors": {29: "msi"}}, {"chip": "PCI-MSI", "hwirq": 1}, [], []),
        # By the chip's name, also where the tree lacks the device.
        ({}, {"chip": f"IR-PCI-MSIX-{NIC}"}, [NIC], []),
        ({}, {"chip": "IR-PCI-MSIX-10000:e1:00.0"}, ["10000:e1:00.0"], []),
        # By the number at the chip, where the tree lacks the vectors of the device.
        ({}, {"chip": "PCI-MSI", "hwirq": 2621440}, [NIC], []),
        ({}, {"chip": "ITS-MSI", "hwirq": 2621443}, [NIC], []),
        ({}, {"chip": "IR-PCI-MSI", "hwirq": 524288}, [], []),
        ({}, {"chip": "HPET-MSI", "hwirq": 2621440}, [], []),
        ({}, {"chip": "GICv3", "hwirq": 2621440}, [], []),
        ({"vectors": {99: "msi"}}, {"chip": "PCI-MSI", "hwirq": 2621440}, [], []),
        # By the line, while it is enabled and has one; a guest may have masked it for the moment.
        ({"driver": "e1000", "irq": 30}, {}, [NIC], []),
        ({"driver": "e1000", "irq": 30, "config": config_space(command=0x0406)}, {}, [NIC], []),
        ({"driver": "e1000", "irq": 30, "config": None}, {}, [NIC], []),
        ({"driver": "e1000", "irq": 30}, {"chip": "APLIC-MSI-d000000.aplic"}, [NIC], []),
        ({"driver": "e1000", "irq": 30, "config": config_space(pin=0)}, {}, [], []),
        ({"driver": "e1000", "irq": 31}, {}, [], []),
        ({"driver": "e1000", "irq": 16, "vectors": {16: "msi"}}, {}, [], []),
        ({"irq": 30, "attributes": {"enable": "1"}}, {}, [NIC], []),
        # The number of a device that was never enabled is the firmware's: it is never said to be behind it.
        ({"irq": 30}, {}, [], [NIC]),
        ({"driver": "vfio-pci", "irq": 30, "attributes": {"enable": "0"}}, {}, [], [NIC]),
        ({"driver": "e1000", "irq": 30, "attributes": {"enable": None}}, {}, [], [NIC]),
        ({"irq": 30, "config": config_space(pin=0)}, {}, [], []),
        ({"irq": 30}, {"chip": "PCI-MSI-0000:01:00.0"}, ["0000:01:00.0"], []),
        ({"irq": 1 << 31}, {}, [], []),
    ],
)
def test_devices(
    machine: Machine, device: dict[str, t.Any], row: dict[str, t.Any], devices: list[str], unconfirmed: list[str]
) -> None:
    machine.add(NIC, **device)
    machine.row(30, "handler", **row)
    facts = machine.read()[30]
    assert (facts["devices"], facts["unconfirmed"]) == (devices, unconfirmed)
    assert facts["shared"] is False


def test_messages_without_a_list_of_vectors(machine: Machine) -> None:
    """The kernel shows the first vector in irq, and the capability says that it is one."""
    config = config_space(capabilities=[(0x05, b"\x01" + bytes(11))])
    machine.add(NIC, "e1000e", 30, config=config)
    machine.row(30, "eth0", chip="PCI-MSI", hwirq=1)
    assert machine.read()[30]["devices"] == [NIC]


@pytest.mark.parametrize(
    ("driver", "actions", "devices"),
    [
        ("pcieport", "eth0", [NIC]),
        ("pcieport", "PCIe PME, aerdrv, eth0", [PORT, NIC]),
        ("shpchp", "shpchp, eth0", [PORT, NIC]),
        (None, "PCIe PME, eth0", [NIC]),
    ],
)
def test_bridge_is_there_with_a_handler(machine: Machine, driver: str | None, actions: str, devices: list[str]) -> None:
    machine.port(PORT, 16, driver)
    machine.add(NIC, "e1000", 16)
    machine.row(16, actions)
    assert machine.read()[16]["devices"] == devices


# -- shared ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "chip", "shared"),
    [
        ("", "IO-APIC", False),
        ("eth0", "IO-APIC", False),
        ("eth0, uhci_hcd:usb3", "IO-APIC", True),
        ("ata_piix, ata_piix", "IO-APIC", True),
        ("PCIe PME, pciehp, PCIe bwctrl", "IO-APIC", False),
        ("PCIe PME, aerdrv, PCIe PME, aerdrv", "IO-APIC", True),
        ("PCIe PME, aerdrv, eth0", "IO-APIC", True),
        ("PCIe PME, pciehp, PCIe bwctrl", f"PCI-MSI-{PORT}", False),
        ("PCIe PME, aerdrv", "PCI-MSI", False),
        ("rx, tx", f"PCI-MSIX-{NIC}", False),
    ],
)
def test_shared_by_actions(machine: Machine, actions: str, chip: str, shared: bool) -> None:
    machine.row(16, actions, chip=chip)
    assert machine.read()[16]["shared"] is shared


@pytest.mark.parametrize(("enabled", "shared"), [("1", True), ("0", False), (None, False)])
def test_shared_by_devices(machine: Machine, enabled: str | None, shared: bool) -> None:
    """Also where only one of them has requested the line, but never for a number that nobody confirmed."""
    machine.add(NIC, "e1000", 16)
    machine.add(USB, None, 16, attributes={"enable": enabled})
    machine.row(16, "eth0")
    assert machine.read()[16]["shared"] is shared


# -- who else is on the line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "others", "actions", "expected"),
    [
        # One device, one action: it is its own, whatever its name.
        ("e1000", {}, "eth0", []),
        ("e1000", {}, "enp5s0", []),
        ("HFC-multi", {}, "hfc-4s", []),
        ("hfcpci", {}, "hfc-pci", []),
        ("snd_hda_intel", {}, "snd_hda_intel:card0", []),
        ("uhci_hcd", {}, "uhci_hcd:usb3", []),
        ("e1000", {}, "", []),
        # The interface is down, and the SCI has the line alone.
        ("e1000", {}, "acpi", ["acpi"]),
        ("e1000", {}, "acpi, eth0", ["acpi"]),
        # Names that tell.
        ("e1000", {}, "eth0, parport0", ["parport0"]),
        ("ata_piix", {}, "ata_piix, ata_piix", []),
        ("ata_piix", {}, "ata_piix, acpi, ata_piix", ["acpi"]),
        ("ehci-pci", {}, "ehci_hcd:usb1, i801_smbus", ["i801_smbus"]),
        ("virtio-pci", {}, "virtio0, acpi", ["acpi"]),
        ("snd_hda_intel", {}, "snd_ens1371, snd_hda_intel:card0", ["snd_ens1371"]),
        ("i801_smbus", {}, "idma64.0, i2c_designware.0, i801_smbus", ["idma64.0", "i2c_designware.0"]),
        ("ahci", {}, f"ahci[{NIC}], eth0", ["eth0"]),
        ("ahci", {}, "ahci[0000:00:1f.2], eth0", ["ahci[0000:00:1f.2]"]),
        # As many devices as actions: all but its own are others'.
        ("e1000", {USB: "ehci-pci"}, "ehci_hcd:usb1, eth0", ["ehci_hcd:usb1", USB]),
        ("HFC-multi", {USB: "e1000"}, "eth0, HFC-multi", ["eth0", USB]),
        ("hfcmulti", {USB: "e1000"}, "eth0, HFC-4S", ["eth0", USB]),
        # Two of one driver: which one is whose nobody can tell, and the other device is listed.
        ("uhci_hcd", {USB: "uhci_hcd"}, "uhci_hcd:usb3, uhci_hcd:usb4", [USB]),
        ("foo", {USB: "bar"}, "one, two", [USB]),
        # More actions than devices, and none that tells.
        ("foo", {}, "one, two", ["one", "two"]),
        # Another device that never requested it is on the line all the same.
        ("e1000", {USB: "foo"}, "eth0", [USB]),
        # Without a driver, or with one that requests nothing itself, every action is somebody else's.
        (None, {}, "eth0", ["eth0"]),
        (None, {}, "", []),
        ("vfio-pci", {}, "ehci_hcd:usb1", ["ehci_hcd:usb1"]),
        ("vfio-pci", {}, f"vfio-intx({NIC})", []),
        ("vfio-pci", {}, f"vfio-intx({NIC}), eth0", ["eth0"]),
        ("vfio-pci", {USB: "vfio-pci"}, f"vfio-intx({USB})", [f"vfio-intx({USB})", USB]),
        ("pci-stub", {}, "eth0", ["eth0"]),
    ],
)
def test_sharers(
    machine: Machine, driver: str | None, others: dict[str, str], actions: str, expected: list[str]
) -> None:
    pci_class = "020400" if (driver or "").lower().startswith("hfc") else "020000"
    machine.add(NIC, driver, 16, pci_class=pci_class, attributes={"enable": "1"})
    for address, other in others.items():
        machine.add(address, other, 16)
    machine.row(15, "ide1")
    machine.row(16, actions)
    assert machine.sharers(NIC) == expected


@pytest.mark.parametrize(
    ("owner", "expected"),
    [(NIC, [USB]), (USB, ["enp0s12", USB]), (None, [USB]), ("virtio0", [USB])],
    ids=["its own", "the other's", "no interface has that name", "not right below a PCI device"],
)
def test_an_action_called_after_an_interface(machine: Machine, owner: str | None, expected: list[str]) -> None:
    """Two cards on a line, of which only one has requested it."""
    machine.add(NIC, "e1000", 16)
    machine.add(USB, "8139cp", 16)
    if owner:
        link = machine.tree.root / "sys/class/net/enp0s12/device"
        link.parent.mkdir(parents=True)
        link.symlink_to(f"../../../devices/pci0000:00/{owner}")
    machine.row(16, "enp0s12")
    assert machine.read()[16]["interfaces"] == ({"enp0s12": owner} if owner in (NIC, USB) else {})
    assert machine.sharers(NIC) == expected


def test_sharers_of_a_port(machine: Machine) -> None:
    machine.port(PORT, 16)
    machine.row(16, "PCIe PME, aerdrv, eth0")
    assert machine.sharers(PORT) == ["eth0"]


@pytest.mark.parametrize(
    "device",
    [
        {"irq": 16},
        {"irq": 16, "driver": "vfio-pci", "attributes": {"enable": "0"}},
        {"irq": 16, "driver": "e1000", "attributes": {"enable": None}},
        {"irq": 30, "driver": "e1000e", "vectors": {30: "msi"}},
        {"irq": 16, "driver": "e1000", "config": config_space(pin=0)},
        {"irq": 99, "driver": "e1000"},
        {"irq": 30, "driver": "e1000"},
    ],
)
def test_unknown_sharers(machine: Machine, device: dict[str, t.Any]) -> None:
    """Not enabled, signals by messages, has no pin, or a number that leads nowhere or to another's message."""
    machine.add(NIC, **device)
    machine.row(16, "eth0, uhci_hcd:usb3")
    machine.row(30, "eth1", chip="PCI-MSI-0000:01:00.0")
    assert machine.sharers(NIC) is None


def test_sharers_on_a_cut_off_row(machine: Machine) -> None:
    machine.add(NIC, "e1000", 16)
    machine.tree.write("/proc/interrupts", "   CPU0\n  16:    1   IO-APIC  16-fasteoi   eth0")
    assert machine.sharers(NIC) is None


# -- size --------------------------------------------------------------------------------------------------------------


def cpu_seconds(function: t.Callable[[], t.Any]) -> float:
    """The best of three, so that a busy machine does not fail the test."""

    def once() -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    return min(once() for _round in range(3))


def big(rows: int, cpus: int) -> str:
    header = "     " + "".join(f"CPU{cpu:<8}" for cpu in range(cpus))
    counts = "".join(f"{1000 * cpu:10} " for cpu in range(cpus))
    lines = [f" {row:4}: {counts} IR-PCI-MSIX-0000:01:00.0  {row:3}-edge      eth0-TxRx-{row}" for row in range(rows)]
    return "\n".join([header, *lines, " ERR:          0", ""])


def test_budget() -> None:
    """200 rows of 64 CPUs take well under 10 ms, and ten times the rows about ten times as long."""
    small, large = big(200, 64), big(2000, 64)
    first = cpu_seconds(lambda: _interrupts.parse_interrupts(small))
    assert first < 0.010
    assert cpu_seconds(lambda: _interrupts.parse_interrupts(large)) < 30 * first


def test_many_devices_and_rows(machine: Machine) -> None:
    machine.add(NIC, "e1000", 16)
    (device,) = machine.devices().values()
    # All of them with the same stale number, and a message for each.
    rows = [_interrupts.Row(irq, [1], "PCI-MSI", irq, "edge", ["eth0"]) for irq in range(10000)]
    devices = [{**device, "address": f"0000:{bus:02x}:00.0", "enabled": False} for bus in range(256)] * 16
    wiring = _interrupts._Wiring(devices)
    assert cpu_seconds(lambda: [_interrupts._facts(row, wiring, {}) for row in rows]) < 0.5
