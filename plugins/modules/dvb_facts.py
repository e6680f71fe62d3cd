#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dvb_facts
short_description: Every DVB adapter of a machine, and what it can receive
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Describes the DVB adapters of a machine from C(/sys/class/dvb), what their frontends answer to the kernel's ioctls,
    and what the kernel's messages say about missing firmware. It needs none of the DVB programs.
  - A frontend is opened for reading only, so that one in use by VDR answers as well, and goes on receiving.
  - Frontends may be asked by root and by members of the group C(video); kernel messages may be read by root, and by
    everybody where C(kernel.dmesg_restrict) is 0. What may not be read is V(none).
  - The frontends of another O(root) are named but not asked. Its messages are those of C(/var/log/dmesg) there.
notes:
  - Some cards have several frontends on one tuner. While somebody uses one of them, the kernel lets a reader of another
    wait for five seconds (C(dvb_mfe_wait_time) of C(dvb_core)), and then says that it is busy.
  - Many demodulators and tuners ask for their firmware only when somebody first receives through them, so that a card
    which nobody has used since the boot may lack a file that is not in RV(ansible_facts.dvb.missing_firmware) yet.
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.facts
  - kvm.passthrough.root
seealso:
  - module: kvm.passthrough.isdn_facts
  - module: kvm.passthrough.pci_facts
"""

EXAMPLES = r"""
- name: Read the DVB adapters
  kvm.passthrough.dvb_facts:

- name: Require a tuner for DVB-T
  ansible.builtin.assert:
    that: frontends | selectattr('delivery_systems', 'contains', 'DVBT') | length > 0
    fail_msg: "No tuner for DVB-T; missing firmware: {{ ansible_facts['dvb'].missing_firmware }}"
  vars:
    frontends: "{{ ansible_facts['dvb'].adapters | map(attribute='frontends') | flatten | rejectattr('error') }}"

- name: Show which PCI device is which adapter
  ansible.builtin.debug:
    msg: "{{ ansible_facts['dvb'].adapters | items2dict(key_name='address', value_name='number') }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    dvb:
      description: DVB in this machine. Every key is there; what is unknown is V(none).
      type: dict
      returned: success
      contains:
        adapters:
          description: The adapters, by number.
          type: list
          elements: dict
          contains:
            number:
              description: Number of the adapter, as in C(/dev/dvb/adapter0).
              type: int
              sample: 0
            address:
              description: Address of the PCI device, V(none) for an adapter on USB or made of software.
              type: str
              sample: "0000:06:01.0"
            driver:
              description: Driver of the device, by its name as a driver, which is often not that of the module.
              type: str
              sample: budget_ci dvb
            devices:
              description: Names of the adapter's devices.
              type: list
              elements: str
              sample: [demux0, dvr0, frontend0, net0]
            frontends:
              description: The frontends, by number.
              type: list
              elements: dict
              contains:
                number:
                  description: Number of the frontend in its adapter.
                  type: int
                  sample: 0
                name:
                  description: Name of the demodulator, as its driver gives it.
                  type: str
                  sample: Philips TDA10046H DVB-T
                delivery_systems:
                  description: What it can receive, in the kernel's names (enum C(fe_delivery_system) without C(SYS_)),
                    such as V(DVBT), V(DVBT2), V(DVBC_ANNEX_A), V(DVBS), V(DVBS2).
                  type: list
                  elements: str
                  sample: [DVBT]
                frequency_min:
                  description: Lowest frequency, in Hz, of a satellite frontend that behind the LNB; V(none) where the
                    driver has none.
                  type: int
                  sample: 48000000
                frequency_max:
                  description: Highest frequency, in Hz, likewise.
                  type: int
                  sample: 864000000
                symbol_rate_min:
                  description: Lowest symbol rate, in symbols a second; V(none) with DVB-T, which has none.
                  type: int
                  sample: 1000000
                symbol_rate_max:
                  description: Highest symbol rate, in symbols a second, likewise.
                  type: int
                  sample: 45000000
                error:
                  description: Why the frontend could not be asked, which leaves all but its number V(none).
                  type: str
                  sample: "/dev/dvb/adapter0/frontend0: Permission denied"
        missing_firmware:
          description:
            - Firmware files that DVB drivers have asked for in vain since the boot, in the order in which the kernel
              says so; V(none) where its messages may not be read.
            - Left out are files that were loaded later, or are where the kernel looks for them by now. A driver that
              gave up for want of a file does not look again by itself, but when its module is loaded again.
          type: list
          elements: dict
          contains:
            file:
              description: Path of the file below C(/lib/firmware).
              type: str
              sample: dvb-ttpci-01.fw
            driver:
              description: The driver that asked, or the module.
              type: str
              sample: av7110
            message:
              description: What the kernel says.
              type: str
              sample: "av7110 0000:06:01.0: Direct firmware load for dvb-ttpci-01.fw failed with error -2"
        messages:
          description: The kernel's messages since the boot that are of DVB drivers, newest last; V(none) where they may
            not be read.
          type: list
          elements: str
          sample: ["saa7146: register extension 'budget_ci dvb'"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils import _dvb
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/"}},
        supports_check_mode=True,
    )
    try:
        facts = _dvb.read_dvb(module.params["root"])
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    module.exit_json(ansible_facts={"dvb": facts})


if __name__ == "__main__":
    main()
