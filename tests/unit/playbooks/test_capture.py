# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A capture says of a machine what the machine says itself, and nothing that is nobody's business."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import tarfile
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvm.passthrough.plugins.module_utils import _verdict
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import (
    IO,
    MEMORY,
    PCI_IDS,
    PciTree,
    config_space,
    express,
    msi,
    msix,
)

COLLECTION = Path(__file__).parents[3]
RECORDED = sorted((COLLECTION / "tests/unit/fixtures").glob("*.tar.gz"))
MAC, ROUTER = "52:54:00:6b:70:0a", "52:54:00:12:34:56"
MACHINE, SERIAL = "0123456789abcdef0123456789abcdef", "WD-1234567"
_CASES = COLLECTION / "extensions/molecule/verdict/vars/cases.yml"
CASES = [case for case in yaml.safe_load(_CASES.read_text())["cases"] if case["host"] == "blockers"]

_spec = importlib.util.spec_from_file_location("capture", COLLECTION / "playbooks/files/capture.py")
capture: t.Any = importlib.util.module_from_spec(_spec)  # type: ignore[arg-type]
_spec.loader.exec_module(capture)  # type: ignore[union-attr]


def taken(root: Path, folder: Path) -> Path:
    """The unpacked capture of the machine below root, as the script writes it."""
    archive = folder / "machine.tar.gz"
    folder.mkdir(exist_ok=True)
    capture.main(["--root", str(root), str(archive)])
    return unpacked(archive, folder / "unpacked")


