# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a device can have the interrupt that its guest is started with.

QEMU turns the interrupt line of every device on that has a pin, whatever the guest's driver uses later (hw/vfio/pci.c:
vfio_intx_enable). vfio-pci shares a line with the host only for a device that it can silence (Command bit 10, Interrupt
Disable, of PCI 2.3); for any other it wants the line alone (drivers/vfio/pci/vfio_pci_intrs.c: vfio_intx_enable).
"""

from __future__ import annotations

import typing as t

from . import _interrupts, _pci, _sysfs
from ._check import BLOCKER, INFORMATION, WARNING, Check, Fault, Machine
from ._pci import Device

_DEVICES = "/sys/bus/pci/devices"
_NOINTXMASK = "/sys/module/vfio_pci/parameters/nointxmask"
# include/linux/interrupt.h: IRQ_NOTCONNECTED
_NOT_CONNECTED = 1 << 31

_I40E = (0x1572, 0x1574, 0x1580, 0x1581, *range(0x1583, 0x158C), 0x37D0, 0x37D1, 0x37D2)
# drivers/vfio/pci/vfio_pci_core.c: vfio_pci_nointx()
_NOINTX = frozenset(f"8086:{number:04x}" for number in (*_I40E, 0x1563))
# drivers/pci/quirks.c: quirk_broken_intx_masking(), without the i40e cards, for vfio-pci hides their pin.
_BROKEN_INTX = frozenset(["1425:0030", "1814:0601", "1b7c:0004", "1102:000b", "10ec:8169"])
# drivers/pci/quirks.c: mellanox_broken_intx_devs, ConnectX to ConnectX-3 Pro.
_CONNECTX = (0x1003, 0x1007, 0x6340, 0x634A, 0x6354, 0x6368, 0x6372)
_CONNECTX_GEN2 = (0x6732, 0x673C, 0x6746, 0x6750, 0x675A, 0x6764, 0x676E)
_UNMASKABLE = _BROKEN_INTX.union(f"15b3:{number:04x}" for number in (*_CONNECTX, *_CONNECTX_GEN2))
# drivers/pci/quirks.c: mellanox_check_broken_intx_masking() wants firmware 12.14 or 14.14 of these.
_CONNECTX4 = frozenset(("15b3:1013", "15b3:1015"))
_CONNECTX4_MINOR = range(14, 100)


def _intx_shared_nomask(machine: Machine, device: Device) -> t.Iterator[Fault]:
    users = _users(machine, device)
    evidence = _unmaskable(machine, device) if users else None
    if users and evidence:
        address, line = device["address"], device["interrupt"]["line"]
        yield Fault(
            f"{address} shares interrupt {line} with {users} and cannot mask it",
            f"{_requested(machine, device)}; {evidence}",
            words={"line": line, "users": users},
        )


def _intx_unknown(machine: Machine, device: Device) -> t.Iterator[Fault]:
    """The kernel has tried at its start (drivers/pci/probe.c: pci_intx_mask_broken), but shows it nowhere."""
    address, interrupt = device["address"], device["interrupt"]
    if device["pcie_type"] or device["bridge"] or not interrupt["pin"] or device["id"] in _UNMASKABLE:
        return
    if device["enabled"] is False and _is_conventional(machine, device):
        yield Fault(
            f"{address} is conventional PCI and not enabled: which interrupt it gets, and who shares that, is unknown",
            f"{_DEVICES}/{address}/enable: 0",
            severity=INFORMATION,
            words={"line": "its interrupt", "users": "others"},
        )
        return
    users = _users(machine, device)
    if not users or not _is_conventional(machine, device) or _is_masked(machine, device):
        return
    if not _unmaskable(machine, device):
        yield Fault(
            f"{address} shares interrupt {interrupt['line']} with {users} and, being conventional PCI, may be unable to"
            " mask it",
            _requested(machine, device),
            words={"line": f"interrupt {interrupt['line']}", "users": users},
        )


def _broken_intx(machine: Machine, device: Device) -> t.Iterator[Fault]:
    address, line = device["address"], device["interrupt"]["line"]
    if not device["interrupt"]["pin"] or (device["id"] not in _UNMASKABLE and device["id"] not in _CONNECTX4):
        return
    evidence = _unmaskable(machine, device)
    if evidence is None:
        if _firmware(machine, device) is None:
            yield Fault(
                f"{address} cannot mask its interrupt if its firmware is older than 12.14 (ConnectX-4) or 14.14"
                " (ConnectX-4 Lx); which one it has is not known",
                _identity(device),
                severity=INFORMATION,
            )
        return
    others = _interrupts.sharers(machine.interrupts, device)
    if others == []:
        yield Fault(
            f"{address} cannot mask its interrupt and needs {line} for itself; nobody else is on it now",
            evidence,
            severity=INFORMATION,
        )
    elif not _users(machine, device):
        yield Fault(f"{address} cannot mask its interrupt, and who else is on its line is not known", evidence)


def _nointx(machine: Machine, device: Device) -> t.Iterator[Fault]:
    if device["id"] in _NOINTX and device["interrupt"]["pin"] and not _is_nointxmask(machine):
        yield Fault(
            f"{device['address']} has a broken interrupt pin, which vfio-pci hides from the guest", _identity(device)
        )


def _irq0(machine: Machine, device: Device) -> t.Iterator[Fault]:
    """From 6.15 on, vfio-pci hides a pin that leads nowhere: vfio_config_init()."""
    interrupt = device["interrupt"]
    if interrupt["line"] not in (0, _NOT_CONNECTED) or not interrupt["pin"] or device["bridge"]:
        return
    # Until it is enabled, the number is the firmware's.
    if device["enabled"] and device["id"] not in _NOINTX and machine.kernel_at_least(6, 15) is False:
        yield Fault(
            f"{device['address']} has interrupt pin {interrupt['pin']}, but the firmware connects it to no interrupt",
            f"{_DEVICES}/{device['address']}/irq: {interrupt['line']}",
            words={"error": "Transport endpoint is not connected" if interrupt["line"] else "No such device"},
        )


def _nointxmask(machine: Machine) -> t.Iterator[Fault]:
    if _is_nointxmask(machine):
        yield Fault(
            "vfio-pci is loaded with nointxmask: every device needs its interrupt line for itself", f"{_NOINTXMASK}: Y"
        )


def _users(machine: Machine, device: Device) -> str | None:
    """Who else has requested the interrupt line of the device; None where nobody has for certain.

    A device that is enabled is on its line, but only an action counts: uhci_hcd:usb3 (0000:00:1d.0).
    """
    interrupt = device["interrupt"]
    if device["bridge"] or not interrupt["pin"]:
        return None
    others = _interrupts.sharers(machine.interrupts, device)
    if not others:
        return None
    row = _row(machine, device)
    # With its guest running, vfio has the line already, and shares it.
    if f"vfio-intx({device['address']})" in row["actions"]:
        return None
    actions = [other for other in others if other not in row["devices"]]
    devices = ", ".join(other for other in others if other in row["devices"])
    if actions:
        return ", ".join(actions) + (f" ({devices})" if devices else "")
    # Two cards with one driver have actions of one name.
    return devices if len(row["actions"]) >= len(row["devices"]) else None


def _row(machine: Machine, device: Device) -> t.Mapping[str, t.Any]:
    return next(row for row in machine.interrupts if row["irq"] == device["interrupt"]["line"])


def _requested(machine: Machine, device: Device) -> str:
    """What the kernel says of the device's line, as evidence."""
    return f"/proc/interrupts: {device['interrupt']['line']}: {', '.join(_row(machine, device)['actions'])}"


