# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings


@pytest.fixture(autouse=True)
def as_on_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules answer as they do on a host: once the controller's code is loaded, warnings are printed, not returned."""
    monkeypatch.setattr(_internal, "is_controller", False)
    # What another module of this process has warned of is none of this one's.
    monkeypatch.setattr(warnings, "_global_warnings", {})
