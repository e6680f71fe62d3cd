# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _bootloader as b
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import HostFailure, InvalidInput, Refused

MACHINE = "0123456789abcdef0123456789abcdef"
CONF = f"/boot/efi/loader/entries/{MACHINE}-6.1.conf"
READS = b"for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n"
SYSTEMD_BOOT = b"\x06\0\0\0" + "systemd-boot 252.39\0".encode("utf-16-le")

GRUB_CFG = """\
### BEGIN /etc/grub.d/00_header ###
### END /etc/grub.d/00_header ###
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Debian' {{
\tlinux\t/boot/vmlinuz-6.1 root=UUID=1 ro {linux} {default}
\tinitrd\t/boot/initrd.img-6.1
}}
\tmenuentry 'Debian, old' {{
\t\tlinux\t/boot/vmlinuz-5.10 root=UUID=1 ro {linux} {default}
\t}}
\tmenuentry 'Debian (recovery mode)' {{
\t\tlinux\t/boot/vmlinuz-6.1 root=UUID=1 ro single {linux}
\t}}
### END /etc/grub.d/10_linux ###
### BEGIN /etc/grub.d/30_os-prober ###
\tlinux /vmlinuz-other root=/dev/sdb1
### END /etc/grub.d/30_os-prober ###
"""


class Host:
    """A root whose commands do what the real ones do to its files; every call that changes something is kept."""

    def __init__(self, root, files):
        self.root = str(root)
        self.calls = []
        self.entries = None
        self.fails = None
        for path, content in files.items():
            self.write(path, content)

    def path(self, path):
        return self.root + path

    def write(self, path, content):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode())

    def read(self, path):
        try:
            with open(self.path(path), "rb") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def snapshot(self):
        return {
            os.path.join(folder, name)[len(self.root) :]: self.read(os.path.join(folder, name)[len(self.root) :])
            for folder, _folders, names in os.walk(self.root)
            for name in names
        }

    def run(self, argv):
        assert argv[:3] == ["timeout", "--kill-after=10", "600"]
        argv = argv[3:]
        name = os.path.basename(argv[0])
        if argv[1:] == ["--info=ALL"]:
            return (
                0,
                "".join(
                    f'index={i}\nkernel="{k}"\nargs="{a}"\nroot="UUID=1"\n' for i, (k, a) in enumerate(self.entries)
                )
                + "index=9\nnon linux entry\n",
                "",
            )
        self.calls.append(argv)
        if self.fails:
            return 1, "", self.fails
        if name in ("update-grub", "grub-mkconfig", "grub2-mkconfig"):
            self.mkconfig(argv[2] if len(argv) > 2 else "/boot/grub/grub.cfg")
        elif name == "kernel-install":
            options = (
                " ".join((self.read(b.CMDLINE) or self.read("/proc/cmdline")).decode("latin-1").split())
                + f" systemd.machine_id={MACHINE}"
            )
            self.write(CONF.replace("6.1", argv[2]), f"title x\nversion {argv[2]}\noptions {options}\nlinux /x/linux\n")
        elif name == "grubby":
            remove = next((a.split("=", 1)[1].split() for a in argv if a.startswith("--remove-args=")), [])
            add = next((a.split("=", 1)[1].split() for a in argv if a.startswith("--args=")), [])
            self.entries = [
                (k, " ".join([w for w in a.split() if w not in remove and w not in add] + add)) for k, a in self.entries
            ]
        return 0, "", ""

    def mkconfig(self, config):
        """What the shell makes of the settings, in mkconfig's order."""
        script = f'cd "{self.root}"; . ./etc/default/grub; '
        if b"grub.d" in (self.read("/usr/sbin/grub-mkconfig") or b""):
            script += 'for x in ./etc/default/grub.d/*.cfg; do if [ -e "$x" ]; then . "$x"; fi; done; '
        else:
            text = self.read(b.GRUB_DEFAULT).decode().replace(b.DROP_IN, "." + b.DROP_IN)
            script = f'cd "{self.root}"; {text}\n'
        script += 'printf "%s\\n%s\\n" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"'
        out = subprocess.run(["sh", "-ec", script], capture_output=True, check=True, timeout=60).stdout.decode()
        linux, default = out.split("\n")[:2]
        self.write(config, GRUB_CFG.format(linux=linux, default=default))

    def plan(self, args, present=True, boot_loader="auto", run=True):
        return b.decide(self.root, boot_loader, args, present, self.run if run else None)

    def apply(self, args, present=True, boot_loader="auto", run=True):
        """A check run, the run itself, and a second one that has to find nothing to do. Returns the report."""
        before = self.snapshot()
        predicted = b.report(self.plan(args, present, boot_loader, run), args, present)
        assert self.snapshot() == before
        plan = self.plan(args, present, boot_loader, run)
        self.calls.clear()
        if plan.changed:
            b.execute(plan, self.run if run else None, os.replace)
        assert b.report(plan, args, present) == predicted
        again = b.report(self.plan(args, present, boot_loader, run), args, present)
        assert (again["changed"], again["added"]) == (False, predicted["added"])
        if run:
            assert self.calls == predicted["commands"]
            assert again["commands"] == []
        return predicted


