# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disks of a guest as the inventory has them, with everything filled in that it may leave out."""

from __future__ import annotations

import posixpath
import re
import typing as t
from collections.abc import Mapping, Sequence

# A bus and how its disks are called in a definition (https://libvirt.org/formatdomain.html, target).
BUSES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd"}
FORMATS = ("qcow2", "raw")
_KEYS = ("name", "size", "bus", "serial", "path", "format")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_SIZE = re.compile(r"[1-9][0-9]*[KMGT]?\Z")
_SERIAL = re.compile(r"[A-Za-z0-9_.-]+\Z")
_SERIAL_ROOM = 20  # bytes of a virtio disk's serial (VIRTIO_BLK_ID_BYTES), of which udev makes /dev/disk/by-id/virtio-*

Disk = t.Dict[str, t.Any]
"""{name, path, size (as written, '' for none), format, bus, serial ('' for none), target}"""


def complete(guest: str, system: t.Mapping[str, t.Any], data: t.Any) -> tuple[list[Disk], list[str]]:
    """The system disk and the data disks, as far as they can be told, and what is wrong with them.

    A data disk lies beside the system disk and bears the guest's name and its own, unless it has a path.
    """
    if isinstance(data, (str, Mapping)) or not isinstance(data, Sequence):
        return [dict(system)], [f"kvm_guest_data_disks is {data!r}; it is a list of disks, each with name and size"]
    folder = posixpath.dirname(str(system["path"]))
    disks, faults = [dict(system)], [*_faults_of("kvm_guest_disk", system)]
    for number, raw in enumerate(data):
        where = f"kvm_guest_data_disks[{number}]"
        if not isinstance(raw, Mapping):
            faults.append(f"{where} is {raw!r}; write it as {{name: recordings, size: 100G}}")
            continue
        disk = _filled_in(guest, folder, raw)
        faults += [f"{where} has the unknown key {key}; keys are {', '.join(_KEYS)}" for key in raw if key not in _KEYS]
        faults += _faults_of(where, disk)
        disks.append(disk)
    for key in ("name", "path", "serial"):
        values = [disk[key] for disk in disks if disk[key]]
        faults += [
            f"two of the guest's disks have the {key} {value}; give each its own"
            for value in sorted(set(values))
            if values.count(value) > 1
        ]
    return _with_targets(disks), faults


def _filled_in(guest: str, folder: str, raw: t.Mapping[str, t.Any]) -> Disk:
    name = str(raw.get("name") or "")
    form = str(raw.get("format") or ("raw" if str(raw.get("path") or "").startswith("/dev/") else "qcow2"))
    return {
        "name": name,
        "path": str(raw.get("path") or f"{folder}/{guest}-{name}.{form}"),
        "size": str(raw.get("size") or ""),
        "format": form,
        "bus": str(raw.get("bus") or "virtio"),
        "serial": str(raw.get("serial") or name),
    }


def _faults_of(where: str, disk: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if not _NAME.match(disk["name"]):
        yield f"{where} has the name {disk['name']!r}; a name takes letters, digits and _ . -"
    if not disk["path"].startswith("/"):
        yield f"{where} has the path {disk['path']!r}; it must begin with /"
    if disk["size"] and not _SIZE.match(disk["size"]):
        yield f"{where} has the size {disk['size']!r}; write a whole number of K, M, G or T, such as 20G"
    if disk["format"] not in FORMATS:
        yield f"{where} has the format {disk['format']}; formats are {' and '.join(FORMATS)}"
    if disk["bus"] not in BUSES:
        yield f"{where} is on the bus {disk['bus']}; buses are {', '.join(BUSES)}"
    if disk["serial"] and not (_SERIAL.match(disk["serial"]) and len(disk["serial"]) <= _SERIAL_ROOM):
        yield (
            f"{where} has the serial {disk['serial']!r}; a serial has at most {_SERIAL_ROOM} letters, digits and _ . -"
        )


def _with_targets(disks: list[Disk]) -> list[Disk]:
    """Each with a name on its bus: vda, vdb, sda. A definition that has the disk already keeps its own."""
    taken: dict[str, int] = {}
    for disk in disks:
        prefix = BUSES.get(disk["bus"], "vd")
        number = taken.get(prefix, 0)
        taken[prefix] = number + 1
        disk["target"] = prefix + (chr(ord("a") + number) if number < 26 else "a" + chr(ord("a") + number - 26))
    return disks
