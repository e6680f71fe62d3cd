# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure what the collection promises about its speed, as ratios to a well-known command in the same run.

usage: python3 bench.py ROWS.csv

Each pair of commands runs in turn, A B A B, so that a machine whose speed drifts slows both. A ratio is the median of
those of the pairs; every single measurement goes to ROWS.csv. The exit code is 1 where a budget is not kept.
"""

from __future__ import annotations

import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.kvm.passthrough.plugins.module_utils import _pci
from ansible_collections.kvm.passthrough.tests.bench import machines, playbooks

ROUNDS = {10: 15, 256: 11, 4096: 5}
TASK_ROUNDS = 5


class Row(t.NamedTuple):
    """One measurement, in seconds: CPU time of a read, wall clock time of a task."""

    work: str
    size: int
    round: int
    seconds: float


class Budget(t.NamedTuple):
    """What was promised, and what came out."""

    work: str
    measured: float
    limit: float
    detail: str

    @property
    def kept(self) -> bool:
        return self.measured <= self.limit


def main(rows_file: str) -> int:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="passthrough-bench-") as folder:
        roots = {}
        for count in ROUNDS:
            say(f"writing a machine with {count} PCI devices")
            roots[count] = machines.write(Path(folder) / str(count), count)
        budgets = list(pci_facts_beside_lspci(roots, rows))
        budgets.append(growth(rows))
        budgets += tasks_beside_ping(Path(folder), roots[256], rows)
    with open(rows_file, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([Row._fields, *rows])
    print(f"{'work':<58}{'measured':>9}{'budget':>8}")
    for budget in budgets:
        print(
            f"{budget.work:<58}{budget.measured:>9.2f}{budget.limit:>8.2f}  {'kept' if budget.kept else 'NOT KEPT'}"
            f"  ({budget.detail})"
        )
    print(f"raw rows: {rows_file}")
    return 0 if all(budget.kept for budget in budgets) else 1


def pci_facts_beside_lspci(roots: dict[int, Path], rows: list[Row]) -> t.Iterator[Budget]:
    """CPU seconds of reading all devices in a process that has the code loaded, and of the whole lspci process."""
    for count, root in roots.items():
        for number in range(ROUNDS[count]):
            rows.append(Row("pci_facts", count, number, cpu_of_read(root)))
            rows.append(Row("lspci", count, number, cpu_of_lspci(root)))
        ours, theirs = median(rows, "pci_facts", count), median(rows, "lspci", count)
        yield Budget(
            f"pci_facts / lspci -Dvvnnk, {count} devices, CPU",
            ratio(rows, "pci_facts", "lspci", count),
            1.0,
            f"{ours * 1000:.1f} ms / {theirs * 1000:.1f} ms",
        )


def growth(rows: list[Row]) -> Budget:
    """How much longer a device takes among many than among few."""
    few, many = (median(rows, "pci_facts", count) / count for count in (256, 4096))
    detail = f"{many * 1e6:.0f} us / {few * 1e6:.0f} us"
    return Budget("pci_facts per device, 4096 / 256 devices, CPU", many / few, 1.25, detail)


def tasks_beside_ping(folder: Path, root: Path, rows: list[Row]) -> t.Iterator[Budget]:
    """Wall clock seconds that one more task costs; the running machine, whatever it has, then 256 written devices."""
    for label, options in (("this machine", {}), ("256 devices", {"root": str(root)})):
        for number in range(TASK_ROUNDS):
            rows.append(Row(f"ping, beside {label}", 1, number, playbooks.seconds_of_task(folder, playbooks.PING)))
            verdict = playbooks.verdict(options)
            rows.append(Row(f"verdict, {label}", 1, number, playbooks.seconds_of_task(folder, verdict)))
        ours, ping = median(rows, f"verdict, {label}", 1), median(rows, f"ping, beside {label}", 1)
        yield Budget(
            f"facts and verdict as one task / ping task, {label}",
            ratio(rows, f"verdict, {label}", f"ping, beside {label}", 1),
            1.3,
            f"{ours * 1000:.0f} ms / {ping * 1000:.0f} ms",
        )


def cpu_of_read(root: Path) -> float:
    """In a child of its own, so that nothing is remembered from the run before."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        start = time.process_time()
        _pci.read_devices(str(root), lambda message: None)
        os.write(writing, str(time.process_time() - start).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        seconds = float(stream.read())
    os.waitpid(child, 0)
    return seconds


def cpu_of_lspci(root: Path) -> float:
    argv = ["lspci", "-A", "linux-sysfs", "-O", f"sysfs.path={root}/sys/bus/pci", "-O", "hwdb.disable=1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv += ["-i", f"{root}/usr/share/misc/pci.ids", "-Dvvnnk"]
    # It complains that the written machine has no modules for this kernel.
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def median(rows: list[Row], work: str, size: int) -> float:
    return statistics.median(row.seconds for row in rows if (row.work, row.size) == (work, size))


def ratio(rows: list[Row], work: str, other: str, size: int) -> float:
    pairs = zip(*([row.seconds for row in rows if (row.work, row.size) == (name, size)] for name in (work, other)))
    return statistics.median(ours / theirs for ours, theirs in pairs)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
