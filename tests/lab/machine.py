# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host's virtual machine: QEMU of the lab's own, started, waited for and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import sandbox
import store
from images import Image
from profiles import UPLINK_MAC, Card, Profile
from ui import LabError, Step, last_lines

BOOT_SECONDS = 600.0  # software emulation on a busy machine takes its time
_PROBE_SECONDS = 20.0
_PROBE_END = b"Unable to mount root fs"  # the kernel came through all of its own start

_CARD = Path(__file__).resolve().with_name("card.py")
_VFIO_USER = (10, 1)  # the first QEMU that takes a program for a card

_LAB = "/run/lab"
_IMAGES = "/run/images"


def accelerator(qemu: Image, step: Step) -> str:
    """Return `kvm` if this machine's KVM works and nests, else `tcg`; asked once per boot of the machine.

    That /dev/kvm exists proves nothing: some machines have it, and QEMU aborts or hangs.
    """
    chosen = os.environ.get("KVM_PASSTHROUGH_ACCELERATOR")
    if chosen:
        if chosen not in ("kvm", "tcg"):
            raise LabError(f"KVM_PASSTHROUGH_ACCELERATOR is {chosen!r}; it takes kvm or tcg")
        return chosen
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = store.cache() / f"accelerator-{boot}"
    with store.locked("accelerator"):
        if not answer.exists():
            step.at("looking whether KVM works here")
            found = "kvm" if _kvm_nests() and _kvm_boots(qemu) else "tcg"
            for old in store.cache().glob("accelerator-*"):
                old.unlink()
            answer.write_text(f"{found}\n")
        return answer.read_text().strip()


def _kvm_nests() -> bool:
    for module in ("kvm_intel", "kvm_amd"):
        nested = Path("/sys/module") / module / "parameters/nested"
        if nested.exists() and nested.read_text().strip() in ("1", "Y", "y"):
            return os.access("/dev/kvm", os.R_OK | os.W_OK)
    return False


def _kvm_boots(qemu: Image) -> bool:
    kernel = max((qemu.root / "boot").glob("vmlinuz-*")).name
    argv = ["timeout", "--signal=KILL", str(_PROBE_SECONDS), "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host"]
    argv += ["-machine", "q35,kernel-irqchip=split", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot"]
    argv += ["-serial", "stdio", "-kernel", f"/boot/{kernel}", "-append", "console=ttyS0 panic=-1"]
    done = subprocess.run(
        sandbox.enter(qemu.root, argv),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=sandbox.environment(),
        check=False,
    )
    return _PROBE_END in done.stdout


def new_disk(profile: Profile, folder: Path, images: t.Mapping[str, Image]) -> None:
    """Give the lab clean disks: an empty overlay on its system's image, and empty ones."""
    system = f"{_IMAGES}/{profile.system}"
    binds = [sandbox.Bind(images[profile.system].folder, system), sandbox.Bind(folder, _LAB, writable=True)]
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    argv = [*create, "-F", "raw", "-b", f"{system}/disk.raw", f"{_LAB}/disk.qcow2"]
    sandbox.output(images["qemu"].root, argv, binds)
    for serial, size in profile.disks:
        sandbox.output(images["qemu"].root, [*create, f"{_LAB}/{serial}.qcow2", size], binds)


def command(profile: Profile, accelerator_: str, token: str, port: int) -> list[str]:
    """Return QEMU's command line. The token marks the process as this lab's; nothing else has it."""
    argv = ["qemu-system-x86_64", "-name", "hypervisor", "-uuid", token, "-nodefaults", "-display", "none"]
    argv += ["-m", str(profile.memory), "-smp", str(profile.cpus), "-rtc", "base=utc"]
    if accelerator_ == "kvm":
        argv += ["-accel", "kvm", "-cpu", "host"]
    else:
        # TCG emulates AMD's SVM, so that the lab host has a KVM of its own; `-cpu max` makes its kernel panic.
        cpu = "EPYC,+svm,+npt" if profile.nests else "EPYC,-svm"
        argv += ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", cpu]
    board = "q35,kernel-irqchip=split"
    if any(card.program for card in profile.cards):
        # A program that is a card has to be given the machine's memory.
        argv += ["-object", f"memory-backend-memfd,id=memory,size={profile.memory}M,share=on"]
        board += ",memory-backend=memory"
    argv += ["-machine", board]
    if profile.iommu:
        argv += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
    argv += ["-chardev", f"socket,id=console,path={_LAB}/console.sock,server=on,wait=off,logfile={_LAB}/console.log"]
    argv += ["-serial", "chardev:console", "-monitor", f"unix:{_LAB}/monitor.sock,server=on,wait=off"]
    argv += _disk("system", f"file={_LAB}/disk.qcow2,format=qcow2,cache=unsafe,discard=unmap", "addr=0x8,bootindex=0")
    for slot, name in enumerate(profile.images, 0x9):
        drive = f"file={_IMAGES}/{name}/disk.raw,format=raw,read-only=on"
        # Of a serial number, 20 characters are kept.
        argv += _disk(name, drive, f"addr={slot:#x},serial={name}-image")
    for slot, (serial, _size) in enumerate(profile.disks, 0x9 + len(profile.images)):
        drive = f"file={_LAB}/{serial}.qcow2,format=qcow2,cache=unsafe,discard=unmap"
        argv += _disk(serial, drive, f"addr={slot:#x},serial={serial}")
    argv += ["-netdev", f"user,id=uplink,hostfwd=tcp:127.0.0.1:{port}-:22"]
    argv += ["-device", f"{profile.uplink},bus=pcie.0,addr=0x2,netdev=uplink,mac={UPLINK_MAC}"]
    return argv + _cards(profile)


def _disk(name: str, drive: str, device: str) -> list[str]:
    return ["-drive", f"if=none,id={name},{drive}", "-device", f"virtio-blk-pci,bus=pcie.0,drive={name},{device}"]


def _cards(profile: Profile) -> list[str]:
    argv: list[str] = []
    for port in profile.ports:
        argv += ["-device", f"pcie-root-port,id=port{port},bus=pcie.0,addr={0x10 + port:#x},chassis={port},slot={port}"]
        if port in profile.conventional_ports:
            argv += ["-device", f"pcie-pci-bridge,id=conventional{port},bus=port{port}"]
    for card in profile.cards:
        if card.program is not None:
            argv += ["-device", json.dumps(_program_device(card))]
            continue
        device = f"{card.device},id={card.name},{_place(card)}"
        if card.subnet:
            argv += ["-netdev", f"user,id=net-{card.name},net={card.subnet},restrict=on"]
            device += f",netdev=net-{card.name},mac={card.mac}"
        argv += ["-device", device]
    return argv


def _program_device(card: Card) -> dict[str, t.Any]:
    """Return the device of a card that is a program; QEMU takes the socket's address in this form only."""
    place = dict(setting.split("=") for setting in _place(card).split(","))
    socket_ = {"type": "unix", "path": f"{_LAB}/{card.name}.sock"}
    return {"driver": card.device, "id": card.name, **place, "socket": socket_}


def _place(card: Card) -> str:
    if card.slot is None:
        return f"bus=port{card.port}"
    return f"bus={'pcie.0' if card.port is None else f'conventional{card.port}'},addr={card.slot:#x}"


def start(profile: Profile, folder: Path, images: t.Mapping[str, Image], argv: t.Sequence[str], token: str) -> None:
    """Start QEMU and return once it runs; its mounts and files go with it."""
    _start_cards(profile, folder, images["qemu"], token)
    binds = [sandbox.Bind(folder, _LAB, writable=True)]
    binds += [sandbox.Bind(image.folder, f"{_IMAGES}/{name}") for name, image in images.items()]
    for name in ("console.log", "console.sock", "monitor.sock"):
        (folder / name).unlink(missing_ok=True)
    log = folder / "qemu.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            sandbox.enter(images["qemu"].root, argv, binds),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=sandbox.environment(),
            start_new_session=True,
        )
    while not (folder / "monitor.sock").exists():
        if process.poll() is not None:
            stop(token)  # cards that wait for it
            raise LabError(f"QEMU did not start: {' | '.join(last_lines(log, 4))}")
        time.sleep(0.05)


