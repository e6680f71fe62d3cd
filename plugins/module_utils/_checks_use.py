# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a device: what the host, or a guest, has it for.

The machine is searched once for all devices (_host_use); here it is only said what follows for one of them. A bridge
stays with the host anyway, and what is behind it is told of for itself.
"""

from __future__ import annotations

import typing as t

from ._check import BLOCKER, INFORMATION, WARNING, Check, Fault, Machine
from ._host_use import Use, is_vfio
from ._pci import Device
from ._use import listed, stands_in, sticks

_DEVICES = "/sys/bus/pci/devices"
_NETWORK = ("default_route", "session", "network")
_DISKS = ("mount", "swap", "guest_disk", "volume")
_DISPLAY = ("display", "drm")
# Graphics of management controllers: ASPEED, Matrox (drivers/gpu/drm/mgag200/mgag200_drv.c), Huawei (hibmc_drm_drv.c).
_BMC = frozenset(
    ["1a03:2000", "19e5:1711"]
    + [f"102b:05{number}" for number in ("22", "24", "30", "32", "33", "34", "36", "38", "3a")]
)

Faults = t.Iterator[Fault]
Judge = t.Callable[[Machine, Device], Faults]


def _needed(*kinds: str) -> Judge:
    """Judges by what the host cannot do without."""

    def judge(machine: Machine, device: Device) -> Faults:
        yield from _told(device, machine.uses.get(device["address"], ()), kinds)

    return judge


def _missed(*kinds: str, unless: t.Container[str] = ()) -> Judge:
    """Judges by what the host would miss, where none of the graver uses says as much already."""

    def judge(machine: Machine, device: Device) -> Faults:
        uses = machine.soft_uses.get(device["address"], ())
        if uses and not any(use.kind in unless for use in machine.uses.get(device["address"], ())):
            yield from _told(device, uses, kinds)

    return judge


def _told(device: Device, uses: t.Sequence[Use], kinds: t.Container[str]) -> Faults:
    chosen = [] if device["bridge"] else [use for use in uses if use.kind in kinds]
    if chosen:
        # IPv4 and IPv6 may say the same.
        said = listed(list(dict.fromkeys(use.what for use in chosen)))
        yield Fault(f"{device['address']} {said}", chosen[0].evidence)


def _group_critical(machine: Machine, device: Device) -> Faults:
    """A peer without driver keeps working for the firmware's console, and stands in nobody's way."""
    if device["bridge"] or not machine.uses:
        return
    for peer in machine.peers(device):
        uses = [use for use in machine.uses.get(peer["address"], ()) if use.kind != "bridge"]
        if not uses or peer["bridge"] or peer["address"] in machine.leaving or not _of_host(peer):
            continue
        said = listed(list(dict.fromkeys(use.what for use in uses)))
        group = device["iommu_group"]
        yield Fault(
            f"{device['address']} shares IOMMU group {group} with {peer['address']}, which {said}",
            uses[0].evidence,
            words={"group": group, "peer": peer["address"]},
        )


def _of_host(device: Device) -> bool:
    """Whether a driver of the host has the device."""
    return bool(device["driver"]) and not stands_in(device["driver"])


def _guest_running(machine: Machine, device: Device) -> Faults:
    """A guest may list more in its configuration than it holds now: what is not open is not held."""
    if not is_vfio(device["driver"] or "") or not (device["enabled"] is not False or _open(machine, device)):
        return
    guests = [guest for guest in machine.guests if guest.running and device["address"] in guest.devices]
    if guests:
        yield Fault(
            f"{device['address']} is held by the running guest {guests[0].name}",
            f"{guests[0].evidence}: {device['address']}",
            words={"guest": guests[0].name},
        )


def _guest_holds(machine: Machine, device: Device) -> Faults:
    use = _open(machine, device) if is_vfio(device["driver"] or "") else None
    if use and not any(_guest_running(machine, device)):
        group = device["iommu_group"]
        yield Fault(
            f"{device['address']} is open: a running guest, or another program, has it",
            use.evidence,
            words={"group": "..." if group is None else group},
        )


def _open(machine: Machine, device: Device) -> Use | None:
    return next((use for use in machine.soft_uses.get(device["address"], ()) if use.kind == "guest"), None)


def _libvirt_config(machine: Machine, device: Device) -> Faults:
    """Who else is to have the device. One guest alone that is off may be the very one it is meant for."""
    guests = [guest for guest in machine.guests if device["address"] in guest.devices]
    off = [guest for guest in guests if not guest.running]
    if not off:
        return
    names = listed([guest.name for guest in guests])
    if len(guests) == 1:
        message, severity = f"{device['address']} is promised to the guest {names}, which is off", INFORMATION
    else:
        message, severity = f"{device['address']} is promised to {names}, of which only one can have it at a time", None
    first = next((guest for guest in guests if guest.running), off[0])
    yield Fault(message, f"{off[0].evidence}: {device['address']}", severity, {"guest": first.name})


def _driver_override(machine: Machine, device: Device) -> Faults:
    override = device["driver_override"]
    if override and override != device["driver"] and not is_vfio(override):
        yield Fault(
            f"{device['address']} is reserved for the driver {override}, and has"
            f" {device['driver'] or 'none'}: no other driver takes it by itself",
            f"{_DEVICES}/{device['address']}/driver_override: {override}",
        )


def _driver_sticks(machine: Machine, device: Device) -> Faults:
    why = sticks(device["driver"])
    if why:
        yield Fault(
            f"{device['address']} is bound to {device['driver']}, {why}",
            f"{_DEVICES}/{device['address']}/driver: {device['driver']}",
        )


def _bmc(machine: Machine, device: Device) -> Faults:
    if device["bridge"]:
        return
    for display in (device, *machine.peers(device)):
        address = display["address"]
        if display["id"] not in _BMC or not _of_host(display) or (display is not device and address in machine.leaving):
            continue
        if any(use.kind in _DISPLAY for use in machine.uses.get(address, ())):
            continue
        what = "is" if display is device else f"shares its IOMMU group with {address}, which is"
        yield Fault(
            f"{device['address']} {what} the display that the management controller (BMC) shows from afar",
            f"{_DEVICES}/{address}: {display['id']}",
        )


_FORCE = "if the host can do without it, name {address} in force (pci_driver) or kvm_host_force (kvm_host)"

CHECKS: tuple[Check, ...] = (
    Check(
        id="net_inuse",
        about="The host is reached through it: default route, the session, or its only network, also through bonds,"
        " bridges, teams, VLANs, macvlans and Open vSwitch",
        source="Linux net/ipv4/fib_trie.c: fib_route_seq_show; net/core/dev.c: lower_* links of an interface",
        severity=BLOCKER,
        symptom="",
        remedy="Choose another card, or move the route to another one first; " + _FORCE,
        judge=_needed(*_NETWORK),
        in_use=True,
    ),
    Check(
        id="net_guests",
        about="Guests reach their network through it, by a bridge, Open vSwitch or macvtap",
        source="Linux drivers/net/tun.c: tun_flags; drivers/net/macvtap.c",
        severity=WARNING,
        symptom="",
        remedy="Give the bridge another port, or the guests another network, before it goes",
        judge=_missed("guest_network"),
    ),
    Check(
        id="net_up",
        about="Its interface is up and has a link",
        source="Linux Documentation/networking/operstates.rst",
        severity=WARNING,
        symptom="",
        remedy="Make sure that nothing on the host uses the interface, and take it out of the network configuration",
        judge=_missed("link", unless=_NETWORK),
    ),
    Check(
        id="net_unknown",
        about="It has a network driver and shows no interface: whether another network namespace uses it is unknown",
        source="Linux net/core/net-sysfs.c: interfaces are shown in their own namespace only",
        severity=WARNING,
        symptom="",
        remedy="Look for its interface in the network namespaces of containers (ip netns, lsns -t net)",
        judge=_missed("no_interface"),
    ),
    Check(
        id="block_inuse",
        about="It holds disks that the host uses: mounted, swap, volumes (LVM, dm-crypt, multipath, md, bcache, ZFS),"
        " or given to a running guest",
        source="proc_pid_mountinfo(5); Linux block/holder.c: slaves and holders of a disk",
        severity=BLOCKER,
        symptom="",
        remedy="Choose another device, or unmount the file systems, switch the swap areas off and deactivate the"
        " volumes first; " + _FORCE,
        judge=_needed(*_DISKS),
        in_use=True,
    ),
    Check(
        id="block_guests",
        about="It holds disks of guests that are off",
        source="https://libvirt.org/formatdomain.html: disk type='block'",
        severity=WARNING,
        symptom="",
        remedy="Move the disks of these guests elsewhere first",
        judge=_missed("spare_disk", unless=("guest_disk",)),
    ),
    Check(
        id="console",
        about="It carries a serial console of the kernel",
        source="Linux drivers/tty/tty_io.c: show_cons_active",
        severity=BLOCKER,
        symptom="",
        remedy="Take console= for it out of the kernel arguments and reboot; " + _FORCE,
        judge=_needed("console"),
        in_use=True,
    ),
    Check(
        id="usb_controller",
        about="The only keyboard of the host is behind it; an information where the host has another one",
        source="Linux drivers/input/input.c: input_devices_seq_show",
        severity=BLOCKER,
        symptom="",
        remedy="Plug the keyboard into another controller; " + _FORCE,
        judge=_needed("keyboard"),
        in_use=True,
    ),
    Check(
        id="usb_keyboard",
        about="One of several keyboards of the host is behind it",
        source="Linux drivers/input/input.c: input_devices_seq_show",
        severity=INFORMATION,
        symptom="",
        remedy="Plug the keyboard into another controller if the host is to keep it",
        judge=_missed("spare_keyboard"),
    ),
    Check(
        id="vga_console",
        about="It is the only display of the host",
        source="Linux drivers/pci/vgaarb.c; drivers/pci/pci-sysfs.c: boot_vga_show",
        severity=BLOCKER,
        symptom="",
        remedy="Let the firmware start on another display; " + _FORCE,
        judge=_needed("display"),
        in_use=True,
    ),
    Check(
        id="drm_active",
        about="A display server or other programs have it open, and its driver may wait for them for ever",
        source="Linux drivers/gpu/drm/drm_debugfs.c: drm_clients_info (read by root only)",
        severity=BLOCKER,
        symptom="NVRM: Attempting to remove device {address} with non-zero usage count!",
        remedy="Stop the display manager (systemctl isolate multi-user.target) and the other programs first, or let"
        " pci_driver bind it at the next boot; " + _FORCE,
        judge=_needed("drm"),
        in_use=True,
    ),
    Check(
        id="screen",
        about="It drives a screen, or shows the text console",
        source="Linux drivers/gpu/drm/drm_sysfs.c: status_show; drivers/video/fbdev/core/fbcon.c",
        severity=WARNING,
        symptom="",
        remedy="Stop the display manager first (systemctl isolate multi-user.target), and expect the screen to go dark",
        judge=_missed("screen", unless=_DISPLAY),
    ),
    Check(
        id="bmc",
        about="The management controller's remote console shows it, or a device of its group",
        source="Linux drivers/gpu/drm/ast, mgag200, hisilicon/hibmc: their device ids",
        severity=WARNING,
        symptom="",
        remedy="Keep it with the host: without it the remote console stays dark",
        judge=_bmc,
    ),
    Check(
        id="sound",
        about="It carries a sound card of the host",
        source="Linux sound/core/init.c: snd_card_free waits until nobody has the card open",
        severity=WARNING,
        symptom="",
        remedy="Stop the sound server (PipeWire, PulseAudio) first, or let pci_driver bind it at the next boot: the"
        " driver waits for whoever has the card open",
        judge=_missed("sound"),
    ),
    Check(
        id="platform_helpers",
        about="It carries a watchdog, a management controller's interface or a TPM",
        source="Linux /sys/class/watchdog, /sys/class/ipmi, /sys/class/tpm",
        severity=WARNING,
        symptom="",
        remedy="Stop what uses it first: a watchdog that nobody feeds any more resets the host",
        judge=_missed("helper"),
    ),
    Check(
        id="guest_running",
        about="A running guest of libvirt holds it",
        source="libvirt src/hypervisor/virhostdev.c: virHostdevIsPCINodeDeviceUsed",
        severity=BLOCKER,
        symptom="PCI device {address} is in use by driver QEMU, domain {guest}",
        remedy="Detach it from {guest} (virsh detach-device), or shut that guest down, first",
        judge=_guest_running,
        in_use=True,
    ),
    Check(
        id="guest_holds",
        about="Somebody has it open, and no guest of libvirt is known to",
        source="Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_core_enable; drivers/vfio/pci/vfio_pci_intrs.c",
        severity=BLOCKER,
        symptom="Could not open '/dev/vfio/{group}': Device or resource busy",
        remedy="End the program that has /dev/vfio/{group} open (lsof /dev/vfio/{group}) first",
        judge=_guest_holds,
        in_use=True,
    ),
    Check(
        id="libvirt_config",
        about="Guests that are off have it in their configuration: a warning where more than one guest has, else an"
        " information",
        source="libvirt src/hypervisor/virhostdev.c: virHostdevPreparePCIDevicesImpl",
        severity=WARNING,
        symptom="PCI device {address} is in use by driver QEMU, domain {guest}",
        remedy="Remove it from the guests that are not to have it (virsh detach-device --config)",
        judge=_libvirt_config,
    ),
    Check(
        id="driver_override_other",
        about="driver_override reserves it for a driver that is not bound and not for guests",
        source="Linux Documentation/ABI/testing/sysfs-bus-pci: driver_override",
        severity=INFORMATION,
        symptom="",
        remedy="Find out who set it (driverctl, a udev rule, a boot script); pci_driver replaces it",
        judge=_driver_override,
    ),
    Check(
        id="driver_sticks",
        about="Its driver does not survive its removal while the kernel runs: it goes at a boot",
        source="Linux drivers/isdn/hardware/mISDN/hfcmulti.c: release_port",
        severity=WARNING,
        symptom="BUG: scheduling while atomic",
        remedy="Do not unbind it. The playbook prepare writes what takes it at the next boot; then reboot the host, or"
        " set kvm_host_reboot_allowed",
        judge=_driver_sticks,
        repaired_by="kvm.passthrough.prepare",
    ),
    Check(
        id="group_critical",
        about="The host cannot spare a device of the same IOMMU group, so that the group cannot go",
        source="Linux drivers/iommu/iommu.c: iommu_group_claim_dma_owner",
        severity=BLOCKER,
        symptom="vfio {address}: group {group} is not viable",
        remedy="Put the device into another slot, or have the firmware isolate the slots (ACS); {peer} must stay with"
        " the host",
        judge=_group_critical,
    ),
)
