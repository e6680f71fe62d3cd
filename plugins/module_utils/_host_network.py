# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's network interfaces: which of them it is reached by, and which merely have work to do."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import typing as t
from dataclasses import dataclass

from ._pci import Device
from ._sysfs import below, names, read_text
from ._use import DEVICES, Found, Use, addresses, listed, place, stands_in, whole

_NET = "/sys/class/net"
# include/uapi/linux/route.h: the route is usable, leads through a gateway, and does not say "unreachable".
_RTF_UP, _RTF_GATEWAY, _RTF_REJECT = 0x1, 0x2, 0x200

Interfaces = t.Mapping[str, t.FrozenSet[str]]
"""By name, what the interface's folder below /sys/class/net holds: device, bridge, tun_flags, lower_eth0, upper_br0."""


@dataclass(frozen=True)
class _Route:
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    interface: str
    flags: int
    evidence: str


def uses(root: str, session: str | None) -> Found:
    """Interfaces that carry a default route, or the route back to whom the session comes from.

    A host without default route is reached through its own networks; if one card carries all of them, it is that card.
    """
    interfaces = _interfaces(root)
    routes = [*_ipv4_routes(root), *_ipv6_routes(root)]
    defaults = [route for route in routes if route.network.prefixlen == 0]
    for route in defaults:
        use = Use("default_route", f"carries the default route ({route.interface})", route.evidence)
        yield from _all_below(root, interfaces, route.interface, use)
    for route in _way_to(session, routes):
        use = Use("session", f"carries the session from {session} ({route.interface})", route.evidence)
        yield from _all_below(root, interfaces, route.interface, use)
    if not defaults:
        yield from _only_network(root, interfaces, routes)


def soft_uses(root: str, devices: t.Sequence[Device]) -> Found:
    """Interfaces with a link, those that connect guests, and network cards whose interface is not to be seen."""
    interfaces = _interfaces(root)
    yield from _links(root, interfaces)
    yield from _of_guests(root, interfaces)
    yield from _unseen(root, interfaces, devices)


def _interfaces(root: str) -> Interfaces:
    return {name: frozenset(names(below(root, f"{_NET}/{name}"))) for name in names(below(root, _NET))}


def _way_to(session: str | None, routes: list[_Route]) -> list[_Route]:
    """The routes with the longest prefix that lead to an address."""
    try:
        target = ipaddress.ip_address((session or "").partition("%")[0])
    except ValueError:
        return []
    if isinstance(target, ipaddress.IPv6Address) and target.ipv4_mapped:
        target = target.ipv4_mapped
    leading = [route for route in routes if route.network.version == target.version and target in route.network]
    longest = max((route.network.prefixlen for route in leading), default=0)
    return [route for route in leading if route.network.prefixlen == longest > 0]


def _only_network(root: str, interfaces: Interfaces, routes: list[_Route]) -> Found:
    """The card under every interface that has an address beyond its link, which its network's own route tells."""
    cards: dict[str, frozenset[str]] = {}
    first: dict[str, _Route] = {}
    for route in routes:
        if route.flags & _RTF_GATEWAY or route.network.is_link_local or route.network.is_multicast:
            continue
        beneath = frozenset(name for name in _below(root, interfaces, route.interface) if _physical(interfaces, name))
        if beneath:
            cards[route.interface] = beneath
            first.setdefault(route.interface, route)
    if len(set(cards.values())) == 1:
        what = f"carries the only network of the host ({listed(list(first))})"
        use = Use("network", what, list(first.values())[0].evidence)
        for name in first:
            yield from _all_below(root, interfaces, name, use)


def _ipv4_routes(root: str) -> t.Iterator[_Route]:
    """The main table, as /proc/net/route shows it (net/ipv4/fib_trie.c: fib_route_seq_show).

    Its words are in the byte order of the host, of which only little endian is read here.
    """
    for line in whole(root, "/proc/net/route").splitlines()[1:]:
        field = line.split()
        # A captured table may be cut off.
        with contextlib.suppress(IndexError, ValueError):
            base, mask = (ipaddress.IPv4Address(bytes.fromhex(field[at])[::-1]) for at in (1, 7))
            network = ipaddress.IPv4Network(f"{base}/{mask}", strict=False)
            flags = int(field[3], 16)
            if _usable(flags):
                yield _Route(network, field[0], flags, f"/proc/net/route: {' '.join(field)}")


