# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: guest_plan
short_description: What brings a libvirt guest to what the inventory says
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Lays a wanted domain definition over the one that libvirt has, and compares the running guest with it.
  - What libvirt filled in stays, such as addresses, controllers and the version of the machine type. So does what
    people changed by hand, unless the wanted definition says otherwise.
  - Disks are the same if their source is, interfaces if their MAC is, and host devices if their address on the host
    is. A disk keeps its name in the guest; a new one gets another name if its own is taken.
  - A note in the definition's metadata says what the inventory gave. What it gave once and no longer gives is taken
    away. A definition without the note loses nothing.
  - The metadata of the wanted definition may say how many C(pcie-root-port) shall be free for devices that come while
    the guest runs (C(hotplug-slots)), and whether there shall be a C(pcie-to-pci-bridge) for conventional ones
    (C(conventional-slots)). Ports are added and never removed.
  - PCI host devices are part of the definition, but not of what changes while the guest runs, for which there is
    M(kvm.passthrough.guest_pci_device).
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
  live:
    description: That of the running guest, as C(virsh dumpxml) prints it. Empty where it does not run.
    type: str
    default: ""
  exclusive:
    description: Whether the guest has no PCI host devices but the wanted ones.
    type: bool
    default: false
seealso:
  - module: kvm.passthrough.guest_pci_device
"""

EXAMPLES = r"""
- name: Show what would change
  ansible.builtin.debug:
    msg: "{{ (lookup('ansible.builtin.template', 'domain.xml.j2')
              | kvm.passthrough.guest_plan(inactive.stdout, live.stdout)).changes }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    definition:
      description: The definition to hand to C(virsh define).
      type: str
    changes:
      description: What it changes, one plain line each. Empty where there is nothing to define.
      type: list
      elements: str
      sample: ["memory: 524288 -> 1048576 KiB", "disk /images/fax1-data.qcow2: added"]
    live:
      description:
        - What the running guest can take or lose now, of disks and interfaces, in this order.
        - The note goes with the definition. What is to be detached must be so before the definition is handed to
          libvirt, or a run that is cut off in between leaves it there.
      type: list
      elements: dict
      contains:
        action:
          description: V(attach), V(detach) or V(update), for C(virsh attach-device) and its like.
          type: str
          sample: attach
        what:
          description: The device in words.
          type: str
          sample: disk /images/fax1-data.qcow2
        xml:
          description: The device as libvirt takes it.
          type: str
    restart:
      description:
        - What the running guest only takes up with its next start, one plain line each.
        - It is judged by the guest as it runs, so that it stays due until the guest was started again.
      type: list
      elements: str
      sample: ["memory: 524288 -> 1048576 KiB"]
    let_go:
      description:
        - Addresses of host devices that the guest has, running or not, and that it is not to have any more, sorted.
        - These are those that the inventory gave before, and with O(exclusive) all that it does not give.
      type: list
      elements: str
      sample: ["0000:06:00.0"]
    kept:
      description: Disks, interfaces and host devices that were attached by hand and stay, in words, sorted.
      type: list
      elements: str
      sample: ["disk /images/scratch.qcow2", "hostdev 0000:09:00.0 (until it stops)"]
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError
from ansible_collections.kvm.passthrough.plugins.module_utils._guest_plan import guest_plan


def _guest_plan(wanted: str, present: str, live: str = "", exclusive: bool = False) -> dict[str, t.Any]:
    try:
        return guest_plan(wanted, present, live, exclusive)
    except PassthroughError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"guest_plan": _guest_plan}
