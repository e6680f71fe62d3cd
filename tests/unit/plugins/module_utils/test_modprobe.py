# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _modprobe
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput, Refused

HEADER = _modprobe.HEADER
ODD = (
    b"# caf\xe9, Latin-1\n\n\tblacklist\tnouveau # reason\n  blacklist snd-hda-intel trailing words\n"
    b"black\\\nlist joined\nblacklist \\\n  split\n#comment \\\nblacklist swallowed\n # blacklist indented_comment\n"
    b"Blacklist upper\nblacklist fo\\o\nblacklist carriage\r\nblacklist spaced \r\ninstall quiet /bin/true # why\n"
    b"install loud /sbin/modprobe --ignore-install loud\noptions blacklist nothing=1\nblacklist last"
)


def tree(tmp_path, files):
    for name, content in files.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(tmp_path)


def test_lines_joined_are_the_file():
    for content in (ODD, b"", b"\n", b"a\\", b"a\\\n", b"a\\\\\nb", b"\\\n\\\nx\n"):
        assert b"".join(line.raw for line in _modprobe.lines(content)) == content


def test_entries_of_odd_spellings():
    found = [(e.module, e.line, e.effective, e.blocks) for e in _modprobe.entries(ODD, "f")]
    assert found == [
        ("nouveau", 3, True, True),
        ("snd_hda_intel", 4, True, True),
        ("joined", 5, True, True),
        ("split", 7, True, True),
        ("foo", 13, True, True),
        ("carriage", 14, False, True),
        ("spaced", 15, True, True),
        ("quiet", 16, True, True),
        ("loud", 17, True, False),
        ("last", 19, True, True),
    ]


@pytest.mark.skipif(not shutil.which("modprobe"), reason="modprobe is not installed (package kmod)")
def test_entries_agree_with_modprobe(tmp_path):
    """modprobe -c is the oracle of what a file says, and of which files are read in which order."""
    files = {
        "b.conf": ODD,
        "a.conf": b"blacklist first\n",
        ".hidden.conf": b"blacklist hidden\n",
        "c": b"blacklist c\n",
    }
    root = tree(tmp_path, {f"/etc/modprobe.d/{name}": content for name, content in files.items()})
    shown = subprocess.run(
        ["modprobe", "-c", "-C", f"{root}/etc/modprobe.d"], capture_output=True, check=True, timeout=60
    ).stdout
    told = re.findall(
        rb"^(blacklist|install) (\S+)( |(?=\r)|$)", shown.split(b"# End of configuration")[0], re.MULTILINE
    )
    theirs = sorted((kind.decode(), name.decode()) for kind, name, _rest in told)
    ours = [
        found for path in _modprobe.read_order(root) for found in _modprobe.entries(_modprobe.read_file(path), path)
    ]
    assert sorted(("blacklist" if e.command is None else "install", e.module) for e in ours) == theirs
    assert ("blacklist", "hidden") not in theirs
    assert ("blacklist", "first") in theirs


