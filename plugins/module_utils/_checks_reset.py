# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a device comes back clean from a guest, and whether its regions, its ROM and its power let it go there."""

from __future__ import annotations

import typing as t

from . import _host_use
from ._check import BLOCKER, INFORMATION, WARNING, Check, Fault, Machine
from ._pci import Device

_DEVICES = "/sys/bus/pci/devices"
_GIB = 1 << 30
_ROM_ROW = 6
# include/linux/ioport.h, the third column of the attribute resource.
_ROM_SHADOW, _UNSET = 0x2, 0x20000000

# drivers/pci/quirks.c: quirk_no_flr() and quirk_no_bus_reset() of 6.12. A kernel that knows a device does not list the
# method for it, so that these are for older kernels.
_NO_FLR = frozenset(
    [
        *("1022:1487", "1022:148c", "1022:149c", "1022:7901"),
        *("8086:1502", "8086:1503", "14c3:0616", "14c3:7925"),
    ]
)
_NO_BUS_RESET = frozenset(
    [
        *("168c:0030", "168c:0032", "168c:0033", "168c:0034", "168c:003c", "168c:003e"),
        *("10de:22ce", "10de:22d0", "17cb:0308", "17cb:1103", "17cb:1107"),
        *("104c:b005", "177d:a100", "1b21:1164"),
    ]
)
# Who claims the memory of a graphics card for the picture that the firmware left: drivers/firmware/sysfb_simplefb.c,
# drivers/video/fbdev/{efifb,vesafb,simplefb}.c, drivers/gpu/drm/tiny/simpledrm.c.
_FRAMEBUFFERS = frozenset(("BOOTFB", "efifb", "vesafb", "simplefb", "simpledrm"))


def _reset_none(machine: Machine, device: Device) -> t.Iterator[Fault]:
    evidence = _no_reset(machine, device)
    if evidence and not _neighbours(machine, device):
        yield Fault(f"{device['address']} cannot be reset: the kernel knows no way for it", evidence)


def _reset_bus_only(machine: Machine, device: Device) -> t.Iterator[Fault]:
    """QEMU can still reset the whole bus, if it owns the groups of everything on it: vfio_legacy_pci_hot_reset()."""
    evidence = _no_reset(machine, device)
    if evidence:
        others = [other for other in _neighbours(machine, device) if other["iommu_group"] != device["iommu_group"]]
        yield from _together(machine, device, evidence, others)


def _reset_group(machine: Machine, device: Device) -> t.Iterator[Fault]:
    """The kernel resets a bus only if vfio has everything on it: vfio_pci_dev_set_resettable()."""
    evidence = _no_reset(machine, device)
    if evidence:
        others = [other for other in _neighbours(machine, device) if other["iommu_group"] == device["iommu_group"]]
        left = [other for other in others if not _host_use.is_vfio(other["driver"] or "")]
        yield from _together(machine, device, evidence, left)


def _together(machine: Machine, device: Device, evidence: str, others: t.Iterable[Device]) -> t.Iterator[Fault]:
    staying = [other for other in others if other["address"] not in machine.leaving]
    if staying:
        names = ", ".join(other["address"] for other in staying)
        yield Fault(
            f"{device['address']} can only be reset together with {names}, on the same bus",
            evidence,
            words={"others": names, "group": staying[0]["iommu_group"]},
        )


def _no_reset(machine: Machine, device: Device) -> str | None:
    """The evidence that the kernel cannot reset this device alone; None where it can, or does not say."""
    methods = device["reset_methods"]
    if methods or device["bridge"]:
        return None
    if methods is not None:
        return _methods(device)
    if machine.kernel_at_least(5, 15) is not False:
        return None
    # Before 5.15 only what can be reset has the attribute reset. A tree with remove has the write-only attributes.
    attributes = machine.names(f"{_DEVICES}/{device['address']}")
    known = "remove" in attributes and "reset" not in attributes
    return f"{_DEVICES}/{device['address']}/reset: not there" if known else None


