# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for qemu-img and virsh: images are files that hold what qemu-img would tell of them.

A qcow2 image is its JSON; anything else is raw, and as large as the file. Messages are those of QEMU 11.1. Like
qemu-img, it writes into the file that is there.
"""

from __future__ import annotations

import json
import os
import typing as t

Answer = t.Tuple[int, str, str]


def locked(path: str, what: str) -> OSError:
    """What qemu-img says of an image that another process has open."""
    return OSError(f"Could not open '{path}': Failed to get {what} lock\nIs another process using the image [{path}]?")


class FakeTools:
    """Runs commands as _disk.bounded does, and remembers them."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        # The guest's XML by its name, and the disks that some process has open.
        self.guests: dict[str, str] = {}
        self.locked: set[str] = set()

    def run(self, argv: list[str], timeout: float | None) -> Answer:
        tool, *args = argv
        self.calls.append([os.path.basename(tool), *args])
        try:
            return 0, self._virsh(args) if tool.endswith("virsh") else self._qemu_img(args), ""
        except OSError as error:
            return 1, "", f"{os.path.basename(tool)}: {error.args[-1]}\n"

    def _qemu_img(self, args: list[str]) -> str:
        verb, path, given = args[0], args[-1], dict(zip(args, args[1:]))
        if verb == "info":
            if path in self.locked and "--force-share" not in args:
                raise locked(path, 'shared "write"')
            return json.dumps(self._read(path))
        if verb == "create":
            path, size = args[-2:]
            backing = {"full-backing-filename": given["-b"]} if "-b" in given else {}
            self._write(path, given["-f"], int(size), backing)
        elif verb == "convert":
            image = self._read(args[-2])
            self._write(path, given["-O"], image["virtual-size"], {})
        else:
            path, size = args[-2:]
            image = self._read(path)
            if path in self.locked:
                raise locked(path, '"write"')
            if int(size) < image["virtual-size"]:
                raise OSError("Use the --shrink option to perform a shrink operation.")
            self._grow(path, int(size))
        return ""

    def _virsh(self, args: list[str]) -> str:
        given = dict(zip(args, args[1:]))
        name = given["--domain"]
        if name not in self.guests:
            raise OSError(f"error: failed to get domain '{name}'")
        if "dumpxml" in args:
            return self.guests[name]
        path = self.guests[name].partition("<source file='")[2].partition("'")[0]
        assert given["--path"] in self.guests[name]
        assert given["--size"].endswith("B")
        self._grow(path, int(given["--size"][:-1]))
        return f"Block device '{given['--path']}' is resized\n"

    def _read(self, path: str) -> dict[str, t.Any]:
        try:
            with open(path, "rb") as image:
                content = image.read(4096)
        except OSError as error:
            raise OSError(f"Could not open '{path}': {error.strerror}") from error
        if content.startswith(b'{"format"'):
            return json.loads(content)
        return {"format": "raw", "virtual-size": -(-os.path.getsize(path) // 512) * 512}

    def _write(self, path: str, form: str, size: int, backing: dict[str, str]) -> None:
        text = json.dumps({"format": form, "virtual-size": size, **backing}) if form != "raw" else ""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, text.encode())
        if form == "raw":
            os.ftruncate(descriptor, size)
        os.close(descriptor)

    def _grow(self, path: str, size: int) -> None:
        image = self._read(path)
        if image["format"] == "raw":
            os.truncate(path, size)
        else:
            backing = {key: value for key, value in image.items() if key == "full-backing-filename"}
            self._write(path, image["format"], size, backing)


def running(name: str, path: str, target: str = "vda", number: str = " id='3'") -> str:
    """A guest with a disk, as virsh dumpxml tells of it; one that does not run has no id."""
    return (
        f"<domain type='kvm'{number}><name>{name}</name><devices><disk type='file' device='cdrom'>"
        f"<target dev='sda' bus='sata'/></disk><disk type='file' device='disk'><source file='{path}' index='1'/>"
        f"<backingStore type='file'><source file='/images/base.qcow2'/></backingStore>"
        f"<target dev='{target}' bus='virtio'/></disk></devices></domain>"
    )
