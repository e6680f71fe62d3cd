# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gives PCI devices to a libvirt guest and takes them back, by the stable API alone.

The module libvirt (python3-libvirt) is handed in, since only some hosts have it. What counts is always the XML read
afterwards: libvirt waits a few seconds for the guest to release a device, and calls it a success if it has not
(src/qemu/qemu_hotplug.c: qemuDomainDetachDeviceLive). It drops the device from the live XML once QEMU has.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ._errors import HostFailure, InvalidInput
from ._hostdev import (
    LIVE,
    PERSISTENT,
    Definition,
    Guest,
    Plan,
    Request,
    Step,
    decide,
    read_host,
    refuse,
    result,
)

_POLL = 1  # second
# QEMU, of a device that it was asked for before: the guest has yet to answer. It drops a request that came before the
# guest's kernel was up, so that one has to ask again (hw/acpi/pcihp.c, hw/pci/pcie.c).
_PENDING = ("already in the process of unplug", "guest is busy")


class Clock(t.Protocol):
    """What is used of the module time."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


def apply(
    libvirt: t.Any,
    uri: str,
    request: Request,
    root: str,
    session: str | None,
    check: bool,
    diff: bool,
    clock: Clock = time,
) -> dict[str, t.Any]:
    """Look, decide, carry out unless it is only a check, and tell what has become of it."""
    # Otherwise it prints what it raises as well.
    libvirt.registerErrorHandler(lambda context, error: None, None)
    with _told(libvirt, f"connect to {uri} (is virtqemud or libvirtd installed and enabled?)"):
        connection = libvirt.open(uri)
    try:
        domain = Domain(libvirt, connection, request.guest, request.timeout, clock)
        pending = request.pending if check else ()
        before = domain.look().without({*pending} - {*request.addresses})
        plan = decide(request, before)
        wanted = sorted({*plan.attached(LIVE), *plan.attached(PERSISTENT)})
        holders = domain.holders() if wanted else {}
        holders = {address: holder for address, holder in holders.items() if address not in pending}
        refuse(request, before, plan, read_host(root, wanted, request.managed, session, pending), holders)
        if check or not plan.steps:
            after = before.after(plan.steps)
        else:
            domain.carry_out(plan)
            after = domain.look()
        return result(request, before, after, plan, diff)
    finally:
        connection.close()


class Domain:
    """A guest, and the others beside it."""

    def __init__(self, libvirt: t.Any, connection: t.Any, name: str, timeout: int, clock: Clock) -> None:
        self.name = name
        self._libvirt = libvirt
        self._timeout = timeout
        self._clock = clock
        with _told(libvirt, "list the guests"):
            self._domains = {domain.name(): domain for domain in connection.listAllDomains()}
        if name not in self._domains:
            there = ", ".join(sorted(self._domains)) or "none at all"
            raise InvalidInput(f"there is no guest {name} on this host; there are: {there}")
        self._domain = self._domains[name]

    def look(self) -> Guest:
        """The guest as it is now."""
        with _told(self._libvirt, f"describe {self.name}"):
            return self._look(self._domain)

    def holders(self) -> dict[str, str]:
        """Who else has a device of the host, by its address: 'the running guest fax2'."""
        found: dict[str, str] = {}
        for name, domain in sorted(self._domains.items()):
            # A guest that vanishes meanwhile holds nothing.
            with contextlib.suppress(self._libvirt.libvirtError):
                if name != self.name:
                    other = self._look(domain)
                    for address in other.addresses():
                        live = other.has(address, LIVE) is not None
                        found[address] = f"the {'running guest' if live else 'persistent definition of guest'} {name}"
        return found

    def carry_out(self, plan: Plan) -> None:
        """Do it all, or what can be taken back of it not at all.

        What a guest has let go of stays away even if it keeps another device: the next run asks for the rest.
        """
        for step in plan.leaving:
            if step.which == PERSISTENT:
                self._do(step)
        self._release([step for step in plan.leaving if step.which == LIVE])
        done = list(plan.leaving)
        try:
            for step in plan.coming:
                done.append(step)
                self._do(step)
        except HostFailure as error:
            raise HostFailure(f"{error}; {self._undo(done)}") from error

    def _look(self, domain: t.Any) -> Guest:
        live = Definition.parse(domain.XMLDesc(0)) if domain.isActive() else None
        inactive = self._libvirt.VIR_DOMAIN_XML_INACTIVE
        return Guest(
            name=domain.name(),
            live=live,
            persistent=Definition.parse(domain.XMLDesc(inactive)) if domain.isPersistent() else None,
        )

    def _do(self, step: Step) -> None:
        """Have libvirt do it, and wait until it is so: a device in a running guest has its place among the others."""
        self._change(step)
        deadline = self._clock.monotonic() + self._timeout
        while not self._is_done(step):
            if self._clock.monotonic() >= deadline:
                raise HostFailure(
                    f"libvirt took the request to {step.action(self.name)}, but has not done it after {self._timeout} s"
                )
            self._clock.sleep(_POLL)

    def _change(self, step: Step) -> None:
        """Ask libvirt for one change of one definition."""
        live = step.which == LIVE
        flags = self._libvirt.VIR_DOMAIN_AFFECT_LIVE if live else self._libvirt.VIR_DOMAIN_AFFECT_CONFIG
        call = self._domain.attachDeviceFlags if step.attach else self._domain.detachDeviceFlags
        with _told(self._libvirt, step.action(self.name)):
            call(step.device.xml, flags)

    def _is_done(self, step: Step) -> bool:
        found = self.look().has(step.device.address, step.which)
        if not step.attach:
            return found is None
        return found is not None and (step.which == PERSISTENT or found.guest_address is not None)

    def _release(self, steps: t.Iterable[Step]) -> None:
        """Ask the running guest to let go of devices until it has, at most for so long."""
        deadline = self._clock.monotonic() + self._timeout
        waiting = list(steps)
        refusals: dict[str, str] = {}
        while waiting:
            for step in waiting:
                if step.device.address not in refusals:
                    self._ask(step, refusals)
            guest = self.look()
            waiting = [step for step in waiting if guest.has(step.device.address, LIVE)]
            refused = all(step.device.address in refusals for step in waiting)
            if waiting and (refused or self._clock.monotonic() >= deadline):
                raise HostFailure(self._kept(guest, [step.device.address for step in waiting], refusals))
            if waiting:
                self._clock.sleep(_POLL)

    def _ask(self, step: Step, refusals: dict[str, str]) -> None:
        try:
            self._change(step)
        except HostFailure as error:
            if not any(pending in str(error) for pending in _PENDING):
                refusals[step.device.address] = str(error)

    def _kept(self, guest: Guest, addresses: list[str], refusals: t.Mapping[str, str]) -> str:
        """What to say of devices that the guest did not release."""
        said = [refusals[address] for address in addresses if address in refusals]
        silent = [address for address in addresses if address not in refusals]
        if silent:
            paused = self._domain.state()[0] == self._libvirt.VIR_DOMAIN_PAUSED
            why = "it is paused; resume it" if paused else "its kernel must be up and support hot-plug"
            said.append(f"{self.name} has not released {', '.join(silent)} after {self._timeout} s: {why}")
        off = [address for address in addresses if not guest.has(address, PERSISTENT)]
        if off and guest.persistent:
            said.append(f"the persistent definition is without {', '.join(off)}, so that a shutdown frees it as well")
        return "; ".join([*said, "run this again to ask once more"])

    def _undo(self, done: list[Step]) -> str:
        """Take back what was done, the last first, and tell how the guest is left."""
        left = []
        for step in reversed(done):
            back = step.inverse()
            guest = self.look()
            if (guest.has(step.device.address, step.which) is not None) == back.attach:
                continue
            try:
                if back.which == LIVE and not back.attach:
                    self._release([back])
                else:
                    self._change(back)
            except HostFailure as error:
                left.append(str(error))
        if left:
            return f"not all that was done before could be taken back: {'; '.join(left)}"
        return f"{self.name} has the devices that it had before"


@contextlib.contextmanager
def _told(libvirt: t.Any, what: str) -> t.Iterator[None]:
    """Say what libvirt did not do, and its reason."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise HostFailure(f"libvirt did not {what}: {error}") from error
