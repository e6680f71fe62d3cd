# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.kvm.passthrough.plugins.plugin_utils import _records, _report


class ActionModule(ActionBase):
    """Writes the report of what passthrough_record has kept of this play's hosts."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec({"folder": {"type": "path", "default": "assessment"}})
        folder, records = Path(options["folder"]).absolute(), _records.run_folder()
        names = [str(name) for name in (task_vars or {})["ansible_play_hosts_all"]]
        hosts = (_records.read(records, name) for name in names)
        try:
            if self._task.check_mode:
                total, verb = _report.count(hosts), "would be"
            else:
                total, verb = _report.write(folder, hosts), "is"
        except OSError as error:
            raise AnsibleActionFail(
                f"The report cannot be written to {folder}: {error}. Name another folder"
            ) from error
        page = folder / _report.PAGE
        return {"changed": False, "msg": f"{total}. The report {verb} {page}", "page": str(page), **total.numbers()}
