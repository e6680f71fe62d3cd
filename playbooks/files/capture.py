# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Capture what kvm.passthrough reads of a machine, as a tar file that a person can look through.

It needs Python 3.6 and nothing else, and changes nothing. As root it sees more; pciutils, where installed, adds what
lspci says of the captured devices. Unpacked, the file is a root folder that every reading module takes as its root.

No sleeping device is woken. MAC addresses, the machine's id, serial numbers, passwords in the definitions of guests,
and values of kernel arguments that are not known to be harmless stay out. Routes with their IP addresses, mount points,
and names of interfaces, volumes and guests are in it.
"""

import argparse
import contextlib
import glob
import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import typing as t
import xml.etree.ElementTree as ET
import zlib
from xml.sax.saxutils import escape

DEVICES = "/sys/bus/pci/devices"

# Of these it matters that they are there, and where they lead: links stay links, and files become empty ones.
PLACES = (
    "/dev/kvm",
    "/dev/null",
    "/dev/vfio/*",
    "/etc/default/grub",
    "/etc/libvirt/qemu/*",
    "/etc/libvirt/qemu/autostart/*",
    "/proc/spl/kstat/zfs/*/state",
    "/run/ostree-booted",
    "/sys/bus/pci/slots",
    "/sys/class/block/*",
    "/sys/class/block/*/holders/*",
    "/sys/class/block/*/slaves/*",
    "/sys/class/drm/*",
    "/sys/class/graphics/fb*",
    "/sys/class/iommu",
    "/sys/class/iommu/*",
    "/sys/class/ipmi/*",
    "/sys/class/macvtap/*",
    "/sys/class/misc/*",
    "/sys/class/net/*",
    "/sys/class/net/*/bonding",
    "/sys/class/net/*/bridge",
    "/sys/class/net/*/brport",
    "/sys/class/net/*/device",
    "/sys/class/net/*/lower_*",
    "/sys/class/net/*/master",
    "/sys/class/net/*/tun_flags",
    "/sys/class/net/*/upper_*",
    "/sys/class/nvme-subsystem/*/nvme*",
    "/sys/class/nvme/*",
    "/sys/class/sound/card*",
    "/sys/class/tpm/*",
    "/sys/class/tty/*/device",
    "/sys/class/vtconsole/*",
    "/sys/class/watchdog/*",
    "/sys/dev/block/*",
    "/sys/devices/system/node/node*",
    "/sys/firmware/*",
    "/sys/firmware/acpi/tables/*",
    "/sys/fs/btrfs/*/devices/*",
    "/sys/kernel/iommu_groups",
    "/sys/kernel/iommu_groups/*/devices/*",
    "/sys/module/kvm*",
    "/sys/module/vfio*",
    "/usr/bin",
    "/usr/lib*/libvirt.so.0",
    "/usr/lib*/libvirt/connection-driver/*.so",
    "/usr/lib/*-linux-*/libvirt.so.0",
    "/usr/lib/*-linux-*/libvirt/connection-driver/*.so",
    # Commands that boot loaders bring.
    "/{usr/,usr/local/,}{s,}bin/{grubby,update-grub,grub-mkconfig,grub2-mkconfig,kernel-install,proxmox-boot-tool}",
    # To read these two, or the speed of the link, would wake the device: they ask its configuration space.
    f"{DEVICES}/*/{{secondary,subordinate}}_bus_number",
    f"{DEVICES}/*/{{ieee80211,max_link_speed,reset,rom,vfio-dev/*}}",
    f"{DEVICES}/*/{{driver,iommu_group,physfn,virtfn*}}",
)
# These are taken as they are.
WHOLE = (
    "/etc/kernel/entry-token",
    "/etc/machine-id",
    "/proc/interrupts",
    "/proc/meminfo",
    "/proc/net/route",
    "/proc/swaps",
    "/proc/sys/kernel/arch",
    "/proc/sys/kernel/osrelease",
    "/sys/bus/pci/slots/*/address",
    "/sys/class/block/*/dm/name",
    "/sys/class/block/*/size",
    "/sys/class/drm/*/{enabled,status}",
    "/sys/class/graphics/fb*/name",
    "/sys/class/iommu/*/intel-iommu/{cap,ecap,version}",
    "/sys/class/net/*/{carrier,flags,operstate,type,uevent}",
    "/sys/class/sound/card*/id",
    "/sys/class/tty/console/active",
    "/sys/class/vtconsole/*/{bind,name}",
    "/sys/devices/system/node/node*/hugepages/*/*_hugepages",
    "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
    "/sys/kernel/debug/dri/*/clients",
    "/sys/kernel/iommu_groups/*/{reserved_regions,type}",
    "/sys/kernel/irq/*/{actions,chip_name,hwirq,name,per_cpu_count,type}",
    "/sys/kernel/mm/hugepages/*/*_hugepages",
    "/sys/kernel/mm/ksm/*",
    "/sys/kernel/security/lockdown",
    "/sys/module/{kvm,vfio}*/parameters/*",
    "/usr/lib/os-release",
    f"{DEVICES}/*/infiniband/*/fw_ver",
    f"{DEVICES}/*/msi_irqs/*",
    f"{DEVICES}/*/power/{{control,runtime_status}}",
    f"{DEVICES}/*/{{boot_vga,class,d3cold_allowed,device,driver_override,enable,irq,modalias,numa_node,power_state}}",
    f"{DEVICES}/*/{{reset_method,resource,revision,sriov_drivers_autoprobe,sriov_numvfs,sriov_offset,sriov_stride}}",
    f"{DEVICES}/*/{{sriov_totalvfs,sriov_vf_device}}",
    f"{DEVICES}/*/{{subsystem_device,subsystem_vendor,uevent,vendor}}",
)

# Kernel arguments whose values say something of hardware, and nothing of people or keys; with _ for -.
HARMLESS = re.compile(
    r"BOOT_IMAGE|console|crashkernel|efi|irqaffinity|isolcpus|lockdown|loglevel|mem|memmap|mitigations|nohz_full|rcu_nocbs"
    r"|swiotlb|transparent_hugepage|video|\w*(?:blacklist|hugepages|hugepagesz)|modprobe[.]blacklist|rd[.]driver[.]\w+"
    r"|(?:acpi|amd_iommu|arm_smmu|intel_iommu|iommu|kvm|numa|nvme_core|pci|smmu|thunderbolt|vfio)\w*(?:[.]\w+)?"
)
# Blanks separate, double quotes hold together (next_arg() of the kernel's lib/cmdline.c).
WORD = re.compile(r'(?:"[^"]*"?|[^\s"])+')
# An IPv6 address that was made from a MAC address, in hexadecimal digits.
FROM_MAC = re.compile(rb"([0-9a-f]{16})[0-9a-f]{6}fffe[0-9a-f]{6}")

Entry = t.Union[None, bytes, str]


class Capture:
    """What is to be written, by path: a file's content, a link's target, or None for a folder."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.entries = {}  # type: t.Dict[str, Entry]
        self.other_names = {}  # type: t.Dict[str, str]
        self._places = {}  # type: t.Dict[str, str]

    def paths(self, pattern: str) -> t.List[str]:
        """What is there, of a pattern as the shell has it."""
        found = []  # type: t.List[str]
        for alternative in braces(pattern):
            found += glob.glob(glob.escape(self.root) + alternative)
        return [path[len(self.root) :] for path in sorted(found)]

    def read(self, path: str, size: int = -1) -> t.Optional[bytes]:
        """A file's content; None where it is not there or may not be read."""
        try:
            with open(self.root + path, "rb", buffering=0) as stream:
                return stream.read(size) if size >= 0 else stream.read()
        except OSError:
            return None

    def text(self, path: str) -> str:
        return (self.read(path) or b"").decode("utf-8", "replace").strip()

    def place(self, path: str) -> str:
        """Take a path along, with the links on the way to it; return where it really is."""
        if path in ("", "/"):
            return ""
        if path not in self._places:
            above, name = os.path.split(path)
            found = self.place(above) + "/" + name
            # What /proc/self leads to is another process for each who reads it.
            if not path.startswith("/proc/") and os.path.islink(self.root + found):
                target = os.readlink(self.root + found)
                if target.startswith("/"):
                    target = os.path.relpath(target, os.path.dirname(found))
                self.entries[found[1:]] = target
                found = self.place(os.path.normpath(os.path.join(os.path.dirname(found), target)))
            else:
                self.entries.setdefault(found[1:], None if os.path.isdir(self.root + found) else b"")
            self._places[path] = found
        return self._places[path]

    def device(self, name: str) -> None:
        """Take a block device along; one that is called after its serial number, by the kernel's name for it."""
        if name.startswith("/dev/disk/by-id/"):
            self.other_names[name] = os.path.realpath(self.root + name)[len(self.root) :]
        self.place(self.other_names.get(name, name))

    def write(self, path: str, content: t.Optional[bytes]) -> None:
        """Take a file along with this content."""
        if content is not None:
            self.entries[self.place(path)[1:]] = content

    def change(self, pattern: str, changed: t.Callable[[bytes], t.Optional[bytes]]) -> None:
        """Take files along, each as a function makes it of what it holds."""
        for path in self.paths(pattern):
            content = self.read(path)
            if content is not None:
                self.write(path, changed(content))


