# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex
import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.filter.ssh_jump import FilterModule

ssh_jump = FilterModule().filters()["ssh_jump"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ["hv1"]),
        ({"ansible_host": "192.0.2.1"}, ["192.0.2.1"]),
        ({"ansible_host": "a", "ansible_ssh_host": "b"}, ["b"]),
        ({"ansible_port": 2222, "ansible_user": "admin"}, ["-p", "2222", "-l", "admin", "hv1"]),
        ({"ansible_ssh_private_key_file": "/home/me/a key"}, ["-i", "/home/me/a key", "hv1"]),
        (
            {"ansible_ssh_common_args": "-F '/my folder/config' -o StrictHostKeyChecking=no"},
            ["-F", "/my folder/config", "-o", "StrictHostKeyChecking=no", "hv1"],
        ),
    ],
)
def test_the_way_to_the_hypervisor_is_kept(variables: dict[str, t.Any], words: list[str]) -> None:
    option, command = shlex.split(ssh_jump(variables, "hv1"))
    name, _equals, value = command.partition("=")
    assert (option, name) == ("-o", "ProxyCommand")
    assert shlex.split(value) == ["ssh", "-W", "[%h]:%p", *words]


def test_the_controller_needs_no_jump() -> None:
    assert ssh_jump({"ansible_connection": "local"}, "hv1") == ""


def test_only_variables_are_taken() -> None:
    with pytest.raises(AnsibleFilterError, match="variables of one host"):
        ssh_jump("hv1", "hv1")
