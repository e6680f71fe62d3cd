#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: isdn_facts
short_description: The ISDN lines that a machine can use
version_added: 0.4.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Describes what has become of the ISDN cards of a machine, such as a guest that they were given to. That a driver's
    module is loaded says nothing about a card; a controller, a span or a CAPI controller is a line that can be used.
  - Reads the controllers of mISDN and the spans of DAHDI from C(/sys) and C(/proc), and the kernel's messages, which
    tell why a driver refused its card.
  - Asks libcapi20 for CAPI controllers if O(capi) is set. What it says equals what C(capiinfo) printed.
  - Nothing of this has to be there, and nothing fails because it is not. It neither needs root nor loads a module.
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.facts
  - kvm.passthrough.root
options:
  capi:
    description:
      - Ask for the CAPI controllers, too.
      - It is the running machine that answers, so that this cannot be asked of another O(root).
    type: bool
    default: false
  capi_driver:
    description:
      - The driver of libcapi20 that has to answer. V(standard) is CAPI in the kernel (C(/dev/capi20)), V(misdn) is
        C(mISDNcapid) on controllers of mISDN, V(rcapi) is a remote CAPI, V(fritzbox) is a FRITZ!Box of the network.
      - Empty is the driver that the user's C(~/.capi20rc) or else C(/etc/capi20.conf) names in its line C(REMOTE), and
        without one V(standard) and then V(misdn).
      - A FRITZ!Box answers only if this is V(fritzbox). Some builds of libcapi20, other than Debian's, take one that is
        called C(fritz.box) when no other driver answers, and a card that does not work would look as if it did.
    type: str
    choices: ["", standard, misdn, rcapi, fritzbox]
    default: ""
  capi_host:
    description:
      - The host to ask with the O(capi_driver) V(rcapi) or V(fritzbox).
      - Empty is the one that the user's file names for this driver, or else C(fritz.box) with V(fritzbox).
    type: str
    default: ""
  capi_port:
    description:
      - The port to ask. V(0) is the one of the user's file, or else 2662 with V(rcapi) and 5031 with V(fritzbox).
    type: int
    default: 0
  capi_timeout:
    description:
      - How many seconds libcapi20 has for its answer. It waits without an end for a host that is silent.
    type: float
    default: 10
notes:
  - A user other than root needs the capability C(CAP_NET_RAW) to ask mISDN for its version and for the channels of a
    primary rate, and the group C(dialout) to ask C(mISDNcapid).
  - libcapi20 cuts the last character off each line of its file, so that the last line needs a line feed. It is read
    here in the same way.
  - All programs with CAPI share C(/dev/shm/CAPI20_shared_memory.v01000010). With the sysctl C(fs.protected_regular), as
    in Debian 11 and 12, nobody but a user other than root can open it after that user has made it. libcapi20 is not
    asked then, nor when this module would be the one that makes it.
  - Linux has no ISDN from 7.1 on, and Debian's kernel no C(/dev/capi20) from Debian 13 on.
seealso:
  - module: kvm.passthrough.dvb_facts
  - module: kvm.passthrough.pci_facts
"""

EXAMPLES = r"""
- name: Read the ISDN controllers of a guest
  kvm.passthrough.isdn_facts:

- name: Require that its card shows four ports
  ansible.builtin.assert:
    that: ansible_facts['isdn']['misdn']['controllers'] | selectattr('address', 'equalto', '0000:05:00.0') | length == 4
    fail_msg: "The kernel says: {{ ansible_facts['isdn']['messages'] | default(['nothing'], true) | join(' / ') }}"

- name: Ask for the CAPI controllers that mISDNcapid makes of them
  kvm.passthrough.isdn_facts:
    capi: true
    capi_driver: misdn

