# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _disk
from ansible_collections.kvm.passthrough.plugins.module_utils._disk import (
    ABSENT,
    BLOCK,
    DANGLING,
    FILE,
    Disk,
    Host,
    Request,
    Tools,
    apply,
    bounded,
    decide,
    look,
    parse_size,
    spell,
)
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, InvalidInput, PassthroughError
from ansible_collections.kvm.passthrough.tests.unit.disk_host import FakeTools, running

M, G = 2**20, 2**30
REAL = shutil.which("qemu-img")
needs_qemu_img = pytest.mark.skipif(REAL is None, reason="qemu-img is not installed")


def parse(path: t.Any, **given: t.Any) -> Request:
    """A request as the module makes it."""
    options = {
        "size": None,
        "format": "qcow2",
        "image": None,
        "image_format": "qcow2",
        "copy": False,
        "guest": None,
        "uri": "qemu:///system",
        **given,
    }
    return Request.parse(path=str(path), **{key: str(v) if isinstance(v, Path) else v for key, v in options.items()})


@pytest.fixture
def fake() -> FakeTools:
    return FakeTools()


@pytest.fixture(params=["fake", pytest.param("real", marks=needs_qemu_img)])
def tools(request: pytest.FixtureRequest, fake: FakeTools) -> Tools:
    """qemu-img as it is installed, and one that stands in for it."""
    if request.param == "real":
        return Tools(REAL, None, bounded)
    return Tools("/usr/bin/qemu-img", "/usr/bin/virsh", fake.run)


@pytest.fixture
def folder(tmp_path: Path, tools: Tools) -> Path:
    """A folder with the images base.qcow2 and base.raw, of 4 MiB."""
    for form in ("qcow2", "raw"):
        tools.image("base", ["create", "-q", "-f", form, str(tmp_path / f"base.{form}"), str(4 * M)])
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("base."))


@contextlib.contextmanager
def untouched(path: Path) -> t.Iterator[None]:
    """Whatever happens, this file keeps its content, its inode, its mode and its time."""

    def told() -> tuple[t.Any, ...]:
        status = path.stat()
        return path.read_bytes(), status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink

    before = told()
    yield
    assert told() == before


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size", "spelled"),
        [
            ("20G", 20 * G, "20G"),
            ("512m", 512 * M, "512M"),
            ("1024K", M, "1M"),
            ("2T", 2048 * G, "2T"),
            ("1073741824", G, "1G"),
            ("512", 512, "512"),
            ("513", 1024, "1K"),
            ("1", 512, "512"),
        ],
    )
    def test_a_size_in_bytes(self, text: str, size: int, spelled: str) -> None:
        assert parse_size(text) == size
        assert spell(size) == spelled
        assert parse_size(spelled) == size

    @pytest.mark.parametrize("text", ["1.5T", "20GB", "20GiB", "-1", "0", "G", "20 G", "1e9", "20G\n", "٢G", "+5G"])
    def test_what_is_no_size(self, text: str) -> None:
        with pytest.raises(InvalidInput) as error:
            parse_size(text)
        assert str(error.value) == (
            f"{text!r} is no size of a disk. Write a whole number of K, M, G or T (powers of 1024), such as 20G, or of"
            f" bytes"
        )


class TestRequest:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"path": ""}, "path is empty; write the whole path of a file, as /srv/guests/fax1.qcow2"),
            ({"path": "fax1.qcow2"}, "path is 'fax1.qcow2'; write the whole path of a file"),
            ({"path": "/srv/"}, "path is '/srv/'; write the whole path of a file"),
            ({"path": "/srv/a", "image": "b"}, "image is 'b'; write the whole path of a file"),
            (
                {"path": "/srv/a", "image": "/srv/../srv/a"},
                "path and image are both /srv/a; give the guest a disk of its own",
            ),
            (
                {"path": "/srv/a", "image": "/srv/b", "format": "raw"},
                "/srv/a cannot be an overlay, which no raw disk is: set copy: true, or format: qcow2",
            ),
            ({"path": "/srv/a", "size": "much"}, "'much' is no size of a disk"),
        ],
    )
    def test_what_cannot_be_meant(self, given: dict[str, str], message: str) -> None:
        with pytest.raises(InvalidInput) as error:
            parse(**given)
        assert message in str(error.value)

    def test_an_empty_string_is_nothing(self) -> None:
        assert parse("/srv/a", size="", image="") == Request("/srv/a")


