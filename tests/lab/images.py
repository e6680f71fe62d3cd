# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the lab's disk images from recipes/, and keep them by content.

An image is a folder `NAME-KEY` of the cache with `root/`, an unpacked system, or `disk.raw`, a bootable disk of one.
KEY is a hash of everything that goes in, so a folder that is there is right, and nothing in it ever changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import typing as t
import uuid
from pathlib import Path

import sandbox
import store
from ui import LabError, Step, say

SUITE = "trixie"
ARCHITECTURE = "amd64"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RECIPES = Path(__file__).resolve().parent / "recipes"
_PARTITION_START = 2048  # sectors of 512 bytes: room for GRUB's core image in front
_GRUB = "usr/lib/grub/i386-pc"
# Enough to find and read /boot/grub/grub.cfg; everything else is loaded from /boot/grub/i386-pc.
_GRUB_CORE = ["biosdisk", "part_msdos", "ext2", "normal"]


class Recipe(t.NamedTuple):
    """One image. Packages, files and configure.sh of what is followed are in recipes/."""

    name: str
    parent: str | None  # not an image with a disk: its root is gone
    follows: tuple[str, ...]  # folders of recipes/, in order
    disk_gib: int = 0  # 0: no disk, only a root folder; space is used only where it is written
    backports: bool = False  # take the packages from the release's backports
    suite: str = SUITE  # Debian's release; that of the parent

    @property
    def folders(self) -> list[Path]:
        """Return the folders of the recipes to follow."""
        return [RECIPES / name for name in self.follows]


_ALL = {
    recipe.name: recipe
    for recipe in (
        Recipe("base", None, ("base",)),
        Recipe("qemu", "base", ("qemu",), backports=True),
        Recipe("host", "base", ("host",), disk_gib=12),
        Recipe("guest", "base", ("guest",), disk_gib=4),
        Recipe("cloud", "base", ("guest", "cloud"), disk_gib=4),
        # For guests that have a service; a DVB-T card of software is at hand.
        Recipe("guest-vidtv", "base", ("guest", "service", "vidtv"), disk_gib=4),
        # Machines that are not nested: what a guest is to a role, without a host around it.
        Recipe("plain-trixie", "base", ("plain",), disk_gib=6),
        Recipe("vidtv-trixie", "base", ("plain", "vidtv"), disk_gib=6),
        Recipe("base-bookworm", None, ("base",), suite="bookworm"),
        Recipe("plain-bookworm", "base-bookworm", ("plain",), disk_gib=6, suite="bookworm"),
        Recipe("base-bullseye", None, ("base",), suite="bullseye"),
        Recipe("plain-bullseye", "base-bullseye", ("plain",), disk_gib=6, suite="bullseye"),
        Recipe("guest-fax", "base-bullseye", ("fax", "guest", "service"), disk_gib=4, suite="bullseye"),
    )
}
_USUAL = ("qemu", "host", "guest", "cloud")  # what `build` builds; the others come when a lab wants them


class Image(t.NamedTuple):
    """A finished image in the cache."""

    entry: str
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def disk(self) -> Path:
        return self.folder / "disk.raw"


def ensure(names: t.Collection[str] = _USUAL, *, again: bool = False) -> dict[str, Image]:
    """Return these images, building those that are missing; those that they are made of are among them.

    They stay locked against pruning until this process ends or `release` is called.
    """
    keys = _keys()
    wanted = {*names, *(_ALL[name].parent for name in names)}
    return {name: _ensure(recipe, keys, again) for name, recipe in _ALL.items() if name in wanted}


def release() -> None:
    """Let go of the images; a lab that needs them has said so in its state by now."""
    while _held:
        _held.pop().release()


def prune(in_use: t.Collection[str]) -> None:
    """Remove images that are neither current nor used by a lab."""
    current = {f"{name}-{key}" for name, key in _keys().items()}
    for path in sorted(store.images_folder().iterdir()):
        entry = path.name.removesuffix(".new").removesuffix(".log")
        if path.name in current or path.name in in_use or (path.suffix == ".log" and entry in current):
            continue
        lock = store.Lock(entry)
        if lock.try_exclusive():
            if path.is_dir():
                say(f"removing {path.name} from the cache")
            _remove(path)
        lock.release()


_held: list[store.Lock] = []
built: list[str] = []  # what this process has built


def _ensure(recipe: Recipe, keys: t.Mapping[str, str], again: bool) -> Image:
    entry = f"{recipe.name}-{keys[recipe.name]}"
    image = Image(entry, store.images_folder() / entry)
    lock = store.Lock(entry)
    _held.append(lock)
    if again or not image.folder.exists():
        if not lock.try_exclusive():
            say(f"another lab is using or building {entry}; waiting for it")
            lock.exclusive()
        if again or not image.folder.exists():
            parent = f"{recipe.parent}-{keys[recipe.parent]}" if recipe.parent else None
            _build(recipe, image, store.images_folder() / parent if parent else None)
    lock.shared()
    return image


