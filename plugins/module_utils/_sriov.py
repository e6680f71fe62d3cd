# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many virtual functions a PCI device has, now and at every boot, and where they will be.

predict() tells what a host will have. look(), decide() and apply() are siblings of those in _driver: a snapshot, the
plans, and what becomes of them. The kernel's side is drivers/pci/iov.c and Documentation/PCI/pci-iov-howto.rst.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import typing as t
from dataclasses import dataclass, field, replace

from . import _attributes, _files, _pci
from ._attributes import Run, StuckError
from ._driver import IDENTITY, RULES, Move, listed, rule_identity, same_card
from ._errors import HostFailure, InvalidInput, PassthroughError, Refused
from ._files import FileChange
from ._guests import read_guests
from ._host_use import Use, guest_holds, host_uses
from ._selectors import parse_address
from ._sysfs import below, link_name, names, read_int, read_text
from ._use import DEVICES, stands_in

_RULE_NAME = re.compile(r"20-passthrough-sriov-([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\.rules\Z")

# What the errors of a write mean (sriov_numvfs_store and sriov_enable); older kernels say ENOSYS for ENOENT.
_NO_ROOM = "the firmware left no bus numbers or no memory for so many; switch SR-IOV on in its setup, or boot with"
_REASONS = {
    errno.ENOENT: "{driver} makes no virtual functions, or was told not to",
    errno.ENOSYS: "{driver} makes no virtual functions, or was told not to",
    errno.ENOMEM: _NO_ROOM + " pci=assign-busses,realloc",
}


# ---------------------------------------------------------------------------------------------------------------------
# Foretelling


def foretell(
    address: str, functions: t.Sequence[str], offset: int | None, stride: int | None, number: int
) -> list[str] | None:
    """Addresses of the first so many virtual functions; None where the device does not say where they will be.

    functions are those that it has already. An address is a routing id, bus << 8 | devfn (pci_iov_virtfn_bus,
    pci_iov_virtfn_devfn). offset and stride may read 0 as long as there are no functions, or no second one.
    """
    if number <= len(functions):
        return list(functions[:number])
    if (offset or 0) < 1 or (number > 1 and (stride or 0) < 1):
        return None
    domain, bus, place = address.split(":")
    first = (int(bus, 16) << 8 | int(place[:2], 16) << 3 | int(place[3:])) + t.cast(int, offset)
    ids = [first + (stride or 0) * index for index in range(len(functions), number)]
    return [*functions, *(f"{domain}:{one >> 8:02x}:{one >> 3 & 0x1F:02x}.{one & 7}" for one in ids)]


def predict(devices: t.Iterable[t.Mapping[str, t.Any]], wanted: t.Iterable[t.Mapping[str, t.Any]]) -> list[_pci.Device]:
    """The devices as they will be once wanted, entries {address, num_vfs}, has been done; both as pci_facts has them.

    What only the kernel can know of a new function is None: its group, its drivers, what its registers say. A device
    that does not tell where its functions will be gets none, but their number.
    """
    found = {device["address"]: dict(device) for device in devices}
    for wish in wanted:
        physical, number = found[wish["address"]], wish["num_vfs"]
        sriov = physical["sriov"]
        before = sriov["virtual_functions"]
        after = foretell(physical["address"], before, sriov.get("offset"), sriov.get("stride"), number)
        functions = before if after is None else after
        physical["sriov"] = {**sriov, "num_vfs": number, "virtual_functions": functions}
        for address in before[len(functions) :]:
            found.pop(address, None)
        found.update({address: _function(physical, address) for address in functions if address not in found})
    return sorted(found.values(), key=lambda device: (len(device["address"]), device["address"]))


