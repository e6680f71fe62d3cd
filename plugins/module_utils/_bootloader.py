# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kernel arguments that the boot loader passes at the next boot.

What is there is judged from what the boot loader will read (grub.cfg, the entries of the Boot Loader Specification),
not from the files that this is generated from; so a run that was killed in between is finished by the next one.
"""

from __future__ import annotations

import json
import os
import re
import typing as t
from dataclasses import dataclass, field, replace

from ._errors import HostFailure, InvalidInput, PassthroughError, Refused
from ._files import FileChange, carry_out, read_file
from ._sysfs import below, names, read_bytes

DROP_IN = "/etc/default/grub.d/passthrough.cfg"
GRUB_DEFAULT = "/etc/default/grub"
CMDLINE = "/etc/kernel/cmdline"
RECORD = "/var/lib/kvm.passthrough/kernel_args.json"
BOOT_LOADERS = ("grub", "grubby", "systemd-boot", "proxmox")

HEADER = "# Written by kvm.passthrough.kernel_args, which also takes it back. Changes made here are lost.\n"
# Where mkconfig does not read /etc/default/grub.d (openSUSE), the user's file has to. The drop-in may be missing.
SOURCE = f"if [ -e {DROP_IN} ]; then . {DROP_IN}; fi # kvm.passthrough.kernel_args\n"

# No blank, quote, or sign that the shell, GRUB's own shell or sed in grubby would take for anything but itself.
_ARGUMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:=[A-Za-z0-9_.,:/=+@%^!~-]*)?")
# The kernel's next_arg() in lib/cmdline.c: blanks separate, double quotes hold together.
_WORD = re.compile(r'(?:"[^"]*"?|[^\s"])+')
# Every occurrence counts, for the kernel or for who reads /proc/cmdline. Of all others the last one wins.
_REPEATED = frozenset(
    (
        *("acpi_osi", "blacklist", "bond", "bridge", "console", "crashkernel", "earlycon", "earlyprintk", "hugepages"),
        *("hugepagesz", "ifname", "initcall_blacklist", "ip", "memmap", "modprobe.blacklist", "nameserver", "pci"),
        *("systemd.mask", "systemd.setenv", "systemd.wants", "team", "video", "vlan"),
    )
)
_RECOVERY = frozenset(("single", "recovery", "rescue", "emergency", "S", "1"))
_TOOL_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
_LOADER_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_TIME_LIMIT = 600

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]


@dataclass(frozen=True)
class Word:
    """An argument as it stands in a file."""

    text: str
    file: str
    line: int


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order: files, commands, then the files of finish."""

    boot_loader: str
    root: str
    files: list[FileChange] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    finish: list[FileChange] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    conflicts: list[dict[str, t.Any]] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    # What the boot loader would still do wrong; asked after the commands were run.
    faults: t.Callable[[], list[str]] = list
    # Whether the commands can be run: not on another root, where also what follows them has to wait.
    runs: bool = True

    @property
    def writes(self) -> list[FileChange]:
        return [change for change in self.files + (self.finish if self.runs else []) if change.changed]

    @property
    def changed(self) -> bool:
        return bool(self.writes or (self.commands and self.runs))


# Arguments


def check(args: list[str], present: bool = True) -> list[str]:
    """The arguments without repetition, if each of them can be passed by every boot loader."""
    wanted: list[str] = []
    for arg in args:
        if not _ARGUMENT.fullmatch(arg):
            raise InvalidInput(
                f"{arg!r} is not an argument that can be passed: write NAME or NAME=VALUE, of letters, digits and "
                "_ . , : / = + @ % ^ ! ~ - only"
            )
        if not any(same(arg, other) for other in wanted):
            wanted.append(arg)
    for arg in wanted if present else []:
        rival = next((other for other in wanted if rivals(arg, other)), None)
        if rival:
            raise InvalidInput(f"{arg} and {rival} contradict each other: the kernel takes the last one only")
    return wanted


def key(arg: str) -> str:
    """The parameter's name; '-' and '_' are the same to the kernel (kernel/params.c)."""
    return arg.split("=", 1)[0].replace("-", "_")


def same(one: str, other: str) -> bool:
    return key(one) == key(other) and one.split("=", 1)[1:] == other.split("=", 1)[1:]


def repeats(arg: str) -> bool:
    return arg.split("=", 1)[0] in _REPEATED or arg.startswith("rd.")