class TestDecide:
    """What is there and what is asked for, as data."""

    ASKED = Request("/srv/a", 20 * G, image="/srv/base")
    BASE = Disk(4 * G, "qcow2")

    @pytest.mark.parametrize(
        ("asked", "host", "do", "after", "action"),
        [
            (
                ASKED,
                Host(ABSENT, image=BASE, image_kind=FILE),
                "overlay",
                Disk(20 * G, "qcow2", "/srv/base"),
                "make /srv/a, an overlay of 20G on /srv/base",
            ),
            (
                replace(ASKED, size=None),
                Host(ABSENT, image=BASE, image_kind=BLOCK),
                "overlay",
                Disk(4 * G, "qcow2", "/srv/base"),
                "make /srv/a, an overlay of 4G on /srv/base",
            ),
            (
                replace(ASKED, size=None, copy=True, format="raw"),
                Host(ABSENT, image=BASE, image_kind=FILE),
                "copy",
                Disk(4 * G, "raw"),
                "make /srv/a, a copy of 4G of /srv/base",
            ),
            (
                Request("/srv/a", 20 * G),
                Host(ABSENT),
                "empty",
                Disk(20 * G, "qcow2"),
                "make /srv/a, an empty disk of 20G",
            ),
            (
                ASKED,
                Host(FILE, Disk(10 * G, "qcow2", "/srv/base"), on_image=True),
                "resize",
                Disk(20 * G, "qcow2", "/srv/base"),
                "grow /srv/a from 10G to 20G",
            ),
            (
                replace(ASKED, guest="fax1"),
                Host(FILE, Disk(10 * G, "qcow2", "/srv/base"), on_image=True, attached="vda"),
                "blockresize",
                Disk(20 * G, "qcow2", "/srv/base"),
                "grow /srv/a from 10G to 20G in the running fax1",
            ),
            (
                ASKED,
                Host(FILE, Disk(20 * G, "qcow2", "/srv/base"), on_image=True),
                "",
                Disk(20 * G, "qcow2", "/srv/base"),
                None,
            ),
            (Request("/srv/a"), Host(FILE, Disk(5 * G, "qcow2")), "", Disk(5 * G, "qcow2"), None),
            (Request("/dev/vg/a", 5 * G, "raw"), Host(BLOCK, Disk(5 * G, "raw")), "", Disk(5 * G, "raw"), None),
            (Request("/srv/link", 4 * G, "raw"), Host(BLOCK, Disk(5 * G, "raw")), "", Disk(5 * G, "raw"), None),
            (Request("/dev/vg/a", None, "raw"), Host(BLOCK, Disk(5 * G, "raw")), "", Disk(5 * G, "raw"), None),
        ],
    )
    @pytest.mark.parametrize("check", [False, True])
    def test_plans(self, asked: Request, host: Host, do: str, after: Disk, action: str | None, check: bool) -> None:
        plan = decide(asked, host, check)
        assert (plan.do, plan.after, plan.warnings) == (do, after, ())
        assert plan.actions(asked) == ([action] if action else [])

    @pytest.mark.parametrize("check", [False, True])
    @pytest.mark.parametrize(
        ("asked", "host", "message"),
        [
            (
                Request("/srv/a", 20 * G),
                Host(FILE, Disk(40 * G, "qcow2")),
                "/srv/a has 40G, more than the 20G asked for, and a disk is never shrunk: ask for 40G or more",
            ),
            (
                Request("/srv/a"),
                Host(FILE, Disk(40 * G, "raw"), length=40 * G),
                "/srv/a is there and is raw, not qcow2; it is left as it is. Name another path, or move it away",
            ),
            (Request("/srv/a"), Host(FILE, Disk(0, "raw")), "/srv/a is there and is empty, not qcow2;"),
            (Request("/srv/a", None, "raw"), Host(FILE, Disk(G, "vmdk"), length=9), "is vmdk, not raw"),
            (
                Request("/etc/fstab", G, "raw"),
                Host(FILE, Disk(1024, "raw"), length=700),
                "/etc/fstab has 700 bytes, no multiple of 512, so that it is hardly a disk; it is left as it is",
            ),
            (
                Request("/srv/a", G),
                Host("a folder"),
                "/srv/a is a folder, and is left as it is; name another path, or move it away",
            ),
            (Request("/srv/a", G), Host(DANGLING), "/srv/a is a symbolic link to what is not there, and is left as it"),
            (
                Request("/srv/a"),
                Host(ABSENT),
                "/srv/a is not there, and without size or image it cannot be made; set one of them",
            ),
            (
                Request("/srv/a", image="/srv/base", image_format="raw"),
                Host(ABSENT, image=BASE, image_kind=FILE),
                "the image /srv/base for /srv/a is qcow2, not raw: set image_format: qcow2",
            ),
            (
                Request("/srv/a", image="/srv/base"),
                Host(ABSENT, image=Disk(G, "vmdk"), image_kind=FILE),
                "the image /srv/base for /srv/a is vmdk, not qcow2: convert it first (qemu-img convert)",
            ),
            (
                Request("/srv/a", 2 * G, image="/srv/base"),
                Host(ABSENT, image=BASE, image_kind=FILE),
                "the image /srv/base has 4G, more than the 2G asked for /srv/a: ask for 4G or more",
            ),
            (
                Request("/srv/a", image="/srv"),
                Host(ABSENT, image_kind="a folder"),
                "the image /srv for /srv/a is a folder; name a file or a block device",
            ),
            (
                Request("/dev/vg/a", None, "raw"),
                Host(ABSENT),
                "/dev/vg/a is not there; a path below /dev is a block device, which is used as it is and never made",
            ),
            (Request("/dev/shm/a", G), Host(FILE, Disk(G, "qcow2")), "/dev/shm/a is a file; a path below /dev is a"),
            (
                Request("/dev/vg/a", 6 * G, "raw"),
                Host(BLOCK, Disk(5 * G, "raw")),
                "/dev/vg/a has 5G, less than the 6G asked for, and a block device is used as it is: make it larger"
                " first, or ask for 5G or less",
            ),
            (
                Request("/dev/vg/a"),
                Host(BLOCK, Disk(5 * G, "raw")),
                "/dev/vg/a is a block device, used as it is and not as qcow2: set format: raw",
            ),
            (
                Request("/dev/vg/a", None, "raw", "/srv/base"),
                Host(BLOCK, Disk(5 * G, "raw")),
                "/dev/vg/a is a block device, which is never written, so that nothing of /srv/base gets there: leave"
                " image out, or name a file as path",
            ),
        ],
    )
    def test_refusals(self, asked: Request, host: Host, message: str, check: bool) -> None:
        with pytest.raises(PassthroughError) as error:
            decide(asked, host, check)
        assert message in str(error.value)

    @pytest.mark.parametrize(
        ("asked", "host", "warning"),
        [
            (ASKED, Host(FILE, Disk(20 * G, "qcow2", "/srv/base"), on_image=True), None),
            (
                ASKED,
                Host(FILE, Disk(20 * G, "qcow2", "/srv/old")),
                "/srv/a stands on /srv/old, not on /srv/base; it is kept as it is",
            ),
            (
                ASKED,
                Host(FILE, Disk(20 * G, "qcow2")),
                "/srv/a stands on no image, not on /srv/base; it is kept as it is",
            ),
            (
                replace(ASKED, copy=True),
                Host(FILE, Disk(20 * G, "qcow2", "/srv/base"), on_image=True),
                "/srv/a is an overlay on /srv/base, not a copy of /srv/base; it is kept as it is",
            ),
            (replace(ASKED, copy=True), Host(FILE, Disk(20 * G, "qcow2")), None),
            (Request("/srv/a"), Host(FILE, Disk(20 * G, "qcow2", "/srv/base")), None),
        ],
    )
    def test_another_image_is_kept_and_named(self, asked: Request, host: Host, warning: str | None) -> None:
        plan = decide(asked, host, False)
        assert (plan.do, list(plan.warnings)) == ("", [warning] if warning else [])
        growing = decide(replace(asked, size=30 * G), host, False)
        assert (growing.do, growing.warnings) == ("resize", plan.warnings)

    @pytest.mark.parametrize(
        ("asked", "host", "after", "action", "failure"),
        [
            (
                replace(ASKED, size=None),
                Host(ABSENT),
                Disk(None, "qcow2", "/srv/base"),
                "make /srv/a, an overlay on /srv/base",
                "the image /srv/base for /srv/a is not there; bring it there first",
            ),
            (
                replace(ASKED, copy=True),
                Host(ABSENT),
                Disk(20 * G, "qcow2"),
                "make /srv/a, a copy of 20G of /srv/base",
                "the image /srv/base for /srv/a is not there",
            ),
            (
                Request("/srv/a", G),
                Host(ABSENT, qemu_img=False),
                Disk(G, "qcow2"),
                "make /srv/a, an empty disk of 1G",
                "qemu-img is not installed; install the package qemu-utils (Debian, Ubuntu) or qemu-img (RHEL, Fedora)",
            ),
            (
                replace(ASKED, size=None),
                Host(ABSENT, image_kind=FILE, qemu_img=False),
                Disk(None, "qcow2", "/srv/base"),
                "make /srv/a, an overlay on /srv/base",
                "qemu-img is not installed",
            ),
        ],
    )
    def test_check_mode_takes_what_is_to_come_for_there(
        self, asked: Request, host: Host, after: Disk, action: str, failure: str
    ) -> None:
        plan = decide(asked, host, True)
        assert (plan.after, plan.actions(asked), plan.warnings) == (after, [action], ())
        with pytest.raises(PassthroughError) as error:
            decide(asked, host, False)
        assert failure in str(error.value)

    def test_a_folder_that_is_not_there(self) -> None:
        asked, host = Request("/srv/guests/a", G), Host(ABSENT, folder=False)
        plan = decide(asked, host, True)
        warning = "the folder /srv/guests is not there; without an earlier task that makes it, no disk can be made"
        assert (plan.do, plan.warnings) == ("empty", (warning,))
        with pytest.raises(PassthroughError, match="the folder /srv/guests of a is not there; make it first"):
            decide(asked, host, False)

    def test_a_disk_that_nothing_can_read(self) -> None:
        asked, host = Request("/srv/a", G), Host(FILE, qemu_img=False)
        plan = decide(asked, host, True)
        assert (plan.do, plan.after) == ("", Disk())
        assert plan.warnings[0].startswith("/srv/a cannot be looked at, since qemu-img is not installed")
        with pytest.raises(HostFailure, match="qemu-img is not installed"):
            decide(asked, host, False)