def _function(physical: _pci.Device, address: str) -> _pci.Device:
    """A virtual function as the kernel will show it: below the same bridge, without interrupt pin (pci_iov_add_virtfn).

    Vendor, class and kind are those of its physical function; it has one header and one function.
    """
    parent, path = physical["parent"], physical["path"]
    same_slot = address.rpartition(".")[0] == physical["address"].rpartition(".")[0]
    return {
        **dict.fromkeys(physical),
        "address": address,
        "id": physical["sriov"].get("vf_id"),
        "class": physical["class"],
        "vendor_name": physical["vendor_name"],
        "class_name": physical["class_name"],
        "modules": [],
        "numa_node": physical["numa_node"],
        "interrupt": {"pin": None, "line": None, "vectors": [], "mode": None},
        "bars": [],
        "header_type": 0,
        "bridge": False,
        "pcie_type": physical["pcie_type"],
        "multifunction": False,
        "boot_vga": False,
        "sriov": {
            **dict.fromkeys(physical["sriov"]),
            "physical_function": physical["address"],
            "virtual_functions": [],
        },
        "parent": parent,
        "path": None if path is None else f"{path.rpartition('/')[0]}/{address[-4:]}" if parent else address,
        "physical_slot": physical["physical_slot"] if same_slot else None,
    }


def obstacles(
    address: str,
    driver: str | None,
    total: int | None,
    before: int | None,
    number: int,
    capable: t.Callable[[], str],
) -> t.Iterator[str]:
    """Why a device cannot have so many functions; before is how many it has, None where it has no SR-IOV.

    capable lists the devices of the host that have.
    """
    if before is None:
        others = capable()
        yield (
            f"{address} has no SR-IOV, or the firmware's setup switches it off;"
            f" {f'devices that have it are {others}' if others else 'no device of this host has it'}"
        )
        return
    if total is not None and number > total:
        yield f"{address} can have {total} virtual functions at most, not {number}; ask for no more than {total}"
    if number == before:
        return
    if driver is None:
        yield f"{address} has no driver, and only a driver makes virtual functions; load its module first"
    elif stands_in(driver):
        yield (
            f"{address} is with {driver}, which is for guests and makes no virtual functions; take it from its guest"
            f" and give it back to its own driver first, or split another device"
        )


# ---------------------------------------------------------------------------------------------------------------------
# The request, the device and the plan


@dataclass(frozen=True)
class Request:
    """What the user asks for: devices are the numbers by address."""

    devices: t.Mapping[str, int]
    persistent: bool = True
    exclusive: bool = False
    pending: frozenset[str] = frozenset()
    """What check mode takes for let go by its guest."""

    timeout: int = 30

    @classmethod
    def parse(
        cls,
        devices: t.Sequence[t.Mapping[str, t.Any]],
        persistent: bool,
        exclusive: bool,
        pending: t.Sequence[str],
        timeout: int,
    ) -> Request:
        """The request with every address in full, or InvalidInput."""
        numbers: dict[str, int] = {}
        for device in devices:
            address, number = parse_address(device["address"]), device["num_vfs"]
            if address in numbers:
                raise InvalidInput(f"{address} is named twice; name each device once")
            if number < 0:
                raise InvalidInput(f"num_vfs of {address} is {number}; it is a number from 0 on")
            numbers[address] = number
        if not numbers and not exclusive:
            raise InvalidInput("devices is empty, which only makes sense together with exclusive: true")
        if timeout < 1:
            raise InvalidInput(f"timeout is {timeout}; it is a number of seconds, at least 1")
        return cls(numbers, persistent, exclusive, frozenset(map(parse_address, pending)), timeout)


@dataclass(frozen=True)
class Device:
    """What counts of a device. Its identity is None where nothing is at that address (any more)."""

    address: str
    identity: tuple[str, ...] | None
    driver: str | None = None
    num_vfs: int | None = None
    """How many virtual functions it has; None where it has no SR-IOV."""

    total: int | None = None
    functions: tuple[str, ...] = ()
    offset: int | None = None
    stride: int | None = None
    rule: bytes | None = None


@dataclass(frozen=True)
class Host:
    """What counts of the host: holder tells which running guest has a function, in words; capable who has SR-IOV."""

    holder: t.Callable[[str], str | None] = lambda address: None
    uses: t.Mapping[str, t.Sequence[Use]] = field(default_factory=dict)
    capable: t.Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Plan:
    """All that is to be done for one device: its rule, then the numbers to write."""

    device: Device
    rule: FileChange
    writes: tuple[int, ...] = ()
    kept: str | None = None
    """Why it was to lose its functions, and is left as it is instead."""

    @property
    def changed(self) -> bool:
        return self.rule.changed or bool(self.writes)

    @property
    def number(self) -> int | None:
        """How many functions the device will have."""
        return self.writes[-1] if self.writes else self.device.num_vfs

    @property
    def going(self) -> tuple[str, ...]:
        """The functions that are taken away, for good or to be made again."""
        return self.device.functions if self.writes else ()

    def actions(self) -> list[str]:
        """The plan in words."""
        done = []
        if self.rule.changed:
            done.append(f"{'remove' if self.rule.after is None else 'write'} {self.rule.path}")
        return done + [f"write {number} to sriov_numvfs of {self.device.address}" for number in self.writes]


