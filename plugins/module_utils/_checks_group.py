# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a device: what it is, with whom it shares its IOMMU group or its card, and its virtual functions.

A bridge has its own finding and no others: what is behind it is judged for itself.
"""

from __future__ import annotations

import typing as t

from ._check import BLOCKER, INFORMATION, WARNING, Check, Fault, Machine
from ._host_use import is_vfio
from ._pci import Device
from ._use import listed

_DEVICES = "/sys/bus/pci/devices"
_GROUPS = "/sys/kernel/iommu_groups"
# So many devices a message names one by one.
_MOST = 8
# Bridges to PCI, CardBus, and half transparent ones: pci.ids, class 06.
_BRIDGE_CLASSES = ("0604", "0607", "0609")
# vfio_pci_dev_in_denylist() of drivers/vfio/pci/vfio_pci.c: QAT C3XXX, C62X and DH895XCC with their VFs, DSA, IAX.
_DENIED = frozenset(f"8086:{number}" for number in ("19e2", "19e3", "37c8", "37c9", "0435", "0443", "0b25", "0cfe"))
_DISABLE_DENYLIST = "/sys/module/vfio_pci/parameters/disable_denylist"

Faults = t.Iterator[Fault]


# ---------------------------------------------------------------------------------------------------------------------
# What the device is


def _bridge(machine: Machine, device: Device) -> Faults:
    if _is_interconnect(device):
        yield Fault(
            f"{device['address']} is a bridge (class {device['class']}): what is behind it can go, not the bridge",
            _class_file(device),
        )


def _chipset(machine: Machine, device: Device) -> Faults:
    if device["bridge"] and not _is_interconnect(device):
        name = f": {device['class_name']}" if device["class_name"] else ""
        yield Fault(
            f"{device['address']} is part of the chipset (class {device['class']}{name}), which the host needs",
            _class_file(device),
        )


def _platform(machine: Machine, device: Device) -> Faults:
    for use in machine.uses.get(device["address"], ()):
        if use.kind == "platform":
            yield Fault(f"{device['address']} {use.what}", use.evidence)


def _event_collector(machine: Machine, device: Device) -> Faults:
    if device["pcie_type"] == "rc_event_collector":
        yield Fault(
            f"{device['address']} collects the errors of the root complex and is no endpoint",
            f"{_DEVICES}/{device['address']}/config: device type 0xa of the PCI Express capability",
        )


def _denylist(machine: Machine, device: Device) -> Faults:
    if device["id"] not in _DENIED or is_vfio(device["driver"] or "") or machine.text(_DISABLE_DENYLIST) == "Y":
        return
    vendor, number = device["id"].split(":")
    yield Fault(
        f"vfio-pci refuses {device['address']} ({device['id']}), for errata by which it may harm the host",
        f"{_DEVICES}/{device['address']}: {device['id']}",
        words={"vendor": vendor, "device": number},
    )


# ---------------------------------------------------------------------------------------------------------------------
# Its IOMMU group


def _dev_group(machine: Machine, device: Device) -> Faults:
    iommu = machine.kvm.get("iommu") or {}
    # Where no device has a group, the host is to blame: see the checks of the host.
    if device["iommu_group"] is not None or device["bridge"] or not iommu.get("groups"):
        return
    why = "the IOMMU does not cover it"
    if iommu.get("table") == "DMAR" and device["id"].startswith("8086:") and (device["class"] or "").startswith("03"):
        why = "the kernel leaves Intel's own graphics out unless told intel_iommu=on"
    yield Fault(
        f"{device['address']} is in no IOMMU group, although other devices are: {why}",
        f"{_DEVICES}/{device['address']}/iommu_group: absent",
    )


def _rmrr_direct(machine: Machine, device: Device) -> Faults:
    """Linux 6.6 (a48ce36e2786) refuses on every platform what only Intel's driver refused before."""
    before = _kernel_has(machine, 6, 6) is False
    if before and _table(machine) == "DMAR":
        return
    for fault in _direct_regions(machine, device):
        if before:
            yield Fault(f"{fault.message}; Linux 6.6 and newer refuse it", fault.evidence, WARNING)
        else:
            yield fault


def _rmrr_direct_intel(machine: Machine, device: Device) -> Faults:
    if _kernel_has(machine, 6, 6) is False and _table(machine) == "DMAR":
        yield from _direct_regions(machine, device)


