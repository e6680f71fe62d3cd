# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's tables, and what becomes of them: QEMU's command line, the inventory, the images."""

from __future__ import annotations

import json
from pathlib import Path

import card
import images
import inventory
import machine
import pytest
import yaml
from profiles import PROFILES, Profile

LAB = Path(__file__).parents[2] / "lab"
HOSTS = [name for name, profile in PROFILES.items() if profile.nests]


def command(profile: Profile, accelerator: str = "tcg") -> list[str]:
    return machine.command(profile, accelerator, "token", 2222)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA lab")
    return tmp_path / "key"


def said(profile: Profile, key: Path) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """Return the inventory's groups."""
    return yaml.safe_load(inventory.inventory(profile, Path("/lab"), key, 2222))["all"]["children"]


@pytest.mark.parametrize("name", PROFILES)
def test_no_two_cards_have_one_place(name: str) -> None:
    profile = PROFILES[name]
    addresses = [profile.address(card) for card in profile.cards]
    assert len(set(addresses)) == len(addresses)


def test_addresses_follow_from_the_table() -> None:
    isdn = PROFILES["isdn"]
    assert {card.name: isdn.address(card) for card in isdn.cards} == {
        "card-a": "0000:01:00.0",
        "isdn": "0000:03:01.0",
        "isdn-refused": "0000:05:01.0",
        "dvbt": "0000:07:01.0",
        "isdn-old": "0000:00:04.0",
        "own-rtl8139": "0000:00:0c.0",
    }


@pytest.mark.parametrize("name", HOSTS)
def test_memory_is_shared_only_with_cards_that_are_programs(name: str) -> None:
    profile = PROFILES[name]
    line = " ".join(command(profile))
    programs = any(card.program is not None for card in profile.cards)
    assert ("memory-backend-memfd,id=memory,size=4096M,share=on" in line) is programs
    assert ("kernel-irqchip=split,memory-backend=memory" in line) is programs


def test_a_card_that_is_a_program_is_reached_by_its_socket() -> None:
    devices = [json.loads(word) for word in command(PROFILES["isdn"]) if word.startswith("{")]
    assert devices[0] == {
        "driver": "vfio-user-pci",
        "id": "isdn",
        "bus": "conventional2",
        "addr": "0x1",
        "socket": {"type": "unix", "path": "/run/lab/isdn.sock"},
    }
    assert len(devices) == 4


@pytest.mark.parametrize("table", [one for one in PROFILES["isdn"].cards if one.program], ids=lambda table: table.name)
def test_the_table_names_the_identity_that_the_program_shows(table: card.Card) -> None:
    shown, path = card.make([f"{table.name}.sock", *table.program, "--token", "token"])
    vendor, device = (int(part, 16).to_bytes(2, "little") for part in table.id.split(":"))
    assert shown.read_config(0, 4) == vendor + device
    assert path == f"{table.name}.sock"


@pytest.mark.parametrize("name", HOSTS)
def test_hosts_nest(key: Path, name: str) -> None:
    line = " ".join(command(PROFILES[name]))
    assert "-m 4096 -smp 2 " in line
    assert "-cpu EPYC,+svm,+npt" in line
    assert list(said(PROFILES[name], key))[0] == "kvm_hosts"


@pytest.mark.parametrize(
    ("name", "host", "group"),
    [
        ("isdn-machine", "isdn", "isdn_guests"),
        ("dvbt-machine", "dvbt", "dvbt_guests"),
        ("capisuite-machine", "capisuite", "capisuite_guests"),
        ("asterisk-machine", "asterisk", "isdn_guests"),
    ],
)
def test_a_machine_is_reached_as_the_guest_itself(key: Path, name: str, host: str, group: str) -> None:
    groups = said(PROFILES[name], key)
    assert list(groups) == [group]
    assert groups[group]["hosts"][host]["ansible_port"] == 2222
    line = " ".join(command(PROFILES[name]))
    assert "-m 768 -smp 1 " in line
    assert "svm" not in line.replace(",-svm", "")
    assert "intel-iommu" not in line


def test_a_machine_has_its_disk() -> None:
    line = " ".join(command(PROFILES["dvbt-machine"]))
    assert "file=/run/lab/recordings.qcow2,format=qcow2" in line
    assert "serial=recordings" in line


@pytest.mark.parametrize("name", PROFILES)
def test_every_image_has_a_recipe(name: str) -> None:
    profile = PROFILES[name]
    for image in (profile.system, *profile.images, *(guest.image for guest in profile.guests if guest.image)):
        recipe = images._ALL[image]
        assert recipe.disk_gib
        assert all((folder / "configure.sh").exists() and (folder / "packages").exists() for folder in recipe.folders)


@pytest.mark.parametrize("recipe", images._ALL.values(), ids=lambda recipe: recipe.name)
def test_an_image_is_made_of_one_of_its_own_release(recipe: images.Recipe) -> None:
    assert recipe.parent is None or images._ALL[recipe.parent].suite == recipe.suite
    assert recipe.parent is None or not images._ALL[recipe.parent].disk_gib