class TestLook:
    @pytest.mark.parametrize("kind", ["a folder", "a socket", "a named pipe", DANGLING, ABSENT, FILE])
    def test_what_is_at_a_path(self, tmp_path: Path, fake: FakeTools, kind: str) -> None:
        path = tmp_path / "disk"
        if kind == "a folder":
            path.mkdir()
        elif kind == "a named pipe":
            os.mkfifo(path)
        elif kind == DANGLING:
            path.symlink_to("nowhere")
        elif kind == FILE:
            path.write_bytes(bytes(1024))
        with socket.socket(socket.AF_UNIX) as bound:
            if kind == "a socket":
                # The path of a socket is short, that of a test may not be.
                descriptor = os.open(tmp_path, os.O_RDONLY)
                bound.bind(f"/proc/self/fd/{descriptor}/disk")
                os.close(descriptor)
            host = look(parse(path, size="1G"), Tools("/usr/bin/qemu-img", None, fake.run))
        assert (host.kind, host.folder) == (kind, True)
        assert host.disk == (Disk(1024, "raw") if kind == FILE else None)

    def test_a_path_below_a_file(self, tmp_path: Path, fake: FakeTools) -> None:
        (tmp_path / "file").touch()
        host = look(parse(tmp_path / "file/disk"), Tools("/usr/bin/qemu-img", None, fake.run))
        assert (host.kind, host.folder) == (ABSENT, False)

    def test_a_block_device_is_read_without_a_tool(self) -> None:
        devices = [entry.path for entry in os.scandir("/dev") if stat.S_ISBLK(entry.stat().st_mode)]
        device = next((path for path in devices if os.access(path, os.R_OK)), None)
        if device is None:
            pytest.skip("this machine has no block device, or it may not be read")
        host = look(parse(device), Tools(None, None, bounded))
        assert (host.kind, host.disk and host.disk.format) == (BLOCK, "raw")
        blocks = Path(f"/sys/class/block/{os.path.basename(device)}/size")
        if blocks.exists():
            assert host.disk == Disk(int(blocks.read_text()) * 512, "raw")

    @pytest.mark.parametrize(
        ("guest", "xml", "calls", "attached"),
        [
            ("fax1", running("fax1", "{path}"), 1, "vda"),
            ("fax1", running("fax1", "{link}", "sdb"), 1, "sdb"),
            ("fax1", running("fax1", "{path}", number=""), 1, None),
            ("fax1", running("fax1", "/srv/other.qcow2"), 1, None),
            ("fax1", "not XML", 1, None),
            ("fax2", running("fax1", "{path}"), 1, None),
            (None, running("fax1", "{path}"), 0, None),
        ],
    )
    def test_what_the_running_guest_calls_it(
        self, tmp_path: Path, fake: FakeTools, guest: str | None, xml: str, calls: int, attached: str | None
    ) -> None:
        path, link = tmp_path / "disk", tmp_path / "link"
        path.write_bytes(bytes(M))
        link.symlink_to(path)
        fake.guests["fax1"] = xml.format(path=path, link=link)
        tools = Tools("/usr/bin/qemu-img", "/usr/bin/virsh", fake.run)
        assert look(parse(path, size="2M", format="raw", guest=guest), tools).attached == attached
        assert len([call for call in fake.calls if call[0] == "virsh"]) == calls
        # Nobody is asked where nothing grows, or where there is no virsh.
        fake.calls.clear()
        assert look(parse(path, size="1M", format="raw", guest=guest), tools).attached is None
        assert look(parse(path, size="2M", guest=guest), Tools(tools.qemu_img, None, fake.run)).attached is None
        assert [call for call in fake.calls if call[0] == "virsh"] == []