def debian(default='GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n', **more):
    return {
        b.GRUB_DEFAULT: default,
        "/usr/sbin/update-grub": "exec grub-mkconfig\n",
        "/usr/sbin/grub-mkconfig": READS,
        "/sys/firmware/acpi/x": b"",
        "/proc/cmdline": b"BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1 ro quiet\n",
        **more,
    }


def suse(default='GRUB_CMDLINE_LINUX_DEFAULT="splash=silent"\nGRUB_CMDLINE_LINUX=""\n'):
    return {b.GRUB_DEFAULT: default, "/usr/sbin/grub2-mkconfig": b"no such folder\n", "/sys/firmware/acpi/x": b""}


def systemd_boot(cmdline=b"root=UUID=1 ro quiet\n", **more):
    files = {
        "/usr/bin/kernel-install": b"",
        "/etc/machine-id": MACHINE + "\n",
        CONF: b"version 6.1\noptions root=UUID=1 ro quiet\nlinux /x/linux\n",
        CONF.replace("6.1", "5.10"): b"version 5.10\noptions root=UUID=1 ro quiet\nlinux /x/linux\n",
        CONF.replace("6.1", "4.0"): b"version 4.0\noptions root=UUID=1 ro quiet\nlinux /gone/linux\n",
        "/boot/efi/loader/entries/memtest.conf": b"linux /memtest\noptions x\n",
        "/boot/vmlinuz-6.1": b"",
        "/usr/lib/modules/5.10/vmlinuz": b"",
        "/proc/cmdline": b"initrd=\\x\\initrd root=UUID=1 ro quiet\n",
        b.CMDLINE: cmdline,
        **more,
    }
    return {path: content for path, content in files.items() if content is not None}


def proxmox(cmdline=b"root=ZFS=rpool/ROOT/pve-1 boot=zfs\n", info=SYSTEMD_BOOT):
    files = {"/etc/kernel/proxmox-boot-uuids": b"1234-ABCD\n", "/usr/sbin/proxmox-boot-tool": b"", b.CMDLINE: cmdline}
    if info:
        files[b._LOADER_INFO] = info
    return {**debian(), **files}


def red_hat(tmp_path, *args):
    host = Host(tmp_path, {"/usr/sbin/grubby": b"", b.GRUB_DEFAULT: b"", "/usr/sbin/grub2-mkconfig": b""})
    host.entries = [(f"/boot/vmlinuz-{n}", line) for n, line in enumerate(args)]
    return host


# Arguments


@pytest.mark.parametrize(
    "arg",
    [
        "a b",
        "a\n",
        "",
        "-x",
        "--",
        "a$b",
        "a`b",
        'a="b"',
        "a'b",
        "a\\b",
        "a;b",
        "a&b",
        "a|b",
        "a#b",
        "a{b",
        "x=a;b",
        "ä",
        "a*",
    ],
)
def test_an_argument_that_needs_quoting_is_refused(arg):
    with pytest.raises(InvalidInput, match="is not an argument that can be passed") as error:
        b.check([arg])
    assert repr(arg) in str(error.value)


@pytest.mark.parametrize(
    "arg",
    [
        "intel_iommu=on,sm_on",
        "vfio-pci.ids=10de:1eb8,10de:10f8",
        "console=ttyS0,115200n8",
        "isolcpus=1-3",
        "memmap=1G!4G",
        "root=/dev/sda1",
        "quiet",
        "x=",
        "pci=resource_alignment=12@0000:00:1f.0",
        "video=HDMI-A-1:1920x1080@60",
    ],
)
def test_what_parameters_need_is_allowed(arg):
    assert b.check([arg, arg]) == [arg]
    assert shlex.split(arg) == [arg]


def test_contradicting_arguments_are_refused():
    with pytest.raises(InvalidInput, match="iommu=pt and iommu=off contradict each other"):
        b.check(["iommu=pt", "iommu=off"])
    assert b.check(["console=tty0", "console=ttyS0"]) == ["console=tty0", "console=ttyS0"]


