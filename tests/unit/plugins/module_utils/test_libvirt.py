# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._errors import InvalidInput, Refused
from ansible_collections.kvm.passthrough.plugins.module_utils._libvirt import dhcp_reservation

NETWORK = """
<network><name>default</name><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>
  <range start='192.168.122.2' end='192.168.122.254'/>
  <host mac='52:54:00:6B:76:01' name='fax1' ip='192.168.122.50'/>
</dhcp></ip></network>
"""


@pytest.mark.parametrize(
    ("name", "mac", "address", "answer"),
    [
        ("fax1", "52:54:00:6b:76:01", "192.168.122.50", "present"),
        ("fax1", "52:54:00:6b:76:01", "192.168.122.51", "other"),
        ("fax2", "52:54:00:6b:76:01", "192.168.122.50", "other"),
        ("fax2", "52:54:00:6b:76:02", "192.168.122.52", "absent"),
    ],
)
def test_dhcp_reservation(name: str, mac: str, address: str, answer: str) -> None:
    assert dhcp_reservation(NETWORK, name, mac, address) == answer


def test_an_address_of_another_guest_is_refused() -> None:
    with pytest.raises(Refused, match=r"192\.168\.122\.50 is reserved for 52:54:00:6B:76:01 \(fax1\); give fax2"):
        dhcp_reservation(NETWORK, "fax2", "52:54:00:6b:76:02", "192.168.122.50")


def test_a_network_without_dhcp_reserves_nothing() -> None:
    assert dhcp_reservation("<network/>", "fax1", "52:54:00:6b:76:01", "192.168.122.50") == "absent"


def test_broken_xml_is_named() -> None:
    with pytest.raises(InvalidInput, match="the network is no XML"):
        dhcp_reservation("<network>", "fax1", "52:54:00:6b:76:01", "192.168.122.50")
