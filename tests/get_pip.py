# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts pip into a virtual environment of ansible-test, without a download.

ansible-test wants get-pip.py in its cache and would fetch it from a web site that not every CI machine reaches. This
takes its place (`make sanity` copies it there): the pip that Python itself carries, then the version asked for.
"""

from __future__ import annotations

import subprocess
import sys

wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
# Each in a process of its own: ensurepip hides the user's configuration of pip from the process that it runs in.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
