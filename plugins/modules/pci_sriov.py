#!/usr/bin/python
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_sriov
short_description: A device has this many virtual functions, now and at every boot
version_added: 0.3.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Makes virtual functions of devices with SR-IOV, by C(sriov_numvfs) of the kernel
    (Documentation/ABI/testing/sysfs-bus-pci), and keeps their number over reboots. The number is verified afterwards.
  - The kernel changes one number into another through 0 only, so that all functions of the device are taken away and
    made again. This is refused as long as a running guest or the host needs one of them.
  - Everything is checked for all devices before the first change is made.
notes:
  - The rule of a device lies in C(/etc/udev/rules.d/20-passthrough-sriov-ADDRESS.rules). It makes the functions as soon
    as the device has a driver and none are there yet, and only as long as vendor, device and both subsystem numbers are
    those of the card for which it was written.
  - A driver may reset its device to make functions. The link of a network card is then down for some seconds.
  - A new function goes to its own driver, unless C(sriov_drivers_autoprobe) of the device is 0. Use
    M(kvm.passthrough.pci_driver) to keep it for guests.
options:
  devices:
    description:
      - The devices. May be empty together with O(exclusive).
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: The device, such as V(0000:05:00.0) or V(05:00.0). Quote it, since YAML takes some for numbers.
        type: str
        required: true
      num_vfs:
        description: How many virtual functions it has. V(0) takes all of them away.
        type: int
        required: true
  persistent:
    description:
      - Whether the devices get their functions at every boot as well, by one udev rule per device.
      - If V(false), a rule from an earlier run is removed.
    type: bool
    default: true
  exclusive:
    description:
      - Whether devices that carry a rule from an earlier run, but are not named in O(devices), lose their functions and
        the rule.
      - Such a device is left as it is, rule and all, if a running guest has one of its functions; see RV(kept).
      - A rule whose device has gone, or was replaced by another card, is removed, and the other card is left alone.
    type: bool
    default: false
  pending:
    description:
      - Addresses of functions that earlier tasks of the run make ready. Check mode has not made them so; it takes them
        for ready, which is let go by their guests. Outside of check mode it has no effect.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - How many seconds any one operation of the kernel may take. The driver of the device does it, and nothing can
        interrupt it. The module then reports what is left, and ends.
    type: int
    default: 30
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.changes
seealso:
  - module: kvm.passthrough.pci_facts
  - module: kvm.passthrough.pci_driver
  - plugin: kvm.passthrough.sriov_plan
    plugin_type: filter
    description: Finds the devices by selectors, and tells which functions they will have.
"""

EXAMPLES = r"""
- name: Split a network card into four functions
  kvm.passthrough.pci_sriov:
    devices:
      - address: "0000:05:00.0"
        num_vfs: 4

- name: Split these two, and no other that an earlier run split
  kvm.passthrough.pci_sriov:
    devices:
      - {address: "0000:05:00.0", num_vfs: 4}
      - {address: "0000:05:00.1", num_vfs: 2}
    exclusive: true

- name: Take all functions away
  kvm.passthrough.pci_sriov:
    devices: []
    exclusive: true
"""

RETURN = r"""
devices:
  description: The devices that were named, and those that lost their rule because of O(exclusive); sorted by address.
  type: list
  elements: dict
  returned: success
  contains:
    address:
      description: The device's address.
      type: str
      sample: "0000:05:00.0"
    before:
      description: How many virtual functions it had; null if nothing is at that address any more.
      type: int
      sample: 0
    num_vfs:
      description: How many it has now, or would have in check mode.
      type: int
      sample: 2
    virtual_functions:
      description: Their addresses. In check mode the predicted ones; null where the device does not tell them before
        its first functions are made.
      type: list
      elements: str
      sample: ["0000:05:10.0", "0000:05:10.2"]
    rule:
      description: The file of the rule that makes them at every boot; null if there is none.
      type: str
      sample: /etc/udev/rules.d/20-passthrough-sriov-0000:05:00.0.rules
kept:
  description: The devices that O(exclusive) would take the functions from, and did not because a running guest has one.
  type: list
  elements: str
  returned: success
  sample: ["0000:07:00.0"]
actions:
  description: What was done, or would be done in check mode, in order for each device.
  type: list
  elements: str
  returned: success
  sample:
    - write /etc/udev/rules.d/20-passthrough-sriov-0000:05:00.0.rules
    - write 2 to sriov_numvfs of 0000:05:00.0
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils._attributes import bounded
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError
from ansible_collections.kvm.passthrough.plugins.module_utils._sriov import Request, apply


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "devices": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "address": {"type": "str", "required": True},
                    "num_vfs": {"type": "int", "required": True},
                },
            },
            "persistent": {"type": "bool", "default": True},
            "exclusive": {"type": "bool", "default": False},
            "pending": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    udevadm = module.get_bin_path("udevadm")
    # The address of the SSH client, which the host must still be able to answer (ssh(1), ENVIRONMENT).
    session = os.environ.get("SSH_CONNECTION", "").partition(" ")[0] or None
    try:
        request = Request.parse(**{name: module.params[name] for name in module.argument_spec})
        result = apply("/", request, module.check_mode, module._diff, module.atomic_move, udevadm, session, bounded)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
