# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from a card's family: its drivers on the host and in the guest, its firmware, its ports, its traps.

The second half of the catalogue, whose ids are in _cards. The controller alone reads it; no module carries it.
Sources: the drivers in Linux 6.12, the wcb4xxp and zaphfc of the DAHDI in Debian 11 to 13, modules.alias of Debian's
kernels 5.10, 6.1 and 6.12, and the file lists of Debian 13 for what is packaged.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t
from dataclasses import dataclass, field

from ._cards import FAMILIES, Family
from ._use import sticks

Device = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Firmware:
    """A file below /lib/firmware that a driver asks for."""

    file: str
    """Its path below /lib/firmware."""
    asked_by: str
    """The module that asks for it. That of a demodulator or tuner asks only on cards that have the chip."""
    package: str = ""
    """The package of Debian 13 that has it, empty where none has."""


@dataclass(frozen=True)
class Facts:
    """The columns of the catalogue, one row for each family."""

    kind: str
    """isdn or dvb."""
    modules: tuple[str, ...] = ()
    """The kernel modules of today whose aliases claim the card: kept away on the host, loaded in the guest. Empty
    where Linux has no driver."""
    drivers: tuple[str, ...] = ()
    """The names of these modules as PCI drivers, as sysfs and lspci -k show them, in the same order."""
    old_modules: tuple[str, ...] = ()
    """Modules of former kernels, and those that makers had, that claimed the card on a host."""
    guest_modules: tuple[str, ...] = ()
    """Loaded in the guest beside modules, for nothing asks for them by itself."""
    options: t.Mapping[str, str] = field(default_factory=dict)
    """By module the options that it needs in a guest."""
    firmware: tuple[Firmware, ...] = ()
    """The files that drivers of the family may ask for."""
    packages: tuple[str, ...] = ()
    """Packages of Debian whose programs use the card."""
    since: str = ""
    """The first Linux with the modules; empty where every kernel in use is new enough."""
    before: str = ""
    """The first Linux without them; empty where they are still there."""
    ports: t.Mapping[str, int] = field(default_factory=dict)
    """By subsystem id, or * for any other, how many lines the card has: the controllers of mISDN, the spans of
    DAHDI."""
    refused: t.Mapping[str, str] = field(default_factory=dict)
    """By subsystem id, or * for any that ports does not name, why the driver that matches the card does not take
    it."""
    dahdi: str = ""
    """The module of DAHDI that drives cards of the family."""
    dahdi_ids: t.Mapping[str, t.Sequence[str]] = field(default_factory=dict)
    """The cards that this module takes, by id their subsystem ids, none for any."""
    rivals: tuple[str, ...] = ()
    """Modules that claim the same card, so that in a guest only one of both may load."""
    traps: tuple[str, ...] = ()
    """What else one has to know."""

    def ports_of(self, subsystem: str | None) -> int | None:
        """How many lines a card has, None where that is not known."""
        return self.ports.get(subsystem or "", self.ports.get("*"))

    def refusal(self, subsystem: str | None) -> str:
        """Why the driver does not take a card, empty if it does, or if the card's subsystem cannot be read."""
        if subsystem is None:
            return ""
        others = "" if subsystem in self.ports else self.refused.get("*", "")
        return self.refused.get(subsystem, others).format(card=subsystem)

    def dahdi_of(self, device: Device) -> str:
        """The module of DAHDI that takes this card, empty if it takes others only."""
        known = Family("", "", self.dahdi_ids).has(device)
        return self.dahdi if known else ""


def family_of(device: t.Mapping[str, t.Any]) -> Family | None:
    """The family that a device of pci_facts belongs to, None for most devices."""
    return next((entry for entry in _by_id().get(device.get("id") or "", ()) if entry.has(device)), None)


@functools.lru_cache(maxsize=None)
def _by_id() -> dict[str, list[Family]]:
    """By id the families that have cards with it: a report asks for thousands of devices."""
    found: dict[str, list[Family]] = {}
    for entry in FAMILIES.values():
        for pci_id in entry.ids:
            found.setdefault(pci_id, []).append(entry)
    return found


def describe(devices: t.Iterable[Device], kind: str = "") -> list[dict[str, t.Any]]:
    """A row for each device of pci_facts that belongs to a family, of one kind or of any, in the order given."""
    rows = []
    for device in devices:
        card = family_of(device)
        if card is not None and kind in ("", FACTS[card.name].kind):
            rows.append(_row(device, card, FACTS[card.name]))
    return rows


