# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role capisuite_guest says of a guest that it has read, and what the playbook send_fax refuses."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t
from pathlib import Path

import pytest

COLLECTIONS = Path(__file__).parents[6]
GERNOT = {"name": "gernot", "fax_numbers": ["11"], "fax_stationID": "1"}
GOOD: dict[str, t.Any] = {"capisuite_guest_packages": ["capisuite"], "capisuite_guest_users": [GERNOT]}
# What a Debian 11 tells.
READ = {
    "distribution": "Debian",
    "distribution_major_version": "11",
    "distribution_version": "11",
    "kernel": "5.10.0-1",
}

# Each a guest of its own: its variables, what was read of it, and the fault; without one, it is right.
GUESTS: dict[str, tuple[dict[str, t.Any], dict[str, t.Any], str]] = {
    "right": ({}, {}, ""),
    "ubuntu": ({}, {"distribution": "Ubuntu"}, "it runs Ubuntu; the role knows Debian"),
    "later": (
        {},
        {"distribution_major_version": "13", "distribution_version": "13.1"},
        "it runs Debian 13.1, which has no Python 2.7, and CapiSuite needs it: give the guest Debian 11",
    ),
    "own-python": (
        {},
        {"distribution_major_version": "12", "programs": ["/usr/bin/python2.7"]},
        "",
    ),
    "kernel": (
        {},
        {"kernel": "7.2.13+deb13-amd64"},
        "its kernel is 7.2.13+deb13-amd64, and Linux has no mISDN from 7.1",
    ),
    "kernel-remote": (
        {"capisuite_guest_capi": "remote", "capisuite_guest_capi_host": "10.0.0.1"},
        {"kernel": "7.2.13+deb13-amd64"},
        "",
    ),
    "nothing": (
        {"capisuite_guest_packages": []},
        {},
        "there is no /usr/sbin/capisuite, and capisuite_guest_packages is",
    ),
    "there": ({"capisuite_guest_packages": []}, {"programs": ["/usr/sbin/capisuite"]}, ""),
    "deb": ({"capisuite_guest_packages": [{"file": "/none/a.deb"}]}, {}, "there is no /none/a.deb on the controller"),
    "no-mail": ({"capisuite_guest_mta": ""}, {}, "there is no /usr/sbin/sendmail, without which CapiSuite cannot mail"),
    "own-mail": ({"capisuite_guest_mta": ""}, {"programs": ["/usr/sbin/sendmail"]}, ""),
    "wants-no-mail": (
        {"capisuite_guest_mta": "", "capisuite_guest_users": [{**GERNOT, "fax_action": "SaveOnly"}]},
        {},
        "",
    ),
    "no-host": (
        {"capisuite_guest_capi": "remote"},
        {},
        "capisuite_guest_capi is remote and capisuite_guest_capi_host empty",
    ),
    "host": ({"capisuite_guest_capi_host": "fritz.box"}, {}, "a remote CAPI has a host, and mISDN has none"),
    "bad-host": (
        {"capisuite_guest_capi": "remote", "capisuite_guest_capi_host": "a b"},
        {},
        "capisuite_guest_capi_host is 'a b' and capisuite_guest_capi_port 0",
    ),
    "stranger": ({}, {"users": ["root"]}, "capisuite_guest_users has gernot, no users of the system: add them, or set"),
    "new": ({"capisuite_guest_create_users": True}, {"users": ["root"]}, ""),
    "silent": (
        {"capisuite_guest_users": [{**GERNOT, "voice_numbers": ["12"], "announcement": "/none/a.wav"}]},
        {},
        "there is no /none/a.wav on the controller to make an announcement of",
    ),
    "idle": (
        {"capisuite_guest_idle_interval": 0},
        {},
        "capisuite_guest_idle_interval is 0 and capisuite_guest_start_timeout",
    ),
    "scripts": ({"capisuite_guest_scripts": "capisuite"}, {}, "capisuite_guest_scripts is capisuite and"),
    "filter": (
        {"capisuite_guest_fax": {"send_tries": 0}},
        {},
        "capisuite_guest_fax: send_tries is 0; it takes 1 to 1000",
    ),
}


