#!/usr/bin/python
# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_args
short_description: Have the boot loader pass arguments to the kernel
version_added: 0.1.0
description:
  - The boot loader passes these arguments at the next boot, or does not. What this module added it takes back exactly.
  - An argument is a name, or a name and a value. Both are compared as they are, never as a pattern; only C(-) and C(_)
    are the same in a name, as they are to the kernel (C(kernel/params.c)).
  - Of several values of one name the last one counts, so that a value is replaced. Exceptions, which are added beside
    others, are C(acpi_osi), C(blacklist), C(bond), C(bridge), C(console), C(crashkernel), C(earlycon), C(earlyprintk),
    C(hugepages), C(hugepagesz), C(ifname), C(initcall_blacklist), C(ip), C(memmap), C(modprobe.blacklist),
    C(nameserver), C(pci), C(systemd.mask), C(systemd.setenv), C(systemd.wants), C(team), C(video), C(vlan), and
    everything below C(rd.). Which C(hugepages) belongs to which C(hugepagesz) is not looked at.
  - Whether there is something to do is also judged from what the boot loader will read, such as C(grub.cfg) or the
    entries in C(loader/entries). A run that was killed in between is finished by the next one.
  - Where a command fails, or does not lead to what was asked for, the files are put back and the module fails.
author:
  - The kvm.passthrough authors (@kvm-passthrough)
extends_documentation_fragment:
  - kvm.passthrough.attributes
  - kvm.passthrough.attributes.changes
options:
  args:
    description:
      - The arguments, each as a string of its own. They may hold letters, digits, and C(_.,:/=+@%^!~-).
      - Where none is given, the state is only reported, RV(added) above all.
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) adds what is missing.
      - V(absent) removes exactly these arguments. C(quiet) does not stand for C(quiet=1), nor the other way round.
        A value that was replaced by this module comes back.
      - With V(absent), an argument that stands in a file of GRUB other than this module's own is an error, since that
        file is the user's. In C(/etc/kernel/cmdline) and in the entries of grubby, it is removed whoever wrote it.
    type: str
    choices: [present, absent]
    default: present
  boot_loader:
    description:
      - V(grub) is GRUB with a C(grub.cfg) made by C(update-grub), C(grub-mkconfig), or C(grub2-mkconfig) (Debian,
        Ubuntu, SUSE). The arguments stand in a file of this module, C(/etc/default/grub.d/passthrough.cfg), which
        appends them to E(GRUB_CMDLINE_LINUX), so that recovery entries have them as well, and to
        E(GRUB_CMDLINE_LINUX_DEFAULT) where another value there would win. Where mkconfig does not read that folder, a
        line at the end of C(/etc/default/grub) does.
      - V(grubby) is every host with C(grubby) (RHEL, Fedora). All boot entries are looked at and changed.
      - V(systemd-boot) is C(/etc/kernel/cmdline), and C(kernel-install) for every kernel that it made an entry for.
        Where the file is missing, it starts with what C(kernel-install) would use.
      - V(proxmox) is C(/etc/kernel/cmdline) and C(proxmox-boot-tool refresh), for hosts that Proxmox boots by
        systemd-boot. Where it boots them by GRUB, that is V(grub).
      - V(auto) finds out, from files of O(root) alone, and fails where they do not tell.
    type: str
    choices: [auto, grub, grubby, systemd-boot, proxmox]
    default: auto
  root:
    description:
      - The root of the host's files, such as a mounted image.
      - On another root than C(/) files are written, but no command is run. RV(commands) says what is to be run there.
    type: path
    default: /
notes:
  - Hosts that boot images of OSTree, and unified kernel images, are not supported.
  - With V(absent) after the entries of grubby had different values of one argument, all get back the last of them.
"""

EXAMPLES = r"""
- name: Turn the IOMMU on
  kvm.passthrough.kernel_args:
    args:
      - intel_iommu=on
      - iommu=pt
  register: arguments

- name: Reboot where the running kernel does not have the arguments yet
  ansible.builtin.reboot:
  when: arguments.reboot_required

- name: See what was added by this module
  kvm.passthrough.kernel_args:
  register: arguments

- name: Take it back
  kvm.passthrough.kernel_args:
    args: "{{ arguments.added }}"
    state: absent
"""

RETURN = r"""
boot_loader:
  description: The boot loader, as in O(boot_loader).
  type: str
  returned: success
  sample: grub
args:
  description: The arguments of O(args), each once.
  type: list
  elements: str
  returned: success
  sample: [intel_iommu=on, iommu=pt]
added:
  description:
    - The arguments that this module added and that are still there, after the change.
    - For GRUB they stand in its own file, for other boot loaders in C(/var/lib/kvm.passthrough/kernel_args.json).
  type: list
  elements: str
  returned: success
  sample: [iommu=pt]
conflicts:
  description:
    - Other values of these arguments in files of GRUB that are not this module's, which come too early to count.
  type: list
  elements: dict
  returned: success
  contains:
    arg:
      description: The argument that counts.
      type: str
    other:
      description: The argument in the file.
      type: str
    file:
      description: The file.
      type: str
    line:
      description: The number of its line.
      type: int
  sample: [{"arg": "iommu=pt", "other": "iommu=soft", "file": "/etc/default/grub", "line": 11}]
active:
  description:
    - Whether the running kernel got all of the arguments, from C(/proc/cmdline), each as the last value of its name.
    - Where O(args) is empty, the same for RV(added).
  type: bool
  returned: success
  sample: false
reboot_required:
  description:
    - Whether the running kernel differs from what the boot loader would pass, as to these arguments.
    - V(false) where no kernel runs on O(root).
  type: bool
  returned: success
  sample: true
files:
  description: The files that were written or removed.
  type: list
  elements: str
  returned: success
  sample: [/etc/default/grub.d/passthrough.cfg]
commands:
  description: The commands that were run, or in check mode or on another root would have to be.
  type: list
  elements: list
  returned: success
  sample: [[/usr/sbin/update-grub]]
"""

import functools
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvm.passthrough.plugins.module_utils._boot_detect import BOOT_LOADERS
from ansible_collections.kvm.passthrough.plugins.module_utils._bootloader import decide, execute, report
from ansible_collections.kvm.passthrough.plugins.module_utils._errors import PassthroughError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "args": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "boot_loader": {"type": "str", "choices": ["auto", *BOOT_LOADERS], "default": "auto"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    given = module.params
    present = given["state"] == "present"
    # update-grub and grubby call tools of theirs by name.
    path = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    command = functools.partial(module.run_command, environ_update={"LC_ALL": "C", "LANGUAGE": "C", "PATH": path})
    run = command if given["root"] == "/" else None
    try:
        plan = decide(given["root"], given["boot_loader"], given["args"], present, run)
        result = report(plan, given["args"], present)
        if module._diff:
            result["diff"] = plan.diff
        if plan.changed and not module.check_mode:
            execute(plan, run, module.atomic_move, module.tmpdir)
    except PassthroughError as error:
        module.fail_json(msg=str(error))
    if plan.commands and not plan.runs:
        module.warn(f"On the root {plan.root} no command is run; still to be run there: {plan.commands}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
