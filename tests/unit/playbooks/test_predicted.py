# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbooks would change on a hypervisor, as check mode tells it of trees.

The steps that need a host for real (packages, services, the boot loader, libvirt) are replaced.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._driver import rule_text
from ansible_collections.kvm.passthrough.tests.unit.boot_host import GRUB_CFG, READS
from ansible_collections.kvm.passthrough.tests.unit.fleet import Fleet, Outcome, Tasks, card, copy_collection
from ansible_collections.kvm.passthrough.tests.unit.pci_tree import PciTree

# Of what card() makes.
IDENTITY = ("0x1397", "0x08b4", "0x8086", "0xa01f")
FAX, TV, SPARE, NIC = "0000:06:00.0", "0000:07:00.0", "0000:08:00.0", "0000:05:00.0"

STEPS: dict[str, dict[str, Tasks | None]] = {
    "kvm_host": {
        "install": [],
        "kernel": [{"name": "No reboot", "ansible.builtin.set_fact": {"kvm_host_reboot_required": False}}],
        "initramfs": [{"name": "Initramfs | Build it again", "ansible.builtin.debug": {}, "changed_when": True}],
    },
    "kvm_guest": {
        "main": [],
        "plan": [{"name": "No fault", "ansible.builtin.set_fact": {"__kvm_guest_faults": []}}],
        "let_go": [
            {"name": "Let go", "ansible.builtin.set_fact": {"__kvm_guest_let_go": "{{ lets_go | default([]) }}"}}
        ],
        "release": [{"name": "Release", "ansible.builtin.debug": {}, "changed_when": True}],
    },
}
# In place of the module, which needs libvirt: guests by their definitions, as the tree has them for kvm_facts.
GUESTS = """
import os
from ansible.module_utils.basic import AnsibleModule


def main():
    options = {"guest": {}, "state": {"default": "present"}, "persistent": {"type": "bool", "default": True}}
    lists = {"addresses": {"type": "list"}, "pending": {"type": "list", "default": []}}
    module = AnsibleModule({**options, **lists}, supports_check_mode=True)
    given = module.params
    path = os.environ["TREE"] + "/run/libvirt/qemu/" + given["guest"] + ".xml"
    if not os.path.exists(path):
        module.fail_json(msg="there is no guest " + given["guest"])
    present = given["state"] == "present"
    has = [address for address in given["addresses"] if "bus='0x" + address[5:7] in open(path).read()]
    devices = [
        {"address": address, "live": present, "persistent": given["persistent"] and present, "guest_address": None}
        for address in given["addresses"]
    ]
    module.exit_json(changed=len(has) < len(devices) if present else bool(has), devices=devices)


main()
"""


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_collection(tmp_path_factory.mktemp("collections"), STEPS)
    module = folder / "ansible_collections/kvm/passthrough/plugins/modules/guest_pci_device.py"
    module.write_text(GUESTS)
    return folder


@pytest.fixture
def fleet(tmp_path: Path, collections: Path) -> Fleet:
    return Fleet(tmp_path, collections)


def bound(tree: PciTree, *addresses: str) -> None:
    """Cards that an earlier run has bound to vfio-pci."""
    for address in addresses:
        card(tree, address, group=int(address[5:7]), driver="vfio-pci")
        (tree.device(address) / "driver_override").write_text("vfio-pci\n")
        tree.write(
            f"/etc/udev/rules.d/10-passthrough-{address}.rules", rule_text(address, IDENTITY, "vfio-pci", "vfio-pci")
        )


def running(tree: PciTree, name: str, *addresses: str) -> None:
    """A guest that runs with these devices."""
    devices = ""
    for address in addresses:
        (tree.device(address) / "enable").write_text("1\n")
        devices += (
            "<hostdev mode='subsystem' type='pci'><source>"
            f"<address domain='0x0000' bus='0x{address[5:7]}' slot='0x00' function='0x0'/></source></hostdev>"
        )
    domain = f"<domain type='kvm'><name>{name}</name><devices>{devices}</devices></domain>"
    tree.write(f"/run/libvirt/qemu/{name}.xml", f"<domstatus>{domain}</domstatus>")


def host(fleet: Fleet, name: str = "hv1", **variables: t.Any) -> PciTree:
    """A Debian host with an IOMMU."""
    tree = fleet.host(name, **variables)
    tree.write("/sys/class/iommu/dmar0/intel-iommu/version", "1:0\n")
    return tree


