# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict as a whole: how findings become one, and that no check breaks on any machine."""

from __future__ import annotations

import collections
import string
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _kvm, _verdict
from ansible_collections.kvm.passthrough.plugins.module_utils._check import (
    BLOCKER,
    INFORMATION,
    WARNING,
    Check,
    Fault,
    Machine,
)
from ansible_collections.kvm.passthrough.tests.unit.machines import device, machine
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree, config_space

# What pci_facts always tells.
KNOWN = ("address", "id", "bridge", "boot_vga", "interrupt", "sriov", "modules", "bars")
CHECKS = (*_verdict.HOST_CHECKS, *_verdict.DEVICE_CHECKS)


def _check(severity: str, in_use: bool = False) -> Check:
    def judge(_machine: Machine, judged: t.Mapping[str, t.Any]) -> t.Iterator[Fault]:
        yield Fault(f"{judged['address']} is it", "/sys/it: 1", words={"what": "it"})

    return Check("it", "about", "source", severity, "{address}: {what}", "mend {what}", judge, in_use=in_use)


@pytest.mark.parametrize(
    ("checks", "driver", "host_blocked", "verdict"),
    [
        ([], None, False, "assignable"),
        ([], "e1000e", False, "assignable"),
        ([], "vfio-pci", False, "ready"),
        ([], "mlx5_vfio_pci", False, "ready"),
        ([], "vfio-pci", True, "blocked"),
        ([_check(WARNING), _check(INFORMATION)], "vfio-pci", False, "ready"),
        ([_check(WARNING, in_use=True)], "e1000e", False, "assignable"),
        ([_check(BLOCKER, in_use=True)], "e1000e", False, "in_use"),
        ([_check(BLOCKER, in_use=True)], "vfio-pci", False, "in_use"),
        ([_check(BLOCKER, in_use=True), _check(BLOCKER)], "e1000e", False, "blocked"),
        ([_check(BLOCKER)], "vfio-pci", False, "blocked"),
    ],
)
def test_verdict_of_a_device(
    checks: list[Check], driver: str | None, host_blocked: bool, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_verdict, "DEVICE_CHECKS", tuple(checks))
    judged = device("0000:01:00.0", driver=driver)
    found = _verdict.judge_device(machine(devices=[judged]), judged, host_blocked)
    assert found["verdict"] == verdict
    assert [finding["message"] for finding in found["findings"]] == ["0000:01:00.0 is it"] * len(checks)


def test_a_finding_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_verdict, "DEVICE_CHECKS", (_check(BLOCKER),))
    judged = device("0000:01:00.0")
    assert _verdict.judge(machine(devices=[judged]))["devices"][0]["findings"] == [
        {
            "check": "it",
            "severity": "blocker",
            "message": "0000:01:00.0 is it",
            "evidence": "/sys/it: 1",
            "symptom": "0000:01:00.0: it",
            "remedy": "mend it",
            "repaired_by": None,
        }
    ]


def test_only_wanted_devices_are_returned() -> None:
    judged = machine(devices=[device("0000:01:00.0"), device("0000:02:00.0")])
    assert [found["address"] for found in _verdict.judge(judged, ["02:00.0"])["devices"]] == ["0000:02:00.0"]
    assert _verdict.judge(judged, [])["devices"] == []


@pytest.mark.parametrize("count", [1, 2, 3, "all"])
def test_what_leaves_whatever_its_count(count: int | str, tmp_path: Path) -> None:
    tree = PciTree(tmp_path)
    for address in ("0000:01:00.0", "0000:02:00.0"):
        tree.add(address, config_space())
    tree.add("0000:03:00.0", config_space(pci_class="040300"), pci_class="040300")
    leaving = [{"class": "0200", "count": count}, {"id": "1397:08b4", "count": count}]
    read = _verdict.read_machine(str(tmp_path), lambda message: None, leaving=leaving)
    assert read.leaving == {"0000:01:00.0", "0000:02:00.0"}


def test_names_of_checks_are_unique() -> None:
    counts = collections.Counter(check.id for check in CHECKS)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_is_whole(check: Check) -> None:
    assert all((check.about, check.source, check.remedy))
    assert check.severity in (BLOCKER, WARNING, INFORMATION)
    assert check.repaired_by in (None, "kvm.passthrough.prepare")
    for template in (check.symptom, check.remedy):
        assert all(
            name is None or name.isidentifier() for _text, name, _spec, _conv in string.Formatter().parse(template)
        )


def test_an_empty_machine_has_a_verdict(tmp_path: Path) -> None:
    """A bare root folder says nothing, and so nothing is known of it but that it has no devices."""
    found = _verdict.judge(_verdict.read_machine(str(tmp_path), lambda message: None))
    assert found["devices"] == []
    assert found["guests"] == []


@pytest.mark.parametrize("silent_device", [False, True])
def test_facts_that_say_nothing_break_no_check(silent_device: bool, tmp_path: Path) -> None:
    """Every field unknown: as in a cut-off capture, or without any right to read."""
    blank = device("0000:01:00.0")
    if silent_device:
        blank = {key: ([] if isinstance(value, list) else value) for key, value in blank.items()}
        blank.update((key, None) for key in blank if key not in KNOWN)
        blank["interrupt"] = {"pin": None, "line": None, "vectors": [], "mode": None}
    judged = Machine(root="/nonexistent", devices={"0000:01:00.0": blank}, kvm=_kvm.read_kvm(str(tmp_path)))
    assert _verdict.judge(judged)["devices"][0]["address"] == "0000:01:00.0"
