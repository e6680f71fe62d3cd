#!/usr/bin/python

# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The code is plugins/action/passthrough_report.py: it runs on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: passthrough_report
short_description: Write the report of what can go, and why not
version_added: 0.2.0
author:
  - The kvm.passthrough authors (@kvm-passthrough)
description:
  - Writes what M(kvm.passthrough.passthrough_record) found in this run to a folder of the controller, as a page that
    any browser opens without a server or a network, C(assessment.html), and as the same data, C(assessment.json).
  - All hosts of the play are in it, also those that could not be judged.
  - It describes the fleet as it is now, so that it is written anew each time, and never counts as a change of a host.
extends_documentation_fragment:
  - kvm.passthrough.attributes
attributes:
  action:
    description: Has a part that runs on the controller.
    support: full
  check_mode:
    support: full
    details: In check mode nothing is written. The message says where the report would be.
  diff_mode:
    support: N/A
    details: The report is no state of a host.
  idempotent:
    support: N/A
    details: The report is no state of a host.
options:
  folder:
    description:
      - The folder, which is made where it is missing. A relative path starts where C(ansible-playbook) was called.
    type: path
    default: assessment
seealso:
  - module: kvm.passthrough.passthrough_record
"""

EXAMPLES = r"""
- name: Write the report
  kvm.passthrough.passthrough_report:
    folder: /srv/reports/today
  run_once: true
"""

RETURN = r"""
msg:
  description: What was found, and where the report is.
  type: str
  returned: success
  sample: "2 hosts: 2 capable. 31 devices: 1 ready, 9 assignable, 6 in use, 15 blocked. The report is /srv/a.html"
page:
  description: The page.
  type: str
  returned: success
  sample: /srv/reports/today/assessment.html
hosts:
  description: How many hosts have each verdict; V(failed) are those that could not be judged.
  type: dict
  returned: success
  sample: {capable: 2, blocked: 0, failed: 0}
devices:
  description: How many devices have each verdict, without bridges.
  type: dict
  returned: success
  sample: {ready: 1, assignable: 9, in_use: 6, blocked: 15}
"""
