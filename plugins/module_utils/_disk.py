# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk of a guest: made where there is none, grown where it is too small, and otherwise left alone.

look() reads, decide() makes a plan, carry_out() executes it. A disk is made under a name of its own and linked to the
asked one when it is whole, so that nothing there can be overwritten and no half disk is left by a kill.
The tools are qemu-img (https://www.qemu.org/docs/master/tools/qemu-img.html) and, for a disk that a running guest has
open, virsh blockresize (https://www.libvirt.org/manpages/virsh.html#blockresize).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import subprocess
import typing as t
from dataclasses import dataclass

from ._errors import HostFailure, InvalidInput, Refused

FORMATS = ("qcow2", "raw")
LOOK_TIMEOUT = 60  # seconds for what only reads, be it from a network
CHANGE_TIMEOUT = 600  # seconds for what writes metadata; a copy takes as long as it takes
_SECTOR = 512  # bytes; QEMU knows no smaller unit of a disk (BDRV_SECTOR_SIZE)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = re.compile(r"([0-9]+)([KMGT]?)\Z", re.IGNORECASE)
_NO_TOOL = "qemu-img is not installed; install the package qemu-utils (Debian, Ubuntu) or qemu-img (RHEL, Fedora)"

ABSENT, FILE, BLOCK, DANGLING = "absent", "a file", "a block device", "a symbolic link to what is not there"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFBLK: BLOCK,
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a character device",
}
# What link() says where the file system has no hard links (link(2); FUSE: ENOSYS).
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)

Run = t.Callable[[t.List[str], t.Optional[float]], t.Tuple[int, str, str]]
"""Runs a command for at most so many seconds (None: no limit): its return code, output and messages."""


@dataclass(frozen=True)
class Request:
    """What the user asks for. size is in bytes; None is that of the image, or of what is there."""

    path: str
    size: int | None = None
    format: str = "qcow2"
    image: str | None = None
    image_format: str = "qcow2"
    copy: bool = False
    guest: str | None = None
    uri: str = "qemu:///system"

    @classmethod
    def parse(
        cls,
        path: str,
        size: str | None,
        format: str,
        image: str | None,
        image_format: str,
        copy: bool,
        guest: str | None,
        uri: str,
    ) -> Request:
        """The request with its size in bytes, or InvalidInput. An empty string is nothing."""
        for what, value in (("path", path), ("image", image)):
            if value and (not value.startswith("/") or value.endswith("/")):
                raise InvalidInput(f"{what} is {value!r}; write the whole path of a file, as /srv/guests/fax1.qcow2")
        if not path:
            raise InvalidInput("path is empty; write the whole path of a file, as /srv/guests/fax1.qcow2")
        if image and _same(image, path):
            raise InvalidInput(f"path and image are both {path}; give the guest a disk of its own")
        if image and format == "raw" and not copy and not _below_dev(path):
            raise InvalidInput(f"{path} cannot be an overlay, which no raw disk is: set copy: true, or format: qcow2")
        return cls(path, parse_size(size) if size else None, format, image or None, image_format, copy, guest, uri)


@dataclass(frozen=True)
class Disk:
    """What is known of a disk; None is unknown. size is what a guest sees, in bytes, image the path it stands on."""

    size: int | None = None
    format: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Host:
    """What counts of the host, as look() finds it."""

    kind: str
    """What is at the path: ABSENT, FILE, BLOCK, DANGLING, or what else it is, in words."""

    disk: Disk | None = None
    """The disk there; None where there is none, or nothing to read it with."""

    length: int = 0
    """Of a file, how many bytes it has."""

    attached: str | None = None
    """What the running guest calls the disk (vda); None where it does not have it."""

    folder: bool = True
    """Whether there is a folder to make a disk in."""

    image: Disk | None = None
    """The asked image; None where it is not there, not needed, or nothing to read it with."""

    image_kind: str = ABSENT
    on_image: bool = False
    """Whether the disk stands on the asked image."""

    qemu_img: bool = True


