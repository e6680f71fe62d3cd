# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roots of hosts with each boot loader, whose commands do what the real ones do to the files."""

from __future__ import annotations

import os
import subprocess

from ansible_collections.kvm.passthrough.plugins.module_utils._boot_detect import GRUB_DEFAULT, LOADER_INFO
from ansible_collections.kvm.passthrough.plugins.module_utils._bootloader import decide, execute, report
from ansible_collections.kvm.passthrough.plugins.module_utils._cmdline_file import CMDLINE
from ansible_collections.kvm.passthrough.plugins.module_utils._grub import DROP_IN

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
                " ".join((self.read(CMDLINE) or self.read("/proc/cmdline")).decode("latin-1").split())
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
            text = self.read(GRUB_DEFAULT).decode().replace(DROP_IN, "." + DROP_IN)
            script = f'cd "{self.root}"; {text}\n'
        script += 'printf "%s\\n%s\\n" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"'
        out = subprocess.run(["sh", "-ec", script], capture_output=True, check=True, timeout=60).stdout.decode()
        linux, default = out.split("\n")[:2]
        self.write(config, GRUB_CFG.format(linux=linux, default=default))

    def plan(self, args, present=True, boot_loader="auto", run=True):
        return decide(self.root, boot_loader, args, present, self.run if run else None)

    def apply(self, args, present=True, boot_loader="auto", run=True):
        """A check run, the run itself, and a second one that has to find nothing to do. Returns the report."""
        before = self.snapshot()
        predicted = report(self.plan(args, present, boot_loader, run), args, present)
        assert self.snapshot() == before
        plan = self.plan(args, present, boot_loader, run)
        self.calls.clear()
        if plan.changed:
            execute(plan, self.run if run else None, os.replace)
        assert report(plan, args, present) == predicted
        again = report(self.plan(args, present, boot_loader, run), args, present)
        assert (again["changed"], again["added"]) == (False, predicted["added"])
        if run:
            assert self.calls == predicted["commands"]
            assert again["commands"] == []
        return predicted


def debian(default='GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n', **more):
    return {
        GRUB_DEFAULT: default,
        "/usr/sbin/update-grub": "exec grub-mkconfig\n",
        "/usr/sbin/grub-mkconfig": READS,
        "/sys/firmware/acpi/x": b"",
        "/proc/cmdline": b"BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1 ro quiet\n",
        **more,
    }


def suse(default='GRUB_CMDLINE_LINUX_DEFAULT="splash=silent"\nGRUB_CMDLINE_LINUX=""\n'):
    return {GRUB_DEFAULT: default, "/usr/sbin/grub2-mkconfig": b"no such folder\n", "/sys/firmware/acpi/x": b""}


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
        CMDLINE: cmdline,
        **more,
    }
    return {path: content for path, content in files.items() if content is not None}


def proxmox(cmdline=b"root=ZFS=rpool/ROOT/pve-1 boot=zfs\n", info=SYSTEMD_BOOT):
    files = {"/etc/kernel/proxmox-boot-uuids": b"1234-ABCD\n", "/usr/sbin/proxmox-boot-tool": b"", CMDLINE: cmdline}
    if info:
        files[LOADER_INFO] = info
    return {**debian(), **files}


def red_hat(tmp_path, *args):
    host = Host(tmp_path, {"/usr/sbin/grubby": b"", GRUB_DEFAULT: b"", "/usr/sbin/grub2-mkconfig": b""})
    host.entries = [(f"/boot/vmlinuz-{n}", line) for n, line in enumerate(args)]
    return host
