#!/bin/sh
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the new root after the packages are there, and before the guest's configure.sh.
set -eu

# A kernel of Debian 11's own security updates: its first one, 5.10, never says a word in a guest of an emulated host. The
# package that stands for the newest is not on every mirror.
kernel=$(apt-cache search --names-only '^linux-image-6[.]1[.]0-0[.]deb11[.][0-9]+-amd64$' | cut -d' ' -f1 | sort -V | tail -n 1)
apt-get --yes --quiet install "$kernel"
apt-get clean
for old in /boot/vmlinuz-5.*; do
    apt-get --yes --quiet purge "linux-image-${old#/boot/vmlinuz-}" linux-image-amd64
done