# ---------------------------------------------------------------------------------------------------------------------
# The rule


def rule_path(address: str) -> str:
    """Where the rule of a device lies."""
    return f"{RULES}/20-passthrough-sriov-{address}.rules"


def rule_text(address: str, identity: t.Sequence[str], number: int) -> bytes:
    """The udev rule that makes a device's functions, as long as this very card is at that address.

    The event bind, since Linux 4.14, comes when a driver has taken the device; the add that udev repeats at boot counts
    where one had it before udev came. The write waits for the driver's probe, since both take the device's lock.
    """
    functions = f"{number} virtual function{'' if number == 1 else 's'}"
    return f"""\
# {address} has {functions} while it is this card; written by kvm.passthrough.pci_sriov, which also removes it.
ACTION!="add|bind", GOTO="end"
SUBSYSTEM!="pci", GOTO="end"
KERNEL!="{address}", GOTO="end"
# An initramfs may hold an older copy of this, and the add event comes again once it is left.
TEST=="/etc/initrd-release", GOTO="end"
TEST=="/conf/initramfs.conf", GOTO="end"
DRIVER=="?*", {same_card(address, identity)}, ATTR{{sriov_numvfs}}=="0", ATTR{{sriov_numvfs}}="{number}"
LABEL="end"
""".encode()


# ---------------------------------------------------------------------------------------------------------------------
# Deciding


def decide(request: Request, devices: t.Sequence[Device], host: Host) -> list[Plan]:
    """The plans for all devices, named and released; raises before anything is planned that must not be."""
    plans = [
        _split(request, device) if device.address in request.devices else _release(device, host) for device in devices
    ]
    objections = [message for plan in plans for message in _objections(plan, request, host)]
    if objections:
        raise Refused("\n".join(objections))
    return plans


def _split(request: Request, device: Device) -> Plan:
    number = request.devices[device.address]
    text = rule_text(device.address, device.identity or (), number) if request.persistent and number else None
    return Plan(device, FileChange(rule_path(device.address), device.rule, text), _writes(device.num_vfs, number))


def _release(device: Device, host: Host) -> Plan:
    """No functions and no rule; where another card than the rule's stands in its place, those are not our doing."""
    stranger = rule_identity(device.rule) != device.identity
    rule = FileChange(rule_path(device.address), device.rule, None)
    plan = Plan(device, rule, () if stranger else _writes(device.num_vfs, 0))
    reason = next(_held(plan, host), None)
    return plan if reason is None else Plan(device, replace(rule, after=device.rule), kept=reason)


def _writes(before: int | None, number: int) -> tuple[int, ...]:
    """The way to a number of functions: between two others the kernel wants 0 (EBUSY)."""
    if before is None or before == number:
        return ()
    return (0, number) if before and number else (number,)


def _held(plan: Plan, host: Host) -> t.Iterator[str]:
    """How running guests stand in the way of a plan."""
    for function in plan.going:
        holder = host.holder(function)
        if holder:
            yield (
                f"{function}, a virtual function of {plan.device.address}, is in use by {holder}; shut the guest down,"
                f" or detach the function from it, first"
            )


def _objections(plan: Plan, request: Request, host: Host) -> t.Iterator[str]:
    """Why a plan must not be carried out."""
    device = plan.device
    if device.address in request.devices or plan.writes:
        number = request.devices.get(device.address, 0)
        yield from obstacles(device.address, device.driver, device.total, device.num_vfs, number, host.capable)
    yield from _held(plan, host)
    for function in plan.going:
        # IPv4 and IPv6 may say the same.
        said = " and ".join(dict.fromkeys(use.what for use in host.uses.get(function, ())))
        if said:
            yield (
                f"{function}, a virtual function of {device.address}, {said}, and goes when the number changes from"
                f" {device.num_vfs} to {plan.number}; free it first"
            )


