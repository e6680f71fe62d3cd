# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the reference of all checks from the checks themselves.

usage: python3 checks.py > docs/docsite/rst/reference_checks.rst
"""

from __future__ import annotations

import sys
import typing as t

from ansible_collections.kvm.passthrough.plugins.module_utils._check import Check
from ansible_collections.kvm.passthrough.plugins.module_utils._verdict import DEVICE_CHECKS, HOST_CHECKS

_HEAD = """\
..
  Copyright (c) 2026, the kvm.passthrough authors
  GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
  SPDX-License-Identifier: GPL-3.0-or-later

.. This page is written by `make docs` from the checks themselves.

.. _ansible_collections.kvm.passthrough.docsite.reference_checks:

What is checked before a device goes
====================================

The module ``kvm.passthrough.passthrough_info`` and the playbooks ``assess``, ``prepare`` and ``deploy`` judge hosts and
devices by these checks. A *blocker* means that the guest would not start, that the driver would not bind, or that the
host would lose what it lives on; a *warning*, that it works but is hazardous; an *information* helps to decide. A
check may be milder or harder in a single case than the table says, and its finding then says so.
"""

_HOST = "These are asked of the host as a whole; a blocker stands in the way of all its devices."


def page() -> str:
    """The whole page, as reStructuredText."""
    return "\n".join(
        [
            _HEAD,
            *_section("The host", _HOST, HOST_CHECKS),
            *_section("A device", "These are asked of each device.", DEVICE_CHECKS),
        ]
    )


def _section(title: str, about: str, checks: t.Sequence[Check]) -> t.Iterator[str]:
    yield from (
        title,
        "-" * len(title),
        "",
        about,
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 15 10 40 35",
    )
    yield from (
        "",
        "   * - check",
        "     - severity",
        "     - what stands in the way, and what to do",
        "     - where the rule is from",
    )
    for check in checks:
        yield f"   * - ``{check.id}``"
        yield f"     - {check.severity}"
        yield f"     - {plain(check.about)}"
        if check.symptom:
            yield from ("", f"       Otherwise one sees: ``{_blanks(check.symptom)}``")
        yield from ("", f"       {plain(_blanks(check.remedy))}")
        if check.repaired_by:
            yield from ("", f"       The playbook ``{check.repaired_by}`` does that.")
        yield f"     - {plain(check.source)}"
    yield ""


def _blanks(template: str) -> str:
    """A template as a reader sees it: {address} becomes ADDRESS, and a doubled brace a single one."""
    text = template.replace("{{", "\0").replace("}}", "\1")
    parts = text.replace("}", "{").split("{")
    shown = "".join(part.upper() if index % 2 else part for index, part in enumerate(parts))
    return shown.replace("\0", "{").replace("\1", "}").strip()


def plain(text: str) -> str:
    """Text in which nothing is markup."""
    for sign in "\\*`_|":
        text = text.replace(sign, "\\" + sign)
    return text


if __name__ == "__main__":
    sys.stdout.write(page())
