# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ansible and SSH reach a lab: the inventory and an SSH configuration, as text."""

from __future__ import annotations

import json
import shlex
import typing as t
from pathlib import Path

from profiles import Profile

GUEST_ADDRESS = "192.168.122.50"  # in libvirt's default network; the role reserves it for GUEST_MAC
GUEST_MAC = "52:54:00:6b:76:01"
GUEST_IMAGE = "/dev/disk/by-id/virtio-guest-image"
GUEST_MEMORY_MIB = 768  # mapping it for a card takes 5 ms per MiB
_SOCKET_PATH_ROOM = 80  # a UNIX socket's path ends at 107 characters, and ssh appends to it


def ssh_config(key: Path, port: int) -> str:
    """Return the SSH configuration: the host through the forwarded port, guests through the host.

    SSH hands a file given by -F on to its jumps, as it does not with -i and -o.
    """
    return f"""\
Host *
    User root
    IdentityFile "{key}"
    IdentitiesOnly yes
    BatchMode yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
    ConnectTimeout 30
    ServerAliveInterval 15
    ServerAliveCountMax 8

Host hypervisor 127.0.0.1
    HostName 127.0.0.1
    Port {port}

Host guest
    HostName {GUEST_ADDRESS}

Host guest 192.168.122.*
    ProxyJump hypervisor
"""


def inventory(profile: Profile, folder: Path, key: Path, port: int) -> str:
    """Return the inventory, YAML; every string is quoted, as addresses must be."""
    common: dict[str, t.Any] = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"-F {shlex.quote(str(folder / 'ssh_config'))}",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    # Guests of several labs have the same address: without a folder of its own, a lab would reuse another's connection.
    if len(str(folder)) < _SOCKET_PATH_ROOM:
        common["ansible_control_path_dir"] = str(folder / "cp")
    hypervisor = {**common, "ansible_host": "127.0.0.1", "ansible_port": port}
    guest: dict[str, t.Any] = {
        **common,
        "ansible_host": GUEST_ADDRESS,
        "kvm_guest_host": profile.host,
        "kvm_guest_image": GUEST_IMAGE,
        "kvm_guest_image_format": "raw",
        "kvm_guest_memory": GUEST_MEMORY_MIB,
        "kvm_guest_mac": GUEST_MAC,
        "kvm_guest_address": GUEST_ADDRESS,
        "kvm_guest_pci_devices": profile.selectors(),
    }
    groups: dict[str, t.Any] = {"kvm_hosts": {"hosts": {profile.host: hypervisor}}}
    if profile.selectors():
        groups["kvm_guests"] = {"hosts": {"guest": guest}}
    tree = {"all": {"children": groups}}
    return "---\n" + "\n".join(_yaml(tree, "")) + "\n"


def _yaml(value: t.Any, indent: str) -> t.Iterator[str]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield f"{indent}{name}:"
            yield from _yaml(item, indent + "  ")
        elif isinstance(item, list) and item:
            yield f"{indent}{name}:"
            yield from (f"{indent}  - {json.dumps(entry)}" for entry in item)
        else:
            yield f"{indent}{name}: {json.dumps(item)}"
