# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a fleet: who is promised which devices of a host, and what is wrong with that.

Used on the controller, with what passthrough_info found on each host. A plan with faults is not carried out. A fault is
a plain sentence that begins with the name that the inventory has for the host.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ._blacklist import leaving_modules
from ._check import BLOCKER
from ._errors import InvalidInput
from ._leaving import items
from ._selectors import Selector, narrow, parse_address, parse_selectors, select
from ._use import is_vfio
from ._verdict import DEVICE_CHECKS

Device = t.Mapping[str, t.Any]
Finding = t.Mapping[str, t.Any]
Verdict = t.Mapping[str, t.Any]
"""What passthrough_info returns with facts; or, where it could not, the unreachable, failed and msg of its task."""

# The device is open. Who has it must let go of it, and force does not help.
_HELD = frozenset(("guest_running", "guest_holds"))
_FORCED = frozenset(check.id for check in DEVICE_CHECKS if check.in_use) - _HELD


@dataclass(frozen=True)
class Wish:
    """What is wanted of a host."""

    selectors: t.Any
    """As the inventory has them."""

    guest: str | None = None
    """The inventory's name of the guest that wants it; None where the host itself is told to let go of it."""

    name: str | None = None
    """The guest's name in libvirt."""

    fault: str | None = None
    """Why the selectors cannot be read."""

    mac: str | None = None
    """The guest's MAC, where the inventory says it."""

    disks: t.Sequence[str] = ()
    """Paths of the guest's disks, where the inventory says them."""

    source: str | None = None
    """Where the selectors stand, if not in a variable of the inventory."""

    @property
    def variable(self) -> str:
        named = f"kvm_guest_pci_devices of {self.guest}" if self.guest else "kvm_host_pci_devices"
        return self.source or named