def _build(recipe: Recipe, image: Image, parent: Path | None) -> None:
    new = image.folder.with_name(f"{image.entry}.new")
    log = image.folder.with_name(f"{image.entry}.log")
    log.unlink(missing_ok=True)
    _remove(new)
    new.mkdir()
    try:
        root = new / "root"
        if parent is None:
            _bootstrap(recipe, root, log)
        else:
            _derive(recipe, parent / "root", root, log)
        _configure(recipe, root, log)
        if recipe.disk_gib and parent is not None:
            _write_disk(recipe, parent / "root", new, log)
        _remove(image.folder)
        new.rename(image.folder)
        built.append(image.entry)
    finally:
        _remove(new)


def _bootstrap(recipe: Recipe, root: Path, log: Path) -> None:
    """Unpack Debian with the packages of the recipe."""
    files = root.with_name("files")
    _copy_files(recipe, files)
    debconf = 'echo grub-pc grub-pc/install_devices_empty boolean true | chroot "$1" debconf-set-selections'
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--architectures={ARCHITECTURE}",
        f"--include={','.join(_packages(recipe))}",
        "--skip=cleanup/apt/lists",
        f"--setup-hook=cp -a '{files}/.' \"$1\"",
        f"--essential-hook={debconf}",
        recipe.suite,
        str(root),
        *_sources(recipe.suite),
    ]
    with Step(f"{recipe.name}: unpacking Debian {recipe.suite}") as step:
        sandbox.run(step, argv, log)
    shutil.rmtree(files)


def _derive(recipe: Recipe, parent: Path, root: Path, log: Path) -> None:
    """Copy the parent's root and add the packages and files of the recipe."""
    with Step(f"{recipe.name}: copying the base") as step:
        sandbox.run(step, ["cp", "-a", "--reflink=auto", str(parent), str(root)], log)
    _copy_files(recipe, root)
    packages = _packages(recipe)
    if packages:
        with Step(f"{recipe.name}: installing packages") as step:
            script = "apt-get --yes --quiet install " + " ".join(packages)
            if recipe.backports:
                _add_backports(root, recipe.suite)
                script = f"apt-get update && {script} --target-release {recipe.suite}-backports || {script}"
            sandbox.run(step, sandbox.enter(root, ["sh", "-ec", f"{script}\napt-get clean"]), log)


def _add_backports(root: Path, suite: str) -> None:
    """Add the backports of the mirror that the base came from; a mirror without them does no harm."""
    lines = (root / "etc/apt/sources.list").read_text().splitlines()
    found = [line.replace(f" {suite} ", f" {suite}-backports ") for line in lines if f" {suite} " in line]
    (root / "etc/apt/sources.list.d/backports.list").write_text("\n".join(found) + "\n")


def _configure(recipe: Recipe, root: Path, log: Path) -> None:
    with Step(f"{recipe.name}: configuring") as step:
        public_key = store.ssh_key().with_suffix(".pub").read_text().strip()
        if recipe.disk_gib:
            (root / "etc/fstab").write_text(f"UUID={_uuid(recipe)} / ext4 noatime,errors=remount-ro 0 0\n")
        for source in recipe.folders:
            argv = sandbox.enter(root, ["sh", "-c", (source / "configure.sh").read_text()])
            sandbox.run(step, argv, log, {"LAB_SSH_KEY": public_key})
        if recipe.disk_gib:
            _first_grub(recipe, root)
            for folder in ("etc", "var"):
                # Says that /usr is no newer, so that systemd does not rebuild its caches at the first boot.
                (root / folder / ".updated").touch()