def claimants(device: Device) -> frozenset[str]:
    """The modules beside those of modules.alias that could claim a device if they were, or still are, installed."""
    card = family_of(device)
    return frozenset() if card is None else frozenset((*FACTS[card.name].old_modules, *FACTS[card.name].rivals))


def _row(device: Device, card: Family, facts: Facts) -> dict[str, t.Any]:
    subsystem = device.get("subsystem_id")
    row = {key: device.get(key) for key in ("address", "id", "subsystem_id", "driver")}
    row.update(card=card.name, about=card.about)
    for name in ("kind", "modules", "drivers", "guest_modules", "options", "packages", "since", "before"):
        value = getattr(facts, name)
        row[name] = list(value) if isinstance(value, tuple) else value
    row.update(
        options=dict(facts.options),
        firmware=[dataclasses.asdict(file) for file in facts.firmware],
        ports=facts.ports_of(subsystem),
        refused=facts.refusal(subsystem),
        dahdi=facts.dahdi_of(device),
        rivals=list(facts.rivals),
        traps=list(facts.traps),
    )
    # A driver does not hold what it refuses.
    row["keeper"] = None if row["refused"] else next((driver for driver in facts.drivers if sticks(driver)), None)
    return row


def _boards(vendor: str, **boards: str) -> dict[str, int]:
    """The lines of a vendor's boards: {1397:b566: 2} of 1397 and two='b566'."""
    words = {"one": 1, "two": 2, "four": 4, "eight": 8}
    return {f"{vendor}:{board}": words[word] for word, names in boards.items() for board in names.split()}


def _subsystems(vendor: str, devices: str) -> tuple[str, ...]:
    return tuple(f"{vendor}:{device}" for device in devices.split())


def _unknown(*boards: str) -> dict[str, str]:
    """Refusals of hfcmulti: of these boards, whose lines are known from elsewhere, and of all that ports lacks."""
    why = (
        "hfcmulti matches the chip but does not know the board {card}: it loads, says 'Unknown HFC multiport"
        " controller' and takes nothing"
    )
    return dict.fromkeys((*boards, "*"), why)


_FREE, _NONFREE = "firmware-linux-free", "firmware-misc-nonfree"
_LINUX_7_1 = "Linux 7.1 removed mISDN, so the guest must not get a kernel from backports"
_IOMODE = "Where the board answers wrongly behind a PCI bridge, hfcmulti's option iomode=1 (register I/O) may help"
_DAHDI_CHANGES = "DAHDI 3.4 took all boards but Digium's from wcb4xxp; the DAHDI of Debian 11 to 13 has them"
_HFC_MULTI: dict[str, t.Any] = {
    "kind": "isdn",
    "modules": ("hfcmulti",),
    "drivers": ("hfc_multi",),
    "guest_modules": ("mISDN_dsp",),
    "since": "2.6.27",
    "before": "7.1",
}
_WCB4XXP: dict[str, t.Any] = {"packages": ("dahdi",), "dahdi": "wcb4xxp", "rivals": ("wcb4xxp",)}
_MISDN: dict[str, t.Any] = {"kind": "isdn", "guest_modules": ("mISDN_dsp",), "since": "2.6.32", "before": "7.1"}

_TDA10046 = Firmware("dvb-fe-tda10046.fw", "tda1004x")
_TDA10045 = Firmware("dvb-fe-tda10045.fw", "tda1004x")
_TDA10048 = Firmware("dvb-fe-tda10048-1.0.fw", "tda10048")
_SI2168 = tuple(Firmware(f"dvb-demod-si2168-{chip}-01.fw", "si2168") for chip in ("a20", "a30", "b40", "d60"))
_M88 = tuple(Firmware(f"dvb-demod-{chip}.fw", "m88ds3103") for chip in ("m88ds3103", "m88ds3103b", "m88rs6000"))
_DRXK = Firmware("drxk_a3.mc", "drxk")
_XC5000 = Firmware("dvb-fe-xc5000-1.6.114.fw", "xc5000", _NONFREE)
_XC3028 = Firmware("xc3028-v27.fw", "xc2028")
_DVB: dict[str, t.Any] = {"kind": "dvb", "packages": ("vdr", "dvb-tools")}
_SAA7146_TRAPS = (
    "Debian 12's kernel (6.1) is built without the drivers for the SAA7146; those of Debian 11 and 13 have them",
    "The chip is told apart by its subsystem alone; one that shows 0000:0000 has lost its EEPROM and gets an analogue"
    " driver (mxb, hexium_orion)",
)


