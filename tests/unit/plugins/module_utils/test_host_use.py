# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _host_use
from ansible_collections.kvm.passthrough.tests.unit import machines

NIC = "0000:01:00.0"
NIC2 = "0000:02:00.0"
DISK = "0000:03:00.0"
DISK2 = "0000:04:00.0"
PORT = "0000:00:1c.0"
BUS = "sys/devices/pci0000:00"

ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
SWAP_HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
NOWHERE = "0" * 32 + " 00 " + "0" * 32 + " 00 "
GATEWAY = "fe80" + "0" * 27 + "1"
LOCAL = "fe80" + "0" * 28 + " 40 " + "0" * 32 + " 00 " + "0" * 32


class Tree:
    """A root folder that is given only what a case needs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def link(self, path: str, target: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.root / target).mkdir(parents=True, exist_ok=True)
        place.symlink_to(self.root / target)

    def pci(self, address: str, cls: str, behind: str = "") -> str:
        place = f"{BUS}/{behind + '/' if behind else ''}{address}"
        self.file(f"{place}/class", f"0x{cls}\n")
        self.link(f"sys/bus/pci/devices/{address}", place)
        return place

    def interface(self, name: str, device: str | None, *lower: str) -> None:
        self.link(f"sys/class/net/{name}", f"{device}/net/{name}" if device else f"sys/devices/virtual/net/{name}")
        if device:
            self.link(f"sys/class/net/{name}/device", device)
        for other in lower:
            self.file(f"sys/class/net/{name}/lower_{other}/operstate", "up\n")

    def block(self, name: str, place: str, number: str, *slaves: str) -> None:
        self.link(f"sys/class/block/{name}", place)
        self.link(f"sys/dev/block/{number}", place)
        for slave in slaves:
            self.file(f"{place}/slaves/{slave}/dev", "")

    def uses(self, session: str | None = None, *without: str) -> dict[str, list[str]]:
        """What is said of each device, bridges and the kinds in without aside."""
        return said_of(_host_use.host_uses(str(self.root), session), "bridge", *without)

    def soft(self, *devices: dict[str, Any], interrupts: tuple[str, ...] = ()) -> dict[str, list[str]]:
        rows = [{"irq": 16, "actions": [action]} for action in interrupts]
        return said_of(_host_use.soft_uses(str(self.root), devices, rows))

    def process(self, number: int, *files: str) -> None:
        """A process with open files."""
        (self.root / f"proc/{number}/fd").mkdir(parents=True, exist_ok=True)
        for at, file in enumerate(files):
            (self.root / f"proc/{number}/fd/{at}").symlink_to(file)

    def all_processes(self, namespace: str = "pid:[4026531836]") -> None:
        """That the processes of the tree are all there are."""
        (self.root / "proc/self/ns").mkdir(parents=True)
        (self.root / "proc/self/ns/pid").symlink_to(namespace)
        self.process(1, "/dev/null", "socket:[7]")


def said_of(found: dict[str, list[_host_use.Use]], *without: str) -> dict[str, list[str]]:
    said = {address: [use.what for use in uses if use.kind not in without] for address, uses in found.items()}
    return {address: lines for address, lines in said.items() if lines}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path)
    made.pci(PORT, "060400")
    made.interface("enp1s0", made.pci(NIC, "020000", PORT))
    # A virtio interface lies below its virtio device.
    made.interface("enp2s0", made.pci(NIC2, "020000") + "/virtio0")
    sda = made.pci(DISK, "010601") + "/ata1/host0/target0:0:0/0:0:0:0/block/sda"
    sdb = made.pci(DISK2, "010601") + "/ata2/host1/target1:0:0/1:0:0:0/block/sdb"
    for name, place, number in (("sda", sda, "8:0"), ("sda1", f"{sda}/sda1", "8:1"), ("sda2", f"{sda}/sda2", "8:2")):
        made.block(name, place, number)
    for name, place, number in (("sdb", sdb, "8:16"), ("sdb1", f"{sdb}/sdb1", "8:17")):
        made.block(name, place, number)
    return made


CONNECTED = "{}\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"


def default(interface: str, flags: str = "0003") -> str:
    return f"{interface}\t00000000\t0202000A\t{flags}\t0\t0\t1024\t00000000\t0\t0\t0\n"


def test_a_host_that_uses_nothing(tree: Tree) -> None:
    assert tree.uses() == {}


@pytest.mark.parametrize(
    ("route", "carriers"),
    [
        pytest.param(default("enp1s0"), ["enp1s0"], id="ethernet"),
        pytest.param(default("enp2s0"), ["enp2s0"], id="virtio"),
        pytest.param(default("enp1s0", "0001"), ["enp1s0"], id="point-to-point-without-gateway"),
        pytest.param(default("enp1s0") + default("enp2s0"), ["enp1s0", "enp2s0"], id="two-metrics"),
        pytest.param(default("enp1s0", "0201"), [], id="unreachable"),
        pytest.param(default("enp1s0", "0002"), [], id="down"),
        pytest.param(default("wg0") + CONNECTED.format("enp1s0"), [], id="network-route"),
        pytest.param("enp1s0\t00000000\t0202000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n", [], id="half-of-everything"),
        pytest.param(default("wg0"), [], id="tunnel-without-device"),
    ],
)
def test_ipv4_default_route(tree: Tree, route: str, carriers: list[str]) -> None:
    tree.file("proc/net/route", ROUTE_HEAD + route)
    tree.interface("wg0", None)
    devices = {"enp1s0": NIC, "enp2s0": NIC2}
    expected = {devices[name]: [f"carries the default route ({name})"] for name in carriers}
    uses = tree.uses()
    assert uses.pop(PORT, None) == expected.get(NIC), "what is above the device is in use as well"
    assert uses == expected


@pytest.mark.parametrize(
    ("line", "carries"),
    [
        pytest.param(NOWHERE + GATEWAY + " 00000400 00000001 00000000 00450003   enp1s0", True, id="default"),
        pytest.param(NOWHERE + "0" * 32 + " 00000400 00000001 00000000 00000001   enp1s0", True, id="point-to-point"),
        # Policy routing: the kernel shows the routes of all IPv6 tables here, and any of them may be the host's way.
        pytest.param(NOWHERE + GATEWAY + " 00000066 00000001 00000000 00000003   enp1s0", True, id="table"),
        pytest.param(NOWHERE + "0" * 32 + " ffffffff 00000001 00000000 00200200       lo", False, id="lo"),
        pytest.param(NOWHERE + "0" * 32 + " 00000400 00000001 00000000 00200201   enp1s0", False, id="unreachable"),
        pytest.param(LOCAL + " 00000100 00000001 00000000 00000001   enp1s0", False, id="local"),
    ],
)
def test_ipv6_default_route(tree: Tree, line: str, carries: bool) -> None:
    tree.file("proc/net/ipv6_route", line + "\n")
    tree.interface("lo", None)
    assert tree.uses().get(NIC) == (["carries the default route (enp1s0)"] if carries else None)


def test_a_bridge_over_a_vlan_over_a_bond(tree: Tree) -> None:
    tree.interface("bond0", None, "enp1s0", "enp2s0")
    tree.interface("bond0.7", None, "bond0")
    tree.interface("br0", None, "bond0.7", "vnet0")
    tree.interface("vnet0", None)
    tree.file("proc/net/route", ROUTE_HEAD + default("br0"))
    said = ["carries the default route (br0)"]
    assert tree.uses() == {PORT: said, NIC: said, NIC2: said}


@pytest.mark.parametrize(
    ("upper", "said"),
    [
        ("team0", {PORT, NIC, NIC2}),
        ("macvlan0", {NIC2}),
        ("br-ex", {PORT, NIC}),
        ("usb0", {"0000:00:14.0"}),
        ("wg0", set()),
        ("tun0", set()),
        ("gone", set()),
    ],
)
def test_what_a_default_route_stands_on(tree: Tree, upper: str, said: set[str]) -> None:
    tree.interface("team0", None, "enp1s0", "enp2s0")
    tree.interface("macvlan0", None, "enp2s0")
    # An internal port of Open vSwitch is not linked to the switch, of which the card is a port.
    tree.interface("ovs-system", None, "enp1s0")
    tree.interface("br-ex", None)
    tree.file("sys/class/net/br-ex/uevent", "INTERFACE=br-ex\nIFINDEX=7\n")
    tree.interface("wg0", None)
    tree.file("sys/class/net/wg0/uevent", "DEVTYPE=wireguard\nINTERFACE=wg0\n")
    tree.interface("tun0", None)
    tree.file("sys/class/net/tun0/tun_flags", "0x1001\n")
    tree.interface("usb0", tree.pci("0000:00:14.0", "0c0330") + "/usb1/1-3/1-3:1.0")
    tree.file("proc/net/route", ROUTE_HEAD + default(upper))
    assert tree.uses() == {address: [f"carries the default route ({upper})"] for address in said}


GLOBAL = "20010db8" + "0" * 24 + " 40 " + "0" * 32 + " 00 " + "0" * 32 + " 00000100 00000001 00000000 00000001   {}\n"


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "said"),
    [
        pytest.param(["enp2s0"], [], {NIC2: ["carries the only network of the host (enp2s0)"]}, id="ipv4"),
        pytest.param([], ["enp2s0"], {NIC2: ["carries the only network of the host (enp2s0)"]}),
        pytest.param(
            ["enp2s0", "vlan7"],
            [],
            {NIC2: ["carries the only network of the host (enp2s0 and vlan7)"]},
            id="vlan-on-the-same-card",
        ),
        pytest.param(["enp2s0", "virbr0"], [], {NIC2: ["carries the only network of the host (enp2s0)"]}),
        pytest.param(["enp1s0", "enp2s0"], [], {}, id="two-cards"),
        pytest.param(["enp2s0"], ["enp1s0"], {}, id="two-families"),
        pytest.param(["virbr0"], [], {}, id="no-card"),
        pytest.param([], [], {}, id="link-local"),
    ],
)
def test_the_only_network(tree: Tree, ipv4: list[str], ipv6: list[str], said: dict[str, list[str]]) -> None:
    tree.interface("vlan7", None, "enp2s0")
    tree.interface("virbr0", None)
    tree.file("proc/net/route", ROUTE_HEAD + "".join(map(CONNECTED.format, ipv4)))
    local = LOCAL + " 00000100 00000001 00000000 00000001   enp2s0\n"
    tree.file("proc/net/ipv6_route", "".join(map(GLOBAL.format, ipv6)) + local)
    assert tree.uses() == said


def test_tables_that_are_cut_off(tree: Tree) -> None:
    tree.file("proc/net/route", ROUTE_HEAD + default("enp2s0") + default("enp1s0")[:-16])
    tree.file("proc/net/ipv6_route", (NOWHERE + GATEWAY)[:-3] + "\n" + NOWHERE[:20])
    assert tree.uses() == {NIC2: ["carries the default route (enp2s0)"]}


def test_a_default_route_leaves_other_networks_alone(tree: Tree) -> None:
    tree.file("proc/net/route", ROUTE_HEAD + default("wg0") + CONNECTED.format("enp2s0"))
    assert tree.uses() == {}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"operstate": "up"}, "is up and has a link (enp2s0)"),
        ({"operstate": "up", "upper_bond0": ""}, "is up and has a link (enp2s0, below bond0)"),
        ({"operstate": "unknown", "carrier": "1"}, "is up and has a link (enp2s0)"),
        ({"operstate": "unknown", "carrier": "0"}, None),
        ({"operstate": "down"}, None),
        ({}, None),
    ],
)
def test_links(tree: Tree, attributes: dict[str, str], said: str | None) -> None:
    for name, text in attributes.items():
        tree.file(f"sys/class/net/enp2s0/{name}", text + "\n")
    tree.interface("br0", None, "enp1s0")
    tree.file("sys/class/net/br0/operstate", "up\n")
    assert tree.soft() == ({NIC2: [said]} if said else {})


def test_networks_of_guests(tree: Tree) -> None:
    tree.interface("bond0", None, "enp1s0")
    tree.interface("br0", None, "bond0", "vnet0", "vnet1")
    tree.interface("br1", None, "enp2s0", "veth0")
    for tap in ("vnet0", "vnet1"):
        tree.interface(tap, None)
        tree.file(f"sys/class/net/{tap}/tun_flags", "0x1002\n")
    for name in ("br0/bridge/stp_state", "br1/bridge/stp_state"):
        tree.file(f"sys/class/net/{name}", "0\n")
    said = ["connects guests through br0 (vnet0 and vnet1)"]
    assert tree.soft() == {PORT: said, NIC: said}


def test_guests_at_open_vswitch_and_macvtap(tree: Tree) -> None:
    tree.interface("ovs-system", None, "enp1s0", "vnet0")
    tree.interface("vnet0", None)
    tree.file("sys/class/net/vnet0/tun_flags", "0x1002\n")
    tree.interface("macvtap0", None, "enp2s0")
    tree.link("sys/class/macvtap/tap12", "sys/devices/virtual/net/macvtap0/macvtap/tap12")
    said = ["connects guests through ovs-system (vnet0)"]
    assert tree.soft() == {PORT: said, NIC: said, NIC2: ["connects guests through macvtap0"]}


CARD = "0000:05:00.0"


@pytest.mark.parametrize(
    ("fields", "silent"),
    [
        pytest.param({}, False, id="ethernet"),
        pytest.param({"class": "028000", "driver": "iwlwifi"}, False, id="wireless"),
        pytest.param({"driver": None}, True, id="no-driver"),
        pytest.param({"driver": "vfio-pci", "enabled": False}, True, id="vfio"),
        pytest.param({"driver": "uio_pci_generic"}, True, id="dpdk"),
        pytest.param({"class": "020400", "driver": "hfcmulti"}, True, id="isdn"),
        pytest.param({"class": "028000", "driver": "hfcpci", "address": "0000:06:00.0"}, True, id="isdn-of-class-0280"),
        pytest.param({"address": NIC2, "driver": "virtio-pci"}, True, id="shown"),
    ],
)
def test_cards_without_interface(tree: Tree, fields: dict[str, Any], silent: bool) -> None:
    tree.file(f"{tree.pci(CARD, '028000')}/ieee80211/phy0/index", "0\n")
    card = machines.device(**{"address": CARD, **fields})
    said = f"is driven by {card['driver']}, but shows no interface: another network namespace may have it"
    assert tree.soft(card) == ({} if silent else {CARD: [said]})


def test_a_tree_without_interfaces_says_nothing(tmp_path: Path) -> None:
    assert Tree(tmp_path).soft(machines.device(CARD)) == {}


def test_a_virtual_function_holds_its_physical_one(tree: Tree) -> None:
    tree.interface("enp5s0v0", tree.pci("0000:05:10.0", "020000"))
    tree.link("sys/bus/pci/devices/0000:05:10.0/physfn", tree.pci("0000:05:00.0", "020000"))
    tree.file("proc/net/route", ROUTE_HEAD + default("enp5s0v0"))
    assert sorted(tree.uses()) == ["0000:05:00.0", "0000:05:10.0"]


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ("10.0.9.5", {NIC2: ["carries the session from 10.0.9.5 (enp2s0)"]}),
        ("::ffff:10.0.9.5", {NIC2: ["carries the session from ::ffff:10.0.9.5 (enp2s0)"]}),
        ("fe80::5%enp2s0", {NIC2: ["carries the session from fe80::5%enp2s0 (enp2s0)"]}),
        ("192.0.2.1", {}),
        ("no address", {}),
        (None, {}),
    ],
)
def test_the_way_back_to_the_client(tree: Tree, client: str | None, said: dict[str, list[str]]) -> None:
    lines = "enp1s0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
    lines += "enp2s0\t0009000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    tree.file("proc/net/route", ROUTE_HEAD + lines)
    tree.file("proc/net/ipv6_route", LOCAL + " 00000100 00000001 00000000 00000001   enp2s0\n")
    assert tree.uses(client) == said


def mount(number: str, point: str, kind: str, source: str) -> str:
    return f"29 1 {number} / {point} rw,relatime shared:1 - {kind} {source} rw\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        pytest.param(
            mount("8:1", "/", "ext4", "/dev/sda1") + mount("8:1", "/var/lib/containers", "ext4", "/dev/sda1"),
            {DISK: ["holds the mounted file system / (sda1)"]},
            id="partition-mounted-twice",
        ),
        pytest.param(
            mount("8:2", "/srv/a\\040b", "ext4", "/dev/sda2"),
            {DISK: ["holds the mounted file system /srv/a b (sda2)"]},
            id="blank-in-the-name",
        ),
        pytest.param(
            mount("253:0", "/", "xfs", "/dev/mapper/vg-root"),
            {DISK: ["holds the mounted file system / (dm-0)"], DISK2: ["holds the mounted file system / (dm-0)"]},
            id="lvm-on-md",
        ),
        pytest.param(
            mount("259:1", "/", "ext4", "/dev/md0p1"),
            {DISK: ["holds the mounted file system / (md0p1)"], DISK2: ["holds the mounted file system / (md0p1)"]},
            id="partition-of-md",
        ),
        pytest.param(
            mount("0:25", "/home", "btrfs", "/dev/sda2"),
            {
                DISK: ["holds the mounted file system /home (sda2)"],
                DISK2: ["holds the mounted file system /home (sdb1)"],
            },
            id="btrfs-on-two-disks",
        ),
        pytest.param(
            mount("0:30", "/tank", "zfs", "tank/home"), {DISK2: ["holds the mounted file system /tank (sdb)"]}, id="zfs"
        ),
        pytest.param(
            mount("0:31", "/cache", "bcachefs", "/dev/sda2:/dev/sdb1"),
            {
                DISK: ["holds the mounted file system /cache (sda2)"],
                DISK2: ["holds the mounted file system /cache (sdb1)"],
            },
            id="bcachefs",
        ),
        pytest.param(
            mount("259:0", "/", "ext4", "/dev/nvme0n1"),
            {
                "0000:08:00.0": ["holds the mounted file system / (nvme0n1)"],
                "0000:09:00.0": ["holds the mounted file system / (nvme0n1)"],
            },
            id="nvme-multipath",
        ),
        pytest.param(mount("0:5", "/dev", "devtmpfs", "udev") + mount("7:0", "/snap", "squashfs", "/dev/loop0"), {}),
        pytest.param(mount("0:44", "/mnt", "nfs4", "server:/export"), {}, id="nfs"),
    ],
)
def test_mounted_file_systems(tree: Tree, lines: str, said: dict[str, list[str]]) -> None:
    tree.block("md0", "sys/devices/virtual/block/md0", "9:0", "sda1", "sdb1")
    tree.block("md0p1", "sys/devices/virtual/block/md0/md0p1", "259:1")
    tree.block("dm-0", "sys/devices/virtual/block/dm-0", "253:0", "md0")
    tree.block("loop0", "sys/devices/virtual/block/loop0", "7:0")
    tree.file("sys/fs/btrfs/0a/devices/sdc/dev", "")
    tree.file("sys/fs/btrfs/1b/devices/sda2/dev", "")
    tree.file("sys/fs/btrfs/1b/devices/sdb1/dev", "")
    tree.file("run/udev/data/b8:16", "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank\n")
    tree.file("run/udev/data/b8:0", "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=other\n")
    subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    tree.block("nvme0n1", f"{subsystem}/nvme0n1", "259:0")
    tree.link("sys/class/nvme-subsystem/nvme-subsys0", subsystem)
    for name, address in (("nvme0", "0000:08:00.0"), ("nvme1", "0000:09:00.0")):
        controller = f"{tree.pci(address, '010802')}/nvme/{name}"
        tree.link(f"sys/class/nvme/{name}", controller)
        tree.link(f"{subsystem}/{name}", controller)
    tree.file("proc/self/mountinfo", lines)
    assert tree.uses(None, "volume") == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/dev/sda2", {DISK: ["holds the swap area /dev/sda2"]}),
        ("/dev/dm-1", {DISK2: ["holds the swap area /dev/dm-1"]}),
        ("/dev/mapper/vg-swap", {DISK2: ["holds the swap area /dev/mapper/vg-swap"]}),
        ("/dev/zram0", {}),
        ("/swap.img", {}),
    ],
)
def test_swap_areas(tree: Tree, name: str, said: dict[str, list[str]]) -> None:
    tree.block("dm-1", "sys/devices/virtual/block/dm-1", "253:1", "sdb1")
    tree.file("sys/class/block/dm-1/dm/name", "vg-swap\n")
    tree.block("zram0", "sys/devices/virtual/block/zram0", "252:0")
    tree.file("proc/swaps", f"{SWAP_HEAD}{name}                               partition\t1000\t0\t-2\n")
    assert tree.uses(None, "volume") == said


def test_a_mounted_usb_disk_is_behind_its_controller(tree: Tree) -> None:
    usb = tree.pci("0000:00:14.0", "0c0330") + "/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdc"
    tree.block("sdc1", f"{usb}/sdc1", "8:33")
    tree.file("proc/self/mountinfo", mount("8:33", "/media/usb", "vfat", "/dev/sdc1"))
    assert tree.uses() == {"0000:00:14.0": ["holds the mounted file system /media/usb (sdc1)"]}


def stack(tree: Tree, *volumes: tuple[str, str, list[str]]) -> None:
    """Volumes on others: name, title of device mapper or nothing, what it stands on."""
    for at, (name, title, slaves) in enumerate(volumes):
        tree.block(name, f"sys/devices/virtual/block/{name}", f"253:{at}", *slaves)
        tree.file(f"sys/class/block/{name}/size", "2048\n")
        if title:
            tree.file(f"sys/class/block/{name}/dm/name", title + "\n")
        for slave in slaves:
            tree.file(f"sys/class/block/{slave}/holders/{name}/dev", "")


@pytest.mark.parametrize(
    ("volumes", "mounted", "disks"),
    [
        pytest.param([("dm-0", "crypt", ["sda2"])], "253:0", {DISK}, id="dm-crypt"),
        pytest.param([("dm-0", "crypt", ["sda2"]), ("dm-1", "vg-root", ["dm-0"])], "253:1", {DISK}, id="lvm-on-crypt"),
        pytest.param(
            [
                ("dm-0", "vg-pool_tmeta", ["sda2"]),
                ("dm-1", "vg-pool_tdata", ["sda2", "sdb1"]),
                ("dm-2", "vg-pool-tpool", ["dm-0", "dm-1"]),
                ("dm-3", "vg-thin", ["dm-2"]),
            ],
            "253:3",
            {DISK, DISK2},
            id="thin-lvm",
        ),
        pytest.param([("bcache0", "", ["sda", "sdb1"])], "253:0", {DISK, DISK2}, id="bcache"),
        pytest.param([("md0", "", ["sda1", "sdb1"])], "253:0", {DISK, DISK2}, id="md"),
        pytest.param(
            [("dm-0", "mpatha", ["sda", "sdb"]), ("dm-1", "mpatha1", ["dm-0"])], "253:1", {DISK, DISK2}, id="multipath"
        ),
    ],
)
def test_what_a_volume_stands_on(
    tree: Tree, volumes: list[tuple[str, str, list[str]]], mounted: str, disks: set[str]
) -> None:
    stack(tree, *volumes)
    tree.file("proc/self/mountinfo", mount(mounted, "/", "ext4", "/dev/mapper/any"))
    assert tree.uses() == {disk: [f"holds the mounted file system / ({volumes[-1][0]})"] for disk in disks}
    tree.file("proc/self/mountinfo", "")
    name, title, _slaves = volumes[-1]
    assert tree.uses() == {disk: [f"holds active volumes ({title or name})"] for disk in disks}, "open without a mount"


def test_many_volumes_are_told_of_together(tree: Tree) -> None:
    stack(tree, *((f"dm-{number}", f"vg-{number}", ["sda2"]) for number in range(6)))
    tree.file("proc/self/mountinfo", mount("253:5", "/", "ext4", "/dev/mapper/vg-5"))
    said = ["holds the mounted file system / (dm-5)", "holds active volumes (vg-0, vg-1, vg-2 and 2 more)"]
    assert tree.uses() == {DISK: said}


def test_a_container_of_arrays_is_no_volume(tree: Tree) -> None:
    stack(tree, ("md127", "", ["sda", "sdb"]), ("md126", "", ["sda", "sdb"]))
    tree.file("sys/class/block/md127/size", "0\n")
    tree.file("proc/self/mountinfo", mount("253:1", "/", "ext4", "/dev/md126"))
    said = ["holds the mounted file system / (md126)"]
    assert tree.uses() == {DISK: said, DISK2: said}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("tank/state", {DISK2: ["holds imported ZFS pools (tank)"]}),
        ("arcstats", {}),
    ],
)
def test_an_imported_pool_without_mount(tree: Tree, file: str, said: dict[str, list[str]]) -> None:
    tree.file("run/udev/data/b8:17", "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank\n")
    tree.file(f"proc/spl/kstat/zfs/{file}", "ONLINE\n")
    assert tree.uses() == said


def test_disks_of_guests(tree: Tree) -> None:
    domain = "<domain><name>{0}</name><devices><disk type='block' device='disk'>\n<source dev='{1}' index='1'/></disk>"
    domain += "<interface type='direct'><source dev='enp1s0' mode='bridge'/></interface></devices></domain>"
    stack(tree, ("dm-0", "vg-db", ["sda2"]))
    tree.file("run/libvirt/qemu/db.xml", f"<domstatus>{domain.format('db', '/dev/mapper/vg-db')}</domstatus>")
    tree.file("etc/libvirt/qemu/db.xml", domain.format("db", "/dev/mapper/vg-db"))
    tree.file("etc/libvirt/qemu/web.xml", domain.format("web", "/dev/sdb"))
    tree.file("etc/libvirt/qemu/mail.xml", domain.format("mail", "/dev/sdb"))
    tree.file("etc/libvirt/qemu/file.xml", domain.format("file", "/var/lib/libvirt/images/file.img"))
    assert tree.uses() == {DISK: ["holds disks of running guests (db)"]}
    assert tree.soft() == {DISK2: ["holds disks of guests that are off (mail and web)"]}


def test_tables_longer_than_one_read(tree: Tree) -> None:
    many = "".join(mount(f"0:{number}", f"/run/{number}", "tmpfs", "tmpfs") for number in range(100, 3000))
    tree.file("proc/self/mountinfo", many + mount("8:1", "/", "ext4", "/dev/sda1"))
    assert list(tree.uses()) == [DISK]


def test_a_serial_console_on_a_card(tree: Tree) -> None:
    tree.link("sys/class/tty/ttyS4", f"{tree.pci('0000:06:00.0', '070002')}/tty/ttyS4")
    tree.link("sys/class/tty/tty0", "sys/devices/virtual/tty/tty0")
    tree.file("sys/class/tty/console/active", "tty0 ttyS4\n")
    assert tree.uses() == {"0000:06:00.0": ["carries the console ttyS4"]}


def test_a_serial_console_below_the_serial_core(tree: Tree) -> None:
    address = "0000:06:00.0"
    tree.link("sys/class/tty/ttyS4", f"{tree.pci(address, '070002')}/{address}:0/{address}:0.0/tty/ttyS4")
    tree.file("sys/class/tty/console/active", "ttyS4\n")
    assert tree.uses() == {address: ["carries the console ttyS4"]}


KEYBOARD = """I: Bus=0003 Vendor=046d Product=c31c Version=0110
N: Name="Logitech USB Keyboard"
P: Phys=usb-0000:00:14.0-3/input0
S: Sysfs=/devices/pci0000:00/{}/input/input3
U: Uniq=
H: Handlers=sysrq kbd leds event3{}
B: PROP=0
B: EV=120013
B: KEY=1000000000007 ff9f207ac14057ff febeffdfffefffff {}

