# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which driver has a PCI device, now and at every boot.

look() takes a snapshot, decide() turns it and a request into plans, carry_out() executes them. The kernel's side is
Documentation/ABI/testing/sysfs-bus-pci (driver_override, unbind, drivers_probe), udev's is udev(7).
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import typing as t
from dataclasses import dataclass, field, replace

from . import _attributes, _files
from ._attributes import LOOK_TIMEOUT, Run, StuckError
from ._errors import HostFailure, InvalidInput, PassthroughError, Refused
from ._files import FileChange
from ._host_use import Use, guest_holds, host_uses, is_vfio
from ._initramfs import stale
from ._selectors import parse_address
from ._sysfs import below, link_name, names, read_int, read_text
from ._use import stands_in, sticks

NATIVE = "native"
RULES = "/etc/udev/rules.d"
_PCI = "/sys/bus/pci"
_RULE_NAME = re.compile(r"10-passthrough-([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\.rules\Z")
_DRIVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
IDENTITY = ("vendor", "device", "subsystem_vendor", "subsystem_device")

_REMEDIES = {
    "bridge": "pass on the devices behind it instead",
    "default_route": "choose another device, or move the route to another interface first",
    "session": "choose another device, or reach the host through another interface first",
    "mount": "choose another device, or unmount the file system first",
    "network": "choose another device, or give the host another way to the network first",
    "swap": "choose another device, or switch the swap area off first",
    "volume": "choose another device, or deactivate the volume or array first",
    "guest_disk": "choose another device, or shut those guests down first",
    "keyboard": "choose another device, or plug the keyboard into another controller first",
    "drm": "choose another device, or stop the display manager first",
    "platform": "leave it to the host",
}

Move = t.Callable[[str, str], None]


@dataclass(frozen=True)
class Request:
    """What the user asks for. driver is 'native' to give the devices back to their own."""

    addresses: tuple[str, ...]
    driver: str = "vfio-pci"
    persistent: bool = True
    exclusive: bool = False
    force: frozenset[str] = frozenset()
    timeout: int = 30
    pending: frozenset[str] = frozenset()
    """What check mode takes for let go by its guest, and for existing."""

    @classmethod
    def parse(
        cls,
        addresses: list[str],
        driver: str,
        persistent: bool,
        exclusive: bool,
        force: list[str],
        timeout: int,
        pending: t.Sequence[str] = (),
    ) -> Request:
        """The request with every address in full, or InvalidInput."""
        parsed = [parse_address(address) for address in addresses]
        for at, address in enumerate(parsed):
            if address in parsed[:at]:
                raise InvalidInput(f"{address} is named twice; name each device once")
        if not parsed and not exclusive:
            raise InvalidInput("addresses is empty, which only makes sense together with exclusive: true")
        if not _DRIVER_NAME.match(driver):
            raise InvalidInput(f"{driver!r} is no name of a driver; it is one below {_PCI}/drivers, or 'native'")
        if timeout < 1:
            raise InvalidInput(f"timeout is {timeout}; it is a number of seconds, at least 1")
        forced, coming = (frozenset(map(parse_address, some)) for some in (force, pending))
        return cls(tuple(sorted(parsed)), driver, persistent, exclusive, forced, timeout, coming)


@dataclass(frozen=True)
class Device:
    """What counts of a device. Its identity is None where nothing is at that address (any more)."""

    address: str
    identity: tuple[str, ...] | None
    modalias: str = ""
    driver: str | None = None
    override: str | None = None
    rule: bytes | None = None
    grouped: bool = True
    held: str | None = None
    peer_held: str | None = None

    @property
    def id(self) -> str | None:
        return None if self.identity is None else f"{self.identity[0][2:]}:{self.identity[1][2:]}"


@dataclass(frozen=True)
class Host:
    """What counts of the host: native tells which driver would claim a modalias, loadable whether a module exists."""

    drivers: t.Mapping[str, str | None]
    """Every registered driver, and the module that it came with, if any."""

    uses: t.Mapping[str, list[Use]] = field(default_factory=dict)
    native: t.Callable[[str], str | None] = lambda modalias: None
    loadable: t.Callable[[str], bool] = lambda module: True