def prepared(fleet: Fleet) -> PciTree:
    """hv1, whose guests fax1 and tv1 run with a card each."""
    tree = host(fleet)
    bound(tree, FAX, TV)
    running(tree, "fax1", FAX)
    running(tree, "tv1", TV)
    fleet.guest("fax1", "hv1", ["06:00.0"])
    fleet.guest("tv1", "hv1", ["07:00.0"])
    tree.write("/boot/initrd.img-6.12.0", "")
    return tree


def fine(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.output
    return outcome


def test_prepare(fleet: Fleet) -> None:
    """A new card, one that nobody wants and one that nobody may have yet; functions to come; memory to be merged."""
    tree = host(fleet, kvm_host_sriov=[{"address": NIC, "vfs": 2}], kvm_host_ksm=True)
    card(tree, FAX, group=6, driver="hfc_multi")
    bound(tree, TV, SPARE)
    running(tree, "mine", TV)
    card(tree, NIC, "8086:10c9", "020000", group=5, driver="igb")
    tree.split(NIC, 0)
    tree.write("/sys/kernel/mm/ksm/run", "0\n")
    fleet.guest("fax1", "hv1", ["06:00.0", {"physical_function": NIC, "virtual_function": 1}])
    outcome = fine(fleet.play("prepare", "--check"))
    assert outcome.changed() == [
        "hv1: KSM | Note what it was before",
        "hv1: KSM | Merge or not at boot",
        "hv1: KSM | Merge or not now",
        "hv1: SR-IOV | Make the virtual functions, now and at every boot",
        "hv1: Devices | Bind them to vfio-pci, now and at every boot",
        "hv1: Initramfs | Build it again",
    ]
    assert outcome.messages()[-4:] == [
        "hv1: 2 device(s) for guests: 0000:05:10.2, 0000:06:00.0",
        "kept: 0000:07:00.0, a guest has it",
        "goes at the next boot: 0000:06:00.0, whose driver cannot be removed before",
        "a reboot is due (set kvm_host_reboot_allowed, or reboot the host and run again)",
    ]


def test_a_host_whose_driver_cannot_be_removed_is_rebooted_if_it_may(fleet: Fleet) -> None:
    tree = host(fleet, kvm_host_reboot_allowed=True)
    card(tree, FAX, group=6, driver="hfc_multi")
    fleet.guest("fax1", "hv1", ["06:00.0"])
    outcome = fleet.play("prepare", "--check")
    assert outcome.changed()[-1] == "hv1: Devices | Bind them to vfio-pci, now and at every boot"
    # Ansible does not reboot the machine that these tests run on.
    assert outcome.messages() == ["Running ansible.builtin.reboot with local connection would reboot the control node."]


def test_a_converged_host(fleet: Fleet) -> None:
    tree = host(fleet, kvm_host_ksm=False)
    bound(tree, FAX)
    tree.write("/sys/kernel/mm/ksm/run", "0\n")
    tree.write("/etc/modprobe.d/passthrough.conf", "blacklist hfc4s8s_l1\nblacklist qozap\nblacklist wcb4xxp\n")
    fleet.guest("fax1", "hv1", ["06:00.0"])
    running(tree, "fax1", FAX)
    # The file of KSM is that of the running machine.
    assert fine(fleet.play("prepare", "--check")).changed() == ["hv1: KSM | Merge or not at boot"]


@pytest.mark.parametrize(("wanted", "fault"), [(True, True), (False, False), (None, False)])
def test_a_kernel_that_cannot_merge(fleet: Fleet, wanted: bool | None, fault: bool) -> None:
    host(fleet, kvm_host_ksm=wanted)
    outcome = fleet.play("prepare", "--check")
    if fault:
        message = "hv1: kvm_host_ksm is true, but the kernel cannot merge equal memory (CONFIG_KSM)"
        assert outcome.refusal() == ([message], "")
    else:
        assert fine(outcome).changed() == []


def test_faults_of_sriov(fleet: Fleet) -> None:
    tree = host(fleet, kvm_host_sriov=[{"address": FAX, "vfs": 2}])
    card(tree, FAX, group=6)
    (fault,), _limit = fleet.play("prepare", "--check").refusal()
    assert fault.startswith('hv1: kvm_host_sriov: Selector {"address": "0000:06:00.0"}: 0000:06:00.0 has no SR-IOV')


def test_a_device_goes_from_one_guest_to_another(fleet: Fleet) -> None:
    prepared(fleet)
    fleet.guests["fax1"].update(kvm_guest_pci_devices=[], lets_go=[FAX])
    fleet.guests["tv1"].update(kvm_guest_pci_devices=["06:00.0"], lets_go=[TV])
    outcome = fine(fleet.play("deploy", "--check"))
    assert outcome.changed() == [
        "hv1: Devices | Bind them to vfio-pci, now and at every boot",
        "hv1: Initramfs | Build it again",
    ]
    assert "kept" not in outcome.output

    held = (
        "hv1: kvm_guest_pci_devices of tv1: 0000:06:00.0 is held by the running guest fax1. Detach it from fax1 (virsh"
        " detach-device), or shut that guest down, first; or have fax1 in the run of deploy (--limit), which lets go"
        " first"
    )
    assert fleet.play("deploy", "--check", "--limit", "hv1,tv1").refusal()[0] == [held]
    assert fleet.play("prepare", "--check").refusal()[0] == [held]


RELEASED = ["hv1: Release | Give the devices back to their own drivers", "hv1: Initramfs | Build it again"]


@pytest.mark.parametrize(
    ("limit", "guests", "given_back"),
    [
        ("all", ["fax1", "tv1"], f"{FAX}, {TV}"),
        ("fax1,hv1", ["fax1"], FAX),
    ],
)
def test_release(fleet: Fleet, limit: str, guests: list[str], given_back: str) -> None:
    prepared(fleet)
    outcome = fine(fleet.play("release", "--check", "--limit", limit))
    changed = outcome.changed()
    # Of several guests, whichever is done first is told first.
    assert sorted(changed[: len(guests)]) == [f"{guest}: Release" for guest in guests]
    assert changed[len(guests) :] == RELEASED
    assert f"hv1: given back: {given_back}" in outcome.messages()


@pytest.mark.parametrize(
    ("limit", "fault"),
    [
        (
            "fax1",
            "fax1: the hypervisor hv1, which gets the devices back, is not in this run. To release what it has: --limit"
            " 'fax1,hv1'",
        ),
        (
            "hv1",
            "hv1 has the guests fax1, tv1, which are not in this run. To release the host and all of them: --limit"
            " 'hv1,fax1,tv1'",
        ),
    ],
)
def test_a_limit_that_cannot_be_meant(fleet: Fleet, limit: str, fault: str) -> None:
    prepared(fleet)
    outcome = fleet.play("release", "--limit", limit)
    assert outcome.code != 0
    assert outcome.messages() == [f"1 fault in what is to be released, nothing was changed:\n- {fault}"]


def test_release_of_a_host_where_nothing_was_prepared(fleet: Fleet) -> None:
    host(fleet)
    outcome = fine(fleet.play("release", "--check"))
    assert (outcome.changed(), outcome.messages()) == ([], ["hv1: given back: nothing, nothing was taken"])


@pytest.mark.parametrize(("users_own", "due"), [("", True), ("iommu=pt", False)])
def test_release_that_was_killed_before_the_reboot(fleet: Fleet, users_own: str, due: bool) -> None:
    """The running kernel has an argument of ours, which the boot loader passes no longer unless the user wants it."""
    tree = host(fleet, kvm_host_kernel_args=["iommu=pt"])
    tree.write("/etc/default/grub", f'GRUB_CMDLINE_LINUX="{users_own}"\n')
    tree.write("/usr/sbin/grub-mkconfig", READS)
    tree.write("/usr/sbin/update-grub", "exec grub-mkconfig\n")
    tree.write("/boot/grub/grub.cfg", GRUB_CFG.format(linux=users_own, default=""))
    tree.write("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-6.1 root=UUID=1 ro iommu=pt\n")
    messages = fine(fleet.play("release", "--check")).messages()
    assert messages[:1] == ["hv1: given back: nothing, nothing was taken"]
    assert ("a reboot is due for the kernel arguments" in messages) is due


def test_release_refuses_to_go_on_while_a_guest_has_a_device(fleet: Fleet) -> None:
    tree = host(fleet)
    bound(tree, FAX)
    running(tree, "mine", FAX)
    outcome = fleet.play("release", "--check")
    assert outcome.code != 0
    assert f"{FAX} of hv1 not given back: a running guest has it." in outcome.output


def asked(device: t.Any) -> tuple[str, ...]:
    return ("--check", "-e", "guest=fax1", "-e", f"device={device}")


def test_attach(fleet: Fleet) -> None:
    tree = prepared(fleet)
    card(tree, SPARE, group=8, driver="igb")
    outcome = fine(fleet.play("attach", *asked("08:00.0"), "--limit", "fax1"))
    assert outcome.changed() == ["fax1: Bind the device to vfio-pci", "fax1: Attach the device"]
    assert outcome.messages()[-1] == f"fax1 has {SPARE} of hv1, until it stops"

    outcome = fine(fleet.play("attach", *asked("08:00.0"), "-e", "persistent=true"))
    assert outcome.changed() == [
        "fax1: Bind the device to vfio-pci",
        "fax1: Attach the device",
        "fax1: Initramfs | Build it again",
    ]
    assert outcome.messages()[-1] == f"fax1 has {SPARE} of hv1"

    outcome = fine(fleet.play("attach", *asked("06:00.0")))
    assert outcome.changed() == []


@pytest.mark.parametrize("more", [(), ("-e", "persistent=true")])
def test_attach_of_a_device_whose_driver_cannot_be_removed(fleet: Fleet, more: tuple[str, ...]) -> None:
    card(prepared(fleet), SPARE, group=8, driver="hfc_multi")
    outcome = fleet.play("attach", *asked("08:00.0"), *more)
    assert outcome.code != 0
    assert outcome.changed() == []
    (said,) = outcome.messages()
    assert said.startswith(
        f"nothing was changed:\n- hv1: {SPARE} is bound to hfc_multi, whose removal is a bug of its own"
    )
    assert said.endswith("give it to fax1 by kvm_guest_pci_devices, and run the playbook deploy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            asked("07:00.0"),
            "nothing was changed:\n- hv1: 0000:07:00.0 is promised twice, by kvm_guest_pci_devices of tv1",
        ),
        (asked("09:00.0"), 'nothing was changed:\n- hv1: device: Selector "09:00.0" matches no device'),
        (
            ("-e", "device=08:00.0"),
            "guest is not set, which is the inventory name of a guest. Example: ansible-playbook",
        ),
        (("-e", "guest=hv1"), "hv1 is no guest of the inventory with a kvm_guest_host; there are fax1, tv1. Example:"),
        (("-e", "guest=fax1"), "device is not set, which is a selector, or an address such as 06:00.0. Example:"),
        (
            (*asked("08:00.0"), "--limit", "hv1"),
            "fax1 is not in this run: leave --limit out, or name it there. Example:",
        ),
    ],
)
def test_attach_that_cannot_be_done(fleet: Fleet, arguments: tuple[str, ...], message: str) -> None:
    prepared(fleet)
    outcome = fleet.play("attach", *arguments)
    assert outcome.code != 0
    assert [said[: len(message)] for said in outcome.messages()] == [message]
    assert outcome.changed() == []


