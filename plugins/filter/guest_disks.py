# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: guest_disks
short_description: The disks of a guest with everything filled in
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Completes what the inventory says of a guest's disks, and tells what is wrong with it.
  - What is wrong is returned, not raised, so that a playbook can tell it of all guests at once.
positional: guest, system
options:
  _input:
    description:
      - The data disks, C(kvm_guest_data_disks). Each has a C(name) and a C(size) such as V(100G).
      - C(bus) is V(virtio), V(scsi), V(sata), V(usb) or V(ide). C(serial), by default the name, is what the guest finds
        it by, C(/dev/disk/by-id/virtio-SERIAL). C(format) is V(qcow2) or V(raw).
      - C(path) is by default a file beside the system disk. A path below C(/dev) is used as it is.
    type: list
    elements: dict
    required: true
  guest:
    description: The guest's name in libvirt.
    type: str
    required: true
  system:
    description: The system disk, with all keys that are returned, but for C(target).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show where the recordings lie
  ansible.builtin.debug:
    msg: "{{ ([{'name': 'recordings', 'size': '100G'}] | kvm.passthrough.guest_disks('tv1', system)).disks[1].path }}"
  vars:
    system: {name: system, path: /var/lib/libvirt/images/tv1.qcow2, size: "", format: qcow2, bus: virtio, serial: ""}
"""

RETURN = r"""
_value:
  description: The disks and what is wrong with them.
  type: dict
  contains:
    disks:
      description: The system disk and the data disks.
      type: list
      elements: dict
      sample:
        - name: recordings
          path: /var/lib/libvirt/images/tv1-recordings.qcow2
          size: 100G
          format: qcow2
          bus: virtio
          serial: recordings
          target: vdb
    faults:
      description: What is wrong, a sentence each.
      type: list
      elements: str
"""

import typing as t

from ansible_collections.kvm.passthrough.plugins.plugin_utils._guest_disks import complete


def _guest_disks(data: t.Any, guest: str, system: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    disks, faults = complete(guest, system, data)
    return {"disks": disks, "faults": faults}


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"guest_disks": _guest_disks}
