# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every interrupt of a machine, from /proc/interrupts and /sys/kernel/irq, and the PCI devices behind each.

A device is behind a message signalled interrupt because the kernel says so, and behind a line only while it is enabled:
until then its attribute irq is what the firmware left there (pci_read_irq() of the kernel's drivers/pci/probe.c), and
pci_enable_device() will put another number in its place.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from . import _sysfs
from ._pci import Device
from ._use import is_vfio

Interrupt = t.Dict[str, t.Any]

# What follows the counts of a numbered row: chip, number at the chip, Level or Edge (where the kernel has
# CONFIG_GENERIC_IRQ_SHOW_LEVEL), -name of the flow handler, and after two blanks the actions. show_interrupts() of
# kernel/irq/proc.c; every part but the chip may be missing, and names of chips have single blanks: "SiFive PLIC".
_TAIL = re.compile(
    r"(?P<chip>\S+(?:\s\S+)*?)"
    r"(?:\s+(?P<hwirq>\d+))?(?:\s+(?P<level>Level|Edge))?(?:\s*-(?P<flow>[\w-]+))?"
    r"(?:\s{2,}(?P<actions>\S.*))?"
)
# Up to Linux 3 the flow handler of x86 follows the chip without a number between: IO-APIC-fasteoi, XT-PIC-XT-PIC.
_CHIP_AND_FLOW = re.compile(r"(?P<chip>.+?)-(?P<flow>edge|level|fasteoi|percpu|virq|ipi|event|XT(?:-PIC)?)")
# A RISC-V APLIC sends lines on as messages; they are lines still, and may be shared.
_MESSAGE = re.compile(r"(?<!APLIC-)MSI")
# Chips of a domain for all devices, whose numbers pci_msi_domain_calc_hwirq() of drivers/pci/msi/irqdomain.c makes.
_MSI_OF_ALL = frozenset(
    ("PCI-MSI", "IR-PCI-MSI", "ITS-MSI", "MSI", "Hyper-V PCIe MSI", "PNV-PCI-MSI", "pSeries-PCI-MSI")
)
# What dev->irq is where the firmware connects the pin to nothing (include/linux/interrupt.h: IRQ_NOTCONNECTED).
_NOT_CONNECTED = 1 << 31
# The actions of a port's services (drivers/pci/pcie, drivers/pci/hotplug/pciehp_hpc.c): one port has several of them.
_PORT_SERVICES = frozenset(("PCIe PME", "PCIe BW notif", "PCIe bwctrl", "aerdrv", "pcie-dpc", "pciehp"))
# What a network driver, but none of ISDN, calls its action: the interface, by the kernel's name or by udev's.
_INTERFACE = re.compile(r"(?:eth|wlan|wwan|ib|em|p|en[opsxX]|wl[opsx]|ww[opsx])\d")


@dataclass
class Row:
    """One row of /proc/interrupts; what it does not say is None."""

    irq: int | str
    """Linux's number, or what stands in its place: NMI, LOC, IPI0, ERR."""

    counts: list[int] = field(default_factory=list)
    """By online CPU, in the order of the header; one for the rows that the machine counts as a whole, ERR and MIS."""

    chip: str | None = None
    hwirq: int | None = None
    trigger: str | None = None
    actions: list[str] | None = None
    """Names of the handlers that are requested; empty where nobody has, None where the row is cut off."""


def parse_interrupts(text: str) -> tuple[list[int] | None, list[Row]]:
    """The numbers of the online CPUs (None where the header is missing or cut off), and the rows in their order."""
    lines = text.split("\n")
    cpus = _parse_header(lines[0])
    # Only the last line can be cut in the middle; every whole text of the kernel ends with a named row.
    whole, last = lines[:-1], lines[-1]
    rows = [_parse_row(line, cpus) for line in whole] + [_parse_row(last, cpus, cut=True)]
    return cpus, [row for row in rows if row is not None]


def split_actions(text: str, listed: t.Sequence[str] = ()) -> list[str]:
    """The names of a row's actions from /sys/kernel/irq/N/actions and, where they are known, from its row in /proc.

    /sys joins them with a comma, /proc with a comma and a blank, and a name may hold either. A blank never follows
    the comma of /sys, and each reading takes a name apart only at its own separator, so that the shorter one is right.
    """
    names = [name for name in re.split(r",(?! )", text) if name not in ("", "(null)")]
    return min(names, list(listed), key=len) if names and listed else names or list(listed)


def decode_hwirq(hwirq: int) -> str:
    """The PCI device that a number of a PCI-MSI domain, shared by all devices, was made for: 524288 is 0000:01:00.0.

    index | (bus << 8 | device << 3 | function) << 11 | domain << 27, as x86 did until Linux 6.2.
    """
    return f"{hwirq >> 27:04x}:{hwirq >> 19 & 0xFF:02x}:{hwirq >> 14 & 0x1F:02x}.{hwirq >> 11 & 7}"


def read_interrupts(root: str, devices: t.Sequence[Device]) -> list[Interrupt]:
    """All interrupts of the machine below root: by number, then the named ones in the kernel's order.

    devices are those of read_devices(). A number that /proc/interrupts leaves out because nobody requested it is only
    listed where /sys/kernel/irq knows a PCI device behind it, or an action after all.
    """
    data = _sysfs.read_file(_sysfs.below(root, "/proc/interrupts")) or b""
    cpus, rows = parse_interrupts(data.decode("utf-8", "replace"))
    folder = _sysfs.below(root, "/sys/kernel/irq")
    known = {int(name) for name in _sysfs.names(folder) if name.isdecimal()}
    wiring = _Wiring(devices)
    for number in known.difference(row.irq for row in rows if isinstance(row.irq, int)):
        text = _sysfs.read_text(f"{folder}/{number}/actions")
        row = Row(number, actions=None if text is None else split_actions(text))
        if row.actions or wiring.leads_from(number):
            rows.append(row)
    for row in rows:
        if row.irq in known:
            _complete(row, f"{folder}/{row.irq}", cpus)
    rows.sort(key=lambda row: row.irq if isinstance(row.irq, int) else float("inf"))
    network = _sysfs.below(root, "/sys/class/net")
    interfaces = frozenset(_sysfs.names(network))
    return [_facts(row, wiring, _owners(network, interfaces.intersection(row.actions or ()))) for row in rows]


def sharers(interrupts: t.Sequence[t.Mapping[str, t.Any]], device: t.Mapping[str, t.Any]) -> list[str] | None:
    """Who else is on the INTx line of a device: actions that are not its own, then addresses of other devices.

    An action that is the device's or that of another device on the line, and no name tells which, is left out: the
    other device is listed. Empty where nobody is on the line. None where that is not known: the device is not enabled,
    signals by messages so that its line is not requested, or has none, or the row of its line is cut off.
    """
    if device["enabled"] is not True or _vectors(device):
        return None
    line = device["interrupt"]["line"]
    row = next((row for row in interrupts if row["irq"] == line), None)
    if row is None or row["shared"] is None or device["address"] not in row["devices"]:
        return None
    others = [address for address in row["devices"] if address != device["address"]]
    own = _own_actions(row["actions"], device, len(row["devices"]), row.get("interfaces") or {})
    return [action for action in dict.fromkeys(row["actions"]) if action not in own] + others


class _Wiring:
    """Where numbers lead to, from the facts of the devices alone."""

    def __init__(self, devices: t.Sequence[Device]) -> None:
        self._vectors: dict[int, list[str]] = {}
        self._lines: dict[int, list[Device]] = {}
        # Addresses whose vectors the kernel does not list: none are in use, or the tree is a partial capture.
        self._without_vectors: set[str] = set()
        for device in devices:
            if not device["interrupt"]["vectors"]:
                self._without_vectors.add(device["address"])
            for vector in _vectors(device):
                self._vectors.setdefault(vector, []).append(device["address"])
            line = _line(device)
            if line is not None:
                self._lines.setdefault(line, []).append(device)

    def leads_from(self, number: int) -> bool:
        """Whether a device that is in use is behind a number."""
        return number in self._vectors or any(device["enabled"] is True for device in self._lines.get(number, ()))

    def is_by_message(self, row: Row) -> bool:
        """Whether an interrupt is message signalled, and so of one device."""
        return row.irq in self._vectors or _MESSAGE.search(row.chip or "") is not None

    def senders(self, row: Row) -> list[str]:
        """The devices behind a message signalled interrupt."""
        devices = set(self._vectors.get(t.cast(int, row.irq), ()))
        # Since Linux 6.2 each device has a domain, which is named after it: IR-PCI-MSIX-0000:01:00.0.
        named = _sysfs.PCI_ADDRESS.search(row.chip or "")
        if named:
            devices.add(named.group())
        elif row.hwirq is not None and row.chip in _MSI_OF_ALL:
            devices.update({decode_hwirq(row.hwirq)} & self._without_vectors)
        return sorted(devices)

    def on_line(self, row: Row, enabled: bool) -> list[str]:
        """The devices that are enabled on a line, or those that are not and may be on any other.

        A bridge is only there with a handler: without services, a port has a line that it never uses.
        """
        return [
            device["address"]
            for device in self._lines.get(t.cast(int, row.irq), ())
            if (device["enabled"] is True) == enabled
            and not (device["bridge"] and not _named_after(device["driver"] or "", row.actions or ()))
        ]


def _parse_header(line: str) -> list[int] | None:
    """CPU0 CPU1 CPU4: the kernel lists the online ones, in ascending order; anything else is cut off."""
    words = line.split()
    if not words or not all(word.startswith("CPU") and word[3:].isdecimal() for word in words):
        return None
    cpus = [int(word[3:]) for word in words]
    return cpus if cpus == sorted(set(cpus)) else None


def _parse_row(line: str, cpus: list[int] | None, cut: bool = False) -> Row | None:
    """One line; None where it is no row. cut tells that the line may end anywhere."""
    label, colon, rest = line.partition(":")
    label = label.strip()
    if not colon or not label or " " in label:
        return None
    counts, tail = _parse_counts(rest, cpus)
    if not label.isdecimal():
        return Row(label, counts, actions=[])
    row = Row(int(label), counts)
    if not tail:
        # Every row names a chip, or says that it has none: without, the last count is not certain to be whole.
        row.counts = counts[:-1]
    elif not cut:
        _parse_tail(row, tail)
    return row


def _parse_counts(rest: str, cpus: list[int] | None) -> tuple[list[int], str]:
    """The counts, one for each CPU of the header if there are as many, and what follows them."""
    number = len(rest) if cpus is None else len(cpus)
    words = rest.split(None, number)
    try:
        counts = list(map(int, words[:number]))
    except ValueError:
        number = next(index for index, word in enumerate(words) if not word.isdecimal())
        words = rest.split(None, number)
        counts = list(map(int, words[:number]))
    return counts, words[number] if len(words) > number else ""


def _parse_tail(row: Row, tail: str) -> None:
    """Fill in chip, hwirq, trigger and actions."""
    match = t.cast("re.Match[str]", _TAIL.fullmatch(tail.rstrip()))
    chip, flow = match["chip"], match["level"] or match["flow"]
    if not flow and not match["hwirq"]:
        older = _CHIP_AND_FLOW.fullmatch(chip)
        if older:
            chip, flow = older["chip"], older["flow"]
    row.chip = None if chip in ("-", "None") else chip
    row.hwirq = int(match["hwirq"]) if match["hwirq"] else None
    row.trigger = _trigger(row.chip, flow)
    row.actions = match["actions"].split(", ") if match["actions"] else []


def _trigger(chip: str | None, flow: str | None) -> str | None:
    """edge or level. At an IO-APIC the handler fasteoi is that of levels (mp_register_handler() of x86)."""
    for trigger in ("edge", "level"):
        if flow and flow.lower().endswith(trigger):
            return trigger
    return "level" if flow == "fasteoi" and chip and chip.endswith("IO-APIC") else None


def _complete(row: Row, place: str, cpus: list[int] | None) -> None:
    """Fill in what /proc does not say from /sys/kernel/irq/N (kernel/irq/irqdesc.c, since Linux 4.9)."""
    if row.actions is None or len(row.actions) > 1:
        text = _sysfs.read_text(f"{place}/actions")
        row.actions = row.actions if text is None else split_actions(text, row.actions or ())
    if row.chip is None:
        row.chip = _sysfs.read_text(f"{place}/chip_name") or None
    if row.hwirq is None:
        row.hwirq = _sysfs.read_int(f"{place}/hwirq")
    if row.trigger is None:
        row.trigger = _sysfs.read_text(f"{place}/type") or None
    if not row.counts or (cpus is not None and len(row.counts) < len(cpus)):
        text = _sysfs.read_text(f"{place}/per_cpu_count") or ""
        possible = [int(count) for count in text.split(",") if count.isdecimal()]
        # One for each possible CPU, of which the header names those online.
        online = [possible[cpu] for cpu in cpus or range(len(possible)) if cpu < len(possible)]
        row.counts = online or row.counts


def _facts(row: Row, wiring: _Wiring, interfaces: dict[str, str]) -> Interrupt:
    by_message = wiring.is_by_message(row)
    devices = wiring.senders(row) if by_message else wiring.on_line(row, enabled=True)
    return {
        "irq": row.irq,
        "counts": row.counts,
        "count": sum(row.counts),
        "chip": row.chip,
        "hwirq": row.hwirq,
        "trigger": row.trigger,
        "actions": row.actions or [],
        "devices": devices,
        "interfaces": {} if by_message else interfaces,
        "unconfirmed": [] if by_message else wiring.on_line(row, enabled=False),
        "shared": False if by_message and len(devices) < 2 else _is_shared(row.actions, devices),
    }


def _owners(network: str, interfaces: t.Iterable[str]) -> dict[str, str]:
    """The PCI device of each of these network interfaces, where it is right above it (/sys/class/net/*/device)."""
    places = {name: _sysfs.link_name(f"{network}/{name}/device") for name in interfaces}
    return {name: place for name, place in sorted(places.items()) if place and _sysfs.PCI_ADDRESS.fullmatch(place)}


def _is_shared(actions: list[str] | None, devices: list[str]) -> bool | None:
    """Whether more than one user is on a line: two devices, or two actions.

    The services of a port count once, unless the same service is there twice, for then there are two ports. Any other
    name that is there twice may be two cards or two channels of one; to the kernel both are users (IRQF_SHARED).
    """
    if len(devices) > 1:
        return True
    if actions is None:
        return None
    services = [action for action in actions if action in _PORT_SERVICES]
    ports = max(map(services.count, services), default=0)
    return len(actions) - len(services) + ports > 1


def _vectors(device: t.Mapping[str, t.Any]) -> list[int]:
    """The numbers of its message signalled interrupts; the kernel shows the first of them in irq (irq_show())."""
    interrupt = device["interrupt"]
    if interrupt["vectors"] or interrupt["mode"] not in ("msi", "msix"):
        return list(interrupt["vectors"])
    return [interrupt["line"]] if interrupt["line"] else []


def _line(device: Device) -> int | None:
    """The number of its INTx line, right or not; None where it has no pin or signals by messages."""
    interrupt = device["interrupt"]
    line = interrupt["line"]
    no_pin = interrupt["pin"] is None and device["header_type"] is not None
    if no_pin or not line or line >= _NOT_CONNECTED or _vectors(device):
        return None
    return line


def _own_actions(
    actions: t.Sequence[str], device: t.Mapping[str, t.Any], devices: int, interfaces: t.Mapping[str, str]
) -> list[str]:
    """Those of a line's actions that are the device's own, or may be; so many devices are on that line."""
    elsewhere = [action for action in actions if action in interfaces or _sysfs.PCI_ADDRESS.search(action)]
    own = [action for action in elsewhere if device["address"] in (interfaces.get(action) or action)]
    driver = device["driver"]
    if own or driver is None or driver in ("pci-stub", "pciback") or is_vfio(driver):
        return own
    # The SCI is no PCI device's, however often it shares a line with one.
    rest = [action for action in actions if action not in elsewhere and action != "acpi"]
    named = _named_after(driver, rest)
    if named or (devices == 1 and len(rest) == 1):
        return named or rest
    # A name with a colon is made by another driver: uhci_hcd:usb3.
    unnamed = [action for action in rest if ":" not in action and action not in _PORT_SERVICES]
    pci_class = device["class"] or ""
    network = pci_class.startswith("02") and not pci_class.startswith("0204")
    likely = [action for action in unnamed if bool(_INTERFACE.match(action)) == network] or unnamed
    return likely if len(likely) <= devices else []


def _named_after(driver: str, actions: t.Sequence[str]) -> list[str]:
    """The actions with the driver's name (snd_hda_intel:card0), or else its first word (ehci-pci: ehci_hcd:usb1)."""
    if driver == "pcieport":
        return [action for action in actions if action in _PORT_SERVICES]
    name = _plain(driver)
    stems = {action: _plain(re.split(r"[:@\[]", action)[0]) for action in actions}
    whole = [action for action, stem in stems.items() if stem == name]
    word = name.split("_")[0]
    return whole or [action for action, stem in stems.items() if stem.split("_")[0].rstrip("0123456789") == word]


def _plain(name: str) -> str:
    return re.sub(r"[- ]", "_", name.strip().lower())