def play(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        ["ansible-playbook", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("capisuite")
    hosts = {
        name: {
            **GOOD,
            **own,
            "read": {**READ, "getent_passwd": {user: [] for user in read.get("users", ["root", "gernot"])}, **read},
            "__capisuite_guest_found": {"files": [{"path": path} for path in read.get("programs", [])]},
        }
        for name, (own, read, _fault) in GUESTS.items()
    }
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    tasks = [
        {"set_fact": {"cacheable": True, **{key: f"{{{{ read.{key} }}}}" for key in (*READ, "getent_passwd")}}},
        {"include_role": {"name": "kvm.passthrough.capisuite_guest", "tasks_from": "inventory"}},
        {"include_role": {"name": "kvm.passthrough.capisuite_guest", "tasks_from": "judge"}},
        {
            "copy": {"dest": f"{folder}/all.json", "content": "{{ dict(play | zip(said)) | to_json }}"},
            "vars": {
                "play": "{{ ansible_play_hosts }}",
                "said": "{{ ansible_play_hosts | map('extract', hostvars, '__capisuite_guest_faults') }}",
            },
            "delegate_to": "localhost",
            "run_once": True,
        },
    ]
    (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = play(folder, "-i", "inventory.json", "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "all.json").read_text())


@pytest.mark.parametrize("guest", GUESTS)
def test_what_is_said_of_a_guest(guest: str, faults: dict[str, list[str]]) -> None:
    fault = GUESTS[guest][2]
    if not fault:
        assert faults[guest] == []
    else:
        (said,) = faults[guest]
        assert said.startswith(f"{guest}: ")
        assert fault in said


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({}, "guest is not set, which is the inventory name of a guest"),
        ({"guest": "fax9"}, "fax9 is no host of the inventory"),
        ({"guest": "fax1"}, "user is not set, which is a user of CapiSuite on fax1"),
        (
            {"guest": "fax1", "user": "anna"},
            "anna cannot send faxes from fax1; by its capisuite_guest_users these can: gernot.",
        ),
        ({"guest": "fax1", "user": "gernot"}, "number is not set, which is whom to call"),
        ({"guest": "fax1", "user": "gernot", "number": "-u root"}, "number is -u root; it takes digits"),
        ({"guest": "fax1", "user": "gernot", "number": "1"}, "file is not set"),
        ({"guest": "fax1", "user": "gernot", "number": "1", "file": "b.pdf"}, "b.pdf is no file of this machine"),
        ({"guest": "fax1", "user": "gernot", "number": "1", "file": "a.txt"}, "a.txt is called neither .pdf nor .ps"),
        (
            {"guest": "fax1", "user": "gernot", "number": "1", "file": "a.pdf", "timeout": "soon"},
            "timeout is soon; it is a number of seconds",
        ),
    ],
)
def test_a_fax_that_cannot_be_sent(given: dict[str, str], fault: str, tmp_path: Path) -> None:
    users = [GERNOT, {"name": "anna", "voice_numbers": ["12"], "fax_stationID": "1"}]
    guests = {"capisuite_guests": {"hosts": {"fax1": {"capisuite_guest_users": users}}}}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"children": guests}}))
    for name in ("a.pdf", "a.txt"):
        (tmp_path / name).write_text("")
    done = play(tmp_path, "kvm.passthrough.send_fax", "-i", "inventory.json", "-e", json.dumps(given))
    assert done.returncode == 2, done.stdout + done.stderr
    assert fault in done.stdout
    assert "Example: ansible-playbook kvm.passthrough.send_fax -i INVENTORY -e guest=fax1 -e user=gernot" in done.stdout
