# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs playbooks of the collection on an inventory whose hosts are trees on this machine.

They are reached by the connection local, and Python is started for each by a script that says which tree is the host's.
What runs is a copy of the collection, of which the modules read that tree, and of which some steps of the roles are
replaced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

from .pci_tree import PciTree, config_space, express

COLLECTION = Path(__file__).parents[2]
# Where modules name the root of the running machine.
_OPTION = '"root": {"type": "path", "default": "/"}'
ROOTS = {
    "kernel_args": _OPTION,
    "modprobe_blacklist": _OPTION,
    "passthrough_info": _OPTION,
    "pci_driver": 'apply("/", request',
    "pci_facts": _OPTION,
    "pci_sriov": 'apply("/", request',
}
REACHED = "{{ inventory_hostname }} would be changed now"
ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "enp1s0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
)
Variables = t.Dict[str, t.Any]
Tasks = t.List[t.Dict[str, t.Any]]


class Outcome(t.NamedTuple):
    """How a run ended."""

    code: int
    output: str

    def refusal(self) -> tuple[list[str], str]:
        """The faults for which it stopped, and the pattern with which the others could go on."""
        found = re.search(r'"msg": ("\d+ faults? in the plan.*")}\n', self.output)
        assert found, self.output
        heading, *lines = json.loads(found.group(1)).split("\n")
        faults = [line[2:] for line in lines if line.startswith("- ")]
        rest = lines[len(faults) :]
        assert heading == f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the plan, nothing was changed:"
        assert len(rest) <= 1
        assert all(line.startswith("The others can go on without them: --limit '") for line in rest)
        return faults, "".join(line.split("'")[1] for line in rest)

    def reached(self) -> list[str]:
        """The hosts that would have been changed."""
        return sorted(set(re.findall(r"(\w+) would be changed now", self.output)))

    def changed(self) -> list[str]:
        """The tasks that changed something, or would have: host and task, without their role."""
        found = re.findall(r"^TASK \[(?:.* : )?(.*)\] \**$|^changed: \[(\S+?)(?: -> .*)?\]", self.output, re.MULTILINE)
        changed, name = [], ""
        for task, host in found:
            name = task or name
            if host:
                changed.append(f"{host}: {name}")
        return changed

    def messages(self) -> list[str]:
        """What the run said or failed with, as text."""
        shown = re.findall(r'"msg": (".*?(?<!\\)"|\[.*?\n    \])', self.output, re.DOTALL)
        said = [json.loads(text) for text in shown]
        return [line for one in said for line in (one if isinstance(one, list) else [one])]


class Fleet:
    """An inventory whose hosts are trees."""

    def __init__(self, folder: Path, collections: Path) -> None:
        self.folder = folder
        self.collections = collections
        self.hosts: dict[str, Variables] = {}
        self.guests: dict[str, Variables] = {}
        self.groups: dict[str, list[str]] = {}  # more groups, and the guests in them

    def host(self, name: str, **variables: t.Any) -> PciTree:
        tree = PciTree(self.folder / name)
        python = self.folder / f"python-{name}"
        python.write_text(f'#!/bin/sh\nTREE={tree.root} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.hosts[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(python), **variables}
        return tree

    def guest(self, name: str, host: str, devices: list[t.Any], **variables: t.Any) -> None:
        """A guest that is not there yet."""
        # To qemu-img, any file is a raw image.
        common = {"kvm_guest_image": __file__, "kvm_guest_image_format": "raw", "ansible_host": "192.0.2.1"}
        self.guests[name] = {"kvm_guest_host": host, "kvm_guest_pci_devices": devices, **common, **variables}

    def play(self, playbook: str, *arguments: str) -> Outcome:
        """Run a playbook of the collection on the inventory."""
        inventory = self.folder / "inventory.json"
        groups = {name: {"hosts": dict.fromkeys(guests)} for name, guests in self.groups.items()}
        groups.update({"kvm_hosts": {"hosts": self.hosts}, "kvm_guests": {"hosts": self.guests}})
        inventory.write_text(json.dumps(groups))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))},
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
        }
        command = [str(Path(sys.executable).parent / "ansible-playbook"), f"kvm.passthrough.{playbook}"]
        run = subprocess.run(
            [*command, "--inventory", str(inventory), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            check=False,
        )
        assert "--check" in arguments or not re.search(r"changed=[1-9]", run.stdout), run.stdout
        return Outcome(run.returncode, run.stdout)


def copy_collection(folder: Path, steps: t.Mapping[str, t.Mapping[str, Tasks | None]]) -> Path:
    """A copy of the collection for Fleet; steps are tasks files by role, with None where they are only reached."""
    place = folder / "ansible_collections/kvm/passthrough"
    for name in ("meta", "playbooks", "plugins", "roles"):
        shutil.copytree(COLLECTION / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(COLLECTION / "galaxy.yml", place)
    for name, root in ROOTS.items():
        module = place / f"plugins/modules/{name}.py"
        source = module.read_text()
        assert source.count(root) == 1
        module.write_text(source.replace(root, root.replace('"/"', '__import__("os").environ["TREE"]')))
    stop = [{"name": "Stop", "ansible.builtin.fail": {"msg": REACHED}}]
    for role, replaced in steps.items():
        for step, tasks in replaced.items():
            (place / f"roles/{role}/tasks/{step}.yml").write_text(json.dumps(stop if tasks is None else tasks))
    return folder


def card(tree: PciTree, address: str, pci_id: str = "1397:08b4", pci_class: str = "020400", **more: t.Any) -> None:
    """A card with which nothing is wrong by itself."""
    tree.add(
        address,
        config_space(pci_id, pci_class, pin=0, capabilities=[express(0)]),
        pci_id=pci_id,
        pci_class=pci_class,
        attributes={"reset_method": "flr", "enable": "0"},
        **more,
    )


def uplink(tree: PciTree, address: str, interface: str) -> None:
    """The network card that carries the default route."""
    card(tree, address, "8086:10d3", "020000", group=1, driver="e1000e")
    folder = tree.device(address) / "net" / interface
    folder.mkdir(parents=True)
    (folder / "device").symlink_to("../..")
    classes = tree.root / "sys/class/net"
    classes.mkdir(parents=True)
    (classes / interface).symlink_to(os.path.relpath(folder, classes))
    tree.write("/proc/net/route", ROUTES)