@dataclass(frozen=True)
class Step:
    """One thing to do now, as data: load, native, override, unbind or probe, and with what."""

    do: str
    value: str = ""


@dataclass(frozen=True)
class Plan:
    """All that is to be done for one device. driver is None where it goes back to its own."""

    device: Device
    driver: str | None
    rule: FileChange
    steps: tuple[Step, ...]
    predicted: str | None
    kept: str | None = None
    """Why it was to go back, and is left as it is instead."""
    waiting: str = ""
    """Why it goes to the driver at the next boot, by its rule, and not now."""

    @property
    def changed(self) -> bool:
        return self.rule.changed or bool(self.steps)

    def actions(self) -> list[str]:
        """The plan in words."""
        address, done = self.device.address, []
        if self.rule.changed:
            done.append(f"{'remove' if self.rule.after is None else 'write'} {self.rule.path}")
        for step in self.steps:
            done.append(
                {
                    "load": f"load the module {step.value}",
                    "native": f"load the modules that claim {address}",
                    "override": f"set driver_override of {address} to {step.value}"
                    if step.value
                    else f"clear driver_override of {address}",
                    "unbind": f"unbind {address} from {step.value}",
                    "probe": f"let the kernel probe {address}",
                }[step.do]
            )
        return done


# ---------------------------------------------------------------------------------------------------------------------
# The rule


def rule_path(address: str) -> str:
    """Where the rule of a device lies. It sorts before 80-drivers.rules, which loads the native drivers."""
    return f"{RULES}/10-passthrough-{address}.rules"


def rule_text(address: str, identity: t.Sequence[str], driver: str, module: str) -> bytes:
    """The udev rule that keeps a device for a driver, as long as this very card is at that address.

    The override is set at the first event of any PCI device, not only at the device's own: events are handled side by
    side, and another card's may load the native driver first. A modular native driver that has the device already is
    left alone, for its removal may hang the boot; one that is built in (without initstate) came before udev, and goes.
    [subsystem/pci] is /sys/bus/pci (systemd: udev_resolve_subsys_kernel).
    """
    here = f"ATTR{{[pci/{address}]"
    same = same_card(address, identity)
    return f"""\
# {address} belongs to {driver} while it is this card; written by kvm.passthrough.pci_driver, which also removes it.
ACTION=="add", SUBSYSTEM=="pci", {same}, GOTO="found"
GOTO="end"
LABEL="found"
{here}driver_override}}!="{driver}", {here}driver_override}}="{driver}"
KERNEL!="{address}", GOTO="end"
TEST=="driver", DRIVER!="{driver}", TEST!="driver/module/initstate", ATTR{{driver/unbind}}="{address}"
TEST!="driver", IMPORT{{builtin}}="kmod load {module}", ATTR{{[subsystem/pci]drivers_probe}}="{address}"
LABEL="end"
""".encode()


def same_card(address: str, identity: t.Sequence[str]) -> str:
    """The part of a rule that holds only while this very card is at that address."""
    return ", ".join(f'ATTR{{[pci/{address}]{name}}}=="{value}"' for name, value in zip(IDENTITY, identity))


def rule_identity(text: bytes | None) -> tuple[str, ...]:
    """The card that a rule of ours is for."""
    found = dict(re.findall(r'\]([a-z_]+)\}=="(0x[0-9a-f]{4})"', (text or b"").decode("utf-8", "replace")))
    return tuple(found.get(name, "") for name in IDENTITY)


# ---------------------------------------------------------------------------------------------------------------------
# Deciding


def decide(request: Request, devices: list[Device], host: Host) -> list[Plan]:
    """The plans for all devices, named and released; raises before anything is planned that must not be."""
    plans: list[Plan] = []
    for device in devices:
        named = device.address in request.addresses
        if named and request.driver != NATIVE:
            loading = any(step.do == "load" for plan in plans for step in plan.steps)
            plans.append(_bind(request, device, host, loading))
        else:
            plan = _give_back(device, host, named)
            reason = None if named else next(_held(plan), None)
            plans.append(plan if reason is None else _keep(device, reason))
    objections = [message for plan in plans for message in _objections(plan, request, host)]
    if objections:
        raise Refused("\n".join(objections))
    return plans


