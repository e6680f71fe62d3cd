# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import Refused
from ansible_collections.kvm.passthrough.plugins.modules import pci_driver

Given = t.Dict[str, t.Any]


@pytest.fixture
def run(thin: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    return thin(pci_driver, "/sbin/modprobe")


def test_arguments_and_answer(run: t.Callable[..., t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    answer = {"changed": True, "devices": [], "warnings": ["no driver claims it"]}
    seen, result = run(
        answer, address=["01:00.0"], force="01:00.0", pending="02:00.0", _ansible_check_mode=True, _ansible_diff=True
    )
    forced, pending = frozenset(("0000:01:00.0",)), frozenset(("0000:02:00.0",))
    request = pci_driver.Request(("0000:01:00.0",), "vfio-pci", True, False, forced, 30, pending)
    rest = ("/sbin/modprobe", "192.0.2.1")
    assert seen == {"root": "/", "request": request, "check": True, "diff": True, "rest": rest}
    assert (result["changed"], result["devices"]) == (True, [])
    assert "no driver claims it" in json.dumps(result["warnings"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"addresses": ["01:00.0"]}, "0000:01:00.0 is a bridge"),
        ({"addresses": []}, "addresses is empty, which only makes sense together with exclusive: true"),
        ({"addresses": [4860]}, "'4860' is no PCI address. Write it as 0000:06:00.0, or 06:00.0 in domain 0000"),
    ],
)
def test_a_refusal_is_the_message(run: t.Callable[..., t.Any], args: Given, message: str) -> None:
    result = run(Refused("0000:01:00.0 is a bridge"), **args)[1]
    assert (result["failed"], result["msg"]) == (True, message)
