# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's card made of software: its registers, and the protocol that QEMU speaks to it, without a QEMU."""

from __future__ import annotations

import os
import socket
import struct
import threading
import typing as t

import card as lab_card
import pytest


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chip(clock: Clock) -> lab_card.Hfc4s:
    return lab_card.Hfc4s(clock)


def start_timer(chip: lab_card.Hfc4s) -> None:
    """Do what hfcmulti does: an interrupt every 16 ms."""
    chip.write(lab_card.R_TI_WD, 6)
    chip.write(lab_card.R_IRQMSK_MISC, lab_card.V_TI_IRQ)
    chip.write(lab_card.R_IRQ_CTRL, lab_card.V_GLOB_IRQ_EN)


def make(*arguments: str) -> lab_card.Card:
    return lab_card.make(["/nowhere", *arguments])[0]


def word(card: lab_card.Card, offset: int) -> int:
    return int.from_bytes(card.read_config(offset, 2), "little")


# The chip


def test_the_driver_finds_its_chip(chip: lab_card.Hfc4s) -> None:
    assert chip.read(lab_card.R_CHIP_ID) >> 4 == 0xC
    assert chip.read(lab_card.R_CHIP_RV) == 1
    assert chip.read(lab_card.R_STATUS) == 0


def test_the_frame_counter_counts_once_the_chip_is_master(chip: lab_card.Hfc4s, clock: Clock) -> None:
    def frames() -> int:
        return chip.read(lab_card.R_F0_CNTL) + (chip.read(lab_card.R_F0_CNTH) << 8)

    clock.now += 1.0
    assert frames() == 0
    chip.write(lab_card.R_PCM_MD0, lab_card.V_PCM_MD)
    clock.now += 0.0625
    assert frames() == 500
    assert frames() >= 508  # what the driver waits 10 ms for, which a starved machine takes for less
    chip.write(lab_card.R_CIRM, lab_card.V_SRES)
    assert frames() == 0


def test_the_ram_keeps_what_is_written(chip: lab_card.Hfc4s) -> None:
    for address in range(256):
        chip.write(lab_card.R_RAM_ADDR0, address)
        chip.write(lab_card.R_RAM_DATA, address * 3 & 0xFF)
    for address in range(256):
        chip.write(lab_card.R_RAM_ADDR0, address)
        chip.read(lab_card.R_RAM_DATA)
        assert chip.read(lab_card.R_INT_DATA) == address * 3 & 0xFF


def test_the_timer_interrupts_until_somebody_looks(chip: lab_card.Hfc4s, clock: Clock) -> None:
    assert chip.next_tick is None
    start_timer(chip)
    assert chip.period == pytest.approx(0.016)
    chip.tick()
    assert not chip.interrupts
    clock.now += 0.017
    chip.tick()
    assert chip.interrupts
    assert chip.next_tick is None
    assert chip.read(lab_card.R_STATUS) == lab_card.V_MISC_IRQSTA
    assert chip.read(lab_card.R_IRQ_MISC) == lab_card.V_TI_IRQ
    assert not chip.interrupts
    assert chip.read(lab_card.R_IRQ_MISC) == 0


def test_ticks_that_were_missed_are_lost(chip: lab_card.Hfc4s, clock: Clock) -> None:
    start_timer(chip)
    clock.now += 10.0
    chip.tick()
    chip.read(lab_card.R_IRQ_MISC)
    assert chip.next_tick == clock.now + chip.period


@pytest.mark.parametrize("register", [lab_card.R_IRQ_CTRL, lab_card.R_IRQMSK_MISC])
def test_a_masked_timer_does_not_interrupt(chip: lab_card.Hfc4s, clock: Clock, register: int) -> None:
    start_timer(chip)
    chip.write(register, 0)
    clock.now += 1.0
    chip.tick()
    assert not chip.interrupts


# The card


def test_the_default_is_a_card_that_hfcmulti_knows() -> None:
    card = make()
    assert card.read_config(0, 4) == struct.pack("<HH", 0x1397, 0x08B4)
    assert card.read_config(0x2C, 4) == struct.pack("<HH", 0x1397, 0xB620)
    assert card.read_config(0x09, 3) == bytes([0x00, 0x04, 0x02])
    assert card.regions == (8, 4096)