def rivals(one: str, other: str) -> bool:
    """Whether only the later one of two arguments counts, and that makes a difference."""
    return key(one) == key(other) and not same(one, other) and not repeats(one)


def holds(line: list[str], arg: str) -> bool:
    """Whether a kernel with these arguments acts on arg."""
    named = [word for word in line if key(word) == key(arg)]
    return any(same(word, arg) for word in (named if repeats(arg) else named[-1:]))


def words(line: str) -> list[str]:
    """The arguments of a kernel command line; what follows "--" is init's."""
    found = _WORD.findall(line)
    return found[: found.index("--")] if "--" in found else found


def running(root: str) -> list[str] | None:
    """The arguments that the running kernel got; None where none runs on this root."""
    line = read_bytes(below(root, "/proc/cmdline"))
    return None if line is None else words(line.decode("utf-8", "replace"))


# The whole


def decide(root: str, wanted_loader: str, args: list[str], present: bool, run: Run | None) -> Plan:
    """What has to be done on this root. run is None where no command can be run; deciding only asks grubby."""
    args = check(args, present)
    boot_loader = detect(root) if wanted_loader == "auto" else wanted_loader
    if boot_loader == "grub":
        plan = _grub(root, args, present)
    elif boot_loader == "grubby":
        plan = _grubby(root, args, present, run)
    else:
        plan = _cmdline(root, boot_loader, args, present)
    return replace(plan, runs=run is not None)


def report(plan: Plan, args: list[str], present: bool) -> dict[str, t.Any]:
    """What the module returns, the same before and after the plan was carried out."""
    args = check(args, present)
    subject = args or plan.added
    line = running(plan.root)
    passed = [holds(line or [], arg) for arg in subject]
    # An argument that is taken back may be given twice, so that any copy of it matters.
    copies = [any(same(word, arg) for word in line or []) for arg in subject]
    due = not all(passed) if present or not args else any(copies)
    return {
        "changed": plan.changed,
        "boot_loader": plan.boot_loader,
        "args": args,
        "added": plan.added,
        "conflicts": plan.conflicts,
        "active": all(passed),
        "reboot_required": line is not None and due,
        "files": list(dict.fromkeys(change.path for change in plan.writes)),
        "commands": plan.commands,
    }


def execute(plan: Plan, run: Run | None, atomic_move: t.Callable[[str, str], None], tmpdir: str | None = None) -> None:
    """Carry the plan out. After a failure the files are what they were before, and the error says so."""
    succeeded: list[list[str]] = []
    try:
        for change in plan.files:
            carry_out(change, atomic_move, tmpdir)
        if run is not None:
            for argv in plan.commands:
                command(argv, run)
                succeeded.append(argv)
            faults = plan.faults() if plan.commands else []
            if faults:
                raise HostFailure(
                    f"{plan.commands[0][0]} succeeded, but the boot loader would not do as asked: {'; '.join(faults)}"
                )
            for change in plan.finish:
                carry_out(change, atomic_move, tmpdir)
    except PassthroughError as error:
        restored = _restore(plan, atomic_move, tmpdir)
        if run is not None and restored:
            # What was generated from the files follows them back, as far as that is possible.
            for argv in succeeded:
                run(_limited(argv))
        said = f"Restored as it was before: {', '.join(restored)}" if restored else "No file had been changed"
        raise HostFailure(f"{error}. {said}") from error
    record = below(plan.root, RECORD)
    if any(change.path == record for change in plan.writes) and not names(os.path.dirname(record)):
        os.rmdir(os.path.dirname(record))


def _restore(plan: Plan, atomic_move: t.Callable[[str, str], None], tmpdir: str | None) -> list[str]:
    """Bring back every file but the record, which tells the next run what is still to be finished."""
    restored = []
    for change in plan.files:
        now = read_file(change.path)
        if change.path != below(plan.root, RECORD) and now != change.before:
            carry_out(FileChange(change.path, now, change.before), atomic_move, tmpdir)
            restored.append(change.path)
    return restored


def command(argv: list[str], run: Run) -> str:
    """Run a command with a time limit (timeout of coreutils); its output."""
    code, out, err = run(_limited(argv))
    if code in (124, 137):
        raise HostFailure(f"{' '.join(argv)} took longer than {_TIME_LIMIT} seconds and was ended")
    if code:
        said = (err.strip() or out.strip() or "nothing").splitlines()
        raise HostFailure(f"{' '.join(argv)} failed with code {code}: {' / '.join(said[-5:])}")
    return out


