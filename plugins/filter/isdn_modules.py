# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: isdn_modules
short_description: Which ISDN modules of the kernel are to be loaded and unloaded
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Holds the modules that are loaded in a guest against those that its ISDN lines need. A module with other options
    than wanted, a rival driver, and what is no longer needed go first, if nobody uses them.
positional: loaded, before, parameters
options:
  _input:
    description: The plan of P(kvm.passthrough.isdn_plan#filter).
    type: dict
    required: true
  loaded:
    description: The text of C(/proc/modules).
    type: str
    required: true
  before:
    description:
      - The texts of the role's files for modprobe (C(options)) and for the boot (C(load)), as they were, and of its
        note of what an earlier run could not unload (C(due)), a module a line.
    type: dict
    required: true
  parameters:
    description: The parameters of the loaded module l1oip, lines C(PATH:VALUE).
    type: str
    required: true
seealso:
  - plugin: kvm.passthrough.isdn_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: See what is to be done
  ansible.builtin.set_fact:
    modules: "{{ plan | kvm.passthrough.isdn_modules(proc_modules, {'options': '', 'load': '', 'due': ''}, '') }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    unload:
      description: The modules to unload, in their order.
      type: list
      elements: str
      sample: [l1oip]
    busy:
      description: Those that should be unloaded and are in use, or C(hfcmulti), so that a reboot is due.
      type: list
      elements: str
      sample: []
    load:
      description: The modules to load, in their order.
      type: list
      elements: str
      sample: [l1oip, mISDN_dsp]
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_modules import plan_modules


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"isdn_modules": plan_modules}