# content before, modules, state, install, content after
EDITS = {
    "a new file gets the header": (None, ["hfcmulti"], True, False, HEADER + b"blacklist hfcmulti\n"),
    "on demand it is not loaded by name either": (
        None,
        ["a"],
        True,
        True,
        HEADER + b"blacklist a\ninstall a /bin/false\n",
    ),
    "an empty file of the user's gets none": (b"", ["a"], True, False, b"blacklist a\n"),
    "A: absent of nothing makes no file": (None, ["a"], False, False, None),
    "C: a reason after the name is seen by present": (
        b"blacklist nouveau # reason\n",
        ["nouveau"],
        True,
        False,
        b"blacklist nouveau # reason\n",
    ),
    "C: and by absent": (b"x\nblacklist nouveau # reason\n", ["nouveau"], False, False, b"x\n"),
    "D: - is _ for present": (
        b"blacklist snd-hda-intel\n",
        ["snd_hda_intel"],
        True,
        False,
        b"blacklist snd-hda-intel\n",
    ),
    "D: and for absent": (b"# \nblacklist snd-hda-intel\n", ["snd_hda_intel"], False, False, b"# \n"),
    "E: Latin-1 stays": (b"# caf\xe9\n", ["a"], True, False, b"# caf\xe9\nblacklist a\n"),
    "F: white space at line ends stays": (b"x  \ny\t\n\n", ["a"], True, False, b"x  \ny\t\n\nblacklist a\n"),
    "a missing final newline stays missing": (b"x\ny", ["a"], True, False, b"x\nblacklist a\ny"),
    "a last line that goes on is not continued by ours": (b"x\ny\\\n", ["a"], True, False, b"x\nblacklist a\ny\\\n"),
    "CR LF of others stays, ours has none": (
        b"options x y=1\r\n",
        ["a"],
        True,
        False,
        b"options x y=1\r\nblacklist a\n",
    ),
    "an entry that CR spoils is not enough": (b"blacklist a\r\n", ["a"], True, False, b"blacklist a\r\nblacklist a\n"),
    "absent takes the spoilt one too": (b"#\nblacklist a\r\nblacklist a\n", ["a"], False, False, b"#\n"),
    "absent takes a continued entry whole": (b"blacklist \\\n  a\nz\n", ["a"], False, False, b"z\n"),
    "absent takes every copy": (b"blacklist a\nz\n blacklist a\n", ["a"], False, False, b"z\n"),
    "absent leaves other modules and our header": (
        HEADER + b"blacklist a\nblacklist b\n",
        ["a"],
        False,
        False,
        HEADER + b"blacklist b\n",
    ),
    "the last entry takes header and file with it": (HEADER + b"blacklist a\n", ["a"], False, False, None),
    "the header goes, the user's line stays": (
        HEADER + b"options x y=1\nblacklist a\n",
        ["a"],
        False,
        False,
        b"options x y=1\n",
    ),
    "absent takes our install line": (HEADER + b"blacklist a\ninstall a /bin/false\n", ["a"], False, False, None),
    "absent never takes a command of the user's": (
        b"install a /sbin/x a\nblacklist a\n",
        ["a"],
        False,
        False,
        b"install a /sbin/x a\n",
    ),
    "install: false takes our install line": (
        b"blacklist a\ninstall a /bin/false\n",
        ["a"],
        True,
        False,
        b"blacklist a\n",
    ),
    "install: false leaves a command of the user's": (
        b"install a /x\nblacklist a\n",
        ["a"],
        True,
        False,
        b"install a /x\nblacklist a\n",
    ),
    "install: true takes /bin/true for enough": (
        b"blacklist a\ninstall a /bin/true\n",
        ["a"],
        True,
        True,
        b"blacklist a\ninstall a /bin/true\n",
    ),
    "a comment is no entry": (b"#blacklist a\n", ["a"], True, False, b"#blacklist a\nblacklist a\n"),
    "a longer name is another module": (b"blacklist ab\n", ["a"], False, False, b"blacklist ab\n"),
}


@pytest.mark.parametrize(("before", "modules", "present", "install", "after"), EDITS.values(), ids=EDITS)
def test_edit(before, modules, present, install, after):
    assert _modprobe.edit(before, "f", modules, present, install) == after
    assert _modprobe.edit(after, "f", modules, present, install) == after


@pytest.mark.parametrize("content", [ODD, b"x", b"x\n", b"\xff\xfe\\", b"# a\r\n\r\n"])
@pytest.mark.parametrize("install", [True, False])
def test_what_was_added_is_taken_back_byte_for_byte(content, install):
    added = _modprobe.edit(content, "f", ["one", "two"], True, install)
    assert added != content
    assert _modprobe.edit(added, "f", ["one", "two"], False, False) == content


@pytest.mark.parametrize("name", ["a b", "a\n", "", "../x", "a;b", "$x", "a#", "ä", "a.ko", "a/b", "*"])
def test_a_name_that_is_no_module_is_refused(tmp_path, name):
    with pytest.raises(InvalidInput, match="is not a module's name") as error:
        _modprobe.decide(str(tmp_path), "passthrough.conf", [name])
    assert repr(name) in str(error.value)


@pytest.mark.parametrize("file", ["x", ".x.conf", "a/x.conf", "../x.conf", "x.conf\n", ".conf", "x y.conf"])
def test_a_file_that_modprobe_would_not_read_is_refused(tmp_path, file):
    with pytest.raises(InvalidInput, match=r"name one that ends in \.conf"):
        _modprobe.decide(str(tmp_path), file, ["a"])


