# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory of a host as far as guests with devices care: all of theirs is pinned. Sizes are in bytes."""

from __future__ import annotations

import re
import typing as t

from ._sysfs import below, names, read_int, read_text

_KSM = "/sys/kernel/mm/ksm"
_KSM_KEYS = (
    "run",
    "pages_shared",
    "pages_sharing",
    "pages_unshared",
    "pages_to_scan",
    "sleep_millisecs",
    "full_scans",
)
_NODES = "/sys/devices/system/node"

Numbers = t.Dict[str, t.Optional[int]]


def read_ksm(root: str) -> Numbers | None:
    """The kernel's same-page merging, under its own names (admin-guide/mm/ksm.rst); None where the kernel has none."""
    if not names(below(root, _KSM)):
        return None
    return {key: read_int(below(root, f"{_KSM}/{key}")) for key in _KSM_KEYS}


def read_hugepages(root: str) -> list[Numbers]:
    """Pools of huge pages: those of the whole machine, whose node is None, then those of each NUMA node.

    Each is {size: bytes of a page, node, total: pages, free: pages} (admin-guide/mm/hugetlbpage.rst).
    """
    nodes = sorted(int(name[4:]) for name in names(below(root, _NODES)) if re.fullmatch(r"node\d+", name))
    pools = list(_pools(below(root, "/sys/kernel/mm/hugepages"), None))
    return pools + [pool for node in nodes for pool in _pools(below(root, f"{_NODES}/node{node}/hugepages"), node)]


def read_memory(root: str) -> Numbers:
    """Bytes of memory in all, of what can be had without swapping, and of swap, from /proc/meminfo."""
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", read_text(below(root, "/proc/meminfo")) or "", re.MULTILINE))
    keys = {"total": "MemTotal", "available": "MemAvailable", "swap_total": "SwapTotal"}
    return {key: int(found[name]) * 1024 if name in found else None for key, name in keys.items()}


def _pools(folder: str, node: int | None) -> t.Iterator[Numbers]:
    matches = (re.fullmatch(r"hugepages-(\d+)kB", name) for name in names(folder))
    for size in sorted(int(match.group(1)) for match in matches if match):
        pool = f"{folder}/hugepages-{size}kB"
        total, free = read_int(f"{pool}/nr_hugepages"), read_int(f"{pool}/free_hugepages")
        if total is not None and free is not None:
            yield {"size": size * 1024, "node": node, "total": total, "free": free}