@dataclass(frozen=True)
class Plan:
    """What is to be done: overlay, copy or empty (make it so), resize, blockresize, or nothing where it is empty."""

    do: str
    before: Disk | None
    after: Disk
    attached: str | None = None
    warnings: tuple[str, ...] = ()

    def actions(self, request: Request) -> list[str]:
        """The plan in words."""
        path, size = request.path, f" of {spell(self.after.size)}" if self.after.size else ""
        grow = f"grow {path} from {spell(self.before.size or 0)} to{size[3:]}" if self.before else ""
        words = {
            "overlay": f"make {path}, an overlay{size} on {request.image}",
            "copy": f"make {path}, a copy{size} of {request.image}",
            "empty": f"make {path}, an empty disk{size}",
            "resize": grow,
            "blockresize": f"{grow} in the running {request.guest}",
        }
        return [words[self.do]] if self.do else []


# ---------------------------------------------------------------------------------------------------------------------
# Sizes


def parse_size(text: str) -> int:
    """Bytes from '20G' (K, M, G, T: powers of 1024) or '512', rounded up to whole sectors as QEMU does."""
    match = _SIZE.match(text)
    size = int(match.group(1)) * _UNITS[match.group(2).upper()] if match else 0
    if not size:
        raise InvalidInput(
            f"{text!r} is no size of a disk. Write a whole number of K, M, G or T (powers of 1024), such as 20G, or of"
            f" bytes"
        )
    return -(-size // _SECTOR) * _SECTOR


def spell(size: int) -> str:
    """A size as a person writes it, and parse_size() takes it: 20G; bytes where no unit fits."""
    unit = next((unit for unit in "TGMK" if size and size % _UNITS[unit] == 0), "")
    return f"{size // _UNITS[unit]}{unit}"


# ---------------------------------------------------------------------------------------------------------------------
# Looking


class Tools:
    """qemu-img and virsh, by their paths; None where they are not installed."""

    def __init__(self, qemu_img: str | None, virsh: str | None, run: Run) -> None:
        self.qemu_img = qemu_img
        self.virsh = virsh
        self.run = run

    def image(self, what: str, args: t.Sequence[str], timeout: float | None = LOOK_TIMEOUT) -> str:
        """What qemu-img prints; its message, below what was to be done, as HostFailure."""
        if self.qemu_img is None:
            raise HostFailure(_NO_TOOL)
        code, out, err = self.run([self.qemu_img, *args], timeout)
        if code:
            raise HostFailure(f"{what}: {_said(code, out, err)}")
        return out

    def info(self, path: str, share: bool = True) -> Disk:
        """A disk as it is, be it in use; without share (--force-share), one that is being written is an error."""
        options = ["--output=json", *(["--force-share"] if share else [])]
        out = self.image(f"{path} cannot be read", ["info", *options, path])
        try:
            info = json.loads(out)
            backing = info.get("full-backing-filename", info.get("backing-filename"))
            return Disk(int(info["virtual-size"]), str(info["format"]), backing)
        except (ValueError, KeyError) as error:
            raise HostFailure(f"qemu-img info tells nothing of {path}: {out.strip()[:200]!r}") from error

    def attached(self, uri: str, guest: str, path: str) -> str | None:
        """What the guest calls the disk at a path, such as vda, if it runs and has it.

        Where virsh cannot tell, the guest counts as not running: a lock of the image keeps others from a disk in use.
        """
        if self.virsh is None:
            return None
        code, out, err = self.run([self.virsh, "--connect", uri, "dumpxml", "--domain", guest], LOOK_TIMEOUT)
        return None if code else _target(out, path)


def look(request: Request, tools: Tools) -> Host:
    """The host as far as the request concerns it. The image is looked at only where a disk has to be made of it."""
    path, has_tool = request.path, tools.qemu_img is not None
    kind = _kind(path)
    if kind == BLOCK:
        return Host(kind, Disk(_device_size(path), "raw"), qemu_img=has_tool)
    if kind == FILE:
        disk = tools.info(path) if has_tool else None
        grows = disk is not None and disk.size is not None and (request.size or 0) > disk.size
        return Host(
            kind,
            disk,
            length=os.stat(path).st_size,
            attached=tools.attached(request.uri, request.guest, path) if grows and request.guest else None,
            on_image=bool(disk and disk.image and request.image and _same(disk.image, request.image)),
            qemu_img=has_tool,
        )
    image_kind = _kind(request.image) if request.image else ABSENT
    readable = request.image and has_tool and image_kind in (FILE, BLOCK)
    return Host(
        kind,
        folder=os.path.isdir(os.path.dirname(path)),
        # What a guest is writing to is no image: neither a copy nor an overlay of it would be whole.
        image=tools.info(str(request.image), share=False) if readable else None,
        image_kind=image_kind,
        qemu_img=has_tool,
    )


def _below_dev(path: str) -> bool:
    return path.startswith("/dev/")


def _same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _kind(path: str) -> str:
    """What is at a path, links followed."""
    try:
        return _KINDS[stat.S_IFMT(os.stat(path).st_mode)]
    except (FileNotFoundError, NotADirectoryError):
        return DANGLING if os.path.islink(path) else ABSENT
    except OSError as error:
        raise HostFailure(f"{path} cannot be read: {error.strerror}") from error


def _device_size(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostFailure(f"{path} cannot be read: {error.strerror}") from error


def _target(domain: str, path: str) -> str | None:
    """The disk of a running guest at a path; only a running guest's XML has an id (formatdomain, General metadata)."""
    # Only where a disk grows: a host compiles and loads whatever is imported, again with each task.
    from xml.etree import ElementTree

    try:
        top = ElementTree.fromstring(domain)
    except ElementTree.ParseError:
        return None
    for disk in top.iterfind("devices/disk") if top.get("id") else ():
        source, target = disk.find("source"), disk.find("target")
        file = source.get("file") if source is not None else None
        if file and target is not None and _same(file, path):
            return target.get("dev")
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Deciding


def decide(request: Request, host: Host, check: bool) -> Plan:
    """The plan; raises where what is there is not what was asked for and no growing makes it so.

    In check mode what is not there yet, such as qemu-img, the folder or the image, may be what earlier tasks bring.
    """
    if host.kind == BLOCK or _below_dev(request.path):
        return _use_device(request, host)
    if host.kind == ABSENT:
        return _make(request, host, check)
    if host.kind != FILE:
        raise Refused(f"{request.path} is {host.kind}, and is left as it is; name another path, or move it away")
    if host.disk is None:
        if not check:
            raise HostFailure(_NO_TOOL)
        return Plan("", Disk(), Disk(), warnings=(f"{request.path} cannot be looked at, since {_NO_TOOL}",))
    return _keep(request, host, host.disk)


def _use_device(request: Request, host: Host) -> Plan:
    path, disk = request.path, host.disk
    if host.kind != BLOCK or disk is None or disk.size is None:
        what = "is not there" if host.kind == ABSENT else f"is {host.kind}"
        raise Refused(f"{path} {what}; a path below /dev is a block device, which is used as it is and never made")
    if request.format != "raw":
        raise InvalidInput(f"{path} is a block device, used as it is and not as {request.format}: set format: raw")
    if request.image:
        raise InvalidInput(
            f"{path} is a block device, which is never written, so that nothing of {request.image} gets there: leave"
            f" image out, or name a file as path"
        )
    if request.size is not None and request.size > disk.size:
        raise Refused(
            f"{path} has {spell(disk.size)}, less than the {spell(request.size)} asked for, and a block device is used"
            f" as it is: make it larger first, or ask for {spell(disk.size)} or less"
        )
    return Plan("", disk, disk)


def _keep(request: Request, host: Host, disk: Disk) -> Plan:
    """The plan for a file that is there: it stays as it is, or grows."""
    path, size, wanted = request.path, disk.size or 0, request.size
    if disk.format != request.format:
        found = "empty" if not host.length else disk.format
        raise Refused(
            f"{path} is there and is {found}, not {request.format}; it is left as it is. Name another path, or move it"
            f" away"
        )
    if wanted is not None and wanted < size:
        raise Refused(
            f"{path} has {spell(size)}, more than the {spell(wanted)} asked for, and a disk is never shrunk: ask for"
            f" {spell(size)} or more"
        )
    warnings = tuple(_other_image(request, host, disk))
    if wanted is None or wanted == size:
        return Plan("", disk, disk, warnings=warnings)
    if disk.format == "raw" and host.length % _SECTOR:
        raise Refused(
            f"{path} has {host.length} bytes, no multiple of {_SECTOR}, so that it is hardly a disk; it is left as it"
            f" is. Name another path, or move it away"
        )
    after = Disk(wanted, disk.format, disk.image)
    return Plan("blockresize" if host.attached else "resize", disk, after, host.attached, warnings)


def _other_image(request: Request, host: Host, disk: Disk) -> t.Iterator[str]:
    """That a disk is not what would be made today; what the guest has written counts for more."""
    if request.image and not request.copy and not host.on_image:
        on = f"stands on {disk.image}" if disk.image else "stands on no image"
        yield f"{request.path} {on}, not on {request.image}; it is kept as it is"
    elif request.copy and disk.image:
        yield f"{request.path} is an overlay on {disk.image}, not a copy of {request.image}; it is kept as it is"


def _make(request: Request, host: Host, check: bool) -> Plan:
    path, size = request.path, request.size
    warnings = []
    if not host.qemu_img and not check:
        raise HostFailure(_NO_TOOL)
    if not host.folder:
        folder = os.path.dirname(path)
        if not check:
            raise Refused(f"the folder {folder} of {os.path.basename(path)} is not there; make it first")
        warnings.append(f"the folder {folder} is not there; without an earlier task that makes it, no disk can be made")
    if request.image is None:
        if size is None:
            raise InvalidInput(f"{path} is not there, and without size or image it cannot be made; set one of them")
        return Plan("empty", None, Disk(size, request.format), warnings=tuple(warnings))
    _check_image(request, host, check)
    after = Disk(
        size or (host.image.size if host.image else None), request.format, None if request.copy else request.image
    )
    return Plan("copy" if request.copy else "overlay", None, after, warnings=tuple(warnings))


def _check_image(request: Request, host: Host, check: bool) -> None:
    """Whether a disk can be made of the image."""
    image, found = request.image, host.image
    if found is None:
        if host.image_kind == ABSENT and not check:
            raise Refused(f"the image {image} for {request.path} is not there; bring it there first")
        if host.image_kind not in (ABSENT, FILE, BLOCK):
            raise Refused(f"the image {image} for {request.path} is {host.image_kind}; name a file or a block device")
        return
    if found.format != request.image_format:
        known = found.format in FORMATS
        remedy = f"set image_format: {found.format}" if known else "convert it first (qemu-img convert)"
        raise Refused(f"the image {image} for {request.path} is {found.format}, not {request.image_format}: {remedy}")
    if request.size is not None and found.size is not None and request.size < found.size:
        raise Refused(
            f"the image {image} has {spell(found.size)}, more than the {spell(request.size)} asked for {request.path}:"
            f" ask for {spell(found.size)} or more"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Doing


def carry_out(request: Request, plan: Plan, tools: Tools) -> Disk:
    """Execute a plan, and read again what has become of it."""
    if plan.do in ("resize", "blockresize"):
        _grow(request, plan, tools)
        return _verified(request.path, plan, tools)
    if plan.do:
        _create(request, plan, tools)
    return plan.after


def _grow(request: Request, plan: Plan, tools: Tools) -> None:
    path, size = request.path, str(plan.after.size)
    if plan.do == "blockresize" and tools.virsh and request.guest:
        # Without the suffix, virsh takes KiB.
        words = ["blockresize", "--domain", request.guest, "--path", str(plan.attached), "--size", f"{size}B"]
        code, out, err = tools.run([tools.virsh, "--connect", request.uri, *words], CHANGE_TIMEOUT)
        if code:
            raise HostFailure(f"{path} could not be grown in the running {request.guest}: {_said(code, out, err)}")
    else:
        # qemu-img takes the lock of the image, so that it refuses a disk in use; without --shrink it only grows one.
        tools.image(
            f"{path} could not be grown", ["resize", "-q", "-f", request.format, path, size], timeout=CHANGE_TIMEOUT
        )


def _verified(path: str, plan: Plan, tools: Tools) -> Disk:
    disk = tools.info(path)
    if disk.format != plan.after.format or (disk.size or 0) < (plan.after.size or 0):
        raise HostFailure(
            f"the command succeeded, but {path} is {disk.format} of {disk.size} bytes, not {plan.after.format} of"
            f" {plan.after.size}"
        )
    return disk


def _create(request: Request, plan: Plan, tools: Tools) -> None:
    """Make a disk under a name of its own, and give it the asked name where nothing has that.

    It stays open meanwhile: whatever has come to bear that name since, only what was made here is linked.
    """
    folder, name = os.path.split(request.path)
    part = f"{folder}/.{name}.kvm-passthrough-part"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)  # by its name, of an earlier run that was killed
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostFailure(f"{part} cannot be made anew: {error.strerror}") from error
    try:
        for args in _commands(request, plan, part):
            tools.image(f"{request.path} could not be made", args, None if args[0] == "convert" else CHANGE_TIMEOUT)
        _verified(part, plan, tools)
        _name(descriptor, part, request.path)
    finally:
        if _is(part, descriptor):
            os.unlink(part)
        os.close(descriptor)


def _commands(request: Request, plan: Plan, part: str) -> t.Iterator[list[str]]:
    """What qemu-img is called with to make a disk."""
    size, image = str(plan.after.size), str(request.image)
    if plan.do == "copy":
        yield ["convert", "-f", request.image_format, "-O", request.format, image, part]
        yield ["resize", "-q", "-f", request.format, part, size]
    elif plan.do == "overlay":
        yield ["create", "-q", "-f", request.format, "-F", request.image_format, "-b", image, part, size]
    else:
        yield ["create", "-q", "-f", request.format, part, size]


def _name(descriptor: int, part: str, path: str) -> None:
    """Give what is open the path, if nothing is there."""
    try:
        try:
            # AT_SYMLINK_FOLLOW links what is open (open(2), O_TMPFILE); Python sets it only along with a dir_fd.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError as error:
            if error.errno not in _NO_LINKS or not _is(part, descriptor):
                raise
            # Without hard links: an empty file of our own holds the name, and only that one is replaced.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.rename(part, path)
    except FileExistsError as error:
        raise HostFailure(f"{path} has come to be there meanwhile, and is left as it is; run again") from error
    except OSError as error:
        raise HostFailure(f"{path} could not be made of {part}: {error.strerror}") from error


def _is(path: str, descriptor: int) -> bool:
    """Whether a path names what is open."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# All of it


def apply(request: Request, tools: Tools, check: bool, diff: bool) -> dict[str, t.Any]:
    """Look, decide, carry out unless it is only a check, and tell what has become of it."""
    plan = decide(request, look(request, tools), check)
    after = plan.after if check else carry_out(request, plan, tools)
    result: dict[str, t.Any] = {
        "changed": bool(plan.do),
        "path": request.path,
        "size": after.size,
        "format": after.format,
        "image": after.image,
        "actions": plan.actions(request),
        "warnings": list(plan.warnings),
    }
    if diff:
        result["diff"] = {
            "before_header": request.path,
            "after_header": request.path,
            "before": _shown(plan.before),
            "after": _shown(after),
        }
    return result


def bounded(argv: list[str], timeout: float | None) -> tuple[int, str, str]:
    """Run a command for at most so long, in the language that messages are known in."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, "LC_ALL": "C", "LANGUAGE": "C"},
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HostFailure(f"{' '.join(argv)} took longer than {timeout:.0f} seconds and was ended") from error
    except OSError as error:
        raise HostFailure(f"{argv[0]} cannot be run: {error.strerror}") from error
    return done.returncode, done.stdout, done.stderr


def _shown(disk: Disk | None) -> str:
    if disk is None:
        return "(none)\n"
    size = "(unknown)" if disk.size is None else spell(disk.size)
    return f"size: {size}\nformat: {disk.format or '(unknown)'}\nimage: {disk.image or '(none)'}\n"


def _said(code: int, out: str, err: str) -> str:
    """The end of what a command said, on one line."""
    lines = (err.strip() or out.strip() or f"it ended with code {code} and said nothing").splitlines()
    return " / ".join(lines[-5:])
