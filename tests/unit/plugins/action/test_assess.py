# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.plugin_utils import _report

FIXTURES = Path(__file__).parents[2] / "fixtures"
COLLECTIONS = Path(__file__).parents[7]

HOSTS: dict[str, t.Any] = {
    "captured": {"assess_root": "captured"},
    "<b>strange</b> name/..": {"assess_root": "nothing"},
    "broken": {"assess_root": "{{ nowhere }}"},
    "no_python": {"ansible_python_interpreter": "/nonexistent/python"},
    "unreachable": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9},
}
GUESTS: dict[str, t.Any] = {
    "fax1": {"kvm_guest_host": "captured", "kvm_guest_pci_devices": [{"id": "{{ card }}", "count": "all"}]},
    "fax2": {"kvm_guest_host": "captured", "kvm_guest_pci_devices": [{"id": "1397:16b8"}]},
}


class Assessment:
    """A run of the playbook in a folder, and what it left there."""

    def __init__(self, folder: Path, *arguments: str, guests: dict[str, t.Any] | None = None) -> None:
        inventory: dict[str, t.Any] = {
            "all": {
                "hosts": HOSTS,
                "vars": {
                    "card": "8086:10d3",
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                },
            }
        }
        if guests:
            inventory["all"]["children"] = {"kvm_guests": {"hosts": guests}}
        (folder / "inventory.json").write_text(json.dumps(inventory))
        command = ["ansible-playbook", "kvm.passthrough.assess", "--inventory", "inventory.json", *arguments]
        environment = {
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
        }
        self.run = subprocess.run(
            command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        self.folder = folder / "assessment"

    def hosts(self) -> dict[str, t.Any]:
        return {host["name"]: host for host in json.loads((self.folder / _report.DATA).read_text())["hosts"]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / "lab-host.tar.gz") as archive:
        archive.extractall(tmp_path / "captured", filter="fully_trusted")
    (tmp_path / "nothing").mkdir()
    for name in ("captured", "<b>strange</b> name/.."):
        HOSTS[name]["assess_root"] = str(tmp_path / ("captured" if name == "captured" else "nothing"))
    return tmp_path


def test_every_host_is_in_the_report(place: Path) -> None:
    result = Assessment(place, guests=GUESTS)
    hosts = result.hosts()
    assert list(hosts) == list(HOSTS)
    errors = {name: host["error"] for name, host in hosts.items() if host["error"]}
    assert "refused" in errors.pop("unreachable")
    assert "/nonexistent/python" in errors.pop("no_python")
    assert errors.pop("broken") == "The host was not judged. What the run printed for it says why"
    assert errors == {}
    assert len(hosts["captured"]["facts"]["pci_devices"]) > 10
    assert all("counts" not in row for row in hosts["captured"]["facts"]["interrupts"])
    wants = {want["guest"]: want for want in hosts["captured"]["wants"]}
    assert wants["fax1"]["devices"]
    assert wants["fax1"]["fault"] is None
    assert "matches no device" in wants["fax2"]["fault"]
    assert hosts["<b>strange</b> name/.."]["devices"] == []
    assert result.run.returncode == 0
    assert f"The report is {result.folder / _report.PAGE}" in result.run.stdout
    assert "changed=1" not in result.run.stdout
    assert not list((place / "home" / "tmp").iterdir())


def test_check_mode_writes_nothing(place: Path) -> None:
    result = Assessment(place, "--check", "--limit", "captured")
    assert "The report would be" in result.run.stdout
    assert not result.folder.exists()


def test_limit_and_folder_and_no_group_of_guests(place: Path) -> None:
    result = Assessment(place, "--limit", "captured", "--extra-vars", "assess_folder=elsewhere")
    result.folder = place / "elsewhere"
    assert list(result.hosts()) == ["captured"]
    assert "WARNING" not in result.run.stderr
