# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DVB adapters and what their frontends can receive: the fact dvb.

Adapters are those of /sys/class/dvb. Frontends are asked by ioctl (include/uapi/linux/dvb/frontend.h) through a file
opened for reading, which any number of programs may have open beside the one that tunes.
"""

from __future__ import annotations

import array
import fcntl
import os
import re
import struct
import sys
import typing as t

from . import _kmsg, _sysfs
from ._errors import InvalidInput

Facts = t.Dict[str, t.Any]

_CLASS_DEVICE = re.compile(r"dvb(\d+)\.([a-z]+)(\d+)")

# enum fe_delivery_system in its order, without SYS_.
_SYSTEMS = (
    *("UNDEFINED", "DVBC_ANNEX_A", "DVBC_ANNEX_B", "DVBT", "DSS", "DVBS", "DVBS2", "DVBH", "ISDBT", "ISDBS", "ISDBC"),
    *("ATSC", "ATSCMH", "DTMB", "CMMB", "DAB", "DVBT2", "TURBO", "DVBC_ANNEX_C", "DVBC2"),
)
# For these FE_GET_INFO counts in kHz (dvb_frontend_get_frequency_limits of dvb_frontend.c), for all others in Hz.
_SATELLITE = frozenset(("DSS", "DVBS", "DVBS2", "TURBO", "ISDBS"))

_DTV_DELIVERY_SYSTEM, _DTV_ENUM_DELSYS = 17, 44
# struct dvb_frontend_info: name, type, frequencies (min, max, stepsize, tolerance), symbol rates (min, max, tolerance),
# notifier_delay, caps.
_INFO = struct.Struct("=128s10I")
# struct dtv_property, packed: cmd, reserved, and of the union the buffer (data, len, reserved, pointer); result.
_PROPERTY = struct.Struct(f"=I12x32sI{12 + struct.calcsize('P')}xi")
# struct dtv_properties: num and a pointer to so many of them.
_PROPERTIES = struct.Struct("@IP")


def _ior(number: int, size: int) -> int:
    """The macro _IOR('o', number, size) of x86, Arm and s390."""
    return 2 << 30 | size << 16 | ord("o") << 8 | number


_FE_GET_INFO = _ior(61, _INFO.size)
_FE_GET_PROPERTY = _ior(83, _PROPERTIES.size)

# How messages of DVB drivers begin: bridges, demodulators and tuners, by module or by driver; or what they speak of.
_SPEAKER = re.compile(
    r"^(?:saa71|budget|av7110|cx23885|cx25840|cx88|ddbridge|smipcie|SMI PCIe|ngene|mantis|hopper|vp\d{4}|b2c2|dm1105|"
    r"pluto2|netup|bt878|dst|tda(?:8|100|182)|stv0|stv6|stb0|ves1|sp88|l64781|si21|cxd2|mn88|m88|drx|lnb|mt2|mt3|qt1|"
    r"zl10|xc2028|xc[45]000|smsmdtv|vidtv)"
    r"|\bdvb|\bsms1xxx",
    re.IGNORECASE,
)
_ABSENT = re.compile(
    r"Direct firmware load for (\S+) failed with error -2\b"
    r"|(?:not load|not find the|open|request|locate) firmware(?:,? file)?(?: not found)?:? "
    r"['\"]?([^\s'\"(]+?)['\"]?\.?(?:\s|$)"
    r"|firmware file '([^']+)' not found",
    re.IGNORECASE,
)
# The kernels of Debian say so of every try, also of one that the driver can do without.
_TRIED = re.compile(r"firmware: failed to load (\S+) \(-2\)")
# The tuner si2157 tries several names, quietly, and then says this.
_GAVE_UP = re.compile(r"Can't continue without a firmware")
# The loader of Debian's kernels up to 6.1; drivers; tda1004x, which also takes its neighbour's file.
_LOADED = re.compile(
    r"direct-loading firmware (\S+)|downloading firmware from file '([^']+)'|please rename the firmware file to (\S+)"
)
# `budget_ci dvb 0000:06:01.0: text`, `si2168 6-0064: text`, `dvb_ttpci: text`
_DRIVER = re.compile(r"(.+?)(?: \S+)?: ")


def read_dvb(root: str) -> Facts:
    """The fact dvb of a machine, as the module dvb_facts documents it.

    Nothing is asked by ioctl where root is not the running machine, whose device nodes are none of that root's.
    """
    if not os.path.isdir(root):
        raise InvalidInput(f"root: there is no folder {root}")
    messages = _kmsg.read_messages(root)
    return {
        "adapters": read_adapters(root, ask_frontend if root == "/" else _unknown),
        "missing_firmware": None if messages is None else missing_firmware(messages, _firmware_finder(root)),
        "messages": _kmsg.matching(messages, _SPEAKER),
    }


def read_adapters(root: str, ask: t.Callable[[str], Facts]) -> list[Facts]:
    """Adapters by number, from /sys/class/dvb; ask gets the path of a frontend and answers as ask_frontend does."""
    folder = _sysfs.below(root, "/sys/class/dvb")
    adapters: dict[int, list[tuple[str, int]]] = {}
    for name in _sysfs.names(folder):
        found = _CLASS_DEVICE.fullmatch(name)
        if found:
            adapters.setdefault(int(found[1]), []).append((found[2], int(found[3])))
    return [_adapter(folder, number, sorted(devices), ask) for number, devices in sorted(adapters.items())]


def ask_frontend(path: str) -> Facts:
    """What FE_GET_INFO and DTV_ENUM_DELSYS say of a frontend; or why nobody could ask, as error.

    Where the frontends of an adapter share a tuner and another of them is in use, open() waits for dvb_core's
    dvb_mfe_wait_time, five seconds, and fails with EBUSY.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return {**_unknown(path), "error": f"{path}: {error.strerror}"}
    try:
        info = bytearray(_INFO.size)
        fcntl.ioctl(descriptor, _FE_GET_INFO, info)
        asked = b"".join(_PROPERTY.pack(command, b"", 0, 0) for command in (_DTV_ENUM_DELSYS, _DTV_DELIVERY_SYSTEM))
        properties = array.array("B", asked)
        fcntl.ioctl(descriptor, _FE_GET_PROPERTY, _PROPERTIES.pack(2, properties.buffer_info()[0]))
    except OSError as error:
        return {**_unknown(path), "error": f"{path}: {error.strerror}"}
    finally:
        os.close(descriptor)
    return decode(bytes(info), properties.tobytes())