def capture(root: str) -> "t.Dict[str, Entry]":
    """Everything, with names and contents that may be shown to others."""
    taken = Capture(root)
    for pattern in PLACES:
        for path in taken.paths(pattern):
            taken.place(path)
    for pattern in WHOLE:
        taken.change(pattern, lambda content: content)
    take_tables(taken)
    take_machine(taken)
    take_disks(taken)
    take_open(taken)
    addresses = [os.path.basename(path) for path in taken.paths(DEVICES + "/*")]
    for address in addresses:
        take_config(taken, address)
    take_modules(taken, addresses)
    take_names(taken, addresses)
    return anonymous(taken)


def take_tables(taken: Capture) -> None:
    """Tables of /proc, without what names people, places or other machines."""
    taken.change("/proc/bus/input/devices", lambda content: lines_without(content, rb"[PU]: "))
    taken.change("/proc/cmdline", harmless)
    # The first processor tells of all; Arm boards write a serial number below the last one.
    taken.change("/proc/cpuinfo", lambda content: content.lstrip().partition(b"\n\n")[0] + b"\n\n")
    taken.change("/proc/iomem", lambda content: re.sub(rb"[0-9a-f]+-[0-9a-f]+ :", b"0-0 :", content))
    taken.change("/proc/net/ipv6_route", lambda content: FROM_MAC.sub(rb"\g<1>" + b"0" * 16, content))
    # Of file systems, those on disks.
    taken.change(
        "/proc/self/mountinfo",
        lambda content: lines_with(content, rb".* - (?:zfs|\S+ /dev/)|(?:\S+ ){2}(?!0:)"),
    )


