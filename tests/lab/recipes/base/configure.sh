#!/bin/sh
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the new root after the packages are there. Environment: LAB_SSH_KEY.
set -eu

# Nothing periodic and no waiting: a lab lives for minutes.
systemctl --quiet mask \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service systemd-networkd-wait-online.service systemd-pstore.service \
    grub-common.service grub-initrd-fallback.service getty@tty1.service serial-getty@ttyS0.service
systemctl --quiet set-default multi-user.target
systemctl --quiet enable systemd-networkd.service ssh.service

# A machine id from the start: an empty one makes systemd treat every boot as the first.
echo 6b766d70617373746872756c61620001 > /etc/machine-id

install -d -m 700 /root/.ssh
printf '%s\n' "$LAB_SSH_KEY" > /root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys

# What lab_zipimport.py keeps there; compile itself, too.
mkdir -p /var/cache/lab-zipimport
python3 -c 'import lab_zipimport'

# sshd ends at a word that it does not know: those before Debian 13 do not know this one.
grep -qi PerSourcePenalties /usr/sbin/sshd || sed -i '/^PerSourcePenalties/d' /etc/ssh/sshd_config.d/lab.conf

printf '%s\n' virtio_pci virtio_blk ext4 > /etc/initramfs-tools/modules

# The boot loader's settings live where Debian has them, so that the collection meets a usual Debian.
sed -i \
    -e 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=0/' \
    -e 's/^GRUB_CMDLINE_LINUX_DEFAULT=.*/GRUB_CMDLINE_LINUX_DEFAULT=""/' \
    -e 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX="console=ttyS0,115200"/' \
    /etc/default/grub
cat >> /etc/default/grub <<'EOF'
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_RECOVERY=true
GRUB_DISABLE_OS_PROBER=true
GRUB_DISABLE_SUBMENU=true
EOF
