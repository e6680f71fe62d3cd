# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils import _initramfs

SOURCES = ["/etc/modprobe.d/passthrough.conf", "/etc/modprobe.d"]
MACHINE = "0123456789abcdef0123456789abcdef"


def host(tmp_path, images, sources, kernels=()):
    """A root whose files are as many seconds old as given; the folder's own age is set last."""
    now = time.time()
    for name in kernels:
        (tmp_path / "lib/modules" / name).mkdir(parents=True)
    for path in (*images, *sources):
        place = tmp_path / path.lstrip("/")
        if path == "/etc/modprobe.d":
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"")
    for path, age in {**images, **sources}.items():
        os.utime(tmp_path / path.lstrip("/"), (now - age, now - age))
    return str(tmp_path)


# the images' ages, the sources' ages, whether an image is stale
CASES = {
    "no image": ({}, {SOURCES[0]: 1}, None),
    "older sources": ({"/boot/initrd.img-6.1": 5}, {SOURCES[0]: 9, SOURCES[1]: 9}, False),
    "a newer file": ({"/boot/initrd.img-6.1": 5}, {SOURCES[0]: 1, SOURCES[1]: 9}, True),
    "a file was removed": ({"/boot/initrd.img-6.1": 5}, {SOURCES[1]: 1}, True),
    "no source": ({"/boot/initrd.img-6.1": 5}, {}, False),
    "one of two images": (
        {"/boot/initrd.img-6.1": 1, "/boot/initrd.img-5.10": 9},
        {SOURCES[0]: 5, SOURCES[1]: 9},
        True,
    ),
    "Red Hat": ({"/boot/initramfs-5.14.0-1.el9.x86_64.img": 9}, {SOURCES[0]: 5, SOURCES[1]: 9}, True),
    "SUSE": ({"/boot/initrd-6.4.0-1-default": 9}, {SOURCES[0]: 5, SOURCES[1]: 9}, True),
    "Arch": ({"/boot/initramfs-linux.img": 9}, {SOURCES[0]: 5, SOURCES[1]: 9}, True),
    "systemd-boot": ({f"/boot/efi/{MACHINE}/6.1/initrd": 9}, {SOURCES[0]: 5, SOURCES[1]: 9}, True),
    "unified": ({f"/efi/EFI/Linux/{MACHINE}-6.1.efi": 9}, {SOURCES[0]: 5, SOURCES[1]: 9}, True),
    "rescue and kdump only": (
        {
            f"/boot/initramfs-0-rescue-{MACHINE}.img": 9,
            "/boot/initramfs-5.14kdump.img": 9,
            "/boot/initrd.img-6.1.bak": 9,
        },
        {SOURCES[0]: 5},
        None,
    ),
}


@pytest.mark.parametrize(("images", "sources", "stale"), CASES.values(), ids=CASES)
def test_stale(tmp_path, images, sources, stale):
    root = host(tmp_path, images, sources)
    assert _initramfs.stale(root, SOURCES) is stale
    assert _initramfs.exists(root) is (stale is not None)


def test_the_image_of_a_removed_kernel_does_not_count(tmp_path):
    root = host(tmp_path, {"/boot/initrd.img-6.1": 1, "/boot/initrd.img-5.10": 9}, {SOURCES[0]: 5}, kernels=["6.1"])
    os.utime(tmp_path / "etc/modprobe.d", (0, 0))
    assert _initramfs.stale(root, SOURCES) is False


def test_a_time_in_the_future_is_not_stale_for_ever(tmp_path):
    root = host(tmp_path, {}, {SOURCES[0]: -(10**6), SOURCES[1]: -(10**6)})
    time.sleep(0.02)
    image = tmp_path / "boot/initrd.img-6.1"
    image.parent.mkdir()
    image.write_bytes(b"")
    assert _initramfs.stale(root, SOURCES) is False
    os.utime(image, (0, 0))
    assert _initramfs.stale(root, SOURCES) is True