def _limited(argv: list[str]) -> list[str]:
    return ["timeout", "--kill-after=10", str(_TIME_LIMIT), *argv]


# Detection


def detect(root: str) -> str:
    """The boot loader of this root, from its files alone."""
    if os.path.exists(below(root, "/run/ostree-booted")):
        raise Refused(
            "/run/ostree-booted: this host boots images of OSTree, whose arguments neither grubby nor a file sets; "
            "use 'rpm-ostree kargs' or bootc's kargs.d"
        )
    raw = read_bytes(below(root, _LOADER_INFO))
    info = raw[4:].decode("utf-16-le", "replace").rstrip("\0") if raw else ""
    firmware = bool(names(below(root, "/sys/firmware")))
    booted = "systemd-boot" if info.startswith("systemd-boot") else "another" if info or firmware else None
    managed = proxmox(root)
    grubby = tool(root, "grubby")
    grub = _exists(root, GRUB_DEFAULT) and tool(root, "update-grub", "grub-mkconfig", "grub2-mkconfig")
    installed = tool(root, "kernel-install") and _kernel_install_entries(root)
    if managed and booted:
        return "proxmox" if booted == "systemd-boot" else "grub"
    if grubby and not managed:
        return "grubby"
    if booted == "systemd-boot":
        return "systemd-boot"
    if grub and not managed and (booted or not installed):
        return "grub"
    if installed and not managed and not grub:
        return "systemd-boot"
    raise Refused(
        "the boot loader cannot be told; set boot_loader to one of "
        + ", ".join(BOOT_LOADERS)
        + ". Looked at: "
        + "; ".join(
            (
                f"/etc/kernel/proxmox-boot-uuids and proxmox-boot-tool: {'yes' if managed else 'no'}",
                f"grubby: {grubby or 'no'}",
                f"{GRUB_DEFAULT} and a mkconfig: {grub or 'no'}",
                f"kernel-install and entries of it: {'yes' if installed else 'no'}",
                f"EFI variable LoaderInfo: {info or ('no' if firmware else 'unknown, no /sys here')}",
            )
        )
    )


def tool(root: str, *candidates: str) -> str | None:
    """The path, on the host itself, of the first of these commands that is installed."""
    for name in candidates:
        for folder in _TOOL_FOLDERS:
            if _exists(root, f"{folder}/{name}"):
                return f"{folder}/{name}"
    return None


def proxmox(root: str) -> str | None:
    """proxmox-boot-tool, where it is what fills the boot partitions."""
    listed = (read_file(below(root, "/etc/kernel/proxmox-boot-uuids")) or b"").strip()
    return tool(root, "proxmox-boot-tool") if listed else None


def _exists(root: str, path: str) -> bool:
    # A link whose target is absolute looks broken below another root.
    return os.path.lexists(below(root, path))


def _needed(root: str, *candidates: str) -> str:
    found = tool(root, *candidates)
    if found is None:
        raise Refused(
            f"{' or '.join(candidates)} is not installed; install it, or set boot_loader to what boots this host"
        )
    return found


# The record of what was added where no file is ours


def _record(root: str) -> dict[str, t.Any]:
    path = below(root, RECORD)
    content = read_file(path)
    try:
        record = {"added": [], "created": None, "pending": False, **json.loads(content or b"{}")}
        record["added"] = [{"arg": str(entry["arg"]), "replaced": entry["replaced"]} for entry in record["added"]]
    except (ValueError, TypeError, KeyError) as error:
        raise HostFailure(
            f"{path} is damaged ({error}); remove it to go on without the record of what was added"
        ) from error
    return record


def _recorded(root: str, before: bytes | None, record: dict[str, t.Any]) -> FileChange:
    empty = not record["added"] and record["created"] is None and not record["pending"]
    after = None if empty else json.dumps(record, indent=2, sort_keys=True).encode() + b"\n"
    return FileChange(below(root, RECORD), before, after)


