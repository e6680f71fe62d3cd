# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_modules import plan_modules, plan_release

CORE = "mISDN_core 122880 {} {} Live 0x0000000000000000\n"
L1OIP = "l1oip 45056 {} - Live 0x0000000000000000\n"
DSP = "mISDN_dsp 258048 0 - Live 0x0000000000000000\n"
HFC = "hfcmulti 98304 {} - Live 0x0000000000000000\n"
DAHDI = (
    "dahdi_dynamic_loc 16384 0 - Live 0x0000000000000000 (OE)\n"
    "dahdi_dynamic 20480 1 dahdi_dynamic_loc, Live 0x0000000000000000 (OE)\n"
    "dahdi 253952 2 dahdi_dynamic_loc,dahdi_dynamic, Live 0x0000000000000000 (OE)\n"
)

ONE = "type=1 ip=127,0,0,1 id=7"
PARAMETERS = (
    "/sys/module/l1oip/parameters/type:1,0,0,0\n"
    "/sys/module/l1oip/parameters/ip:127,0,0,1,0,0,0,0\n"
    "/sys/module/l1oip/parameters/id:7,0,0,0\n"
    "/sys/module/l1oip/parameters/debug:0\n"
)
TWO = PARAMETERS.replace("type:1,0", "type:1,1")
LINES: dict[str, t.Any] = {"modules": ["l1oip", "mISDN_dsp"], "rivals": [], "options": {"l1oip": ONE}}
CARD: dict[str, t.Any] = {"modules": ["hfcmulti", "mISDN_dsp"], "rivals": ["wcb4xxp"], "options": {}}
WRITTEN = f"# ours\noptions l1oip {ONE}\n"


@pytest.mark.parametrize(
    ("plan", "loaded", "options", "load", "parameters", "expected"),
    [
        pytest.param(LINES, "", "", "", "", ([], [], ["l1oip", "mISDN_dsp"]), id="bare"),
        pytest.param(LINES, L1OIP.format(0) + DSP, WRITTEN, "", PARAMETERS, ([], [], []), id="as wanted"),
        pytest.param(
            LINES,
            L1OIP.format(0) + DSP,
            WRITTEN,
            "",
            TWO,
            (["l1oip"], [], ["l1oip"]),
            id="one line less, not reloaded yet",
        ),
        pytest.param(LINES, L1OIP.format(2) + DSP, WRITTEN, "", TWO, ([], ["l1oip"], []), id="in use"),
        pytest.param(LINES, L1OIP.format(0) + DSP, "", "", "", (["l1oip"], [], ["l1oip"]), id="loaded by hand"),
        pytest.param(CARD, HFC.format(0) + DSP, "", "hfcmulti\nmISDN_dsp\n", "", ([], [], []), id="without options"),
        pytest.param(
            CARD,
            HFC.format(0) + DSP,
            "options hfcmulti type=4\n",
            "",
            "",
            ([], ["hfcmulti"], []),
            id="no more, of a module that stays until the next boot",
        ),
        pytest.param(
            CARD,
            HFC.format(0) + "wcb4xxp 131072 0 - Live 0x0000000000000000 (OE)\n",
            "",
            "",
            "",
            (["wcb4xxp"], ["hfcmulti"], ["mISDN_dsp"]),
            id="a rival has the card",
        ),
        pytest.param(
            CARD,
            L1OIP.format(0) + HFC.format(0) + DSP,
            WRITTEN,
            "# ours\nl1oip\nmISDN_dsp\n",
            PARAMETERS,
            (["l1oip"], [], []),
            id="lines that are no longer wanted",
        ),
        pytest.param(
            CARD,
            DAHDI,
            "",
            "dahdi\ndahdi_dynamic\ndahdi_dynamic_loc\n",
            "",
            (["dahdi_dynamic_loc", "dahdi_dynamic", "dahdi"], [], ["hfcmulti", "mISDN_dsp"]),
            id="another provider",
        ),
    ],
)
def test_modules(
    plan: t.Any, loaded: str, options: str, load: str, parameters: str, expected: tuple[list[str], list[str], list[str]]
) -> None:
    before = {"options": options, "load": load, "due": ""}
    made = plan_modules(plan, CORE.format(1, "mISDN_dsp,") + loaded, before, parameters)
    assert (made["unload"], made["busy"], made["load"]) == expected


@pytest.mark.parametrize(
    ("plan", "loaded", "due", "expected"),
    [
        pytest.param(CARD, HFC.format(0) + DSP, "hfcmulti\n", ([], ["hfcmulti"], []), id="stays until the next boot"),
        pytest.param(CARD, DSP, "hfcmulti\n", ([], [], ["hfcmulti"]), id="somebody has unloaded it"),
        pytest.param(LINES, L1OIP.format(2) + DSP, "l1oip\n", ([], ["l1oip"], []), id="still in use"),
        pytest.param(LINES, L1OIP.format(0) + DSP, "l1oip\n", (["l1oip"], [], ["l1oip"]), id="no more in use"),
        pytest.param(
            CARD, L1OIP.format(0) + HFC.format(0) + DSP, "l1oip\n", (["l1oip"], [], []), id="no more in use, nor wanted"
        ),
    ],
)
def test_what_an_earlier_run_could_not_unload(
    plan: t.Any, loaded: str, due: str, expected: tuple[list[str], list[str], list[str]]
) -> None:
    before = {"options": WRITTEN if plan is LINES else "", "load": "", "due": due}
    made = plan_modules(plan, CORE.format(1, "mISDN_dsp,") + loaded, before, PARAMETERS)
    assert (made["unload"], made["busy"], made["load"]) == expected


@pytest.mark.parametrize(
    ("load", "loaded", "freed", "expected"),
    [
        ("", DSP, False, []),
        ("# ours\nl1oip\nmISDN_dsp\n", L1OIP.format(0) + DSP, False, ["mISDN_dsp", "l1oip"]),
        ("# ours\nl1oip\nmISDN_dsp\n", L1OIP.format(1) + DSP, False, ["mISDN_dsp"]),
        ("# ours\nhfcmulti\nmISDN_dsp\n", HFC.format(0) + DSP, False, ["mISDN_dsp"]),
        ("dahdi\ndahdi_dynamic\n", DAHDI, False, []),
        ("dahdi\ndahdi_dynamic\ndahdi_dynamic_loc\n", DAHDI, True, ["dahdi_dynamic_loc", "dahdi_dynamic", "dahdi"]),
        ("dahdi\n", "dahdi 253952 9 - Live 0x0\n", True, ["dahdi"]),
        ("dahdi\n", "dahdi 253952 1 dahdi_transcode, Live 0x0\ndahdi_transcode 16384 0 - Live 0x0\n", True, []),
    ],
)
def test_what_release_unloads(load: str, loaded: str, freed: bool, expected: list[str]) -> None:
    assert plan_release(load, loaded, freed) == expected
