# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue of card families: which PCI ids are an HFC-4S, a Fritz!Card PCI, a SAA7146 budget card.

Data alone. A family is what one kernel driver treats alike, and so what a user means who names a card by its label.
The ids are those of the drivers' tables in Linux 6.12 (modules.alias), and of pci.ids for cards without a driver there.
What follows from a family, such as its modules, is in _card_facts: only the controller asks for that, and what a
module imports is compiled on every target with every task.
"""

from __future__ import annotations

import typing as t

from ._errors import InvalidInput


class Family(t.NamedTuple):
    """Cards that differ in little but their label."""

    name: str
    about: str
    ids: t.Mapping[str, t.Sequence[str]]
    """By id the subsystem ids that belong to the family, none for any."""

    def has(self, device: t.Mapping[str, t.Any]) -> bool:
        """Whether a device of pci_facts belongs to the family."""
        subsystems = self.ids.get(device.get("id") or "")
        return subsystems is not None and (not subsystems or device.get("subsystem_id") in subsystems)


def family(name: str) -> Family:
    """The family of that name, in whatever case; InvalidInput lists those there are."""
    found = FAMILIES.get(name.strip().lower())
    if found is None:
        raise InvalidInput(f"{name!r} is no family of cards. Those known are {', '.join(FAMILIES)}")
    return found


def _of(vendor: str, devices: str) -> tuple[str, ...]:
    """Ids of one vendor: 1397:08b4 and 1397:16b8 of 1397 and '08b4 16b8'."""
    return tuple(f"{vendor}:{device}" for device in devices.split())


def _any(*ids: str) -> dict[str, t.Sequence[str]]:
    """Ids that belong to the family whatever card they are on."""
    return {pci_id: () for pci_id in ids}


_ISDN = (
    Family(
        "hfc-4s",
        "Cologne Chip HFC-4S, two or four S0 ports: beroNet BN2S0 and BN4S0, Junghanns quadBRI, OpenVox, Digium B410P",
        {"1397:08b4": (), "d161:b410": ("d161:b410",), "10b5:9030": ("1397:3136",)},
    ),
    Family(
        "hfc-8s", "Cologne Chip HFC-8S, eight S0 ports: beroNet BN8S0, Junghanns octoBRI, OpenVox", _any("1397:16b8")
    ),
    Family(
        "hfc-e1",
        "Cologne Chip HFC-E1, one or two E1 ports: beroNet BN1E1 and BN2E1",
        {"1397:30b1": (), "10b5:9030": ("1397:3137",)},
    ),
    Family(
        "hfc-s-pci",
        "Cologne Chip HFC-S PCI, one S0 port, sold under many names",
        _any(
            *_of("1397", "2bd0 b000 b006 b007 b008 b009 b00a b00b b00c b100 b700 b701"),
            *_of("0871", "ffa1 ffa2"),
            *_of("114f", "0070 0071 0072 0073"),
            *("1043:0675", "1051:0100", "13d1:2bd1", "15b0:2bd0", "182d:3069"),
        ),
    ),
    Family("fritz-pci", "AVM Fritz!Card PCI and PCI v2.0", _any("1244:0a00", "1244:0e00")),
    Family("fritz-pci-v2.1", "AVM Fritz!Card PCI v2.1", _any("1244:0e80")),
    Family("avm-active", "AVM B1, C2, C4 and T1, the active cards", _any(*_of("1244", "0700 0800 1100 1200"))),
    Family("speedfax", "Sedlbauer Speedfax+", {"e159:0002": _of("0051", "0001") + _of("0054", "0001")}),
    Family(
        "infineon",
        "Cards with Infineon's ISDN chips: Eicon Diva 2.0x, Elsa MicroLink and QuickStep, Gazel, Niccy, Scitel Quadro",
        {
            **_any(*_of("1133", "e002 e004 e005 e00b"), *_of("1048", "1000 3000"), *_of("10b5", "1030 1151 1152 1187")),
            "1267:1016": (),
            "10b5:9050": ("0871:ffa8",),
            "e159:0002": ("0052:0001", "0053:0001"),
        },
    ),
    Family("w6692", "Winbond W6692, one S0 port", _any("1050:6692", "0675:1702")),
    Family("netjet", "TigerJet NETjet, one S0 port", _any("e159:0001")),
)

_DVB = (
    Family(
        "saa7146-av7110",
        "DVB with an MPEG decoder of its own: Hauppauge Nexus and DVB-s, -c, -t, TechnoTrend Premium, Siemens DVB",
        {"1131:7146": ("110a:0000", *_of("13c2", "0000 0001 0002 0003 0004 0006 0008 000a 000e 1002"))},
    ),
    Family(
        "saa7146-budget",
        "DVB without a decoder: Hauppauge Nova, TechnoTrend Budget, Fujitsu Siemens Activy",
        {
            "1131:7146": (
                *_of("13c2", "1003 1004 1005 1013 1016 1018 101c"),
                *_of("1131", "4f52 4f60 4f61 5f60 5f61"),
                "14c4:1020",
            )
        },
    ),
    Family(
        "saa7146-budget-ci",
        "DVB without a decoder, with a common interface: Hauppauge Nova-CI, TechnoTrend Budget CI",
        {"1131:7146": _of("13c2", "100c 100f 1010 1011 1012 1017 1019 101a 101b")},
    ),
    Family(
        "saa7146-budget-av",
        "DVB without a decoder, with analogue inputs: KNC One, TerraTec Cinergy 1200, Satelco EasyWatch",
        {
            "1131:7146": (
                *_of("1131", "0010 0011 4f56"),
                *_of("153b", "1154 1155 1156 1157 1176"),
                *_of("1894", "0010 0011 0014 0015 0016 0018 0019 001a 001b 001d 001e"),
                *_of("1894", "0020 0021 0022 0023 0028 002a 002c 0030 0031 003a"),
            )
        },
    ),
    Family("cx23885", "Conexant CX23885 and its successors, PCI Express", _any("14f1:8852", "14f1:8880")),
    Family(
        "cx88", "Conexant CX2388x, the functions for video and for transport streams", _any("14f1:8800", "14f1:8802")
    ),
    Family("saa7134", "Philips SAA7130, SAA7133, SAA7134 and SAA7135", _any(*_of("1131", "7130 7133 7134 7135"))),
    Family("saa7164", "NXP SAA7164: Hauppauge HVR-2200 and HVR-2205", _any("1131:7164")),
    Family(
        "ddbridge",
        "Digital Devices Cine, Octopus and MAX",
        _any(
            *_of("dd01", "0002 0003 0005 0006 0007 0008 0009 0011 0012 0013"),
            *_of("dd01", "0201 0203 0210 0220 0320 0321 0322 0323 0328 0329"),
        ),
    ),
    Family(
        "smipcie",
        "DVBSky S950, S952 and T9580 V3, TechnoTrend S2-4200 Twin",
        {"1ade:3038": (*_of("4254", "0550 0552 5580"), "13c2:3016")},
    ),
    Family(
        "ngene",
        "Micronas nGene: Linux4Media cineS2 and Satix-S2, Digital Devices DuoFlex, TerraTec, AVerMedia",
        {
            "18c3:0720": (
                *_of("18c3", "ab04 ab05 abc3 abc4 db01 db02 dd00 dd10 dd20"),
                *("1461:062e", "153b:1167"),
            )
        },
    ),
    Family(
        "mantis",
        "Twinhan, TechniSat and TerraTec with a Mantis or Hopper bridge",
        {
            "1822:4e35": (
                *_of("1822", "0008 0014 0016 0024 0028 0031 0043"),
                *_of("1ae4", "0001 0002 0003"),
                *_of("153b", "1178 1179"),
            )
        },
    ),
    Family("flexcop", "TechniSat AirStar, CableStar and SkyStar 2", _any("13d0:2103")),
    Family("dm1105", "SDMC DM1105", _any("195d:1105", "109f:036f")),
    Family("pluto2", "SCM Pluto2", _any("0432:0001")),
    Family("netup-unidvb", "NetUP Universal Dual DVB-CI", _any("1b55:18f6", "1b55:18f7")),
    Family("tbsecp3", "TurboSight TBS, for which the kernel has no driver of its own", _any("544d:6178")),
)

FAMILIES: dict[str, Family] = {entry.name: entry for entry in (*_ISDN, *_DVB)}
"""By name, ISDN before DVB."""
