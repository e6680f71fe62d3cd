#!/bin/sh
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the new root after the packages are there, and before the guest's configure.sh.
set -eu

# The kernel of Debian 13: those that Debian 11 has, 5.10 and 6.1, hang in a guest of an emulated host, the first before it
# says a word, the other after minutes.
mkdir -p /tmp/newer/lists/partial
cd /tmp/newer
sed -n 's/ bullseye / trixie /p' /etc/apt/sources.list > sources.list
cat > apt.conf <<'EOF'
Dir::Etc::SourceList "/tmp/newer/sources.list";
Dir::Etc::SourceParts "/tmp/newer/none";
Dir::State::Lists "/tmp/newer/lists";
APT::Sandbox::User "root";
EOF
export APT_CONFIG=/tmp/newer/apt.conf
apt-get --quiet update
apt-get --quiet download linux-base "$(apt-cache show linux-image-amd64/trixie | sed -n 's/^Depends: \([^ ,]*\).*/\1/p')"
unset APT_CONFIG

for old in /boot/vmlinuz-*; do
    apt-get --yes --quiet purge "linux-image-${old#/boot/vmlinuz-}" linux-image-amd64
done
# It has its modules below /usr/lib, which in this Debian 11 is not the /lib where they are looked for.
rm -rf /lib/modules
mkdir -p /usr/lib/modules
ln -s ../usr/lib/modules /lib/modules
dpkg --install ./linux-base_*.deb
dpkg --install ./linux-image-*.deb
