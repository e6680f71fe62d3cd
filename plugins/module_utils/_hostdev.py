# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which PCI devices of its host a guest has, and what must change. Pure: domain XML and a root path in, a plan out.

libvirt keeps two definitions of a guest, and changes each on its own: the live one, while it runs, and the persistent
one, from which it starts. A device of the host is a <hostdev> or an <interface type='hostdev'> there, an NVMe disk may
be one as well; all of them have a PCI address as their source (https://libvirt.org/formatdomain.html).

decide() makes the plan, refuse() says why it must not be carried out. _domain.py carries it out.
"""

from __future__ import annotations

import os
import typing as t
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace

from ._errors import HostFailure, InvalidInput, Refused
from ._host_use import Use, host_uses
from ._selectors import parse_address
from ._sysfs import below, link_name
from ._use import is_vfio, sticks

LIVE = "live"
PERSISTENT = "persistent"
_DEVICES = "/sys/bus/pci/devices"

# The buses that a device can be plugged into while the guest runs, and their slots (libvirt's src/conf/domain_addr.c:
# virDomainPCIAddressBusSetModel). pcie-root and dmi-to-pci-bridge are not among them.
_SLOTS = {
    "pcie-root-port": range(1),
    "pcie-switch-downstream-port": range(1),
    "pci-root": range(1, 32),
    "pci-bridge": range(1, 32),
    "pcie-to-pci-bridge": range(1, 32),
    "pci-expander-bus": range(32),
}

_ACTIONS = {
    (LIVE, True): "attach {address} to the running {guest}",
    (LIVE, False): "detach {address} from the running {guest}",
    (PERSISTENT, True): "add {address} to the persistent definition of {guest}, managed='{managed}'",
    (PERSISTENT, False): "remove {address} from the persistent definition of {guest}",
}


@dataclass(frozen=True)
class Request:
    """What the user asks for; live and persistent say which of the two definitions is his business."""

    guest: str
    addresses: tuple[str, ...]
    present: bool = True
    live: bool = True
    persistent: bool = True
    exclusive: bool = False
    managed: bool = False
    timeout: int = 30
    pending: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        guest: str,
        addresses: list[str],
        state: str,
        live: bool,
        persistent: bool,
        exclusive: bool,
        managed: bool,
        timeout: int,
        pending: t.Iterable[str] = (),
    ) -> Request:
        """The request with every address in full, or InvalidInput."""
        parsed = [parse_address(address) for address in addresses]
        for at, address in enumerate(parsed):
            if address in parsed[:at]:
                raise InvalidInput(f"{address} is named twice; name each device once")
        if exclusive and state == "absent":
            raise InvalidInput("exclusive: true goes with state: present; with absent, name the devices that shall go")
        if not parsed and not exclusive:
            raise InvalidInput("addresses is empty, which only makes sense together with exclusive: true")
        if not live and not persistent:
            raise InvalidInput("live and persistent are both false, so that there is nothing to do; set one of them")
        if timeout < 1:
            raise InvalidInput(f"timeout is {timeout}; it is a number of seconds, at least 1")
        return cls(
            guest=guest,
            addresses=tuple(sorted(parsed)),
            present=state == "present",
            live=live,
            persistent=persistent,
            exclusive=exclusive,
            managed=managed,
            timeout=timeout,
            pending=tuple(parse_address(address) for address in pending),
        )

    def concerns(self, which: str) -> bool:
        """Whether a definition is to be as asked, rather than left alone."""
        return self.live if which == LIVE else self.persistent


@dataclass(frozen=True)
class Assigned:
    """A device of the host in a definition."""

    address: str
    """Where it is on the host: 0000:06:00.0."""

    kind: str
    """The element that it is: hostdev, interface or disk."""

    managed: bool
    """Whether libvirt takes it from its driver when the guest starts, and gives it back when the guest stops."""

    xml: str
    """The whole element."""

    guest_address: str | None = None
    """Where the definition puts it in the guest; None where it does not say."""

    @classmethod
    def new(cls, address: str, managed: bool) -> Assigned:
        """A device as it is handed to libvirt, which chooses the place in the guest."""
        domain, bus, rest = address.split(":")
        slot, function = rest.split(".")
        xml = (
            f"<hostdev mode='subsystem' type='pci' managed='{_yes(managed)}'><source>"
            f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source></hostdev>"
        )
        return cls(address, "hostdev", managed, xml)

    @classmethod
    def read(cls, element: ET.Element) -> Assigned | None:
        """The device that an element below <devices> is; None where it is none of the host's PCI devices."""
        address = pci_address(element.find("source/address[@slot]"))
        if address is None:
            return None
        return cls(
            address=address,
            kind=element.tag,
            managed=element.get("managed") == "yes",
            xml=ET.tostring(element, encoding="unicode").strip(),
            guest_address=pci_address(element.find("address[@type='pci']")),
        )

    def with_managed(self, managed: bool) -> Assigned:
        """The same element, and all that it says, but for who binds the device to vfio-pci."""
        element = ET.fromstring(self.xml)
        element.set("managed", _yes(managed))
        return replace(self, managed=managed, xml=ET.tostring(element, encoding="unicode"))


@dataclass(frozen=True)
class Definition:
    """What counts of a definition of a guest."""

    devices: t.Mapping[str, Assigned]
    """The host's devices in it, by their address there."""

    buses: t.Mapping[int, str] = field(default_factory=dict)
    """The PCI buses that take a device while the guest runs: their numbers, and the models of their controllers."""

    occupied: frozenset[str] = frozenset()
    """The PCI addresses of the guest that are taken."""

    express: bool = False
    """Whether the guest has PCI Express, so that its root takes no conventional device."""

    @classmethod
    def parse(cls, text: str) -> Definition:
        """The definition in a domain's XML."""
        try:
            return cls.read(ET.fromstring(text))
        except ET.ParseError as error:
            raise HostFailure(f"libvirt's definition of the guest is no XML: {error}") from error

    @classmethod
    def read(cls, domain: ET.Element) -> Definition:
        """The definition in a <domain>."""
        devices = domain.find("devices")
        elements = [] if devices is None else list(devices)
        assigned = [device for device in map(Assigned.read, elements) if device]
        places = [pci_address(element.find("address[@type='pci']")) for element in elements]
        controllers = [element for element in elements if (element.tag, element.get("type")) == ("controller", "pci")]
        return cls(
            devices={device.address: device for device in assigned},
            buses={
                int(controller.get("index", "0")): str(controller.get("model"))
                for controller in controllers
                if controller.get("model") in _SLOTS and controller.find("target[@hotplug='off']") is None
            },
            occupied=frozenset(place for place in places if place),
            express=any(controller.get("model") == "pcie-root" for controller in controllers),
        )

    def ports(self) -> int:
        """How many slots for PCI Express devices there are, taken or not."""
        return sum(_takes_express(model) for model in self.buses.values())

    def free_slots(self, express: bool, leaving: t.Container[str | None] = ()) -> int:
        """How many devices of either sort the running guest can take, once the leaving addresses of it are free."""
        # 0000:05:00.0: libvirt numbers the guest's buses in one domain.
        taken = {place[5:10] for place in self.occupied if place not in leaving}
        return sum(
            f"{bus:02x}:{slot:02x}" not in taken
            for bus, model in self.buses.items()
            if _takes_express(model) == express
            for slot in _SLOTS[model]
        )


@dataclass(frozen=True)
class Guest:
    """A guest at one moment."""

    name: str
    live: Definition | None
    """None where it does not run."""
    persistent: Definition | None
    """None where libvirt forgets it once it stops (transient)."""

    def definition(self, which: str) -> Definition | None:
        return self.live if which == LIVE else self.persistent

    def devices(self, which: str) -> t.Mapping[str, Assigned]:
        """The host's devices in one of the definitions, by their address there."""
        definition = self.definition(which)
        return {} if definition is None else definition.devices

    def has(self, address: str, which: str) -> Assigned | None:
        """The device in one of the definitions."""
        return self.devices(which).get(address)

    def addresses(self) -> list[str]:
        """The host's devices in either definition, sorted."""
        return sorted({address for which in (LIVE, PERSISTENT) for address in self.devices(which)})

    def without(self, addresses: t.Container[str]) -> Guest:
        """The guest as if it had let these devices go."""

        def left(definition: Definition | None) -> Definition | None:
            if definition is None:
                return None
            devices = {address: device for address, device in definition.devices.items() if address not in addresses}
            gone = {device.guest_address for address, device in definition.devices.items() if address in addresses}
            return replace(definition, devices=devices, occupied=definition.occupied - gone)

        return replace(self, live=left(self.live), persistent=left(self.persistent))

    def after(self, steps: t.Iterable[Step]) -> Guest:
        """The guest as it is to be once the steps are done."""
        devices = {which: dict(self.devices(which)) for which in (LIVE, PERSISTENT)}
        for step in steps:
            if step.attach:
                devices[step.which][step.device.address] = step.device
            else:
                del devices[step.which][step.device.address]
        return replace(
            self,
            live=self.live and replace(self.live, devices=devices[LIVE]),
            persistent=self.persistent and replace(self.persistent, devices=devices[PERSISTENT]),
        )


@dataclass(frozen=True)
class Step:
    """One change of one definition."""

    attach: bool
    which: str
    device: Assigned

    def inverse(self) -> Step:
        return replace(self, attach=not self.attach)

    def action(self, guest: str) -> str:
        """The step in words."""
        words = _ACTIONS[self.which, self.attach]
        return words.format(address=self.device.address, guest=guest, managed=_yes(self.device.managed))


@dataclass(frozen=True)
class Plan:
    """All that is to be done, in order.

    What goes is done with first, since it makes room; from the persistent definition first of all, so that a device
    which the running guest keeps goes with its next shutdown.
    """

    leaving: tuple[Step, ...]
    coming: tuple[Step, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.leaving + self.coming

    def attached(self, which: str) -> list[str]:
        """Addresses of the devices that a definition has not yet, sorted."""
        gone = {step.device.address for step in self.steps if not step.attach and step.which == which}
        coming = {step.device.address for step in self.coming if step.attach and step.which == which}
        return sorted(coming - gone)


@dataclass(frozen=True)
class HostDevice:
    """What counts of a device on the host."""

    exists: bool = True
    driver: str | None = None
    express: bool = True
    uses: tuple[Use, ...] = ()
    """What the host needs it for; looked up only where libvirt would take it from its driver."""


# ---------------------------------------------------------------------------------------------------------------------
# Deciding


def decide(request: Request, guest: Guest) -> Plan:
    """What must change for the guest to be as asked."""
    leaving = [
        step for which in (PERSISTENT, LIVE) if request.concerns(which) for step in _leaving(request, guest, which)
    ]
    coming = [
        step for which in (LIVE, PERSISTENT) if request.concerns(which) for step in _coming(request, guest, which)
    ]
    return Plan(tuple(leaving), tuple(coming))


def _leaving(request: Request, guest: Guest, which: str) -> t.Iterator[Step]:
    for address, device in sorted(guest.devices(which).items()):
        named = address in request.addresses
        if (named and not request.present) or (not named and request.exclusive and device.kind == "hostdev"):
            yield Step(False, which, device)


def _coming(request: Request, guest: Guest, which: str) -> t.Iterator[Step]:
    if not request.present or guest.definition(which) is None:
        return
    for address in request.addresses:
        device = guest.has(address, which)
        if device is None:
            yield Step(True, which, Assigned.new(address, request.managed))
        elif which == PERSISTENT and device.managed != request.managed:
            # libvirt cannot change it in place (src/qemu/qemu_driver.c: qemuDomainUpdateDeviceConfig).
            yield Step(False, which, device)
            yield Step(True, which, device.with_managed(request.managed))


def refuse(
    request: Request,
    guest: Guest,
    plan: Plan,
    host: t.Mapping[str, HostDevice],
    holders: t.Mapping[str, str],
) -> None:
    """Raise Refused, with all reasons, where the plan must not be carried out.

    host and holders concern the devices that a definition does not have yet; holders says who else has one, such as
    'the running guest fax2'.
    """
    reasons = [*_unfit(request, guest), *_refused(request, guest, plan, host, holders), *_crowded(guest, plan, host)]
    if reasons:
        raise Refused("\n".join(reasons))


def _unfit(request: Request, guest: Guest) -> t.Iterator[str]:
    if request.present and request.persistent and guest.persistent is None:
        yield f"{guest.name} is transient and has no persistent definition; define it, or set persistent: false"
    for address in request.addresses:
        devices = guest.has(address, LIVE), guest.has(address, PERSISTENT)
        if any(device and device.kind == "disk" for device in devices):
            yield f"{address} is an NVMe disk of {guest.name}; change it among the guest's disks"


def _refused(
    request: Request,
    guest: Guest,
    plan: Plan,
    host: t.Mapping[str, HostDevice],
    holders: t.Mapping[str, str],
) -> t.Iterator[str]:
    """Why a device cannot be given to the guest."""
    for address in sorted({*plan.attached(LIVE), *plan.attached(PERSISTENT)}):
        device = host[address]
        if not device.exists:
            yield f"{address} is not on this host; see kvm.passthrough.pci_facts for what is"
        elif address in holders:
            yield f"{address} is held by {holders[address]}; take it from there with state: absent first"
        elif is_vfio(device.driver or ""):
            continue
        elif not request.managed:
            yield (
                f"{address} is bound to {device.driver or 'no driver'}, where {guest.name} needs it on vfio-pci; bind"
                f" it with kvm.passthrough.pci_driver or the playbook kvm.passthrough.prepare, or set managed: true"
            )
        elif sticks(device.driver):
            yield (
                f"{address} is bound to {device.driver}, {sticks(device.driver)}; run the playbook"
                f" kvm.passthrough.prepare and reboot the host, so that it has the device on vfio-pci from the boot on"
            )
        elif device.uses:
            # IPv4 and IPv6 may say the same.
            said = " and ".join(dict.fromkeys(use.what for use in device.uses))
            yield (
                f"{address} {said}; give {guest.name} another device. If the host can do without it, bind it with"
                f" kvm.passthrough.pci_driver and force first"
            )


def _crowded(guest: Guest, plan: Plan, host: t.Mapping[str, HostDevice]) -> t.Iterator[str]:
    """Why the running guest has no room for what is to be attached."""
    live = guest.live
    if live is None:
        return
    freed = [step.device.guest_address for step in plan.leaving if step.which == LIVE]
    coming: dict[bool, list[str]] = {True: [], False: []}
    for address in plan.attached(LIVE):
        coming[live.express and host[address].express].append(address)
    for express, addresses in coming.items():
        free = live.free_slots(express, freed)
        if len(addresses) <= free:
            continue
        room = f"{guest.name} has {free or 'no'} free slot{'s' if free > 1 else ''} for {_counted(addresses, express)}"
        if express:
            # Devices that were plugged in while it ran take such slots too, and will again.
            plugged = sum(guest.has(address, PERSISTENT) is None for address in live.devices)
            yield (
                f"{room}; it has {live.ports()} pcie-root-ports that take a device while it runs. Set"
                f" kvm_guest_hotplug_slots to at least {len(addresses) + plugged}, and restart it"
            )
        elif live.express:
            yield (
                f"{room}; such a device needs a pcie-to-pci-bridge, which cannot be added while it runs. Set"
                f" live: false, so that libvirt adds one to the persistent definition, and restart it"
            )
        else:
            yield f"{room}; detach another device first"


def _counted(addresses: list[str], express: bool) -> str:
    kind = "PCI Express" if express else "conventional PCI"
    return f"the {kind} device{'' if len(addresses) == 1 else 's'} {', '.join(addresses)}"


def warnings(request: Request, guest: Guest) -> list[str]:
    """What the user should know although the plan is carried out."""
    found = []
    if request.present and guest.live is None and not request.persistent:
        found.append(f"{guest.name} does not run, and its persistent definition is left alone (persistent: false)")
    for address in request.addresses if request.present and request.live and not request.managed else ():
        device = guest.has(address, LIVE)
        if device and device.managed:
            found.append(
                f"{address} runs in {guest.name} with managed='yes', so that libvirt gives it to the host's own driver"
                f" when the guest stops; bind it again with kvm.passthrough.pci_driver then"
            )
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Looking, and telling


def read_host(
    root: str, addresses: t.Iterable[str], managed: bool, session: str | None, pending: t.Container[str] = ()
) -> dict[str, HostDevice]:
    """What the host says of these devices; session is the address of the SSH client, if there is one.

    The pending ones are taken for bound to vfio-pci, whether they exist or not.
    """
    found = {}
    for address in addresses:
        path = below(root, f"{_DEVICES}/{address}")
        # The kernel shows link attributes of PCI Express devices only (pci-sysfs.c: pcie_dev_attrs_are_visible), so
        # that the configuration space of a sleeping device need not be read.
        express = os.path.exists(f"{path}/max_link_speed")
        if address not in pending:
            found[address] = HostDevice(os.path.exists(path), link_name(f"{path}/driver"), express)
        else:  # what does not exist yet is a virtual function, and those are PCI Express
            found[address] = HostDevice(driver="vfio-pci", express=express or not os.path.exists(path))
    taken = [address for address, device in found.items() if not is_vfio(device.driver or "")]
    uses = host_uses(root, session) if managed and taken else {}
    return {address: replace(device, uses=tuple(uses.get(address, ()))) for address, device in found.items()}


def result(request: Request, before: Guest, after: Guest, plan: Plan, diff: bool) -> dict[str, t.Any]:
    """What the module returns."""
    gone = {step.device.address for step in plan.leaving}
    told = sorted({*request.addresses, *gone})
    answer: dict[str, t.Any] = {
        "changed": bool(plan.steps),
        "guest": before.name,
        "running": before.live is not None,
        "devices": [_told(after, address) for address in told],
        "actions": [step.action(before.name) for step in plan.steps],
        "kept": [_told(after, address) for address in after.addresses() if address not in told],
        "warnings": warnings(request, before),
    }
    if diff:
        header = f"PCI devices of {before.name}"
        answer["diff"] = {
            "before_header": header,
            "after_header": header,
            "before": _shown(before),
            "after": _shown(after),
        }
    return answer


def _told(guest: Guest, address: str) -> dict[str, t.Any]:
    live, persistent = guest.has(address, LIVE), guest.has(address, PERSISTENT)
    place = live or persistent
    return {
        "address": address,
        "live": live is not None,
        "persistent": persistent is not None,
        "guest_address": place.guest_address if place else None,
    }


def _shown(guest: Guest) -> str:
    lines = []
    for which, missing in ((LIVE, "not running"), (PERSISTENT, "transient")):
        lines.append(f"{which}:" if guest.definition(which) else f"{which}: {missing}")
        for address, device in sorted(guest.devices(which).items()):
            lines.append(f"  {address} managed='{_yes(device.managed)}'")
    return "".join(f"{line}\n" for line in lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _takes_express(model: str) -> bool:
    return model in ("pcie-root-port", "pcie-switch-downstream-port")


def pci_address(address: ET.Element | None) -> str | None:
    """An <address> in one word: 0000:06:00.0."""
    if address is None:
        return None
    try:
        parts = [int(address.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")]
    except ValueError:
        return None
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