def _around(
    root: str, record: dict[str, t.Any], final: dict[str, t.Any], places: list[FileChange], commands: list[list[str]]
) -> tuple[list[FileChange], list[FileChange]]:
    """The record's changes before and after the commands; in between it says that they are still to be run.

    Until they were, it names what was added before and what is added now: a killed run forgets neither.
    """
    before = read_file(below(root, RECORD))
    if not commands:
        return [*places, _recorded(root, before, {**final, "pending": False})], []
    known = [entry["arg"] for entry in final["added"]]
    both = final["added"] + [entry for entry in record["added"] if entry["arg"] not in known]
    created = record["created"] if final["created"] is None else final["created"]
    first = _recorded(root, before, {"added": both, "created": created, "pending": True})
    return [first, *places], [_recorded(root, first.after, {**final, "pending": False})]


# GRUB with mkconfig


def _grub(root: str, args: list[str], present: bool) -> Plan:
    managed = proxmox(root)
    argv, script, config = _mkconfig(root)
    settings = below(root, GRUB_DEFAULT)
    if not os.path.exists(settings):
        raise Refused(f"{settings} is missing; set boot_loader to what boots this host")
    if _bls(root) and not managed:
        raise Refused(f"{settings} sets GRUB_ENABLE_BLSCFG: GRUB reads boot entries that grubby keeps; install grubby")
    path = below(root, DROP_IN)
    before = read_file(path)
    if before and not before.startswith(HEADER.encode()):
        raise Refused(f"{path} was not written by this module; move what it says to a file of another name")
    reads_folder = b"default/grub.d" in (read_file(below(root, script)) or b"")

    sources = _grub_sources(root, reads_folder)
    env: dict[str, list[Word]] = {}
    for file, text in sources:
        if file != path:
            evaluate(text, file, env)
    theirs = env.get("GRUB_CMDLINE_LINUX", []) + env.get("GRUB_CMDLINE_LINUX_DEFAULT", [])
    # 10_linux puts GRUB_CMDLINE_LINUX_DEFAULT last, so that it wins over GRUB_CMDLINE_LINUX.
    last = [word.text for word in env.get("GRUB_CMDLINE_LINUX_DEFAULT", [])]
    own = evaluate((before or b"").decode("utf-8", "replace"), path, {})
    held = [word.text for word in own.get("GRUB_CMDLINE_LINUX", [])]

    if present:
        kept = [word for word in held if not any(rivals(word, arg) for arg in args)]
        line = [word.text for word in theirs]
        kept += [arg for arg in args if not any(same(arg, word) for word in kept) and not holds(line, arg)]
    else:
        given = [
            f"{word.file}:{word.line} gives {word.text}" for word in theirs if any(same(word.text, a) for a in args)
        ]
        if given:
            raise Refused(f"{'; '.join(given)}: remove it there, since only what this module added is taken back")
        kept = [word for word in held if not any(same(word, arg) for arg in args)]
    if not args:
        kept = held
    late = [word for word in kept if any(rivals(word, other) for other in last) and not holds(last, word)]
    after = before if not args else drop_in(kept, late) if kept else None
    files = [FileChange(path, before, after)]
    if not reads_folder and args:
        content = read_file(settings) or b""
        files.append(FileChange(settings, content, _sourced(content, bool(kept))))
    if present and args and kept:
        _not_reset(sources, path, (after or b"").decode(), kept)

    wanted = kept + [arg for arg in args if present and not any(same(arg, word) for word in kept)]
    unwanted = [] if present else args

    def faults() -> list[str]:
        content = read_file(below(root, config))
        if managed or (content is None and not wanted):
            return []
        return [f"{config} is missing"] if content is None else _faults(grub_lines(content), wanted, unwanted)

    changed = any(one.changed for one in files)
    record = _record(root)
    stale = bool(args) and (changed or bool(faults()) or record["pending"])
    commands = [[managed, "refresh"] if managed else argv] if stale else []
    diff = [one.diff() for one in files if one.changed]
    finish: list[FileChange] = []
    if managed:
        # The configuration lies on partitions that are not mounted: only the record tells that it is still to be made.
        files, finish = _around(root, record, record, files, commands)
    conflicts = [
        {"arg": arg, "other": word.text, "file": word.file, "line": word.line}
        for arg in (args if present else [])
        for word in theirs
        if rivals(arg, word.text)
    ]
    return Plan("grub", root, files, commands, finish, kept, conflicts, diff, faults)


