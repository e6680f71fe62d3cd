#!/usr/bin/python
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_disk
short_description: Have a disk for a guest, at least this large
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Runs on the hypervisor. A disk of a guest is made where there is none, as an overlay on an image, a copy of it, or
    empty, and grows where it is smaller than asked for.
  - What is there is never overwritten, shrunk, converted or deleted. If it is no disk of this format, or larger than
    asked for, the module fails and nothing is changed.
  - A disk is made under another name in the same folder, and gets its own when it is whole. It belongs to root and
    nobody else may read it; libvirt hands it to the guest when that starts.
notes:
  - A guest sees that its disk has grown, but partitions and file systems grow by what runs in it, such as cloud-init at
    a boot.
  - A path below C(/dev), or of any block device, is used as it is. It has to be there, with O(format=raw) and without
    O(image), and at least as large as asked for. It is never written.
  - C(qemu-img) refuses to grow a disk that some process has open, unless that is O(guest).
  - In check mode, C(qemu-img), the folder and O(image) need not be there yet. What cannot be told for want of them is
    V(none).
requirements:
  - C(qemu-img), in the package C(qemu-utils) of Debian and Ubuntu, C(qemu-img) of RHEL and Fedora
  - C(virsh), to grow a disk of a running guest
options:
  path:
    description:
      - Where the disk is. Its folder must be there.
      - A symbolic link to a file or a block device is followed.
    type: path
    required: true
  size:
    description:
      - How large the disk is for the guest, as a whole number of bytes, or of V(K), V(M), V(G) or V(T), the powers of
        1024. It is rounded up to 512 bytes.
      - A file that is larger is an error, and so is a smaller block device. The size must not be less than that of
        O(image).
      - By default that of the image, or of the disk as it is. An empty disk needs it.
    type: str
  format:
    description: The disk's format. Of a disk that is there it is never changed.
    type: str
    choices: [qcow2, raw]
    default: qcow2
  image:
    description:
      - The file or block device that the disk starts from. It is only read, and only where the disk has to be made. No
        running guest may have it as a disk of its own.
      - A disk that is there and stands on another image is kept, with a warning.
    type: path
  image_format:
    description: The image's format.
    type: str
    choices: [qcow2, raw]
    default: qcow2
  copy:
    description:
      - If V(false), the disk is an overlay on O(image). It is made at once and takes room only for what the guest
        writes, but needs the image, unchanged, for as long as it lives. An overlay is always V(qcow2).
      - If V(true), it is a copy, which needs the image no more.
    type: bool
    default: false
  guest:
    description:
      - The guest's name in libvirt. If it runs and has the disk, the disk grows through libvirt, and the guest sees it
        at once.
      - A guest that libvirt does not know counts as not running.
    type: str
  uri:
    description: The libvirt daemon, as C(virsh --connect) takes it.
    type: str
    default: qemu:///system
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.changes
seealso:
  - module: kvm.passthrough.guest_pci_device
  - name: qemu-img
    description: The tool that makes disks and lets them grow.
    link: https://www.qemu.org/docs/master/tools/qemu-img.html
"""

EXAMPLES = r"""
- name: Have a disk that starts from an image
  kvm.passthrough.guest_disk:
    path: /var/lib/libvirt/images/fax1.qcow2
    image: /var/lib/libvirt/images/debian-13.qcow2
    size: 20G
    guest: fax1

- name: Have a disk that is a copy of an image
  kvm.passthrough.guest_disk:
    path: /var/lib/libvirt/images/tv1.raw
    format: raw
    image: /var/lib/libvirt/images/debian-13.qcow2
    copy: true

- name: Have an empty disk for recordings
  kvm.passthrough.guest_disk:
    path: /var/lib/libvirt/images/tv1-recordings.qcow2
    size: 500G
    guest: tv1

- name: See that a logical volume is large enough
  kvm.passthrough.guest_disk:
    path: /dev/vg0/tv1
    format: raw
    size: 100G
"""

RETURN = r"""
path:
  description: Where the disk is.
  type: str
  returned: success
  sample: /var/lib/libvirt/images/fax1.qcow2
size:
  description:
    - How large it is for the guest, in bytes. In check mode how large it would be.
    - V(none) where check mode cannot tell yet.
  type: int
  returned: success
  sample: 21474836480
format:
  description: Its format. V(none) where check mode cannot tell yet.
  type: str
  returned: success
  sample: qcow2
image:
  description: The image that it stands on. V(none) if it stands on its own.
  type: str
  returned: success
  sample: /var/lib/libvirt/images/debian-13.qcow2
actions:
  description: What was done, or would be done in check mode.
  type: list
  elements: str
  returned: success
  sample:
    - make /var/lib/libvirt/images/fax1.qcow2, an overlay of 20G on /var/lib/libvirt/images/debian-13.qcow2
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils._disk import FORMATS, Request, Tools, apply, bounded
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


class _Module(AnsibleModule):
    def add_path_info(self, kwargs: dict[str, t.Any]) -> dict[str, t.Any]:
        """Leave the answer alone: Ansible would put the bytes of the file in place of the size of the disk."""
        return kwargs


def main() -> None:
    module = _Module(
        argument_spec={
            "path": {"type": "path", "required": True},
            "size": {"type": "str"},
            "format": {"type": "str", "choices": list(FORMATS), "default": "qcow2"},
            "image": {"type": "path"},
            "image_format": {"type": "str", "choices": list(FORMATS), "default": "qcow2"},
            "copy": {"type": "bool", "default": False},
            "guest": {"type": "str"},
            "uri": {"type": "str", "default": "qemu:///system"},
        },
        supports_check_mode=True,
    )
    tools = Tools(module.get_bin_path("qemu-img"), module.get_bin_path("virsh"), bounded)
    try:
        request = Request.parse(**{name: module.params[name] for name in module.argument_spec})
        result = apply(request, tools, module.check_mode, module._diff)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
