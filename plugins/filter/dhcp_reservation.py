# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: dhcp_reservation
short_description: Whether a libvirt network reserves an address for a guest
version_added: 0.1.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Looks up a guest's MAC among the C(host) elements of a network definition.
options:
  _input:
    description: The network, as C(virsh net-dumpxml) prints it.
    type: str
    required: true
  name:
    description: The guest's name, which the network's DNS gives out.
    type: str
    required: true
  mac:
    description: The MAC of the guest's interface.
    type: str
    required: true
  address:
    description: The IPv4 address that the guest shall have.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show whether the address is reserved
  ansible.builtin.debug:
    msg: >-
      {{ net_dumpxml.stdout | kvm.passthrough.dhcp_reservation(name='fax1', mac='52:54:00:6b:76:01',
                                                               address='192.168.122.50') }}
"""

RETURN = r"""
_value:
  description:
    - V(present) where it is reserved, V(absent) where the MAC has no reservation, V(other) where the MAC has one with
      another address or name.
    - An address that is reserved for another MAC is an error.
  type: str
  sample: present
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError
from ansible_collections.kvm.passthrough.plugins.module_utils._libvirt import dhcp_reservation


def _dhcp_reservation(network: str, *, name: str, mac: str, address: str) -> str:
    try:
        return dhcp_reservation(network, name, mac, address)
    except PassthroughError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"dhcp_reservation": _dhcp_reservation}
