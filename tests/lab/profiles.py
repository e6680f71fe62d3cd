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
    program: tuple[str, ...] | None = None  # card.py is the card: its arguments


class Guest(t.NamedTuple):
    """A guest as the inventory describes it."""

    name: str
    by_id: tuple[str, ...] = ()  # cards that it is promised, named by id
    by_address: tuple[str, ...] = ()  # and by address
    functions: tuple[tuple[str, int], ...] = ()  # and virtual functions: of which card, which one
    image: str | None = None  # which one of the lab's; none: a blank disk
    address: str | None = None  # in libvirt's default network
    mac: str | None = None  # none: the role's own
    login: str = "image"  # who lets us in: the image, cloud-init, or nobody
    memory: int = 768  # MiB; mapping it for a card takes 5 ms per MiB
    more: tuple[tuple[str, t.Any], ...] = ()  # more variables


class Profile(t.NamedTuple):
    """A lab host as seen from its slots."""

    about: str
    cards: tuple[Card, ...]
    guests: tuple[Guest, ...] = ()
    functions: tuple[tuple[str, int], ...] = ()  # cards that the host divides, and into how many virtual functions
    iommu: bool = True
    uplink: str = "e1000e"
    host: str = "hypervisor"  # its name in the inventory: labs of two names can be one fleet
    group: str = "kvm_hosts"  # and its group
    system: str = "host"  # the image that it boots
    memory: int = 4096  # MiB
    cpus: int = 2
    disks: tuple[tuple[str, str], ...] = ()  # empty disks: serial number and size

    @property
    def nests(self) -> bool:
        """Whether it has guests of its own; what does not is a machine like a guest, without a host around it."""
        return self.group == "kvm_hosts"

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

    def selectors(self, guest: Guest) -> list[dict[str, str | int]]:
        """Return the guest's kvm_guest_pci_devices."""
        cards = {card.name: card for card in self.cards}
        found: list[dict[str, str | int]] = [{"id": cards[name].id} for name in guest.by_id]
        found += [{"address": self.address(cards[name])} for name in guest.by_address]
        for name, index in guest.functions:
            found.append({"physical_function": self.address(cards[name]), "virtual_function": index})
        return found

    def sriov(self) -> list[dict[str, str | int]]:
        """Return the host's kvm_host_sriov."""
        cards = {card.name: card for card in self.cards}
        return [{"id": cards[name].id, "vfs": number} for name, number in self.functions]

    @property
    def images(self) -> list[str]:
        """The images that the host is given as disks; `guest` in any case, for guests made by hand."""
        if not self.nests:
            return []
        return ["guest", *sorted({guest.image for guest in self.guests if guest.image} - {"guest"})]


_GUEST = Guest(
    "guest",
    by_id=("card-b",),
    by_address=("card-a",),
    image="guest",
    address="192.168.122.50",
    mac="52:54:00:6b:76:01",
)

# Slots 2 and 6 of a conventional bus share one legacy interrupt line.
_TWO_NICS = Profile(
    about="two network cards to give away, and three conventional PCI cards that share a group",
    cards=(
        # The same model as the uplink: a blacklist of its driver would cut the host off.
        Card("card-a", "e1000e", "8086:10d3", 1, mac="52:54:00:6b:70:0a", subnet="10.0.77.0/24"),
        Card("card-b", "igb", "8086:10c9", 2, mac="52:54:00:6b:70:0b", subnet="10.0.78.0/24"),
        Card("edu", "edu", "1234:11e8", 3, slot=1),
        Card("old-rtl8139", "rtl8139", "10ec:8139", 3, slot=2, mac="52:54:00:6b:70:0c", subnet="10.0.79.0/24"),
        Card("old-e1000", "e1000", "8086:100e", 3, slot=6, mac="52:54:00:6b:70:0d", subnet="10.0.80.0/24"),
    ),
    guests=(_GUEST,),
)

