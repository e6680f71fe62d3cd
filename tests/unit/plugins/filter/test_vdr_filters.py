# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters are thin: what they do is in test_vdr.py."""

from __future__ import annotations

import yaml

from ansible_collections.kvm.passthrough.plugins.filter import vdr_files, vdr_plan
from ansible_collections.kvm.passthrough.tests.unit.plugins.module_utils.test_vdr import TIMER, WANTED

plan = vdr_plan.FilterModule().filters()["vdr_plan"]
files = vdr_files.FilterModule().filters()["vdr_files"]


def test_the_lists_of_those_who_may_connect() -> None:
    made = plan(WANTED)
    assert set(made) == set(yaml.safe_load(vdr_plan.RETURN)["_value"]["contains"])
    assert made["faults"] == []
    assert {path: text.splitlines()[1:] for path, text in made["files"].items()} == {
        "/etc/vdr/svdrphosts.conf": ["127.0.0.1", "192.0.2.7"],
        "/etc/vdr/plugins/streamdevhosts.conf": ["127.0.0.1", "192.0.2.0/24"],
    }


def test_no_files_where_something_is_wrong() -> None:
    made = plan({**WANTED, "plugins": {"live": []}})
    assert made["files"] == {}
    assert len(made["faults"]) == 1


def test_a_second_run_changes_nothing() -> None:
    before = {"setup.conf": "", "channels.conf": "", "timers.conf": "", "before": ""}
    texts = files(WANTED, before, "2026-11-27")
    assert set(texts) == {"setup.conf", "channels.conf", "timers.conf"}
    assert files(WANTED, {**texts, "before": f"{TIMER}\n"}, "2026-11-27") == {}
