# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.kvm.passthrough.plugins.module_utils._leaving import leaving
from ansible_collections.kvm.passthrough.plugins.plugin_utils import _records, _wishes

MODULE = "kvm.passthrough.passthrough_info"


class ActionModule(ActionBase):
    """Judges a host, keeps what was found for the report, and hands back a few numbers, as thousands of hosts may."""

    _supports_check_mode = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, options = self.validate_argument_spec({"root": {"type": "str", "default": "/"}})
        name, folder = str(variables["inventory_hostname"]), _records.run_folder()
        wanted = _wishes.wishes(folder, variables["hostvars"], name)
        arguments = {
            "root": options["root"],
            "leaving": leaving([raw for wish in wanted for raw in wish["selectors"]]),
            "facts": True,
        }
        try:
            result = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        except AnsibleConnectionFailure as error:
            _records.write(folder, _records.empty(name, f"Unreachable: {error}"))
            raise
        if result.get("failed"):
            _records.write(folder, _records.empty(name, _failure(result)))
            return result
        record = _record(name, result, wanted)
        _records.write(folder, record)
        return _summary(record, result)


def _failure(result: t.Mapping[str, t.Any]) -> str:
    """Why the module failed; where it did not get to say so, also what was printed in its place."""
    told = (str(result.get(key, "")).strip()[:2000] for key in ("msg", "module_stderr"))
    return "\n".join(filter(None, told)) or "The module failed and did not say why"


def _record(name: str, result: t.Mapping[str, t.Any], wanted: t.Iterable[_wishes.Wish]) -> _records.Record:
    facts = result["ansible_facts"]
    return {
        "name": name,
        "judged_at": _records.now(),
        "error": None,
        "host": result["host"],
        "devices": result["devices"],
        "guests": result["guests"],
        "wants": [_wishes.fulfil(wish, facts["pci_devices"]) for wish in wanted],
        "facts": {
            "pci_devices": facts["pci_devices"],
            # Without the counts of each processor, which are most of the bytes on a large host.
            "interrupts": [{key: row[key] for key in row if key != "counts"} for row in facts["interrupts"]],
            "kvm": facts["kvm"],
        },
    }


def _summary(record: _records.Record, result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    verdicts = collections.Counter(device["verdict"] for device in record["devices"])
    passed_on = {key: result[key] for key in ("warnings", "deprecations") if key in result}
    return {"changed": False, "host": record["host"]["verdict"], "devices": dict(sorted(verdicts.items())), **passed_on}