def _mkconfig(root: str) -> tuple[list[str], str, str]:
    """The command that makes the configuration, the script behind it, and the file that it makes."""
    command_path = _needed(root, "update-grub", "grub-mkconfig", "grub2-mkconfig")
    script = tool(root, "grub-mkconfig", "grub2-mkconfig") or command_path
    config = "/boot/grub2/grub.cfg" if script.endswith("grub2-mkconfig") else "/boot/grub/grub.cfg"
    return [command_path] if command_path.endswith("update-grub") else [command_path, "-o", config], script, config


def drop_in(args: list[str], late: list[str]) -> bytes:
    """The drop-in's text. late are those that have to win over GRUB_CMDLINE_LINUX_DEFAULT as well."""
    text = HEADER + f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(args)}"\n'
    if late:
        text += f'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {" ".join(late)}"\n'
    return text.encode()


def evaluate(text: str, file: str, env: dict[str, list[Word]]) -> dict[str, list[Word]]:
    """Take over the assignments of a shell file into env, each value as words that know where they stand.

    Only plain assignments are understood, at the start of a line: with quotes, backslashes, and other variables. What a
    script decides while it runs is not known here; it is seen afterwards in what mkconfig wrote.
    """
    end = 0
    for match in re.finditer(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)(\+?)=", text, re.MULTILINE):
        if match.start() < end:
            continue
        line = text.count("\n", 0, match.start(1)) + 1
        parts, end = _shell_word(text, match.end())
        value = list(env.get(match.group(1), [])) if match.group(2) else []
        for literal, variable in parts:
            value += [Word(word, file, line) for word in words(literal)]
            value += env.get(variable, [])
        env[match.group(1)] = value
    return env


def _shell_word(text: str, position: int) -> tuple[list[tuple[str, str]], int]:
    """The value of an assignment as (literal, variable after it), and where it ends."""
    parts: list[tuple[str, str]] = []
    literal = ""
    quote = ""
    while position < len(text):
        char = text[position]
        if quote == "'" and char != "'":
            literal += char
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\":
            position += 1
            literal += text[position : position + 1].replace("\n", "")
        elif char == "$":
            match = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:\}|[^}]*\}))").match(text, position)
            if match:
                parts.append((literal, match.group(1) or match.group(2)))
                literal = ""
                position = match.end() - 1
            else:
                literal += char
        elif not quote and char in " \t\r\n;&|":
            break
        else:
            literal += char
        position += 1
    return [*parts, (literal, "")], position


def grub_lines(content: bytes) -> dict[str, list[str]]:
    """The arguments of the Linux entries in grub.cfg by the place of their line.

    Recovery entries get no GRUB_CMDLINE_LINUX_DEFAULT; those of 30_os-prober and 40_custom are other systems'.
    """
    found = {}
    section = None
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        mark = re.match(r"### (BEGIN|END) (\S+) ###", line)
        if mark:
            section = os.path.basename(mark.group(2)) if mark.group(1) == "BEGIN" else None
        match = re.match(r"\s*linux(?:16|efi)?\s+(\S+)\s+(.*)", line)
        if match and (section is None or section.startswith("10_linux")):
            args = words(match.group(2))
            if not _RECOVERY.intersection(args):
                found[f"grub.cfg:{number} ({os.path.basename(match.group(1))})"] = args
    return found


def _grub_sources(root: str, reads_folder: bool) -> list[tuple[str, str]]:
    """The files that mkconfig reads, in its order, and their text."""
    paths = [below(root, GRUB_DEFAULT)]
    folder = below(root, os.path.dirname(DROP_IN))
    if reads_folder:
        paths += [os.path.join(folder, name) for name in names(folder) if name.endswith(".cfg") and name[0] != "."]
    return [(path, (read_file(path) or b"").decode("utf-8", "replace")) for path in paths]


def _not_reset(sources: list[tuple[str, str]], path: str, text: str, kept: list[str]) -> None:
    """A file that is read after ours and does not build on what was there before would undo it."""
    env: dict[str, list[Word]] = {}
    for file, other in sorted([*[s for s in sources if s[0] != path], (path, text)], key=_grub_order):
        evaluate(other, file, env)
        now = [word.text for word in env.get("GRUB_CMDLINE_LINUX", [])]
        line = now + [word.text for word in env.get("GRUB_CMDLINE_LINUX_DEFAULT", [])]
        lost = [arg for arg in kept if arg not in now or not holds(line, arg)]
        if lost and _grub_order((file, "")) > _grub_order((path, "")):
            raise Refused(
                f"{file} is read after {path} and overrules it, so that {' '.join(lost)} would not be passed; "
                'let it build on what was set before, as GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX ..." does'
            )