def _direct_regions(machine: Machine, device: Device) -> Faults:
    """A fault where the group has a region of type direct; direct-relaxable (USB, graphics) is harmless."""
    group = device["iommu_group"]
    if group is None or device["bridge"]:
        return
    regions = [f"{region['start']} {region['end']}" for region in machine.reserved(group) if region["type"] == "direct"]
    if regions:
        yield Fault(
            f"the firmware keeps memory of its own mapped for IOMMU group {group} of {device['address']}"
            f" ({len(regions)} region{'s' if len(regions) > 1 else ''})",
            f"{_GROUPS}/{group}/reserved_regions: {regions[0]} direct",
        )


def _group_viable(machine: Machine, device: Device) -> Faults:
    """What the host needs of the group is left to group_critical of _checks_use."""
    peers = [
        peer
        for peer in _peers(machine, device)
        if not peer["bridge"] and peer["address"] not in machine.uses and _spoils_group(machine, peer)
    ]
    yield from _not_viable(machine, device, peers)


def _group_bridge(machine: Machine, device: Device) -> Faults:
    peers = [peer for peer in _peers(machine, device) if peer["bridge"] and _spoils_group(machine, peer)]
    yield from _not_viable(machine, device, peers)


def _not_viable(machine: Machine, device: Device, peers: t.Sequence[Device]) -> Faults:
    if not peers:
        return
    group = device["iommu_group"]
    message = f"{device['address']} shares IOMMU group {group} with {_described(device, peers)}"
    if _kernel_has(machine, 5, 19) is None:
        message += ", by the stricter of the rules before and since Linux 5.19: which one holds is unknown"
    yield Fault(message, _driver_file(peers[0]), words={"group": group, "peers": _addresses(peers)})


def _spoils_group(machine: Machine, peer: Device) -> bool:
    """Whether a peer's driver keeps the whole group from guests.

    Since Linux 5.19 the driver must leave DMA to others (driver_managed_dma: the vfio drivers, pci-stub, pcieport).
    Before, a bridge was no obstacle whatever its driver, and pcieport on anything else was one.
    """
    driver = peer["driver"]
    if not driver or is_vfio(driver) or driver == "pci-stub" or peer["address"] in machine.leaving:
        return False
    by_new_rule, by_old_rule = driver != "pcieport", not _is_interconnect(peer)
    new = _kernel_has(machine, 5, 19)
    return by_new_rule or by_old_rule if new is None else by_new_rule if new else by_old_rule


def _group_held(machine: Machine, device: Device) -> Faults:
    told: set[str] = set()
    for peer in _peers(machine, device):
        holder = _holder(machine, peer, device)
        if holder and holder.guest not in told:
            told.add(holder.guest)
            yield Fault(
                f"{device['address']} shares IOMMU group {device['iommu_group']} with {peer['address']}, which"
                f" {holder.what}: both can go to one guest only",
                holder.evidence,
                words={"peer": peer["address"], "guest": holder.guest},
            )


def _group_together(machine: Machine, device: Device) -> Faults:
    """Peers that do not keep the device from going, but cannot go to another guest; told of once."""
    peers = [
        peer
        for peer in _peers(machine, device)
        if not peer["bridge"] and not _spoils_group(machine, peer) and not _holder(machine, peer, device)
    ]
    if peers and not _conventional_bridge(machine, device):
        group = device["iommu_group"]
        yield Fault(
            f"{device['address']} shares IOMMU group {group} with {_described(device, peers)}:"
            " they can go to no other guest than this device",
            f"{_GROUPS}/{group}/devices: {_addresses(peers)}",
            words={"group": group, "peers": _addresses(peers)},
        )


def _pcie2pci(machine: Machine, device: Device) -> Faults:
    peers = [peer for peer in _peers(machine, device) if not peer["bridge"]]
    above = _conventional_bridge(machine, device) if peers else None
    if above:
        yield Fault(
            f"{device['address']} is behind {above}, a bridge to conventional PCI, together with"
            f" {_described(device, peers)}: the IOMMU cannot tell them apart, and they can go to one guest only",
            f"{_GROUPS}/{device['iommu_group']}/devices: {_addresses(peers)}",
            words={"group": device["iommu_group"], "peers": _addresses(peers), "bridge": above},
        )


def _conventional_bridge(machine: Machine, device: Device) -> str | None:
    """The next bridge above that speaks for all behind it; None too where the capabilities may not be read.

    Subtractive decoding (class 060401) exists on conventional PCI only.
    """
    above = machine.devices.get(device["parent"])
    while above:
        if above["pcie_type"] == "pcie_to_pci_bridge" or above["class"] == "060401":
            return str(above["address"])
        above = machine.devices.get(above["parent"])
    return None


