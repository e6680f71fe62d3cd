# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import Refused
from ansible_collections.kvm.passthrough.plugins.modules import guest_pci_device
from ansible_collections.kvm.passthrough.tests.unit.libvirt_host import FakeDomain, FakeLibvirt, definition, source

Given = t.Dict[str, t.Any]
Run = t.Callable[..., Given]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run main() with these arguments on a host with one guest: what it answered."""

    def call(libvirt: t.Any = None, **args: t.Any) -> Given:
        monkeypatch.setattr(guest_pci_device, "libvirt", libvirt)
        with patch_module_args(args), pytest.raises(SystemExit):
            guest_pci_device.main()
        return t.cast(Given, json.loads(capsys.readouterr().out))

    return call


def test_a_device_is_taken_from_a_guest(run: Run) -> None:
    guest = FakeDomain(None, definition(source("0000:06:00.0"), source("0000:09:00.0", place="0000:02:00.0")))
    args = {"name": "fax1", "address": "06:00.0", "state": "absent", "_ansible_diff": True}
    for check in (True, False):
        result = run(FakeLibvirt(guest), _ansible_check_mode=check, **args)
        assert result.pop("invocation")
        gone = {"address": "0000:06:00.0", "live": False, "persistent": False, "guest_address": None}
        kept = {"address": "0000:09:00.0", "live": False, "persistent": True, "guest_address": "0000:02:00.0"}
        assert result == {
            "changed": True,
            "guest": "fax1",
            "running": False,
            "devices": [gone],
            "kept": [kept],
            "actions": ["remove 0000:06:00.0 from the persistent definition of fax1"],
            "diff": {
                "before_header": "PCI devices of fax1",
                "after_header": "PCI devices of fax1",
                "before": "live: not running\npersistent:\n  0000:06:00.0 managed='no'\n  0000:09:00.0 managed='no'\n",
                "after": "live: not running\npersistent:\n  0000:09:00.0 managed='no'\n",
            },
        }
    assert run(FakeLibvirt(guest), **args)["changed"] is False


def test_what_reaches_the_logic(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    libvirt, seen = FakeLibvirt(), []

    def apply(*given: t.Any) -> Given:
        seen.extend(given)
        return {"changed": False, "warnings": ["fax1 does not run"]}

    monkeypatch.setattr(guest_pci_device, "apply", apply)
    result = run(
        libvirt,
        guest="fax1",
        addresses=["06:00.0"],
        persistent=False,
        uri="qemu:///session",
        timeout=5,
        pending=["07:00.0"],
    )
    request = guest_pci_device.Request(
        "fax1", ("0000:06:00.0",), persistent=False, timeout=5, pending=("0000:07:00.0",)
    )
    assert seen == [libvirt, "qemu:///session", request, "/", "192.0.2.1", False, False]
    assert "fax1 does not run" in json.dumps(result["warnings"])


def test_without_the_bindings(run: Run) -> None:
    message = run(None, guest="fax1", addresses=["06:00.0"])["msg"]
    assert message.startswith("Failed to import the required Python library (libvirt) on ")
    assert (
        "This is required to talk to libvirt. Install the package python3-libvirt (Debian, Ubuntu, Fedora, RHEL),"
        " python3-libvirt-python (SUSE) or libvirt-python (Arch Linux)."
    ) in message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "0000:06:00.0 is held by the running guest fax2"),
        ({"addresses": [4860]}, "'4860' is no PCI address. Write it as 0000:06:00.0, or 06:00.0 in domain 0000"),
        ({"addresses": []}, "addresses is empty, which only makes sense together with exclusive: true"),
    ],
)
def test_a_refusal_is_the_message(run: Run, monkeypatch: pytest.MonkeyPatch, args: Given, message: str) -> None:
    def apply(*_given: t.Any) -> Given:
        raise Refused("0000:06:00.0 is held by the running guest fax2")

    monkeypatch.setattr(guest_pci_device, "apply", apply)
    result = run(FakeLibvirt(), **{"guest": "fax1", "addresses": ["06:00.0"], **args})
    assert (result["failed"], result["msg"]) == (True, message)
