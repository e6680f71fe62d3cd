# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which machine a reading module reads."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  root:
    description:
      - Read the machine whose files lie below this folder, such as a captured tree or a mounted image, instead of the
        running one. Whatever the tree lacks is V(none), or an empty list.
    type: path
    default: /
"""
