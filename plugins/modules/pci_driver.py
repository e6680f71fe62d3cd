#!/usr/bin/python
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_driver
short_description: Bind PCI devices to a driver, now and at every boot
version_added: 0.1.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Binds PCI devices to C(vfio-pci) or another driver, and keeps them there over reboots, or gives them back to their
    own driver.
  - A binding is changed by C(driver_override), C(unbind) and C(drivers_probe) of the kernel
    (Documentation/ABI/testing/sysfs-bus-pci), which concern that one device, and is verified afterwards. C(new_id),
    which takes every card of a kind, is never used.
  - Everything is checked for all devices before the first change is made.
notes:
  - The rule of a device lies in C(/etc/udev/rules.d/10-passthrough-ADDRESS.rules). It sets C(driver_override) at the
    first event of any PCI device, so that no native driver comes first, and only as long as vendor, device and both
    subsystem numbers are those of the card for which it was written.
  - A native driver that is a module and has the device already when udev starts is left alone, because its removal may
    hang. If it is loaded from the initramfs, the rule has to be there too; see RV(initramfs_stale). The udev hook of
    initramfs-tools copies the rules of C(/etc/udev/rules.d) by itself.
  - udev notices new and removed rules without a command.
  - C(hfc_multi), the driver of the module C(hfcmulti), cannot be removed from a card without bringing the kernel down.
    Such a device gets its rule, and goes to O(driver) at the next boot; see RV(waiting).
options:
  addresses:
    description:
      - The devices, such as V(0000:06:00.0) or V(06:00.0). Quote them, since YAML takes some for numbers.
      - May be empty together with O(exclusive).
    type: list
    elements: str
    required: true
    aliases: [address]
  driver:
    description:
      - The driver that gets the devices. Its module is loaded if it is not registered.
      - V(native) removes the rule, clears C(driver_override), and lets the kernel and the module index choose the
        driver. That respects a blacklist. If no driver claims the device, this is a warning.
    type: str
    default: vfio-pci
  persistent:
    description:
      - Whether the devices get O(driver) at every boot as well, by one udev rule per device.
      - If V(false), a rule from an earlier run is removed.
    type: bool
    default: true
  exclusive:
    description:
      - Whether devices that carry a rule from an earlier run, but are not named in O(addresses), go back to their own
        driver and lose their rule.
      - A device that a running guest has open, or whose IOMMU group one has, is left as it is, rule and all; see
        RV(kept).
      - A rule whose device has gone, or was replaced by another card, is removed, and the other card is left alone.
    type: bool
    default: false
  force:
    description:
      - Devices of O(addresses) that may be taken although the host uses them.
      - Without it, the module refuses a bridge, the device that carries a default route or the session itself, one
        under a mounted file system or a swap area, one that is a console, and the only display.
      - A device that a running guest has open is never touched.
    type: list
    elements: str
    default: []
  pending:
    description:
      - Addresses of devices that earlier tasks of the run make ready. Check mode has not made them so; it takes them
        for ready, which is let go by their guests, and existing (virtual functions).
      - Outside of check mode it has no effect.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - How many seconds any one operation of the kernel may take. The removal of a driver may wait for its users
        without end, and nothing can interrupt it. The module then reports what is left, and ends.
    type: int
    default: 30
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.changes
seealso:
  - module: kvm.passthrough.pci_facts
  - module: kvm.passthrough.modprobe_blacklist
"""

EXAMPLES = r"""
- name: Keep a card for guests
  kvm.passthrough.pci_driver:
    addresses: ["0000:06:00.0"]

- name: Keep these two cards for guests, and take back any other that an earlier run kept
  kvm.passthrough.pci_driver:
    addresses: ["0000:01:00.0", "0000:06:00.0"]
    exclusive: true

- name: Predict that as well for a virtual function that an earlier task makes
  kvm.passthrough.pci_driver:
    addresses: ["0000:05:10.0"]
    pending: ["0000:05:10.0"]

- name: Give a card back to its own driver
  kvm.passthrough.pci_driver:
    addresses: ["0000:06:00.0"]
    driver: native

- name: Take everything back
  kvm.passthrough.pci_driver:
    addresses: []
    exclusive: true
"""

RETURN = r"""
devices:
  description: The devices that were named, released or kept, sorted by address.
  type: list
  elements: dict
  returned: success
  contains:
    address:
      description: The device's address.
      type: str
      sample: "0000:06:00.0"
    id:
      description: Its vendor and device number; null if nothing is at that address any more, or not yet.
      type: str
      sample: "1397:08b4"
    before:
      description: The driver that had the device; null if none.
      type: str
      sample: hfc_multi
    driver:
      description: The driver that has it now. In check mode the one that would, which for V(native) is a forecast.
      type: str
      sample: vfio-pci
    persistent:
      description: Whether a rule of this collection binds it at every boot.
      type: bool
      sample: true
    rule:
      description: The file of that rule; null if there is none.
      type: str
      sample: /etc/udev/rules.d/10-passthrough-0000:06:00.0.rules
released:
  description: The devices that were taken back because of O(exclusive).
  type: list
  elements: str
  returned: success
  sample: ["0000:01:00.0"]
kept:
  description: The devices that O(exclusive) would take back, and did not because a running guest has them. Sorted.
  type: list
  elements: str
  returned: success
  sample: ["0000:03:00.0"]
waiting:
  description: The devices that go to O(driver) at the next boot, for their driver cannot be removed before. Sorted.
  type: list
  elements: str
  returned: success
  sample: ["0000:06:00.0"]
actions:
  description: What was done, or would be done in check mode, in order for each device.
  type: list
  elements: str
  returned: success
  sample:
    - write /etc/udev/rules.d/10-passthrough-0000:06:00.0.rules
    - set driver_override of 0000:06:00.0 to vfio-pci
    - unbind 0000:06:00.0 from hfc_multi
    - let the kernel probe 0000:06:00.0
initramfs_stale:
  description: Whether an initramfs is older than the rules; null if the host has none.
  type: bool
  returned: success
  sample: true
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils._attributes import bounded
from ansible_collections.kvm.passthrough.plugins.module_utils._driver import Request, apply
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True, "aliases": ["address"]},
            "driver": {"type": "str", "default": "vfio-pci"},
            "persistent": {"type": "bool", "default": True},
            "exclusive": {"type": "bool", "default": False},
            "force": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 30},
            "pending": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    modprobe = module.get_bin_path("modprobe", required=True)
    # The address of the SSH client, which the host must still be able to answer (ssh(1), ENVIRONMENT).
    session = os.environ.get("SSH_CONNECTION", "").partition(" ")[0] or None
    try:
        request = Request.parse(**{name: module.params[name] for name in module.argument_spec})
        result = apply("/", request, module.check_mode, module._diff, module.atomic_move, modprobe, session, bounded)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