def take_machine(taken: Capture) -> None:
    """The kernel's configuration, boot entries, guests, and QEMU."""
    release = taken.text("/proc/sys/kernel/osrelease")
    for pattern in ("/boot/config-" + release, f"/usr/lib/modules/{release}/config"):
        taken.change(pattern, about_iommu)
    for folder in ("kernel", "kernel/drivers/vfio/pci"):
        for path in taken.paths(f"/lib/modules/{release}/{folder}/*"):
            taken.place(path)
    taken.change("/proc/config.gz", lambda content: compressed(about_iommu(unpacked(content))))
    if not taken.root:
        taken.write("/proc/sys/kernel/arch", os.uname().machine.encode() + b"\n")
        # A kernel that knows no IOMMU lacks these; empty ones say that there is none, where absent ones would not tell.
        for folder in ("sys/class/iommu", "sys/kernel/iommu_groups"):
            taken.entries.setdefault(folder, None)
    # Which UUIDs they are is nobody's business, only that there are any.
    taken.change("/etc/kernel/proxmox-boot-uuids", lambda content: b"removed\n" if content.strip() else b"")
    taken.change(
        "/{boot,boot/efi,efi}/loader/entries/*.conf",
        lambda content: lines_with(content, rb"\s*(?:title|version|linux)\s"),
    )
    for folder in ("/etc/libvirt/qemu", "/run/libvirt/qemu"):
        taken.change(folder + "/*.xml", lambda content: guest(taken, content))
    for path in taken.paths("/usr/{bin/qemu-system-{aarch64,x86_64},libexec/qemu-kvm}"):
        version = re.search(rb"QEMU emulator version [0-9.]*[0-9]", taken.read(path) or b"")
        taken.write(path, version.group() if version else b"")


