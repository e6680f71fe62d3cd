# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ansible and SSH reach a lab: the inventory and an SSH configuration, as text."""

from __future__ import annotations

import json
import shlex
import typing as t
from pathlib import Path

from profiles import PROFILES, Guest, Profile

_SOCKET_PATH_ROOM = 80  # a UNIX socket's path ends at 107 characters, and ssh appends to it


def ssh_config(key: Path, port: int) -> str:
    """Return the SSH configuration: the host through the forwarded port, guests through the host.

    SSH hands a file given by -F on to its jumps, as it does not with -i and -o.
    """
    guests = {guest.name: guest.address for profile in PROFILES.values() for guest in profile.guests if guest.address}
    names = "\n\n".join(f"Host {name}\n    HostName {address}" for name, address in guests.items())
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

{names}

Host {" ".join(guests)} 192.168.122.*
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
    if profile.functions:
        hypervisor["kvm_host_sriov"] = profile.sriov()
    groups: dict[str, t.Any] = {profile.group: {"hosts": {profile.host: hypervisor}}}
    if profile.guests:
        guests = {guest.name: _guest(guest, common, profile, key) for guest in profile.guests}
        groups["kvm_guests"] = {"hosts": guests}
    tree = {"all": {"children": groups}}
    return "---\n" + "\n".join(_yaml(tree, "")) + "\n"


def _guest(guest: Guest, common: t.Mapping[str, t.Any], profile: Profile, key: Path) -> dict[str, t.Any]:
    """Return the guest's variables; where and as whom to reach one that cloud-init made is left to the role."""
    found: dict[str, t.Any] = {**common, "kvm_guest_host": profile.host, "kvm_guest_memory": guest.memory}
    if guest.login == "image":
        found["ansible_host"] = guest.address
    if guest.image:
        found["kvm_guest_image"] = f"/dev/disk/by-id/virtio-{guest.image}-image"
        found["kvm_guest_image_format"] = "raw"
    if guest.mac:
        found["kvm_guest_mac"] = guest.mac
    if guest.address:
        found["kvm_guest_address"] = guest.address
    if guest.login == "cloud-init":
        del found["ansible_user"]
        found["kvm_guest_cloud_init"] = True
        found["kvm_guest_user"] = "root"
        found["kvm_guest_ssh_keys"] = [key.with_suffix(".pub").read_text().strip()]
    found.update(guest.more)
    found["kvm_guest_pci_devices"] = profile.selectors(guest)
    return found


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
