# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CAPI 2.0 controllers of this machine, asked through libcapi20 as every program with CAPI does.

Left to itself libcapi20 takes whatever driver answers first, in some builds a FRITZ!Box of the network. So it is asked
in a child with a home folder of its own, where .capi20rc names one driver: the library then tries no other one. What
answered is thereby known, a library that hangs or calls exit() costs the child alone, and its debug messages stay in
a file. Structures and bits are those of CAPI 2.0, the files those of libcapi20 3.27.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import signal
import struct
import tempfile
import time
import typing as t

from ._errors import HostFailure, InvalidInput
from ._sysfs import read_file, read_int

Facts = t.Dict[str, t.Any]

LIBRARY = "libcapi20.so.3"
DRIVERS = ("standard", "misdn", "rcapi", "fritzbox")
MISDN_SOCKET = "/run/mISDNcapid/sock"
# What all programs with CAPI share; the version is that of the structure in it.
MEMORY, LOCK = "CAPI20_shared_memory.v01000010", "sem.CAPI20_shared_sem.v01000010"
_PORTS = {"rcapi": 2662, "fritzbox": 5031}

# By bit, from 0. None is reserved.
_Names = t.Tuple[t.Optional[str], ...]
OPTIONS: _Names = (
    "internal_controller",
    "external_equipment",
    "handset",
    "dtmf",
    "supplementary_services",
    "channel_allocation",
    "b_channel_operation",
    "line_interconnect",
)
B1_PROTOCOLS: _Names = (
    "hdlc",
    "transparent",
    "v110_async",
    "v110_sync",
    "t30",
    "hdlc_inverted",
    "transparent_56k",
    "modem",
    "modem_async",
    "modem_sync",
)
B2_PROTOCOLS: _Names = (
    "x75",
    "transparent",
    "sdlc",
    "lapd_x25",
    "t30",
    "ppp",
    "transparent_unframed",
    "modem",
    "x75_v42bis",
    "v120",
    "v120_v42bis",
    "v120_transparent",
    "lapd",
)
B3_PROTOCOLS: _Names = ("transparent", "t90nl", "iso8208", "x25_dce", "t30", "t30_extended", None, "modem")
SERVICES: _Names = (
    "hold",
    "terminal_portability",
    "ect",
    "3pty",
    "call_forwarding",
    "call_deflection",
    "mcid",
    "ccbs",
    "mwi",
    "ccnr",
    "conference",
)
_SUPPLEMENTARY = 1 << 4

_PROFILE = struct.Struct("<HHIIII")  # controllers (of 0) or number, B channels, options, B1, B2, B3; 64 bytes in all
_VERSION = struct.Struct("=IIII")
_FACILITY_REQ = struct.Struct("<HHBBHIH4s")
_FACILITY_CONF = struct.Struct("<HHBBHIHHBHBHI")
_BUFFER = 1024  # bytes, more than any answer
_MOST_CONTROLLERS = 127
_DEBUG = "CapiDebug()"


class Remote(t.NamedTuple):
    """What a line REMOTE of capi20.conf names: a driver of libcapi20, and a host and port for those of the network."""

    driver: str
    host: str = ""
    port: int = 0


def read_capi(driver: str = "", host: str = "", port: int = 0, timeout: float = 10) -> Facts:
    """The part capi of the fact isdn; its keys are documented in isdn_facts.

    driver is one of DRIVERS, or empty for what the user's capi20.conf names, else the kernel and then mISDNcapid;
    timeout is in seconds, for all drivers together. What keeps libcapi20 from answering is the key error.
    """
    if host and driver not in _PORTS:
        raise InvalidInput(f"capi_host: {host} is asked only with capi_driver {' or '.join(_PORTS)}")
    if re.search(r"\s", host):
        raise InvalidInput(f"capi_host: '{host}' is no name of a host")
    deadline = time.monotonic() + timeout
    library, reasons = None, []
    try:
        check_shared()
        for remote in choose(Remote(driver, host, port), *read_config()):
            library, controllers = ask(remote, deadline, timeout)
            if controllers is not None:
                return _facts(None, library, remote.driver, controllers)
            reasons.append(silence(remote, library))
    except HostFailure as error:
        reasons.append(str(error))
    return _facts("; ".join(reasons), library, None, [])


