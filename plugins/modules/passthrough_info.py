#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: passthrough_info
short_description: What can go from a host to a guest, and why not
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Judges a host and each of its PCI devices before anything is touched. Each finding says what stands in the way, in
    which file that was read, what QEMU, libvirt or the kernel would print, and what to do about it.
  - It reads C(/sys), C(/proc) and what libvirt keeps of its guests. It writes nothing, wakes no sleeping device and
    starts no daemon.
  - It also works without root, but sees less then. What cannot be told is no finding.
  - All checks are listed in the R(reference of checks,ansible_collections.kvm.passthrough.docsite.reference_checks).
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.facts
  - kvm.passthrough.root
  - kvm.passthrough.selectors
options:
  devices:
    description:
      - Return the verdicts on only the devices that at least one of these selectors matches. See the notes for what a
        selector is.
      - The other devices count all the same, as peers in an IOMMU group for example.
    type: list
    elements: raw
  leaving:
    description:
      - Judge as if the devices that these selectors match left the host together, so that one of them does not stand in
        the way of another.
      - A selector may match any number of devices, also none, whatever its C(count).
    type: list
    elements: raw
    default: []
  facts:
    description:
      - Also return the facts that the verdict stands on, those of M(kvm.passthrough.pci_facts),
        M(kvm.passthrough.irq_facts) and M(kvm.passthrough.kvm_facts).
    type: bool
    default: false
seealso:
  - module: kvm.passthrough.pci_facts
  - module: kvm.passthrough.irq_facts
  - module: kvm.passthrough.kvm_facts
"""

EXAMPLES = r"""
- name: Judge the ISDN cards of a host
  kvm.passthrough.passthrough_info:
    devices:
      - class: "0204"
  register: verdict

- name: Show why a card cannot go
  ansible.builtin.debug:
    msg: "{{ verdict.devices | map(attribute='findings') | flatten | map(attribute='message') }}"

- name: Judge both functions of a graphics card as one
  kvm.passthrough.passthrough_info:
    devices: &card
      - address: "01:00.0"
      - address: "01:00.1"
    leaving: *card

- name: Judge a machine that somebody sent a capture of
  kvm.passthrough.passthrough_info:
    root: /srv/captures/pbx3
    facts: true
"""

RETURN = r"""
host:
  description: The verdict on the host as a whole.
  type: dict
  returned: success
  contains:
    verdict:
      description: V(blocked) where no device can be assigned on this host as it is, else V(capable).
      type: str
      sample: capable
    findings:
      description: What stands in the way, in the order of the checks.
      type: list
      elements: dict
      contains: &finding
        check:
          description: Name of the check.
          type: str
          sample: group_viable
        severity:
          description: V(blocker) where the guest would not start, the driver would not bind, or the host would lose
            what it lives on; V(warning) for what works but is hazardous; V(information) for what helps to decide.
          type: str
          sample: blocker
        message:
          description: What stands in the way, and why.
          type: str
          sample: "0000:03:02.0 shares IOMMU group 12 with 0000:03:06.0, which is bound to e1000"
        evidence:
          description: The file, and what it says.
          type: str
          sample: "/sys/bus/pci/devices/0000:03:06.0/driver: e1000"
        symptom:
          description: What QEMU, libvirt or the kernel would print; V(none) where they print nothing.
          type: str
          sample: "vfio 0000:03:02.0: group 12 is not viable"
        remedy:
          description: What to do.
          type: str
          sample: Give 0000:03:06.0 to the same guest, or unbind it from its driver
        repaired_by:
          description: The playbook that removes the obstacle by itself, V(none) where it takes a person.
          type: str
          sample: kvm.passthrough.prepare
devices:
  description: The verdicts on the devices, sorted by address.
  type: list
  elements: dict
  returned: success
  contains:
    address:
      description: The device.
      type: str
      sample: "0000:03:02.0"
    verdict:
      description:
        - V(ready), the device is with a vfio driver and nothing stands in the way.
        - V(assignable), nothing stands in the way, but it is with its own driver, or with none.
        - V(in_use), it could go if the host or a running guest did not need it.
        - V(blocked), it cannot go as things are.
      type: str
      sample: blocked
    findings:
      description: What there is to know before it goes, in the order of the checks.
      type: list
      elements: dict
      contains: *finding
guests:
  description: The guests that libvirt knows on this host; empty where it has none, or the user may not read that.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the guest in libvirt.
      type: str
      sample: fax1
    running:
      description: Whether it runs.
      type: bool
      sample: true
    autostart:
      description: Whether it starts with the host, V(none) where that may not be read.
      type: bool
      sample: true
    devices:
      description: Addresses of the PCI devices that it holds, or wants at its next start.
      type: list
      elements: str
      sample: ["0000:06:00.0"]
    memory:
      description: Its memory in bytes.
      type: int
      sample: 1073741824
    evidence:
      description: The file that says so.
      type: str
      sample: /run/libvirt/qemu/fax1.xml
ansible_facts:
  description: The facts that the verdict stands on, see M(kvm.passthrough.pci_facts), M(kvm.passthrough.irq_facts) and
    M(kvm.passthrough.kvm_facts).
  type: dict
  returned: when O(facts) is true
  contains:
    pci_devices:
      description: Those of M(kvm.passthrough.pci_facts), all of them whatever O(devices) says.
      type: list
      elements: dict
    interrupts:
      description: Those of M(kvm.passthrough.irq_facts).
      type: list
      elements: dict
    kvm:
      description: Those of M(kvm.passthrough.kvm_facts).
      type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils import _verdict
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "devices": {"type": "list", "elements": "raw"},
            "leaving": {"type": "list", "elements": "raw", "default": []},
            "facts": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    root = module.params["root"]
    # The address of the SSH client, which the running host must still be able to answer (ssh(1), ENVIRONMENT).
    session = os.environ.get("SSH_CONNECTION", "").partition(" ")[0] if root == "/" else ""
    try:
        machine = _verdict.read_machine(root, module.warn, session or None, module.params["leaving"])
        result = _verdict.judge(machine, module.params["devices"])
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    if module.params["facts"]:
        result["ansible_facts"] = _verdict.facts(machine)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
