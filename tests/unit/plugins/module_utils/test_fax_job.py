# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._fax_job import fax_job, reason

PREFIX = "Sun Nov 22 14:37:02 2026 CapiSuite 0x7ffd5c3a0e10: "


def log(*lines: str) -> str:
    return "".join(f"{PREFIX}{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ((0, 0), "the call has ended"),
        ((0x3400, 0), "the call has ended"),
        ((0x3490, 0), "the call has ended"),
        ((1, 0), "nobody answered in time"),
        ((2, 0), "the call failed, and CAPI gave no reason"),
        (
            (0x3303, 0),
            "protocol error of layer 3: nobody is at the other end of the line, or it does not speak Euro-ISDN",
        ),
        ((0x3491, 0), "the number is busy"),
        ((0x3493, 0), "it rings and nobody answers"),
        ((0x34FF, 0), "another network has ended the call"),
        # What went wrong with the fax says more than that its call has ended.
        ((0x3490, 0x3311), "the other side is no fax machine of group 3"),
        ((0x34F0, 0), "a reason that is not known"),
        ((0x3300, 0), "a reason that is not known"),
        ((0x2001, 0), "a reason that is not known"),
    ],
)
def test_reasons(results: tuple[int, int], words: str) -> None:
    assert reason(*results) == words


def test_a_job_that_nobody_has_tried() -> None:
    assert fax_job(log("CapiSuite 0.5.git started."), "gernot", 1) == {"tries": 0, "results": None, "reason": None}


def test_a_job_that_is_being_sent() -> None:
    assert fax_job(log("job 1 from gernot to 12345 initiated"), "gernot", 1)["tries"] == 1


def test_the_last_of_two_tries() -> None:
    lines = [
        "job 1 from gernot to 12345 initiated",
        "job 1: result was 0x3491, 0x0",
        "job 1: delayed for 60 seconds",
        "job 1 from gernot to 12345 initiated",
        "job 1: result was 0x3490, 0x0",
        "job 1: finished successfully",
    ]
    found = fax_job(log(*lines), "gernot", 1)
    assert found == {"tries": 2, "results": ["0x3490", "0x0"], "reason": "the call has ended"}


def test_jobs_of_others_with_the_same_number() -> None:
    lines = [
        "job 1 from anna to 12345 initiated",
        "job 1: result was 0x3491, 0x0",
        "job 11 from gernot to 12345 initiated",
        "job 11: result was 0x3495, 0x0",
        "job 1 from gernot to 12345 initiated",
        "job 1: result was 0x3303, 0x0",
        "job 1 from anna to 12345 initiated",
        "job 1: result was 0x3490, 0x0",
    ]
    assert fax_job(log(*lines), "gernot", 1)["results"] == ["0x3303", "0x0"]