def _unmaskable(machine: Machine, device: Device) -> str | None:
    """The evidence that vfio-pci wants the line of this device alone; None where it does not, or that is not known."""
    if _is_nointxmask(machine):
        return f"{_NOINTXMASK}: Y"
    if device["id"] in _UNMASKABLE:
        return _identity(device)
    if device["id"] in _CONNECTX4:
        firmware = _firmware(machine, device)
        if firmware and not _masks_intx(firmware[1]):
            return f"{firmware[0]}: {firmware[1]}"
    return None


def _firmware(machine: Machine, device: Device) -> tuple[str, str] | None:
    """Where the driver shows the firmware's version (12.28.2006), and the version; None where it does not."""
    for name in machine.names(f"{_DEVICES}/{device['address']}/infiniband"):
        version = machine.attribute(device["address"], f"infiniband/{name}/fw_ver")
        if version and version.count(".") > 1 and version.split(".")[1].isdecimal():
            return f"{_DEVICES}/{device['address']}/infiniband/{name}/fw_ver", version
    return None


def _masks_intx(version: str) -> bool:
    return int(version.split(".")[1]) in _CONNECTX4_MINOR


def _is_nointxmask(machine: Machine) -> bool:
    return machine.text(_NOINTXMASK) in ("Y", "1")


def _identity(device: Device) -> str:
    return f"{_DEVICES}/{device['address']}/device: 0x{device['id'][5:]}"


