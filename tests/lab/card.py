# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PCI card made of software: this program is the device at the other end of QEMU's vfio-user-pci.

It is an ISDN card with a Cologne Chip HFC-4S, as far as the kernel's hfcmulti looks: the driver finds the chip, tests
its RAM, registers four ports, and is interrupted by the chip's timer. There is no line, so nothing ever calls. With
--plain it is a card of any identity without a single register.

    card.py SOCKET [--subsystem 1397:b752] [--pci 2.2] [--plain --identity 1131:7146 --class 048000] [--token TOKEN]

It serves one QEMU and ends with it. The protocol is in QEMU's documentation (interop/vfio-user), and everything in it
is little endian; the registers are those of the chip's data sheet, under the names of the kernel's hfc_multi.h.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import os
import select
import socket
import struct
import sys
import time
import typing as t

# Registers: those that are read and those that are written differ, even at one address.
R_CIRM = 0x00
R_RAM_ADDR0 = 0x08
R_RAM_ADDR1 = 0x09
R_IRQ_MISC = R_IRQMSK_MISC = 0x11
R_IRQ_CTRL = 0x13
R_PCM_MD0 = 0x14
R_CHIP_ID = 0x16
R_F0_CNTL = 0x18
R_F0_CNTH = 0x19
R_TI_WD = 0x1A
R_STATUS = 0x1C
R_CHIP_RV = 0x1F
R_INT_DATA = 0x88
R_RAM_DATA = 0xC0

V_SRES = 0x08  # of R_CIRM: soft reset
V_PCM_MD = 0x01  # of R_PCM_MD0: the chip is master of its PCM bus, and makes the clock
V_TI_IRQ = 0x02  # of R_IRQ_MISC and R_IRQMSK_MISC: the timer
V_GLOB_IRQ_EN = 0x08  # of R_IRQ_CTRL
V_EV_TS = 0x0F  # of R_TI_WD: the timer's period is 250 us shifted by it
V_MISC_IRQSTA = 0x40  # of R_STATUS
CHIP_HFC_4S = 0xC0
_FRAMES = 8000  # a second: what R_F0_CNT counts