def _multifunction(machine: Machine, device: Device) -> Faults:
    """The other functions of a graphics card (sound, USB, UCSI), unless they are in its group anyway.

    Other cards have functions that do without each other, such as the ports of a network card.
    """
    if not (device["class"] or "").startswith("03"):
        return
    slot, vendor = device["address"][:-1], device["id"][:5]
    functions = (machine.devices.get(f"{slot}{number}") for number in range(8))
    staying = [
        peer
        for peer in functions
        if peer
        and peer["address"] != device["address"]
        # In a processor with graphics, the maker's own USB and sound are functions of the same device.
        and peer["id"].startswith(vendor)
        and (peer["iommu_group"] is None or peer["iommu_group"] != device["iommu_group"])
        and peer["address"] not in machine.leaving
        and not is_vfio(peer["driver"] or "")
        and not _physical_function(peer)
    ]
    if staying:
        yield Fault(
            f"{device['address']} would leave other functions of its card to the host: {_described(device, staying)}",
            _driver_file(staying[0]),
            words={"peers": _addresses(staying)},
        )


# ---------------------------------------------------------------------------------------------------------------------
# Virtual functions


def _sriov_pf_vfs(machine: Machine, device: Device) -> Faults:
    count = device["sriov"]["num_vfs"]
    if not count or is_vfio(device["driver"] or ""):
        return
    functions = (machine.devices.get(address) for address in device["sriov"]["virtual_functions"])
    holders = ((function["address"], _holder(machine, function)) for function in functions if function)
    held = [f"{address} {holder.what}" for address, holder in holders if holder]
    functions_of_it = f"{count} virtual function{'s' if count > 1 else ''}, which would go with it"
    yield Fault(
        f"{device['address']} has {functions_of_it}" + (f": {listed(held, _MOST)}" if held else ""),
        f"{_DEVICES}/{device['address']}/sriov_numvfs: {count}",
    )


def _vf_of_vfio_pf(machine: Machine, device: Device) -> Faults:
    physical = machine.devices.get(_physical_function(device) or "")
    if physical and is_vfio(physical["driver"] or ""):
        yield Fault(
            f"{device['address']} is a virtual function of {physical['address']}, which is itself with"
            f" {physical['driver']}: vfio opens it only for who knows the token of both",
            _driver_file(physical),
            words={"physical": physical["address"]},
        )


def _is_vf(machine: Machine, device: Device) -> Faults:
    physical = _physical_function(device)
    if physical:
        yield Fault(
            f"{device['address']} is a virtual function of {physical}, and is gone after a boot until it is made again",
            f"{_DEVICES}/{device['address']}/physfn: {physical}",
            words={"physical": physical},
        )


# ---------------------------------------------------------------------------------------------------------------------
# What several checks ask


def _is_interconnect(device: Device) -> bool:
    """Whether it has a bridge's header, or a bridge's class where the header may not be read."""
    return device["header_type"] in (1, 2) or (device["class"] or "").startswith(_BRIDGE_CLASSES)


def _physical_function(device: Device) -> str | None:
    physical: str | None = device["sriov"]["physical_function"]
    return physical


def _peers(machine: Machine, device: Device) -> list[Device]:
    return [] if device["bridge"] else machine.peers(device)


def _table(machine: Machine) -> str | None:
    table: str | None = (machine.kvm.get("iommu") or {}).get("table")
    return table


def _kernel_has(machine: Machine, major: int, minor: int) -> bool | None:
    """Whether the kernel is this or newer, None where that does not tell which rules it has.

    RHEL 9 and SLE 15 call their kernel 5.14, and bring newer rules into it.
    """
    version = (machine.kvm.get("kernel") or {}).get("version") or ()
    return None if tuple(version[:2]) == (5, 14) else machine.kernel_at_least(major, minor)


class _Holder(t.NamedTuple):
    """Who has a device, or is to have it."""

    guest: str
    what: str
    evidence: str


def _holder(machine: Machine, held: Device, wanting: Device | None = None) -> _Holder | None:
    """Which guest a device is with, unless that is to have the wanting one as well; None where it is with nobody."""
    address = held["address"]
    is_open = next((use for use in machine.soft_uses.get(address, ()) if use.kind == "guest"), None)
    for guest in machine.guests:
        if address in guest.devices:
            if wanting is not None and wanting["address"] in guest.devices:
                return None
            what = "is held by the running" if guest.running and is_open else "is promised to the"
            return _Holder(guest.name, f"{what} guest {guest.name}", f"{guest.evidence}: {address}")
    return _Holder("...", "is open for a guest", is_open.evidence) if is_open else None


