#!/bin/sh
# Make a guest without a disk that has the PCI device $1, and say what comes of it. It stays if it has a name, $2.
# It is paused: QEMU has the card then, and no processor has to be emulated within an emulated one.
IFS=:. read -r domain bus slot function <<EOF
$1
EOF
cat >/run/try.xml <<EOF
<domain type='kvm'>
  <name>${2:-trial}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x$domain' bus='0x$bus' slot='0x$slot' function='0x$function'/></source>
    </hostdev>
  </devices>
</domain>
EOF
timeout 60 virsh create --paused /run/try.xml 2>&1
echo "default routes: $(ip route show default | wc -l)"
[ -n "${2:-}" ] || timeout 60 virsh destroy trial >/dev/null 2>&1
