#!/bin/sh
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the new root after the packages are there.
# A DVB-T card of software: the kernel's own vidtv, which Debian does not build. `modprobe dvb_vidtv_bridge` plugs it in.
set -eu

build=$(mktemp -d)
tar -xf /usr/src/linux-source-*.tar.xz -C "$build" --wildcards --strip-components=5 '*/drivers/media/test-drivers/vidtv'
for headers in /lib/modules/*/build; do
    version=${headers#/lib/modules/}
    version=${version%/build}
    make -C "$headers" M="$build" CONFIG_DVB_VIDTV=m clean modules
    strip --strip-debug "$build"/*.ko
    install -D -m 644 -t "/lib/modules/$version/updates" "$build"/*.ko
    depmod "$version"
    # Fails unless every symbol that the three need is some module's or the kernel's.
    modprobe --dry-run --set-version "$version" --all dvb_vidtv_tuner dvb_vidtv_demod dvb_vidtv_bridge
done
rm -r "$build"

# Headers are named because apt keeps those of an installed kernel; nothing stays for being suggested by another package.
apt-get --yes --quiet purge --autoremove \
    --option APT::AutoRemove::RecommendsImportant=false --option APT::AutoRemove::SuggestsImportant=false \
    linux-source make '?installed?name(^linux-headers-)'
apt-get clean