def unpacked(archive: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:
            tar.extractall(folder)
    return folder


def told(root: Path) -> dict[str, t.Any]:
    """The verdict and the facts of the machine below root."""
    machine = _verdict.read_machine(str(root), lambda _message: None)
    said: dict[str, t.Any] = json.loads(json.dumps({**_verdict.judge(machine), "facts": _verdict.facts(machine)}))
    return said


def without_what_passes(said: dict[str, t.Any]) -> dict[str, t.Any]:
    """Without what is another from one moment to the next, or cannot be told from a capture."""
    for row in said["facts"]["interrupts"]:
        row["counts"] = row["count"] = None
    kvm = said["facts"]["kvm"]
    kvm["device"]["accessible"] = kvm["memory"]["available"] = None
    kvm["ksm"] = kvm["ksm"] and dict.fromkeys(kvm["ksm"])
    # Values of arguments that are not known to be harmless stay out.
    kvm["kernel"]["arguments"] = [argument.partition("=")[0] for argument in kvm["kernel"]["arguments"]]
    return said


def renamed(said: dict[str, t.Any], names: t.Mapping[str, str]) -> dict[str, t.Any]:
    other: dict[str, t.Any] = json.loads(re.sub("|".join(names), lambda found: names[found.group()], json.dumps(said)))
    return other


def test_this_machine(tmp_path: Path) -> None:
    here = without_what_passes(told(Path("/")))
    assert without_what_passes(told(taken(Path("/"), tmp_path))) == here


@pytest.mark.parametrize("archive", RECORDED, ids=lambda path: path.name)
def test_a_capture_of_a_capture_is_the_same(archive: Path, tmp_path: Path) -> None:
    root = unpacked(archive, tmp_path / "recorded")
    assert told(taken(root, tmp_path)) == told(root)


def test_a_written_machine(machine: PciTree, tmp_path: Path) -> None:
    said = told(machine.root)
    captured = told(taken(machine.root, tmp_path / "captured"))
    # An interface that is called after its MAC address, and a disk after its serial number, have other names.
    names = {MAC.replace(":", ""): "000000000001", f"/dev/disk/by-id/ata-{SERIAL}": "/dev/sdb", "hunter2": "removed"}
    assert captured == renamed(said, names)
    # So that nothing is compared with nothing.
    assert len(said["facts"]["interrupts"]) == 2
    assert [guest["name"] for guest in said["guests"]] == ["fax", "pbx"]
    kvm = said["facts"]["kvm"]
    assert kvm["qemu"]["version"] == "10.0.13"
    assert kvm["libvirt"] == {"version": "11.3.0", "assigns_pci": True, "reason": None}
    assert kvm["kernel"]["intel_iommu_default"] == "on_except_graphics"
    assert kvm["boot_loader"] == "systemd-boot"
    assert {finding["check"] for device in said["devices"] for finding in device["findings"]} >= {
        *("block_guests", "block_inuse", "bridge", "console", "d3cold", "drm_active", "fb_claims", "group_viable"),
        *("guest_running", "intx_shared_nomask", "libvirt_config", "net_guests", "net_inuse", "platform_helpers"),
        *("reset_none", "rmrr_direct_intel", "sound", "sriov_pf_vfs", "usb_controller", "vga_console"),
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    """What is said of the lab's host with blockers, as it was captured while they were real."""
    return told(unpacked(COLLECTION / "tests/unit/fixtures/lab-blockers.tar.gz", tmp_path_factory.mktemp("lab")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["check"]))
def test_the_lab_is_judged_here_as_it_is_there(case: dict[str, str], lab: dict[str, t.Any]) -> None:
    device = next(device for device in lab["devices"] if device["address"] == case["device"])
    blockers = [finding["check"] for finding in device["findings"] if finding["severity"] == "blocker"]
    assert (device["verdict"], case["check"] in blockers) == (case["verdict"], True)


def test_an_empty_machine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert os.listdir(taken(tmp_path / "empty", tmp_path)) == []


def test_the_same_machine_gives_the_same_file(machine: PciTree) -> None:
    entries = capture.capture(str(machine.root))
    again = capture.packed(dict(reversed(list(entries.items()))))
    assert again == capture.packed(entries)
    assert len(again) < 20_000


def test_no_sleeping_device_is_woken(machine: PciTree) -> None:
    entries = capture.capture(str(machine.root))
    configs = {path.split("/")[-2] for path in entries if path.endswith("/config")}
    awake = {os.path.basename(path) for path in os.listdir(machine.bus / "devices")}
    # The first is in D3cold, and the second below a bridge in D3hot.
    assert awake - configs == {"0000:07:00.0", "0000:09:00.0"}
    assert entries["sys/devices/pci0000:00/0000:00:1c.0/secondary_bus_number"] == b""


@pytest.mark.parametrize(
    "secret",
    [
        MAC,
        MAC.replace(":", ""),
        MAC.upper(),
        "505400fffe6b700a",
        ROUTER,
        "fffe123456",
        MACHINE,
        SERIAL,
        "hunter2",
        "nfs.example.com",
        "1000000089abcdef",
        "ffff8000",
    ],
)
def test_no_secrets(secret: str, published: tuple[bytes, bytes]) -> None:
    everything, archive = published
    assert secret.encode() in everything
    assert secret.encode() not in archive


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """All names and contents of the written machine, and those of its capture."""
    folder = tmp_path_factory.mktemp("published")
    root = written(folder / "machine").root
    names = " ".join(map(str, root.rglob("*")))
    everything = b"".join([names.encode(), *(path.read_bytes() for path in root.rglob("*") if path.is_file())])
    capture.main(["--root", str(root), str(folder / "machine.tar.gz")])
    return everything, gzip.decompress((folder / "machine.tar.gz").read_bytes())


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet", "BOOT_IMAGE=/vmlinuz root=removed ro quiet"),
        ("intel_iommu=on iommu=pt vfio-pci.ids=1397:08b4", "intel_iommu=on iommu=pt vfio-pci.ids=1397:08b4"),
        ("modprobe.blacklist=hfcmulti rd.driver.pre=vfio-pci", "modprobe.blacklist=hfcmulti rd.driver.pre=vfio-pci"),
        ("pcie_acs_override=downstream pci=noaer", "pcie_acs_override=downstream pci=noaer"),
        ("default_hugepagesz=1G hugepages=16", "default_hugepagesz=1G hugepages=16"),
        ('init="/bin/a b" rd.luks.key=hunter2', "init=removed rd.luks.key=removed"),
        ("kvm_password=x quiet -- --token hunter2", "kvm_password=x quiet"),
    ],
)
def test_arguments(line: str, shown: str) -> None:
    assert capture.harmless(f"{line}\n".encode()) == f"{shown}\n".encode()


