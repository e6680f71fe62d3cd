# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: guest_changes
short_description: What must change in a libvirt guest's definition
version_added: 0.1.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Compares a wanted domain definition with the one that libvirt has. libvirt fills in its own defaults, so that the
    two are never equal as text; what counts is that everything wanted is there, and no disk, interface or host device
    beyond it.
positional: present
options:
  _input:
    description: The wanted definition, as domain XML.
    type: str
    required: true
  present:
    description: The present definition, as C(virsh dumpxml --inactive) prints it. Empty where there is none.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what would change
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.template', 'domain.xml.j2') | kvm.passthrough.guest_changes(dumpxml.stdout) }}"
"""

RETURN = r"""
_value:
  description: One plain line for each difference. Empty where the definition holds.
  type: list
  elements: str
  sample: ["memory: 524288 -> 1048576", "devices/hostdev 0000:01:00.0: to be added"]
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError
from ansible_collections.kvm.passthrough.plugins.module_utils._libvirt import guest_changes


def _guest_changes(wanted: str, present: str) -> list[str]:
    try:
        return guest_changes(wanted, present)
    except PassthroughError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"guest_changes": _guest_changes}
