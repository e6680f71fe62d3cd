# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The thin filters: they hand their arguments on, and an error of ours becomes one of Ansible's with the same words."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvm.passthrough.plugins.filter import dhcp_reservation, guest_plan, pci_leaving_modules

NETWORK = "<network><ip><dhcp><host mac='52:54:00:6b:76:01' name='fax1' ip='192.168.122.50'/></dhcp></ip></network>"


def test_guest_plan() -> None:
    call = guest_plan.FilterModule().filters()["guest_plan"]
    plan = call("<domain><name>a</name><devices/></domain>", "")
    assert "<name>a</name><devices />" in plan.pop("definition")
    assert plan == {"changes": ["guest a: is not defined"], "live": [], "restart": [], "let_go": [], "kept": []}
    with pytest.raises(AnsibleFilterError, match="the wanted definition is no XML"):
        call("<domain>", "", live="", exclusive=True)


def test_dhcp_reservation() -> None:
    call = dhcp_reservation.FilterModule().filters()["dhcp_reservation"]
    assert call(NETWORK, name="fax1", mac="52:54:00:6b:76:01", address="192.168.122.50") == "present"
    with pytest.raises(AnsibleFilterError, match="give fax2 another kvm_guest_address"):
        call(NETWORK, name="fax2", mac="52:54:00:6b:76:02", address="192.168.122.50")


def test_pci_leaving_modules() -> None:
    call = pci_leaving_modules.FilterModule().filters()["pci_leaving_modules"]
    card = {"address": "0000:06:00.0", "modules": ["hfcmulti"]}
    assert call([card], [card]) == {"blacklist": ["hfcmulti"], "kept": []}
    card["id"] = "1397:08b4"
    assert call([card], [card]) == {"blacklist": ["hfc4s8s_l1", "hfcmulti", "qozap", "wcb4xxp"], "kept": []}
