# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: killed
type: aggregate
short_description: Kills the run after its first task that changed something
description:
  - Where E(KVM_PASSTHROUGH_KILL) is set, the run ends as if its machine had lost power, right after the first task that
    changed something on a host. What it had begun on other hosts goes on there, or not, as it does in life.
"""

import os
import signal
import typing as t

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "killed"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._deadly = bool(os.environ.get("KVM_PASSTHROUGH_KILL"))
        if self._deadly and os.getpgrp() != os.getpid():
            os.setpgid(0, 0)  # with its workers, and nobody else

    def v2_runner_on_ok(self, result: t.Any) -> None:
        if self._deadly and result.is_changed():
            with open(os.environ["KVM_PASSTHROUGH_KILL"], "a", encoding="utf-8") as stream:
                stream.write(f"{result._host.get_name()}: {result._task.get_name().strip()}\n")
            os.killpg(0, signal.SIGKILL)