def _ipv6_routes(root: str) -> t.Iterator[_Route]:
    """Every table, as /proc/net/ipv6_route shows them (net/ipv6/route.c: rt6_native_seq_show); lo carries nothing."""
    for line in whole(root, "/proc/net/ipv6_route").splitlines():
        field = line.split()
        with contextlib.suppress(IndexError, ValueError):
            network = ipaddress.IPv6Network((bytes.fromhex(field[0]), int(field[1], 16)), strict=False)
            flags = int(field[8], 16)
            if field[9] != "lo" and _usable(flags):
                yield _Route(network, field[9], flags, f"/proc/net/ipv6_route: {' '.join(field)}")


def _usable(flags: int) -> bool:
    return flags & (_RTF_UP | _RTF_REJECT) == _RTF_UP


def _physical(interfaces: Interfaces, name: str) -> bool:
    return "device" in interfaces.get(name, ())


def _all_below(root: str, interfaces: Interfaces, name: str, use: Use) -> Found:
    for part in _below(root, interfaces, name):
        yield f"{_NET}/{part}", use


def _below(root: str, interfaces: Interfaces, name: str) -> list[str]:
    """The interface and all that it stands on: ports of a bond, bridge or team, the carrier of a VLAN (lower_*)."""
    waiting, seen = [name], []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.append(name)
        lower = [entry[len("lower_") :] for entry in interfaces.get(name, ()) if entry.startswith("lower_")]
        if not lower and _of_open_vswitch(root, interfaces, name):
            lower = ["ovs-system"]
        waiting += sorted(lower)
    return seen


def _of_open_vswitch(root: str, interfaces: Interfaces, name: str) -> bool:
    """Whether an interface may be an internal port of Open vSwitch, such as br-ex.

    The kernel links only the other ports to the switch (net/openvswitch/vport-netdev.c: ovs_netdev_link), and an
    internal one has no DEVTYPE, unlike bridges, VLANs and tunnels.
    """
    entries = interfaces.get(name, frozenset())
    if (
        "ovs-system" not in interfaces
        or not entries
        or name in ("lo", "ovs-system")
        or entries & {"device", "tun_flags"}
    ):
        return False
    return "DEVTYPE=" not in (read_text(below(root, f"{_NET}/{name}/uevent")) or "")


def _links(root: str, interfaces: Interfaces) -> Found:
    """Cards with a link (Documentation/networking/operstates.rst); not all drivers tell the state, but the carrier."""
    for name in interfaces:
        if not _physical(interfaces, name):
            continue
        attribute, value = "operstate", read_text(below(root, f"{_NET}/{name}/operstate"))
        if value == "unknown":
            attribute, value = "carrier", read_text(below(root, f"{_NET}/{name}/carrier"))
        if value in ("up", "1"):
            above = sorted(entry[len("upper_") :] for entry in interfaces[name] if entry.startswith("upper_"))
            place = f"{name}, below {listed(above)}" if above else name
            yield (
                f"{_NET}/{name}",
                Use("link", f"is up and has a link ({place})", f"{_NET}/{name}/{attribute}: {value}"),
            )


def _of_guests(root: str, interfaces: Interfaces) -> Found:
    """Cards behind a bridge or switch that guests' interfaces (tap devices) are ports of, and those under a macvtap."""
    for name, entries in interfaces.items():
        if "bridge" not in entries and name != "ovs-system":
            continue
        ports = sorted(entry[len("lower_") :] for entry in entries if entry.startswith("lower_"))
        taps = [port for port in ports if "tun_flags" in interfaces.get(port, ())]
        if taps:
            what = f"connects guests through {name} ({listed(taps)})"
            use = Use("guest_network", what, f"{_NET}/{name}: {' '.join(f'lower_{tap}' for tap in taps[:3])}")
            yield from _all_below(root, interfaces, name, use)
    for tap in names(below(root, "/sys/class/macvtap")):
        path = f"/sys/class/macvtap/{tap}"
        name = place(root, path).partition("/net/")[2].partition("/")[0]
        use = Use("guest_network", f"connects guests through {name}", path)
        yield from _all_below(root, interfaces, name, use)


def _unseen(root: str, interfaces: Interfaces, devices: t.Sequence[Device]) -> Found:
    """Cards that a network driver has, without interface: it lies in another network namespace, or there is none.

    Only Ethernet and wireless cards are sure to have one: ISDN cards bear class 02 as well.
    """
    if not interfaces:
        return
    seen = {address for name in interfaces for address in addresses(root, f"{_NET}/{name}")}
    for device in devices:
        address, driver, kind = device["address"], device["driver"], (device["class"] or "")[:4]
        if kind not in ("0200", "0280") or address in seen or not driver or stands_in(driver):
            continue
        if kind == "0280" and not os.path.isdir(below(root, f"{DEVICES}/{address}/ieee80211")):
            continue
        what = f"is driven by {driver}, but shows no interface: another network namespace may have it"
        yield address, Use("no_interface", what, f"{DEVICES}/{address}/net: empty")