# ---------------------------------------------------------------------------------------------------------------------
# Looking


def look(root: str, request: Request, run: Run) -> list[Device]:
    """A snapshot of the devices named, and of those to be released because they bear a rule of ours; sorted."""
    existing = names(below(root, DEVICES))
    for address in request.devices:
        if address not in existing:
            near = difflib.get_close_matches(address, existing, n=4, cutoff=0.0)
            raise InvalidInput(f"{address} is not on this host; near it are {listed(root, near) or 'no PCI devices'}")
    ruled = [found.group(1) for found in map(_RULE_NAME.match, names(below(root, RULES))) if found]
    wanted = sorted({*request.devices, *(ruled if request.exclusive else ())})
    present = [address for address in wanted if address in existing]
    told = _attributes.read(root, present, "sriov_numvfs", run)
    numbers = {address: int(text) if text.isdecimal() else None for address, text in told.items()}
    return [_device(root, address, numbers) for address in wanted]


def _device(root: str, address: str, numbers: t.Mapping[str, int | None]) -> Device:
    path = below(root, f"{DEVICES}/{address}")
    rule = _files.read_file(below(root, rule_path(address)))
    if address not in numbers:
        return Device(address, None, rule=rule)
    return Device(
        address=address,
        identity=tuple(read_text(f"{path}/{name}") or "" for name in IDENTITY),
        driver=link_name(f"{path}/driver"),
        num_vfs=numbers[address],
        total=read_int(f"{path}/sriov_totalvfs"),
        functions=_functions(root, address, numbers[address]),
        offset=read_int(f"{path}/sriov_offset"),
        stride=read_int(f"{path}/sriov_stride"),
        rule=rule,
    )


def _functions(root: str, address: str, number: int | None) -> tuple[str, ...]:
    links = (link_name(below(root, f"{DEVICES}/{address}/virtfn{index}")) for index in range(number or 0))
    return tuple(link for link in links if link)


def _capable(root: str) -> str:
    addresses = names(below(root, DEVICES))
    return listed(root, [one for one in addresses if os.path.exists(below(root, f"{DEVICES}/{one}/sriov_numvfs"))])


def _holder(root: str, pending: t.Container[str]) -> t.Callable[[str], str | None]:
    """Which running guest has a function: by libvirt's word its name, or else by the kernel's."""
    guests = {address: guest.name for guest in read_guests(root) if guest.running for address in guest.devices}

    def holder(address: str) -> str | None:
        if address in pending:
            return None
        if address in guests:
            return f"the running guest {guests[address]}"
        evidence = guest_holds(root, address)
        return evidence and f"a running guest ({evidence})"

    return holder


# ---------------------------------------------------------------------------------------------------------------------
# Doing


def apply(
    root: str, request: Request, check: bool, diff: bool, move: Move, udevadm: str | None, session: str | None, run: Run
) -> dict[str, t.Any]:
    """Look, decide, carry out unless it is only a check, and tell what has become of it."""
    devices = look(root, request, run)
    holder = _holder(root, request.pending if check else ())
    plans = decide(request, devices, Host(holder, host_uses(root, session), lambda: _capable(root)))
    if not check:
        _Doer(root, request.timeout, move, udevadm, run).carry_out(plans)
    return _result(root, plans, check, diff)


def _result(root: str, plans: t.Sequence[Plan], check: bool, diff: bool) -> dict[str, t.Any]:
    seen = [_foreseen(plan) if check else _seen(root, plan.device) for plan in plans]
    result: dict[str, t.Any] = {
        "changed": any(plan.changed for plan in plans),
        "devices": [
            {
                "address": plan.device.address,
                "before": plan.device.num_vfs,
                "num_vfs": number,
                "virtual_functions": functions,
                "rule": None if plan.rule.after is None else plan.rule.path,
            }
            for plan, (number, functions) in zip(plans, seen)
            if not plan.kept
        ],
        "kept": [plan.device.address for plan in plans if plan.kept],
        "actions": [action for plan in plans for action in plan.actions()],
        "warnings": [f"{plan.device.address} is left as it is: {plan.kept}" for plan in plans if plan.kept],
    }
    if diff:
        result["diff"] = [
            {
                "before_header": plan.device.address,
                "after_header": plan.device.address,
                "before": _shown(plan.device.num_vfs, plan.device.functions, plan.rule.path, plan.rule.before),
                "after": _shown(number, functions, plan.rule.path, plan.rule.after),
            }
            for plan, (number, functions) in zip(plans, seen)
            if plan.changed
        ]
    return result


