# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _modalias

NETWORK = "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00"
ISDN = "pci:v00001397d000008B4sv00001397sd0000B520bc02sc04i00"
SOUND = "pci:v00008086d0000293Esv00001AF4sd00001100bc04sc03i00"
BRIDGE = "pci:v00001B36d0000000Csv00000000sd00000000bc06sc04i00"
AHCI = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"

ALIASES = """\
# Aliases extracted from modules themselves.
alias pci:v00008086d000010D4sv*sd*bc*sc*i* other
alias usb:v1397p08B4d*dc*dsc*dp*ic*isc*ip*in* usbthing
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
alias pci:v00008086d*sv*sd*bc04sc03i00* snd_hda_intel
alias pci:v*d*sv*sd*bc04sc03i00* snd_hda_generic
alias pci:v00008086d0000293Esv*sd*bc*sc*i* snd_sof
alias pci:v00008086d0000293Esv*sd*bc04sc*i* snd_sof
alias pci:v00001397d000008B4sv00001397sd0000B520bc*sc*i* hfcmulti
alias pci:v00001397d000008B4sv00001397sd0000B752bc*sc*i* wrong_card
alias pci:v00001397d000008B4sv*sd*bc02sc00i* wrong_class
alias pci:v*d*sv*sd*bc06sc04i00* shpchp
alias pci:v00001B36 nonsense
alias pci:
alias
"""
BUILTIN = b"\0".join(
    [
        b"ahci.license=GPL",
        b"ahci.alias=pci:v*d*sv*sd*bc01sc06i01*",
        b"pcieportdrv.alias=pci:v*d*sv*sd*bc06sc04i00*",
        b"ahci.file=drivers/ata/ahci",
        b"",
    ]
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _install(tmp_path, "lib/modules/6.12.0", ALIASES, BUILTIN)
    return tmp_path


def _install(root: Path, folder: str, aliases: str, builtin: bytes = b"") -> None:
    (root / folder).mkdir(parents=True)
    (root / folder / "modules.alias").write_text(aliases)
    (root / folder / "modules.builtin.modinfo").write_bytes(builtin)


@pytest.mark.parametrize(
    ("modalias", "modules"),
    [
        (NETWORK, ["e1000e"]),
        (ISDN, ["hfcmulti"]),
        # Exact, vendor and class aliases, in the order of the file, each module once.
        (SOUND, ["snd_hda_intel", "snd_hda_generic", "snd_sof"]),
        # What is built in counts only where no module claims the device: the bridge has both.
        (BRIDGE, ["shpchp"]),
        (AHCI, ["ahci"]),
        (NETWORK.replace("10D3", "FFFF"), []),
        ("", []),
        ("usb:v1397p08B4d0100dc00dsc00dp00ic00isc00ip00in00", []),
        ("pci:v0000", []),
    ],
)
def test_modules(root: Path, modalias: str, modules: list[str]) -> None:
    assert _modalias.claims(str(root), [modalias, NETWORK]).get(modalias, []) == modules


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (b"abc", b"abc", True),
        (b"abc", b"abcd", False),
        (b"*", b"", True),
        (b"a*c", b"abc", True),
        (b"a*c", b"ac", True),
        (b"a*c", b"abcd", False),
        (b"a*", b"b", False),
        (b"a*ba*", b"aba", True),
        (b"ab*ba", b"aba", False),
        (b"a*b*c", b"acb", False),
        (b"a*b*b", b"axb", False),
        (b"**a", b"ba", True),
    ],
)
def test_glob(pattern: bytes, text: bytes, expected: bool) -> None:
    assert _modalias._glob(pattern, text) is expected


def test_kernel_that_ran(tmp_path: Path) -> None:
    _install(tmp_path, "lib/modules/6.1.0", ALIASES.replace("e1000e", "old"))
    _install(tmp_path, "usr/lib/modules/6.12.0", ALIASES)
    assert _modalias.claims(str(tmp_path), [NETWORK]) == {NETWORK: ["old"]}
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.12.0\n")
    assert _modalias.claims(str(tmp_path), [NETWORK]) == {NETWORK: ["e1000e"]}
    (tmp_path / "proc/sys/kernel/osrelease").write_text("5.10.0\n")
    assert _modalias.claims(str(tmp_path), [NETWORK]) == {}


def test_several_kernels_and_none_known_to_run(root: Path) -> None:
    _install(root, "lib/modules/6.1.0", ALIASES)
    assert _modalias.claims(str(root), [NETWORK]) == {}


def test_running_kernel(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    release = os.uname().release
    monkeypatch.setattr(_modalias, "_FOLDERS", (f"{root}/lib/modules",))
    assert _modalias.claims("/", [NETWORK]) == {}
    (root / "lib/modules/6.12.0").rename(root / "lib/modules" / release)
    assert _modalias.claims("/", [NETWORK]) == {NETWORK: ["e1000e"]}
