# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: release_plan
short_description: What a run of the playbook release takes back from which host
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Guests in the run are released, and the hosts in the run give back what these had. A host none of whose guests stays
    gives back everything.
  - It takes both, so that a guest without its host is refused, and a host with guests none of which is in the run.
positional: run
options:
  _input:
    description: The variables of all hosts, which is C(hostvars).
    type: dict
    required: true
  run:
    description: The hosts and guests of the run, such as C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Stop before the first change if the limit cannot be meant
  ansible.builtin.assert:
    that: plan.refusal == ''
    fail_msg: "{{ plan.refusal }}"
  vars:
    plan: "{{ hostvars | kvm.passthrough.release_plan(ansible_play_hosts_all) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    refusal:
      description: All that is wrong with the run as one message, empty where nothing is.
      type: str
    hosts:
      description: By host the names in libvirt of the guests that go, and the selectors of those that stay.
      type: dict
      sample: {hv1: {guests: [fax1], keep: [{id: "1131:7146"}]}}
"""

import dataclasses
import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.filter.guest_wishes import wishes
from ansible_collections.kvm.passthrough.plugins.module_utils._fleet import Wish, release


def _release_plan(inventory: t.Any, run: t.Sequence[str]) -> dict[str, t.Any]:
    if not isinstance(inventory, Mapping):
        raise AnsibleFilterError("release_plan works on hostvars, the variables of all hosts")
    wanted = {host: [Wish(**wish) for wish in some] for host, some in wishes(inventory).items()}
    groups: t.Mapping[str, t.Sequence[str]] = next((inventory[name]["groups"] for name in inventory), {})
    faults, plans = release(wanted, run, groups.get("kvm_hosts", ()), groups.get("kvm_guests", ()))
    lines = [f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in what is to be released, nothing was changed:"]
    return {
        "refusal": "\n".join(lines + [f"- {fault}" for fault in faults]) if faults else "",
        "hosts": {host: dataclasses.asdict(plan) for host, plan in plans.items()},
    }


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"release_plan": _release_plan}
