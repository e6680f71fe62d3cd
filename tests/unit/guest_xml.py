# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest of the inventory, and what libvirt 11.3 made of it: the recorded definitions in fixtures/libvirt.

noted-*.xml is fax1 as wanted() has it, persistent and running; bare-*.xml is a guest that version 0.2 made.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

IMAGES = "/var/lib/libvirt/images"
ROOT, DATA, SEED = f"disk {IMAGES}/fax1-root.qcow2", f"disk {IMAGES}/fax1-data.qcow2", f"cdrom {IMAGES}/fax1-seed.iso"
MAC = "interface 52:54:00:6b:76:dd"
NOTE = "note of what the inventory gives: brought up to date"


def recorded(name: str) -> str:
    """A definition as virsh printed it."""
    return (Path(__file__).parent / "fixtures" / "libvirt" / f"{name}.xml").read_text()


def disk(name: str, dev: str, bus: str = "virtio", serial: str = "") -> str:
    """A disk of the inventory."""
    said = f"<serial>{serial}</serial>" if serial else ""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
        f"<source file='{IMAGES}/fax1-{name}.qcow2'/><target dev='{dev}' bus='{bus}'/>{said}</disk>"
    )


def cdrom(name: str = "seed") -> str:
    return (
        f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{IMAGES}/fax1-{name}.iso'/>"
        f"<target dev='sda' bus='sata'/><readonly/></disk>"
    )


def nic(kind: str = "network", source: str = "network='default'", model: str = "virtio", more: str = "") -> str:
    return (
        f"<interface type='{kind}'><mac address='52:54:00:6B:76:DD'/><source {source}/>"
        f"<model type='{model}'/>{more}</interface>"
    )


def hostdev(bus: int, managed: str = "no") -> str:
    return (
        f"<hostdev mode='subsystem' type='pci' managed='{managed}'><source>"
        f"<address domain='0x0' bus='{bus:#x}' slot='0x0' function='0x0'/></source></hostdev>"
    )


def wanted(*devices: str, **parts: t.Any) -> str:
    """What the inventory wants of fax1, beside what no inventory leaves out; what was recorded by default."""
    said: dict[str, t.Any] = {
        "slots": 4,
        "conventional": "no",
        "memory": "<memory unit='KiB'>65536</memory>",
        "backing": "<memoryBacking><nosharepages/></memoryBacking>",
        "vcpu": "<vcpu cpuset='0,1'>1</vcpu>",
        "numa": "<numatune><memory mode='preferred' nodeset='0'/></numatune>",
        "os": "<os>",
        "machine": "q35",
        "log": "fax1-console",
        **parts,
    }
    devices = devices or (disk("root", "vda"), disk("data", "vdb", serial="data"), cdrom(), nic())
    return f"""
<domain type='kvm'>
  <name>fax1</name>
  <uuid>DDDDDDDD-ab27-5cb3-a76f-f124141d5f35</uuid>
  <metadata>
    <kvm:guest xmlns:kvm='https://github.com/kvm-passthrough/kvm.passthrough'
               hotplug-slots='{said["slots"]}' conventional-slots='{said["conventional"]}'/>
  </metadata>
  {said["memory"]}{said["backing"]}{said["vcpu"]}{said["numa"]}
  {said["os"]}<type arch='x86_64' machine='{said["machine"]}'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  <cpu mode='host-passthrough'/>
  <clock offset='utc'/>
  <devices>
    {"".join(devices)}
    <serial type='pty'><log file='/var/log/libvirt/qemu/{said["log"]}.log' append='off'/></serial>
    <console type='pty'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"""