def _is_conventional(machine: Machine, device: Device) -> bool:
    """Whether the device is surely no PCI Express device; pcie_type is None for these, and where it is not known."""
    parent = machine.devices.get(device["parent"] or "")
    if device["pcie_type"] or (parent and parent["pcie_type"] == "pci_to_pcie_bridge"):
        return False
    if parent and parent["pcie_type"] == "pcie_to_pci_bridge":
        return True
    # Where the capabilities of any device were read, so were those of each whose header was.
    if device["header_type"] is not None and any(other["pcie_type"] for other in machine.devices.values()):
        return True
    # Only PCI Express devices show a link, since 4.13 (drivers/pci/pci-sysfs.c: pcie_dev_attrs_are_visible).
    port = next((other for other in machine.devices.values() if other["driver"] == "pcieport"), None)
    return port is not None and _has_link(machine, port) and not _has_link(machine, device)


def _has_link(machine: Machine, device: Device) -> bool:
    return "max_link_speed" in machine.names(f"{_DEVICES}/{device['address']}")


def _is_masked(machine: Machine, device: Device) -> bool:
    """Whether Command bit 10 is set, so that it can be; read only where that wakes nobody (see _pci)."""
    parent = machine.devices.get(device["parent"] or "")
    if device["power_state"] != "D0" or (parent and parent["power_state"] not in ("D0", "unknown")):
        return False
    path = _sysfs.below(machine.root, f"{_DEVICES}/{device['address']}/config")
    return _pci.parse_config(_sysfs.read_bytes(path, 64)).intx_disabled


_BUSY = (
    "vfio {address}: Failed to set up TRIGGER eventfd signaling for interrupt INTX-0: VFIO_DEVICE_SET_IRQS failure:"
    " Device or resource busy"
)

HOST_CHECKS: tuple[Check, ...] = (
    Check(
        id="nointxmask",
        about="vfio-pci is told to mask no device's interrupt",
        source="Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_core_enable (nointxmask)",
        severity=WARNING,
        symptom="VFIO_DEVICE_SET_IRQS failure: Device or resource busy",
        remedy="Take nointxmask out of /etc/modprobe.d and out of the kernel's arguments, and load vfio-pci anew",
        judge=_nointxmask,
    ),
)
CHECKS: tuple[Check, ...] = (
    Check(
        id="intx_shared_nomask",
        about="The device shares its interrupt line and cannot mask its interrupt",
        source="Linux drivers/vfio/pci/vfio_pci_intrs.c: vfio_intx_enable; drivers/pci/quirks.c:"
        " quirk_broken_intx_masking, mellanox_check_broken_intx_masking; QEMU hw/vfio/pci.c: vfio_intx_enable",
        severity=BLOCKER,
        symptom=_BUSY,
        remedy="Free interrupt {line} of {users} (unbind it from its driver), or move {address} to another slot",
        judge=_intx_shared_nomask,
    ),
    Check(
        id="intx_unknown",
        about="The device is conventional PCI, and only a try shows whether it can share its interrupt line",
        source="Linux drivers/pci/probe.c: pci_intx_mask_broken; drivers/vfio/pci/vfio_pci_intrs.c: vfio_intx_enable",
        severity=WARNING,
        symptom=_BUSY,
        remedy="Start the guest once as a test; if it fails, free {line} of {users}, or move {address} to another slot",
        judge=_intx_unknown,
    ),
    Check(
        id="broken_intx",
        about="The device is known not to mask its interrupt, and needs its line for itself",
        source="Linux drivers/pci/quirks.c: quirk_broken_intx_masking, mellanox_check_broken_intx_masking",
        severity=WARNING,
        symptom=_BUSY,
        remedy="Keep the interrupt line of {address} free of others, by its slot; of a ConnectX-4, update the firmware",
        judge=_broken_intx,
    ),
    Check(
        id="nointx",
        about="vfio-pci hides the broken interrupt pin of the device",
        source="Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_nointx",
        severity=INFORMATION,
        symptom="vfio-pci {address}: Masking broken INTx support",
        remedy="Use a driver in the guest that signals by MSI or MSI-X",
        judge=_nointx,
    ),
    Check(
        id="irq0",
        about="The interrupt pin of the device leads nowhere, on kernels before 6.15",
        source="Linux drivers/vfio/pci/vfio_pci_intrs.c: vfio_intx_enable; vfio_pci_config.c: vfio_config_init",
        severity=WARNING,
        symptom="vfio {address}: Failed to set up TRIGGER eventfd signaling for interrupt INTX-0: VFIO_DEVICE_SET_IRQS"
        " failure: {error}",
        remedy="Update the kernel to 6.15 or newer, or the host's firmware",
        judge=_irq0,
    ),
)