def _start_cards(profile: Profile, folder: Path, qemu: Image, token: str) -> None:
    """Start the programs that are cards of this profile, and return once they listen; they end with QEMU."""
    programs = {card.name: card.program for card in profile.cards if card.program is not None}
    if programs and not (version := _qemu_version(qemu)) >= _VFIO_USER:
        raise LabError(
            f"cards made of software need QEMU {_text(_VFIO_USER)}, the lab has {_text(version)}: use a mirror with"
            " Debian's backports (KVM_PASSTHROUGH_MIRROR), and rebuild with: build --again"
        )
    for name, arguments in programs.items():
        listening = folder / f"{name}.sock"
        listening.unlink(missing_ok=True)
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                # A socket's path is short: relative to the lab's folder.
                [sys.executable, str(_CARD), listening.name, *arguments, "--token", token],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not listening.exists():
            if process.poll() is not None:
                stop(token)
                raise LabError(f"card {name} did not start: {' | '.join(last_lines(log, 4))}")
            time.sleep(0.02)


def _qemu_version(qemu: Image) -> tuple[int, ...]:
    said = sandbox.output(qemu.root, ["qemu-system-x86_64", "--version"])
    return tuple(int(part) for part in re.findall(r"version (\d+)\.(\d+)", said)[0])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def processes(token: str) -> list[int]:
    """Return the processes that have the token among their arguments, QEMU or what is about to become it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if token.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def stop(token: str) -> None:
    """Stop the lab's QEMU and its cards at once; its disk is thrown away anyway."""
    deadline = time.monotonic() + 30.0
    while running := processes(token):
        if time.monotonic() > deadline:
            raise LabError(f"QEMU (process {running[0]}) does not end; look at it with ps")
        for pid in running:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _reap()
        time.sleep(0.05)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def wait_for_ssh(folder: Path, token: str, port: int, step: Step) -> None:
    """Wait until the lab host answers SSH, saying what it is at."""
    config = folder / "ssh_config"
    while True:
        console = last_lines(folder / "console.log", 3)
        step.at(f"waiting for SSH on port {port}; console: {console[-1] if console else '(nothing yet)'}")
        if _answers(port):
            argv = ["ssh", "-F", str(config), "hypervisor", "true"]
            if subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
                return
        if not processes(token):
            raise LabError(f"QEMU ended while booting: {' | '.join(last_lines(folder / 'qemu.log', 4))}")
        if any("Kernel panic" in line for line in console):
            raise LabError(f"the lab host's kernel panicked: {' | '.join(console)}")
        if step.elapsed > BOOT_SECONDS:
            raise LabError(f"no SSH after {BOOT_SECONDS:.0f} s; the console's end: {' | '.join(console)}")
        time.sleep(0.5)


def _answers(port: int) -> bool:
    """Return whether an SSH server greets; QEMU itself accepts connections from the start."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.settimeout(2.0)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