# The faults of peers: a pattern where a name was meant, only a part of the line, the wrong one of two values.
@pytest.mark.parametrize(
    ("line", "arg", "there"),
    [
        ("intel_iommu=on", "iommu=on", False),
        ("amd_iommu=pt", "iommu=pt", False),
        ("vfio-pcixids=10de:1", "vfio-pci.ids=10de:1", False),
        ("vfio_pci.ids=10de:1", "vfio-pci.ids=10de:1", True),
        ("iommu=pt iommu=off", "iommu=pt", False),
        ("iommu=off iommu=pt", "iommu=pt", True),
        ("console=tty0 console=ttyS0", "console=tty0", True),
        ("rd.lvm.lv=a rd.lvm.lv=b", "rd.lvm.lv=a", True),
        ("quiet=1", "quiet", False),
        ("quiet", "quiet", True),
        ("iommu=PT", "iommu=pt", False),
        ('dyndbg="file a.c iommu=pt +p"', "iommu=pt", False),
    ],
)
def test_holds(line, arg, there):
    assert b.holds(b.words(line), arg) is there


def test_running_arguments_end_where_those_of_init_start(tmp_path):
    assert b.running(str(tmp_path)) is None
    host = Host(tmp_path, {"/proc/cmdline": b"a=1 -- iommu=pt\n"})
    assert b.running(host.root) == ["a=1"]


# Detection

TREES = {
    "Debian, BIOS": (debian(), "grub"),
    "Debian image without /sys": ({b.GRUB_DEFAULT: b"", "/usr/sbin/update-grub": b""}, "grub"),
    "SUSE": (suse(), "grub"),
    "RHEL": ({"/usr/sbin/grubby": b"", b.GRUB_DEFAULT: b"", "/usr/sbin/grub2-mkconfig": b""}, "grubby"),
    "systemd-boot, running": (systemd_boot(**{b._LOADER_INFO: SYSTEMD_BOOT}), "systemd-boot"),
    "systemd-boot, image": (systemd_boot(), "systemd-boot"),
    "systemd-boot, with GRUB left over": (
        {**debian(), **systemd_boot(**{b._LOADER_INFO: SYSTEMD_BOOT})},
        "systemd-boot",
    ),
    "GRUB, with entries left over": ({**debian(), **systemd_boot()}, "grub"),
    "Proxmox, ZFS on UEFI": (proxmox(), "proxmox"),
    "Proxmox, ZFS on BIOS": (proxmox(info=None), "grub"),
    "Proxmox, LVM": ({**proxmox(), "/etc/kernel/proxmox-boot-uuids": b"", b._LOADER_INFO: b""}, "grub"),
}


@pytest.mark.parametrize(("files", "boot_loader"), TREES.values(), ids=TREES)
def test_detect(tmp_path, files, boot_loader):
    assert b.detect(Host(tmp_path, files).root) == boot_loader


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "set boot_loader to one of grub, grubby, systemd-boot, proxmox. Looked at: .*grubby: no; .*no /sys here"),
        (
            {**{k: v for k, v in debian().items() if "/sys/" not in k}, **systemd_boot()},
            "a mkconfig: /usr/sbin/update-grub",
        ),
        ({**debian(), "/run/ostree-booted": b""}, "rpm-ostree kargs"),
        ({k: v for k, v in proxmox(info=None).items() if "/sys/" not in k}, "proxmox-boot-tool: yes"),
    ],
)
def test_detect_refuses_to_guess(tmp_path, files, said):
    with pytest.raises(Refused, match=said):
        b.detect(Host(tmp_path, files).root)


# GRUB

DROP_IN = b.HEADER + 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {}"\n'