class TestApply:
    """With the real qemu-img where it is installed."""

    @pytest.mark.parametrize(
        ("given", "size", "form", "image", "action"),
        [
            ({"image": "base.qcow2"}, 4 * M, "qcow2", "base.qcow2", "an overlay of 4M on "),
            ({"image": "base.qcow2", "size": "20M"}, 20 * M, "qcow2", "base.qcow2", "an overlay of 20M on "),
            ({"image": "base.raw", "image_format": "raw"}, 4 * M, "qcow2", "base.raw", "an overlay of 4M on "),
            ({"image": "base.qcow2", "copy": True}, 4 * M, "qcow2", None, "a copy of 4M of "),
            ({"image": "base.qcow2", "copy": True, "format": "raw"}, 4 * M, "raw", None, "a copy of 4M of "),
            (
                {"image": "base.raw", "image_format": "raw", "copy": True, "format": "raw", "size": "5000193"},
                5000704,
                "raw",
                None,
                "a copy of 5000704 of ",
            ),
            ({"size": "1T"}, 2**40, "qcow2", None, "an empty disk of 1T"),
            ({"size": "700", "format": "raw"}, 1024, "raw", None, "an empty disk of 1K"),
        ],
    )
    def test_made_as_predicted_and_then_kept(
        self,
        folder: Path,
        tools: Tools,
        given: dict[str, t.Any],
        size: int,
        form: str,
        image: str | None,
        action: str,
    ) -> None:
        path = folder / "fax1"
        if "image" in given:
            given = {**given, "image": folder / given["image"]}
        request = parse(path, **given)
        predicted = apply(request, tools, True, True)
        assert names(folder) == []
        done = apply(request, tools, False, True)
        assert done == predicted
        assert (done["changed"], done["size"], done["format"]) == (True, size, form)
        assert done["image"] == (str(folder / image) if image else None)
        assert done["actions"][0].startswith(f"make {path}, {action}")
        assert done["diff"]["before"] == "(none)\n"
        assert done["diff"]["after"].startswith(f"size: {spell(size)}\nformat: {form}\nimage: ")
        assert names(folder) == ["fax1"]
        assert (path.stat().st_mode & 0o777, path.stat().st_nlink) == (0o600, 1)
        assert tools.info(str(path)) == Disk(size, form, done["image"])
        with untouched(path):
            for check in (True, False):
                again = apply(request, tools, check, True)
                assert (again["changed"], again["actions"], again["warnings"]) == (False, [], [])
                assert again["diff"]["before"] == again["diff"]["after"] == done["diff"]["after"]
                assert (again["size"], again["format"], again["image"]) == (size, form, done["image"])

    @pytest.mark.parametrize("form", ["qcow2", "raw"])
    def test_grown_as_predicted_and_then_kept(self, folder: Path, tools: Tools, form: str) -> None:
        path = folder / "fax1"
        link = folder / "link"
        apply(parse(path, size="4M", format=form), tools, False, False)
        link.symlink_to(path)
        inode = path.stat().st_ino
        request = parse(link, size="8M", format=form, guest="fax1")
        with untouched(path):
            predicted = apply(request, tools, True, True)
        assert predicted["actions"] == [f"grow {link} from 4M to 8M"]
        assert predicted["diff"]["before"] == f"size: 4M\nformat: {form}\nimage: (none)\n"
        assert apply(request, tools, False, True) == predicted
        assert tools.info(str(path)) == Disk(8 * M, form)
        assert path.stat().st_ino == inode
        with untouched(path):
            assert apply(request, tools, False, False)["changed"] is False

    @needs_qemu_img
    def test_a_copy_holds_what_the_image_holds(self, tmp_path: Path) -> None:
        tools = Tools(REAL, None, bounded)
        content = os.urandom(M)
        (tmp_path / "base.raw").write_bytes(content)
        image = {"image": tmp_path / "base.raw", "image_format": "raw", "copy": True, "size": "2M"}
        apply(parse(tmp_path / "a.qcow2", **image), tools, False, False)
        apply(
            parse(tmp_path / "b.raw", image=tmp_path / "a.qcow2", copy=True, format="raw", size="3M"),
            tools,
            False,
            False,
        )
        assert (tmp_path / "b.raw").read_bytes() == content + bytes(2 * M)

    def test_grown_in_the_running_guest(self, tmp_path: Path, fake: FakeTools) -> None:
        tools = Tools("/usr/bin/qemu-img", "/usr/bin/virsh", fake.run)
        path = tmp_path / "fax1"
        apply(parse(path, size="4M"), tools, False, False)
        fake.guests["fax1"], fake.locked = running("fax1", str(path), "vdb"), {str(path)}
        request = parse(path, size="8M", guest="fax1")
        predicted = apply(request, tools, True, False)
        assert apply(request, tools, False, False) == predicted
        assert predicted["actions"] == [f"grow {path} from 4M to 8M in the running fax1"]
        words = ["blockresize", "--domain", "fax1", "--path", "vdb", "--size", "8388608B"]
        assert ["virsh", "--connect", "qemu:///system", *words] in fake.calls
        assert not [call for call in fake.calls if call[1] == "resize"]
        assert apply(request, tools, False, False)["changed"] is False

    def test_libvirt_refuses(self, tmp_path: Path, fake: FakeTools) -> None:
        path = tmp_path / "fax1"

        def run(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
            if "blockresize" in argv:
                return 1, "", "error: Operation not supported: virtio-blk is read-only\n\n"
            return fake.run(argv, timeout)

        tools = Tools("/usr/bin/qemu-img", "/usr/bin/virsh", run)
        apply(parse(path, size="4M"), tools, False, False)
        fake.guests["fax1"] = running("fax1", str(path))
        with untouched(path), pytest.raises(HostFailure) as error:
            apply(parse(path, size="8M", guest="fax1"), tools, False, False)
        assert str(error.value) == (
            f"{path} could not be grown in the running fax1: error: Operation not supported: virtio-blk is read-only"
        )

    def test_a_command_that_says_it_grew(self, tmp_path: Path, fake: FakeTools) -> None:
        def run(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
            return (0, "", "") if "resize" in argv else fake.run(argv, timeout)

        path = tmp_path / "fax1"
        tools = Tools("/usr/bin/qemu-img", None, run)
        apply(parse(path, size="4M"), tools, False, False)
        with pytest.raises(HostFailure) as error:
            apply(parse(path, size="8M"), tools, False, False)
        told = f"the command succeeded, but {path} is qcow2 of {4 * M} bytes, not qcow2 of {8 * M}"
        assert str(error.value) == told

    def test_only_a_copy_may_take_its_time(self, tmp_path: Path, fake: FakeTools) -> None:
        limits: dict[str, float | None] = {}

        def run(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
            limits[argv[1]] = timeout
            return fake.run(argv, timeout)

        tools = Tools("/usr/bin/qemu-img", None, run)
        apply(parse(tmp_path / "base", size="4M"), tools, False, False)
        apply(parse(tmp_path / "fax1", image=tmp_path / "base", copy=True), tools, False, False)
        assert limits == {"create": 600, "convert": None, "resize": 600, "info": 60}


class TestNothingIsLost:
    """Tries hard to have a disk that is there overwritten, truncated, shrunk, converted or deleted."""

    @pytest.mark.parametrize(
        ("there", "given", "message"),
        [
            # Foreign content
            (b"127.0.0.1 localhost\n", {"size": "8M"}, "is raw, not qcow2"),
            (b"127.0.0.1 localhost\n", {"size": "8M", "format": "raw"}, "20 bytes, no multiple of 512"),
            (b"127.0.0.1 localhost\n", {"image": "base.qcow2", "copy": True}, "is raw, not qcow2"),
            (b"", {"size": "8M"}, "is empty, not qcow2"),
            (b"", {"image": "base.qcow2"}, "is empty, not qcow2"),
            # Another format
            ("base.raw", {"size": "8M"}, "is raw, not qcow2"),
            ("base.raw", {"image": "base.qcow2"}, "is raw, not qcow2"),
            ("base.qcow2", {"size": "8M", "format": "raw"}, "is qcow2, not raw"),
            ("base.qcow2", {"image": "base.raw", "copy": True, "format": "raw"}, "is qcow2, not raw"),
            # A smaller size
            ("base.raw", {"size": "2M", "format": "raw"}, "has 4M, more than the 2M asked for"),
            ("base.qcow2", {"size": "2M"}, "has 4M, more than the 2M asked for"),
            ("base.qcow2", {"size": "1", "image": "base.qcow2", "copy": True}, "has 4M, more than the 512 asked for"),
            # Another image
            ("base.qcow2", {"image": "base.raw", "image_format": "raw"}, None),
            ("base.qcow2", {"image": "base.raw", "image_format": "raw", "copy": True, "size": "4M"}, None),
            ("base.qcow2", {"image": "nowhere"}, None),
            # The same
            ("base.qcow2", {}, None),
            ("base.raw", {"format": "raw", "size": "4194303"}, None),
        ],
    )
    @pytest.mark.parametrize("linked", [False, True])
    def test_what_is_there_stays(
        self,
        folder: Path,
        tools: Tools,
        there: bytes | str,
        given: dict[str, t.Any],
        message: str | None,
        linked: bool,
    ) -> None:
        path = asked = folder / "fax1"
        if isinstance(there, str):
            shutil.copy(folder / there, path)
        else:
            path.write_bytes(there)
        if linked:
            asked = folder / "link"
            asked.symlink_to(path)
        if "image" in given:
            given = {**given, "image": folder / given["image"]}
        with untouched(path), untouched(folder / "base.qcow2"), untouched(folder / "base.raw"):
            for check in (True, False):
                if message:
                    with pytest.raises(PassthroughError) as error:
                        apply(parse(asked, **given), tools, check, False)
                    assert message in str(error.value)
                    assert str(asked) in str(error.value)
                else:
                    assert apply(parse(asked, **given), tools, check, False)["changed"] is False
        assert names(folder) == (["fax1", "link"] if linked else ["fax1"])

    def test_one_that_comes_meanwhile(self, folder: Path, tools: Tools) -> None:
        path = folder / "fax1"

        def run(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
            if argv[1] == "convert":
                path.write_bytes(b"somebody else's")
            return tools.run(argv, timeout)

        request = parse(path, image=folder / "base.qcow2", copy=True)
        with pytest.raises(HostFailure) as error:
            apply(request, Tools(tools.qemu_img, None, run), False, False)
        assert str(error.value) == f"{path} has come to be there meanwhile, and is left as it is; run again"
        assert path.read_bytes() == b"somebody else's"
        assert names(folder) == ["fax1"]

    @pytest.mark.parametrize("meanwhile", [False, True])
    def test_where_there_are_no_hard_links(
        self, folder: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
    ) -> None:
        path = folder / "fax1"

        def link(*args: t.Any, **kwargs: t.Any) -> None:
            if meanwhile:
                path.write_bytes(b"somebody else's")
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(_disk.os, "link", link)
        request = parse(path, image=folder / "base.qcow2")
        if meanwhile:
            with pytest.raises(HostFailure, match="has come to be there meanwhile"):
                apply(request, tools, False, False)
            assert path.read_bytes() == b"somebody else's"
        else:
            apply(request, tools, False, False)
            assert tools.info(str(path)) == Disk(4 * M, "qcow2", str(folder / "base.qcow2"))
            assert path.stat().st_mode & 0o777 == 0o600
        assert names(folder) == ["fax1"]

    def test_a_run_beside_it(self, folder: Path, tools: Tools) -> None:
        """Another run takes the part file away and puts its own there: neither half disk gets the name."""
        part = folder / ".fax1.kvm-passthrough-part"

        def run(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
            answer = tools.run(argv, timeout)
            if argv[1] == "info" and argv[-1] == str(part):
                part.unlink()
                part.write_bytes(b"half a disk")
            return answer

        with pytest.raises(HostFailure) as error:
            apply(parse(folder / "fax1", size="4M"), Tools(tools.qemu_img, None, run), False, False)
        assert str(error.value) == f"{folder}/fax1 could not be made of {part}: No such file or directory"
        assert names(folder) == [part.name]
        assert part.read_bytes() == b"half a disk"

    def test_a_killed_run_leaves_no_disk_and_the_next_makes_it(self, folder: Path, tools: Tools) -> None:
        path, part = folder / "fax1", folder / ".fax1.kvm-passthrough-part"
        part.write_bytes(b"half a disk")
        request = parse(path, image=folder / "base.qcow2", copy=True)
        with untouched(part):
            assert apply(request, tools, True, False)["changed"] is True
        apply(request, tools, False, False)
        assert tools.info(str(path)) == Disk(4 * M, "qcow2")
        assert names(folder) == ["fax1"]

    def test_a_part_that_is_a_link_leads_nowhere(self, folder: Path, tools: Tools) -> None:
        victim = folder / "victim"
        victim.write_bytes(b"a disk")
        (folder / ".fax1.kvm-passthrough-part").symlink_to(victim)
        with untouched(victim):
            apply(parse(folder / "fax1", size="4M"), tools, False, False)
        assert names(folder) == ["fax1", "victim"]

    @pytest.mark.parametrize("verb", ["create", "convert", "resize", "info"])
    def test_a_command_that_fails_leaves_nothing(self, folder: Path, tools: Tools, verb: str) -> None:
        path = folder / "fax1"

        def run(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
            if argv[1] == verb and "part" in argv[-2] + argv[-1]:
                return 1, "", "qemu-img: No space left on device\n"
            return tools.run(argv, timeout)

        request = parse(path, image=folder / "base.qcow2", copy=verb != "create", size="8M")
        with untouched(folder / "base.qcow2"), pytest.raises(HostFailure) as error:
            apply(request, Tools(tools.qemu_img, None, run), False, False)
        assert str(error.value).endswith(": qemu-img: No space left on device")
        assert str(path.name) in str(error.value)
        assert names(folder) == []

    def test_one_that_grew_meanwhile_is_not_shrunk(self, folder: Path, tools: Tools) -> None:
        path = folder / "fax1"
        apply(parse(path, size="4M"), tools, False, False)

        def run(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
            if argv[1] == "resize":
                tools.run([str(tools.qemu_img), "resize", "-q", "-f", "qcow2", str(path), str(16 * M)], None)
            return tools.run(argv, timeout)

        with pytest.raises(HostFailure) as error:
            apply(parse(path, size="8M"), Tools(tools.qemu_img, None, run), False, False)
        assert "Use the --shrink option to perform a shrink operation" in str(error.value)
        assert tools.info(str(path)) == Disk(16 * M, "qcow2")

    def test_a_disk_that_something_else_has_open(self, tmp_path: Path, fake: FakeTools) -> None:
        path = tmp_path / "fax1"
        tools = Tools("/usr/bin/qemu-img", "/usr/bin/virsh", fake.run)
        apply(parse(path, size="4M"), tools, False, False)
        fake.locked = {str(path)}
        with untouched(path), pytest.raises(HostFailure) as error:
            apply(parse(path, size="8M", guest="fax1"), tools, False, False)
        assert str(error.value) == (
            f"{path} could not be grown: qemu-img: Could not open '{path}': Failed to get \"write\" lock / Is another"
            f" process using the image [{path}]?"
        )

    @pytest.mark.parametrize("copy", [False, True])
    def test_an_image_that_a_guest_is_writing_to(self, tmp_path: Path, fake: FakeTools, copy: bool) -> None:
        image = tmp_path / "fax2"
        tools = Tools("/usr/bin/qemu-img", "/usr/bin/virsh", fake.run)
        apply(parse(image, size="4M"), tools, False, False)
        fake.locked = {str(image)}
        with pytest.raises(HostFailure) as error:
            apply(parse(tmp_path / "fax1", image=image, copy=copy), tools, False, False)
        assert f"{image} cannot be read: qemu-img: Could not open '{image}': Failed to get shared" in str(error.value)
        assert names(tmp_path) == ["fax2"]

    @needs_qemu_img
    def test_the_real_lock(self, tmp_path: Path) -> None:
        """A reader that shares nothing is enough for qemu-img to refuse."""
        fcntl = pytest.importorskip("fcntl")
        path = tmp_path / "fax1"
        tools = Tools(REAL, None, bounded)
        apply(parse(path, size="4M"), tools, False, False)
        with path.open("r+b") as opened:
            # Bytes 100 and 200 on: what a process does, and what it lets others do (QEMU: block/file-posix.c).
            fcntl.lockf(opened, fcntl.LOCK_EX, 103, 100)
            fcntl.lockf(opened, fcntl.LOCK_EX, 203, 100)
            assert look(parse(path), tools).disk == Disk(4 * M, "qcow2")
            # Not untouched(): that closes the file, which ends all locks of this process.
            with pytest.raises(HostFailure, match=r"could not be grown: .*lock"):
                apply(parse(path, size="8M"), tools, False, False)
            with pytest.raises(HostFailure, match=r"fax1 cannot be read: .*lock"):
                apply(parse(tmp_path / "fax2", image=path), tools, False, False)
        assert tools.info(str(path)) == Disk(4 * M, "qcow2")
        assert names(tmp_path) == ["fax1"]


class TestBounded:
    def test_what_a_command_says(self) -> None:
        assert bounded(["sh", "-c", "echo $LC_ALL; echo no >&2; exit 3"], 10) == (3, "C\n", "no\n")

    def test_a_command_without_end(self) -> None:
        with pytest.raises(HostFailure, match="sleep 60 took longer than 0 seconds and was ended"):
            bounded(["sleep", "60"], 0.1)

    def test_a_command_that_is_not_there(self) -> None:
        with pytest.raises(HostFailure, match="/nowhere/qemu-img cannot be run: No such file or directory"):
            bounded(["/nowhere/qemu-img"], 10)
