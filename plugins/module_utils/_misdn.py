# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ISDN controllers of mISDN: /sys/class/mISDN, and the raw socket where this user may open one.

The kernel had mISDN from 2.6.27 to 7.0. Protocols, ioctls and struct mISDN_devinfo are those of
include/linux/mISDNif.h, the attributes those of drivers/isdn/mISDN/core.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
import typing as t

from . import _kmsg
from ._sysfs import PCI_ADDRESS, below, link_name, names, read_int, read_text

Facts = t.Dict[str, t.Any]

CLASS = "/sys/class/mISDN"
D_PROTOCOLS = ("TE_S0", "NT_S0", "TE_E1", "NT_E1", "TE_UP0", "NT_UP0")
B_PROTOCOLS = ("RAW", "HDLC", "X75SLP", "L2DTMF", "L2DSP", "L2DSPHDLC", "T30_FAX", "MODEM_ASYNC")

_AF_ISDN = 34
_IMGETVERSION, _IMGETDEVINFO = 0x80044942, 0x80044944
_VERSION = struct.Struct("=BBH")
# id, Dprotocols, Bprotocols, protocol, channelmap, nrbchan, name
_DEVINFO = struct.Struct("=IIII16sI20s")

# Many lines of these drivers name none of them, so that their own words have to do.
_MESSAGES = re.compile(
    r"isdn|hfc|l1oip|layer-1-over-ip|avmfritz|fcpci|avm fritz pci|avm[. ]\d|speedfax|sedlbauer|w6692|infineon"
    r"|\bisar\b|dsp module|diva2\d|dahdi|wcb4xxp|zaphfc|please contact the driver maintainer|devices registered"
    r"|controller (is|has( given)?) pcm bus|^card \d+: defined at|^init card returns|^(card type|codec)\("
    r"|no 'id' value given|^error: master clock for port|^too many (cards|ports) \(max|^ignoring missing interrupts",
    re.IGNORECASE,
)


def read_misdn(root: str = "/") -> Facts:
    """The part misdn of the fact isdn; its keys are documented in isdn_facts.

    The class is there as soon as mISDN_core is loaded, and only then is the socket opened: to ask for it earlier would
    make the kernel look for a module.
    """
    folder = below(root, CLASS)
    available = os.path.isdir(folder)
    found = [read_controller(f"{folder}/{name}") for name in names(folder)]
    controllers = sorted((one for one in found if one is not None), key=lambda one: one["id"])
    version = _ask_kernel(controllers) if available and root == "/" else None
    return {"available": available, "version": version, "controllers": controllers}


def read_controller(folder: str) -> Facts | None:
    """One controller by its folder in the class; None if it has gone.

    channel_numbers is None where sysfs cannot tell: it shows one position more than there are B channels, counted from
    0, and the last channel of a primary rate, 31, is behind them.
    """
    number, count = read_int(f"{folder}/id"), read_int(f"{folder}/nrbchan")
    if number is None or count is None:
        return None
    channels = [place for place, bit in enumerate(read_text(f"{folder}/channelmap") or "") if bit == "1"]
    address = link_name(f"{folder}/device")
    return {
        "id": number,
        "name": read_text(f"{folder}/name"),
        "channels": count,
        "channel_numbers": channels if len(channels) == count else None,
        "d_protocols": named(read_int(f"{folder}/d_protocols") or 0, D_PROTOCOLS),
        "b_protocols": named(read_int(f"{folder}/b_protocols") or 0, B_PROTOCOLS),
        "mode": _mode(read_int(f"{folder}/protocol")),
        "address": address if PCI_ADDRESS.fullmatch(address or "") else None,
        "driver": link_name(f"{folder}/device/driver"),
    }


def named(mask: int, protocols: t.Sequence[str]) -> list[str]:
    """The protocols of a mask whose bit 1 is the first of them: ISDN_P_TE_S0 is 1, ISDN_P_B_RAW is 0x20 + 1."""
    return [name for bit, name in enumerate(protocols, 1) if mask & 1 << bit]


def channel_numbers(devinfo: bytes) -> list[int]:
    """The B channels in the map of struct mISDN_devinfo, 16 bytes whose first bit is channel 0."""
    channels = int.from_bytes(_DEVINFO.unpack(devinfo)[4], "little")
    return [number for number in range(128) if channels >> number & 1]


def read_messages(root: str = "/") -> list[str] | None:
    """The kernel's lines of ISDN drivers, of mISDN's and of DAHDI's, oldest first; None where they may not be read."""
    return _kmsg.matching(_kmsg.read_messages(root), _MESSAGES)


def _mode(protocol: int | None) -> str | None:
    """The protocol of a D channel that is in use, None where none is: ISDN_P_NONE is 0."""
    return D_PROTOCOLS[protocol - 1] if protocol and protocol <= len(D_PROTOCOLS) else None


def _ask_kernel(controllers: list[Facts]) -> str | None:
    """The version of mISDN, and the channels that sysfs hides; None where the user may not ask (CAP_NET_RAW)."""
    try:
        # ISDN_P_BASE, the socket that belongs to no controller.
        with socket.socket(_AF_ISDN, socket.SOCK_RAW, 0) as base:
            version = _VERSION.unpack(_ioctl(base, _IMGETVERSION, _VERSION.size))
            for one in controllers:
                if one["channel_numbers"] is None:
                    one["channel_numbers"] = _ask_channels(base, one)
    except OSError:
        return None
    return ".".join(str(part) for part in version)


def _ask_channels(base: socket.socket, controller: Facts) -> list[int] | None:
    try:
        return channel_numbers(_ioctl(base, _IMGETDEVINFO, _DEVINFO.size, controller["id"]))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None


def _ioctl(base: socket.socket, request: int, size: int, number: int = 0) -> bytes:
    """What the kernel writes: 56 bytes of devinfo, although the request's own size says 4."""
    data = bytearray(struct.pack("=I", number).ljust(size, b"\0"))
    fcntl.ioctl(base, request, data)
    return bytes(data)
