# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import Refused
from ansible_collections.kvm.passthrough.plugins.modules import pci_sriov

Given = t.Dict[str, t.Any]


@pytest.fixture
def run(thin: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    return thin(pci_sriov, "/bin/udevadm")


def test_arguments_and_answer(run: t.Callable[..., t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    answer = {"changed": True, "devices": [], "kept": ["0000:07:00.0"], "warnings": ["it is left as it is"]}
    devices = [{"address": "05:00.0", "num_vfs": "2"}]
    seen, result = run(
        answer, devices=devices, pending=["05:10.0"], exclusive=True, _ansible_check_mode=True, _ansible_diff=True
    )
    request = pci_sriov.Request({"0000:05:00.0": 2}, True, True, frozenset(("0000:05:10.0",)), 30)
    rest = ("/bin/udevadm", "192.0.2.1")
    assert seen == {"root": "/", "request": request, "check": True, "diff": True, "rest": rest}
    assert (result["changed"], result["kept"]) == (True, ["0000:07:00.0"])
    assert "it is left as it is" in json.dumps(result["warnings"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"devices": [{"address": "05:00.0", "num_vfs": 9}]}, "0000:05:00.0 can have 7 virtual functions at most"),
        ({"devices": []}, "devices is empty, which only makes sense together with exclusive: true"),
        ({"devices": [{"address": "05:00.0"}]}, "missing required arguments: num_vfs found in devices"),
        (
            {"devices": [{"address": 300.0, "num_vfs": 1}]},
            "'300.0' is no PCI address. Write it as 0000:06:00.0, or 06:00.0 in domain 0000",
        ),
    ],
)
def test_a_refusal_is_the_message(run: t.Callable[..., t.Any], args: Given, message: str) -> None:
    result = run(Refused("0000:05:00.0 can have 7 virtual functions at most"), **args)[1]
    assert (result["failed"], result["msg"]) == (True, message)