# the user's settings, arguments, the drop-in afterwards, conflicts as (other, file, line)
GRUB = {
    "new": (
        "GRUB_CMDLINE_LINUX_DEFAULT=quiet\n",
        ["intel_iommu=on", "iommu=pt"],
        DROP_IN.format("intel_iommu=on iommu=pt"),
        [],
    ),
    "there already": ("GRUB_CMDLINE_LINUX='iommu=pt'\n", ["iommu=pt"], None, []),
    "there already, among the defaults": ('GRUB_CMDLINE_LINUX_DEFAULT="quiet iommu=pt"\n', ["iommu=pt"], None, []),
    "a longer name is another": ("GRUB_CMDLINE_LINUX=intel_iommu=pt\n", ["iommu=pt"], DROP_IN.format("iommu=pt"), []),
    "in a comment": ("#GRUB_CMDLINE_LINUX=iommu=pt\n", ["iommu=pt"], DROP_IN.format("iommu=pt"), []),
    "another value, which then comes first": (
        '# x\nGRUB_CMDLINE_LINUX="iommu=off"\n',
        ["iommu=pt"],
        DROP_IN.format("iommu=pt"),
        [("iommu=off", b.GRUB_DEFAULT, 2)],
    ),
    "another value among the defaults, which come last": (
        "GRUB_CMDLINE_LINUX_DEFAULT='quiet iommu=off'\n",
        ["iommu=pt", "x=1"],
        DROP_IN.format("iommu=pt x=1") + 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT iommu=pt"\n',
        [("iommu=off", b.GRUB_DEFAULT, 1)],
    ),
    "a name that may stand twice": (
        "GRUB_CMDLINE_LINUX_DEFAULT=console=tty0\n",
        ["console=ttyS0,115200"],
        DROP_IN.format("console=ttyS0,115200"),
        [],
    ),
    "over several lines, with a variable": (
        'MINE="iommu=pt"\nGRUB_CMDLINE_LINUX="quiet \\\n  a=1 ${MINE}"\nX=`lsb_release -i || echo Debian`\n',
        ["iommu=pt", "a=1"],
        None,
        [],
    ),
    "CR LF": ("GRUB_CMDLINE_LINUX_DEFAULT=quiet\r\n", ["iommu=pt"], DROP_IN.format("iommu=pt"), []),
}


@pytest.mark.parametrize(("default", "args", "expected", "conflicts"), GRUB.values(), ids=GRUB)
def test_grub(tmp_path, default, args, expected, conflicts):
    host = Host(tmp_path, debian(default))
    host.mkconfig("/boot/grub/grub.cfg")
    before = host.snapshot()
    result = host.apply(args)
    assert (host.read(b.DROP_IN) or b"").decode() == (expected or "")
    assert [(c["other"], c["file"], c["line"]) for c in result["conflicts"]] == [
        (other, host.path(file), line) for other, file, line in conflicts
    ]
    assert result["commands"] == ([["/usr/sbin/update-grub"]] if expected else [])
    for line in b.grub_lines(host.read("/boot/grub/grub.cfg")).values():
        assert all(b.holds(line, arg) for arg in args)
    assert host.read(b.GRUB_DEFAULT) == before[b.GRUB_DEFAULT]
    if expected:
        assert host.apply(args, present=False)["added"] == []
        assert host.snapshot() == before


def test_grub_replaces_what_is_ours(tmp_path):
    host = Host(tmp_path, debian())
    host.apply(["iommu=pt", "a=1"])
    assert host.apply(["iommu=soft"])["added"] == ["a=1", "iommu=soft"]
    assert host.apply(["a_b=1", "a-b=1"])["added"] == ["a=1", "iommu=soft", "a_b=1"]
    assert host.apply([], present=False)["added"] == ["a=1", "iommu=soft", "a_b=1"]


@pytest.mark.parametrize("ours", [[], ["iommu=pt"]])
def test_grub_does_not_take_away_what_the_user_gave(tmp_path, ours):
    host = Host(tmp_path, debian("# x\n"))
    host.apply([*ours, "a=1"])
    host.write(b.GRUB_DEFAULT, "# x\n\nGRUB_CMDLINE_LINUX_DEFAULT='quiet iommu=pt'\n")
    before = host.snapshot()
    with pytest.raises(Refused, match=f"{host.path(b.GRUB_DEFAULT)}:3 gives iommu=pt: remove it there"):
        host.plan(["a=1", "iommu=pt"], present=False)
    assert host.snapshot() == before


def test_absent_of_no_arguments_removes_nothing(tmp_path):
    """StackHPC's empty list matched, and removed, everything."""
    host = Host(tmp_path, debian())
    host.apply(["iommu=pt"])
    before = host.snapshot()
    assert host.apply([], present=False) == {**host.apply([]), "changed": False, "added": ["iommu=pt"]}
    assert host.snapshot() == before


def test_absent_is_exact(tmp_path):
    """StackHPC's unanchored names also removed amd_iommu and vfio_iommu_type1.allow_unsafe_interrupts."""
    args = ["amd_iommu=force_enable", "vfio_iommu_type1.allow_unsafe_interrupts=1", "iommu=pt"]
    host = Host(tmp_path, debian())
    host.apply(args)
    assert host.apply(["iommu", "iommu=off"], present=False)["changed"] is False
    assert host.apply(["iommu=pt"], present=False)["added"] == args[:2]