def decode(info: bytes, properties: bytes) -> Facts:
    """The facts of a frontend from struct dvb_frontend_info and two struct dtv_property.

    The first property is DTV_ENUM_DELSYS; the second DTV_DELIVERY_SYSTEM, on which the unit of the frequencies depends.
    Frequencies are in Hz, symbol rates in symbols per second; a limit of 0 is none, and so None.
    """
    name, _type, lowest, highest, _step, _tolerance, slowest, fastest, *_rest = _INFO.unpack(info)
    systems, current = _PROPERTY.iter_unpack(properties)
    unit = 1000 if _system(int.from_bytes(current[1][:4], sys.byteorder)) in _SATELLITE else 1
    return {
        "name": name.split(b"\0")[0].decode("utf-8", "replace"),
        "delivery_systems": [_system(number) for number in systems[1][: systems[2]]],
        "frequency_min": lowest * unit or None,
        "frequency_max": highest * unit or None,
        "symbol_rate_min": slowest or None,
        "symbol_rate_max": fastest or None,
        "error": None,
    }


def missing_firmware(messages: list[_kmsg.Message], there: t.Callable[[str], bool]) -> list[Facts]:
    """The files that DVB drivers asked for in vain, in the order of the kernel's messages about them.

    Left out is what was loaded later, and what there(file) says is there by now: [{file, driver, message}].
    """
    missing: dict[str, str] = {}
    tried: dict[str, dict[str, str]] = {}  # by who asks, the files that nobody has called missing yet
    for _time, _level, text in messages:
        if not _SPEAKER.search(text):
            continue
        asker = text.partition(": ")[0]
        loaded, absent, attempt = _LOADED.search(text), _ABSENT.search(text), _TRIED.search(text)
        if loaded:
            for file in (_file(loaded), *tried.pop(asker, {})):
                missing.pop(file, None)
        elif absent:
            missing.setdefault(_file(absent), text)
            tried.get(asker, {}).pop(_file(absent), None)
        elif attempt:
            tried.setdefault(asker, {})[_file(attempt)] = text
        elif _GAVE_UP.search(text):
            missing.update(tried.get(asker, {}))
    return [
        {"file": file, "driver": _driver(text), "message": text} for file, text in missing.items() if not there(file)
    ]


def _adapter(folder: str, number: int, devices: list[tuple[str, int]], ask: t.Callable[[str], Facts]) -> Facts:
    """An adapter and its devices; any of them shows whose it is, which one on USB has without an address."""
    kind, index = devices[0]
    owner = _owner(f"{folder}/dvb{number}.{kind}{index}/device")
    on_pci = _sysfs.link_name(f"{owner}/subsystem") == "pci"
    frontends = [index for kind, index in devices if kind == "frontend"]
    return {
        "number": number,
        "address": os.path.basename(owner) if on_pci else None,
        "driver": _sysfs.link_name(f"{owner}/driver"),
        "devices": [f"{kind}{index}" for kind, index in devices],
        "frontends": [{"number": index, **ask(f"/dev/dvb/adapter{number}/frontend{index}")} for index in frontends],
    }


def _owner(device: str) -> str:
    """The device that an adapter is part of: its parent, or what that is part of where it is but an I2C bus."""
    place = os.path.realpath(device)
    while _sysfs.link_name(f"{place}/subsystem") == "i2c":
        place = os.path.dirname(place)
    return place


def _unknown(_path: str) -> Facts:
    keys = ("name", "delivery_systems", "frequency_min", "frequency_max", "symbol_rate_min", "symbol_rate_max", "error")
    return dict.fromkeys(keys)


def _system(number: int) -> str:
    return _SYSTEMS[number] if number < len(_SYSTEMS) else str(number)


def _file(found: t.Match[str]) -> str:
    return next(group for group in found.groups() if group)


def _driver(text: str) -> str | None:
    found = _DRIVER.match(text)
    return found[1] if found else None


def _firmware_finder(root: str) -> t.Callable[[str], bool]:
    """Tells whether a firmware file is where the kernel looks for it (drivers/base/firmware_loader/main.c)."""
    release = _sysfs.read_text(_sysfs.below(root, "/proc/sys/kernel/osrelease")) or ""
    custom = _sysfs.read_text(_sysfs.below(root, "/sys/module/firmware_class/parameters/path"))
    folders = [f"{folder}/{part}" for folder in ("/lib/firmware/updates", "/lib/firmware") for part in (release, "")]
    places = [_sysfs.below(root, folder) for folder in (*folders, custom) if folder]

    def there(file: str) -> bool:
        return any(os.path.isfile(f"{place}/{file}{ending}") for place in places for ending in ("", ".zst", ".xz"))

    return there
