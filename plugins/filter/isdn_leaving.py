# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: isdn_leaving
short_description: Which ISDN modules a guest can unload when its lines are taken back
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Tells which of the modules that the role P(kvm.passthrough.isdn_guest#role) had loaded are loaded and not in use.
positional: loaded, freed
options:
  _input:
    description: The text of the role's file below C(/etc/modules-load.d).
    type: str
    required: true
  loaded:
    description: The text of C(/proc/modules).
    type: str
    required: true
  freed:
    description: Whether a service that uses them is stopped before, so that they count as unused.
    type: bool
    required: true
"""

EXAMPLES = r"""
- name: Unload what is not in use
  ansible.builtin.command:
    argv: [modprobe, --remove, "{{ item }}"]
  loop: "{{ 'l1oip\nmISDN_dsp\n' | kvm.passthrough.isdn_leaving(proc_modules, false) }}"
"""

RETURN = r"""
_value:
  description: The modules, those that use others first.
  type: list
  elements: str
  sample: [mISDN_dsp, l1oip]
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_modules import plan_release


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"isdn_leaving": plan_release}
