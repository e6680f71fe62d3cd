#!/bin/sh
# Write down, below the folder $1: every file of /etc with owner, mode and content; libvirt's network; who drives which
# PCI device; how often the uplink's carrier changed since boot.
set -eu
mkdir -p "$1"
find /etc -type l -printf '%p -> %l\n' -o -type f -printf '%p %u %g %m ' -exec sh -c 'sha256sum <"$1"' _ {} \; | sort >"$1/etc"
virsh --connect qemu:///system net-dumpxml --inactive default >"$1/network"
virsh --connect qemu:///system net-info default >>"$1/network"
for device in /sys/bus/pci/devices/*; do
    echo "${device##*/} $(basename "$(readlink "$device/driver")")"
done >"$1/drivers"
uplink=$(ip -o route show default | sed 's/.* dev \([^ ]*\).*/\1/')
cat "/sys/class/net/$uplink/carrier_changes" >"$1/carrier"
