#!/bin/sh
# Print name, inode, size and content of every disk.
set -eu
for disk in /var/lib/libvirt/images/*.qcow2; do
    echo "$(stat --format='%n %i %s' "$disk") $(sha256sum <"$disk")"
done
