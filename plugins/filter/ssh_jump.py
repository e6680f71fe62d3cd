# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh_jump
short_description: SSH arguments that reach a guest through its hypervisor
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - A guest in a network of libvirt is only reachable through its hypervisor. This filter makes
    C(ansible_ssh_common_args) of the way in which Ansible reaches the hypervisor itself, with its port, user, key and
    own arguments, none of which OpenSSH's C(ProxyJump) would hand on.
options:
  _input:
    description: The variables of the hypervisor, C(hostvars[kvm_guest_host]).
    type: dict
    required: true
  name:
    description: The hypervisor's name in the inventory, which is where to connect to if it has no C(ansible_host).
    type: str
    required: true
positional: name
"""

EXAMPLES = r"""
- name: Reach all guests through their hypervisors, as a variable of the group kvm_guests
  ansible.builtin.set_fact:
    ansible_ssh_common_args: "{{ hostvars[kvm_guest_host] | kvm.passthrough.ssh_jump(kvm_guest_host) }}"
"""

RETURN = r"""
_value:
  description: The arguments. Empty where the hypervisor is the controller itself.
  type: str
  sample: -o 'ProxyCommand=ssh -W ''[%h]:%p'' -l root hv1.example.org'
"""

import shlex
import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError


def _ssh_jump(hypervisor: t.Any, name: str) -> str:
    if not isinstance(hypervisor, Mapping):
        raise AnsibleFilterError("ssh_jump works on the variables of one host, such as hostvars[kvm_guest_host]")
    if hypervisor.get("ansible_connection") == "local":
        return ""
    words = ["ssh", "-W", "[%h]:%p"]
    for option, variables in _OPTIONS.items():
        words += [word for value in _first(hypervisor, variables) for word in (option, value)]
    for variable in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        words += shlex.split(str(hypervisor.get(variable) or ""))
    words += [*_first(hypervisor, ("ansible_ssh_host", "ansible_host")), name][:1]
    return f"-o {shlex.quote('ProxyCommand=' + shlex.join(words))}"


# As the connection plugin ssh reads them.
_OPTIONS = {
    "-p": ("ansible_ssh_port", "ansible_port"),
    "-l": ("ansible_ssh_user", "ansible_user"),
    "-i": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
}


def _first(variables: t.Mapping[str, t.Any], names: t.Iterable[str]) -> list[str]:
    return [str(variables[name]) for name in names if variables.get(name)][:1]


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"ssh_jump": _ssh_jump}