@dataclass(frozen=True)
class Fault:
    """What is wrong, and with which guests of the inventory; none where it is wrong with the host."""

    text: str
    guests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What leaves a host and who gets it, as far as the faults allow to say."""

    faults: t.Sequence[Fault]
    leaving: t.Sequence[Device] = ()
    """Entries of pci_devices, in their order."""

    guests: t.Mapping[str, t.Sequence[str]] | None = None
    """By guest the addresses of its devices, in the order of its selectors."""


@dataclass(frozen=True)
class HostRelease:
    """What a run releases of a host."""

    guests: t.Sequence[str]
    """The names in libvirt of the guests that go."""

    keep: t.Sequence[t.Any]
    """The selectors of the guests that stay."""


@dataclass(frozen=True)
class _Choice:
    """A device that a selector of a wish has matched."""

    wish: Wish
    selector: Selector
    device: Device

    @property
    def address(self) -> str:
        return str(self.device["address"])

    @property
    def guests(self) -> tuple[str, ...]:
        return (self.wish.guest,) if self.wish.guest else ()


def make_plan(
    host: str,
    verdict: Verdict,
    own: t.Any,
    wishes: t.Sequence[Wish],
    force: t.Any = (),
    letting_go: t.Container[str] = (),
) -> Plan:
    """The plan for a host; own is its kvm_host_pci_devices, force its kvm_host_force.

    Where own is what the guests wish, one after the other, it was derived from them; else it stands for itself. The
    guests of letting_go, by their inventory names, let go of what they do not wish before anybody else gets it. A guest
    may have several wishes.
    """
    if "devices" not in verdict:
        ended = "is unreachable" if verdict.get("unreachable") else "cannot be judged"
        return Plan([Fault(f"{host} {ended}: {verdict.get('msg', 'no reason given')}")])
    derived = items(own) == [raw for wish in wishes for raw in items(wish.selectors)]
    planner = _Planner(host, verdict, wishes, letting_go)
    planner.find_same()
    promised = [choice for wish in wishes for choice in planner.choose(wish)]
    let_go = promised if derived else planner.choose(Wish(own))
    if items(own):
        planner.hold_host()
    if not derived:
        planner.compare(promised, let_go)
    planner.find_double(promised)
    planner.find_split(promised)
    planner.hold_devices([*promised, *let_go], planner.forced(force))
    gone = {choice.address for choice in let_go}
    guests = {
        wish.guest: list(dict.fromkeys(choice.address for choice in promised if choice.wish.guest == wish.guest))
        for wish in wishes
        if wish.guest is not None
    }
    return Plan(planner.faults, [device for device in planner.devices if device["address"] in gone], guests)


def release(
    wishes: t.Mapping[str, t.Sequence[Wish]], run: t.Sequence[str], hosts: t.Sequence[str], guests: t.Sequence[str]
) -> tuple[list[str], dict[str, HostRelease]]:
    """What a run that is limited to some hosts and guests releases: what is wrong with that, and by host what goes.

    wishes are those of all hosts. run are the inventory names in the run, hosts and guests those of the groups
    kvm_hosts and kvm_guests. A guest gives its devices to its host, and the host gives back what nobody else has: both
    must be in the run. A host none of whose guests stays gives back everything.
    """
    faults, plans = [], {}
    placed = {wish.guest: host for host, some in wishes.items() for wish in some}
    for guest in (name for name in run if name in guests and placed.get(name) not in hosts):
        faults.append(
            f"{guest}: kvm_guest_host is {placed.get(guest, 'not set')}; it must be the inventory name of its"
            " hypervisor, a host of the group kvm_hosts"
        )
    for host in hosts:
        known = [wish for wish in wishes.get(host, ()) if wish.guest in guests]
        going = [wish for wish in known if wish.guest in run]
        staying = [wish for wish in known if wish.guest not in run]
        if host in run and staying and not going:
            names = [str(wish.guest) for wish in known]
            faults.append(
                f"{host} has the guests {', '.join(names)}, which are not in this run. To release the host and all of"
                f" them: --limit '{','.join([host, *names])}'"
            )
        elif going and host not in run:
            names = [str(wish.guest) for wish in going]
            faults.append(
                f"{', '.join(names)}: the hypervisor {host}, which gets the devices back, is not in this run. To"
                f" release what {'it has' if len(names) == 1 else 'they have'}: --limit '{','.join([*names, host])}'"
            )
        elif host in run:
            keep = [raw for wish in staying for raw in items(wish.selectors)]
            plans[host] = HostRelease([str(wish.name) for wish in going], keep)
    return faults, plans


def staying(verdict: Verdict, keep: t.Any, released: t.Container[str]) -> dict[str, t.Any]:
    """What of a host stays where some of its guests are released; keep are the selectors of the others.

    verdict is that of passthrough_info, with facts; released are libvirt's names. A selector that matches more than its
    count keeps all of that, and one that cannot be read nothing. Returns

    - addresses: of the devices that stay with guests and are bound for that,
    - modules: of which the blacklist entry is still needed,
    - functions: [{address, num_vfs}], the devices whose virtual functions stay,
    - pending: addresses of what the released guests have.
    """
    devices = verdict["ansible_facts"]["pci_devices"]
    kept = {device["address"] for raw in items(keep) for device in _loosely(devices, raw)}
    stay = [device for device in devices if device["address"] in kept]
    parents = {str((device.get("sriov") or {}).get("physical_function")) for device in stay}
    return {
        "addresses": [device["address"] for device in stay if is_vfio(device["driver"] or "")],
        "modules": leaving_modules(devices, [device for device in stay if not _is_function(device)])["blacklist"],
        "functions": [
            {"address": device["address"], "num_vfs": device["sriov"]["num_vfs"]}
            for device in devices
            if device["address"] in parents
        ],
        "pending": sorted(
            {
                address
                for guest in verdict["guests"]
                if guest["name"] in released
                for address in guest["devices"]
                if address not in kept
            }
        ),
    }


def _loosely(devices: t.Sequence[Device], raw: t.Any) -> list[Device]:
    try:
        return narrow(devices, parse_selectors([raw]), loosely=True)
    except InvalidInput:
        return []


def _is_function(device: Device) -> bool:
    """Whether it is a virtual function."""
    return (device.get("sriov") or {}).get("physical_function") is not None


def refusal(
    faults: t.Mapping[str, t.Sequence[str]],
    guests: t.Mapping[str, str],
    limit: str | None,
    untouched: str = "nothing was changed",
) -> str:
    """All faults in one message, by host and guest, with what has not been done; empty where there are none.

    guests are those of this run, with their hosts. limit is what the run was limited to: the message tells how to go on
    with the others, without whom the faults are about and without the guests of such hosts.
    """
    lines = list(dict.fromkeys(_line(fault) for some in faults.values() for fault in some))
    if not lines:
        return ""
    bad = [name for name, some in faults.items() if some]
    bad += [guest for guest, host in guests.items() if host in bad and guest not in bad]
    message = [f"{len(lines)} fault{'s' if len(lines) > 1 else ''} in the plan, {untouched}:"]
    message += [f"- {line}" for line in lines]
    if set(bad) != set(faults):
        # Commas divide names that hold colons, as IPv6 addresses do, but a pattern is divided by one of both only.
        divider = ":" if ":" in (limit or "") and "," not in (limit or "") else ","
        left_out = divider.join([limit or "all", *(f"!{name}" for name in bad)])
        message.append(f"The others can go on without them: --limit '{left_out}'")
    return "\n".join(message)


def _line(fault: str) -> str:
    """A fault on one line, without the words with which Ansible begins a message that it passes on."""
    return " ".join(fault.split()).replace(": Task failed: ", ": ", 1)


class _Planner:
    """Looks for what is wrong on one host, and gathers it."""

    def __init__(self, host: str, verdict: Verdict, wishes: t.Sequence[Wish], letting_go: t.Container[str]) -> None:
        self.host = host
        self.verdict = verdict
        self.wishes = wishes
        self.letting_go = letting_go
        self.devices: t.Sequence[Device] = verdict["ansible_facts"]["pci_devices"]
        self.faults: list[Fault] = []

    def say(self, text: str, *guests: str) -> None:
        self.faults.append(Fault(f"{self.host}: {text}", guests))

    def choose(self, wish: Wish) -> list[_Choice]:
        """What each selector matches; a fault of one does not hide those of the others."""
        chosen: dict[str, _Choice] = {}
        guests = (wish.guest,) if wish.guest else ()
        if wish.fault:
            self.say(f"{wish.variable}: {wish.fault}", *guests)
        for raw in items(wish.selectors):
            try:
                found = [
                    _Choice(wish, selector, d)
                    for selector in parse_selectors([raw])
                    for d in select(self.devices, [selector])
                ]
            except InvalidInput as error:
                self.say(f"{wish.variable}: {error}", *guests)
                continue
            for choice in found:
                first = chosen.setdefault(choice.address, choice)
                if first is not choice:
                    self.say(
                        f"{wish.variable}: selectors {first.selector.written} and {choice.selector.written} both match"
                        f" {choice.address}. Remove one of them, or add a key that tells their devices apart",
                        *guests,
                    )
        return list(chosen.values())

    def forced(self, force: t.Any) -> frozenset[str]:
        """The addresses in kvm_host_force."""
        addresses = set()
        for raw in items(force):
            try:
                addresses.add(parse_address(raw))
            except InvalidInput as error:
                self.say(f"kvm_host_force: {error}")
        return frozenset(addresses)

    def find_same(self) -> None:
        """What no two guests of a host can share."""
        same: dict[tuple[str, str], list[str]] = {}
        for wish in self.wishes:
            if wish.guest is not None and wish.source is None:
                marks = [("kvm_guest_name", wish.name), ("kvm_guest_mac", (wish.mac or "").lower())]
                for what, value in [*marks, *(("disk", path) for path in wish.disks)]:
                    if value and wish.guest not in same.setdefault((what, value), []):
                        same[what, value].append(wish.guest)
        for (what, value), guests in same.items():
            if len(guests) > 1:
                self.say(f"{' and '.join(guests)} have the same {what}, {value}. Give each its own", *guests)

    def hold_host(self) -> None:
        """What stands in the way of any device."""
        for finding in self.verdict["host"]["findings"]:
            if _blocks(finding):
                self.say(_told(finding))

    def compare(self, promised: t.Sequence[_Choice], let_go: t.Sequence[_Choice]) -> None:
        """Whether all that is promised leaves, where the list of what leaves was written by hand."""
        gone = {choice.address for choice in let_go}
        for choice in promised:
            if choice.address not in gone:
                self.say(
                    f"{choice.wish.variable} names {choice.address}, which kvm_host_pci_devices does not let go. Add it"
                    " there, or leave kvm_host_pci_devices to follow from the guests",
                    *choice.guests,
                )

    def find_double(self, promised: t.Sequence[_Choice]) -> None:
        for address, choices in _grouped(promised, lambda choice: choice.address).items():
            if len({choice.wish.guest for choice in choices}) > 1:
                takers = " and ".join(f"{choice.wish.variable} ({choice.selector.written})" for choice in choices)
                self.say(
                    f"{address} is promised {'twice' if len(choices) == 2 else f'{len(choices)} times'}, by {takers}."
                    " Only one guest can have it",
                    *(guest for choice in choices for guest in choice.guests),
                )

    def find_split(self, promised: t.Sequence[_Choice]) -> None:
        """A group is opened by one guest alone (drivers/vfio/group.c), whatever the drivers of its devices."""
        addresses = _grouped(promised, lambda choice: choice.address)
        single = [some[0] for some in addresses.values() if len({choice.wish.guest for choice in some}) == 1]
        for group, choices in _grouped(single, lambda choice: choice.device.get("iommu_group")).items():
            takers = _grouped(choices, lambda choice: str(choice.wish.guest))
            if group is not None and len(takers) > 1:
                parts = [f"{guest} ({', '.join(choice.address for choice in some)})" for guest, some in takers.items()]
                self.say(
                    f"IOMMU group {group} is split between {' and '.join(parts)}. Promise all of it to one of them, or"
                    " put the cards into slots whose groups are their own",
                    *takers,
                )

    def hold_devices(self, choices: t.Sequence[_Choice], forced: frozenset[str]) -> None:
        """What stands in the way of each device; a promise goes before the host's own list."""
        first = {address: some[0] for address, some in _grouped(choices, lambda choice: choice.address).items()}
        findings = {device["address"]: device["findings"] for device in self.verdict["devices"]}
        for address, choice in first.items():
            for finding in findings.get(address, ()):
                if self._blocks(finding, choice, forced):
                    hint = self._hint(choice) if finding["check"] in _HELD else ""
                    self.say(f"{choice.wish.variable}: {_told(finding)}{hint}", *choice.guests)

    def _blocks(self, finding: Finding, choice: _Choice, forced: frozenset[str]) -> bool:
        if finding["check"] in _FORCED and choice.address in forced:
            return False
        if finding["check"] in _HELD:
            # A guest that has what it is promised, one that lets go of it before, or a guest of somebody else's that
            # has what was let go for it.
            holders = self._holders(choice)
            gives = {str(wish.name) for wish in self.wishes if wish.guest in self.letting_go}
            free = bool(holders) and all(name == choice.wish.name or name in gives for name in holders)
            return choice.wish.guest is not None and not free
        return _blocks(finding)

    def _holders(self, choice: _Choice) -> list[str]:
        """The libvirt names of the running guests that have the device."""
        return [
            guest["name"] for guest in self.verdict["guests"] if guest["running"] and choice.address in guest["devices"]
        ]

    def _hint(self, choice: _Choice) -> str:
        """How guests of the inventory come to let go of what it does not give them."""
        holders = self._holders(choice)
        others = [wish for wish in self.wishes if wish.name in holders and wish.guest != choice.wish.guest]
        guests = dict.fromkeys(str(wish.guest) for wish in others if wish.guest not in self.letting_go)
        names = " and ".join(guests)
        return f"; or have {names} in the run of deploy (--limit), which lets go first" if names else ""


_T = t.TypeVar("_T")
_Key = t.TypeVar("_Key")


def _grouped(items: t.Iterable[_T], key: t.Callable[[_T], _Key]) -> dict[_Key, list[_T]]:
    groups: dict[_Key, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _blocks(finding: Finding) -> bool:
    """Whether a finding is an obstacle that prepare does not remove by itself."""
    return finding["severity"] == BLOCKER and not finding["repaired_by"]


def _told(finding: Finding) -> str:
    return f"{finding['message']}. {finding['remedy']}"