def test_a_plain_card_has_an_identity_and_nothing_else() -> None:
    card = make("--plain", "--identity", "1131:7146", "--subsystem", "13c2:0001", "--class", "048000")
    assert card.read_config(0, 4) == struct.pack("<HH", 0x1131, 0x7146)
    assert card.read_config(0x2C, 4) == struct.pack("<HH", 0x13C2, 0x0001)
    card.write_bar(0, 0, b"\xff")
    assert card.read_bar(0, 0, 4) == bytes(4)
    assert not card.interrupts


@pytest.mark.parametrize(("pci", "masks"), [("2.3", True), ("2.2", False)])
def test_only_since_pci_2_3_a_card_masks_its_interrupt(pci: str, masks: bool) -> None:
    clock = Clock()
    card = make("--pci", pci)
    card.chip = lab_card.Hfc4s(clock)
    start_timer(card.chip)
    clock.now += 1.0
    card.chip.tick()
    assert card.interrupts
    assert bool(word(card, lab_card.PCI_STATUS) & lab_card.PCI_STATUS_INTERRUPT) is masks
    card.write_config(lab_card.PCI_COMMAND, struct.pack("<H", lab_card.PCI_COMMAND_INTX_DISABLE | 0x3))
    assert word(card, lab_card.PCI_COMMAND) == (0x403 if masks else 0x3)
    assert card.interrupts is not masks
    assert bool(word(card, lab_card.PCI_STATUS) & lab_card.PCI_STATUS_INTERRUPT) is masks
    card.write_config(lab_card.PCI_COMMAND, struct.pack("<H", 0x3))
    assert card.interrupts


def test_registers_are_in_memory_and_behind_two_ports() -> None:
    card = make()
    assert card.read_bar(1, 0x316, 1) == b"\xc0"
    card.write_bar(0, 4, bytes([lab_card.R_CHIP_ID]))
    assert card.read_bar(0, 0, 1) == b"\xc0"


@pytest.mark.parametrize(("offset", "kept"), [(0x10, True), (0x3C, True), (0x00, False), (0x2C, False), (0x3D, False)])
def test_what_can_be_written(offset: int, kept: bool) -> None:
    card = make()
    before = card.read_config(offset, 1)
    card.write_config(offset, b"\x55")
    assert card.read_config(offset, 1) == (b"\x55" if kept else before)


# The protocol


def request(number: int, command: int, body: bytes = b"", flags: int = 0) -> bytes:
    return lab_card.HEADER.pack(number, command, lab_card.HEADER.size + len(body), flags, 0) + body