def take_disks(taken: Capture) -> None:
    """The block devices behind what is mounted or swapped to, and udev's word on members of ZFS pools."""
    sources = [line.partition(" - ")[2].split() for line in taken.text("/proc/self/mountinfo").splitlines()]
    devices = [name for fields in sources for name in fields[1:2]]
    devices += [line.split()[0] for line in taken.text("/proc/swaps").splitlines()[1:]]
    for name in ":".join(devices).split(":"):
        if name.startswith("/dev/"):
            taken.device(name)
    for path in taken.paths("/run/udev/data/b*"):
        content = taken.read(path) or b""
        if b"E:ID_FS_TYPE=zfs_member\n" in content:
            taken.write(path, lines_with(content, rb"E:ID_FS_(?:TYPE|LABEL)="))


def take_open(taken: Capture) -> None:
    """Which processes have files of vfio open; nothing where not all processes can be seen."""
    proc = taken.root + "/proc"
    found = {}  # type: t.Dict[str, Entry]
    try:
        found["proc/self/ns/pid"] = os.readlink(proc + "/self/ns/pid")
        for process in filter(str.isdecimal, os.listdir(proc)):
            for number, target in open_files(f"{proc}/{process}/fd"):
                if "/dev/vfio/" in target or "vfio-device" in target:
                    found[f"proc/{process}/fd/{number}"] = "../../.." + target if target[0] == "/" else target
    except OSError:
        return
    taken.entries.update(found)
    taken.place("/proc/1")


def open_files(folder: str) -> t.Iterator[t.Tuple[str, str]]:
    """A process's open files by number; neither a process nor a file that has gone meanwhile is any."""
    try:
        for number in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                yield number, os.readlink(f"{folder}/{number}")
    except (FileNotFoundError, ProcessLookupError):
        return


def take_config(taken: Capture, address: str) -> None:
    """The first 256 bytes of the configuration space, which hold no serial number, unless that wakes somebody.

    The kernel resumes the device and the bridge above it for that (pci_config_pm_runtime_get() of its pci-sysfs.c).
    """
    place = taken.place(DEVICES + "/" + address)

    def state(folder: str) -> str:
        suspended = taken.text(folder + "/power/runtime_status") == "suspended"
        return taken.text(folder + "/power_state") or ("D3cold" if suspended else "D0")

    if state(place) != "D3cold" and state(os.path.dirname(place)) not in ("D1", "D2", "D3hot", "D3cold"):
        taken.write(place + "/config", taken.read(place + "/config", 256))


