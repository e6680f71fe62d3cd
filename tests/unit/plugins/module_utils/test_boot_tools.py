# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._bootloader import execute
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure
from ansible_collections.kvm.passthrough.tests.unit.boot_host import Host, debian


def test_a_command_that_hangs_is_ended(tmp_path):
    host = Host(tmp_path, debian())
    with pytest.raises(HostFailure, match="update-grub took longer than 600 seconds and was ended"):
        execute(host.plan(["iommu=pt"]), lambda argv: (124, "", ""), os.replace)
