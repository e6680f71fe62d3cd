# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _capi
from ansible_collections.kvm.passthrough.plugins.module_utils._capi import Remote
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, InvalidInput
from ansible_collections.kvm.passthrough.tests.unit import rcapi_peer

CONF = "/etc/capi20.conf"
STANDARD = "standard: the kernel has no CAPI controller (/dev/capi20)"


def _asks() -> bool:
    try:
        ctypes.CDLL(_capi.LIBRARY)
        _capi.check_shared()
    except (OSError, HostFailure):
        return False
    return True


installed = pytest.mark.skipif(not _asks(), reason="needs Debian's libcapi20-3t64, before Debian 13 libcapi20-3")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user whose .capi20rc names nothing, so that /etc/capi20.conf of the machine is not read."""
    (tmp_path / ".capi20rc").write_text("TRACELEVEL 0\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def peer() -> t.Iterator[t.Callable[..., int]]:
    """Starts a remote CAPI with these arguments, and tells its port."""
    running = []

    def start(*arguments: str) -> int:
        command = [sys.executable, rcapi_peer.__file__, "--port", "0", *arguments]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return int(running[-1].stdout.readline().split()[-1])

    yield start
    for process in running:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("", None),
        ("mISDN 0 1 1\ndebugmask 0x13\n", None),
        ("REMOTE misdn\n", Remote("misdn", "", 2662)),
        ("  REMOTE MISDN\n", Remote("misdn", "", 2662)),
        ("# REMOTE misdn\n", None),
        ("REMOTE\n", None),
        ("REMOTE rcapi pbx.example.org 2663\n", Remote("rcapi", "pbx.example.org", 2663)),
        ("REMOTE rcapi pbx.example.org\nTRACELEVEL 1\n", Remote("rcapi", "pbx.example.org", 2662)),
        ("REMOTE rcapi one 1\nREMOTE misdn\n", Remote("misdn", "", 2662)),
        # The last line has no line feed, and loses its last character.
        ("REMOTE rcapi 127.0.0.1 2662", Remote("rcapi", "127.0.0.1", 266)),
        ("REMOTE misdn", Remote("misd", "", 2662)),
    ],
)
def test_parse_config(text: str, remote: Remote | None) -> None:
    assert _capi.parse_config(text) == remote


@pytest.mark.parametrize(
    ("user", "system", "file", "driver"),
    [
        (None, None, "etc/capi20.conf", None),
        (None, "REMOTE misdn\n", "etc/capi20.conf", "misdn"),
        ("REMOTE rcapi pbx\n", "REMOTE misdn\n", ".capi20rc", "rcapi"),
        ("", "REMOTE misdn\n", ".capi20rc", None),
    ],
)
def test_config_of_the_user_first(
    tmp_path: Path, user: str | None, system: str | None, file: str, driver: str | None
) -> None:
    """One of them is read, not both."""
    (tmp_path / "etc").mkdir()
    for path, text in ((".capi20rc", user), ("etc/capi20.conf", system)):
        if text is not None:
            (tmp_path / path).write_text(text)
    path, remote = _capi.read_config(str(tmp_path), str(tmp_path / "etc"))
    assert (path, remote and remote.driver) == (str(tmp_path / file), driver)


@pytest.mark.parametrize(
    ("wanted", "configured", "asked"),
    [
        (Remote(""), None, [Remote("standard"), Remote("misdn")]),
        (Remote(""), Remote("misdn", "", 2662), [Remote("misdn", "", 2662)]),
        (Remote(""), Remote("rcapi", "pbx", 2662), [Remote("rcapi", "pbx", 2662)]),
        (Remote("misdn"), Remote("fritzbox", "fritz.box", 5031), [Remote("misdn")]),
        (Remote("standard"), Remote("rcapi", "pbx", 2662), [Remote("standard")]),
        (Remote("rcapi", "pbx"), None, [Remote("rcapi", "pbx", 2662)]),
        (Remote("rcapi", "pbx", 99), Remote("rcapi", "other", 2662), [Remote("rcapi", "pbx", 99)]),
        (Remote("rcapi"), Remote("rcapi", "pbx", 2663), [Remote("rcapi", "pbx", 2663)]),
        (Remote("rcapi", "", 99), Remote("rcapi", "pbx", 2663), [Remote("rcapi", "pbx", 99)]),
        (Remote("fritzbox"), None, [Remote("fritzbox", "fritz.box", 5031)]),
        (Remote("fritzbox"), Remote("fritzbox", "box", 5032), [Remote("fritzbox", "box", 5032)]),
    ],
)
def test_choose(wanted: Remote, configured: Remote | None, asked: list[Remote]) -> None:
    assert _capi.choose(wanted, CONF, configured) == asked


@pytest.mark.parametrize(
    ("wanted", "configured", "message"),
    [
        (
            Remote(""),
            Remote("fritzbox", "fritz.box", 5031),
            "/etc/capi20.conf leads to a FRITZ!Box of the network (REMOTE fritzbox fritz.box), not to a card: name"
            " another driver there, or ask for capi_driver fritzbox if it is meant",
        ),
        (
            Remote("rcapi"),
            Remote("misdn"),
            "capi_host is not given, and /etc/capi20.conf has no line REMOTE rcapi with a host",
        ),
    ],
)
def test_nobody_to_ask(wanted: Remote, configured: Remote, message: str) -> None:
    with pytest.raises(HostFailure, match=f"^{re.escape(message)}$"):
        _capi.choose(wanted, CONF, configured)


@pytest.mark.parametrize(
    ("driver", "host", "message"),
    [
        ("misdn", "pbx", "capi_host: pbx is asked only with capi_driver rcapi or fritzbox"),
        ("", "pbx", "capi_host: pbx is asked only with capi_driver rcapi or fritzbox"),
        ("rcapi", "pbx 1", "capi_host: 'pbx 1' is no name of a host"),
        ("rcapi", "pbx\nREMOTE fritzbox", "capi_host: 'pbx\nREMOTE fritzbox' is no name of a host"),
    ],
)
def test_hosts_that_cannot_be_meant(driver: str, host: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{re.escape(message)}$"):
        _capi.read_capi(driver, host)


def test_describe_a_card_of_avm() -> None:
    """As capiinfo printed it for a FRITZ!Card: 3.11-07  (49.23), 0x00000039."""
    profile = struct.pack("<HHIIII44x", 1, 2, 0x39, 0x4000011F, 0x1B3B, 0xBF)
    texts = (b"AVM GmbH\0" + bytes(55), struct.pack("=4I", 2, 0, 49, 23), b"1000001\0")
    found = _capi.describe(1, texts, profile, None)
    assert found == {
        "number": 1,
        "manufacturer": "AVM GmbH",
        "version": "2.0",
        "manufacturer_version": "3.11-07",
        "serial": "1000001",
        "b_channels": 2,
        "options": {
            "mask": "0x00000039",
            "names": ["internal_controller", "dtmf", "supplementary_services", "channel_allocation"],
        },
        "b1_protocols": {
            "mask": "0x4000011f",
            "names": ["hdlc", "transparent", "v110_async", "v110_sync", "t30", "modem_async"],
        },
        "b2_protocols": {
            "mask": "0x00001b3b",
            "names": ["x75", "transparent", "lapd_x25", "t30", "ppp", "x75_v42bis", "v120", "v120_transparent", "lapd"],
        },
        "b3_protocols": {
            "mask": "0x000000bf",
            "names": ["transparent", "t90nl", "iso8208", "x25_dce", "t30", "t30_extended", "modem"],
        },
        "supplementary_services": None,
    }


def test_reserved_bits_have_no_name() -> None:
    assert _capi.bits(0x80000041, _capi.B3_PROTOCOLS) == {"mask": "0x80000041", "names": ["transparent"]}


@pytest.mark.parametrize(
    ("change", "mask"),
    [
        ({}, 0x203),
        ({"subcommand": 0x82}, None),
        ({"info": 0x300B}, None),
        ({"selector": 1}, None),
        ({"reason": 0x300E}, None),
        ({"size": 18}, None),
    ],
)
def test_supported_services(change: dict[str, int], mask: int | None) -> None:
    fields = {"size": 26, "subcommand": 0x81, "info": 0, "selector": 3, "reason": 0, **change}
    head = (fields["size"], 1, 0x80, fields["subcommand"], 1, 1, fields["info"], fields["selector"])
    message = struct.pack("<HHBBHIHHBHBHI", *head, 9, 0, 6, fields["reason"], 0x203)
    assert _capi.supported_services(message) == mask


def _dies() -> None:
    os.write(2, b"capi20.c: 164 CapiDebug():[capi20_isinstalled]: standard loop\nsem_open() failed - Denied\n")
    os._exit(1)


def _raises() -> None:
    raise HostFailure("capi20_get_profile(0) failed")


@pytest.mark.parametrize(
    ("interview", "message"),
    [
        (
            lambda: time.sleep(60),
            "libcapi20 did not answer within 0.3 s (driver misdn); a program with CAPI that was killed may have kept"
            " /dev/shm/sem.CAPI20_shared_sem.v01000010: stop the others, and remove it",
        ),
        (
            _dies,
            "libcapi20 ended without an answer, with exit code 1 (driver misdn): sem_open() failed - Denied",
        ),
        (
            lambda: os.kill(os.getpid(), signal.SIGTERM),
            "libcapi20 ended without an answer, by signal 15 (driver misdn)",
        ),
        (
            _raises,
            "libcapi20 ended without an answer, with exit code 1 (driver misdn): HostFailure:"
            " capi20_get_profile(0) failed",
        ),
    ],
)
def test_library_that_does_not_answer(
    home: Path, monkeypatch: pytest.MonkeyPatch, interview: t.Callable[[], t.Any], message: str
) -> None:
    """It costs the child, and nothing of it reaches the module."""
    monkeypatch.setattr(_capi, "_interview", interview)
    monkeypatch.setattr(_capi, "check_shared", lambda: None)
    found = _capi.read_capi("misdn", timeout=0.3)
    assert found == {"installed": False, "error": message, "library": None, "via": None, "controllers": []}


def test_what_it_prints_is_kept_apart(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interview() -> dict[str, t.Any]:
        for stream in (1, 2):
            os.write(stream, b"chatter\n")
        return {"library": None, "controllers": [], "home": os.environ["HOME"]}

    monkeypatch.setattr(_capi, "_interview", interview)
    monkeypatch.setattr(_capi, "check_shared", lambda: None)
    assert _capi.read_capi("standard")["installed"]
    assert capfd.readouterr() == ("", "")
    assert os.environ["HOME"] == str(home)


def test_library_that_is_not_installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_capi, "LIBRARY", "libcapi20.so.none")
    monkeypatch.setattr(_capi, "check_shared", lambda: None)
    assert _capi.read_capi("misdn") == {
        "installed": False,
        "error": "libcapi20.so.none is not installed: install libcapi20-3t64 (before Debian 13: libcapi20-3)",
        "library": None,
        "via": None,
        "controllers": [],
    }


@pytest.mark.parametrize(
    ("made", "user", "protected", "message"),
    [
        (None, 0, 2, None),
        (None, 1000, 0, None),
        (
            None,
            1000,
            2,
            "{} is not there, and if this user made it nobody else could open it: ask as root",
        ),
        ("file", 1000, 2, None),
        (
            "link",
            0,
            0,
            "{}: Too many levels of symbolic links, and libcapi20 would hang all programs with CAPI: stop them, remove"
            " it and sem.CAPI20_shared_sem.v01000010, and start first a program of root",
        ),
    ],
)
def test_shared_memory(tmp_path: Path, made: str | None, user: int, protected: int, message: str | None) -> None:
    """The link stands for what libcapi20 cannot open, whoever runs this test."""
    memory = tmp_path / "CAPI20_shared_memory.v01000010"
    if made == "file":
        memory.touch()
    elif made == "link":
        memory.symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    if message is None:
        _capi.check_shared(str(tmp_path), user, protected)
    else:
        with pytest.raises(HostFailure, match=f"^{re.escape(message.format(memory))}$"):
            _capi.check_shared(str(tmp_path), user, protected)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("remote", "plugins", "message"),
    [
        (Remote("misdn"), [], "misdn: {} has no lib_capi_mod_misdn.so.2, which comes with mISDNcapid"),
        (Remote("misd"), [], "misd: libcapi20 has no driver of this name that answers"),
        (Remote("rcapi", "pbx", 2662), [], "rcapi: nobody answers at pbx port 2662"),
        (Remote("standard"), [], STANDARD),
    ],
)
def test_silence(tmp_path: Path, remote: Remote, plugins: list[str], message: str) -> None:
    (tmp_path / "capi").mkdir()
    assert _capi.silence(remote, str(tmp_path / "libcapi20.so.3")) == message.format(tmp_path / "capi")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("run", "misdn: mISDNcapid does not run, there is no {}"),
        ("hidden/run", "misdn: mISDNcapid does not answer at {}; it answers root and the group dialout"),
    ],
)
def test_silence_of_misdn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, message: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi/lib_capi_mod_misdn.so.2").touch()
    monkeypatch.setattr(_capi, "MISDN_SOCKET", str(tmp_path / folder / "sock"))
    assert _capi.silence(Remote("misdn"), str(tmp_path / "libcapi20.so.3")) == message.format(
        tmp_path / folder / "sock"
    )


# From here on it is libcapi20 itself that answers.


@installed
def test_remote_capi(home: Path, peer: t.Callable[..., int]) -> None:
    port = peer("--controllers", "2", "--options", "0x19", "--services", "0x103")
    found = _capi.read_capi("rcapi", "127.0.0.1", port)
    assert (found["installed"], found["error"], found["via"]) == (True, None, "rcapi")
    assert Path(found["library"]).name.startswith("libcapi20.so.3")
    assert [one["number"] for one in found["controllers"]] == [1, 2]
    assert found["controllers"][1] == {
        "number": 2,
        "manufacturer": "mISDN",
        "version": "2.0",
        "manufacturer_version": "0.1",
        "serial": "0000001",
        "b_channels": 2,
        "options": {"mask": "0x00000019", "names": ["internal_controller", "dtmf", "supplementary_services"]},
        "b1_protocols": {"mask": "0x00000013", "names": ["hdlc", "transparent", "t30"]},
        "b2_protocols": {"mask": "0x00000013", "names": ["x75", "transparent", "t30"]},
        "b3_protocols": {"mask": "0x00000031", "names": ["transparent", "t30", "t30_extended"]},
        "supplementary_services": {"mask": "0x00000103", "names": ["hold", "terminal_portability", "mwi"]},
    }


@installed
def test_no_services_where_the_controller_has_none(home: Path, peer: t.Callable[..., int]) -> None:
    """It is not registered with, then."""
    port = peer("--options", "0x09", "--services", "0x103", "--manufacturer", "Somebody", "--serial", "42")
    (one,) = _capi.read_capi("rcapi", "127.0.0.1", port)["controllers"]
    assert one["supplementary_services"] == {"mask": "0x00000000", "names": []}
    assert (one["manufacturer"], one["serial"]) == ("Somebody", "42")


@installed
def test_fritzbox_that_is_meant(home: Path, peer: t.Callable[..., int]) -> None:
    """The name and the number are libcapi20's own: it does not ask the box for them."""
    port = peer("--protocol", "fritzbox", "--options", "0x19", "--services", "1")
    found = _capi.read_capi("fritzbox", "127.0.0.1", port)
    shown = [(one["manufacturer"], one["serial"], one["b_channels"]) for one in found["controllers"]]
    assert (found["via"], shown) == ("fritzbox", [("AVM Berlin", "0004711", 2)])
    assert found["controllers"][0]["supplementary_services"]["names"] == ["hold"]