- name: Show which of them can fax
  ansible.builtin.debug:
    msg: "{{ item.number }}: {{ item.manufacturer }}, {{ item.b_channels }} channels"
  loop: "{{ ansible_facts['isdn']['capi']['controllers'] }}"
  when: "'t30' in item.b3_protocols.names"
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    isdn:
      description: All keys are always there; what is unknown is V(none).
      type: dict
      returned: success
      contains:
        misdn:
          description: The kernel's own ISDN.
          type: dict
          contains:
            available:
              description: Whether C(mISDN_core) is loaded.
              type: bool
              sample: true
            version:
              description: Its version, V(none) where the user may not ask for it.
              type: str
              sample: "1.1.29"
            controllers:
              description: The controllers by their number; a card has one for each port.
              type: list
              elements: dict
              contains:
                id:
                  description: Number of the controller. There may be gaps.
                  type: int
                  sample: 0
                name:
                  description: Name of the controller.
                  type: str
                  sample: hfc-4s.1-1
                channels:
                  description: How many B channels it has, 2 of a basic rate and up to 30 of a primary rate.
                  type: int
                  sample: 2
                channel_numbers:
                  description: Their numbers. V(none) for a primary rate where the user may not ask mISDN.
                  type: list
                  elements: int
                  sample: [1, 2]
                d_protocols:
                  description: What the D channel can be, of V(TE_S0), V(NT_S0), V(TE_E1), V(NT_E1), V(TE_UP0),
                    V(NT_UP0).
                  type: list
                  elements: str
                  sample: [TE_S0, NT_S0]
                b_protocols:
                  description:
                    - What the B channels can do, of V(RAW), V(HDLC), V(X75SLP), V(L2DTMF), V(L2DSP), V(L2DSPHDLC),
                      V(T30_FAX), V(MODEM_ASYNC).
                    - The two with C(DSP) in their name come with the module C(mISDN_dsp).
                  type: list
                  elements: str
                  sample: [RAW, HDLC, X75SLP, L2DSP, L2DSPHDLC]
                mode:
                  description: The protocol of the D channel that is in use. V(none) until a program has opened it, for
                    with mISDN it is the program that chooses.
                  type: str
                  sample: TE_S0
                address:
                  description: Address of the PCI device, V(none) for USB and for ISDN over IP.
                  type: str
                  sample: "0000:05:00.0"
                driver:
                  description: Driver of the device, which may be called other than its module.
                  type: str
                  sample: hfc_multi
        capi:
          description: The CAPI, V(none) unless O(capi) is set.
          type: dict
          contains:
            installed:
              description: Whether a driver of libcapi20 has answered.
              type: bool
              sample: true
            error:
              description: Why none has answered, V(none) if one has.
              type: str
              sample: null
            library:
              description: Path of libcapi20, V(none) where it is not installed or has not come to an end.
              type: str
              sample: /usr/lib/x86_64-linux-gnu/libcapi20.so.3.0.6
            via:
              description: The driver that has answered, as in O(capi_driver).
              type: str
              sample: misdn
            controllers:
              description: The controllers by their number.
              type: list
              elements: dict
              contains:
                number:
                  description: Number of the controller. There may be gaps.
                  type: int
                  sample: 1
                manufacturer:
                  description: V(mISDN) for what mISDNcapid makes of a controller of mISDN.
                  type: str
                  sample: mISDN
                version:
                  description: Version of CAPI.
                  type: str
                  sample: "2.0"
                manufacturer_version:
                  description: Version of the driver, of AVM in its own way of writing (C(49.23) is V(3.11-07)).
                  type: str
                  sample: "0.1"
                serial:
                  description: Serial number.
                  type: str
                  sample: "0000001"
                b_channels:
                  description: How many B channels it has.
                  type: int
                  sample: 2
                options:
                  description:
                    - What the controller has, as a mask and by names, bit by bit from V(0x00000001) on.
                    - V(internal_controller), V(external_equipment), V(handset), V(dtmf), V(supplementary_services),
                      V(channel_allocation) (leased lines), V(b_channel_operation), V(line_interconnect).
                  type: dict
                  sample: {"mask": "0x00000009", "names": ["internal_controller", "dtmf"]}
                b1_protocols:
                  description: Physical layer, V(hdlc), V(transparent), V(v110_async), V(v110_sync), V(t30) (fax group
                    3), V(hdlc_inverted), V(transparent_56k), V(modem), V(modem_async), V(modem_sync).
                  type: dict
                  sample: {"mask": "0x00000013", "names": ["hdlc", "transparent", "t30"]}
                b2_protocols:
                  description: Data link layer, V(x75), V(transparent), V(sdlc), V(lapd_x25), V(t30), V(ppp),
                    V(transparent_unframed), V(modem), V(x75_v42bis), V(v120), V(v120_v42bis), V(v120_transparent),
                    V(lapd).
                  type: dict
                  sample: {"mask": "0x00000013", "names": ["x75", "transparent", "t30"]}
                b3_protocols:
                  description: Network layer, V(transparent), V(t90nl), V(iso8208), V(x25_dce), V(t30),
                    V(t30_extended) (fax with its extensions), bit 6 is reserved, V(modem).
                  type: dict
                  sample: {"mask": "0x00000031", "names": ["transparent", "t30", "t30_extended"]}
                supplementary_services:
                  description: V(hold), V(terminal_portability), V(ect), V(3pty), V(call_forwarding),
                    V(call_deflection), V(mcid), V(ccbs), V(mwi), V(ccnr), V(conference). V(none) if the controller has
                    some and does not say which.
                  type: dict
                  sample: {"mask": "0x00000000", "names": []}
        dahdi:
          description: DAHDI, which is not part of the kernel.
          type: dict
          contains:
            available:
              description: Whether its module C(dahdi) is loaded.
              type: bool
              sample: true
            version:
              description: Its version.
              type: str
              sample: 3.4.0
            spans:
              description: The spans by their number; a card has one for each port.
              type: list
              elements: dict
              contains:
                number:
                  description: Number of the span.
                  type: int
                  sample: 1
                name:
                  description: Name of the span.
                  type: str
                  sample: B4/0/1
                description:
                  description: What the driver says of it.
                  type: str
                  sample: B4XXP (PCI) Card 0 Span 1
                type:
                  description: V(BRI_TE), V(BRI_NT), V(BRI_SOFT), V(E1), V(T1), V(J1), V(DYNAMIC), or something analog.
                  type: str
                  sample: BRI_TE
                line:
                  description: Line coding and framing, V(none) until it is configured.
                  type: str
                  sample: AMI/CCS
                channels:
                  description: How many channels it has, with the D channel.
                  type: int
                  sample: 3
                first_channel:
                  description: Number of the first one.
                  type: int
                  sample: 1
                signalling:
                  description: What the channels are configured for, in their order. V(none) is for nothing; the list is
                    empty where C(/proc/dahdi) cannot be read.
                  type: list
                  elements: str
                  sample: [Clear, Clear, Hardware-assisted HDLC]
                alarms:
                  description: V(RED), V(YELLOW), V(BLUE), V(LOOP), V(RECOVERING), V(NOTOPEN), V(LOS), V(LFA), V(LMFA);
                    empty if the line is up.
                  type: list
                  elements: str
                  sample: [RED]
                master:
                  description: Whether the timing of all spans comes from it.
                  type: bool
                  sample: true
                address:
                  description: Address of the PCI device.
                  type: str
                  sample: "0000:05:00.0"
                driver:
                  description: Driver of the PCI device.
                  type: str
                  sample: wcb4xxp
        messages:
          description: The kernel's lines of ISDN drivers since the boot, newest last. V(none) where they may not be
            read.
          type: list
          elements: str
          sample: ["Modular ISDN core version 1.1.29", "mISDN: HFC-multi driver 2.03"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils import _capi, _dahdi, _misdn
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput, PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "capi": {"type": "bool", "default": False},
            "capi_driver": {"type": "str", "default": "", "choices": ["", *_capi.DRIVERS]},
            "capi_host": {"type": "str", "default": ""},
            "capi_port": {"type": "int", "default": 0},
            "capi_timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    root = module.params["root"]
    wanted = {name: module.params[f"capi_{name}"] for name in ("driver", "host", "port", "timeout")}
    try:
        if module.params["capi"] and root != "/":
            raise InvalidInput(f"capi: libcapi20 tells of the running machine, and not of root {root}; leave one out")
        facts = {
            "misdn": _misdn.read_misdn(root),
            "capi": _capi.read_capi(**wanted) if module.params["capi"] else None,
            "dahdi": _dahdi.read_dahdi(root),
            "messages": _misdn.read_messages(root),
        }
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    module.exit_json(ansible_facts={"isdn": facts})


if __name__ == "__main__":
    main()