def _grub_order(source: tuple[str, str]) -> tuple[bool, str]:
    return (not source[0].endswith(GRUB_DEFAULT), source[0])


def _sourced(content: bytes, wanted: bool) -> bytes:
    """The user's /etc/default/grub with, or without, the line that reads our drop-in; every other byte as it was."""
    line = SOURCE.encode()
    if wanted and line.rstrip() not in content:
        return content + line if content.endswith(b"\n") or not content else content + b"\n" + line.rstrip()
    if not wanted:
        for ours in (line, b"\n" + line.rstrip()):
            if content.endswith(ours) or ours == line:
                content = content.replace(ours, b"")
    return content


def _bls(root: str) -> bool:
    env = evaluate((read_file(below(root, GRUB_DEFAULT)) or b"").decode("utf-8", "replace"), "", {})
    return [word.text for word in env.get("GRUB_ENABLE_BLSCFG", [])] == ["true"]


def _faults(lines: dict[str, list[str]], wanted: list[str], unwanted: list[str]) -> list[str]:
    """Where the boot loader would not pass what is wanted, or would pass what is not."""
    found = []
    for place, line in lines.items():
        found += [f"{place} lacks {arg}" for arg in wanted if not holds(line, arg)]
        found += [f"{place} still has {arg}" for arg in unwanted if any(same(word, arg) for word in line)]
    return found


# /etc/kernel/cmdline: kernel-install with systemd-boot, and Proxmox


def _cmdline(root: str, boot_loader: str, args: list[str], present: bool) -> Plan:
    path = below(root, CMDLINE)
    before = read_file(path)
    record = _record(root)
    base = _base(root) if before is None else before
    if b"\r" in base and args:
        raise Refused(f"{path} holds a carriage return, which the kernel gets as a part of an argument; remove it")
    first_only = boot_loader == "proxmox"
    text = base.decode("latin-1")
    there = [text[start:end] for start, end in _spans(text, first_only)]
    added = [entry for entry in record["added"] if any(same(entry["arg"], word) for word in there)]
    for arg in args:
        text = _with(text, arg, first_only, added) if present else _without(text, arg, first_only, added)
    # Where the file is ours as a whole, the record keeps what it was made from, so that it can go again.
    created = base.decode("latin-1") if before is None else record["created"]
    unmade = text == created and not added
    whole = FileChange(path, before, None if unmade else text.encode("latin-1"))
    # kernel-install would take the arguments of the running kernel again, were the file gone while it runs.
    change = FileChange(path, before, text.encode("latin-1")) if before is not None else whole
    final = {"added": added, "created": created if added else None}

    def faults() -> list[str]:
        lines = {} if first_only else {e.file: e.args for e in _kernel_install_entries(root) if e.image}
        return _faults(lines, args if present else [], [] if present else args)

    commands = []
    if args and (whole.changed or record["pending"] or faults()):
        commands = _refresh(root, first_only)
    files: list[FileChange] = []
    finish: list[FileChange] = []
    if args:
        files, finish = _around(root, record, final, [change], commands)
        finish = [FileChange(path, change.after, whole.after), *finish]
    diff = [whole.diff()] if args and whole.changed else []
    return Plan(boot_loader, root, files, commands, finish, [entry["arg"] for entry in added], [], diff, faults)


def _base(root: str) -> bytes:
    """What kernel-install takes where /etc/kernel/cmdline is missing (90-loaderentry.install)."""
    packaged = read_file(below(root, "/usr/lib/kernel/cmdline"))
    if packaged is not None:
        return packaged
    passed = (read_bytes(below(root, "/proc/cmdline")) or b"").split()
    line = [word for word in passed if not word.startswith((b"BOOT_IMAGE=", b"initrd="))]
    if not line:
        raise Refused(f"{below(root, CMDLINE)} is missing, and there is no running kernel to take its arguments from")
    return b" ".join(line) + b"\n"


