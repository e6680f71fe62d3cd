# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: isdn_faults
short_description: What is wrong with the variables of a guest's ISDN lines
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Judges the variables of the role P(kvm.passthrough.isdn_guest#role) alone, so that a playbook can tell of what is
    wrong with them before there is a guest. What they come to on a guest says P(kvm.passthrough.isdn_plan#filter),
    whose faults have these among them.
positional: host
options:
  _input:
    description: C(wanted), as P(kvm.passthrough.isdn_plan#filter) takes it.
    type: dict
    required: true
  host:
    description: The guest's name in the inventory, for the messages.
    type: str
    required: true
seealso:
  - plugin: kvm.passthrough.isdn_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse what no guest could have
  ansible.builtin.assert:
    that: faults | length == 0
    fail_msg: "{{ faults | join('\n') }}"
  vars:
    faults: "{{ wanted | kvm.passthrough.isdn_faults(inventory_hostname) }}"
    wanted:
      provider: misdn
      module_options: {hfcmulti: poll=128}
      l1oip: []
      spans: []
      asterisk: false
      dialplan: {}
"""

RETURN = r"""
_value:
  description: What is wrong, sentence by sentence; empty if nothing is.
  type: list
  elements: str
  sample: ["fax1: isdn_guest_spans is for isdn_guest_provider: dahdi, and the provider is misdn"]
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_plan import judge


def _isdn_faults(wanted: t.Mapping[str, t.Any], host: str) -> list[str]:
    return judge(host, wanted)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"isdn_faults": _isdn_faults}
