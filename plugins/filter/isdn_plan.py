# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: isdn_plan
short_description: What a guest needs for its ISDN lines, and what stands in the way
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Holds the ISDN cards of a guest and what its inventory wants against its kernel and its distribution, and tells
    which modules, options, files and packages the lines need. The role P(kvm.passthrough.isdn_guest#role) works by it.
  - What is wrong is returned, not raised, so that a playbook can tell it of all guests before it changes the first.
positional: host, wanted, machine
options:
  _input:
    description: The list C(pci_devices) of M(kvm.passthrough.pci_facts).
    type: list
    elements: dict
    required: true
  host:
    description: The guest's name in the inventory, for the messages.
    type: str
    required: true
  wanted:
    description:
      - The variables of the role without their prefix, C(provider), C(module_options), C(l1oip), C(group), C(members),
        C(pin_kernel), C(spans), C(asterisk), C(dialplan).
    type: dict
    required: true
  machine:
    description: What the guest is.
    type: dict
    required: true
    suboptions:
      family:
        description: The family of its distribution.
        type: str
        required: true
      distribution:
        description: Its distribution.
        type: str
        required: true
      major:
        description: The major version of it.
        type: str
        required: true
      kernel:
        description: The release of its kernel, C(uname -r).
        type: str
        required: true
      modules:
        description: Which modules that kernel has, of those that are asked for.
        type: list
        elements: str
        required: true
      parameters:
        description: By module the parameters that it has.
        type: dict
        required: true
      firmware:
        description: Which files it has below C(/lib/firmware), of those that are asked for.
        type: list
        elements: str
        required: true
      groups:
        description: Its groups, of those that are asked for.
        type: list
        elements: str
        required: true
      users:
        description: Its users, of those that are asked for.
        type: list
        elements: str
        required: true
      headers:
        description: Whether the headers of its kernel are installed or can be.
        type: bool
        required: true
seealso:
  - module: kvm.passthrough.isdn_facts
  - plugin: kvm.passthrough.isdn_shortfall
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Plan the lines of a guest
  ansible.builtin.set_fact:
    plan: "{{ ansible_facts['pci_devices'] | kvm.passthrough.isdn_plan(inventory_hostname, wanted, machine) }}"

- name: Refuse what cannot be carried out
  ansible.builtin.assert:
    that: plan.faults | length == 0
    fail_msg: "{{ plan.faults | join('\n') }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    faults:
      description: What is wrong, a sentence each.
      type: list
      elements: str
      sample:
        - "isdn1: Linux 7.2.13-amd64 has no module hfcmulti. Linux 7.1 removed ISDN: boot the kernel that Debian 13
          (6.12), 12 (6.1) or 11 (5.10) came with, and remove the one of backports, so that it is not booted again"
    provider:
      description: V(misdn) or V(dahdi).
      type: str
    cards:
      description: The ISDN cards, as P(kvm.passthrough.card_families#filter) tells of them.
      type: list
      elements: dict
    lines:
      description: How many lines there are without a card, of ISDN over IP or of DAHDI's own.
      type: int
    modules:
      description: The kernel modules to load, in their order.
      type: list
      elements: str
      sample: [hfcmulti, mISDN_dsp]
    rivals:
      description: The modules that must leave the cards alone.
      type: list
      elements: str
      sample: [wcb4xxp]
    options:
      description: By module its options.
      type: dict
      sample: {"hfcmulti": "iomode=1"}
    files:
      description: By path the files that the role writes, with their content.
      type: dict
    blocks:
      description: By path the blocks of lines that it has in files of others.
      type: dict
    packages:
      description: The packages that it installs.
      type: list
      elements: str
      sample: [dahdi-dkms, dahdi, linux-headers-5.10.0-32-amd64]
    spans:
      description: The spans of DAHDI, in their order.
      type: list
      elements: dict
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._isdn_plan import make_plan


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"isdn_plan": make_plan}
