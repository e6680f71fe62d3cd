#!/usr/bin/python
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_pci_device
short_description: Give PCI devices to a libvirt guest, running or not, and take them back
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Runs on the hypervisor. A guest has these PCI devices of its host, or has them no longer, while it runs and after
    its next start.
  - libvirt keeps these two apart, so that one change may be made and the other not. Each is brought to what is asked
    for, whatever the other one says.
  - Everything is checked for all devices before the first change is made. If a device cannot be attached after all,
    those that were attached before it are detached again.
notes:
  - A running guest releases a device itself, which takes a kernel that is up and supports hot-plug. It is asked until
    it has, for at most O(timeout). If it has not, or refuses, the module fails and says so. What was released by then
    stays away, and another run asks for the rest. The persistent definition is changed first, so that a shutdown of the
    guest frees the device in any case.
  - A running guest takes a PCI Express device at a free C(pcie-root-port) only, and a conventional one at a
    C(pcie-to-pci-bridge); a guest without PCI Express takes both at its root. None of these can be added while it runs.
  - All devices of an IOMMU group must be on C(vfio-pci) or without a driver before any of them goes to a guest. See
    M(kvm.passthrough.passthrough_info) for who is in a group.
requirements:
  - The Python bindings of libvirt, in the package C(python3-libvirt) of Debian, Ubuntu, Fedora and RHEL,
    C(python3-libvirt-python) of SUSE, C(libvirt-python) of Arch Linux
options:
  guest:
    description: The guest's name in libvirt.
    type: str
    required: true
    aliases: [name]
  addresses:
    description:
      - The devices by their addresses on the host, such as V(0000:06:00.0) or V(06:00.0). Quote them, since YAML takes
        some for numbers.
      - May be empty together with O(exclusive).
    type: list
    elements: str
    required: true
    aliases: [address]
  state:
    description: Whether the guest has the devices.
    type: str
    choices: [present, absent]
    default: present
  live:
    description:
      - Whether this concerns the running guest. If V(false), that is left as it is.
      - Of a guest that does not run, it means nothing.
    type: bool
    default: true
  persistent:
    description:
      - Whether this concerns the persistent definition, from which the guest starts. If V(false), that is left as it
        is.
    type: bool
    default: true
  exclusive:
    description:
      - Whether the guest has no other devices than those of O(addresses). Others are taken from it.
      - If V(false), devices that were attached by hand or otherwise are kept, and returned in RV(kept).
      - Disks and interfaces of the guest that are PCI devices of the host are always kept.
    type: bool
    default: false
  managed:
    description:
      - Whether libvirt takes the devices from their drivers when the guest gets them, and gives them back to these when
        it stops.
      - If V(false), they must be bound to C(vfio-pci) already, and stay there; see M(kvm.passthrough.pci_driver). With
        V(true), libvirt would undo that binding.
      - A persistent definition that says otherwise is corrected. In a running guest it cannot be changed.
      - With V(true), a device that the host lives on is refused unless it is on C(vfio-pci) already.
    type: bool
    default: false
  timeout:
    description:
      - How many seconds the running guest may take to release the devices, or libvirt to show them.
      - libvirt itself waits for 5 seconds whenever it asks, so that less than that has no effect.
    type: int
    default: 30
  pending:
    description:
      - Addresses of devices that earlier tasks of the run make ready. Check mode has not made them so, and takes them
        for ready here. They were let go by their guests, exist (virtual functions), and are bound to C(vfio-pci).
      - Those that are not among O(addresses) this guest itself has let go.
      - Outside of check mode it has no effect.
    type: list
    elements: str
    default: []
    version_added: 0.3.0
  uri:
    description: The libvirt daemon, as C(virsh --connect) takes it.
    type: str
    default: qemu:///system
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.changes
seealso:
  - module: kvm.passthrough.pci_driver
  - module: kvm.passthrough.passthrough_info
  - name: PCI hot-plug in libvirt
    description: What can be plugged where.
    link: https://libvirt.org/pci-hotplug.html
