# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named labs: what each one runs, and bringing it up, back to clean, and down."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import typing as t
import uuid
from pathlib import Path

import images
import inventory
import machine
import store
from images import Image
from profiles import PROFILES
from ui import LabError, Step, say

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_START_ATTEMPTS = 3  # somebody else may take the free port first


class Lab(t.NamedTuple):
    """What is written down about a lab."""

    name: str
    token: str
    cards: str
    accelerator: str
    port: int
    images: dict[str, str]

    @property
    def folder(self) -> Path:
        return store.labs_folder() / self.name

    @property
    def running(self) -> bool:
        return bool(machine.processes(self.token))

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yml"

    @property
    def complete(self) -> bool:
        """Whether its images are those that this program works with, and are still there."""
        folders = self.image_folders()
        return _needed(self.cards) <= set(folders) and all(image.folder.exists() for image in folders.values())

    def image_folders(self) -> dict[str, Image]:
        return {name: Image(entry, store.images_folder() / entry) for name, entry in self.images.items()}

    def write(self) -> None:
        """Write the state, the SSH configuration and the inventory."""
        key = store.ssh_key()
        self.ssh_config.write_text(inventory.ssh_config(key, self.port))
        self.inventory.write_text(inventory.inventory(PROFILES[self.cards], self.folder, key, self.port))
        new = self.folder / "lab.json.new"
        new.write_text(json.dumps(self._asdict(), indent=2) + "\n")
        new.rename(self.folder / "lab.json")


def _needed(cards: str) -> set[str]:
    """Return the images that a lab with these cards works with."""
    profile = PROFILES[cards]
    return {"qemu", profile.system, *profile.images}


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is not a name for a lab: use a to z, 0 to 9 and -, at most 31 characters")


def find(name: str) -> Lab | None:
    """Return the lab of that name, if there is one."""
    _check(name)
    try:
        return Lab(**json.loads((store.labs_folder() / name / "lab.json").read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LabError(
            f"the state of lab {name} cannot be read ({error}); remove it with: down --name {name}"
        ) from error


def get(name: str) -> Lab:
    """Return the lab of that name; it must be running."""
    lab = find(name)
    if lab is None or not lab.running:
        others = ", ".join(sorted(other.name for other in every() if other.running)) or "none"
        raise LabError(f"lab {name} is not running (running: {others}); start it with: up --name {name}")
    return lab


def names() -> list[str]:
    """Return the names of all labs, also of those whose state cannot be read."""
    return sorted(folder.name for folder in store.labs_folder().iterdir() if folder.is_dir())


def every() -> list[Lab]:
    """Return all labs that are written down."""
    found = []
    for name in names():
        with contextlib.suppress(LabError):
            lab = find(name)
            if lab:
                found.append(lab)
    return found


def build(*, again: bool = False) -> dict[str, Image]:
    """Return the images, built where needed, and drop those that nobody needs any more."""
    if again:
        running = " ".join(lab.name for lab in every() if lab.running)
        if running:
            raise LabError(f"labs are running on these images: {running}; first: down --all")
    built = images.ensure(again=again)
    _prune()
    return built


def _prune() -> None:
    images.prune({entry for lab in every() for entry in lab.images.values()})


@contextlib.contextmanager
def _alone(name: str) -> t.Iterator[None]:
    """Keep other commands from starting or stopping the same lab meanwhile."""
    lock = store.Lock(f"lab-{name}")
    if not lock.try_exclusive():
        lock.release()
        raise LabError(f"lab {name} is being started or stopped by another command: wait for it, or end it with Ctrl-C")
    try:
        yield
    finally:
        lock.release()


def up(name: str, cards: str) -> Lab:
    """Start a lab, or say that it is up already; a start that fails leaves nothing."""
    known = find(name)
    with _alone(name):
        if known and known.running:
            if known.cards != cards:
                raise LabError(f"lab {name} is up with cards {known.cards}; first: down --name {name}")
            say(f"lab {name} is up already")
            return known
        _remove(name)
        try:
            built = images.ensure(_needed(cards))
            with Step(f"lab {name}: starting") as step:
                accelerator = machine.accelerator(built["qemu"], step)
                entries = {key: image.entry for key, image in built.items() if key in _needed(cards)}
                lab = Lab(name, str(uuid.uuid4()), cards, accelerator, machine.free_port(), entries)
                lab = _boot(lab, step)
            if images.built:
                _prune()
            return lab
        except BaseException:
            _remove(name)
            raise
        finally:
            images.release()


def reset(name: str) -> Lab:
    """Throw the lab's disk away and boot from a clean one, with the same address and cards."""
    with _alone(name):
        lab = find(name)
        if lab is None:
            raise LabError(f"there is no lab {name}; start it with: up --name {name}")
        if not lab.complete:
            raise LabError(f"lab {name} is of another version or its images are gone; first: down --name {name}")
        was_running = lab.running
        with Step(f"lab {name}: back to the clean image") as step:
            machine.stop(lab.token)
            machine.new_disk(PROFILES[lab.cards], lab.folder, lab.image_folders())
            if not was_running:
                return lab
        try:
            with Step(f"lab {name}: starting") as step:
                return _boot(lab, step)
        except BaseException:
            _remove(name)
            raise


def down(name: str) -> bool:
    """Stop a lab and remove what it left; return whether there was one."""
    _check(name)
    with _alone(name):
        there = (store.labs_folder() / name).exists()
        _remove(name)
    return there


def _boot(lab: Lab, step: Step) -> Lab:
    lab.folder.mkdir(exist_ok=True)
    (lab.folder / "cp").mkdir(mode=0o700, exist_ok=True)
    built = lab.image_folders()
    profile = PROFILES[lab.cards]
    for attempt in range(_START_ATTEMPTS):
        lab.write()
        step.at("starting QEMU")
        machine.new_disk(profile, lab.folder, built)
        try:
            argv = machine.command(profile, lab.accelerator, lab.token, lab.port)
            machine.start(profile, lab.folder, built, argv, lab.token)
            break
        except LabError as error:
            if "host forwarding" not in str(error) or attempt + 1 == _START_ATTEMPTS:
                raise
            lab = lab._replace(port=machine.free_port())
    machine.wait_for_ssh(lab.folder, lab.token, lab.port, step)
    return lab


def _remove(name: str) -> None:
    folder = store.labs_folder() / name
    try:
        token = json.loads((folder / "lab.json").read_text())["token"]
    except (OSError, ValueError, KeyError, TypeError):
        token = None
    if token:
        machine.stop(token)
    if folder.exists():
        shutil.rmtree(folder)