def read_config(home: str | None = None, etc: str = "/etc") -> tuple[str, Remote | None]:
    """The file that libcapi20 reads for this user, and what it names: ~/.capi20rc, or without one /etc/capi20.conf."""
    user, system = os.path.join(home or os.path.expanduser("~"), ".capi20rc"), os.path.join(etc, "capi20.conf")
    own = read_file(user)
    text = read_file(system) or b"" if own is None else own
    return system if own is None else user, parse_config(text.decode("utf-8", "replace"))


def parse_config(text: str) -> Remote | None:
    """The last line `REMOTE driver host port`, as libcapi20 reads it; None if there is none.

    libcapi20 cuts the last character off each line, also where a file ends without a line feed. The drivers, which
    would not notice, are asked for by the name that is left.
    """
    found = None
    for line in re.findall(r".*\n|.+", text):
        words = line[:-1].split()
        if words and words[0].startswith("REMOTE"):
            name, host, port = [*words[1:4], "", "", ""][:3]
            number = re.match(r"\d+", port)
            found = Remote(name.lower(), host, int(number[0]) if number else 2662) if name else None
    return found


def choose(wanted: Remote, path: str, configured: Remote | None) -> list[Remote]:
    """Whom to ask, in this order. What configured, from the file at path, says of a FRITZ!Box counts only if wanted.

    HostFailure: nobody can be asked.
    """
    if not wanted.driver:
        if configured is None:
            return [Remote("standard"), Remote("misdn")]
        if configured.driver == "fritzbox":
            raise HostFailure(
                f"{path} leads to a FRITZ!Box of the network (REMOTE fritzbox {configured.host}), not to a card: name"
                " another driver there, or ask for capi_driver fritzbox if it is meant"
            )
        return [configured]
    if wanted.driver not in _PORTS:
        return [Remote(wanted.driver)]
    known = configured if configured and configured.driver == wanted.driver and not wanted.host else Remote("")
    host = wanted.host or known.host or ("fritz.box" if wanted.driver == "fritzbox" else "")
    if not host:
        raise HostFailure(f"capi_host is not given, and {path} has no line REMOTE {wanted.driver} with a host")
    return [Remote(wanted.driver, host, wanted.port or known.port or _PORTS[wanted.driver])]


