# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vdr_plan
short_description: What is wrong with the variables of a VDR, and the access lists that follow from them
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Judges channels, addresses, settings and timers of the role C(kvm.passthrough.dvbt_guest), and makes the access
    lists of VDR and its plugins of them.
options:
  _input:
    description: C(channels), C(scan), C(svdrp_hosts), C(plugins), C(settings) and C(timers), as the role has them.
    type: dict
    required: true
seealso:
  - plugin: kvm.passthrough.vdr_files
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse what VDR would not take
  ansible.builtin.assert:
    that: plan.faults | length == 0
    fail_msg: "{{ plan.faults | join('\n') }}"
  vars:
    plan: "{{ wanted | kvm.passthrough.vdr_plan }}"
    wanted:
      channels: []
      scan: DE
      svdrp_hosts: [192.0.2.7]
      plugins: {streamdev-server: [192.0.2.0/24]}
      settings: {EPGScanTimeout: 5}
      timers: []
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    faults:
      description: What is wrong, sentence by sentence.
      type: list
      elements: str
      sample: ["dvbt_guest_svdrp_hosts has 'tv.lan'; it is an address of IPv4, with or without the length of a network"]
    files:
      description: The access lists, text by path.
      type: dict
      sample: {"/etc/vdr/svdrphosts.conf": "127.0.0.1\n192.0.2.7\n"}
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._vdr import PLUGINS, faults, hosts


def _vdr_plan(wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    found = faults(wanted)
    if found:
        return {"faults": found, "files": {}}
    texts = {"/etc/vdr/svdrphosts.conf": hosts(wanted["svdrp_hosts"])}
    texts.update({PLUGINS[plugin]: hosts(allowed) for plugin, allowed in wanted["plugins"].items()})
    return {"faults": [], "files": texts}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vdr_plan": _vdr_plan}
