# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A remote CAPI to talk to: what libcapi20 finds at the other end of its drivers rcapi and fritzbox.

It has controllers, says who they are, and takes every request that an application sends. It never rings.
A program, too: `python3 rcapi_peer.py --port 2662 --manufacturer mISDN`.
"""

from __future__ import annotations

import argparse
import socketserver
import struct
import sys
import time
import typing as t

CONTROL = 0xFF
REGISTER, PROFILE = 0xF2, 0xE0
MANUFACTURER, VERSION, SERIAL = 0xFA, 0xFC, 0xFE
FACILITY, BOX = 0x80, 0x20
REQUEST, CONFIRMATION = 0x80, 0x81


class Capi(t.NamedTuple):
    """What the peer says of itself; the masks are those of CAPI's GET_PROFILE, by default as mISDNcapid has them."""

    manufacturer: str = "mISDN"
    version: tuple[int, int] = (0, 1)
    serial: str = "0000001"
    controllers: int = 1
    b_channels: int = 2
    options: int = 0x09
    b1: int = 0x13
    b2: int = 0x13
    b3: int = 0x31
    services: int = 0
    silent: bool = False

    def profile(self, number: int) -> bytes:
        """Info, and capi_profile: of 0 the number of controllers, of another one 64 bytes."""
        if not number:
            return struct.pack("<HH", 0, self.controllers)
        if number > self.controllers:
            return struct.pack("<H64x", 0x2002)
        fields = (number, self.b_channels, self.options, self.b1, self.b2, self.b3)
        return struct.pack("<HHHIIII44x", 0, *fields)

    def reply(self, message: bytes) -> bytes:
        """The answer to a CAPI message, or to a command of rcapi, which has the form of one; empty if there is none."""
        command, subcommand = message[4], message[5]
        number = struct.unpack_from("<I", message, 8)[0] if len(message) >= 12 else 0
        if subcommand == CONTROL:
            answers = {
                REGISTER: bytes(2),
                MANUFACTURER: _block(self.manufacturer.encode(), 64),
                VERSION: _block(struct.pack("<4I", 2, 0, *self.version), 16),
                SERIAL: _block(self.serial.encode(), 8),
                PROFILE: self.profile(number),
            }
            return struct.pack("<HHBBH", 0, 0, command + 1, CONTROL, 0) + answers[command]
        if subcommand != REQUEST:
            return b""
        body = struct.pack("<IH", number, 0)
        if command == FACILITY:
            body += message[12:14] + struct.pack("<BHBHI", 9, 0, 6, 0, self.services)
        return struct.pack("<HHBB", 8 + len(body), *struct.unpack_from("<H", message, 2), command, CONFIRMATION) + (
            message[6:8] + body
        )

    def box_reply(self, message: bytes) -> bytes:
        """The answer to the command that a FRITZ!Box has: 0 registers, 1 releases, 2 asks for a profile."""
        # Header, two bytes, a length, the function, a length, its parameters.
        function, number = struct.unpack_from("<HxH", message.ljust(16, b"\0"), 11)
        body = {0: bytes(2), 1: bytes(2), 2: self.profile(number).ljust(66, b"\0")}[function]
        head = struct.pack("<HHBB", 16 + len(body), 1, BOX, CONFIRMATION) + message[6:10]
        return head + struct.pack("<BHBH", 5 + len(body), function, 2 + len(body), 0) + body


class _Connection(socketserver.StreamRequestHandler):
    server: Peer

    def handle(self) -> None:
        while self.server.capi.silent:
            time.sleep(0.1)
        while True:
            message = self.receive()
            if not message:
                return
            answer = self.answer(message)
            if answer:
                self.wfile.write(answer)

    def receive(self) -> bytes:
        head = self.rfile.read(2)
        return self.rfile.read(struct.unpack(">H", head)[0] - 2) if len(head) == 2 else b""

    def answer(self, message: bytes) -> bytes:
        reply = self.server.capi.reply(message)
        return reply and struct.pack(">H", 2 + len(reply)) + reply


class _BoxConnection(_Connection):
    def receive(self) -> bytes:
        head = self.rfile.read(3)
        return self.rfile.read(struct.unpack("<H", head[1:])[0]) if len(head) == 3 else b""

    def answer(self, message: bytes) -> bytes:
        if message[4] == BOX:
            # libcapi20 takes the answer to a command with a length of one byte.
            reply = self.server.capi.box_reply(message)
            return bytes((0, len(reply))) + reply
        reply = self.server.capi.reply(message)
        return reply and struct.pack("<BH", 0x80, len(reply)) + reply


class Peer(socketserver.ThreadingTCPServer):
    """A server on a port, 0 for a free one; box is whether it is a FRITZ!Box."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, capi: Capi, port: int = 0, host: str = "127.0.0.1", box: bool = False) -> None:
        self.capi = capi
        super().__init__((host, port), _BoxConnection if box else _Connection)

    @property
    def port(self) -> int:
        return self.server_address[1]


def _block(data: bytes, size: int) -> bytes:
    """A CAPI structure: its length and so many bytes."""
    return bytes((size,)) + data[:size].ljust(size, b"\0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2662)
    parser.add_argument("--protocol", choices=["rcapi", "fritzbox"], default="rcapi")
    parser.add_argument("--silent", action="store_true", help="take connections and never answer")
    for name in ("manufacturer", "serial"):
        parser.add_argument(f"--{name}", default=getattr(Capi(), name))
    for name in ("controllers", "b-channels", "options", "b1", "b2", "b3", "services"):
        number = getattr(Capi(), name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=lambda text: int(text, 0), default=number, help=f"default {number:#x}")
    given = vars(parser.parse_args())
    host, port, box = given.pop("host"), given.pop("port"), given.pop("protocol") == "fritzbox"
    with Peer(Capi(**given), port, host, box) as peer:
        print(f"listening on {host} port {peer.port}", flush=True)
        try:
            peer.serve_forever()
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
