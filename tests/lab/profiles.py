# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cards a lab host has: data, one table per profile.

A card sits in a PCI Express root port of its own, so that it is alone in its IOMMU group, or in a slot of a
conventional PCI bus behind one, where all cards and the bridge share a group, or in a slot of the root bus, alone
again. Addresses follow from the table: root ports get their bus numbers in order, and a conventional bus takes the
number after its port's.
"""

from __future__ import annotations

import typing as t

UPLINK_MAC = "52:54:00:6b:70:01"  # also in recipes/host/files/etc/systemd/network/10-uplink.network


class Card(t.NamedTuple):
    """One card: QEMU's name of it, the identity it shows, and where it sits."""

    name: str
    device: str
    id: str
    port: int | None  # none: on the root bus
    slot: int | None = None  # on the conventional bus behind the port, or on the root bus
    mac: str | None = None
    subnet: str | None = None  # whoever drives the card gets .15 of it by DHCP, and reaches nothing else


class Profile(t.NamedTuple):
    """A lab host as seen from its slots."""

    about: str
    cards: tuple[Card, ...]
    guest_by_id: tuple[str, ...] = ()  # cards that the guest is promised, named by id
    guest_by_address: tuple[str, ...] = ()  # and by address
    iommu: bool = True
    uplink: str = "e1000e"
    host: str = "hypervisor"  # its name in the inventory: labs of two names can be one fleet

    @property
    def ports(self) -> list[int]:
        return sorted({card.port for card in self.cards if card.port is not None})

    @property
    def conventional_ports(self) -> set[int]:
        return {card.port for card in self.cards if card.port is not None and card.slot is not None}

    def bus(self, port: int) -> int:
        """Return the bus number behind a root port."""
        return port + len([other for other in self.conventional_ports if other < port])

    def address(self, card: Card) -> str:
        """Return the card's address as the host sees it."""
        if card.port is None:
            return f"0000:00:{card.slot:02x}.0"
        if card.slot is None:
            return f"0000:{self.bus(card.port):02x}:00.0"
        return f"0000:{self.bus(card.port) + 1:02x}:{card.slot:02x}.0"

    def selectors(self) -> list[dict[str, str]]:
        """Return the guest's kvm_guest_pci_devices."""
        cards = {card.name: card for card in self.cards}
        by_id = [{"id": cards[name].id} for name in self.guest_by_id]
        return by_id + [{"address": self.address(cards[name])} for name in self.guest_by_address]


_TWO_NICS = Profile(
    about="two network cards to give away, and three conventional PCI cards that share a group",
    cards=(
        # The same model as the uplink: a blacklist of its driver would cut the host off.
        Card("card-a", "e1000e", "8086:10d3", 1, mac="52:54:00:6b:70:0a", subnet="10.0.77.0/24"),
        Card("card-b", "igb", "8086:10c9", 2, mac="52:54:00:6b:70:0b", subnet="10.0.78.0/24"),
        # Slots 2 and 6 share one legacy interrupt line.
        Card("edu", "edu", "1234:11e8", 3, slot=1),
        Card("old-rtl8139", "rtl8139", "10ec:8139", 3, slot=2, mac="52:54:00:6b:70:0c", subnet="10.0.79.0/24"),
        Card("old-e1000", "e1000", "8086:100e", 3, slot=6, mac="52:54:00:6b:70:0d", subnet="10.0.80.0/24"),
    ),
    guest_by_id=("card-b",),
    guest_by_address=("card-a",),
)

PROFILES: dict[str, Profile] = {
    "two-nics": _TWO_NICS,
    "no-iommu": _TWO_NICS._replace(
        about="the same on a machine without an IOMMU: nothing can be passed", iommu=False, host="no-iommu"
    ),
    "blockers": _TWO_NICS._replace(
        about="the same, and two conventional cards that share an interrupt line but no group: nothing is promised",
        cards=(
            *_TWO_NICS.cards,
            # Slots whose numbers are equal modulo 4 have one line; on this one is no other card.
            Card("own-rtl8139", "rtl8139", "10ec:8139", None, slot=0x4, mac="52:54:00:6b:70:0e", subnet="10.0.81.0/24"),
            Card("own-e1000", "e1000", "8086:100e", None, slot=0xC, mac="52:54:00:6b:70:0f", subnet="10.0.82.0/24"),
        ),
        guest_by_id=(),
        guest_by_address=(),
        host="blockers",
    ),
    "virtio-uplink": _TWO_NICS._replace(about="the same with a virtio uplink", uplink="virtio-net-pci"),
}
DEFAULT = "two-nics"