def _first_grub(recipe: Recipe, root: Path) -> None:
    """Write what grub-install and update-grub write; here there is no disk that they could look at."""
    grub = root / "boot/grub"
    shutil.copytree(root / _GRUB, grub / "i386-pc", dirs_exist_ok=True)
    kernel = max((root / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
    settings = (root / "etc/default/grub").read_text()
    disk = "/dev/vda1" if "GRUB_DISABLE_LINUX_UUID=true" in settings else f"UUID={_uuid(recipe)}"
    (grub / "grub.cfg").write_text(
        "serial --unit=0 --speed=115200\n"
        "terminal_output serial\n"
        f"linux /boot/vmlinuz-{kernel} root={disk} ro {_kernel_arguments(settings)}\n"
        f"initrd /boot/initrd.img-{kernel}\n"
        "boot\n"
    )


def _kernel_arguments(settings: str) -> str:
    found = dict(re.findall(r'^(GRUB_CMDLINE_LINUX\w*)="(.*)"', settings, re.MULTILINE))
    return f"{found['GRUB_CMDLINE_LINUX']} {found['GRUB_CMDLINE_LINUX_DEFAULT']}".strip()


def _write_disk(recipe: Recipe, tools: Path, folder: Path, log: Path) -> None:
    """Write a bootable disk without a loop device, with the tools of Debian's own release."""
    disk = folder / "disk.raw"
    with Step(f"{recipe.name}: writing the disk") as step:
        with disk.open("wb") as file:
            file.truncate(recipe.disk_gib << 30)
        (folder / "table").write_text(f"label: dos\nstart={_PARTITION_START}, type=83, bootable\n")
        kib = (recipe.disk_gib << 20) - _PARTITION_START // 2
        script = (
            "sfdisk --quiet /run/new/disk.raw < /run/new/table\n"
            f"mke2fs -q -F -t ext4 -m 0 -L {recipe.name} -U {_uuid(recipe)} -d /run/new/root"
            f" -E offset={_PARTITION_START * 512},root_owner=0:0 /run/new/disk.raw {kib}k\n"
            "grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /run/new/core.img " + " ".join(_GRUB_CORE) + "\n"
        )
        binds = [sandbox.Bind(folder, "/run/new", writable=True)]
        sandbox.run(step, sandbox.enter(tools, ["sh", "-ec", script], binds), log)
        boot = (tools / _GRUB / "boot.img").read_bytes()
        core = (folder / "core.img").read_bytes()
        if len(core) > (_PARTITION_START - 1) * 512:
            raise LabError(f"GRUB's core image ({len(core)} bytes) does not fit in front of the partition")
        with disk.open("r+b") as file:
            # boot.img looks for the core image in sector 1 unless told otherwise; bytes from 440 on are the label's.
            file.write(boot[:440])
            file.seek(512)
            file.write(core)
        (folder / "core.img").unlink()
        (folder / "table").unlink()
        shutil.rmtree(folder / "root")


def _uuid(recipe: Recipe) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{recipe.name}.kvm.passthrough"))


def _packages(recipe: Recipe) -> list[str]:
    lines = [line for folder in recipe.folders for line in (folder / "packages").read_text().splitlines()]
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _copy_files(recipe: Recipe, target: Path) -> None:
    """Copy the recipe's files with the modes that Git keeps, whatever the umask of the checkout was."""
    for source in [folder / "files" for folder in recipe.folders]:
        for path in sorted(source.rglob("*")):
            destination = target / path.relative_to(source)
            if path.is_dir():
                destination.mkdir(parents=True, exist_ok=True)
            else:
                destination.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, destination)
                destination.chmod(0o755 if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else 0o644)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _keys() -> dict[str, str]:
    """Return the key of every image: a hash of all that goes into it."""
    common = hashlib.sha256()
    parts = [ARCHITECTURE, store.ssh_key().with_suffix(".pub").read_text()]
    for part in [*parts, Path(__file__).read_text()]:
        common.update(part.encode() + b"\0")
    keys: dict[str, str] = {}
    sources = {suite: _sources(suite) for suite in {recipe.suite for recipe in _ALL.values()}}
    for recipe in _ALL.values():
        key = common.copy()
        key.update(repr((recipe, sources[recipe.suite], keys.get(recipe.parent or ""))).encode())
        for path in [path for folder in recipe.folders for path in sorted(folder.rglob("*"))]:
            if path.is_file():
                executable = bool(path.stat().st_mode & 0o100)
                key.update(f"{path.relative_to(RECIPES)}\0{executable}\0".encode() + path.read_bytes() + b"\0")
        keys[recipe.name] = key.hexdigest()[:16]
    return keys


def _sources(suite: str) -> list[str]:
    """Return the lines of an image's sources.list: this machine's own Debian mirror, with the image's release.

    A machine without one (Ubuntu) gives an empty list, and mmdebstrap falls back on its own default. A release that has
    had its time has no -updates any more.
    """
    option = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    chosen = os.environ.get("KVM_PASSTHROUGH_MIRROR")
    if chosen:
        return [f"deb {option}{chosen} {suite} main"]
    if not shutil.which("apt-get"):
        return []
    argv = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(SUITE)|$(CODENAME)|$(COMPONENT)"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    found: dict[str, str] = {}
    for line in sorted(set(listed.stdout.splitlines())):
        origin, label, uri, archive, codename, component = line.split("|")
        if origin != "Debian" or component != "main" or label not in ("Debian", "Debian-Security"):
            continue
        for kind in ("-security", "-updates", ""):
            if codename.endswith(kind):
                if not archive.endswith("-backports"):
                    found.setdefault(kind, uri)
                break
    if "" not in found:
        return []
    kinds = ("", "-updates", "-security") if suite == SUITE else ("", "-security")
    return [f"deb {option}{found[kind]} {suite}{kind} main" for kind in kinds if kind in found]


def mirror() -> str | None:
    """Return the mirror's address, if this machine names one."""
    lines = _sources(SUITE)
    return lines[0].split("] ")[-1].removeprefix("deb ").split()[0] if lines else None
