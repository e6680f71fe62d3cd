# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person sits at, or a program minds the machine by: consoles, keyboards, displays, sound, the platform."""

from __future__ import annotations

import re
import typing as t

from ._sysfs import below, link_name, names, read_int, read_text
from ._use import DEVICES, Found, Use, addresses, is_vfio, listed, stands_in, whole

_DRM = "/sys/class/drm"
_INPUT = "/proc/bus/input/devices"
# Every key from Escape to S: what udev calls a keyboard too (udev-builtin-input_id.c), unlike a power button.
_FIRST_KEYS = re.compile(r"f{7}[ef]\s*\Z")
# A line of a DRM device's clients: the command's name may hold blanks (drm_debugfs.c: drm_clients_info).
_CLIENT = re.compile(r"\s*(\S.*?)\s+(\d+)\s+\d+\s+[yn]\s")


def uses(root: str, classes: t.Mapping[str, str]) -> Found:
    """Consoles, the only keyboard, the only display, a display in use, and what the platform is minded by.

    classes are those of the PCI devices by address: 030000.
    """
    yield from _consoles(root)
    keyboards = list(_keyboards(root))
    if _together(root, keyboards):
        for path, name, evidence in keyboards:
            yield path, Use("keyboard", f"carries the only keyboard ({name})", evidence)
    yield from _displays(root, classes)
    yield from _clients(root)
    yield from _platform(root, classes)


def soft_uses(root: str) -> Found:
    """One keyboard of several, screens, sound cards, and what else minds the platform."""
    keyboards = list(_keyboards(root))
    if not _together(root, keyboards):
        for path, name, evidence in keyboards:
            yield path, Use("spare_keyboard", f"carries a keyboard of the host ({name})", evidence)
    yield from _screens(root)
    yield from _sound(root)
    yield from _helpers(root)


def _consoles(root: str) -> Found:
    """Serial ports on which the kernel has a console (/sys/class/tty/console/active); tty0 is no device."""
    active = read_text(below(root, "/sys/class/tty/console/active")) or ""
    for name in active.split():
        use = Use("console", f"carries the console {name}", f"/sys/class/tty/console/active: {active}")
        yield f"/sys/class/tty/{name}", use


def _keyboards(root: str) -> t.Iterator[tuple[str, str, str]]:
    """Place below /sys, name and evidence of each keyboard (drivers/input/input.c: input_devices_seq_show)."""
    for block in whole(root, _INPUT).split("\n\n"):
        field = dict(line[3:].partition("=")[::2] for line in block.splitlines() if line[1:3] == ": ")
        handlers, keys = field.get("Handlers", ""), field.get("KEY", "")
        if "kbd" not in handlers.split() or not _FIRST_KEYS.search(keys):
            continue
        evidence = f"{_INPUT}: Sysfs={field.get('Sysfs', '')} Handlers={handlers.strip()}"
        yield f"/sys{field.get('Sysfs', '')}", field.get("Name", "").strip('"'), evidence


def _together(root: str, keyboards: t.Sequence[tuple[str, str, str]]) -> bool:
    """Whether all keyboards are behind one PCI device."""
    behind = {(addresses(root, path) or [""])[-1] for path, _name, _evidence in keyboards}
    return len(behind) == 1 and "" not in behind


def _displays(root: str, classes: t.Mapping[str, str]) -> Found:
    """The display that the firmware started on (boot_vga), where the host has no other.

    A 3D controller (class 0302) has no outlet, and a display on a vfio driver is no longer the host's.
    """
    displays = [
        address
        for address, shown in classes.items()
        if shown.startswith(("0300", "0380"))
        and not is_vfio(link_name(below(root, f"{DEVICES}/{address}/driver")) or "")
    ]
    if len(displays) == 1 and read_int(below(root, f"{DEVICES}/{displays[0]}/boot_vga")) == 1:
        use = Use("display", "is the only display of the host", f"{DEVICES}/{displays[0]}/boot_vga: 1")
        yield displays[0], use


def _clients(root: str) -> Found:
    """Displays that a process has open, as debugfs tells root, so that nobody's open files need be searched."""
    for card in names(below(root, _DRM)):
        minor = re.fullmatch(r"card(\d+)", card)
        if not minor:
            continue
        path = f"/sys/kernel/debug/dri/{minor.group(1)}/clients"
        lines = [line for line in whole(root, path).splitlines() if _CLIENT.match(line)]
        found = [match.groups() for match in map(_CLIENT.match, lines) if match]
        if found:
            who = list(dict.fromkeys(f"{command} (process {number})" for command, number in found))
            use = Use("drm", f"is used by {listed(who)}", f"{path}: {lines[0].strip()}")
            yield f"{_DRM}/{card}", use


def _platform(root: str, classes: t.Mapping[str, str]) -> Found:
    """Chipset that the host is minded by: the management engine's interface, and the bus of sensors and memory."""
    for address, shown in classes.items():
        if not shown.startswith(("0780", "0c05")):
            continue
        driver = link_name(below(root, f"{DEVICES}/{address}/driver")) or ""
        # Class 0780 holds other cards as well, such as telephony cards.
        if shown.startswith("0780") and driver not in ("mei_me", "mei_txe"):
            continue
        if driver and not stands_in(driver):
            what = "the SMBus" if shown.startswith("0c05") else "the management engine"
            use = Use("platform", f"is {what} of the host ({driver})", f"{DEVICES}/{address}/driver: {driver}")
            yield address, use


def _screens(root: str) -> Found:
    """Displays that show something: connectors with a screen that are on, and the text console.

    status is what the kernel knows already: reading it asks no screen (drivers/gpu/drm/drm_sysfs.c: status_show).
    """
    screens: dict[str, list[str]] = {}
    for name in names(below(root, _DRM)):
        card, dash, connector = name.partition("-")
        path = below(root, f"{_DRM}/{name}")
        if dash and read_text(path + "/status") == "connected" and read_text(path + "/enabled") == "enabled":
            screens.setdefault(card, []).append(connector)
    for card, connectors in screens.items():
        evidence = f"{_DRM}/{card}-{connectors[0]}: connected, enabled"
        yield f"{_DRM}/{card}", Use("screen", f"drives a screen ({listed(connectors)})", evidence)
    for console in names(below(root, "/sys/class/vtconsole")):
        path = f"/sys/class/vtconsole/{console}"
        if "frame buffer" in (read_text(below(root, f"{path}/name")) or "") and read_int(below(root, f"{path}/bind")):
            yield "/sys/class/graphics/fb0", Use("screen", "shows the text console (fb0)", f"{path}/bind: 1")


def _sound(root: str) -> Found:
    """Sound cards. A sound server keeps their controls open, which no file tells, and the unbind waits for it."""
    for card in names(below(root, "/sys/class/sound")):
        path = f"/sys/class/sound/{card}"
        if re.fullmatch(r"card\d+", card):
            title = read_text(below(root, f"{path}/id"))
            shown = f"{card}, {title}" if title else card
            yield path, Use("sound", f"carries a sound card of the host ({shown})", path)


def _helpers(root: str) -> Found:
    """Watchdogs, management controllers and TPMs, where they are on PCI."""
    for kind, what in (("watchdog", "watchdog"), ("ipmi", "management controller"), ("tpm", "TPM")):
        for name in names(below(root, f"/sys/class/{kind}")):
            path = f"/sys/class/{kind}/{name}"
            yield path, Use("helper", f"carries a {what} of the host ({name})", path)
