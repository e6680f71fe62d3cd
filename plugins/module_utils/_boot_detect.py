# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which boot loader a machine has."""

from __future__ import annotations

import os

from ._boot_entries import kernel_install_entries
from ._boot_tools import exists, proxmox, tool
from ._errors import Refused
from ._sysfs import below, names, read_bytes

BOOT_LOADERS = ("grub", "grubby", "systemd-boot", "proxmox")
LOADER_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
GRUB_DEFAULT = "/etc/default/grub"


def detect(root: str) -> str:
    """The boot loader of this root, from its files alone."""
    if os.path.exists(below(root, "/run/ostree-booted")):
        raise Refused(
            "/run/ostree-booted: this host boots images of OSTree, whose arguments neither grubby nor a file sets; "
            "use 'rpm-ostree kargs' or bootc's kargs.d"
        )
    raw = read_bytes(below(root, LOADER_INFO))
    info = raw[4:].decode("utf-16-le", "replace").rstrip("\0") if raw else ""
    firmware = bool(names(below(root, "/sys/firmware")))
    booted = "systemd-boot" if info.startswith("systemd-boot") else "another" if info or firmware else None
    managed = proxmox(root)
    grubby = tool(root, "grubby")
    grub = exists(root, GRUB_DEFAULT) and tool(root, "update-grub", "grub-mkconfig", "grub2-mkconfig")
    installed = tool(root, "kernel-install") and kernel_install_entries(root)
    if managed and booted:
        return "proxmox" if booted == "systemd-boot" else "grub"
    if grubby and not managed:
        return "grubby"
    if booted == "systemd-boot":
        return "systemd-boot"
    if grub and not managed and (booted or not installed):
        return "grub"
    if installed and not managed and not grub:
        return "systemd-boot"
    raise Refused(
        "the boot loader cannot be told; set boot_loader to one of "
        + ", ".join(BOOT_LOADERS)
        + ". Looked at: "
        + "; ".join(
            (
                f"/etc/kernel/proxmox-boot-uuids and proxmox-boot-tool: {'yes' if managed else 'no'}",
                f"grubby: {grubby or 'no'}",
                f"{GRUB_DEFAULT} and a mkconfig: {grub or 'no'}",
                f"kernel-install and entries of it: {'yes' if installed else 'no'}",
                f"EFI variable LoaderInfo: {info or ('no' if firmware else 'unknown, no /sys here')}",
            )
        )
    )