def _spans(text: str, first_only: bool) -> list[tuple[int, int]]:
    """Where the kernel's arguments stand. kernel-install joins all lines, proxmox-boot-tool reads the first."""
    found: list[tuple[int, int]] = []
    for line in re.finditer(r"[^\n]*\S[^\n]*", text):
        if line.group().startswith("#") and not first_only:
            continue
        for word in _WORD.finditer(line.group()):
            if word.group() == "--":
                return found
            found.append((line.start() + word.start(), line.start() + word.end()))
        if first_only:
            break
    return found


def _with(text: str, arg: str, first_only: bool, added: list[dict[str, t.Any]]) -> str:
    spans = _spans(text, first_only)
    if holds([text[start:end] for start, end in spans], arg):
        return text
    rival = [span for span in spans if rivals(text[span[0] : span[1]], arg)]
    if not rival:
        end = spans[-1][1] if spans else 0
        added.append({"arg": arg, "replaced": None})
        return f"{text[:end]} {arg}{text[end:]}" if spans else f"{arg} {text}".rstrip(" ")
    start, end = rival[-1]
    previous = next((entry for entry in added if same(entry["arg"], text[start:end])), None)
    if previous:
        # It was ours: what the user had before is still what is restored.
        added.remove(previous)
    original = previous["replaced"] if previous else text[start:end]
    if original is None or not same(original, arg):
        added.append({"arg": arg, "replaced": original})
    return text[:start] + (original if original and same(original, arg) else arg) + text[end:]


def _without(text: str, arg: str, first_only: bool, added: list[dict[str, t.Any]]) -> str:
    entry = next((entry for entry in added if same(entry["arg"], arg)), None)
    for start, end in reversed([s for s in _spans(text, first_only) if same(text[s[0] : s[1]], arg)]):
        if entry and entry["replaced"]:
            text = text[:start] + entry["replaced"] + text[end:]
            entry = {**entry, "replaced": None}
            continue
        left = len(text[:start].rstrip(" \t"))
        if left == 0 or text[left - 1] == "\n":
            # The first of its line takes the blanks after it along.
            text = text[:start] + text[end:].lstrip(" \t")
        else:
            text = text[:left] + text[end:]
    added[:] = [other for other in added if not same(other["arg"], arg)]
    return text


@dataclass(frozen=True)
class BootEntry:
    """An entry of the Boot Loader Specification."""

    file: str
    version: str
    args: list[str]
    image: str | None = None


def boot_entries(root: str) -> list[BootEntry]:
    """The entries in loader/entries, wherever the boot partition is mounted."""
    found = []
    for folder in ("/boot", "/boot/efi", "/efi"):
        place = below(root, f"{folder}/loader/entries")
        for name in (name for name in names(place) if name.endswith(".conf")):
            keys: dict[str, str] = {}
            for line in (read_file(os.path.join(place, name)) or b"").decode("utf-8", "replace").splitlines():
                word, _blank, value = line.strip().partition(" ")
                # options may stand more than once, and are joined.
                keys[word] = f"{keys[word]} {value.strip()}" if word == "options" and word in keys else value.strip()
            version = keys.get("version", "")
            images = (
                f"/usr/lib/modules/{version}/vmlinuz",
                f"/lib/modules/{version}/vmlinuz",
                f"/boot/vmlinuz-{version}",
            )
            image = next((path for path in images if version and _exists(root, path)), None)
            if "linux" in keys:
                found.append(BootEntry(os.path.join(place, name), version, words(keys.get("options", "")), image))
    return found


def _kernel_install_entries(root: str) -> list[BootEntry]:
    """Those that kernel-install wrote: their names start with its token."""
    tokens = [
        (read_file(below(root, path)) or b"").decode("ascii", "replace").strip()
        for path in ("/etc/kernel/entry-token", "/etc/machine-id")
    ]
    starts = tuple(f"{token}-" for token in tokens if token)
    return [entry for entry in boot_entries(root) if starts and os.path.basename(entry.file).startswith(starts)]


def _refresh(root: str, is_proxmox: bool) -> list[list[str]]:
    if is_proxmox:
        return [[_needed(root, "proxmox-boot-tool"), "refresh"]]
    tool_path = _needed(root, "kernel-install")
    kernels = {entry.version: entry.image for entry in _kernel_install_entries(root) if entry.image}
    if not kernels:
        raise Refused(
            "no entry in loader/entries below /boot, /boot/efi or /efi was written by kernel-install for a kernel that "
            f"is installed, so that this host does not boot with {CMDLINE}; add the arguments to its entries by hand"
        )
    return [[tool_path, "add", version, image] for version, image in sorted(kernels.items()) if image]


