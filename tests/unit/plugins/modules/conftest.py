# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import types
import typing as t

import pytest
from ansible.module_utils import _internal, basic
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

Given = t.Dict[str, t.Any]


@pytest.fixture(autouse=True)
def as_on_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules answer as they do on a host: once the controller's code is loaded, warnings are printed, not returned."""
    monkeypatch.setattr(_internal, "is_controller", False)
    # What another module of this process has warned of is none of this one's.
    monkeypatch.setattr(warnings, "_global_warnings", {})


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., t.Any]:
    """Run main() of a module that hands its work to apply(): what it handed over, and what it answered."""

    def bind(module: types.ModuleType, tool: str) -> t.Callable[..., tuple[Given, Given]]:
        def call(answer: Given | Exception, **args: t.Any) -> tuple[Given, Given]:
            seen: Given = {}

            def apply(root: str, request: t.Any, check: bool, diff: bool, move: t.Any, *rest: t.Any) -> Given:
                seen.update(root=root, request=request, check=check, diff=diff, rest=rest[:-1])
                if isinstance(answer, Exception):
                    raise answer
                return dict(answer)

            monkeypatch.setattr(module, "apply", apply)
            monkeypatch.setattr(basic.AnsibleModule, "get_bin_path", lambda *_args, **_kwargs: tool)
            with patch_module_args(args), pytest.raises(SystemExit):
                module.main()
            return seen, json.loads(capsys.readouterr().out)

        return call

    return bind