@pytest.mark.parametrize(
    "content", ['GRUB_CMDLINE_LINUX="a=1"\n', 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu=off"\n']
)
def test_grub_names_the_file_that_overrules_ours(tmp_path, content):
    host = Host(tmp_path, debian(**{"/etc/default/grub.d/zz.cfg": content, "/etc/default/grub.d/aa.cfg": content}))
    with pytest.raises(Refused, match=r"zz\.cfg is read after .*passthrough\.cfg and overrules it, so that iommu=pt"):
        host.plan(["iommu=pt"])


def test_grub_leaves_a_drop_in_of_that_name_alone(tmp_path):
    host = Host(tmp_path, debian(**{b.DROP_IN: "GRUB_TIMEOUT=1\n"}))
    with pytest.raises(Refused, match="was not written by this module"):
        host.plan(["iommu=pt"])


@pytest.mark.parametrize("present", [True, False])
def test_grub_finishes_a_run_that_was_killed(tmp_path, present):
    """The drop-in was written, or removed, and mkconfig did not run."""
    host = Host(tmp_path, debian())
    if not present:
        host.apply(["iommu=pt"])
    host.mkconfig("/boot/grub/grub.cfg")
    b.execute(host.plan(["iommu=pt"], present, run=False), None, os.replace)
    result = host.apply(["iommu=pt"], present)
    assert (result["changed"], result["files"], result["commands"]) == (True, [], [["/usr/sbin/update-grub"]])


def test_grub_puts_the_drop_in_back_when_mkconfig_fails(tmp_path):
    host = Host(tmp_path, debian())
    host.apply(["a=1"])
    before = host.snapshot()
    host.fails = "warning\n/usr/sbin/grub-probe: error: no device\n"
    with pytest.raises(HostFailure) as error:
        b.execute(host.plan(["iommu=pt"]), host.run, os.replace)
    assert str(error.value) == (
        "/usr/sbin/update-grub failed with code 1: warning / /usr/sbin/grub-probe: error: no device. "
        f"Restored as it was before: {host.path(b.DROP_IN)}"
    )
    assert host.snapshot() == before


def test_grub_notices_a_mkconfig_that_does_not_do_as_asked(tmp_path):
    host = Host(tmp_path, debian("if true; then :; fi\n"))
    host.apply(["a=1"])
    before = host.snapshot()
    with pytest.raises(
        HostFailure, match=r"update-grub succeeded, but .*grub.cfg:5 \(vmlinuz-6.1\) lacks iommu=pt.*Restored"
    ):
        b.execute(host.plan(["iommu=pt"]), lambda argv: (0, "", ""), os.replace)
    assert host.snapshot() == before


def test_a_command_that_hangs_is_ended(tmp_path):
    host = Host(tmp_path, debian())
    with pytest.raises(HostFailure, match="update-grub took longer than 600 seconds and was ended"):
        b.execute(host.plan(["iommu=pt"]), lambda argv: (124, "", ""), os.replace)


@pytest.mark.parametrize("default", ["GRUB_TIMEOUT=1\n", "GRUB_TIMEOUT=1", "", 'GRUB_CMDLINE_LINUX="x=1"\n\n'])
def test_grub_without_a_folder_of_drop_ins(tmp_path, default):
    """SUSE: the user's file reads ours in its last line, and is itself again afterwards, byte for byte."""
    host = Host(tmp_path, suse(default))
    result = host.apply(["iommu=pt"])
    assert result["commands"] == [["/usr/sbin/grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]]
    assert result["files"] == [host.path(b.DROP_IN), host.path(b.GRUB_DEFAULT)]
    assert host.read(b.GRUB_DEFAULT).decode().startswith(default)
    assert all("iommu=pt" in line for line in b.grub_lines(host.read("/boot/grub2/grub.cfg")).values())
    assert host.apply(["a=1"])["files"] == [host.path(b.DROP_IN)]
    host.apply(["iommu=pt", "a=1"], present=False)
    assert host.read(b.GRUB_DEFAULT) == default.encode()
    assert host.read(b.DROP_IN) is None


def test_grub_that_reads_boot_entries_needs_grubby(tmp_path):
    host = Host(tmp_path, {**suse("GRUB_ENABLE_BLSCFG=true\n")})
    with pytest.raises(Refused, match="sets GRUB_ENABLE_BLSCFG.*install grubby"):
        host.plan(["iommu=pt"])


def test_grub_of_proxmox_is_refreshed_on_its_boot_partitions(tmp_path):
    host = Host(tmp_path, proxmox(info=None))
    plan = host.plan(["iommu=pt"])
    for change in plan.files:
        b.carry_out(change, os.replace)
    # Killed here. What the partitions hold cannot be seen, so that the record has to tell.
    result = host.apply(["iommu=pt"])
    assert result["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]
    assert host.read(b.RECORD) is None
    assert not os.path.exists(os.path.dirname(host.path(b.RECORD)))
    assert host.read(b.CMDLINE) == proxmox()[b.CMDLINE]


# /etc/kernel/cmdline

# before, arguments, after, and whether taking them back gives the same bytes
CMDLINES = {
    "appended": (b"root=x quiet\n", ["iommu=pt", "a=1"], b"root=x quiet iommu=pt a=1\n"),
    "no final newline": (b"root=x quiet", ["iommu=pt"], b"root=x quiet iommu=pt"),
    "blanks and empty lines": (b"root=x  quiet \t\n\n", ["iommu=pt"], b"root=x  quiet iommu=pt \t\n\n"),
    "there already": (b"root=x iommu=pt\n", ["iommu=pt"], b"root=x iommu=pt\n"),
    "a value is replaced where it stands": (b"iommu=off root=x\n", ["iommu=pt"], b"iommu=pt root=x\n"),
    "the last value counts": (b"iommu=pt iommu=off x\n", ["iommu=pt"], b"iommu=pt iommu=pt x\n"),
    "quotes, Latin-1": (b'root=x a="b iommu=pt" caf\xe9\n', ["iommu=pt"], b'root=x a="b iommu=pt" caf\xe9 iommu=pt\n'),
    "a name that may stand twice": (
        b"root=x console=tty0\n",
        ["console=ttyS0"],
        b"root=x console=tty0 console=ttyS0\n",
    ),
    "what follows -- is init's": (b"root=x -- iommu=pt\n", ["iommu=pt"], b"root=x iommu=pt -- iommu=pt\n"),
    "another spelling": (b"root=x vfio_pci.ids=1:2\n", ["vfio-pci.ids=1:2"], b"root=x vfio_pci.ids=1:2\n"),
}


@pytest.mark.parametrize(("before", "args", "after"), CMDLINES.values(), ids=CMDLINES)
@pytest.mark.parametrize("boot_loader", ["systemd-boot", "proxmox"])
def test_cmdline(tmp_path, boot_loader, before, args, after):
    host = Host(tmp_path, {**(systemd_boot if boot_loader == "systemd-boot" else proxmox)(before)})
    if boot_loader == "systemd-boot":
        host.run(["timeout", "--kill-after=10", "600", "kernel-install", "add", "6.1", "x"])
        host.run(["timeout", "--kill-after=10", "600", "kernel-install", "add", "5.10", "x"])
    start = host.snapshot()
    result = host.apply(args, boot_loader=boot_loader)
    assert host.read(b.CMDLINE) == after
    expected = []
    if after != before and boot_loader == "proxmox":
        expected = [["/usr/sbin/proxmox-boot-tool", "refresh"]]
    elif after != before:
        expected = [
            ["/usr/bin/kernel-install", "add", version, image]
            for version, image in (("5.10", "/usr/lib/modules/5.10/vmlinuz"), ("6.1", "/boot/vmlinuz-6.1"))
        ]
    assert result["commands"] == expected
    assert result["added"] == (args if after != before else [])
    host.apply(result["added"], present=False, boot_loader=boot_loader)
    if before != CMDLINES["the last value counts"][0]:
        assert host.snapshot() == start


def test_cmdline_restores_what_was_replaced_first(tmp_path):
    host = Host(tmp_path, proxmox(b"root=x iommu=off\n"))
    host.apply(["iommu=pt"])
    assert host.apply(["iommu=soft"])["added"] == ["iommu=soft"]
    host.apply(["iommu=soft"], present=False)
    assert host.read(b.CMDLINE) == b"root=x iommu=off\n"
    host.apply(["iommu=pt"])
    assert host.apply(["iommu=off"])["added"] == []
    assert host.read(b.CMDLINE) == b"root=x iommu=off\n"
    assert host.read(b.RECORD) is None


def test_cmdline_removes_the_users_argument_when_asked(tmp_path):
    host = Host(tmp_path, proxmox(b"iommu=pt root=x  quiet=1 quiet iommu=pt\n"))
    assert host.apply(["iommu=pt", "quiet"], present=False)["changed"]
    assert host.read(b.CMDLINE) == b"root=x  quiet=1\n"


def test_proxmox_reads_one_line(tmp_path):
    host = Host(tmp_path, proxmox(b"\nroot=x\niommu=pt\n"))
    host.apply(["iommu=pt"])
    assert host.read(b.CMDLINE) == b"\nroot=x iommu=pt\niommu=pt\n"
    other = Host(tmp_path / "other", systemd_boot(b"root=x\niommu=pt\n# end\n"))
    other.apply(["iommu=pt", "a=1"])
    assert other.read(b.CMDLINE) == b"root=x\niommu=pt a=1\n# end\n"


def test_cmdline_with_a_carriage_return_is_refused(tmp_path):
    host = Host(tmp_path, proxmox(b"root=x quiet\r\n"))
    with pytest.raises(Refused, match="holds a carriage return"):
        host.plan(["iommu=pt"])


@pytest.mark.parametrize(
    ("more", "base"),
    [({}, b"root=UUID=1 ro quiet"), ({"/usr/lib/kernel/cmdline": b"root=y\nquiet\n"}, b"root=y\nquiet")],
)
def test_a_missing_cmdline_starts_as_kernel_install_would(tmp_path, more, base):
    host = Host(tmp_path, systemd_boot(None, **more))
    host.apply(["iommu=pt"])
    assert host.read(b.CMDLINE) == base + b" iommu=pt\n"
    host.apply(["iommu=pt"], present=False)
    assert host.read(b.CMDLINE) is None
    assert host.read(b.RECORD) is None


def test_a_missing_cmdline_of_an_image_is_an_error(tmp_path):
    host = Host(tmp_path, {k: v for k, v in systemd_boot(None).items() if k != "/proc/cmdline"})
    with pytest.raises(Refused, match="is missing, and there is no running kernel"):
        host.plan(["iommu=pt"])


def test_entries_that_kernel_install_did_not_write_are_not_ours(tmp_path):
    host = Host(tmp_path, systemd_boot(**{"/etc/machine-id": b"f" * 32}))
    with pytest.raises(Refused, match="no entry in loader/entries .* was written by kernel-install"):
        host.plan(["iommu=pt"], boot_loader="systemd-boot")


@pytest.mark.parametrize("boot_loader", ["systemd-boot", "proxmox"])
@pytest.mark.parametrize("present", [True, False])
def test_cmdline_finishes_a_run_that_was_killed(tmp_path, boot_loader, present):
    host = Host(tmp_path, (systemd_boot if boot_loader == "systemd-boot" else proxmox)())
    start = host.snapshot()
    if not present:
        host.apply(["iommu=pt"])
    for change in host.plan(["iommu=pt"], present).files:
        b.carry_out(change, os.replace)
    assert host.plan([]).added == (["iommu=pt"] if present else [])
    result = host.apply(["iommu=pt"], present)
    assert result["changed"]
    assert result["commands"]
    assert result["files"] == [host.path(b.RECORD)]
    if boot_loader == "proxmox":
        assert (host.snapshot() == start) is not present


def test_cmdline_is_put_back_when_a_command_fails(tmp_path):
    host = Host(tmp_path, proxmox())
    host.fails = "no ESP"
    with pytest.raises(HostFailure, match=f"no ESP. Restored as it was before: {host.path(b.CMDLINE)}"):
        b.execute(host.plan(["iommu=pt"]), host.run, os.replace)
    assert host.read(b.CMDLINE) == proxmox()[b.CMDLINE]
    assert host.plan([]).added == []
    host.fails = None
    assert host.apply(["iommu=pt"])["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]


def test_a_damaged_record_is_named(tmp_path):
    host = Host(tmp_path, proxmox())
    for content in (b"[]", b"{", b'{"added": [1]}'):
        host.write(b.RECORD, content)
        with pytest.raises(HostFailure, match=f"{host.path(b.RECORD)} is damaged"):
            host.plan([])


# grubby


def test_grubby_looks_at_every_entry(tmp_path):
    """The bootloader role of linux-system-roles takes the first entry for all of them."""
    host = red_hat(tmp_path, "ro iommu=pt", "ro", "ro iommu=soft")
    result = host.apply(["iommu=pt"])
    assert result["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--remove-args=iommu=soft", "--args=iommu=pt"]
    ]
    assert [line for _kernel, line in host.entries] == ["ro iommu=pt"] * 3


def test_grubby_names_are_no_patterns(tmp_path):
    host = red_hat(tmp_path, "ro vfio-pcixids=10de:1 intel_iommu=pt")
    assert host.apply(["vfio-pci.ids=10de:1", "iommu=pt"])["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--args=vfio-pci.ids=10de:1 iommu=pt"]
    ]
    assert host.apply(["vfio-pci.ids=10de:1", "iommu=pt"], present=False)["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--remove-args=vfio-pci.ids=10de:1 iommu=pt"]
    ]
    assert host.entries[0][1] == "ro vfio-pcixids=10de:1 intel_iommu=pt"
    assert host.read(b.RECORD) is None


def test_grubby_gives_back_what_was_replaced(tmp_path):
    host = red_hat(tmp_path, "ro iommu=off", "ro iommu=off")
    assert host.apply(["iommu=pt"])["added"] == ["iommu=pt"]
    assert json.loads(host.read(b.RECORD))["added"] == [{"arg": "iommu=pt", "replaced": "iommu=off"}]
    assert host.apply(["iommu=pt"], present=False)["commands"] == [
        ["/usr/sbin/grubby", "--update-kernel=ALL", "--remove-args=iommu=pt", "--args=iommu=off"]
    ]
    assert [line for _kernel, line in host.entries] == ["ro iommu=off"] * 2


def test_grubby_there_already_is_not_ours(tmp_path):
    host = red_hat(tmp_path, "ro iommu=pt", "ro iommu=pt")
    result = host.apply(["iommu=pt"])
    assert (result["changed"], result["added"]) == (False, [])


def test_grubby_would_take_more_than_a_bare_name(tmp_path):
    host = red_hat(tmp_path, "ro quiet quiet=1")
    with pytest.raises(Refused, match=r"grubby cannot remove quiet without quiet=1 of entry 0 \(/boot/vmlinuz-0\)"):
        host.plan(["quiet"], present=False)


def test_grubby_that_loses_an_argument_is_noticed(tmp_path):
    host = red_hat(tmp_path, "ro console=tty0")
    plan = host.plan(["console=ttyS0"])

    def careless(argv):
        if "--info=ALL" not in argv:
            host.entries = [("/boot/vmlinuz-0", "ro console=ttyS0")]
        return host.run(argv) if "--info=ALL" in argv else (0, "", "")

    with pytest.raises(HostFailure, match=r"entry 0 \(/boot/vmlinuz-0\) lost console=tty0"):
        b.execute(plan, careless, os.replace)


def test_grubby_finishes_a_run_that_was_killed(tmp_path):
    host = red_hat(tmp_path, "ro", "ro")
    plan = host.plan(["iommu=pt"])
    b.carry_out(plan.files[0], os.replace)
    host.entries = [("/boot/vmlinuz-0", "ro iommu=pt"), ("/boot/vmlinuz-1", "ro")]
    assert host.plan([]).added == ["iommu=pt"]
    assert host.apply(["iommu=pt"])["changed"]
    assert host.apply(["iommu=pt"], present=False)["changed"]
    assert [line for _kernel, line in host.entries] == ["ro", "ro"]


def test_grubby_on_another_root_is_refused(tmp_path):
    entry = "/boot/loader/entries/x-6.1.conf"
    host = Host(tmp_path, {"/usr/sbin/grubby": b"", entry: b"linux /vmlinuz\noptions ro iommu=pt\n"})
    assert host.plan(["iommu=pt"], run=False).changed is False
    with pytest.raises(Refused, match="in a chroot of .*, run /usr/sbin/grubby --update-kernel=ALL --args=a=1"):
        host.plan(["a=1"], run=False)


# Reports


@pytest.mark.parametrize(
    ("line", "args", "present", "active", "due"),
    [
        (b"ro iommu=pt", ["iommu=pt"], True, True, False),
        (b"ro iommu=pt iommu=off", ["iommu=pt"], True, False, True),
        (b"ro", ["iommu=pt"], True, False, True),
        (b"ro", ["iommu=pt"], False, False, False),
        (b"ro iommu=pt iommu=pt", ["iommu=pt"], False, True, True),
        (b"ro iommu=pt iommu=off", ["iommu=pt"], False, False, True),
        (b"ro intel_iommu=pt", ["iommu=pt"], False, False, False),
        (b"ro", [], True, True, False),
        (None, ["iommu=pt"], True, False, False),
    ],
)
def test_active_and_reboot_required(tmp_path, line, args, present, active, due):
    host = Host(tmp_path, {k: v for k, v in debian("").items() if k != "/proc/cmdline"})
    if line is not None:
        host.write("/proc/cmdline", line + b"\n")
    result = host.apply(args, present)
    assert (result["active"], result["reboot_required"]) == (active, due)


def test_another_root_is_only_written_to(tmp_path):
    host = Host(tmp_path, debian())
    result = host.apply(["iommu=pt"], run=False)
    assert result["files"] == [host.path(b.DROP_IN)]
    assert result["commands"] == [["/usr/sbin/update-grub"]]
    other = Host(tmp_path / "other", proxmox())
    assert other.apply(["iommu=pt"], run=False)["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]
    # The host itself then does what is still to be done.
    assert other.apply(["iommu=pt"])["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]