def _bind(request: Request, device: Device, host: Host, loading: bool) -> Plan:
    driver, steps = request.driver, []
    waiting = sticks(device.driver)
    # The module bears the driver's name, unless the kernel says otherwise; '-' and '_' are the same to it.
    module = host.drivers.get(driver) or driver
    module = driver if module.replace("-", "_") == driver.replace("-", "_") else module
    if device.driver != driver and not waiting:
        if driver not in host.drivers and not loading:
            if not host.loadable(module):
                raise InvalidInput(
                    f"{driver} is neither a registered driver nor a module that the running kernel could load; if the"
                    f" module bears another name than the driver, load it first"
                )
            steps.append(Step("load", module))
        if device.override != driver:
            steps.append(Step("override", driver))
        if device.driver:
            steps.append(Step("unbind", device.driver))
        steps.append(Step("probe"))
    # In check mode a device may be yet to come, and its rule be known when it has.
    identity = device.identity or ("0x????",) * len(IDENTITY)
    text = rule_text(device.address, identity, driver, module) if request.persistent else None
    rule = FileChange(rule_path(device.address), device.rule, text)
    return Plan(device, driver, rule, tuple(steps), device.driver if waiting else driver, waiting=waiting)


def _give_back(device: Device, host: Host, named: bool) -> Plan:
    rule = FileChange(rule_path(device.address), device.rule, None)
    # Another card than the rule's stands in its place: what that one is bound to is not our doing.
    stranger = not named and rule_identity(device.rule) != device.identity
    if device.identity is None or stranger:
        return Plan(device, None, rule, (), device.driver)
    steps = []
    if device.override:
        steps.append(Step("override", ""))
    foreign = stands_in(device.driver or "")
    if foreign:
        steps.append(Step("unbind", str(device.driver)))
    if foreign or (device.driver is None and (device.override or rule.changed)):
        steps += [Step("native"), Step("probe")]
    predicted = host.native(device.modalias) if Step("probe") in steps else device.driver
    return Plan(device, None, rule, tuple(steps), predicted)


def _keep(device: Device, reason: str) -> Plan:
    """The plan that leaves a device, and its rule, alone."""
    return Plan(
        device, None, FileChange(rule_path(device.address), device.rule, device.rule), (), device.driver, reason
    )


def _held(plan: Plan) -> t.Iterator[str]:
    """How running guests stand in the way of a plan; a device whose binding stays as it is gives no cause."""
    device = plan.device
    if plan.steps and device.held:
        yield (
            f"{device.address} is in use by a running guest ({device.held}); shut the guest down, or detach the device"
            f" from it, first"
        )
    if device.peer_held and Step("probe") in plan.steps and not stands_in(plan.driver or ""):
        yield (
            f"{device.address} shares its IOMMU group with {device.peer_held}, which a running guest uses, so that the"
            f" kernel gives it to no driver of the host; shut that guest down first"
        )


def _objections(plan: Plan, request: Request, host: Host) -> t.Iterator[str]:
    """Why a plan must not be carried out."""
    device = plan.device
    yield from _held(plan)
    if plan.driver is None or not (plan.steps or plan.waiting):
        return
    if plan.waiting and not request.persistent:
        yield (
            f"{device.address} is bound to {device.driver}, {plan.waiting}; have it bound at boot instead, with"
            f" persistent: true, and reboot the host"
        )
    if is_vfio(plan.driver) and not device.grouped:
        yield (
            f"{device.address} has no IOMMU group, so that {plan.driver} cannot take it; switch the IOMMU on in the"
            f" firmware (VT-d, AMD-Vi) and the kernel arguments (intel_iommu=on), and reboot"
        )
    uses = host.uses.get(device.address, [])
    if uses and device.address not in request.force:
        remedy = _REMEDIES.get(uses[0].kind, "choose another device")
        # IPv4 and IPv6 may say the same.
        said = " and ".join(dict.fromkeys(use.what for use in uses))
        yield f"{device.address} {said}; {remedy}. If the host can do without it, name it in force"


# ---------------------------------------------------------------------------------------------------------------------
# Looking