def _methods(device: Device) -> str:
    """What the kernel says of the ways to reset a device, as evidence; it has no such attribute if there is none."""
    return f"{_DEVICES}/{device['address']}/reset_method: {' '.join(device['reset_methods']) or 'not there'}"


def _neighbours(machine: Machine, device: Device) -> list[Device]:
    """The other devices on the bus behind the same bridge; a root bus is never reset."""
    if device["parent"] is None:
        return []
    return [other for other in machine.devices.values() if other["parent"] == device["parent"] and other is not device]


def _reset_quirk(machine: Machine, device: Device) -> t.Iterator[Fault]:
    methods = device["reset_methods"]
    if not methods:
        return
    harmful = (
        *(("flr", "af_flr") if _flr_hangs(device) else ()),
        *(("bus",) if _bus_reset_hangs(device) else ()),
    )
    used = [method for method in methods if method in harmful]
    if used:
        address = device["address"]
        yield Fault(
            f"{address} ({device['id']}) hangs when it is reset by {' or '.join(used)}, and this kernel would do that",
            _methods(device),
            words={"others": " ".join(method for method in methods if method not in used) or "nothing"},
        )


def _flr_hangs(device: Device) -> bool:
    # quirk_no_flr_snet() names the revision as well.
    return device["id"] in _NO_FLR or (device["id"], device["revision"]) == ("d063:1000", "01")


def _bus_reset_hangs(device: Device) -> bool:
    vendor, number = device["id"].split(":")
    # quirk_nvidia_no_bus_reset()
    return device["id"] in _NO_BUS_RESET or (vendor == "10de" and int(number, 16) & 0xFFC0 == 0x2340)


def _reset_amd(machine: Machine, device: Device) -> t.Iterator[Fault]:
    methods = device["reset_methods"]
    if not device["id"].startswith("1002:") or not (device["class"] or "").startswith("03") or methods is None:
        return
    if not {"device_specific", "flr", "af_flr"}.intersection(methods):
        yield Fault(
            f"{device['address']} is an AMD graphics card without a reset of its own, and many do not come back from a"
            " reset of their bus",
            _methods(device),
        )


def _fb_claims(machine: Machine, device: Device) -> t.Iterator[Fault]:
    """From 6.0 on, vfio-pci evicts the firmware's framebuffer itself: vfio_pci_core_register_device()."""
    if (device["class"] or "").startswith("03") and machine.kernel_at_least(6, 0) is False:
        address, release = device["address"], machine.kvm["kernel"]["release"]
        claims = _claims(machine.text("/proc/iomem") or "", address)
        if claims:
            yield Fault(
                f"{address} shows the firmware's picture: {claims[0]} holds its memory, and kernel {release} does not"
                " evict that for a guest",
                f"/proc/iomem: {claims[0]} within {address}",
            )


def _claims(iomem: str, address: str) -> list[str]:
    """What shows the firmware's picture in the device's memory; each level is indented by two blanks."""
    claims: list[str] = []
    within: int | None = None
    for line in iomem.split("\n"):
        depth, name = len(line) - len(line.lstrip(" ")), line.partition(" : ")[2]
        if within is not None and depth > within:
            claims += [name] if name in _FRAMEBUFFERS else []
        else:
            within = depth if name == address else None
    return claims


def _rom(machine: Machine, device: Device) -> t.Iterator[Fault]:
    """The card that the firmware used has its ROM as a copy at C0000: pci_fixup_video() of arch/x86/pci/fixup.c."""
    if device["boot_vga"]:
        row = dict(_resource(machine, device)).get(_ROM_ROW)
        if row and row[1] & _ROM_SHADOW:
            yield Fault(
                f"{device['address']} would show the guest not its own ROM, but the copy that the firmware has used"
                " and may have changed",
                f"{_DEVICES}/{device['address']}/resource: {row[0]}",
            )


