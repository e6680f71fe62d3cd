# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report: records of hosts in, one page and the same as JSON out.

Both files are written host by host. What grows with the fleet are the texts that differ: the page holds each text and
each finding once, and its devices refer to them by number. The page is page.html with page.css and page.js in it; it
asks for nothing outside of itself, and its Content-Security-Policy forbids it to.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import string
import typing as t
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.kvm.passthrough.plugins.module_utils import _card_facts, _interrupts, _verdict

from . import _records
from ._records import Record

PAGE, DATA = "assessment.html", "assessment.json"

HOST_VERDICTS = ("capable", "blocked", "failed")
DEVICE_VERDICTS = ("ready", "assignable", "in_use", "blocked")

# The order of what a device, the kind of a device, a finding and an interrupt line are made of in the page. The page
# is told of it and makes objects with these keys.
_DEVICE = (
    *(
        "address",
        "kind",
        "driver",
        "driver_override",
        "group",
        "numa_node",
        "enabled",
        "pin",
        "line",
        "mode",
        "vectors",
    ),
    *("sharers", "parent", "slot", "power_state", "num_vfs", "physical_function", "verdict", "findings"),
)
_KIND = (
    *("id", "subsystem_id", "class", "revision", "vendor_name", "device_name", "subsystem_name", "class_name"),
    *("modules", "bridge", "pcie_type", "bars", "reset_methods", "boot_vga", "total_vfs", "card", "card_about"),
)
_FINDING = ("check", "severity", "message", "evidence", "symptom", "remedy", "repaired_by")
_LINE = ("irq", "count", "chip", "trigger", "actions", "devices", "unconfirmed", "shared")


@dataclass
class Total:
    """How many hosts and devices have each verdict. Bridges are no devices here: none of them can ever go."""

    hosts: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> Counter[str]:
        """Count a host, and return the verdicts on its devices."""
        facts = record["facts"] or {"pci_devices": []}
        bridges = {device["address"] for device in facts["pci_devices"] if device.get("bridge")}
        verdicts = Counter(device["verdict"] for device in record["devices"] if device["address"] not in bridges)
        self.hosts[_host_verdict(record)] += 1
        self.devices.update(verdicts)
        return verdicts

    def numbers(self) -> dict[str, dict[str, int]]:
        """The numbers of all verdicts, those that nobody has too."""
        return {
            "hosts": {verdict: self.hosts[verdict] for verdict in HOST_VERDICTS},
            "devices": {verdict: self.devices[verdict] for verdict in DEVICE_VERDICTS},
        }

    def __str__(self) -> str:
        return f"{_counted(self.hosts, 'host', HOST_VERDICTS)}. {_counted(self.devices, 'device', DEVICE_VERDICTS)}"


def count(records: t.Iterable[Record]) -> Total:
    """What the report of these hosts would come to."""
    total = Total()
    for record in records:
        total.add(record)
    return total