def look(root: str, request: Request, run: Run) -> list[Device]:
    """A snapshot of the devices named, and of those to be released because they bear a rule of ours; sorted."""
    existing = names(below(root, f"{_PCI}/devices"))
    for address in request.addresses:
        if address not in existing and address not in request.pending:
            near = difflib.get_close_matches(address, existing, n=4, cutoff=0.0)
            raise InvalidInput(f"{address} is not on this host; near it are {listed(root, near) or 'no PCI devices'}")
    ruled = [found.group(1) for found in map(_RULE_NAME.match, names(below(root, RULES))) if found]
    wanted = sorted({*request.addresses, *(ruled if request.exclusive else ())})
    present = [address for address in wanted if address in existing]
    held = _attributes.read(root, present, "driver_override", run)
    overrides = {address: None if text in ("", "(null)") else text for address, text in held.items()}
    return [_device(root, address, overrides, request.pending) for address in wanted]


def _device(root: str, address: str, overrides: dict[str, str | None], pending: t.Container[str]) -> Device:
    path = below(root, f"{_PCI}/devices/{address}")
    rule = _files.read_file(below(root, rule_path(address)))
    if address not in overrides:
        return Device(address, None, rule=rule)
    peers = [name for name in names(f"{path}/iommu_group/devices") if name != address and name not in pending]
    return Device(
        address=address,
        identity=tuple(read_text(f"{path}/{name}") or "" for name in IDENTITY),
        modalias=read_text(f"{path}/modalias") or "",
        driver=link_name(f"{path}/driver"),
        override=overrides[address],
        rule=rule,
        grouped=_grouped(root, path),
        held=None if address in pending else guest_holds(root, address),
        peer_held=next((peer for peer in peers if guest_holds(root, peer)), None),
    )


def _grouped(root: str, path: str) -> bool:
    unsafe = read_text(below(root, "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"))
    return os.path.exists(f"{path}/iommu_group") or unsafe == "Y"


def listed(root: str, addresses: list[str]) -> str:
    shown = []
    for address in sorted(addresses):
        ids = [(read_text(below(root, f"{_PCI}/devices/{address}/{name}")) or "0x?")[2:] for name in IDENTITY[:2]]
        shown.append(f"{address} ({':'.join(ids)})")
    return ", ".join(shown)


def _drivers(root: str) -> dict[str, str | None]:
    folder = below(root, f"{_PCI}/drivers")
    return {name: link_name(f"{folder}/{name}/module") for name in names(folder)}


def _native(drivers: t.Mapping[str, str | None], modprobe: str, run: Run) -> t.Callable[[str], str | None]:
    """A forecast of the driver that claims a device: a registered one of the modules modprobe names, or the module."""

    def ask(modalias: str) -> str | None:
        try:
            code, output = run([modprobe, "--use-blacklist", "--resolve-alias", modalias], LOOK_TIMEOUT)
        except StuckError:
            return None
        modules = output.split() if code == 0 else []
        for driver, module in drivers.items():
            if (module or driver).replace("-", "_") in modules:
                return driver
        return modules[0] if modules else None

    return ask


# ---------------------------------------------------------------------------------------------------------------------
# Doing


def apply(
    root: str, request: Request, check: bool, diff: bool, move: Move, modprobe: str, session: str | None, run: Run
) -> dict[str, t.Any]:
    """Look, decide, carry out unless it is only a check, and tell what has become of it."""
    request = request if check else replace(request, pending=frozenset())
    devices = look(root, request, run)
    drivers = _drivers(root)

    def loadable(module: str) -> bool:
        return run([modprobe, "--dry-run", "--quiet", module], LOOK_TIMEOUT)[0] == 0

    host = Host(drivers, host_uses(root, session), _native(drivers, modprobe, run), loadable)
    plans = decide(request, devices, host)
    if not check:
        _Doer(root, request.timeout, move, modprobe, run).carry_out(plans)
    return _result(root, request, plans, check, diff)


