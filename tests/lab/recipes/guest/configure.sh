#!/bin/sh
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the new root after the packages are there.
# The guest is emulated inside an emulation: every process at boot takes a noticeable part of a second,
# and every character on the serial line is an exit of the virtual machine. Hence all this.
set -eu

echo guest > /etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\tguest\n' > /etc/hosts

# lsm: without bpf, tomoyo and apparmor, each of which takes seconds to set up.
# rw: nothing is left to check or to mount again, which is why fstab is empty.
arguments="rw rootflags=noatime quiet systemd.show_status=no lsm=yama audit=0 cryptomgr.notests"
arguments="$arguments rcupdate.rcu_expedited=1 nowatchdog"
sed -i "s/^GRUB_CMDLINE_LINUX_DEFAULT=.*/GRUB_CMDLINE_LINUX_DEFAULT=\"$arguments\"/" /etc/default/grub

echo GRUB_DISABLE_LINUX_UUID=true >> /etc/default/grub
: > /etc/fstab

systemctl --quiet mask \
    dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount run-lock.mount proc-sys-fs-binfmt_misc.automount \
    modprobe@.service kmod-static-nodes.service systemd-binfmt.service systemd-journal-flush.service \
    systemd-journal-catalog-update.service systemd-hwdb-update.service systemd-network-generator.service \
    systemd-networkd-persistent-storage.service systemd-random-seed.service systemd-sysusers.service \
    systemd-tmpfiles-setup-dev-early.service systemd-udev-load-credentials.service getty-static.service \
    systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev.service systemd-user-sessions.service tmp.mount
ln -s /dev/null /etc/tmpfiles.d/systemd-nologin.conf
mkdir -p /etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/*; do
    case $generator in
        */systemd-fstab-generator) ;;
        *) ln -s /dev/null "/etc/systemd/system-generators/${generator##*/}" ;;
    esac
done

# 13 MB that only give names to keyboards and the like; lspci has its own.
rm -f /usr/lib/udev/hwdb.bin /lib/udev/hwdb.bin

# The first initramfs is packed tightly, here where that costs nothing: the guest's BIOS reads 1 or 2 MB a second.
for kernel in /lib/modules/*; do
    version=${kernel##*/}
    update-initramfs -c -k "$version"
    # Debian 11's takes no level.
    mkinitramfs -c zstd -l 19 -o "/boot/initrd.img-$version" "$version" ||
        mkinitramfs -c xz -o "/boot/initrd.img-$version" "$version"
done