def _big_bar(machine: Machine, device: Device) -> t.Iterator[Fault]:
    size, index = max(((region["size"], region["index"]) for region in device["bars"]), default=(0, 0))
    if size >= 4 * _GIB and not device["bridge"]:
        yield Fault(
            f"{device['address']} has a region of {size // _GIB} GiB (BAR {index}), which only fits above 4 GiB",
            f"{_DEVICES}/{device['address']}/resource: {size} bytes in row {index}",
        )


def _bar_unassigned(machine: Machine, device: Device) -> t.Iterator[Fault]:
    # A device that has been enabled has all its regions.
    if device["enabled"] or device["bridge"] or not device["bars"]:
        return
    regions = {region["index"]: region for region in device["bars"]}
    for index, (line, flags) in _resource(machine, device):
        if flags & _UNSET and index in regions and index != _ROM_ROW:
            yield Fault(
                f"{device['address']} has no address for its BAR {index}: neither the firmware nor the kernel has found"
                " room for it",
                f"{_DEVICES}/{device['address']}/resource: {line}",
                words={"index": index, "region": _printed(regions[index])},
            )


def _resource(machine: Machine, device: Device) -> t.Iterator[tuple[int, tuple[str, int]]]:
    """The rows of the attribute resource up to the ROM's, by number: the row, and its flags."""
    lines = (machine.attribute(device["address"], "resource") or "").split("\n")
    for index, line in enumerate(lines[: _ROM_ROW + 1]):
        try:
            yield index, (line, int(line.split()[2], 16))
        except (IndexError, ValueError):
            continue


def _printed(region: t.Mapping[str, t.Any]) -> str:
    """A region without an address, as the kernel prints it: lib/vsprintf.c, resource_string()."""
    if region["type"] == "io":
        return f"[io  size {region['size']:#06x}]"
    wide, prefetchable = " 64bit" * (region["bits"] == 64), " pref" * region["prefetchable"]
    return f"[mem size {region['size']:#010x}{wide}{prefetchable}]"


def _d3cold(machine: Machine, device: Device) -> t.Iterator[Fault]:
    # What waits for its guest with vfio-pci may well sleep.
    if device["power_state"] == "D3cold" and not device["bridge"] and not _host_use.is_vfio(device["driver"] or ""):
        yield Fault(
            f"{device['address']} is switched off to save power (D3cold), and was not woken to read its capabilities",
            f"{_DEVICES}/{device['address']}/power_state: D3cold",
        )


def _igd(machine: Machine, device: Device) -> t.Iterator[Fault]:
    graphics = device["id"].startswith("8086:") and (device["class"] or "").startswith("03")
    if graphics and device["address"].endswith(":00:02.0"):
        yield Fault(
            f"{device['address']} is Intel's integrated graphics, which a guest can only have from its start",
            f"{_DEVICES}/{device['address']}/class: 0x{device['class']}",
        )