def _result(root: str, request: Request, plans: list[Plan], check: bool, diff: bool) -> dict[str, t.Any]:
    drivers = [plan.predicted if check else _driver(root, plan.device.address) for plan in plans]
    changed = any(plan.changed for plan in plans)
    outdated = stale(root, [RULES, *(plan.rule.path for plan in plans)])
    result: dict[str, t.Any] = {
        "changed": changed,
        "devices": [
            {
                "address": plan.device.address,
                "id": plan.device.id,
                "before": plan.device.driver,
                "driver": driver,
                "persistent": plan.rule.after is not None,
                "rule": None if plan.rule.after is None else plan.rule.path,
            }
            for plan, driver in zip(plans, drivers)
        ],
        "released": [
            plan.device.address for plan in plans if plan.device.address not in request.addresses and not plan.kept
        ],
        "kept": [plan.device.address for plan in plans if plan.kept],
        "waiting": [plan.device.address for plan in plans if plan.waiting],
        "actions": [action for plan in plans for action in plan.actions()],
        # A rule that is yet to be written will be newer than every image.
        "initramfs_stale": True if outdated is False and any(plan.rule.changed for plan in plans) else outdated,
        "warnings": [f"{plan.device.address} is left as it is: {plan.kept}" for plan in plans if plan.kept]
        + [
            f"{plan.device.address} goes to {plan.driver} at the next boot: it is bound to {plan.device.driver},"
            f" {plan.waiting}"
            for plan in plans
            if plan.waiting
        ]
        + [
            f"no driver claims {plan.device.address} ({plan.device.id}): its modules are blacklisted, not installed, or"
            f" there are none"
            for plan, driver in zip(plans, drivers)
            if plan.driver is None and plan.steps and driver is None and not check
        ],
    }
    if diff:
        result["diff"] = [_difference(plan, driver) for plan, driver in zip(plans, drivers) if plan.changed]
    return result


def _difference(plan: Plan, driver: str | None) -> dict[str, str]:
    device, override = plan.device, plan.device.override
    for step in plan.steps:
        override = (step.value or None) if step.do == "override" else override
    return {
        "before_header": device.address,
        "after_header": device.address,
        "before": _shown(device.driver, device.override, plan.rule.path, plan.rule.before),
        "after": _shown(driver, override, plan.rule.path, plan.rule.after),
    }


def _shown(driver: str | None, override: str | None, path: str, rule: bytes | None) -> str:
    text = " (none)\n" if rule is None else "\n" + rule.decode("utf-8", "backslashreplace")
    return f"driver: {driver or '(none)'}\ndriver_override: {override or '(null)'}\n{path}:{text}"


def _driver(root: str, address: str) -> str | None:
    return link_name(below(root, f"{_PCI}/devices/{address}/driver"))


