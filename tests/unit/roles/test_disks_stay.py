# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No task of a role or playbook could delete or overwrite a guest's disk, but for the one that is told to."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/*.yml")])

# What only one task may say, and that task.
DELETES = re.compile(r"\b(rm|unlink|shred|truncate|dd|mkfs\S*|wipefs|vol-delete|vol-wipe|pool-delete)\b")
THE_WORD = "Release | Delete the disks that are named, as a word for each"
# What nobody may say.
NEVER = re.compile(r"--remove-all-storage|--storage\b|--wipe-storage|qemu-img")
# Where files are removed or written that are ours, and no disks.
OURS = re.compile(
    r"\{\{ (__kvm_guest_network_mark|__kvm_guest_seed(_folder)?|__kvm_host_ksm_file|__kvm_host_initramfs\.configuration"
    r"|__capture_file\.path|__isdn_guest_(plan\.files|files|load|due)"
    r"|__capisuite_guest_(key|sources|old_sources|deb_folder|files|voice_file|units|former|sound_folder|old_sounds)"
    r"|__capisuite_guest_(ours|rest|folder)"
    r"|__dvbt_guest_(options_file|load_file|mount_unit|arguments_file|dropin|state|timers_note|notes|files|plan\.files)"
    r"|__fax_copy)\b|^(\{\{ ')?/lib/firmware/"
)
# Where check mode, which writes nothing, looks instead.
CHECKED = re.compile(r"'/var/tmp\b.* if ansible_check_mode\b.* else ")


def tasks(items: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """All tasks of a file, those in blocks and plays as well."""
    for item in items or []:
        yield item
        for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
            yield from tasks(item.get(key))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_task_deletes_a_disk(path: Path) -> None:
    for task in tasks(yaml.safe_load(path.read_text())):
        said = " ".join(
            yaml.safe_dump(value)
            for key, value in task.items()
            if key in ("ansible.builtin.command", "ansible.builtin.shell", "ansible.builtin.script")
        )
        assert not NEVER.search(said), task["name"]
        assert not DELETES.search(said) or task["name"] == THE_WORD, task["name"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_removed_and_written_only_where_they_are_ours(path: Path) -> None:
    for task in tasks(yaml.safe_load(path.read_text())):
        for module, key in (("file", "path"), ("copy", "dest"), ("template", "dest"), ("get_url", "dest")):
            arguments = task.get(f"ansible.builtin.{module}")
            if arguments is None or (module == "file" and arguments.get("state") not in ("absent", "touch")):
                continue
            place = f"{CHECKED.sub('', arguments[key])} {task.get('loop', '')}"
            # An image is fetched under a name of its own, and only where nothing is.
            assert OURS.search(place) or "__kvm_guest_image_path" in place, task["name"]


def test_the_word_is_for_this_very_disk() -> None:
    release = yaml.safe_load((ROOT / "roles/kvm_guest/tasks/release.yml").read_text())
    (task,) = [task for task in tasks(release) if task.get("name") == THE_WORD]
    assert "kvm_guest_delete_disks | intersect(__kvm_guest_disks" in task["loop"]
    assert task["ansible.builtin.command"]["argv"] == ["unlink", "{{ item }}"]
    assert yaml.safe_load((ROOT / "roles/kvm_guest/defaults/main.yml").read_text())["kvm_guest_delete_disks"] == []
