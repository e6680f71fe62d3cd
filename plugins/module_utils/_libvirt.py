# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt says of networks, compared with what is wanted. Pure: XML text in, answers out.

Format: https://libvirt.org/formatnetwork.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ._errors import InvalidInput, Refused


def dhcp_reservation(network: str, name: str, mac: str, address: str) -> str:
    """Whether a network reserves the address for the MAC: present, absent, or other where the MAC has another one.

    Raises Refused where the address is reserved for another MAC.
    """
    try:
        hosts = ET.fromstring(network).findall("./ip/dhcp/host")
    except ET.ParseError as error:
        raise InvalidInput(f"the network is no XML: {error}") from error
    for host in hosts:
        same_mac = (host.get("mac") or "").lower() == mac.lower()
        if not same_mac and host.get("ip") == address:
            raise Refused(
                f"{address} is reserved for {host.get('mac')} ({host.get('name')}); "
                f"give {name} another kvm_guest_address"
            )
        if same_mac:
            return "present" if (host.get("ip"), host.get("name")) == (address, name) else "other"
    return "absent"