def take_modules(taken: Capture, addresses: t.List[str]) -> None:
    """Which modules claim devices of these vendors."""
    vendors = {taken.text(f"{DEVICES}/{address}/vendor")[2:].upper() for address in addresses}
    starts = tuple(f"pci:v{vendor}".encode() for vendor in ["*"] + ["0000" + name for name in sorted(vendors)])
    release = taken.text("/proc/sys/kernel/osrelease")
    for name, separator, alias in (("modules.alias", b"\n", b"alias "), ("modules.builtin.modinfo", b"\0", b".alias=")):
        for path in taken.paths(f"/{{lib,usr/lib}}/modules/{release}/{name}"):
            entries = (taken.read(path) or b"").split(separator)
            concerned = (entry for entry in entries if entry.partition(alias)[2].startswith(starts))
            taken.write(path, b"".join(entry + separator for entry in concerned))


def take_names(taken: Capture, addresses: t.List[str]) -> None:
    """The lines of pci.ids about these vendors, devices and cards, and all classes (see pci.ids(5))."""
    attributes = ("vendor", "device", "subsystem_vendor")
    devices = {
        tuple(taken.text(f"{DEVICES}/{address}/{name}")[2:].encode() for name in attributes) for address in addresses
    }
    vendors = {vendor for known in devices for vendor in known[::2]}
    numbers = {known[:2] for known in devices}
    for path in taken.paths("/usr/share/{misc,hwdata,.}/pci.ids{,.gz}"):
        content = taken.read(path) or b""
        kept, section, device = [], b"", b""
        for line in (unpacked(content) if path.endswith(".gz") else content).splitlines(keepends=True):
            if line[:1] in (b"#", b"\n"):
                continue
            if line[:1] != b"\t":
                section, device = line[:4], b""
            elif line[:2] != b"\t\t":
                device = line[1:5]
            if section.startswith(b"C ") or (section, device) in numbers or (not device and section in vendors):
                kept.append(line)
        taken.write("/usr/share/misc/pci.ids", b"".join(kept))
        return


def harmless(content: bytes) -> bytes:
    """Kernel arguments, with the values of those that may hold a secret replaced; what follows -- is init's."""
    words = WORD.findall(content.decode("utf-8", "replace"))
    kept = []
    for word in words[: words.index("--")] if "--" in words else words:
        name, equals, _value = word.partition("=")
        known = not equals or HARMLESS.fullmatch(name.replace("-", "_"))
        kept.append(word if known else name + "=removed")
    return (" ".join(kept) + "\n").encode()


def guest(taken: Capture, content: bytes) -> t.Optional[bytes]:
    """A libvirt domain reduced to its name, its memory, and the host's devices in it; None where it is no domain."""
    try:
        top = ET.fromstring(content)
    except (ET.ParseError, ValueError):
        return None
    domain = top if top.tag == "domain" else top.find("domain")
    if domain is None:
        return None
    devices = []
    for device in domain.iterfind("devices/*"):
        for source in device.iterfind(".//source"):
            disk = source.get("dev", "")
            if disk.startswith("/dev/"):
                taken.device(disk)
            addresses = "".join(shown(part) for part in source.findall("address[@slot]"))
            if addresses or disk.startswith("/dev/"):
                devices.append(shown(device, ("type", "managed"), shown(source, ("dev",), addresses)))
    parts = [shown(part) for tag in ("name", "memory") for part in domain.findall(tag)]
    parts += ["<devices>"] + ["  " + device for device in devices] + ["</devices>"]
    return "<domain>\n  {}\n</domain>\n".format("\n  ".join(parts)).encode()


def shown(element: ET.Element, attributes: t.Optional[t.Sequence[str]] = None, inner: t.Optional[str] = None) -> str:
    """An element in libvirt's own spelling."""
    kept = [(name, value) for name, value in element.items() if attributes is None or name in attributes]
    pairs = "".join(" {}='{}'".format(name, escape(value, {"'": "&apos;"})) for name, value in kept)
    inner = escape(element.text or "") if inner is None else inner
    return f"<{element.tag}{pairs}>{inner}</{element.tag}>"