def replies(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return id, error and body of each reply."""
    found = []
    while data:
        number, _command, size, flags, error = lab_card.HEADER.unpack_from(data)
        assert flags & lab_card.REPLY
        assert bool(flags & lab_card.ERROR) == bool(error)
        found.append((number, error, data[lab_card.HEADER.size : size]))
        data = data[size:]
    return found


@pytest.fixture
def session() -> lab_card.Session:
    return lab_card.Session(make())


def ask(session: lab_card.Session, command: int, body: bytes = b"", fds: t.Sequence[int] = ()) -> tuple[int, bytes]:
    ((number, error, answer),) = replies(session.receive(request(7, command, body), fds))
    assert number == 7
    return error, answer


def test_the_version_is_agreed_on(session: lab_card.Session) -> None:
    error, body = ask(session, lab_card.VERSION, struct.pack("<HH", 0, 0) + b"{}\0")
    assert error == 0
    assert body[:4] == bytes(4)
    assert body.endswith(b"\0")


def test_what_the_device_has(session: lab_card.Session) -> None:
    assert ask(session, lab_card.DEVICE_GET_INFO, bytes(16)) == (0, struct.pack("<IIII", 16, 3, 9, 5))
    sizes = []
    for index in range(9):
        _error, body = ask(session, lab_card.DEVICE_GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        sizes.append(struct.unpack("<IIIIQQ", body)[4])
    assert sizes == [8, 4096, 0, 0, 0, 0, 0, 256, 0]
    counts = []
    for index in range(5):
        _error, body = ask(session, lab_card.DEVICE_GET_IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0))
        counts.append(struct.unpack("<IIII", body)[3])
    assert counts == [1, 0, 0, 0, 0]


def test_a_region_is_read_and_written(session: lab_card.Session) -> None:
    where = struct.pack("<QII", lab_card.R_CHIP_ID, 1, 1)
    assert ask(session, lab_card.REGION_READ, where) == (0, where + b"\xc0")
    where = struct.pack("<QII", lab_card.PCI_COMMAND, lab_card.CONFIG_REGION, 2)
    assert ask(session, lab_card.REGION_WRITE, where + struct.pack("<H", 0x402)) == (0, where)
    assert ask(session, lab_card.REGION_READ, where) == (0, where + struct.pack("<H", 0x402))
    posted = request(8, lab_card.REGION_WRITE, where + bytes(2), lab_card.NO_REPLY)
    assert session.receive(posted) == b""
    assert ask(session, lab_card.REGION_READ, where) == (0, where + bytes(2))


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (99, b""),
        (lab_card.REGION_READ, b""),
        (lab_card.REGION_READ, struct.pack("<QII", 8, 0, 1)),
        (lab_card.REGION_WRITE, struct.pack("<QII", 0, 2, 1) + b"\0"),
        (lab_card.DEVICE_SET_IRQS, struct.pack("<IIIII", 20, lab_card.IRQ_TRIGGER, 1, 0, 1)),
    ],
)
def test_nonsense_is_an_error(session: lab_card.Session, command: int, body: bytes) -> None:
    assert ask(session, command, body) == (22, b"")


def test_requests_come_in_any_pieces(session: lab_card.Session) -> None:
    data = b"".join(request(number, lab_card.DMA_MAP, bytes(32)) for number in range(50))
    together = replies(session.receive(data))
    assert [number for number, _error, _body in together] == list(range(50))
    apart = b"".join(session.receive(data[start : start + 7]) for start in range(0, len(data), 7))
    assert replies(apart) == together


def test_memory_is_not_kept_open(session: lab_card.Session) -> None:
    memory = os.memfd_create("guest")
    assert ask(session, lab_card.DMA_MAP, bytes(32), [memory]) == (0, b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(memory)


def set_irqs(session: lab_card.Session, flags: int, fds: t.Sequence[int] = ()) -> None:
    assert ask(session, lab_card.DEVICE_SET_IRQS, struct.pack("<IIIII", 20, flags, 0, 0, 1), fds) == (0, b"")


def signals(eventfd: int) -> int:
    """Return how often it was signalled since the last look."""
    try:
        return struct.unpack("<Q", os.read(eventfd, 8))[0]
    except BlockingIOError:
        return 0


def test_an_interrupt_comes_once_until_it_is_unmasked(session: lab_card.Session) -> None:
    clock = Clock()
    session.card.chip = lab_card.Hfc4s(clock)
    trigger, write = os.pipe()  # an eventfd needs Python 3.10
    os.set_blocking(trigger, False)
    set_irqs(session, lab_card.IRQ_TRIGGER | lab_card.IRQ_DATA_EVENTFD, [write])
    start_timer(session.card.chip)
    session.interrupt()
    assert signals(trigger) == 0
    clock.now += 0.02
    session.interrupt()
    session.interrupt()
    assert signals(trigger) == 1
    assert signals(trigger) == 0
    # Not seen to: the line is still asserted.
    set_irqs(session, lab_card.IRQ_UNMASK)
    session.interrupt()
    assert signals(trigger) == 1
    session.card.chip.read(lab_card.R_IRQ_MISC)
    set_irqs(session, lab_card.IRQ_UNMASK)
    session.interrupt()
    assert signals(trigger) == 0
    os.close(trigger)
    set_irqs(session, lab_card.IRQ_TRIGGER)
    assert session.trigger is None


def test_a_session_over_a_socket_ends_with_its_peer() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    served = threading.Thread(target=lab_card.Session(make()).serve, args=(theirs,))
    served.start()
    with os.fdopen(os.memfd_create("guest"), "wb") as memory:
        for number in range(20):
            socket.send_fds(ours, [request(number, lab_card.DMA_MAP, bytes(32))], [memory.fileno()])
    answers = b""
    while len(answers) < 20 * lab_card.HEADER.size:
        answers += ours.recv(4096)
    assert [number for number, _error, _body in replies(answers)] == list(range(20))
    ours.close()
    served.join(5)
    assert not served.is_alive()