"""
LETTERS, BUTTONS = "fffffffffffffffe", "10000000000000"
XHCI, XHCI2 = "0000:00:14.0", "0000:07:00.0"
ONLY, ONE = (
    "carries the only keyboard (Logitech USB Keyboard)",
    "carries a keyboard of the host (Logitech USB Keyboard)",
)


@pytest.mark.parametrize(
    ("keyboards", "only", "several"),
    [
        pytest.param([(XHCI, "", LETTERS)], [XHCI], [], id="one"),
        pytest.param([(XHCI, "", LETTERS), (XHCI, "", LETTERS)], [XHCI], [], id="two-behind-one-controller"),
        pytest.param([(XHCI, "", LETTERS), (XHCI2, "", LETTERS)], [], [XHCI, XHCI2], id="two-controllers"),
        pytest.param([(XHCI, "", LETTERS), ("platform/i8042/serio0", "", LETTERS)], [], [XHCI], id="ps2-too"),
        pytest.param([("platform/i8042/serio0", "", LETTERS)], [], [], id="ps2"),
        pytest.param([(XHCI, "", LETTERS), ("LNXSYSTM:00/LNXPWRBN:00", "", BUTTONS)], [XHCI], [], id="power-button"),
        pytest.param([(XHCI, "", LETTERS), (XHCI2, " mouse0", BUTTONS)], [XHCI], [], id="mouse-with-keys"),
        pytest.param([], [], [], id="none"),
    ],
)
def test_keyboards(tree: Tree, keyboards: list[tuple[str, str, str]], only: list[str], several: list[str]) -> None:
    for address in (XHCI, XHCI2):
        tree.pci(address, "0c0330")
    text = "".join(KEYBOARD.format(place, handlers, keys) for place, handlers, keys in keyboards)
    tree.file("proc/bus/input/devices", text)
    assert tree.uses() == {address: [ONLY] for address in only}
    assert tree.soft() == {address: [ONE] for address in several}


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        (
            "            Xorg   812   0   y    y     0       0\n   gnome-shell X   990 128   n    n  1000       1\n",
            {"0000:0a:00.0": ["is used by Xorg (process 812) and gnome-shell X (process 990)"]},
        ),
        ("", {}),
        (None, {}),
    ],
)
def test_displays_in_use(tree: Tree, clients: str | None, said: dict[str, list[str]]) -> None:
    place = tree.pci("0000:0a:00.0", "030000")
    tree.link("sys/class/drm/card1", f"{place}/drm/card1")
    tree.link("sys/class/drm/card1-DP-1", f"{place}/drm/card1/card1-DP-1")
    tree.link("sys/class/drm/renderD128", f"{place}/drm/renderD128")
    if clients is not None:
        head = "             command  tgid dev master a   uid      magic\n"
        tree.file("sys/kernel/debug/dri/1/clients", head + clients)
    assert tree.uses() == said


@pytest.mark.parametrize(
    ("cls", "driver", "said"),
    [
        ("0c0500", "i801_smbus", "is the SMBus of the host (i801_smbus)"),
        ("0c0500", None, None),
        ("0c0500", "vfio-pci", None),
        ("0c0500", "pci-stub", None),
        ("078000", "mei_me", "is the management engine of the host (mei_me)"),
        ("078000", "wctdm", None),
    ],
)
def test_the_platform(tree: Tree, cls: str, driver: str | None, said: str | None) -> None:
    place = tree.pci("0000:00:1f.4", cls)
    if driver:
        tree.link(f"{place}/driver", f"sys/bus/pci/drivers/{driver}")
    assert tree.uses() == ({"0000:00:1f.4": [said]} if said else {})


@pytest.mark.parametrize(
    ("status", "enabled", "bound", "said"),
    [
        ("connected", "enabled", "0", ["drives a screen (DP-1 and HDMI-A-1)"]),
        ("connected", "disabled", "0", []),
        ("disconnected", "disabled", "0", []),
        ("connected", "disabled", "1", ["shows the text console (fb0)"]),
    ],
)
def test_screens(tree: Tree, status: str, enabled: str, bound: str, said: list[str]) -> None:
    place = tree.pci("0000:0a:00.0", "030000")
    tree.link("sys/class/drm/card1", f"{place}/drm/card1")
    for connector in ("DP-1", "HDMI-A-1"):
        tree.link(f"sys/class/drm/card1-{connector}", f"{place}/drm/card1/card1-{connector}")
        tree.file(f"sys/class/drm/card1-{connector}/status", status + "\n")
        tree.file(f"sys/class/drm/card1-{connector}/enabled", enabled + "\n")
    tree.link("sys/class/graphics/fb0", f"{place}/graphics/fb0")
    for console, name, value in (("vtcon0", "(S) dummy device", "1"), ("vtcon1", "(M) frame buffer device", bound)):
        tree.file(f"sys/class/vtconsole/{console}/name", name + "\n")
        tree.file(f"sys/class/vtconsole/{console}/bind", value + "\n")
    assert tree.soft() == ({"0000:0a:00.0": said} if said else {})


@pytest.mark.parametrize(
    ("name", "inside", "said"),
    [
        ("sound/card0", "sound/card0", "carries a sound card of the host (card0, PCH)"),
        ("sound/controlC0", "sound/card0/controlC0", None),
        ("watchdog/watchdog0", "watchdog/watchdog0", "carries a watchdog of the host (watchdog0)"),
        ("ipmi/ipmi0", "ipmi/ipmi0", "carries a management controller of the host (ipmi0)"),
        ("tpm/tpm0", "tpm/tpm0", "carries a TPM of the host (tpm0)"),
    ],
)
@pytest.mark.parametrize("on_pci", [True, False])
def test_sound_and_helpers(tree: Tree, name: str, inside: str, said: str | None, on_pci: bool) -> None:
    place = tree.pci("0000:0a:00.1", "040300") if on_pci else "sys/devices/virtual"
    tree.link(f"sys/class/{name}", f"{place}/{inside}")
    tree.file(f"{place}/sound/card0/id", "PCH\n")
    assert tree.soft() == ({"0000:0a:00.1": [said]} if said and on_pci else {})


@pytest.mark.parametrize(
    ("cls", "driver"), [("030200", "nvidia"), ("030000", "vfio-pci"), ("0c0330", None)], ids=["3d", "vfio", "usb"]
)
def test_other_cards_are_no_display_of_the_host(tree: Tree, cls: str, driver: str | None) -> None:
    tree.file(f"{tree.pci('0000:00:02.0', '030000')}/boot_vga", "1\n")
    place = tree.pci("0000:0a:00.0", cls)
    if driver:
        tree.link(f"{place}/driver", f"sys/bus/pci/drivers/{driver}")
    assert tree.uses() == {"0000:00:02.0": ["is the only display of the host"]}


@pytest.mark.parametrize(
    ("displays", "said"),
    [
        ({"0000:00:02.0": "1"}, {"0000:00:02.0": ["is the only display of the host"]}),
        ({"0000:00:02.0": "0"}, {}),
        ({"0000:00:02.0": "1", "0000:0a:00.0": "0"}, {}),
    ],
)
def test_the_only_display(tree: Tree, displays: dict[str, str], said: dict[str, list[str]]) -> None:
    for address, boot in displays.items():
        tree.file(f"{tree.pci(address, '030000')}/boot_vga", boot + "\n")
    assert tree.uses() == said


@pytest.mark.parametrize(
    ("cls", "attributes", "bridge"),
    [
        ("060400", ["secondary_bus_number"], True),
        ("060100", [], True),
        ("ff0000", ["secondary_bus_number"], True),
        ("020000", [], False),
    ],
)
def test_bridges(tree: Tree, cls: str, attributes: list[str], bridge: bool) -> None:
    place = tree.pci("0000:0b:00.0", cls)
    for name in attributes:
        tree.file(f"{place}/{name}", "0\n")
    found = _host_use.host_uses(str(tree.root)).get("0000:0b:00.0")
    evidence = f"/sys/bus/pci/devices/0000:0b:00.0/class: 0x{cls}"
    assert found == ([_host_use.Use("bridge", f"is a bridge (class {cls})", evidence)] if bridge else None)


@pytest.mark.parametrize(
    ("driver", "enable", "actions", "evidence"),
    [
        ("vfio-pci", "1", None, f"/sys/bus/pci/devices/{NIC}/enable: 1"),
        ("mlx5_vfio_pci", "2", None, f"/sys/bus/pci/devices/{NIC}/enable: 2"),
        ("vfio-pci", "0", f"eth7,vfio-intx({NIC})", f"/sys/kernel/irq/16/actions: eth7,vfio-intx({NIC})"),
        ("vfio-pci", "0", f"vfio-intx({NIC2})", None),
        ("e1000e", "1", None, None),
        (None, "0", None, None),
    ],
)
def test_guest_holds(tree: Tree, driver: str | None, enable: str, actions: str | None, evidence: str | None) -> None:
    device = f"sys/bus/pci/devices/{NIC}"
    tree.file(f"{device}/enable", enable + "\n")
    tree.file("sys/kernel/irq/16/actions", (actions or "") + "\n")
    if driver:
        tree.link(f"{device}/driver", f"sys/bus/pci/drivers/{driver}")
    assert _host_use.guest_holds(str(tree.root), NIC) == evidence


OPEN = f"/sys/bus/pci/devices/{NIC}/enable: 1"


@pytest.mark.parametrize(
    ("namespace", "files", "evidence"),
    [
        pytest.param("pid:[4026531836]", [], None, id="nobody-has-it"),
        pytest.param(
            "pid:[4026531836]", ["/dev/vfio/vfio", "/dev/vfio/13", "anon_inode:[vfio-device]"], None, id="other"
        ),
        pytest.param("pid:[4026531836]", ["/dev/vfio/vfio", "/dev/vfio/12"], OPEN, id="its-group"),
        pytest.param("pid:[4026531836]", ["/dev/vfio/12 (deleted)"], OPEN, id="its-group-unlinked"),
        pytest.param("pid:[4026531836]", ["/dev/vfio/noiommu-12"], OPEN, id="without-iommu"),
        pytest.param("pid:[4026531836]", ["/dev/vfio/devices/vfio0"], OPEN, id="its-own-file"),
        pytest.param("pid:[4026531836]", ["anon_inode:[vfio-device]"], OPEN, id="a-device-without-group"),
        pytest.param("pid:[4026532001]", [], OPEN, id="in-a-container"),
        pytest.param(None, [], OPEN, id="captured-tree"),
    ],
)
def test_an_enabled_device_may_be_open(
    tree: Tree, namespace: str | None, files: list[str], evidence: str | None
) -> None:
    device = f"sys/bus/pci/devices/{NIC}"
    tree.file(f"{device}/enable", "1\n")
    tree.link(f"{device}/driver", "sys/bus/pci/drivers/vfio-pci")
    tree.link(f"{device}/iommu_group", "sys/kernel/iommu_groups/12")
    tree.file(f"{device}/vfio-dev/vfio0/dev", "")
    if namespace:
        tree.all_processes(namespace)
    tree.process(4711, "/dev/null", *files)
    assert _host_use.guest_holds(str(tree.root), NIC) == evidence
    held = machines.device(NIC, driver="vfio-pci", enabled=True)
    assert tree.soft(held) == ({NIC: ["is open"]} if evidence else {})


def test_processes_that_may_not_be_looked_at(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    device = f"sys/bus/pci/devices/{NIC}"
    tree.file(f"{device}/enable", "1\n")
    tree.link(f"{device}/driver", "sys/bus/pci/drivers/vfio-pci")
    tree.link(f"{device}/iommu_group", "sys/kernel/iommu_groups/12")
    tree.all_processes()
    tree.process(4711)
    listdir = _host_use.os.listdir

    def refuse(path: str) -> list[str]:
        if path.endswith("/4711/fd"):
            raise PermissionError(path)
        return listdir(path)

    # The tests may run as root, whom no mode of a folder keeps out.
    monkeypatch.setattr(_host_use.os, "listdir", refuse)
    assert _host_use.guest_holds(str(tree.root), NIC) == OPEN


@pytest.mark.parametrize(
    ("fields", "action", "held"),
    [
        ({"driver": "vfio-pci", "enabled": False}, f"vfio-msix[0]({NIC})", True),
        ({"driver": "vfio-pci", "enabled": False}, f"vfio-msix[0]({NIC2})", False),
        ({"driver": "vfio-pci", "enabled": True}, "eth0", True),
        ({"driver": "e1000e", "enabled": True}, "eth0", False),
    ],
)
def test_devices_that_somebody_has_open(tree: Tree, fields: dict[str, Any], action: str, held: bool) -> None:
    assert tree.soft(machines.device(NIC, **fields), interrupts=(action,)) == ({NIC: ["is open"]} if held else {})


@pytest.mark.parametrize(
    ("driver", "vfio"),
    [("vfio-pci", True), ("mlx5_vfio_pci", True), ("nvgrace-gpu-vfio-pci", True), ("pci-stub", False), ("igb", False)],
)
def test_is_vfio(driver: str, vfio: bool) -> None:
    assert _host_use.is_vfio(driver) is vfio