def _foreseen(plan: Plan) -> tuple[int | None, list[str] | None]:
    device = plan.device
    return plan.number, foretell(device.address, device.functions, device.offset, device.stride, plan.number or 0)


def _seen(root: str, device: Device) -> tuple[int | None, list[str] | None]:
    number = read_int(below(root, f"{DEVICES}/{device.address}/sriov_numvfs"))
    return number, list(_functions(root, device.address, number))


def _shown(number: int | None, functions: t.Sequence[str] | None, path: str, rule: bytes | None) -> str:
    text = " (none)\n" if rule is None else "\n" + rule.decode("utf-8", "backslashreplace")
    listed = "(unknown)" if functions is None else " ".join(functions) or "(none)"
    return f"sriov_numvfs: {number}\nvirtual functions: {listed}\n{path}:{text}"


class _Doer:
    """Executes plans. All rules are on disk before the first number changes, so that a hang is cured by a reboot."""

    def __init__(self, root: str, timeout: int, move: Move, udevadm: str | None, run: Run) -> None:
        self.root = root
        self.timeout = timeout
        self.move = move
        self.udevadm = udevadm
        self.run = run

    def carry_out(self, plans: t.Sequence[Plan]) -> None:
        for plan in plans:
            self._put(plan.rule)
        for at, plan in enumerate(plans):
            try:
                for number in plan.writes:
                    self._write(plan.device, number)
                self._verify(plan)
            except StuckError:
                raise HostFailure(self._stuck(plan)) from None
            except PassthroughError as error:
                for undone in plans[at:]:
                    self._put(FileChange(undone.rule.path, undone.rule.after, undone.rule.before))
                raise HostFailure(f"{error}; {self._restore(plan.device)}") from error
        if any(plan.writes for plan in plans):
            self._settle()

    def _put(self, change: FileChange) -> None:
        _files.carry_out(replace(change, path=below(self.root, change.path)), self.move)

    def _write(self, device: Device, number: int) -> None:
        path = below(self.root, f"{DEVICES}/{device.address}/sriov_numvfs")
        code, known = _attributes.write(path, str(number), self.timeout, self.run)
        if code:
            reason = _REASONS.get(code, "the kernel's log may tell more").format(driver=device.driver)
            raise HostFailure(f"writing {number} to {path} failed: {known}; {reason}")

    def _verify(self, plan: Plan) -> None:
        device = plan.device
        number, functions = _seen(self.root, device)
        if plan.writes and not number == plan.number == len(functions or ()):
            raise HostFailure(
                f"{device.address} has {len(functions or ())} virtual functions where {device.driver} was asked for"
                f" {plan.number}; the kernel's log may tell more"
            )

    def _settle(self) -> None:
        """Let udev find drivers for the new functions, so that nobody after us has to race it."""
        if self.udevadm:
            try:
                self.run([self.udevadm, "settle", f"--timeout={self.timeout}"], self.timeout + 1)
            except StuckError:
                return

    def _restore(self, device: Device) -> str:
        """Give a device the number that it had, as far as the host lets us, and tell how it is left."""
        address, before = device.address, device.num_vfs or 0
        try:
            for number in _writes(_seen(self.root, device)[0], before):
                self._write(device, number)
        except StuckError:
            return f"{address} could not be given back its {before}, the kernel still holds it; reboot the host"
        except HostFailure as failure:
            return f"{address} had {before} before and cannot be given them back: {failure}"
        return f"{address} has {before}, as before"

    def _stuck(self, plan: Plan) -> str:
        boot = f"{plan.rule.path} is in place" if plan.rule.after is not None else "no rule names it"
        return (
            f"{plan.device.address} is held by the kernel: changing its virtual functions has not ended after"
            f" {self.timeout} s, and cannot be stopped; {boot}. Reboot the host: until then the device is of no use"
        )