_GUESTS = Profile(
    about="two guests: one made from an image, one that never leaves its firmware; a card to divide for guests, and one"
    " to hand over while they run",
    cards=(
        Card("card-a", "e1000e", "8086:10d3", 1, mac="52:54:00:6b:70:0a", subnet="10.0.77.0/24"),
        Card("card-b", "igb", "8086:10c9", 2, mac="52:54:00:6b:70:0b", subnet="10.0.78.0/24"),
        Card("card-c", "e1000e", "8086:10d3", 3, mac="52:54:00:6b:70:10", subnet="10.0.83.0/24"),
        Card("edu", "edu", "1234:11e8", 4, slot=1),
        Card("old-rtl8139", "rtl8139", "10ec:8139", 4, slot=2, mac="52:54:00:6b:70:0c", subnet="10.0.79.0/24"),
        Card("old-e1000", "e1000", "8086:100e", 4, slot=6, mac="52:54:00:6b:70:0d", subnet="10.0.80.0/24"),
    ),
    guests=(
        _GUEST._replace(by_id=()),
        # Its firmware finds nothing to boot, stays for ever, and so refuses every unplug. It is a BIOS: under QEMU 11.1
        # without KVM, OVMF in a nested guest makes the outer QEMU abort (cpu_interrupt: bql_locked).
        Guest(
            "firmware",
            functions=(("card-b", 0),),
            login="nobody",
            memory=128,
            more=(
                ("kvm_guest_disk_size", "64M"),
                ("kvm_guest_ready", "running"),
                # Nor does it hear the power button.
                ("kvm_guest_shutdown_timeout", 6),
                ("kvm_guest_force_off", True),
            ),
        ),
    ),
    functions=(("card-b", 2),),
)

_SAA7146 = ("--plain", "--identity=1131:7146", "--subsystem=13c2:0001", "--class=048000")

_ISDN = Profile(
    about="ISDN cards and a DVB-T card made of software, for guests with services: the article's hosts",
    cards=(
        Card("card-a", "e1000e", "8086:10d3", 1, mac="52:54:00:6b:70:0a", subnet="10.0.77.0/24"),
        Card("isdn", "vfio-user-pci", "1397:08b4", 2, slot=1, program=("--subsystem=1397:b620",)),
        # The article's own card, which the kernel's driver knows by its chip, and refuses.
        Card("isdn-refused", "vfio-user-pci", "1397:08b4", 3, slot=1, program=("--subsystem=1397:b752",)),
        Card("dvbt", "vfio-user-pci", "1131:7146", 4, slot=1, program=_SAA7146),
        # It cannot mask its interrupt, as in the article's Listing 3, and shares its line but no group: slots whose
        # numbers are equal modulo 4 have one line.
        Card("isdn-old", "vfio-user-pci", "1397:08b4", None, slot=0x4, program=("--pci=2.2",)),
        Card("own-rtl8139", "rtl8139", "10ec:8139", None, slot=0xC, mac="52:54:00:6b:70:0c", subnet="10.0.79.0/24"),
    ),
    guests=(
        # Behind the virtual IOMMU each page of a guest is a message to each of its cards.
        Guest("isdn", by_address=("isdn",), image="guest-vidtv", address="192.168.122.60", memory=512),
        Guest(
            "dvbt",
            by_id=("dvbt",),
            image="guest-vidtv",
            address="192.168.122.61",
            memory=512,
            more=(("kvm_guest_data_disks", [{"name": "recordings", "size": "1G"}]),),
        ),
        Guest("fax", by_address=("isdn-old",), image="guest-fax", address="192.168.122.62", memory=512),
    ),
)

_MACHINE = Profile(
    about="no host: a Debian 13 as a guest of somebody else would be, with an ISDN controller of software",
    cards=(),
    iommu=False,
    uplink="virtio-net-pci",
    host="isdn",
    group="isdn_guests",
    system="plain-trixie",
    memory=768,
    cpus=1,
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
        guests=(),
        host="blockers",
    ),
    "virtio-uplink": _TWO_NICS._replace(about="the same with a virtio uplink", uplink="virtio-net-pci"),
    "guests": _GUESTS,
    "cloud": _GUESTS._replace(
        about="the same, and a third guest that cloud-init lets us into",
        guests=(
            *_GUESTS.guests,
            Guest(
                "cloud",
                functions=(("card-b", 1),),
                image="cloud",
                address="192.168.122.51",
                login="cloud-init",
                memory=512,
            ),
        ),
    ),
    "isdn": _ISDN,
    "isdn-machine": _MACHINE,
    "dvbt-machine": _MACHINE._replace(
        about="the same with a DVB-T card of software and a disk for recordings",
        host="dvbt",
        group="dvbt_guests",
        system="vidtv-trixie",
        disks=(("recordings", "4G"),),
    ),
    "capisuite-machine": _MACHINE._replace(
        about="the same with Debian 11, for CapiSuite",
        host="capisuite",
        group="capisuite_guests",
        system="plain-bullseye",
    ),
    "bookworm-machine": _MACHINE._replace(
        about="the same with Debian 12, whose kernel has no driver for the card of the article",
        cards=(Card("dvbt", "vfio-user-pci", "1131:7146", None, slot=0x4, program=_SAA7146),),
        host="bookworm",
        system="plain-bookworm",
    ),
    "asterisk-machine": _MACHINE._replace(
        about="the same with Debian 11, for Asterisk",
        host="asterisk",
        system="plain-bullseye",
    ),
}
DEFAULT = "two-nics"