class _Doer:
    """Executes plans. All rules are on disk before the first binding changes, so that a hang is cured by a reboot."""

    def __init__(self, root: str, timeout: float, move: Move, modprobe: str, run: Run) -> None:
        self.root = root
        self.timeout = timeout
        self.move = move
        self.modprobe = modprobe
        self.run = run

    def carry_out(self, plans: list[Plan]) -> None:
        for plan in plans:
            self._put(plan.rule)
        for at, plan in enumerate(plans):
            done: list[Step] = []
            try:
                for step in plan.steps:
                    done.append(step)
                    self._do(plan, step)
                self._verify(plan)
            except StuckError as stuck:
                raise HostFailure(self._stuck(plan, str(stuck))) from None
            except PassthroughError as error:
                for undone in plans[at:]:
                    self._put(FileChange(undone.rule.path, undone.rule.after, undone.rule.before))
                raise HostFailure(f"{error}; {self._restore(plan, done)}") from error

    def _put(self, change: FileChange) -> None:
        placed = FileChange(below(self.root, change.path), change.before, change.after)
        _files.carry_out(placed, self.move)

    def _do(self, plan: Plan, step: Step) -> None:
        device = f"{_PCI}/devices/{plan.device.address}"
        if step.do == "load":
            code, output = self._bounded([self.modprobe, step.value], f"modprobe {step.value}")
            if plan.driver not in _drivers(self.root):
                raise HostFailure(
                    f"modprobe {step.value} ended with {code} and brought no driver {plan.driver}: {output.strip()}"
                )
        elif step.do == "native":
            # As udev does it, so that a blacklist counts; that no module claims the device is no fault.
            self._bounded([self.modprobe, "--use-blacklist", "--quiet", plan.device.modalias], "loading its driver")
        elif step.do == "override":
            self._write(f"{device}/driver_override", step.value or "\n", "setting its driver_override")
        elif step.do == "unbind":
            # ENODEV: it was unbound meanwhile.
            unbind, what = f"{_PCI}/drivers/{step.value}/unbind", f"unbinding it from {step.value}"
            self._write(unbind, plan.device.address, what, {errno.ENODEV})
        else:
            # What counts is read afterwards, but EBUSY says that a guest still has the IOMMU group (pci_dma_configure).
            ignore = {errno.ENODEV, errno.EINVAL}
            self._write(f"{_PCI}/drivers_probe", plan.device.address, "probing it", ignore)

    def _verify(self, plan: Plan) -> None:
        address = plan.device.address
        driver = _driver(self.root, address)
        if plan.driver is None:
            if plan.steps and stands_in(driver or ""):
                raise HostFailure(
                    f"{driver} claims {address} again; look for its id in 'options {driver} ids=' below /etc/modprobe.d"
                    f" and in the kernel arguments"
                )
            return
        if driver == plan.driver or not plan.steps:
            return
        # Unlike drivers_probe, bind hands on what the driver's probe answered.
        try:
            self._write(f"{_PCI}/drivers/{plan.driver}/bind", address, "probing it")
            reason = "it gave no reason"
        except HostFailure as refusal:
            reason = str(refusal)
        if _driver(self.root, address) != plan.driver:
            raise HostFailure(f"{plan.driver} did not take {address}: {self._why(plan, reason)}")

    def _why(self, plan: Plan, reason: str) -> str:
        path = below(self.root, f"{_PCI}/devices/{plan.device.address}")
        if read_int(f"{path}/sriov_numvfs"):
            return f"its virtual functions are in the way, write 0 to {path}/sriov_numvfs first ({reason})"
        if os.path.exists(f"{path}/secondary_bus_number"):
            return f"it is a bridge, and only endpoints can be passed on ({reason})"
        return f"{reason}; the kernel's log may tell more, such as that the device is on the driver's denylist"

    def _restore(self, plan: Plan, done: list[Step]) -> str:
        """Undo what was done to a device, as far as the host lets us, and tell how it is left."""
        device, address = plan.device, plan.device.address
        every = set(errno.errorcode)
        try:
            if any(step.do == "override" for step in done):
                self._write(f"{_PCI}/devices/{address}/driver_override", device.override or "\n", "", every)
            if _driver(self.root, address) != device.driver:
                self._write(f"{_PCI}/drivers_probe", address, "", every)
        except StuckError:
            return f"{address} could not be given back, the kernel still holds it; reboot the host"
        left = _driver(self.root, address)
        if left == device.driver:
            return f"{address} has {left or 'no driver'}, as before"
        return f"{address} is left with {left or 'no driver'}, where it had {device.driver or 'none'} before"

    def _stuck(self, plan: Plan, what: str) -> str:
        rule = plan.rule.path if plan.rule.after is not None else None
        boot = f"{rule} is in place and gives it to {plan.driver} at the next boot" if rule else "no rule names it"
        return (
            f"{plan.device.address} is held by the kernel: {what} has not ended after {self.timeout} s, and cannot be"
            f" stopped; {boot}. Reboot the host: until then the device is of no use to host or guest"
        )

    def _write(self, path: str, value: str, what: str, ignore: t.Container[int] = ()) -> None:
        path = below(self.root, path)
        try:
            code, known = _attributes.write(path, value, self.timeout, self.run)
        except StuckError:
            raise StuckError(what) from None
        if code and code not in ignore:
            if code == errno.EBUSY and path.endswith("/drivers_probe"):
                known += "; its IOMMU group is still in the hands of a guest, shut that down first"
            raise HostFailure(f"writing {value.strip() or 'nothing'} to {path} failed: {known}")

    def _bounded(self, argv: list[str], what: str) -> tuple[int, str]:
        try:
            return self.run(argv, self.timeout)
        except StuckError:
            raise StuckError(what) from None
