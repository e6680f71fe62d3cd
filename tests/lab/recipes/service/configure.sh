#!/bin/sh
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs inside the new root after the packages are there, and after the guest's configure.sh.
set -eu

# A guest with a service loads and mounts things at boot, which the lean one does not.
systemctl --quiet unmask 'modprobe@.service' systemd-tmpfiles-setup-dev.service kmod-static-nodes.service
