# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pci_leaving
short_description: Selectors as passthrough_info takes them for what leaves
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Makes selectors fit for the option C(leaving) of M(kvm.passthrough.passthrough_info), so that a host can be judged
    although some of them are wrong. P(kvm.passthrough.host_plan#filter) then tells what is wrong with them.
  - Selectors that cannot be read are left out. A selector with a query becomes the addresses of the devices that it
    matches, since the host may lack what it takes to resolve it.
positional: devices
extends_documentation_fragment:
  - kvm.passthrough.selectors
requirements:
  - jmespath, for selectors with a C(query)
options:
  _input:
    description: The selectors.
    type: list
    elements: raw
    required: true
  devices:
    description: The list C(pci_devices) of M(kvm.passthrough.pci_facts). It is needed for queries only.
    type: list
    elements: dict
    default: []
seealso:
  - module: kvm.passthrough.passthrough_info
"""

EXAMPLES = r"""
- name: Judge a host as if two cards left together, whether they are there or not
  kvm.passthrough.passthrough_info:
    leaving: "{{ [{'card': 'hfc-4s', 'count': 2}] | kvm.passthrough.pci_leaving }}"
"""

RETURN = r"""
_value:
  description: Selectors of which none is an error.
  type: list
  elements: raw
  sample: [{card: hfc-4s}]
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._leaving import leaving


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"pci_leaving": leaving}