def _saa7146(module: str, driver: str, terrestrial: str, *firmware: Firmware) -> Facts:
    trap = f"Few cards of the family are DVB-T: {terrestrial}; the others are DVB-S or DVB-C"
    return Facts(**_DVB, modules=(module,), drivers=(driver,), firmware=firmware, traps=(trap, *_SAA7146_TRAPS))


FACTS: dict[str, Facts] = {
    "hfc-4s": Facts(
        **_HFC_MULTI,
        **_WCB4XXP,
        old_modules=("hfc4s8s_l1", "qozap"),
        ports={
            **_boards("1397", one="b567", two="b566 b569 1234 e884 b761 b556", four="b560 b568 08b4 b520 b620 b540"),
            **_boards("1397", four="b550 b752 b742 e888 b762 3136"),
            "d161:b410": 4,
        },
        refused=_unknown("1397:b752", "1397:b556", "1397:b742"),
        dahdi_ids={
            "d161:b410": (),
            "1397:08b4": _subsystems("1397", "b520 b550 b752 b556 e884 e888 b566 b761 b560 b762 b540 b742 08b4"),
        },
        traps=(
            _LINUX_7_1,
            "1397:b752, 1397:b556 and 1397:b742 work with DAHDI's wcb4xxp alone, 1397:b742 not with that of Debian 11"
            " and 12",
            _DAHDI_CHANGES,
            _IOMODE,
        ),
    ),
    "hfc-8s": Facts(
        **_HFC_MULTI,
        **_WCB4XXP,
        old_modules=("hfc4s8s_l1", "qozap"),
        ports=_boards("1397", eight="b562 b56b 16b8 b521 b522 b552 b622 e998 b55b"),
        refused=_unknown(),
        dahdi_ids={"1397:16b8": _subsystems("1397", "b552 b55b e998 b562 b56b")},
        traps=(_LINUX_7_1, _DAHDI_CHANGES, _IOMODE),
    ),
    "hfc-e1": Facts(
        **_HFC_MULTI,
        ports=_boards("1397", one="b563 b56a b565 b564 30b1 b523 c523 b553 3137"),
        refused=_unknown(),
        traps=(_LINUX_7_1, _IOMODE),
    ),
    "hfc-s-pci": Facts(
        **{**_MISDN, "since": "2.6.27"},
        modules=("hfcpci",),
        drivers=("hfcpci",),
        old_modules=("hisax", "hfc_pci", "vzaphfc"),
        packages=("dahdi",),
        ports={"*": 1},
        dahdi="zaphfc",
        dahdi_ids={pci_id: () for pci_id in FAMILIES["hfc-s-pci"].ids if pci_id not in ("1397:b700", "1397:b701")},
        rivals=("zaphfc",),
        traps=(_LINUX_7_1,),
    ),
    "fritz-pci": Facts(
        **_MISDN,
        modules=("avmfritz",),
        drivers=("fcpci",),
        old_modules=("hisax_fcpcipnp", "hisax", "fcpci"),
        ports={"*": 1},
        traps=(_LINUX_7_1, "fcpci is the name of avmfritz as a PCI driver; a module of that name is AVM's own of old"),
    ),
    "fritz-pci-v2.1": Facts(kind="isdn", traps=("No kernel has a driver for the id 1244:0e80",)),
    "avm-active": Facts(
        kind="isdn",
        old_modules=("b1pci", "c4", "t1pci"),
        before="5.6",
        traps=("Linux dropped the CAPI drivers of the active cards; no kernel of Debian 11 or later has them",),
    ),
    "speedfax": Facts(
        **_MISDN,
        modules=("speedfax",),
        drivers=("speedfax+ pci",),
        old_modules=("hisax",),
        firmware=(Firmware("isdn/ISAR.BIN", "speedfax"),),
        ports={"*": 1},
        traps=(_LINUX_7_1, "Without isdn/ISAR.BIN, which no package of Debian has, the driver does not take the card"),
    ),
    "infineon": Facts(
        **_MISDN,
        modules=("mISDNinfineon",),
        drivers=("ISDN Infineon pci",),
        old_modules=("hisax",),
        ports={"0871:ffa8": 4, "*": 1},
        traps=(_LINUX_7_1, "The Scitel Quadro (0871:ffa8) has four ports on one PCI function"),
    ),
    "w6692": Facts(
        **_MISDN,
        modules=("w6692",),
        drivers=("w6692",),
        old_modules=("hisax",),
        ports={"*": 1},
        traps=(_LINUX_7_1,),
    ),
    "netjet": Facts(
        **_MISDN,
        modules=("netjet",),
        drivers=("netjet",),
        old_modules=("hisax",),
        ports={"*": 1},
        refused={
            "8086:0003": "netjet matches the chip but does not take Digium's X100P and X101P, which are analogue",
            "b100:0003": "netjet matches the chip but does not take Digium's TDM400P, which is analogue",
            "0055:0002": "netjet matches the chip but does not take the Enter!Now",
        },
        traps=("Debian builds no kernel with this driver", _LINUX_7_1),
    ),
    "saa7146-av7110": _saa7146(
        "dvb_ttpci",
        "av7110",
        "13c2:0001 and 13c2:0008",
        Firmware("dvb-ttpci-01.fw", "dvb_ttpci"),
        Firmware("av7110/bootcode.bin", "dvb_ttpci", _FREE),
        Firmware("dvb-fe-sp8870.fw", "sp8870"),
    ),
    "saa7146-budget": _saa7146("budget", "budget dvb", "13c2:1005, 1131:5f60 and 1131:5f61", _TDA10046),
    "saa7146-budget-ci": _saa7146("budget_ci", "budget_ci dvb", "13c2:1011 and 13c2:1012", _TDA10045, _TDA10046),
    "saa7146-budget-av": _saa7146("budget_av", "budget_av", "153b:1157, 1894:0030, 1894:0031 and 1894:003a", _TDA10046),
    "cx23885": Facts(
        **_DVB,
        modules=("cx23885",),
        drivers=("cx23885",),
        options={"cx23885": "dma_reset_workaround=2"},
        firmware=(
            Firmware("v4l-cx23885-avcore-01.fw", "cx25840", _NONFREE),
            *_SI2168,
            *_M88,
            _TDA10048,
            _XC5000,
            _XC3028,
        ),
        traps=(
            "The driver looks for AMD's IOMMU on the machine it runs on and finds none in a guest, so the option"
            " dma_reset_workaround=2 must switch its workaround on",
            "'mpeg risc op code error' in the guest's log has been reported even with that option",
        ),
    ),
    "cx88": Facts(
        **_DVB,
        modules=("cx8800", "cx8802"),
        drivers=("cx8800", "cx88-mpeg driver manager"),
        firmware=(_XC5000, _XC3028),
        traps=("The board has a third function for sound (14f1:8801 or 14f1:8811), which goes with it",),
    ),
    "saa7134": Facts(
        **_DVB,
        modules=("saa7134",),
        drivers=("saa7134",),
        firmware=(_TDA10046, _TDA10048, _XC5000, _XC3028),
        traps=("saa7134 also takes cards with analogue inputs alone, and then there is no DVB adapter",),
    ),
    "saa7164": Facts(
        **_DVB,
        modules=("saa7164",),
        drivers=("saa7164",),
        firmware=(Firmware("NXP7164-2010-03-10.1.fw", "saa7164"), _TDA10048, *_SI2168),
        traps=("The driver uses MSI; enable_msi=0 goes back to the interrupt line",),
    ),
    "ddbridge": Facts(
        **_DVB,
        modules=("ddbridge",),
        drivers=("ddbridge",),
        firmware=(_DRXK,),
        traps=("Debian's kernels use the interrupt line unless ddbridge has the option msi=1",),
    ),
    "smipcie": Facts(
        **_DVB,
        modules=("smipcie",),
        drivers=("SMI PCIe driver",),
        firmware=(*_SI2168, *_M88),
    ),
    "ngene": Facts(
        **_DVB,
        modules=("ngene",),
        drivers=("ngene",),
        firmware=(*(Firmware(f"ngene_{number}.fw", "ngene") for number in range(15, 19)), _DRXK),
    ),
    "mantis": Facts(**_DVB, modules=("mantis", "hopper"), drivers=("Mantis", "Hopper")),
    "flexcop": Facts(**_DVB, modules=("b2c2_flexcop_pci",), drivers=("b2c2_flexcop_pci",)),
    "dm1105": Facts(**_DVB, modules=("dm1105",), drivers=("dm1105",)),
    "pluto2": Facts(**_DVB, modules=("pluto2",), drivers=("pluto2",), firmware=(_TDA10046,)),
    "netup-unidvb": Facts(**_DVB, modules=("netup_unidvb",), drivers=("netup_unidvb",)),
    "tbsecp3": Facts(**_DVB, traps=("The maker's own driver tbsecp3 is in no kernel of Debian",)),
}
"""By the name of the family."""
