# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a use of a device is, and how a place below /sys leads to PCI devices: what _host_*.py share."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass

from ._sysfs import PCI_ADDRESS, below, link_name

DEVICES = "/sys/bus/pci/devices"
# Drivers that take any device they are told to, and so are nobody's own.
_STAND_INS = frozenset(("pci-stub", "pciback", "uio_pci_generic", "igb_uio"))
# Drivers that the running kernel does not survive the removal of, and how it ends. Sources: Linux 6.12,
# drivers/isdn/hardware/mISDN/hfcmulti.c: release_port, which waits for work of the channel with the card's lock held.
_STICKING = {"hfc_multi": "whose removal is a bug of its own: it sleeps under a spinlock, and the kernel hangs"}
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Use:
    """One way in which the host, or a guest, needs a device."""

    kind: str
    """What the host cannot do without: default_route, session, network, mount, swap, volume, guest_disk, console,
    keyboard, display, drm, platform, bridge. What it would miss: link, guest_network, no_interface, spare_disk,
    spare_keyboard, screen, sound, helper. And guest: somebody has the device open."""

    what: str
    """What follows the device's address in a message: carries the default route (enp1s0)."""

    evidence: str
    """The file that says so, and what it says."""


Found = t.Iterator[t.Tuple[str, Use]]
"""A place below /sys, or a PCI address alone, and what it is used for."""


def is_vfio(driver: str) -> bool:
    """Whether a driver hands its devices to guests: vfio-pci and its variants (mlx5_vfio_pci, nvgrace_gpu_vfio_pci)."""
    return "vfio" in re.split(r"[-_]", driver)


def stands_in(driver: str) -> bool:
    """Whether a driver is one for guests or for nobody, rather than the device's own."""
    return is_vfio(driver) or driver in _STAND_INS


def sticks(driver: str | None) -> str:
    """Why a driver must keep its device until the next boot, after 'is bound to DRIVER, '; empty where it need not."""
    return _STICKING.get(driver or "", "")


def by_address(root: str, found: Found) -> dict[str, list[Use]]:
    """The uses of each PCI device that their places lead through, without repetition."""
    uses: dict[str, list[Use]] = {}
    places: dict[str, list[str]] = {}
    for path, use in found:
        if path not in places:
            places[path] = addresses(root, path)
        for address in places[path]:
            known = uses.setdefault(address, [])
            if use not in known:
                known.append(use)
    return uses


def addresses(root: str, path: str) -> list[str]:
    """The PCI devices that a path below /sys leads through, and the physical functions of those that are virtual."""
    if not path.startswith("/"):
        return [path]
    found = [part for part in place(root, path).split("/") if PCI_ADDRESS.fullmatch(part)]
    physical = (link_name(below(root, f"{DEVICES}/{address}/physfn")) for address in list(found))
    return found + [address for address in physical if address]


def place(root: str, path: str) -> str:
    """Where a link of sysfs leads: it is always one step to the device, whose path holds no links."""
    full = below(root, path)
    try:
        return os.path.normpath(os.path.join(os.path.dirname(full), os.readlink(full)))
    except OSError:
        return full


def listed(words: t.Sequence[str], most: int = 3) -> str:
    """A few words as they stand in a sentence: a, b and c; a, b, c and 4 more."""
    shown = list(words[:most])
    if len(words) > most:
        shown.append(f"{len(words) - most} more")
    return " and ".join(part for part in (", ".join(shown[:-1]), shown[-1]) if part)


def whole(root: str, path: str) -> str:
    """A table of /proc, which may be longer than one read gives."""
    try:
        with open(below(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def plain(text: str) -> str:
    """A name as it is, where /proc wrote a blank as \\040."""
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 8)), text)