def test_names_by_serial_number_are_not_shown(machine: PciTree) -> None:
    guest = capture.capture(str(machine.root))["etc/libvirt/qemu/pbx.xml"].decode()
    assert "<source dev='/dev/sdb'></source>" in guest


@pytest.mark.parametrize("damaged", [b"", b"<domain", b"\xff\xfe", b"<network><name>default</name></network>"])
def test_a_damaged_definition_is_left_empty(damaged: bytes, machine: PciTree) -> None:
    machine.write("/etc/libvirt/qemu/pbx.xml", damaged)
    assert capture.capture(str(machine.root))["etc/libvirt/qemu/pbx.xml"] == b""


@pytest.fixture
def machine(tmp_path: Path) -> PciTree:
    return written(tmp_path / "machine")


def written(root: Path) -> PciTree:
    """A machine with something of everything that a fact or a check reads."""
    tree = PciTree(root)
    _devices(tree)
    _kernel(tree)
    _network(tree)
    _disks(tree)
    _console(tree)
    _guests(tree)
    return tree


def _devices(tree: PciTree) -> None:
    port: dict[str, t.Any] = {"pci_id": "8086:3420", "pci_class": "060400", "subsystem": "0000:0000"}
    for number, (address, busses) in enumerate((("0000:00:1c.0", (0, 1, 1)), ("0000:00:1d.0", (0, 9, 9)))):
        config = config_space("8086:3420", "060400", header=1, capabilities=[express(4), msi(True)], busses=busses)
        power = {"power_state": "D3hot"} if number else {"secondary_bus_number": "1", "max_link_speed": "8.0 GT/s PCIe"}
        tree.add(address, config, driver="pcieport", group=number, attributes=power, **port)
    express_card = config_space(capabilities=[express(0), msix(True, 2)])
    conventional = config_space("1397:08b4", "020400", pin=1)
    tree.add(
        "0000:01:00.0",
        express_card,
        below="0000:00:1c.0",
        driver="e1000e",
        group=2,
        irq=16,
        vectors={33: "msix"},
        bars={0: (0xFE840000, 0x20000, MEMORY), 2: (0xC000, 0x20, IO)},
        attributes={"sriov_totalvfs": "7", "sriov_numvfs": "1"},
    )
    function = tree.add("0000:01:10.0", config_space("ffff:ffff", pin=0), below="0000:00:1c.0", driver="igbvf", group=3)
    (function / "physfn").symlink_to("../0000:01:00.0")
    (tree.device("0000:01:00.0") / "virtfn0").symlink_to("../0000:01:10.0")
    cards: dict[str, t.Any] = {"pci_id": "1397:08b4", "pci_class": "020400", "group": 4, "irq": 17}
    tree.add("0000:00:05.0", conventional, driver="hfcmulti", **cards)
    tree.add("0000:00:06.0", conventional, driver="vfio-pci", **cards)
    (tree.device("0000:00:05.0") / "reset").touch()
    kinds = {"02": "0106", "03": "0300", "04": "0c03", "08": "0403", "0a": "0700", "0b": "0c05"}
    for number, (slot, kind) in enumerate(kinds.items()):
        address, pci_class = f"0000:00:{slot}.0", f"{kind}00"
        attributes = {"boot_vga": "1"} if kind == "0300" else {"reset_method": "bus"} if kind == "0106" else {}
        tree.add(address, config_space("1b36:0001", pci_class), pci_class=pci_class, driver="native", group=5 + number)
        for name, text in attributes.items():
            (tree.device(address) / name).write_text(f"{text}\n")
    tree.add("0000:07:00.0", config_space(), group=20, attributes={"power_state": "D3cold"})
    tree.add("0000:09:00.0", config_space(), below="0000:00:1d.0", group=21)
    tree.slot("2-1", "0000:01:00")
    for group in range(22):
        members = [place for place in (tree.bus / "devices").iterdir() if _group(place) == group]
        for place in members:
            _link(tree, f"/sys/kernel/iommu_groups/{group}/devices/{place.name}", f"/sys/bus/pci/devices/{place.name}")
        tree.write(f"/sys/kernel/iommu_groups/{group}/type", "DMA-FQ\n")
        region = "0x00000000000e0000 0x00000000000e3fff direct\n" if group == 2 else ""
        tree.write(f"/sys/kernel/iommu_groups/{group}/reserved_regions", f"{region}0xfee00000 0xfeefffff msi\n")