def check_shared(folder: str = "/dev/shm", user: int | None = None, protected: int | None = None) -> None:
    """HostFailure if to ask would harm: libcapi20 that cannot open its memory ends with the lock of all others held.

    With the sysctl fs.protected_regular, by default protected, only its owner can open what a user other than root has
    made there, for libcapi20 opens it with O_CREAT. user is who asks, by default the one that runs this.
    """
    memory = os.path.join(folder, MEMORY)
    if os.path.lexists(memory):
        try:
            os.close(os.open(memory, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        except OSError as error:
            raise HostFailure(
                f"{memory}: {error.strerror}, and libcapi20 would hang all programs with CAPI: stop them, remove it and"
                f" {LOCK}, and start first a program of root"
            ) from error
        return
    guard = read_int("/proc/sys/fs/protected_regular") if protected is None else protected
    if guard and (os.geteuid() if user is None else user):
        raise HostFailure(f"{memory} is not there, and if this user made it nobody else could open it: ask as root")


def ask(remote: Remote, deadline: float, timeout: float) -> tuple[str | None, list[Facts] | None]:
    """libcapi20's path, None if it is not installed, and its controllers, None if the driver has not answered.

    deadline is in seconds of the monotonic clock; timeout is only for the message. HostFailure: libcapi20 hung, or
    ended the process that asked.
    """
    with tempfile.TemporaryDirectory(prefix="isdn_facts-") as home:
        with open(os.path.join(home, ".capi20rc"), "w", encoding="utf-8") as stream:
            stream.write(f"REMOTE {remote.driver} {remote.host or '-'} {remote.port}\n")
        said = os.path.join(home, "stderr")
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            _answer(home, said, writer)
        os.close(writer)
        try:
            data = _receive(reader, deadline)
        finally:
            os.close(reader)
            status = _end(child)
        if data is None:
            raise HostFailure(f"libcapi20 did not answer within {timeout:g} s ({_called(remote)}){_locked(remote)}")
        if not data:
            raise HostFailure(f"libcapi20 ended without an answer, {_ending(status)} ({_called(remote)}){_words(said)}")
    answer = json.loads(data)
    return answer["library"], answer["controllers"]


def silence(remote: Remote, library: str | None) -> str:
    """Why a driver has not answered, and what to do."""
    if library is None:
        return f"{LIBRARY} is not installed: install libcapi20-3t64 (before Debian 13: libcapi20-3)"
    if remote.driver == "standard":
        return "standard: the kernel has no CAPI controller (/dev/capi20)"
    if remote.driver in _PORTS:
        return f"{remote.driver}: nobody answers at {remote.host} port {remote.port}"
    if remote.driver != "misdn":
        return f"{remote.driver}: libcapi20 has no driver of this name that answers"
    plugins = os.path.join(os.path.dirname(os.path.realpath(library)), "capi")
    if not os.path.exists(os.path.join(plugins, "lib_capi_mod_misdn.so.2")):
        return f"misdn: {plugins} has no lib_capi_mod_misdn.so.2, which comes with mISDNcapid"
    if os.access(os.path.dirname(MISDN_SOCKET), os.X_OK) and not os.path.exists(MISDN_SOCKET):
        return f"misdn: mISDNcapid does not run, there is no {MISDN_SOCKET}"
    return f"misdn: mISDNcapid does not answer at {MISDN_SOCKET}; it answers root and the group dialout"


def describe(number: int, texts: tuple[bytes, bytes, bytes], profile: bytes, services: int | None) -> Facts:
    """One controller, from what CAPI writes: capi_profile of 64 bytes; texts are manufacturer, version and serial.

    The first and the last one end at NUL, the version is capi_version of 16 bytes. services is the mask of the
    supplementary services, None if the controller does not tell.
    """
    manufacturer, version, serial = texts
    name, major, minor = _text(manufacturer), *_VERSION.unpack_from(version)[2:]
    _number, channels, options, b1, b2, b3 = _PROFILE.unpack_from(profile)
    return {
        "number": number,
        "manufacturer": name,
        "version": "{}.{}".format(*_VERSION.unpack_from(version)[:2]),
        "manufacturer_version": _avm_version(major, minor) if "AVM" in name else f"{major}.{minor}",
        "serial": _text(serial),
        "b_channels": channels,
        "options": bits(options, OPTIONS),
        "b1_protocols": bits(b1, B1_PROTOCOLS),
        "b2_protocols": bits(b2, B2_PROTOCOLS),
        "b3_protocols": bits(b3, B3_PROTOCOLS),
        "supplementary_services": None if services is None else bits(services, SERVICES),
    }


def bits(mask: int, known: _Names) -> Facts:
    """A mask in hexadecimal, and the names of those of its bits that have one."""
    return {"mask": f"0x{mask:08x}", "names": [name for bit, name in enumerate(known) if name and mask & 1 << bit]}


def _facts(error: str | None, library: str | None, via: str | None, controllers: list[Facts]) -> Facts:
    return {"installed": error is None, "error": error, "library": library, "via": via, "controllers": controllers}


def _avm_version(major: int, minor: int) -> str:
    """49.23 is 3.11-07, as AVM writes it: digits of four bits, of which the last is the revision."""
    return f"{major >> 4 & 15}.{(major & 15) << 4 | minor >> 4 & 15:x}-{minor & 15:02}"


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("latin-1")


# What follows runs in the child until _answer(): no exception may leave it, and no return.


def _answer(home: str, said: str, writer: int) -> t.NoReturn:
    """Be the child: nothing of it reaches the module's own output, and it ends without the module's own end."""
    code = 1
    try:
        os.environ["HOME"] = home
        null = os.open(os.devnull, os.O_RDWR)
        errors = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor, target in ((null, 0), (null, 1), (errors, 2)):
            os.dup2(descriptor, target)
        os.write(writer, json.dumps(_interview()).encode())
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _interview() -> Facts:
    """What libcapi20 says: library, its path or None, and controllers, a list or None."""
    try:
        capi = ctypes.CDLL(LIBRARY)
    except OSError:
        return {"library": None, "controllers": None}
    answer: Facts = {"library": _loaded_from(), "controllers": None}
    if capi.capi20_isinstalled() == 0:
        answer["controllers"] = _controllers(capi)
    return answer


def _loaded_from() -> str:
    with open("/proc/self/maps", encoding="utf-8") as stream:
        return next((line.split()[-1] for line in stream if "/libcapi20.so" in line), LIBRARY)


def _controllers(capi: ctypes.CDLL) -> list[Facts]:
    """As many as profile 0 counts. Their numbers may have gaps, as mISDNcapid's configuration gives them."""
    profile = _profile(capi, 0)
    if profile is None:
        raise HostFailure("capi20_get_profile(0) failed")
    found: list[Facts] = []
    for number in range(1, _MOST_CONTROLLERS + 1):
        if len(found) == _PROFILE.unpack_from(profile)[0]:
            break
        own = _profile(capi, number)
        if own is not None:
            supplementary = _PROFILE.unpack_from(own)[2] & _SUPPLEMENTARY
            services = _services(capi, number) if supplementary else 0
            found.append(describe(number, _texts(capi, number), own, services))
    return found


def _profile(capi: ctypes.CDLL, number: int) -> bytes | None:
    data = ctypes.create_string_buffer(_BUFFER)
    return None if capi.capi20_get_profile(ctypes.c_uint(number), data) else data.raw


def _texts(capi: ctypes.CDLL, number: int) -> tuple[bytes, bytes, bytes]:
    """Manufacturer, version and serial number."""
    return (
        _text_of(capi.capi20_get_manufacturer, number),
        _text_of(capi.capi20_get_version, number),
        _text_of(capi.capi20_get_serial_number, number),
    )


def _text_of(function: t.Any, number: int) -> bytes:
    data = ctypes.create_string_buffer(_BUFFER)
    function.restype = ctypes.c_void_p
    if not function(ctypes.c_uint(number), data):
        raise HostFailure(f"controller {number} has a profile and does not tell who it is")
    return data.raw


def _services(capi: ctypes.CDLL, number: int) -> int | None:
    """The mask of supplementary services (FACILITY_REQ, selector 3, GetSupportedServices); None without an answer."""
    application = ctypes.c_uint()
    if capi.capi20_register(1, 1, 2048, ctypes.byref(application)):
        return None
    try:
        fields = (application.value, 0x80, 0x80, 1, number, 3, b"\3\0\0\0")
        request = ctypes.create_string_buffer(_FACILITY_REQ.pack(_FACILITY_REQ.size, *fields), _BUFFER)
        if capi.capi20_put_message(application, request):
            return None
        # A struct timeval of two 64 bit numbers, which a library with two of 32 bits reads as 2 s and 0 us, too.
        limit = (ctypes.c_int64 * 2)(2, 0)
        answer = ctypes.c_void_p()
        if capi.capi20_waitformessage(application, limit) or capi.capi20_get_message(application, ctypes.byref(answer)):
            return None
        return supported_services(ctypes.string_at(answer, _FACILITY_CONF.size))
    finally:
        capi.capi20_release(application)


def supported_services(message: bytes) -> int | None:
    """The mask of a FACILITY_CONF of 26 bytes; None if it is another message, or a refusal."""
    size, _id, command, sub, _no, _plci, info, selector, _len, _fn, _slen, reason, mask = _FACILITY_CONF.unpack(message)
    answered = (command, sub, info, selector, reason) == (0x80, 0x81, 0, 3, 0) and size >= _FACILITY_CONF.size
    return mask if answered else None


# And this in the parent again.


def _receive(reader: int, deadline: float) -> bytes | None:
    """All that the child writes; None if it is not at its end by then."""
    data = b""
    while True:
        ready = select.select([reader], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            return None
        part = os.read(reader, 65536)
        if not part:
            return data
        data += part


def _end(child: int) -> int | None:
    """The child's status; None for one that hangs in the kernel and cannot be ended."""
    # Of one that is about to end, since it has closed the pipe, this changes nothing any more.
    os.kill(child, signal.SIGKILL)
    for _turn in range(100):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    return None


def _ending(status: int | None) -> str:
    if status is None:
        return "and cannot be ended"
    return f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"with exit code {os.WEXITSTATUS(status)}"


def _words(path: str) -> str:
    """The last line that the child wrote, without the debug messages of Debian's build; empty if there is none."""
    lines = (read_file(path) or b"").decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip() and _DEBUG not in line]
    return f": {said[-1]}" if said else ""


def _locked(remote: Remote) -> str:
    """What may be behind the silence of a driver that does not wait for a network."""
    if remote.driver in _PORTS:
        return ""
    return f"; a program with CAPI that was killed may have kept /dev/shm/{LOCK}: stop the others, and remove it"


def _called(remote: Remote) -> str:
    place = f" at {remote.host} port {remote.port}" if remote.driver in _PORTS else ""
    return f"driver {remote.driver}{place}"