# grubby


def grubby_entries(info: str) -> dict[str, list[str]]:
    """The arguments of every entry in the output of grubby --info=ALL, by index and kernel."""
    found: dict[str, list[str]] = {}
    index = kernel = ""
    for line in info.splitlines():
        name, _equals, value = line.partition("=")
        value = value.strip()
        if len(value) > 1 and value.startswith('"') and value.endswith('"'):
            value = value[1:-1]
        if name == "index":
            index, kernel = value, ""
        elif name == "kernel":
            kernel = value
            found[f"entry {index} ({kernel})"] = []
        elif name == "args" and kernel:
            found[f"entry {index} ({kernel})"] = words(value)
    return found


def _grubby(root: str, args: list[str], present: bool, run: Run | None) -> Plan:
    binary = _needed(root, "grubby")

    def lines() -> dict[str, list[str]]:
        if run is None:
            return {entry.file: entry.args for entry in boot_entries(root)}
        return grubby_entries(command([binary, "--info=ALL"], run))

    entries = lines()
    if not entries:
        raise HostFailure(
            "grubby --info=ALL names no entry with a kernel; this host is not booted by what grubby keeps"
        )
    record = _record(root)
    there = [word for line in entries.values() for word in line]
    added = [entry for entry in record["added"] if any(same(entry["arg"], word) for word in there)]
    remove: list[str] = []
    add: list[str] = []
    for arg in args:
        known = next((entry for entry in added if same(entry["arg"], arg)), None)
        if present and any(not holds(line, arg) for line in entries.values()):
            rival = [word for line in entries.values() for word in line if rivals(word, arg)]
            previous = next((entry for entry in added if any(same(entry["arg"], word) for word in rival)), None)
            remove += rival
            add.append(arg)
            if previous:
                added.remove(previous)
            if not known:
                original = previous["replaced"] if previous else rival[-1] if rival else None
                added.append({"arg": arg, "replaced": original})
        elif not present:
            copies = [word for line in entries.values() for word in line if same(word, arg)]
            _exact(entries, copies)
            remove += copies
            if copies and known and known["replaced"]:
                add.append(known["replaced"])
            added = [entry for entry in added if not same(entry["arg"], arg)]
    expected = {place: _updated(line, remove, add) for place, line in entries.items()}
    argv = [binary, "--update-kernel=ALL"]
    argv += [f"--remove-args={' '.join(dict.fromkeys(remove))}"] if remove else []
    argv += [f"--args={' '.join(add)}"] if add else []
    commands = [argv] if remove or add else []
    if commands and run is None:
        raise Refused(f"grubby works on the running system only; in a chroot of {root}, run {' '.join(argv)}")

    def faults() -> list[str]:
        now = lines()
        lost = [
            f"{place} lost {word}"
            for place, line in expected.items()
            for word in line
            if word not in now.get(place, line)
        ]
        return lost + _faults(now, args if present else [], [] if present else args)

    files: list[FileChange] = []
    finish: list[FileChange] = []
    if args:
        files, finish = _around(root, record, {"added": added, "created": record["created"]}, [], commands)
    diff = []
    if commands:
        diff.append(
            {
                "before_header": "grubby --info=ALL",
                "after_header": "grubby --info=ALL",
                "before": "".join(f"{place}: {' '.join(line)}\n" for place, line in entries.items()),
                "after": "".join(f"{place}: {' '.join(line)}\n" for place, line in expected.items()),
            }
        )
    shown = [entry["arg"] for entry in added if any(same(entry["arg"], w) for line in expected.values() for w in line)]
    return Plan("grubby", root, files, commands, finish, shown, [], diff, faults)


def _exact(entries: dict[str, list[str]], copies: list[str]) -> None:
    """grubby takes 'name' in --remove-args for 'name=' with any value as well."""
    for bare in (word for word in copies if "=" not in word):
        for place, line in entries.items():
            other = next((word for word in line if word.startswith(bare + "=")), None)
            if other:
                raise Refused(f"grubby cannot remove {bare} without {other} of {place}; remove it by hand")


def _updated(line: list[str], remove: list[str], add: list[str]) -> list[str]:
    kept = [word for word in line if word not in remove and word not in add]
    return kept + add
