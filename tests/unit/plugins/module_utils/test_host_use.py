# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _host_use

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
        for other in lower:
            self.file(f"sys/class/net/{name}/lower_{other}/operstate", "up\n")

    def block(self, name: str, place: str, number: str, *slaves: str) -> None:
        self.link(f"sys/class/block/{name}", place)
        self.link(f"sys/dev/block/{number}", place)
        for slave in slaves:
            self.file(f"{place}/slaves/{slave}/dev", "")

    def uses(self, session: str | None = None) -> dict[str, list[str]]:
        """What is said of each device, bridges aside."""
        found = _host_use.host_uses(str(self.root), session)
        said = {address: [use.what for use in uses if use.kind != "bridge"] for address, uses in found.items()}
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
        pytest.param("enp1s0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", [], id="network-route"),
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
    assert tree.uses() == said


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
    assert tree.uses() == said


def test_tables_longer_than_one_read(tree: Tree) -> None:
    many = "".join(mount(f"0:{number}", f"/run/{number}", "tmpfs", "tmpfs") for number in range(100, 3000))
    tree.file("proc/self/mountinfo", many + mount("8:1", "/", "ext4", "/dev/sda1"))
    assert list(tree.uses()) == [DISK]


def test_a_serial_console_on_a_card(tree: Tree) -> None:
    tree.link("sys/class/tty/ttyS4", f"{tree.pci('0000:06:00.0', '070002')}/tty/ttyS4")
    tree.link("sys/class/tty/tty0", "sys/devices/virtual/tty/tty0")
    tree.file("sys/class/tty/console/active", "tty0 ttyS4\n")
    assert tree.uses() == {"0000:06:00.0": ["carries the console ttyS4"]}


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


@pytest.mark.parametrize(
    ("driver", "vfio"),
    [("vfio-pci", True), ("mlx5_vfio_pci", True), ("nvgrace-gpu-vfio-pci", True), ("pci-stub", False), ("igb", False)],
)
def test_is_vfio(driver: str, vfio: bool) -> None:
    assert _host_use.is_vfio(driver) is vfio
