# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what Python compiles out of zip archives; lab.pth has every Python of the machine import this.

Ansible sends each module as an archive of sources, and Python compiles all of it for every task, twice: when it looks
for a module, and when it loads it. In an emulated machine that is more than half of a task. What is run is the same:
code is kept by a hash of its source and of the bytecode's version. If anything goes wrong, Python's own way is taken.
"""

from __future__ import annotations

import _imp
import marshal
import os
import zipimport

FOLDER = "/var/cache/lab-zipimport"
_compile = zipimport._compile_source


def _compiled(pathname, source):
    """Return the code of a source, in place of zipimport's own function."""
    try:
        return _kept(pathname, source)
    except Exception:
        return _compile(pathname, source)


def _kept(pathname, source):
    version = int.from_bytes(zipimport._bootstrap_external.MAGIC_NUMBER, "little")
    path = f"{FOLDER}/{_imp.source_hash(version, source).hex()}-{len(source)}"
    try:
        with open(path, "rb") as file:
            code = marshal.loads(file.read())
        _imp._fix_co_filename(code, pathname)
    except FileNotFoundError:
        code = _compile(pathname, source)
        with open(f"{path}.{os.getpid()}", "wb") as file:
            file.write(marshal.dumps(code))
        os.replace(file.name, path)
    return code


zipimport._compile_source = _compiled
