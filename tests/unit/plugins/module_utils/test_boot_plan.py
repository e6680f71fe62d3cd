# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._boot_plan import RECORD
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure
from ansible_collections.kvm.passthrough.tests.unit.boot_host import Host, proxmox


def test_a_damaged_record_is_named(tmp_path):
    host = Host(tmp_path, proxmox())
    for content in (b"[]", b"{", b'{"added": [1]}'):
        host.write(RECORD, content)
        with pytest.raises(HostFailure, match=f"{host.path(RECORD)} is damaged"):
            host.plan([])
