# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: a KVM host with an IOMMU and PCI cards, made of software.

A lab is a Debian machine in QEMU that hands its cards to a guest of its own. It is what tests and `make demo` run on.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import types
import typing as t

import doctor
import labs
from profiles import DEFAULT, PROFILES
from ui import LabError, say, table

_CHILD_SECONDS = 10.0


class Interrupted(BaseException):
    """A signal asks us to end; everything that was started is taken down on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args()
    os.umask(0o022)
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if os.geteuid() != 0 and arguments.verb is not _doctor:
            raise LabError("the lab needs root (mounts, chroot): run it with sudo")
        code: int = arguments.verb(arguments)
    except LabError as error:
        say(f"lab: {error}")
        return 1
    except Interrupted as interrupted:
        say("lab: interrupted; what was begun is cleaned up")
        return 128 + interrupted.number
    except OSError as error:
        say(f"lab: {error}")
        return 1
    return code


def _interrupt(number: int, frame: types.FrameType | None) -> t.NoReturn:
    # Once is enough: the way out is short, and it must not be interrupted.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def _parser() -> argparse.ArgumentParser:
    profiles = "\n".join(f"  {name:15} {profile.about}" for name, profile in PROFILES.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"cards:\n{profiles}\n\nenvironment:\n"
        "  KVM_PASSTHROUGH_CACHE        folder of images and labs (default: ~/.cache/kvm.passthrough)\n"
        "  KVM_PASSTHROUGH_MIRROR       Debian mirror (default: the one that this machine's apt uses)\n"
        "  KVM_PASSTHROUGH_ACCELERATOR  kvm or tcg (default: kvm where it works and nests)",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(name: str, call: t.Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=about, description=about)
        added.set_defaults(verb=call)
        return added

    def named(name: str, call: t.Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        added = verb(name, call, about)
        added.add_argument("--name", default="lab", help="which lab (default: lab)")
        return added

    verb("doctor", _doctor, "say what this machine lacks for a lab, and how to get it")
    build = verb("build", _build, "build the images that are missing, and remove old ones")
    build.add_argument("--again", action="store_true", help="build all images anew, with the mirror's newest packages")
    up = named("up", _up, "start a lab, building its images if needed, and wait for SSH")
    up.add_argument("--cards", default=DEFAULT, choices=PROFILES, help=f"cards of the host (default: {DEFAULT})")
    named("inventory", _inventory, "print the lab's Ansible inventory")
    shell = named("shell", _shell, "open a shell on the host or a guest, or run a command there")
    guests = sorted({guest.name for profile in PROFILES.values() for guest in profile.guests if guest.address})
    shell.usage = f"%(prog)s [-h] [--name NAME] {{{','.join(['host', *guests])}}} [-- COMMAND ...]"
    shell.add_argument("where", choices=("host", *guests))
    shell.add_argument("command", nargs="*", metavar="COMMAND", help="one word is a shell line, several are a command")
    named("reset", _reset, "put the lab back to the clean image, and boot it again if it was running")
    down = named("down", _down, "stop a lab and remove its disk")
    down.add_argument("--all", action="store_true", help="all labs")
    verb("list", _list, "list the labs")
    run = named("run", _run, "start a lab, run a command with ANSIBLE_INVENTORY set, and stop the lab however it ends")
    run.usage = "%(prog)s [-h] [--name NAME] [--cards PROFILE] -- COMMAND ..."
    run.add_argument("--cards", default=DEFAULT, choices=PROFILES, help=f"cards of the host (default: {DEFAULT})")
    run.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


def _require(cards: str = DEFAULT) -> None:
    """Refuse to start something that this machine cannot bear."""
    problems = doctor.examine(cards).problems
    if problems:
        raise LabError("; ".join(problems))


def _doctor(arguments: argparse.Namespace) -> int:
    report = doctor.examine()
    for line in report.found:
        print(f"ok       {line}")
    for line in report.problems:
        print(f"missing  {line}")
    return 1 if report.problems else 0


def _build(arguments: argparse.Namespace) -> int:
    _require()
    for image in labs.build(again=arguments.again).values():
        print(image.folder)
    return 0


def _up(arguments: argparse.Namespace) -> int:
    known = labs.find(arguments.name)
    if not (known and known.running):
        _require(arguments.cards)
    lab = labs.up(arguments.name, arguments.cards)
    say(f"lab {lab.name} is up ({lab.accelerator}, cards {lab.cards}); inventory: {lab.inventory}")
    return 0


def _inventory(arguments: argparse.Namespace) -> int:
    print(labs.get(arguments.name).inventory.read_text(), end="")
    return 0


def _shell(arguments: argparse.Namespace) -> int:
    lab = labs.get(arguments.name)
    where = "hypervisor" if arguments.where == "host" else arguments.where
    argv = ["ssh", "-F", str(lab.ssh_config)]
    if arguments.command:
        line = arguments.command[0] if len(arguments.command) == 1 else shlex.join(arguments.command)
        argv += [where, line]
    else:
        argv += ["-t", where]
    return _call(argv, dict(os.environ))


def _reset(arguments: argparse.Namespace) -> int:
    labs.reset(arguments.name)
    return 0


def _down(arguments: argparse.Namespace) -> int:
    names = labs.names() if arguments.all else [arguments.name]
    for name in names:
        say(f"lab {name} is down" if labs.down(name) else f"there is no lab {name}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    rows = [("NAME", "STATE", "CARDS", "ACCELERATOR", "SSH PORT")]
    for lab in labs.every():
        rows.append((lab.name, "up" if lab.running else "stopped", lab.cards, lab.accelerator, str(lab.port)))
    print(table(rows))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    known = labs.find(arguments.name)
    if known and known.running:
        raise LabError(f"lab {arguments.name} is up already, and run would stop it: use another --name")
    _require(arguments.cards)
    try:
        lab = labs.up(arguments.name, arguments.cards)
        return _call(arguments.command, {**os.environ, "ANSIBLE_INVENTORY": str(lab.inventory)})
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        labs.down(arguments.name)


def _call(argv: t.Sequence[str], environment: t.Mapping[str, str]) -> int:
    """Run a command in the foreground, and end it if we are asked to end."""
    try:
        process = subprocess.Popen(argv, env=environment)
    except FileNotFoundError as error:
        raise LabError(f"there is no command {argv[0]}") from error
    try:
        code = process.wait()
    except Interrupted:
        process.terminate()
        try:
            process.wait(_CHILD_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