@installed
@pytest.mark.parametrize("driver", ["", "standard", "misdn"])
def test_fritzbox_that_is_not_meant(home: Path, peer: t.Callable[..., int], driver: str) -> None:
    """It would answer, and the user's file leads there."""
    port = peer("--protocol", "fritzbox")
    (home / ".capi20rc").write_text(f"REMOTE fritzbox 127.0.0.1 {port}\n")
    assert _capi.read_capi("fritzbox")["installed"]
    found = _capi.read_capi(driver)
    assert (found["installed"], found["via"], found["controllers"]) == (False, None, [])
    assert (driver or "FRITZ!Box of the network") in found["error"]


@installed
def test_remote_capi_of_the_users_file(home: Path, peer: t.Callable[..., int]) -> None:
    line = f"REMOTE rcapi 127.0.0.1 {peer('--manufacturer', 'Lab')}"
    (home / ".capi20rc").write_text(f"{line}\n")
    found = _capi.read_capi()
    assert (found["via"], [one["manufacturer"] for one in found["controllers"]]) == ("rcapi", ["Lab"])
    (home / ".capi20rc").write_text(line)
    assert _capi.read_capi()["error"] == f"rcapi: nobody answers at 127.0.0.1 port {line.split()[-1][:-1]}"


@installed
def test_remote_capi_that_is_silent(home: Path, peer: t.Callable[..., int]) -> None:
    port = peer("--silent")
    begin = time.monotonic()
    found = _capi.read_capi("rcapi", "127.0.0.1", port, timeout=0.5)
    assert time.monotonic() - begin < 3
    assert found["error"] == f"libcapi20 did not answer within 0.5 s (driver rcapi at 127.0.0.1 port {port})"
    assert not found["installed"]


@installed
@pytest.mark.skipif(os.path.exists("/dev/capi20"), reason="has CAPI in its kernel")
def test_machine_without_capi(home: Path) -> None:
    found = _capi.read_capi()
    assert found["error"].startswith(f"{STANDARD}; misdn: ")
    assert Path(found["library"]).exists()


# The peer, without libcapi20.


def test_peer_answers_what_an_application_asks(peer: t.Callable[..., int]) -> None:
    """LISTEN_REQ gets LISTEN_CONF with the same number, and the next message is not disturbed."""
    with socket.create_connection(("127.0.0.1", peer()), timeout=10) as line:
        for number in (7, 8):
            request = struct.pack("<HHBBHI10x", 22, 3, 0x05, 0x80, number, 1)
            line.sendall(struct.pack(">H", 2 + len(request)) + request)
            answer = line.recv(100)
            assert answer == struct.pack(">H", 16) + struct.pack("<HHBBHIH", 14, 3, 0x05, 0x81, number, 1, 0)
