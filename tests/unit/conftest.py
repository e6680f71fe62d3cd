# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

# Helpers that assert tell what they compared, as tests do.
pytest.register_assert_rewrite("ansible_collections.kvm.passthrough.tests.unit.boot_host")