@pytest.mark.parametrize(
    ("device", "changed", "said"),
    [
        (
            SPARE,
            [
                "fax1: Detach the device",
                "fax1: Give the device back to its own driver",
                "fax1: Initramfs | Build it again",
            ],
            f"fax1 has {SPARE} of hv1 no longer; its driver is ",
        ),
        (
            FAX,
            ["fax1: Detach the device"],
            f"fax1 has {FAX} of hv1 no longer; the next deploy gives it back, since kvm_guest_pci_devices of fax1",
        ),
        (
            TV,
            [],
            f"fax1 has {TV} of hv1 no longer; it stays on vfio-pci, since the inventory gives it to a guest",
        ),
    ],
)
def test_detach(fleet: Fleet, device: str, changed: list[str], said: str) -> None:
    tree = prepared(fleet)
    bound(tree, SPARE)
    running(tree, "fax1", FAX, SPARE)
    outcome = fine(fleet.play("detach", *asked(device)))
    assert outcome.changed() == changed
    assert outcome.messages()[-1].startswith(said)


def test_a_card_that_a_running_guest_has_to_keep(fleet: Fleet) -> None:
    tree = prepared(fleet)
    bound(tree, SPARE)
    uevent = tree.device(SPARE) / "uevent"
    uevent.write_text(uevent.read_text().replace("8086:A01F", "1397:B620"))
    running(tree, "fax1", FAX, SPARE)
    outcome = fleet.play("detach", *asked(SPARE))
    assert outcome.code != 0
    assert outcome.messages() == [
        f"nothing was changed: fax1 runs, and its kernel hangs when it removes hfc_multi from {SPARE}; shut it down"
        " first"
    ]
    assert outcome.changed() == []