def _described(device: Device, peers: t.Sequence[Device]) -> str:
    """The peers with what drives them: 0000:01:00.1 (snd_hda_intel, same card)."""
    slot = device["address"][:-1] if device["parent"] else None
    cards = (", same card" if peer["address"][:-1] == slot else "" for peer in peers)
    return listed(
        [f"{peer['address']} ({peer['driver'] or 'no driver'}{card})" for peer, card in zip(peers, cards)], _MOST
    )


def _addresses(peers: t.Sequence[Device]) -> str:
    return listed([peer["address"] for peer in peers], _MOST)


def _class_file(device: Device) -> str:
    return f"{_DEVICES}/{device['address']}/class: 0x{device['class']}"


def _driver_file(device: Device) -> str:
    return f"{_DEVICES}/{device['address']}/driver: {device['driver'] or 'absent'}"


# ---------------------------------------------------------------------------------------------------------------------

CHECKS: tuple[Check, ...] = (
    Check(
        id="bridge",
        about="The device is a PCI or CardBus bridge",
        source="libvirt src/hypervisor/virhostdev.c; Linux drivers/vfio/pci/vfio_pci_core.c:"
        " vfio_pci_core_register_device",
        severity=BLOCKER,
        symptom="Non-endpoint PCI devices cannot be assigned to guests",
        remedy="Assign the devices behind it",
        judge=_bridge,
    ),
    Check(
        id="chipset",
        about="The device is a bridge to another bus, or another part of the chipset (class 06)",
        source="policy: vfio-pci would take it, as its header is that of a device",
        severity=BLOCKER,
        symptom="",
        remedy="Leave it to the host; a card that is of this class and not of the chipset, such as an NVSwitch, can be"
        " named in force",
        judge=_chipset,
    ),
    Check(
        id="platform",
        about="The host minds its platform by it: the SMBus or the management engine, with its driver bound",
        source="policy: sensors, memory modules and firmware of the host are reached through it",
        severity=BLOCKER,
        symptom="",
        remedy="Leave it to the host; one that it can do without has to be unbound from its driver first",
        judge=_platform,
        in_use=True,
    ),
    Check(
        id="event_collector",
        about="The device is a root complex event collector",
        source="QEMU hw/vfio/pci.c: vfio_setup_pcie_cap takes only endpoints",
        severity=BLOCKER,
        symptom="vfio {address}: assignment of PCIe type 0xa devices is not currently supported",
        remedy="Leave it to the host",
        judge=_event_collector,
    ),
    Check(
        id="denylist",
        about="vfio-pci refuses this model for its known errata",
        source="Linux drivers/vfio/pci/vfio_pci.c: vfio_pci_dev_in_denylist",
        severity=BLOCKER,
        symptom="{vendor}:{device} exists in vfio-pci device denylist, driver probing disallowed.",
        remedy="Assign it only to a guest that you trust as the host, after setting disable_denylist=1 of vfio_pci",
        judge=_denylist,
    ),
    Check(
        id="dev_group",
        about="The device is in no IOMMU group, although other devices are",
        source="QEMU hw/vfio/container.c",
        severity=BLOCKER,
        symptom="vfio {address}: no iommu_group found: No such file or directory",
        remedy="For Intel's own graphics pass intel_iommu=on to the kernel; any other device is missing in the tables"
        " of the firmware, which only a newer one mends",
        judge=_dev_group,
    ),
    Check(
        id="rmrr_direct",
        about="The firmware demands memory of its own to stay mapped for the device (RMRR, IVMD)",
        source="Linux drivers/iommu/iommu.c: __iommu_device_set_domain, since 6.6 on every platform",
        severity=BLOCKER,
        symptom="Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without"
        " a 1:1 mapping. Contact your platform vendor.",
        remedy="Switch off in the firmware what keeps the memory (HPE: the slot's shared memory, by hp-rcu; some AMD"
        " boards: pre-boot DMA protection), or use another slot",
        judge=_rmrr_direct,
    ),
    Check(
        id="rmrr_direct_intel",
        about="The firmware demands memory of its own to stay mapped for the device (RMRR), Intel before Linux 6.6",
        source="kernel 6.1 drivers/iommu/intel/iommu.c: device_is_rmrr_locked, intel_iommu_attach_device",
        severity=BLOCKER,
        symptom="DMAR: Device is ineligible for IOMMU domain attach due to platform RMRR requirement.  Contact your"
        " platform vendor.",
        remedy="Switch off in the firmware what keeps the memory (HPE: the slot's shared memory, by hp-rcu; some AMD"
        " boards: pre-boot DMA protection), or use another slot",
        judge=_rmrr_direct_intel,
    ),
    Check(
        id="group_viable",
        about="A driver of the host holds another device of the same IOMMU group",
        source="Linux drivers/iommu/iommu.c: iommu_device_use_default_domain; before 5.19 drivers/vfio/vfio.c:"
        " vfio_dev_viable; QEMU hw/vfio/container.c",
        severity=BLOCKER,
        symptom="vfio {address}: group {group} is not viable",
        remedy="Give {peers} to the same guest, or unbind from the driver what the host can do without; otherwise use"
        " another slot, whose group is the card's own",
        judge=_group_viable,
    ),
    Check(
        id="group_bridge",
        about="A bridge or a part of the chipset is of the same IOMMU group, and its driver claims the group",
        source="Linux drivers/iommu/iommu.c: iommu_device_use_default_domain; before 5.19 drivers/vfio/vfio.c:"
        " vfio_dev_viable",
        severity=BLOCKER,
        symptom="vfio {address}: group {group} is not viable",
        remedy="Use another slot, whose group is the card's own; a bridge works without shpchp as well, so that {peers}"
        " can be unbound from it",
        judge=_group_bridge,
    ),
    Check(
        id="group_held",
        about="A guest has another device of the same IOMMU group",
        source="Linux drivers/vfio/group.c: a group is opened once; libvirt src/hypervisor/virhostdev.c:"
        " virHostdevIsPCINodeDeviceUsed",
        severity=WARNING,
        symptom="PCI device {peer} is in use by driver QEMU, domain {guest}",
        remedy="Give it to the same guest, or take {peer} from that guest first",
        judge=_group_held,
    ),
    Check(
        id="group_together",
        about="Other devices of the same IOMMU group can go to no other guest",
        source="Linux drivers/vfio/group.c: a group is opened once; libvirt src/hypervisor/virhostdev.c binds only the"
        " devices that are listed",
        severity=INFORMATION,
        symptom="Could not open '/dev/vfio/{group}': Device or resource busy",
        remedy="List {peers} for the same guest, or leave them without a driver",
        judge=_group_together,
    ),
    Check(
        id="pcie2pci",
        about="The device is behind a bridge to conventional PCI, and shares its requester ID with all others there",
        source="Linux drivers/pci/search.c: pci_for_each_dma_alias",
        severity=INFORMATION,
        symptom="Could not open '/dev/vfio/{group}': Device or resource busy",
        remedy="List {peers} for the same guest, or leave them without a driver; another slot behind {bridge} does not"
        " help",
        judge=_pcie2pci,
    ),
    Check(
        id="multifunction",
        about="Other functions of the graphics card stay with the host",
        source="https://wiki.archlinux.org/title/PCI_passthrough_via_OVMF",
        severity=WARNING,
        symptom="",
        remedy="Give {peers} to the same guest: without them it has no sound or USB-C, and a reset of one disturbs all",
        judge=_multifunction,
    ),
    Check(
        id="sriov_pf_vfs",
        about="The device has virtual functions",
        source="Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_core_register_device",
        severity=BLOCKER,
        symptom="Cannot bind to PF with SR-IOV enabled",
        remedy="Assign the virtual functions instead, or free them and write 0 to sriov_numvfs of {address}",
        judge=_sriov_pf_vfs,
    ),
    Check(
        id="vf_of_vfio_pf",
        about="The physical function of this virtual function is with vfio itself",
        source="Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_validate_vf_token",
        severity=WARNING,
        symptom="VF token required to access device",
        remedy="Give {physical} back to its own driver, or start QEMU with the vf-token of both",
        judge=_vf_of_vfio_pf,
    ),
    Check(
        id="is_vf",
        about="The device is a virtual function",
        source="Linux Documentation/PCI/pci-iov-howto.rst",
        severity=INFORMATION,
        symptom="",
        remedy="Have sriov_numvfs of {physical} written at every boot, before the guest starts",
        judge=_is_vf,
    ),
)
