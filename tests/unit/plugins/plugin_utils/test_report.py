# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import stat
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvm.passthrough.plugins.module_utils._cards import FAMILIES
from ansible_collections.kvm.passthrough.plugins.plugin_utils import _records, _report
from ansible_collections.kvm.passthrough.tests.page.fleet import fleet, judged
from ansible_collections.kvm.passthrough.tests.unit.machines import bridge, device

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\u2028\u2029",
    "\udc80 no text",
    "\x00\x1b[31m",
    "{{ 7 * 7 }} $hosts $script ${rows}",
    "\"quoted\" & 'quoted'",
]


def page(folder: Path) -> str:
    return (folder / _report.PAGE).read_text(encoding="utf-8")


def embedded(folder: Path) -> list[t.Any]:
    """The lines of the page's data."""
    found = re.search(r'<script type="application/x-ndjson" id="data">\n(.*?)\n</script>', page(folder), re.S)
    assert found
    return [json.loads(line) for line in found[1].split("\n")]


def record(**fields: t.Any) -> _records.Record:
    return {**judged("hv1", 0), **fields}


def test_both_files_say_the_same(tmp_path: Path) -> None:
    records = list(fleet(12))
    total = _report.write(tmp_path / "new" / "folder", records)
    data = json.loads((tmp_path / "new" / "folder" / _report.DATA).read_text())
    assert data["hosts"] == json.loads(json.dumps(records))
    assert data["version"] == _report.version()
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", data["generated_at"])
    *hosts, shared = embedded(tmp_path / "new" / "folder")
    assert [host["name"] for host in hosts] == [host["name"] for host in data["hosts"]]
    assert shared["generated_at"] == data["generated_at"]
    assert total == _report.count(records)
    assert total.hosts == {"capable": 11, "blocked": 1}


def test_a_device_in_the_page(tmp_path: Path) -> None:
    _report.write(tmp_path, [record()])
    host, shared = embedded(tmp_path)
    [values] = [values for values in host["devices"] if values[0] == "0000:05:00.0"]
    found = dict(zip(shared["fields"]["device"], values))
    assert shared["texts"][found["driver"]] == "vfio-pci"
    assert (found["group"], found["verdict"], found["line"], found["mode"]) == (14, "blocked", 16, "intx")
    assert found["sharers"] == ["i801_smbus", "0000:00:1f.4"]
    kind = dict(zip(shared["fields"]["kind"], shared["kinds"][found["kind"]]))
    assert (kind["id"], kind["device_name"]) == ("1397:08b4", "ISDN network Controller [HFC-4S]")
    assert (kind["card"], kind["card_about"]) == ("hfc-4s", FAMILIES["hfc-4s"].about)
    findings = [dict(zip(shared["fields"]["finding"], shared["findings"][number])) for number in found["findings"]]
    texts = [shared["texts"][finding["message"]] for finding in findings]
    assert "0000:05:00.0 is held by the running guest fax0" in texts
    assert shared["checks"]["group_viable"]
    assert "reserved" not in host["kvm"]["iommu"]


def test_most_devices_are_of_no_family(tmp_path: Path) -> None:
    _report.write(tmp_path, [record()])
    shared = embedded(tmp_path)[-1]
    kinds = [dict(zip(shared["fields"]["kind"], values)) for values in shared["kinds"]]
    assert {kind["id"]: kind["card"] for kind in kinds if kind["card"]} == {
        "1397:08b4": "hfc-4s",
        "1244:0a00": "fritz-pci",
        "1131:7146": "saa7146-budget-ci",
    }
    assert {kind["card_about"] for kind in kinds if not kind["card"]} == {None}


