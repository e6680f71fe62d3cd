# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CapiSuite's log says of a fax that was to be sent, and CAPI's reasons in words. Pure: text in, data out."""

from __future__ import annotations

import re
import typing as t

# CapiSuite's own results, before there is a call.
_OWN = {1: "nobody answered in time", 2: "the call failed, and CAPI gave no reason"}
# Reasons 0x3301 on of CAPI 2.0, and those of fax from 0x3311 on.
_CAPI = {
    0x01: "protocol error of layer 1: the line is not connected or was taken away",
    0x02: "protocol error of layer 2",
    0x03: "protocol error of layer 3: nobody is at the other end of the line, or it does not speak Euro-ISDN",
    0x04: "another program has taken the call",
    0x11: "the other side is no fax machine of group 3",
    0x12: "the two fax machines did not agree on a speed (training)",
    0x13: "the other side does not take this kind of page, such as its resolution",
    0x14: "the other side has ended the fax",
    0x15: "the other side does not keep to the protocol of fax (T.30)",
    0x16: "the pages did not come fast enough from this side",
    0x17: "the pages were not taken fast enough on this side",
    0x18: "this side has ended the fax",
    0x19: "the fax file is not what CAPI wants (SFF)",
}
# Reasons 0x3480 on are causes of ISDN (Q.850).
_CAUSES = {
    1: "there is no such number",
    2: "no route to the network of the number",
    3: "no route to the number",
    6: "the channel cannot be used",
    16: "the call has ended",
    17: "the number is busy",
    18: "no device answers at the number",
    19: "it rings and nobody answers",
    21: "the call was rejected",
    22: "the number has changed",
    27: "the device of the number is out of order",
    28: "the number is incomplete or malformed",
    29: "the exchange refused a facility",
    31: "the call has ended without a particular reason",
    34: "no channel is free",
    38: "the network is out of order",
    41: "the exchange has a temporary failure",
    42: "the exchange is overloaded",
    44: "the channel that was asked for is not free",
    47: "the exchange lacks something, and does not say what",
    50: "a facility was not subscribed to",
    57: "this kind of call is not allowed on the line",
    58: "this kind of call is not possible at present",
    63: "a service is not available",
    65: "the network does not know this kind of call",
    69: "the network does not know a facility",
    79: "the network does not know a service",
    88: "the other side does not take this kind of call",
    102: "the other side did not answer in time (timer of layer 3)",
    111: "protocol error in the signalling",
    127: "another network has ended the call",
}


def reason(result: int, result_b3: int = 0) -> str:
    """What the two results of a call mean, of the connection and of the fax upon it."""
    code = result_b3 or result
    if code >> 8 == 0x33 and code & 0xFF in _CAPI:
        return _CAPI[code & 0xFF]
    if code >> 7 == 0x3480 >> 7 and code & 0x7F in _CAUSES:
        return _CAUSES[code & 0x7F]
    return _OWN.get(code, "the call has ended" if code in (0, 0x3400, 0x3480) else "a reason that is not known")


def fax_job(log: str, user: str, job: int) -> dict[str, t.Any]:
    """How often the job was tried, and how the last try ended; the keys are described in the filter fax_job.

    The number of a job counts for its user, and the line with the results does not say whose it is. But jobs are sent
    one after the other, and the line before it does.
    """
    begin = re.compile(rf"job {job} from {re.escape(user)} to .* initiated$")
    other = re.compile(rf"job {job} from .* initiated$")
    end = re.compile(rf"job {job}: result was 0x([0-9a-f]+), ?0x([0-9a-f]+)$")
    tries, ours, results = 0, False, None
    for line in log.splitlines():
        if begin.search(line):
            tries, ours = tries + 1, True
        elif other.search(line):
            ours = False
        elif ours and end.search(line):
            results = [int(number, 16) for number in end.findall(line)[0]]
    return {
        "tries": tries,
        "results": None if results is None else [f"0x{number:x}" for number in results],
        "reason": None if results is None else reason(*results),
    }