def write(folder: Path, records: t.Iterable[Record]) -> Total:
    """Write both files; an earlier report stays until the new one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"generated_at": _records.now(), "version": version()}
    with _records.replacing(folder / PAGE) as page, _records.replacing(folder / DATA) as data:
        return _write(about, records, page, data)


def version() -> str | None:
    """The version of the collection, whether it was installed or is a checkout."""
    collection = Path(__file__).parents[2]
    try:
        manifest = json.loads((collection / "MANIFEST.json").read_text(encoding="utf-8"))
        return manifest["collection_info"]["version"]
    except OSError:
        pass
    try:
        lines = (collection / "galaxy.yml").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("version:")), None)


def _write(about: t.Mapping[str, t.Any], records: t.Iterable[Record], page: t.TextIO, data: t.TextIO) -> Total:
    sources = {name: _source(f"page.{name}") for name in ("css", "js")}
    before, after = _source("page.html").split("$hosts\n")
    words = {"style": sources["css"], "style_hash": _hash(sources["css"]), "script_hash": _hash(sources["js"])}
    page.write(string.Template(before).substitute(words))
    total, tables, rows = Total(), _Tables(), []
    data.write(json.dumps(about)[:-1] + ', "hosts": [')
    for number, record in enumerate(records):
        data.write(("," if number else "") + "\n" + json.dumps(record))
        page.write(_embedded(tables.host(record)) + "\n")
        rows.append(_row(record, total.add(record)))
    data.write("\n]}\n")
    fields = {"device": _DEVICE, "kind": _KIND, "finding": _FINDING, "line": _LINE}
    checks = {check.id: check.about for check in (*_verdict.HOST_CHECKS, *_verdict.DEVICE_CHECKS)}
    page.write(_embedded({**about, "fields": fields, "checks": checks, **tables.contents()}) + "\n")
    words = {"total": html.escape(str(total)), "rows": "\n".join(rows), "script": sources["js"]}
    page.write(string.Template(after).substitute(words))
    return total


class _Numbers:
    """Values in the order of their first use, each once."""

    def __init__(self) -> None:
        self._numbers: dict[t.Any, int] = {}

    def __call__(self, value: t.Any) -> int | None:
        return None if value is None else self._numbers.setdefault(value, len(self._numbers))

    def values(self) -> list[t.Any]:
        return list(self._numbers)


class _Tables:
    """What hosts have in common."""

    def __init__(self) -> None:
        self._texts, self._kinds, self._findings = _Numbers(), _Numbers(), _Numbers()

    def contents(self) -> dict[str, list[t.Any]]:
        return {
            "texts": self._texts.values(),
            "kinds": self._kinds.values(),
            "findings": self._findings.values(),
        }

    def host(self, record: Record) -> dict[str, t.Any]:
        """A record as the page has it: without what the page does not show."""
        short: dict[str, t.Any] = {key: record[key] for key in ("name", "judged_at", "error", "guests", "wants")}
        short["verdict"] = _host_verdict(record)
        short["findings"] = self._numbered(record["host"])
        facts = record["facts"]
        if facts is not None:
            judged = {device["address"]: device for device in record["devices"]}
            interrupts = facts["interrupts"]
            short["devices"] = [
                self._device(device, interrupts, judged.get(device["address"])) for device in facts["pci_devices"]
            ]
            short["lines"] = [self._line(row) for row in interrupts if _is_line(row)]
            short["kvm"] = {
                **facts["kvm"],
                "iommu": {key: value for key, value in facts["kvm"]["iommu"].items() if key != "reserved"},
            }
        return short

    def _device(
        self,
        device: t.Mapping[str, t.Any],
        interrupts: t.Sequence[t.Mapping[str, t.Any]],
        judged: t.Mapping[str, t.Any] | None,
    ) -> list[t.Any]:
        interrupt, sriov = device.get("interrupt") or {}, device.get("sriov") or {}
        values = {
            **device,
            "kind": self._kind(device),
            "driver": self._texts(device.get("driver")),
            "driver_override": self._texts(device.get("driver_override")),
            "group": device.get("iommu_group"),
            "pin": interrupt.get("pin"),
            "line": interrupt.get("line"),
            "mode": interrupt.get("mode"),
            "vectors": len(interrupt.get("vectors") or ()),
            "sharers": _interrupts.sharers(interrupts, device),
            "slot": device.get("physical_slot"),
            "num_vfs": sriov.get("num_vfs"),
            "physical_function": sriov.get("physical_function"),
            "verdict": judged and judged["verdict"],
            "findings": self._numbered(judged),
        }
        return [values.get(key) for key in _DEVICE]

    def _kind(self, device: t.Mapping[str, t.Any]) -> int | None:
        """What two devices of the same hardware have in common."""
        bars = [f"{region['type']} {region['size']}" for region in device.get("bars") or () if region.get("size")]
        card = _card_facts.family_of(device)
        values = {
            **device,
            "modules": ", ".join(device.get("modules") or ()) or None,
            "bars": ", ".join(bars) or None,
            "reset_methods": None if device.get("reset_methods") is None else ", ".join(device["reset_methods"]),
            "total_vfs": (device.get("sriov") or {}).get("total_vfs"),
            "card": card and card.name,
            "card_about": card and card.about,
        }
        return self._kinds(tuple(values.get(key) for key in _KIND))

    def _numbered(self, judged: t.Mapping[str, t.Any] | None) -> list[int | None]:
        return [
            self._findings(tuple(self._texts(finding[key]) for key in _FINDING))
            for finding in (judged or {"findings": []})["findings"]
        ]

    def _line(self, row: t.Mapping[str, t.Any]) -> list[t.Any]:
        return [self._texts(row[key]) if key in ("chip", "trigger") else row[key] for key in _LINE]


def _is_line(row: t.Mapping[str, t.Any]) -> bool:
    """Whether devices can meet on this interrupt: a message belongs to one device, and only a line can be shared."""
    return bool(row["shared"] or ((row["devices"] or row["unconfirmed"]) and "MSI" not in (row["chip"] or "")))


def _host_verdict(record: Record) -> str:
    return "failed" if record["error"] is not None else record["host"]["verdict"]


def _source(name: str) -> str:
    return (Path(__file__).parent / "report" / name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    """A source's name in a Content-Security-Policy (CSP Level 3, 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _embedded(value: t.Any) -> str:
    """JSON in ASCII that ends no script element: what a browser reads there ends at the first </script."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _row(record: Record, verdicts: t.Mapping[str, int]) -> str:
    """A host in the table for browsers that run no script."""
    numbers = "".join(f"<td>{verdicts.get(verdict, 0)}</td>" for verdict in DEVICE_VERDICTS)
    name, verdict, error = (
        html.escape(text) for text in (record["name"], _host_verdict(record), record["error"] or "")
    )
    return f"<tr><th>{name}</th><td>{verdict}</td>{numbers}<td>{error}</td></tr>"


def _counted(numbers: Counter[str], noun: str, verdicts: t.Iterable[str]) -> str:
    total = sum(numbers.values())
    words = {"in_use": "in use", "failed": "not judged"}
    parts = ", ".join(f"{numbers[verdict]} {words.get(verdict, verdict)}" for verdict in verdicts if numbers[verdict])
    return f"{total} {noun}{'' if total == 1 else 's'}" + (f": {parts}" if parts else "")