CHECKS: tuple[Check, ...] = (
    Check(
        id="reset_none",
        about="The kernel has no way to reset the device",
        source="Linux drivers/pci/pci.c: pci_init_reset_methods; QEMU hw/vfio/pci.c: vfio_pci_reset",
        severity=WARNING,
        symptom="vfio: Cannot reset device {address}, no available reset mechanism.",
        remedy="It works once; restart the host if the guest's next start finds {address} in disorder",
        judge=_reset_none,
    ),
    Check(
        id="reset_bus_only",
        about="The device can only be reset together with others on its bus, of other IOMMU groups",
        source="QEMU hw/vfio/container.c: vfio_legacy_pci_hot_reset",
        severity=WARNING,
        symptom="vfio: Cannot reset device {address}, depends on group {group} which is not owned.",
        remedy="Give {others} to the same guest, or put {address} into a slot with a bus of its own",
        judge=_reset_bus_only,
    ),
    Check(
        id="reset_group",
        about="The device can only be reset together with others of its IOMMU group, which are not with vfio-pci",
        source="Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_dev_set_resettable",
        severity=WARNING,
        symptom="",
        remedy="Bind {others} to vfio-pci as well, best for the same guest",
        judge=_reset_group,
    ),
    Check(
        id="reset_quirk",
        about="The device is known to hang after a reset that this kernel would use",
        source="Linux drivers/pci/quirks.c: quirk_no_flr, quirk_no_flr_snet, quirk_no_bus_reset,"
        " quirk_nvidia_no_bus_reset",
        severity=WARNING,
        symptom="Unknown PCI header type '127' for device '{address}'",
        remedy="Update the kernel, or leave only {others} in /sys/bus/pci/devices/{address}/reset_method",
        judge=_reset_quirk,
    ),
    Check(
        id="reset_amd",
        about="An AMD graphics card may not come back from a reset",
        source="Linux drivers/pci/quirks.c: quirk_no_pm_reset; libvirt src/util/virpci.c: virPCIDeviceGetHeaderType",
        severity=WARNING,
        symptom="Unknown PCI header type '127' for device '{address}'",
        remedy="Restart the guest a few times before you rely on it; the module vendor-reset, which is not part of the"
        " kernel, can reset some of these cards, else only a restart of the host brings {address} back",
        judge=_reset_amd,
    ),
    Check(
        id="fb_claims",
        about="The firmware's framebuffer holds the memory of the graphics card, on kernels before 6.0",
        source="Linux drivers/vfio/pci/vfio_pci_core.c: vfio_pci_vga_init; drivers/pci/pci.c: __pci_request_region",
        severity=WARNING,
        symptom="vfio-pci {address}: BAR ...: can't reserve [mem ...]",
        remedy="Update the kernel to 6.0 or newer, let the firmware use another graphics card, or add"
        " video=efifb:off or initcall_blacklist=sysfb_init to the kernel's arguments",
        judge=_fb_claims,
    ),
    Check(
        id="rom",
        about="The guest would see the copy of the graphics card's ROM that the firmware has used",
        source="Linux arch/x86/pci/fixup.c: pci_fixup_video; QEMU hw/vfio/pci.c: vfio_pci_load_rom",
        severity=WARNING,
        symptom="vfio-pci: Cannot read device rom at {address}",
        remedy="Let the firmware use another graphics card, give the guest a ROM file (<rom file='...'/>), or none"
        " (<rom bar='off'/>)",
        judge=_rom,
    ),
    Check(
        id="big_bar",
        about="The device has a region of 4 GiB or more",
        source="Linux Documentation/ABI/testing/sysfs-bus-pci: resource; PCI Local Bus Specification 3.0, 6.2.5.1",
        severity=INFORMATION,
        symptom="",
        remedy="Give the guest UEFI firmware (OVMF) and the host's CPU model (host-passthrough)",
        judge=_big_bar,
    ),
    Check(
        id="bar_unassigned",
        about="A region of the device has no address, so that the device cannot be enabled",
        source="Linux drivers/pci/setup-res.c: pci_enable_resources; drivers/vfio/pci/vfio_pci_core.c:"
        " vfio_pci_core_enable",
        severity=BLOCKER,
        symptom="vfio-pci {address}: BAR {index} {region}: not assigned; can't enable device",
        remedy="Turn on decoding above 4 GiB in the host's firmware, or try the kernel's argument pci=realloc=on",
        judge=_bar_unassigned,
    ),
    Check(
        id="d3cold",
        about="The device is switched off to save power, and has not been woken to look at it",
        source="Linux drivers/pci/pci-sysfs.c: pci_read_config; drivers/pci/pci.c: pci_power_up",
        severity=INFORMATION,
        symptom="vfio-pci {address}: Unable to change power state from D3cold to D0, device inaccessible",
        remedy="If {address} does not wake up for the guest, load vfio-pci with disable_idle_d3=1",
        judge=_d3cold,
    ),
    Check(
        id="igd",
        about="The device is Intel's integrated graphics",
        source="QEMU hw/vfio/igd.c: vfio_pci_igd_opregion_init",
        severity=WARNING,
        symptom="IGD OpRegion is not supported on hotplugged device",
        remedy="Put {address} into the guest's definition and start it anew; do not attach it while it runs",
        judge=_igd,
    ),
)
