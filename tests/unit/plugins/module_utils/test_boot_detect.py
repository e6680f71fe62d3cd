# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._boot_detect import GRUB_DEFAULT, LOADER_INFO, detect
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._grub import DROP_IN
from ansible_collections.kvm.passthrough.tests.unit.boot_host import (
    SYSTEMD_BOOT,
    Host,
    debian,
    proxmox,
    suse,
    systemd_boot,
)

TREES = {
    "Debian, BIOS": (debian(), "grub"),
    "Debian image without /sys": ({GRUB_DEFAULT: b"", "/usr/sbin/update-grub": b""}, "grub"),
    "SUSE": (suse(), "grub"),
    "RHEL": ({"/usr/sbin/grubby": b"", GRUB_DEFAULT: b"", "/usr/sbin/grub2-mkconfig": b""}, "grubby"),
    "systemd-boot, running": (systemd_boot(**{LOADER_INFO: SYSTEMD_BOOT}), "systemd-boot"),
    "systemd-boot, image": (systemd_boot(), "systemd-boot"),
    "systemd-boot, with GRUB left over": (
        {**debian(), **systemd_boot(**{LOADER_INFO: SYSTEMD_BOOT})},
        "systemd-boot",
    ),
    "GRUB, with entries left over": ({**debian(), **systemd_boot()}, "grub"),
    "Proxmox, ZFS on UEFI": (proxmox(), "proxmox"),
    "Proxmox, ZFS on BIOS": (proxmox(info=None), "grub"),
    "Proxmox, LVM": ({**proxmox(), "/etc/kernel/proxmox-boot-uuids": b"", LOADER_INFO: b""}, "grub"),
}


@pytest.mark.parametrize(("files", "boot_loader"), TREES.values(), ids=TREES)
def test_detect(tmp_path, files, boot_loader):
    assert detect(Host(tmp_path, files).root) == boot_loader


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
        detect(Host(tmp_path, files).root)


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
    assert result["files"] == [host.path(DROP_IN)]
    assert result["commands"] == [["/usr/sbin/update-grub"]]
    other = Host(tmp_path / "other", proxmox())
    assert other.apply(["iommu=pt"], run=False)["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]
    # The host itself then does what is still to be done.
    assert other.apply(["iommu=pt"])["commands"] == [["/usr/sbin/proxmox-boot-tool", "refresh"]]