def test_what_hosts_have_in_common_is_there_once(tmp_path: Path) -> None:
    _report.write(tmp_path / "one", [judged("hv1", 0)])
    _report.write(tmp_path / "many", [judged(f"hv{number}", 0) for number in range(50)])
    assert embedded(tmp_path / "one")[-1]["texts"] == embedded(tmp_path / "many")[-1]["texts"]
    assert len(page(tmp_path / "many")) - len(page(tmp_path / "one")) < 50 * 6000


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_data(tmp_path: Path, text: str) -> None:
    host = record(name=text)
    host["devices"][0]["findings"] = [
        {key: text for key in ("check", "severity", "message", "evidence", "symptom", "remedy", "repaired_by")}
    ]
    host["facts"]["pci_devices"][0]["device_name"] = text
    _report.write(tmp_path, [host, _records.empty(text, text)])
    html = page(tmp_path)
    assert html.lower().count("<script") == html.lower().count("</script") == 2
    assert html.count("<!--") == 1
    assert embedded(tmp_path)[0]["name"] == text
    assert json.loads((tmp_path / _report.DATA).read_text())["hosts"][1]["error"] == text


def test_the_page_may_run_its_own_script_only(tmp_path: Path) -> None:
    _report.write(tmp_path, [])
    html = page(tmp_path)
    assert "default-src 'none'" in html
    assert "unsafe" not in html
    assert not re.search(r"(?:src|href)=\"(?!#|data:image/svg)", html)
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|\beval\b", html)


def test_the_page_without_a_script(tmp_path: Path) -> None:
    _report.write(tmp_path, [record(), _records.empty("gone", "Unreachable: <no route>")])
    [noscript] = re.findall(r"<noscript>(.*?)</noscript>", page(tmp_path), re.S)
    assert "2 hosts: 1 capable, 1 not judged" in noscript
    assert "<tr><th>gone</th><td>failed</td><td>0</td>" in noscript
    assert "<td>Unreachable: &lt;no route&gt;</td>" in noscript


def test_bridges_are_not_counted() -> None:
    devices = [bridge("0000:00:01.0"), device("0000:01:00.0", parent="0000:00:01.0")]
    verdicts = [{"address": entry["address"], "verdict": "blocked", "findings": []} for entry in devices]
    host = record(devices=verdicts)
    host["facts"]["pci_devices"] = devices
    assert str(_report.count([host])) == "1 host: 1 capable. 1 device: 1 blocked"
    assert str(_report.count([])) == "0 hosts. 0 devices"


def test_an_earlier_report_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    _report.write(tmp_path, [record()])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken() -> t.Iterator[_records.Record]:
        yield record()
        raise ValueError("unreadable record")

    with pytest.raises(ValueError, match="unreadable record"):
        _report.write(tmp_path, broken())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"shared": True, "devices": ["0000:00:1f.4"], "chip": "IR-IO-APIC"}, True),
        ({"shared": False, "devices": ["0000:00:1f.4"], "chip": "IO-APIC"}, True),
        ({"shared": None, "devices": [], "unconfirmed": ["0000:05:01.0"], "chip": "IO-APIC"}, True),
        ({"shared": False, "devices": ["0000:00:1f.4"], "chip": "IR-PCI-MSIX-0000:00:1f.4"}, False),
        ({"shared": False, "devices": ["0000:00:1f.4"], "chip": "ITS-MSI"}, False),
        ({"shared": False, "devices": [], "chip": "IO-APIC"}, False),
        ({"shared": None, "devices": [], "chip": None, "irq": "NMI"}, False),
    ],
)
def test_the_page_shows_lines_not_messages(tmp_path: Path, row: dict[str, t.Any], shown: bool) -> None:
    host = record()
    whole = {"irq": 16, "count": 1, "trigger": None, "actions": [], "unconfirmed": [], **row}
    host["facts"]["interrupts"] = [whole]
    _report.write(tmp_path, [host])
    assert bool(embedded(tmp_path)[0]["lines"]) is shown


@pytest.mark.parametrize("name", ["hv1", "a/b", "..", "x" * 5000, *HOSTILE])
def test_records_of_any_name_come_back(tmp_path: Path, name: str) -> None:
    written = record(name=name)
    _records.write(tmp_path, written)
    assert _records.read(tmp_path, name) == json.loads(json.dumps(written))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_host_without_a_record_is_told_of(tmp_path: Path) -> None:
    assert _records.read(tmp_path, "hv1")["error"] == "The host was not judged. What the run printed for it says why"


def test_records_are_for_their_owner_only() -> None:
    assert stat.S_IMODE(_records.run_folder().stat().st_mode) == 0o700
