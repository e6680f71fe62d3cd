# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packages that stand in for programs which no registry has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "lab" / "standins" / "capisuite" / "build"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_package_that_says_what_it_is(tmp_path: Path) -> None:
    subprocess.run([BUILD, tmp_path], check=True, capture_output=True)
    package = str(tmp_path / "capisuite_0.5.standin_all.deb")
    said = subprocess.run(["dpkg-deb", "--info", package], check=True, capture_output=True, text=True).stdout
    assert "stands in for CapiSuite in tests, and is not CapiSuite" in said
    subprocess.run(["dpkg-deb", "--extract", package, str(tmp_path)], check=True)
    for name, start in (
        ("sbin/capisuite", "python2.7"),
        ("bin/capisuitefax", "python2.7"),
        ("bin/capisuite-checkconfig", "python"),
    ):
        path = tmp_path / "usr" / name
        assert path.read_text().splitlines()[0] == f"#!/usr/bin/{start}"
        assert path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "var/spool/capisuite/done").is_dir()
