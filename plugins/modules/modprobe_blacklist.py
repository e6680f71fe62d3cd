#!/usr/bin/python
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: modprobe_blacklist
short_description: Keep kernel modules from being loaded for their devices
version_added: 0.1.0
description:
  - A file below C(/etc/modprobe.d) holds C(blacklist) entries for these modules, or does not.
  - Only whole lines that are such entries are added and removed. Every other byte of the file stays what it is.
  - C(-) and C(_) are the same in a module's name, as they are to kmod. Entries are recognised as kmod reads them
    (C(libkmod-config.c)), whatever follows the name, and over continued lines.
  - A C(blacklist) entry keeps a module from being loaded by the aliases of a device. It does not keep it from being
    loaded by its name or as a dependency (modprobe.d(5)); use O(install) against that. Neither reaches a module that is
    loaded already (RV(loaded)), is a part of the kernel (RV(built_in)), or is loaded from an initramfs that was made
    before (RV(initramfs_stale)).
  - Nothing is unloaded, and the initramfs is not rebuilt.
author:
  - The kvm.passthrough authors (@kvm-passthrough)
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.changes
options:
  modules:
    description:
      - The modules' names. Where none is given, the file is only reported.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) adds the entries that the file lacks.
      - V(absent) removes the file's entries of these modules, and the file where nothing else is left in it.
        An C(install) line with any other command than C(/bin/false) or C(/bin/true) is never removed.
    type: str
    choices: [present, absent]
    default: present
  file:
    description:
      - The file's name below C(/etc/modprobe.d). It must end in C(.conf), since modprobe reads no other.
      - A new file that would hide one of the same name in C(/run/modprobe.d), C(/usr/local/lib/modprobe.d),
        C(/usr/lib/modprobe.d), or C(/lib/modprobe.d) is refused.
    type: str
    default: passthrough.conf
  install:
    description:
      - Whether the file also holds C(install MODULE /bin/false), so that the module is loaded neither by its name nor
        as a dependency.
      - V(false) removes such a line of these modules from the file.
      - An C(install) line with a command of its own that modprobe would read before this one is an error.
    type: bool
    default: false
  backup:
    description:
      - Whether to keep a copy of the file before it is changed or removed.
    type: bool
    default: false
  root:
    description:
      - The root of the host's files, such as a mounted image.
    type: path
    default: /
seealso:
  - module: kvm.passthrough.pci_driver
"""

EXAMPLES = r"""
- name: Keep the drivers of two ISDN cards away from them
  kvm.passthrough.modprobe_blacklist:
    modules: [hfcmulti, avmfritz]

- name: Keep a graphics driver from being loaded at all, even as a dependency
  kvm.passthrough.modprobe_blacklist:
    modules: [nouveau]
    install: true

- name: See what the file blacklists now
  kvm.passthrough.modprobe_blacklist:
  register: blacklist

- name: Take everything back
  kvm.passthrough.modprobe_blacklist:
    modules: "{{ blacklist.entries }}"
    state: absent
"""

RETURN = r"""
file:
  description: The file.
  type: str
  returned: success
  sample: /etc/modprobe.d/passthrough.conf
modules:
  description: The modules of O(modules) in the kernel's spelling.
  type: list
  elements: str
  returned: success
  sample: [snd_hda_intel]
entries:
  description: All modules that the file holds entries for, after the change, sorted.
  type: list
  elements: str
  returned: success
  sample: [avmfritz, hfcmulti, snd_hda_intel]
also_in:
  description:
    - Entries of other files that keep these modules from being loaded, or where O(modules) is empty those of
      RV(entries).
  type: list
  elements: dict
  returned: success
  contains:
    module:
      description: The module.
      type: str
    file:
      description: The file.
      type: str
    line:
      description: The number of the line that the entry starts on.
      type: int
  sample: [{"module": "snd_hda_intel", "file": "/etc/modprobe.d/blacklist.conf", "line": 12}]
loaded:
  description:
    - Those of the modules, or where O(modules) is empty of RV(entries), that are loaded now, from C(/proc/modules).
  type: list
  elements: str
  returned: success
  sample: [snd_hda_intel]
built_in:
  description: Those of the modules that are a part of the kernel, where an entry does nothing, from C(modules.builtin).
  type: list
  elements: str
  returned: success
  sample: []
initramfs_stale:
  description:
    - Whether an initramfs image is older than the file or its folder, so that it may still hold the old state.
    - V(none) where no image was found.
  type: bool
  returned: success
  sample: true
backup_file:
  description: The copy of the file.
  type: str
  returned: when O(backup) is set and the file was changed, but not in check mode
  sample: /etc/modprobe.d/passthrough.conf.2026.2026-11-22@16:00:00~
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils import _files, _modprobe
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "modules": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "file": {"type": "str", "default": "passthrough.conf"},
            "install": {"type": "bool", "default": False},
            "backup": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        release = os.uname().release if given["root"] == "/" else ""
        present = given["state"] == "present"
        plan = _modprobe.decide(given["root"], given["file"], given["modules"], present, given["install"], release)
        result = dict(plan.report)
        if module._diff:
            result["diff"] = plan.change.diff()
        if plan.change.changed and not module.check_mode:
            if given["backup"] and plan.change.before is not None:
                result["backup_file"] = module.backup_local(plan.change.path)
            _files.carry_out(plan.change, module.atomic_move, module.tmpdir)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    for warning in plan.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
