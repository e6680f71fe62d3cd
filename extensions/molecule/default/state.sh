#!/bin/sh
# Write down, below the folder $1, what the host is like: files of /etc and of ours, with owner, mode and content; what
# the boot loader and the initramfs hold; libvirt's network; every guest's definition and network cards, and which run;
# the disks; who drives which PCI device; how often the uplink's carrier changed since boot.
set -eu
images=/var/lib/libvirt/images
virsh() { command virsh --connect qemu:///system "$@"; }
rm -rf "$1"
mkdir -p "$1/guests"
# Packages stay, and with them the linker's cache. What libvirt keeps below /etc is told in its own words.
find /etc /var/lib/kvm.passthrough -path /etc/libvirt/qemu -prune -o -name ld.so.cache -o \
    -type l -printf '%p -> %l\n' -o -type f -printf '%p %u %g %m\n' -fprint0 "$1/files" 2>/dev/null | sort >"$1/etc"
xargs --null sha256sum <"$1/files" | sort >>"$1/etc"
sha256sum /boot/grub/grub.cfg >"$1/boot"
lsinitramfs -l "/boot/initrd.img-$(uname -r)" | awk '/passthrough/ {print $1, $5, $NF}' | sort >>"$1/boot"
virsh net-dumpxml --inactive default >"$1/network"
virsh net-info default >>"$1/network"
: >"$1/interfaces"
for guest in $(virsh list --all --name | sort); do
    virsh dumpxml --inactive "$guest" | sort >"$1/guests/$guest"
    echo "$guest $(virsh domiflist --inactive "$guest" | awk 'NR > 2 && NF {print $3, $4, $5}')" >>"$1/interfaces"
done
virsh list --all >"$1/running"
for disk in "$images"/*.qcow2; do
    [ -e "$disk" ] || continue
    qemu-img info --force-share "$disk" | grep -E '^(image|file format|virtual size|backing file)' | xargs
done >"$1/disks"
for device in /sys/bus/pci/devices/*; do
    echo "${device##*/} $(basename "$(readlink "$device/driver")")"
done >"$1/drivers"
uplink=$(ip -o route show default | sed 's/.* dev \([^ ]*\).*/\1/')
cat "/sys/class/net/$uplink/carrier_changes" >"$1/carrier"
