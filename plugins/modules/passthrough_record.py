#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The code is plugins/action/passthrough_record.py: it runs on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: passthrough_record
short_description: Judge a host for a report of the fleet
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Runs M(kvm.passthrough.passthrough_info) on a host, with facts, and keeps what it found in a file on the controller
    until the run ends. M(kvm.passthrough.passthrough_report) makes a report of these files.
  - What the guests of the inventory want of the host counts as leaving it together. A guest is a host of the inventory
    that names this one in C(kvm_guest_host); its C(kvm_guest_pci_devices) are selectors.
  - It returns a few numbers only, so that a fleet of any size fits into the memory of the controller.
  - A host that cannot be reached or judged fails as it would with any module. The report shows it with the error.
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.facts
attributes:
  action:
    description: Has a part that runs on the controller.
    support: full
options:
  root:
    description:
      - Judge the machine whose files lie below this folder of the host, such as a captured tree, instead of the running
        one.
    type: str
    default: /
seealso:
  - module: kvm.passthrough.passthrough_info
  - module: kvm.passthrough.passthrough_report
"""

EXAMPLES = r"""
- name: Judge the host, and go on with the others where that fails
  kvm.passthrough.passthrough_record:
  ignore_errors: true
  ignore_unreachable: true

- name: Write the report
  kvm.passthrough.passthrough_report:
  run_once: true
"""

RETURN = r"""
host:
  description: The verdict on the host, see M(kvm.passthrough.passthrough_info).
  type: str
  returned: success
  sample: capable
devices:
  description: How many devices have each verdict, bridges among them.
  type: dict
  returned: success
  sample: {assignable: 3, blocked: 14, in_use: 2}
"""
