# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks whose tasks are timed."""

from __future__ import annotations

import json
import os
import subprocess
import time
import typing as t
from pathlib import Path

Task = t.Dict[str, t.Any]

PING: Task = {"ansible.builtin.ping": {}}
MANY = 10


def verdict(options: t.Mapping[str, t.Any]) -> Task:
    """Facts and verdict as one task."""
    return {"kvm.passthrough.passthrough_info": {"facts": True, **options}}


def seconds_of_task(folder: Path, task: Task) -> float:
    """What one more such task costs: a playbook with many of them less a playbook with one, by the wall clock."""
    return (run(folder, [task] * (MANY + 1)) - run(folder, [task])) / MANY


def run(folder: Path, tasks: t.Sequence[Task], hosts: int = 1) -> float:
    """The seconds of a playbook on as many hosts, all of them this machine; JSON is YAML as well."""
    playbook, inventory = folder / "playbook.yml", folder / "inventory.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]))
    variables = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    names = {f"host{number}": variables for number in range(hosts)}
    inventory.write_text(json.dumps({"all": {"hosts": names}}))
    return seconds(["ansible-playbook", "-i", str(inventory), str(playbook)])


def seconds(argv: t.Sequence[str]) -> float:
    environment = dict(os.environ, ANSIBLE_PIPELINING="true", ANSIBLE_STDOUT_CALLBACK="default", LC_ALL="C.UTF-8")
    start = time.monotonic()
    subprocess.run(argv, stdout=subprocess.DEVNULL, env=environment, check=True)
    return time.monotonic() - start