def _kernel(tree: PciTree) -> None:
    tree.write("/usr/share/misc/pci.ids", PCI_IDS)
    tree.write("/proc/sys/kernel/osrelease", "5.10.0\n")
    tree.write("/proc/sys/kernel/arch", "x86_64\n")
    tree.write("/proc/cmdline", "BOOT_IMAGE=/vmlinuz ro vfio_pci.nointxmask=1 rd.luks.key=hunter2\n")
    tree.write(
        "/proc/cpuinfo",
        "processor : 0\nvendor_id : GenuineIntel\nmodel name : Xeon\nflags : lm vmx\naddress sizes : 46 bits physical\n"
        "\nprocessor : 1\n\nSerial : 1000000089abcdef\n",
    )
    tree.write("/proc/meminfo", "MemTotal: 2048000 kB\nMemAvailable: 1024000 kB\nSwapTotal: 0 kB\n")
    tree.write("/proc/iomem", "ffff80000-ffffbffff : 0000:00:03.0\n  ffff80000-ffff8ffff : efifb\n")
    tree.write(
        "/proc/interrupts", "     CPU0 CPU1\n 17:    1    2  IR-IO-APIC  17-fasteoi   HFC-multi, ehci_hcd:usb1\n"
    )
    tree.write("/sys/kernel/irq/17/actions", "HFC-multi,ehci_hcd:usb1\n")
    tree.write("/sys/kernel/irq/17/chip_name", "IR-IO-APIC\n")
    tree.write("/sys/kernel/irq/33/actions", "enx5254006b700a\n")
    tree.write("/sys/kernel/mm/ksm/run", "1\n")
    tree.write("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "8\n")
    tree.write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4\n")
    tree.write("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "8\n")
    tree.write("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "4\n")
    tree.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    tree.write("/sys/firmware/acpi/tables/DMAR", b"\0")
    tree.write("/sys/devices/virtual/iommu/dmar0/intel-iommu/cap", "d2008c40660462\n")
    _link(tree, "/sys/class/iommu/dmar0", "/sys/devices/virtual/iommu/dmar0")
    for module in ("kvm", "kvm_intel", "vfio", "vfio_pci", "vfio_iommu_type1"):
        tree.write(f"/sys/module/{module}/initstate", "live\n")
    tree.write("/sys/module/kvm_intel/parameters/nested", "Y\n")
    tree.write("/sys/module/vfio_pci/parameters/nointxmask", "Y\n")
    tree.write("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", "512\n")
    for device in ("kvm", "vfio/vfio", "vfio/4"):
        tree.write(f"/dev/{device}", "")
    tree.write("/boot/config-5.10.0", "# Linux\nCONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF=y\nCONFIG_KEY=hunter2\n")
    tree.write("/lib/modules/5.10.0/modules.alias", "alias pci:v00001397d*sv*sd*bc*sc*i* hfcmulti\nalias usb:x y\n")
    tree.write("/lib/modules/5.10.0/modules.builtin.modinfo", b"ahci.alias=pci:v*d*sv*sd*bc01sc06i*\0other.x=y\0")
    tree.write("/lib/modules/5.10.0/kernel/drivers/vfio/pci/vfio-pci.ko.xz", b"\x7fELF")
    tree.write("/etc/machine-id", f"{MACHINE}\n")
    tree.write(
        f"/boot/loader/entries/{MACHINE}-5.10.0.conf",
        "title Linux\nversion 5.10.0\nlinux /vmlinuz\noptions k=hunter2\n",
    )
    tree.write("/usr/bin/kernel-install", "")
    loader = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    tree.write(loader, b"\6\0\0\0" + "systemd-boot 257\0".encode("utf-16-le"))
    tree.write("/usr/bin/qemu-system-x86_64", b"\x7fELF" + b"QEMU emulator version 10.0.13\0hunter2")
    tree.write("/usr/lib/x86_64-linux-gnu/libvirt.so.0.11003.0", b"\x7fELF")
    (tree.root / "usr/lib/x86_64-linux-gnu/libvirt.so.0").symlink_to("libvirt.so.0.11003.0")
    tree.write("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so", b"\x7fELF")


def _network(tree: PciTree) -> None:
    interface = f"enx{MAC.replace(':', '')}"
    card = f"/sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0/net/{interface}"
    entries = {"address": MAC, "operstate": "up", "uevent": f"INTERFACE={interface}", "broadcast": "ff:ff:ff:ff:ff:ff"}
    for name, text in entries.items():
        tree.write(f"{card}/{name}", f"{text}\n")
    tree.write("/sys/devices/virtual/net/br0/bridge/stp_state", "0\n")
    tree.write("/sys/devices/virtual/net/br0/address", f"{MAC.upper()}\n")
    tree.write("/sys/devices/virtual/net/vnet0/tun_flags", "0x1002\n")
    for place in (card, "/sys/devices/virtual/net/br0", "/sys/devices/virtual/net/vnet0"):
        _link(tree, f"/sys/class/net/{os.path.basename(place)}", place)
    _link(tree, f"{card}/device", os.path.dirname(os.path.dirname(card)))
    _link(tree, f"{card}/upper_br0", "/sys/devices/virtual/net/br0")
    for port in (card, "/sys/devices/virtual/net/vnet0"):
        _link(tree, f"/sys/devices/virtual/net/br0/lower_{os.path.basename(port)}", port)
    tree.write("/proc/net/route", "Iface\tDestination\nbr0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    own, router = "505400fffe6b700a", "505400fffe123456"
    tree.write(
        "/proc/net/ipv6_route",
        f"fe80000000000000{own} 80 {'0' * 32} 00 {'0' * 32} 00000000 00000002 00000000 80200001 lo\n"
        f"{'0' * 32} 00 {'0' * 32} 00 fe80000000000000{router} 00000400 00000003 00000000 00200200 br0\n",
    )


def _disks(tree: PciTree) -> None:
    host = "/sys/devices/pci0000:00/0000:00:02.0/ata1"
    for number, name in enumerate(("sda", "sda/sda1", "sdb", "sdc", "sdd")):
        place = f"{host}/block/{name}"
        tree.write(f"{place}/size", "2048\n")
        _link(tree, f"/sys/class/block/{os.path.basename(name)}", place)
        _link(tree, f"/sys/dev/block/8:{number}", place)
        tree.write(f"/dev/{os.path.basename(name)}", "")
    tree.write("/sys/devices/virtual/block/dm-0/dm/name", "vg-root\n")
    tree.write("/sys/devices/virtual/block/dm-0/size", "1024\n")
    _link(tree, "/sys/class/block/dm-0", "/sys/devices/virtual/block/dm-0")
    _link(tree, "/sys/dev/block/254:0", "/sys/devices/virtual/block/dm-0")
    _link(tree, "/sys/devices/virtual/block/dm-0/slaves/sda1", f"{host}/block/sda/sda1")
    _link(tree, f"{host}/block/sda/sda1/holders/dm-0", "/sys/devices/virtual/block/dm-0")
    _link(tree, "/dev/mapper/vg-root", "/dev/dm-0")
    _link(tree, f"/dev/disk/by-id/ata-{SERIAL}", "/dev/sdb")
    tree.write("/sys/fs/btrfs/0a/label", "data\n")
    _link(tree, "/sys/fs/btrfs/0a/devices/sdc", f"{host}/block/sdc")
    tree.write("/run/udev/data/b8:4", f"S:disk/by-id/ata-{SERIAL}\nE:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank\n")
    tree.write("/run/udev/data/b8:3", f"E:ID_SERIAL={SERIAL}\nE:ID_FS_TYPE=btrfs\n")
    tree.write("/proc/spl/kstat/zfs/tank/state", "ONLINE\n")
    swap = f"/dev/mapper/vg-root partition 1 0 -2\n/dev/disk/by-id/ata-{SERIAL} partition 1 0 -3\n"
    tree.write("/proc/swaps", f"Filename Type Size Used Priority\n{swap}")
    tree.write(
        "/proc/self/mountinfo",
        "22 1 254:0 / / rw - ext4 /dev/mapper/vg-root rw\n23 1 0:30 / /data rw - btrfs /dev/sdc rw\n"
        "24 1 0:31 / /tank rw - zfs tank/data rw\n25 1 0:32 / /mnt rw - nfs nfs.example.com:/ rw,password=hunter2\n",
    )


def _console(tree: PciTree) -> None:
    screen, usb = "/sys/devices/pci0000:00/0000:00:03.0/drm/card0", "/sys/devices/pci0000:00/0000:00:04.0/usb1/input3"
    tree.write(f"{screen}/card0-DP-1/status", "connected\n")
    tree.write(f"{screen}/card0-DP-1/enabled", "enabled\n")
    _link(tree, "/sys/class/drm/card0", screen)
    _link(tree, "/sys/class/drm/card0-DP-1", f"{screen}/card0-DP-1")
    tree.write("/sys/kernel/debug/dri/0/clients", "command tgid dev master a uid magic\nXorg  812   0   y    y  0  0\n")
    tree.write(f"{usb}/name", "Keyboard\n")
    tree.write(
        "/proc/bus/input/devices",
        f'I: Bus=0003\nN: Name="Keyboard"\nP: Phys={ROUTER}\nS: Sysfs={usb[4:]}\nU: Uniq={MAC}\n'
        "H: Handlers=kbd event3 \nB: KEY=10000 fffffffffffffffe\n\n",
    )
    for path, place in {
        "/sys/class/sound/card0": "0000:00:08.0/sound/card0",
        "/sys/class/tty/ttyS4": "0000:00:0a.0/tty/ttyS4",
        "/sys/class/watchdog/watchdog0": "0000:00:0b.0/watchdog/watchdog0",
        "/sys/class/graphics/fb0": "0000:00:03.0/graphics/fb0",
    }.items():
        folder = f"/sys/devices/pci0000:00/{place}"
        _link(tree, path, folder)
        _link(tree, f"{folder}/device", os.path.dirname(os.path.dirname(folder)))
    tree.write("/sys/devices/pci0000:00/0000:00:08.0/sound/card0/id", "PCH\n")
    tree.write("/sys/class/tty/console/active", "tty0 ttyS4\n")
    tree.write("/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n")
    tree.write("/sys/class/vtconsole/vtcon1/bind", "1\n")


def _guests(tree: PciTree) -> None:
    device = "<hostdev type='pci' managed='yes'><source><address domain='0x0000' bus='0x00' {}/></source></hostdev>"
    secrets = f"<uuid>hunter2</uuid><devices><graphics passwd='hunter2'/><interface><mac address='{MAC}'/></interface>"
    fax = f"<name>fax</name><memory unit='KiB'>1048576</memory>{secrets}" + device.format("slot='0x06' function='0x0'")
    tree.write(
        "/run/libvirt/qemu/fax.xml",
        f"<domstatus state='running'><domain>{fax}</devices></domain></domstatus>",
    )
    pbx = f"<name>pbx</name>{secrets}" + device.format("slot='0x05' function='0x0'")
    disk = f"<disk type='block'><source dev='/dev/disk/by-id/ata-{SERIAL}'/></disk>"
    disk += "<disk type='block'><source dev='/dev/sdd'/></disk>"
    tree.write("/etc/libvirt/qemu/pbx.xml", f"<domain>{pbx}{disk}</devices></domain>")
    tree.write("/etc/libvirt/qemu/autostart/pbx.xml", "")


def _group(place: Path) -> int | None:
    link = place / "iommu_group"
    return int(os.path.basename(os.readlink(link))) if link.is_symlink() else None


def _link(tree: PciTree, path: str, target: str) -> None:
    """A link from one path of the machine to another, as the kernel makes them."""
    link, place = tree.root / path[1:], tree.root / target[1:]
    link.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists() and not re.match("/dev/", target):
        place.mkdir(parents=True)
    link.symlink_to(os.path.relpath(place, link.parent))
