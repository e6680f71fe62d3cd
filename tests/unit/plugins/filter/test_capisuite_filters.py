# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvm.passthrough.plugins.filter import capisuite_files, fax_job
from ansible_collections.kvm.passthrough.tests.unit.plugins.module_utils.test_capisuite import settings


def test_capisuite_files() -> None:
    call = capisuite_files.FilterModule().filters()["capisuite_files"]
    good = call(settings())
    assert good["faults"] == []
    assert set(good["files"]) == {"capisuite.conf", "fax.conf", "answering_machine.conf"}
    bad = call(settings(users=[]))
    assert (len(bad["faults"]), bad["files"]) == (1, {})


def test_fax_job() -> None:
    call = fax_job.FilterModule().filters()["fax_job"]
    text = "job 1 from gernot to 1 initiated\njob 1: result was 0x3491, 0x0\n"
    assert call(text, "gernot", "1") == {"tries": 1, "results": ["0x3491", "0x0"], "reason": "the number is busy"}
