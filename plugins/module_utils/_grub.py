# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GRUB with mkconfig: the module's drop-in for /etc/default/grub.d, and the grub.cfg that is made from it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ._boot_detect import GRUB_DEFAULT
from ._boot_plan import Plan, read_record, record_around
from ._boot_tools import needed, proxmox, tool
from ._errors import Refused
from ._files import FileChange, read_file
from ._kernel_line import faults_of, holds, rivals, same, words
from ._sysfs import below, names

DROP_IN = "/etc/default/grub.d/passthrough.cfg"
HEADER = "# Written by kvm.passthrough.kernel_args, which also takes it back. Changes made here are lost.\n"
# Where mkconfig does not read /etc/default/grub.d (openSUSE), the user's file has to. The drop-in may be missing.
SOURCE = f"if [ -e {DROP_IN} ]; then . {DROP_IN}; fi # kvm.passthrough.kernel_args\n"
_RECOVERY = frozenset(("single", "recovery", "rescue", "emergency", "S", "1"))


@dataclass(frozen=True)
class Word:
    """An argument as it stands in a file."""

    text: str
    file: str
    line: int


def grub_plan(root: str, args: list[str], present: bool) -> Plan:
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
        return [f"{config} is missing"] if content is None else faults_of(grub_lines(content), wanted, unwanted)

    changed = any(one.changed for one in files)
    record = read_record(root)
    stale = bool(args) and (changed or bool(faults()) or record["pending"])
    commands = [[managed, "refresh"] if managed else argv] if stale else []
    diff = [one.diff() for one in files if one.changed]
    finish: list[FileChange] = []
    if managed:
        # The configuration lies on partitions that are not mounted: only the record tells that it is still to be made.
        files, finish = record_around(root, record, record, files, commands)
    conflicts = [
        {"arg": arg, "other": word.text, "file": word.file, "line": word.line}
        for arg in (args if present else [])
        for word in theirs
        if rivals(arg, word.text)
    ]
    return Plan("grub", root, files, commands, finish, kept, conflicts, diff, faults)


def _mkconfig(root: str) -> tuple[list[str], str, str]:
    """The command that makes the configuration, the script behind it, and the file that it makes."""
    command_path = needed(root, "update-grub", "grub-mkconfig", "grub2-mkconfig")
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