def anonymous(taken: Capture) -> "t.Dict[str, Entry]":
    """The entries, with other names for network cards, disks and the machine itself wherever they are mentioned.

    Interfaces may be called after their MAC address, and boot entries after the machine.
    """
    names = dict(taken.other_names)
    machine = taken.text("/etc/machine-id")
    if machine:
        names[machine] = "0" * len(machine)
    cards = {taken.text(path).lower() for path in taken.paths("/sys/class/net/*/address")}
    for number, card in enumerate(sorted(card for card in cards if card.strip("0:")), start=1):
        digits = card.replace(":", "")
        other = "{:0{}x}".format(number, len(digits))
        names[digits], names[digits.upper()] = other, other
        names[card] = ":".join(re.findall("..", other))
        names[card.upper()] = names[card]
    if not names:
        return taken.entries
    pattern = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))
    raw = re.compile(pattern.pattern.encode())

    def renamed(text: str) -> str:
        return pattern.sub(lambda found: names[found.group()], text)

    def entry(content: Entry) -> Entry:
        if isinstance(content, bytes):
            return raw.sub(lambda found: names[found.group().decode()].encode(), content)
        return None if content is None else renamed(content)

    return {renamed(path): entry(content) for path, content in taken.entries.items()}


def lines_with(content: bytes, pattern: bytes) -> bytes:
    return b"".join(line for line in content.splitlines(keepends=True) if re.match(pattern, line))


def lines_without(content: bytes, pattern: bytes) -> bytes:
    return b"".join(line for line in content.splitlines(keepends=True) if not re.match(pattern, line))


def about_iommu(config: bytes) -> bytes:
    return b"#\n" + lines_with(config, rb"(?:# )?CONFIG_\w*(?:IOMMU|VFIO|KVM)")


def unpacked(content: bytes) -> bytes:
    """What gzip packed; nothing where it is damaged."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


def compressed(content: bytes) -> bytes:
    """The same bytes for the same content: without the time."""
    stream = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, stream, 0) as packed:
        packed.write(content)
    return stream.getvalue()


def braces(pattern: str) -> t.List[str]:
    """{a,b} as the shell has it, which Python's glob does not know."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    start, end = pattern[: found.start()], pattern[found.end() :]
    return [whole for choice in found.group(1).split(",") for whole in braces(start + choice + end)]


def packed(entries: t.Mapping[str, Entry]) -> bytes:
    """A tar file that is the same for the same entries."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(entries):
            content = entries[path]
            member = tarfile.TarInfo("./" + path)
            member.uname = member.gname = "root"
            member.mode = 0o644
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return compressed(stream.getvalue())


def lspci(entries: t.Mapping[str, Entry]) -> t.Dict[str, Entry]:
    """What lspci says of the captured devices, where it is installed: for people, and to hold pci_facts against it."""
    program = shutil.which("lspci", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin")
    said = {}  # type: t.Dict[str, Entry]
    if program is None or not any(path.startswith("sys/bus/pci/devices/") for path in entries):
        return said
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed(entries))) as tar:
            filtering = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}  # type: t.Dict[str, t.Any]
            tar.extractall(folder, **filtering)
        source = ["-A", "linux-sysfs", "-O", f"sysfs.path={folder}/sys/bus/pci", "-O", "hwdb.disable=1"]
        source += ["-i", folder + "/usr/share/misc/pci.ids"]
        for name, options in (("lspci.txt", "-Dvvnnk"), ("lspci-path.txt", "-DP")):
            done = subprocess.run(
                [program, *source, options],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(os.environ, LC_ALL="C.UTF-8"),
                check=False,
            )
            if done.returncode == 0:
                said[name] = done.stdout
    return said


def main(arguments: t.Optional[t.Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="/", help="capture the machine whose files lie below this folder")
    parser.add_argument("name", metavar="NAME.tar.gz", help="the file to write")
    chosen = parser.parse_args(arguments)
    if not os.path.isdir(chosen.root):
        parser.error("there is no folder " + chosen.root)
    entries = capture(chosen.root)
    entries.update(lspci(entries))
    try:
        with open(chosen.name, "wb") as stream:
            stream.write(packed(entries))
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
