# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet to make a report of: machines of four kinds, judged by the real checks.

usage, with the collection on PYTHONPATH: python3 fleet.py HOSTS FOLDER
"""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

from ansible_collections.kvm.passthrough.plugins.module_utils import _verdict
from ansible_collections.kvm.passthrough.plugins.module_utils._guests import Guest
from ansible_collections.kvm.passthrough.plugins.module_utils._use import Use
from ansible_collections.kvm.passthrough.plugins.plugin_utils import _records, _report, _wishes
from ansible_collections.kvm.passthrough.tests.unit.machines import ARM, bridge, device, machine, merged

Facts = t.Dict[str, t.Any]

PORT = "PCI Express Root Port"
INTX: Facts = {"vectors": [], "mode": "intx"}
CONVENTIONAL: Facts = {"pcie_type": None, "reset_methods": ["pm"], "interrupt": INTX}
NO_PIN: Facts = {"interrupt": {"pin": None, "line": None, "vectors": [], "mode": None}, "reset_methods": []}


def named(vendor: str, name: str, kind: str, **fields: t.Any) -> Facts:
    return {"vendor_name": vendor, "device_name": name, "class_name": kind, "subsystem_name": None, **fields}


def intel(name: str, kind: str, **fields: t.Any) -> Facts:
    return named("Intel Corporation", name, kind, **fields)


def chipset(group: int) -> list[Facts]:
    """What every machine of Intel has on bus 0."""
    shared = {"iommu_group": group}
    isa = intel("C621 Series Chipset LPC Controller", "ISA bridge", id="8086:a1c1", driver=None, modules=[])
    smbus = intel(
        "C620 Series Chipset Family SMBus", "SMBus", id="8086:a1a3", driver="i801_smbus", modules=["i2c_i801"]
    )
    return [
        device(
            "0000:00:00.0",
            **intel("Sky Lake-E DMI3 Registers", "Host bridge", id="8086:2020"),
            **{"class": "060000"},
            driver=None,
            modules=[],
            **NO_PIN,
            iommu_group=group - 2,
        ),
        device(
            "0000:00:14.0",
            **intel("C620 Series Chipset Family USB 3.0 xHCI", "USB controller", id="8086:a1af"),
            **{"class": "0c0330"},
            driver="xhci_hcd",
            modules=["xhci_pci"],
            iommu_group=group - 1,
            pcie_type=None,
        ),
        device(
            "0000:00:16.0",
            **intel("C620 Series Chipset Family MEI Controller #1", "Communication controller", id="8086:a1ba"),
            **{"class": "078000"},
            driver="mei_me",
            modules=["mei_me"],
            iommu_group=group - 3,
            pcie_type=None,
        ),
        device("0000:00:1f.0", **isa, **{"class": "060100"}, **NO_PIN, **shared),
        device(
            "0000:00:1f.4",
            **smbus,
            **{"class": "0c0500"},
            interrupt={**INTX, "line": 16},
            **shared,
            pcie_type=None,
            reset_methods=[],
        ),
    ]


def server(number: int) -> list[Facts]:
    """A server with two ports of network, NVMe, a storage controller, two GPUs and virtual functions."""
    devices = chipset(8)
    group = 20
    for slot, (children, width) in enumerate(
        [(nics(number), 2), (disks(), 1), (gpu(number), 2), (raid(), 1), (gpu(number + 1), 2)]
    ):
        port = f"0000:00:{slot + 1:02x}.0"
        devices.append(bridge(port, iommu_group=group, device_name=f"{PORT} {chr(65 + slot)}", id=f"8086:203{slot}"))
        for function in range(width):
            address = f"0000:{slot + 0x17:02x}:00.{function}"
            fields = children[function]
            group += 1 if function == 0 or fields.pop("alone", False) else 0
            devices.append(
                device(
                    address,
                    **fields,
                    iommu_group=group,
                    parent=port,
                    multifunction=width > 1,
                    physical_slot=str(slot + 1),
                )
            )
        group += 1
    for index in range(number % 9 * 8):
        function = named(
            "Intel Corporation",
            "Ethernet Virtual Function 700 Series",
            "Ethernet controller",
            id="8086:154c",
            modules=["iavf"],
        )
        driver = "vfio-pci" if index % 2 else "iavf"
        devices.append(
            device(
                f"0000:17:{2 + index // 8:02x}.{index % 8}",
                **function,
                driver=driver,
                enabled=driver == "iavf",
                iommu_group=100 + index,
                parent="0000:00:01.0",
                sriov={"physical_function": "0000:17:00.1"},
                interrupt={"pin": None, "line": None},
            )
        )
    return devices


def nics(number: int) -> list[Facts]:
    vfs = number % 9 * 8
    port = intel(
        "Ethernet Controller X710 for 10GbE SFP+",
        "Ethernet controller",
        id="8086:1572",
        driver="i40e",
        modules=["i40e"],
        subsystem_id="8086:0007",
        interrupt={"mode": "msix", "vectors": list(range(60, 76))},
    )
    port["subsystem_name"] = "Intel Corporation Ethernet Converged Network Adapter X710-2"
    virtual = [f"0000:17:{2 + index // 8:02x}.{index % 8}" for index in range(vfs)]
    return [port, {**port, "alone": True, "sriov": {"total_vfs": 64, "num_vfs": vfs, "virtual_functions": virtual}}]


def disks() -> list[Facts]:
    return [
        named(
            "Samsung Electronics Co Ltd",
            "NVMe SSD Controller PM9A1/PM9A3/980PRO",
            "Non-Volatile memory controller",
            id="144d:a80a",
            **{"class": "010802"},
            driver="nvme",
            modules=["nvme"],
            interrupt={"mode": "msix", "vectors": list(range(90, 107))},
        )
    ]


def gpu(number: int) -> list[Facts]:
    leaving = number % 3 == 0
    picture = named(
        "NVIDIA Corporation",
        "GA102GL [RTX A6000]",
        "VGA compatible controller",
        id="10de:2230",
        **{"class": "030000"},
        driver="vfio-pci" if leaving else "nouveau",
        modules=["nvidiafb", "nouveau"],
        enabled=not leaving,
        bars=[
            {"index": 0, "type": "memory", "bits": 32, "prefetchable": False, "size": 16 << 20},
            {"index": 1, "type": "memory", "bits": 64, "prefetchable": True, "size": 64 << 30},
        ],
    )
    sound = named(
        "NVIDIA Corporation",
        "GA102 High Definition Audio Controller",
        "Audio device",
        id="10de:1aef",
        **{"class": "040300"},
        driver="snd_hda_intel",
        modules=["snd_hda_intel"],
        interrupt={"pin": "B"},
    )
    return [picture, sound]


def raid() -> list[Facts]:
    return [
        named(
            "Broadcom / LSI",
            "MegaRAID Tri-Mode SAS3508",
            "RAID bus controller",
            id="1000:0016",
            **{"class": "010400"},
            driver="megaraid_sas",
            modules=["megaraid_sas"],
            interrupt={"mode": "msix", "vectors": list(range(120, 160))},
        )
    ]


def exchange(number: int) -> list[Facts]:
    """A telephone exchange: ISDN and DVB cards in conventional slots behind one bridge, and a network card."""
    behind = {"parent": "0000:00:1c.0", "iommu_group": 14, **CONVENTIONAL}
    isdn = {"class": "020400"}
    cards = [
        device(
            "0000:05:00.0",
            **{**behind, "interrupt": {**INTX, "line": 16}},
            **isdn,
            id="1397:08b4",
            subsystem_id="1397:b520",
            vendor_name="Cologne Chip Designs GmbH",
            device_name="ISDN network Controller [HFC-4S]",
            subsystem_name="Cologne Chip Designs GmbH HFC-4S [IOB4ST]",
            class_name="ISDN controller",
            driver="hfcmulti" if number % 2 else "vfio-pci",
            modules=["hfcmulti"],
        ),
        device(
            "0000:05:01.0",
            **{**behind, "interrupt": {**INTX, "line": 17}},
            **isdn,
            id="1244:0a00",
            subsystem_id="1244:0a00",
            vendor_name="AVM GmbH",
            device_name="A1 ISDN [Fritz]",
            subsystem_name="AVM GmbH FRITZ!Card ISDN Controller",
            class_name="ISDN controller",
            driver=None,
            modules=["avmfritz"],
            enabled=False,
        ),
        device(
            "0000:05:02.0",
            **{**behind, "interrupt": {**INTX, "line": 18}},
            **{"class": "048000"},
            id="1131:7146",
            subsystem_id="13c2:1011",
            vendor_name="Philips Semiconductors",
            device_name="SAA7146",
            subsystem_name="Technotrend Systemtechnik GmbH Technotrend-Budget/Hauppauge WinTV-NOVA-T DVB card",
            class_name="Multimedia controller",
            driver="budget",
            modules=["budget", "budget_ci"],
        ),
    ]
    slots = bridge(
        "0000:00:1c.0",
        **named("Texas Instruments", "XIO2001 PCI Express-to-PCI Bridge", "PCI bridge"),
        id="104c:8240",
        iommu_group=14,
        driver=None,
        pcie_type="pci_bridge",
    )
    above = bridge("0000:00:01.0", device_name=PORT, iommu_group=2)
    uplink = device("0000:01:00.0", iommu_group=3, parent="0000:00:01.0", physical_slot="1")
    graphics = device(
        "0000:00:02.0",
        **intel("UHD Graphics 630", "VGA compatible controller", id="8086:3e92"),
        **{"class": "030000"},
        driver="i915",
        modules=["i915"],
        boot_vga=True,
        iommu_group=1,
        pcie_type="rc_integrated_endpoint",
    )
    return [*chipset(8), above, graphics, uplink, slots, *cards]


def arm(number: int) -> list[Facts]:
    port = bridge(
        "0000:00:01.0",
        **named("Ampere Computing, LLC", "Altra PCI Express Root Port a0", "PCI bridge"),
        id="1def:e101",
        iommu_group=0,
    )
    mellanox = named(
        "Mellanox Technologies",
        "MT27800 Family [ConnectX-5]",
        "Ethernet controller",
        id="15b3:1017",
        driver="mlx5_core",
        modules=["mlx5_core"],
        interrupt={"mode": "msix", "vectors": list(range(40, 72))},
    )
    return [
        port,
        *(
            device(f"0000:01:00.{index}", **mellanox, parent="0000:00:01.0", iommu_group=1 + index, multifunction=True)
            for index in range(2)
        ),
    ]


def interrupts(devices: t.Sequence[Facts]) -> list[Facts]:
    """The lines of the devices that use one, with a controller of the chipset on one."""
    rows = []
    for line in sorted({entry["interrupt"]["line"] for entry in devices if entry["interrupt"]["mode"] == "intx"}):
        on_it = [
            entry for entry in devices if entry["interrupt"]["line"] == line and entry["interrupt"]["mode"] == "intx"
        ]
        known = [entry for entry in on_it if entry["enabled"]]
        actions = [entry["driver"].replace("vfio-pci", f"vfio-intx({entry['address']})") for entry in known] + (
            ["ehci_hcd:usb1"] if line == 18 else []
        )
        if actions:
            rows.append(
                {
                    "irq": line,
                    "counts": [1742, 12],
                    "count": 1754,
                    "chip": "IR-IO-APIC",
                    "hwirq": line,
                    "trigger": "level",
                    "actions": actions,
                    "devices": [entry["address"] for entry in known],
                    "unconfirmed": [entry["address"] for entry in on_it if not entry["enabled"]],
                    "shared": len(actions) > 1,
                }
            )
    return rows


def use(kind: str, what: str) -> list[Use]:
    return [Use(kind, what, f"/sys: {what}")]


def judged(name: str, number: int) -> _records.Record:
    """The record of a host of the fleet: most are servers."""
    if number % 97 == 41:
        return _records.empty(
            name,
            "Unreachable: Failed to connect to the host via ssh: connect to host 192.0.2.41 port 22: No route to host",
        )
    guests: list[Guest] = []
    kvm: Facts = {}
    uses: dict[str, list[Use]] = {}
    wanted: list[_wishes.Wish] = []
    if number % 5 == 0:
        devices = exchange(number)
        uses = {
            "0000:01:00.0": use("default_route", "carries the default route (enp1s0)"),
            "0000:00:14.0": use("keyboard", "has the only keyboard behind it"),
        }
        guests = [Guest(f"fax{number}", True, True, ("0000:05:00.0",), 2 << 30, f"/run/libvirt/qemu/fax{number}.xml")]
        wanted = [
            {"guest": f"dvb{number}", "selectors": [{"id": "1131:7146"}], "fault": None},
            {"guest": f"isdn{number}", "selectors": [{"id": "1397:16b8"}], "fault": None},
        ]
        kvm = {
            "cpu": {"model": "Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "address_bits": 39},
            "iommu": {"groups": 11, "units": ["dmar0", "dmar1"]},
            "memory": {"total": 16 << 30, "available": 9 << 30},
        }
    elif number % 11 == 7:
        devices, kvm = arm(number), ARM
        uses = {"0000:01:00.0": use("default_route", "carries the default route (bond0)")}
    else:
        devices = server(number)
        uses = {
            "0000:17:00.0": use("session", "carries the connection from 192.0.2.1 (eno1)"),
            "0000:18:00.0": use("mount", "holds / (nvme0n1p2)"),
        }
        if number % 7 == 3:
            kvm = {
                "iommu": {"enabled": False, "units": [], "groups": 0, "table": "DMAR", "remapping": None},
                "kernel": {"intel_iommu_default": "off"},
            }
            devices = [{**entry, "iommu_group": None} for entry in devices]
        elif number % 3 == 0:
            guests = [
                Guest(
                    f"render{number}",
                    True,
                    False,
                    ("0000:19:00.0", "0000:19:00.1"),
                    64 << 30,
                    f"/run/libvirt/qemu/render{number}.xml",
                )
            ]
    kvm = merged({"kernel": {"release": "6.12.48+deb13-amd64" if number % 4 else "6.1.0-37-amd64"}}, kvm)
    devices.sort(key=lambda entry: entry["address"])
    rows = interrupts(devices)
    host = machine(devices=devices, kvm=kvm, interrupts=rows, uses=uses, guests=guests)
    return {
        "name": name,
        "judged_at": "2026-03-01T12:00:00Z",
        "error": None,
        **_verdict.judge(host),
        "wants": [_wishes.fulfil(wish, devices) for wish in wanted],
        "facts": _verdict.facts(host),
    }


def fleet(size: int) -> t.Iterator[_records.Record]:
    """Hosts of all kinds, the first of them the telephone exchange."""
    return (judged(f"hv{number + 1:04}.example.org", number) for number in range(size))


if __name__ == "__main__":
    print(_report.write(Path(sys.argv[2]), fleet(int(sys.argv[1]))))
