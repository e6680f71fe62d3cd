# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: changes
type: aggregate
short_description: Writes down which tasks changed something, to hold a check run against the run itself
description:
  - Writes one line for each changed task and item, with host, task and item, to the file that
    E(KVM_PASSTHROUGH_CHANGES) names. Without it, nothing is written.
"""

import os
import typing as t

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._changed: list[str] = []

    def v2_runner_on_ok(self, result: t.Any) -> None:
        if result.is_changed() and "results" not in result._result:
            self._note(result, "")

    def v2_runner_item_on_ok(self, result: t.Any) -> None:
        if result.is_changed():
            self._note(result, f" [{self._get_item_label(result._result)}]")

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        path = os.environ.get("KVM_PASSTHROUGH_CHANGES")
        if path:
            with open(path, "w", encoding="utf-8") as stream:
                stream.writelines(f"{line}\n" for line in self._changed)

    def _note(self, result: t.Any, item: str) -> None:
        self._changed.append(f"{result._host.get_name()}: {result._task.get_name().strip()}{item}")
