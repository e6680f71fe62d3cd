# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import sandbox

RESOLV = Path("/etc/resolv.conf")


@pytest.mark.skipif(os.geteuid() != 0 or not RESOLV.exists(), reason="mounts, as root, a file that is there")
def test_what_runs_inside_cannot_write_how_this_machine_resolves_names() -> None:
    # Opened for writing, and nothing written, in case it can.
    argv = sandbox.enter(Path("/"), ["sh", "-c", f"cat {RESOLV}; : >> {RESOLV}"])
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert done.stdout == RESOLV.read_text()