class Hfc4s:
    """The registers of an HFC-4S, 256 of them, and its timer."""

    def __init__(self, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ram = bytearray(0x10000)
        self.reset()

    def reset(self) -> None:
        """Do what power-on and V_SRES do: no interrupts, no clock."""
        self._written = bytearray(256)
        self._int_data = self._frames_high = 0
        self._counts_from: float | None = None
        self._frames = 0
        self._timer = False
        self._next_tick = 0.0

    @property
    def period(self) -> float:
        """Seconds between two events of the timer."""
        return 0.00025 * (1 << (self._written[R_TI_WD] & V_EV_TS))

    @property
    def next_tick(self) -> float | None:
        """When the timer will interrupt next; none while it cannot, or while it does already."""
        enabled = self._written[R_IRQ_CTRL] & V_GLOB_IRQ_EN and self._written[R_IRQMSK_MISC] & V_TI_IRQ
        return self._next_tick if enabled and not self._timer else None

    def tick(self) -> None:
        """Let the timer's event happen if it is time for it; those that were missed are lost, as on the chip."""
        due = self.next_tick
        now = self._clock()
        if due is not None and due <= now:
            self._timer = True
            self._next_tick = now + self.period

    @property
    def interrupts(self) -> bool:
        """Whether the chip asserts its interrupt line."""
        return bool(
            self._timer and self._written[R_IRQ_CTRL] & V_GLOB_IRQ_EN and self._written[R_IRQMSK_MISC] & V_TI_IRQ
        )

    def read(self, register: int) -> int:
        """Return a register's value; the read of some changes the chip."""
        if register == R_IRQ_MISC:
            found, self._timer = V_TI_IRQ if self._timer else 0, False
            return found
        if register == R_STATUS:
            return V_MISC_IRQSTA if self._timer and self._written[R_IRQMSK_MISC] & V_TI_IRQ else 0
        if register == R_F0_CNTL:
            if self._counts_from is not None:
                counted = int((self._clock() - self._counts_from) * _FRAMES)
                # hfcmulti waits 10 ms for 8 frames; a machine that was starved makes up for lost ticks in no time.
                self._frames = max(counted, self._frames + 16)
            self._frames_high, low = divmod(self._frames & 0xFFFF, 256)
            return low
        if register == R_RAM_DATA:
            self._int_data = self._ram[self._ram_address]
            return self._int_data
        fixed = {R_CHIP_ID: CHIP_HFC_4S, R_CHIP_RV: 1, R_F0_CNTH: self._frames_high, R_INT_DATA: self._int_data}
        return fixed.get(register, 0)

    def write(self, register: int, value: int) -> None:
        """Write a register."""
        if register == R_CIRM and value & V_SRES:
            self.reset()
        elif register == R_PCM_MD0:
            if not value & V_PCM_MD:
                self._counts_from, self._frames = None, 0
            elif self._counts_from is None:
                self._counts_from = self._clock()
        elif register == R_RAM_DATA:
            self._ram[self._ram_address] = value
        self._written[register] = value
        if register in (R_IRQ_CTRL, R_IRQMSK_MISC, R_TI_WD):
            self._next_tick = max(self._next_tick, self._clock() + self.period)

    @property
    def _ram_address(self) -> int:
        return self._written[R_RAM_ADDR0] | self._written[R_RAM_ADDR1] << 8


# The configuration space.
PCI_COMMAND = 0x04
PCI_STATUS = 0x06
PCI_COMMAND_INTX_DISABLE = 0x400
PCI_STATUS_INTERRUPT = 0x08
_PCI_STATUS_CAP_LIST = 0x10
_PCI_BARS = 0x10
_PM = 0x40  # where the one capability is, power management
CONFIG_SIZE = 256
PORTS_SIZE = 8
MEMORY_SIZE = 4096


class Card:
    """A conventional PCI card: its configuration space, two BARs with one chip behind, and an interrupt line."""

    def __init__(
        self,
        identity: tuple[int, int],
        subsystem: tuple[int, int],
        class_code: int,
        *,
        chip: Hfc4s | None,
        masks_intx: bool,
    ) -> None:
        self.chip = chip
        self._masks_intx = masks_intx
        # I/O, memory and bus master; parity and system errors; and since PCI 2.3 the interrupt.
        self._command_bits = 0x147 | (PCI_COMMAND_INTX_DISABLE if masks_intx else 0)
        # BAR 0 and 1: of the HFC-4S 8 ports and 4 KiB of memory; another card has only memory.
        self.regions = (PORTS_SIZE, MEMORY_SIZE) if chip else (MEMORY_SIZE, 0)
        config = bytearray(CONFIG_SIZE)
        struct.pack_into("<HHHH", config, 0, *identity, 0, _PCI_STATUS_CAP_LIST)
        struct.pack_into("<I", config, 0x08, class_code << 8 | 0x01)
        struct.pack_into("<I", config, _PCI_BARS, 1 if chip else 0)
        struct.pack_into("<HH", config, 0x2C, *subsystem)
        config[0x34] = _PM
        config[0x3D] = 1  # INTA#
        struct.pack_into("<BBHH", config, _PM, 0x01, 0, 0x0002, 0)
        self._config = config
        self._port_register = 0

    def reset(self) -> None:
        """Do what the bus's reset does."""
        struct.pack_into("<H", self._config, PCI_COMMAND, 0)
        if self.chip:
            self.chip.reset()

    @property
    def _pending(self) -> bool:
        return self.chip is not None and self.chip.interrupts

    @property
    def interrupts(self) -> bool:
        """Whether the card asserts its line; a card since PCI 2.3 does not while it is told not to."""
        (command,) = struct.unpack_from("<H", self._config, PCI_COMMAND)
        return self._pending and not command & PCI_COMMAND_INTX_DISABLE

    def read_config(self, offset: int, count: int) -> bytes:
        """Return bytes of the configuration space; since PCI 2.3, Status says whose interrupt it is."""
        config = bytearray(self._config)
        if self._masks_intx and self._pending:
            config[PCI_STATUS] |= PCI_STATUS_INTERRUPT
        return bytes(config[offset : offset + count]).ljust(count, b"\0")

    def write_config(self, offset: int, data: bytes) -> None:
        """Write what can be written: Command, the BARs, the interrupt line and the power state."""
        for position, value in enumerate(data, offset):
            if position in (PCI_COMMAND, PCI_COMMAND + 1):
                self._config[position] = value & self._command_bits >> 8 * (position - PCI_COMMAND) & 0xFF
            elif _PCI_BARS <= position < 0x28 or position in (0x0C, 0x0D, 0x3C):
                self._config[position] = value
            elif position == _PM + 4:
                self._config[position] = value & 0x03

    def read_bar(self, number: int, offset: int, count: int) -> bytes:
        """Read registers: through BAR 1 each at its address, through BAR 0 the one that was written to port 4."""
        if not self.chip:
            return bytes(count)
        if number == 0:
            return bytes(self.chip.read(self._port_register + step & 0xFF) for step in range(count))
        return bytes(self.chip.read(offset + step & 0xFF) for step in range(count))

    def write_bar(self, number: int, offset: int, data: bytes) -> None:
        """Write registers."""
        if not self.chip:
            return
        if number == 0 and offset >= 4:
            self._port_register = data[0]
            return
        first = self._port_register if number == 0 else offset
        for step, value in enumerate(data):
            self.chip.write(first + step & 0xFF, value)


# The protocol.
HEADER = struct.Struct("<HHIII")  # id, command, size with the header, flags, error
VERSION = 1
DMA_MAP = 2
DMA_UNMAP = 3
DEVICE_GET_INFO = 4
DEVICE_GET_REGION_INFO = 5
DEVICE_GET_IRQ_INFO = 7
DEVICE_SET_IRQS = 8
REGION_READ = 9
REGION_WRITE = 10
DEVICE_RESET = 13
REPLY = 0x01
NO_REPLY = 0x10
ERROR = 0x20
_EINVAL = 22
CONFIG_REGION = 7
_REGIONS = 9
_IRQS = 5
INTX = 0
_READ_WRITE = 0x03
_IRQ_FLAGS = 0x07  # by eventfd, can be masked, masks itself
IRQ_DATA_EVENTFD = 0x04
IRQ_MASK = 0x08
IRQ_UNMASK = 0x10
IRQ_TRIGGER = 0x20
_CAPABILITIES = b'{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}\0'
_BUFFER = 1 << 20
_DESCRIPTORS = 64


class RequestError(Exception):
    """A request that makes no sense for this card."""


class Session:
    """One QEMU: its requests, and the eventfds by which the card interrupts it."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.trigger: int | None = None  # eventfd: the card interrupts
        self.unmask: int | None = None  # eventfd: whoever is interrupted has seen to it; only where KVM does that
        self.masked = False
        self._kept = b""

    def receive(self, data: bytes, descriptors: t.Sequence[int] = ()) -> bytes:
        """Return the replies to all requests that are complete with this data; keep the rest.

        Descriptors come with the first byte of the request that they belong to. Those of DMA_MAP are the guest's
        memory, of which behind a virtual IOMMU every page is a request of its own: this is the path to be quick on.
        """
        data = self._kept + data
        fds = list(descriptors)
        replies = []
        start = 0
        while len(data) - start >= HEADER.size:
            number, command, size, flags, _error = HEADER.unpack_from(data, start)
            if size < HEADER.size or len(data) - start < size:
                break
            if command == DMA_MAP:
                _close(fds)
                replies.append(HEADER.pack(number, DMA_MAP, HEADER.size, REPLY, 0))
            else:
                body = data[start + HEADER.size : start + size]
                try:
                    answer, error = self._answer(command, body, fds), 0
                except (RequestError, struct.error):
                    answer, error = b"", _EINVAL
                if not flags & NO_REPLY:
                    state = REPLY | (ERROR if error else 0)
                    replies.append(HEADER.pack(number, command, HEADER.size + len(answer), state, error) + answer)
            start += size
        self._kept = data[start:]
        _close(fds)
        return b"".join(replies)

    def _answer(self, command: int, body: bytes, fds: list[int]) -> bytes:
        if command == VERSION:
            return struct.pack("<HH", 0, 0) + _CAPABILITIES
        if command == DMA_UNMAP:
            return body
        if command == DEVICE_GET_INFO:
            return struct.pack("<IIII", 16, 0x03, _REGIONS, _IRQS)
        if command == DEVICE_GET_REGION_INFO:
            return self._region_info(body)
        if command == DEVICE_GET_IRQ_INFO:
            _argsz, _flags, index, _count = struct.unpack_from("<IIII", body)
            return struct.pack("<IIII", 16, _IRQ_FLAGS if index == INTX else 0, index, int(index == INTX))
        if command == DEVICE_SET_IRQS:
            self._set_irqs(body, fds)
            return b""
        if command == REGION_READ:
            return body[:16] + self._read(*struct.unpack_from("<QII", body))
        if command == REGION_WRITE:
            offset, region, count = struct.unpack_from("<QII", body)
            self._write(offset, region, body[16 : 16 + count])
            return body[:16]
        if command == DEVICE_RESET:
            self.card.reset()
            return b""
        raise RequestError(f"command {command}")

    def _region_info(self, body: bytes) -> bytes:
        _argsz, _flags, index, _cap, _size, _offset = struct.unpack("<IIIIQQ", body[:32])
        size = self._size(index)
        return struct.pack("<IIIIQQ", 32, _READ_WRITE if size else 0, index, 0, size, index << 40)

    def _size(self, region: int) -> int:
        if region == CONFIG_REGION:
            return CONFIG_SIZE
        return self.card.regions[region] if region < len(self.card.regions) else 0

    def _read(self, offset: int, region: int, count: int) -> bytes:
        if offset + count > self._size(region):
            raise RequestError(f"region {region} ends before {offset:#x}")
        if region == CONFIG_REGION:
            return self.card.read_config(offset, count)
        return self.card.read_bar(region, offset, count)

    def _write(self, offset: int, region: int, data: bytes) -> None:
        if offset + len(data) > self._size(region):
            raise RequestError(f"region {region} ends before {offset:#x}")
        if region == CONFIG_REGION:
            self.card.write_config(offset, data)
        else:
            self.card.write_bar(region, offset, data)

    def _set_irqs(self, body: bytes, fds: list[int]) -> None:
        _argsz, flags, index, _start, count = struct.unpack_from("<IIIII", body)
        if index != INTX:
            if count:
                raise RequestError(f"interrupt {index}")
            return
        given = fds.pop(0) if flags & IRQ_DATA_EVENTFD and fds else None
        if flags & IRQ_TRIGGER:
            self.trigger = _replaced(self.trigger, given)
            self.masked = False
        elif flags & IRQ_UNMASK and flags & IRQ_DATA_EVENTFD:
            self.unmask = _replaced(self.unmask, given)
        elif flags & IRQ_UNMASK:
            self.masked = False
        elif flags & IRQ_MASK:
            self.masked = True

    def seen_to(self) -> None:
        """Take note that the eventfd for unmasking was signalled."""
        if self.unmask is not None:
            os.read(self.unmask, 8)
            self.masked = False

    def interrupt(self) -> None:
        """Interrupt once if the card asserts its line, and then not before that was unmasked."""
        if self.card.chip:
            self.card.chip.tick()
        if self.trigger is not None and not self.masked and self.card.interrupts:
            self.masked = True
            os.write(self.trigger, struct.pack("<Q", 1))

    @property
    def timeout(self) -> float | None:
        """Seconds until the card has something to do by itself."""
        due = self.card.chip.next_tick if self.card.chip else None
        return None if due is None else max(0.0, due - time.monotonic())

    def serve(self, connection: socket.socket) -> None:
        """Be the card until QEMU ends."""
        room = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
        while True:
            timeout = self.timeout
            ready: list[t.Any] = [connection]
            if timeout is not None or self.unmask is not None:
                watched: list[t.Any] = [connection] if self.unmask is None else [connection, self.unmask]
                ready = select.select(watched, [], [], timeout)[0]
            if self.unmask in ready:
                self.seen_to()
            if connection in ready:
                data, ancillary, _flags, _address = connection.recvmsg(_BUFFER, room, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    return
                replies = self.receive(data, _descriptors(ancillary) if ancillary else ())
                if replies:
                    connection.sendall(replies)
            self.interrupt()


def _descriptors(ancillary: t.Iterable[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _replaced(old: int | None, new: int | None) -> int | None:
    if old is not None:
        os.close(old)
    return new


def _identity(text: str) -> tuple[int, int]:
    vendor, _colon, device = text.partition(":")
    return int(vendor, 16), int(device, 16)


def make(arguments: t.Sequence[str]) -> tuple[Card, str]:
    """Return the card that the arguments describe, and the path of its socket."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket", help="path of the UNIX socket to listen on")
    parser.add_argument("--identity", type=_identity, default="1397:08b4", help="vendor:device (default: an HFC-4S)")
    parser.add_argument("--subsystem", type=_identity, default="1397:b620", help="default: one that hfcmulti knows")
    parser.add_argument("--class", dest="class_code", type=lambda text: int(text, 16), default="020400")
    parser.add_argument("--pci", choices=("2.2", "2.3"), default="2.3", help="2.2: interrupts cannot be masked")
    parser.add_argument("--plain", action="store_true", help="no registers, no interrupts: only an identity")
    parser.add_argument("--token", help="not used: it marks the process as somebody's")
    found = parser.parse_args(arguments)
    card = Card(
        found.identity,
        found.subsystem,
        found.class_code,
        chip=None if found.plain else Hfc4s(),
        masks_intx=found.pci == "2.3",
    )
    return card, found.socket


def main() -> None:
    """Wait for QEMU, and be its card."""
    card, path = make(sys.argv[1:])
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(new)
        listener.listen(1)
        os.rename(new, path)  # who sees it can connect
        connection, _address = listener.accept()
    os.unlink(path)
    with connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        Session(card).serve(connection)


if __name__ == "__main__":
    main()
