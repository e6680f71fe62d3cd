#!/bin/sh
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the new root after the packages are there, and after the guest's configure.sh.
set -eu

# Only cloud-init lets anybody in, and says who the machine is.
rm /root/.ssh/authorized_keys
echo localhost > /etc/hostname
printf '127.0.0.1\tlocalhost\n' > /etc/hosts

# Python is slow in an emulation inside an emulation, and every line of YAML is felt: only what tests need.
rm /etc/cloud/cloud.cfg.d/*
cat > /etc/cloud/cloud.cfg <<'EOF'
datasource_list: [NoCloud, None]
network: {config: disabled}
output: {all: ">> /var/log/cloud-init-output.log"}
system_info: {distro: debian, ssh_svcname: ssh, default_user: {name: debian, lock_passwd: true, shell: /bin/bash}}
users: [default]
ssh_genkeytypes: [ed25519]
cloud_init_modules: [write-files, set_hostname, users-groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
EOF
# cloud-init does without, and does not check its user-data; loading this takes seconds.
rm -r /usr/lib/python3/dist-packages/jsonschema
python3 -c 'import cloudinit.cmd.main'

# The guest has no generators; this one would look for a seed, which is always there, and want the target.
systemctl --quiet add-wants multi-user.target cloud-init.target

# The seed is a CD. cloud-init looks for it once, when it may not have been found yet.
sed -i '/^blacklist ahci$/d' /etc/modprobe.d/lab.conf
mkdir /etc/systemd/system/cloud-init-local.service.d
cat > /etc/systemd/system/cloud-init-local.service.d/lab.conf <<'EOF'
[Unit]
Wants=dev-disk-by\x2dlabel-cidata.device
After=dev-disk-by\x2dlabel-cidata.device
EOF