"""

EXAMPLES = r"""
- name: Give a card to a guest, now and at every start
  kvm.passthrough.guest_pci_device:
    guest: fax1
    addresses: ["0000:06:00.0"]

- name: Give it exactly these two, and take back any other
  kvm.passthrough.guest_pci_device:
    guest: fax1
    addresses: ["0000:06:00.0", "0000:06:00.1"]
    exclusive: true

- name: Lend a card to the running guest
  kvm.passthrough.guest_pci_device:
    guest: fax1
    addresses: ["0000:01:00.0"]
    persistent: false

- name: Take a card back, and give the guest two minutes
  kvm.passthrough.guest_pci_device:
    guest: fax1
    addresses: ["0000:06:00.0"]
    state: absent
    timeout: 120
"""

RETURN = r"""
guest:
  description: The guest's name.
  type: str
  returned: success
  sample: fax1
running:
  description: Whether it runs, be it paused.
  type: bool
  returned: success
  sample: true
devices:
  description: The devices that were named, or taken away because of O(exclusive), sorted by address.
  type: list
  elements: dict
  returned: success
  contains:
    address:
      description: Where the device is on the host.
      type: str
      sample: "0000:06:00.0"
    live:
      description: Whether the running guest has it. In check mode whether it would.
      type: bool
      sample: true
    persistent:
      description: Whether the persistent definition has it. In check mode whether it would.
      type: bool
      sample: true
    guest_address:
      description:
        - Where libvirt has put it in the running guest, or will in one that does not run. The guest's kernel may number
          its buses differently.
        - V(none) where that is not known yet, as in check mode, or where the guest does not have it.
      type: str
      sample: "0000:05:00.0"
kept:
  description: The other devices of the host that the guest has, with the same keys.
  type: list
  elements: dict
  returned: success
  sample:
    - address: "0000:01:00.0"
      live: true
      persistent: false
      guest_address: "0000:06:00.0"
actions:
  description: What was done, or would be done in check mode, in this order.
  type: list
  elements: str
  returned: success
  sample:
    - attach 0000:06:00.0 to the running fax1
    - add 0000:06:00.0 to the persistent definition of fax1, managed='no'
"""

import os
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.kvm.passthrough.plugins.module_utils._domain import apply
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError
from ansible_collections.kvm.passthrough.plugins.module_utils._hostdev import Request

LIBVIRT_IMPORT_ERROR: str | None = None
try:
    import libvirt
except ImportError:
    libvirt = None
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()

_WHY = (
    "to talk to libvirt. Install the package python3-libvirt (Debian, Ubuntu, Fedora, RHEL), python3-libvirt-python"
    " (SUSE) or libvirt-python (Arch Linux)"
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "guest": {"type": "str", "required": True, "aliases": ["name"]},
            "addresses": {"type": "list", "elements": "str", "required": True, "aliases": ["address"]},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "live": {"type": "bool", "default": True},
            "persistent": {"type": "bool", "default": True},
            "exclusive": {"type": "bool", "default": False},
            "managed": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 30},
            "pending": {"type": "list", "elements": "str", "default": []},
            "uri": {"type": "str", "default": "qemu:///system"},
        },
        supports_check_mode=True,
    )
    if libvirt is None:
        module.fail_json(msg=missing_required_lib("libvirt", reason=_WHY), exception=LIBVIRT_IMPORT_ERROR)
    # The address of the SSH client, which the host must still be able to answer (ssh(1), ENVIRONMENT).
    session = os.environ.get("SSH_CONNECTION", "").partition(" ")[0] or None
    uri = module.params["uri"]
    try:
        request = Request.parse(**{name: module.params[name] for name in module.argument_spec if name != "uri"})
        result = apply(libvirt, uri, request, "/", session, module.check_mode, module._diff)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
