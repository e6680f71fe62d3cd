# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Machines with any number of PCI devices, written as root folders that lspci reads as well."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kvm.passthrough.tests.unit.pci_tree import (
    MEMORY,
    PCI_IDS,
    PciTree,
    config_space,
    express,
    msix,
)

# Network, display, storage, ISDN: id, class, driver.
_CARDS = (
    ("8086:10d3", "020000", "e1000e"),
    ("10de:1eb8", "030200", "nouveau"),
    ("144d:a808", "010802", "nvme"),
    ("1397:08b4", "020400", "hfcmulti"),
)
_LINES = (16, 17, 18, 19)


def write(root: Path, count: int) -> Path:
    """Every eighth device is conventional PCI on one of four shared lines, every fourth has no driver."""
    tree = PciTree(root)
    tree.write("/usr/share/misc/pci.ids", PCI_IDS)
    users: dict[int, list[str]] = {line: [] for line in _LINES}
    rows = []
    for number in range(count):
        domain, rest = divmod(number, 256 * 32)
        address = f"{domain:04x}:{rest // 32:02x}:{rest % 32:02x}.0"
        pci_id, pci_class, driver = _CARDS[number % 4]
        conventional, bound = number % 8 == 7, number % 4 != 2
        line, vector = _LINES[number // 8 % 4], 32 + 2 * number
        messages = bound and not conventional
        capabilities: list[tuple[int, bytes]] = [(0x01, bytes(6))]
        if not conventional:
            capabilities = [express(0), msix(messages, 2)]
        tree.add(
            address,
            config_space(pci_id, pci_class, capabilities=capabilities),
            pci_id=pci_id,
            pci_class=pci_class,
            driver=driver if bound else None,
            group=number // 2,
            irq=vector if messages else line,
            vectors={vector: "msix", vector + 1: "msix"} if messages else {},
            bars={0: (0xFE000000, 0x20000, MEMORY)},
            attributes={"reset_method": "pm" if conventional else "flr bus"},
        )
        _join_group(root, number // 2, address)
        if messages:
            rows += [_row(vector + index, f"PCI-MSIX-{address}   {index}-edge", driver) for index in (0, 1)]
        elif bound:
            users[line].append(driver)
    shared = [_row(line, f"IO-APIC  {line}-fasteoi", ", ".join(users[line])) for line in _LINES if users[line]]
    tree.write("/proc/interrupts", "\n".join(["           CPU0       CPU1", *shared, *rows, ""]))
    return root


def _row(number: int, chip: str, actions: str) -> str:
    return f"{number:>4}: {number:>10} {0:>10}  {chip}      {actions}"


def _join_group(root: Path, group: int, address: str) -> None:
    members = root / f"sys/kernel/iommu_groups/{group}/devices"
    members.mkdir(parents=True, exist_ok=True)
    (members / address).symlink_to(f"../../../../bus/pci/devices/{address}")