def test_report(tmp_path):
    root = tree(
        tmp_path,
        {
            "/etc/modprobe.d/passthrough.conf": b"blacklist one\n",
            "/etc/modprobe.d/site.conf": b"# x\nblacklist two-b\ninstall one /bin/true\n",
            "/etc/modprobe.d/masked.conf": b"",
            "/usr/lib/modprobe.d/masked.conf": b"blacklist one\n",
            "/usr/lib/modprobe.d/dist.conf": b"blacklist one\n",
            "/etc/modprobe.d/.old.conf": b"blacklist one\n",
            "/etc/modprobe.d/site.conf.bak": b"blacklist one\n",
            "/proc/modules": b"two_b 16384 0 - Live 0x0\nother 1 1 two_b, Live 0x0\n",
            "/lib/modules/6.1/modules.builtin": b"kernel/drivers/x/one.ko\nkernel/drivers/y/two-b.ko\n",
        },
    )
    report = _modprobe.decide(root, "passthrough.conf", ["two-b", "one", "two_b"]).report
    assert report == {
        "changed": True,
        "file": f"{root}/etc/modprobe.d/passthrough.conf",
        "modules": ["two_b", "one"],
        "entries": ["one", "two_b"],
        "also_in": [
            {"module": "one", "file": f"{root}/usr/lib/modprobe.d/dist.conf", "line": 1},
            {"module": "two_b", "file": f"{root}/etc/modprobe.d/site.conf", "line": 2},
            {"module": "one", "file": f"{root}/etc/modprobe.d/site.conf", "line": 3},
        ],
        "loaded": ["two_b"],
        "built_in": ["two_b", "one"],
        "initramfs_stale": None,
    }


def test_only_report(tmp_path):
    root = tree(
        tmp_path, {"/etc/modprobe.d/passthrough.conf": b"blacklist b\nblacklist a-a\n", "/proc/modules": b"a_a 1\n"}
    )
    for present in (True, False):
        report = _modprobe.decide(root, "passthrough.conf", [], present).report
        assert (report["changed"], report["entries"], report["loaded"]) == (False, ["a_a", "b"], ["a_a"])


def test_built_in_is_of_the_running_kernel(tmp_path):
    root = tree(tmp_path, {f"/usr/lib/modules/{v}/modules.builtin": f"kernel/m{v}.ko\n".encode() for v in "12"})
    assert _modprobe.built_in(root) == {"m1", "m2"}
    assert _modprobe.built_in(root, "2") == {"m2"}
    tree(tmp_path, {"/proc/sys/kernel/osrelease": b"1\n"})
    assert _modprobe.built_in(root, "2") == {"m1"}


@pytest.mark.parametrize("folder", _modprobe.FOLDERS[1:])
def test_a_new_file_does_not_hide_another(tmp_path, folder):
    root = tree(tmp_path, {f"{folder}/dist.conf": b"options x y=1\n"})
    with pytest.raises(Refused, match=f"would hide {root}{folder}/dist.conf from modprobe"):
        _modprobe.decide(root, "dist.conf", ["a"])


def test_a_link_is_not_replaced(tmp_path):
    root = tree(tmp_path, {"/etc/modprobe.d/real.conf": b""})
    (tmp_path / "etc/modprobe.d/link.conf").symlink_to("real.conf")
    with pytest.raises(Refused, match="is a link to real.conf"):
        _modprobe.decide(root, "link.conf", ["a"])


# where a foreign command stands, and what becomes of an install entry of ours
@pytest.mark.parametrize(
    ("file", "line", "refused"),
    [
        ("aaa.conf", b"install snd_hda_intel /x\n", True),
        ("aaa.conf", b"install snd-* /x y\n", True),
        ("passthrough.conf", b"install snd-hda-intel /x\n", True),
        ("zzz.conf", b"install snd_hda_intel /x\n", False),
        ("aaa.conf", b"install snd_hda_intel /usr/bin/false\ninstall snd_hda_intel /x\n", False),
        ("aaa.conf", b"install other /x\n", False),
    ],
)
def test_install_is_refused_where_another_command_wins(tmp_path, file, line, refused):
    root = tree(tmp_path, {f"/etc/modprobe.d/{file}": line})
    if refused:
        with pytest.raises(Refused, match=rf"{file}:1 already says what happens instead of loading snd_hda_intel"):
            _modprobe.decide(root, "passthrough.conf", ["snd-hda-intel"], install=True)
        assert _modprobe.decide(root, "passthrough.conf", ["snd-hda-intel"]).change.changed
    else:
        plan = _modprobe.decide(root, "passthrough.conf", ["snd-hda-intel"], install=True)
        assert plan.change.after == HEADER + b"blacklist snd_hda_intel\ninstall snd_hda_intel /bin/false\n"
        assert bool(plan.warnings) == (file == "zzz.conf")


def test_warns_of_entries_without_effect(tmp_path):
    root = tree(tmp_path, {"/etc/modprobe.d/dos.conf": b"blacklist a\r\nblacklist b\r\n"})
    plan = _modprobe.decide(root, "passthrough.conf", ["a"])
    assert plan.report["also_in"] == []
    assert plan.warnings == [
        f"{root}/etc/modprobe.d/dos.conf:1 ends in a carriage return, which modprobe takes for a part of the name: "
        "its entry for a has no effect"
    ]
