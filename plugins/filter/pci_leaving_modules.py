# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pci_leaving_modules
short_description: Which driver modules lose all their devices
version_added: 0.1.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Tells which kernel modules may be blacklisted on a host when some of its PCI devices leave.
  - A module may be blacklisted only if every device that it could drive on that host leaves; a blacklist that also
    took the host's own network card from its driver would cut the host off.
  - Cards that the collection knows (see P(kvm.passthrough.card_families#filter)) bring along the modules of former
    kernels and of other stacks that could claim them, such as C(hisax) and DAHDI's C(wcb4xxp), whether they are
    installed or not, if all cards leave that these could claim.
positional: leaving
options:
  _input:
    description: All PCI devices of the host, as returned by M(kvm.passthrough.pci_facts).
    type: list
    elements: dict
    required: true
  leaving:
    description: Those of them that leave.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: See what may be blacklisted
  ansible.builtin.debug:
    msg: "{{ ansible_facts['pci_devices'] | kvm.passthrough.pci_leaving_modules(leaving) }}"
  vars:
    leaving: "{{ ansible_facts['pci_devices'] | kvm.passthrough.pci_select([{'id': '1397:08b4'}]) }}"
"""

RETURN = r"""
_value:
  description: The modules that only leaving devices need, and the reasons why others are kept.
  type: dict
  contains:
    blacklist:
      description: Modules of which every device leaves, sorted.
      type: list
      elements: str
      sample: [hfc4s8s_l1, hfcmulti, qozap, wcb4xxp]
    kept:
      description: A sentence for each module that a staying device needs.
      type: list
      elements: str
      sample: ["e1000e (0000:00:02.0 stays on the host and needs it)"]
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._blacklist import leaving_modules


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"pci_leaving_modules": leaving_modules}
