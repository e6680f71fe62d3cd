# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import re
import typing as t

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from ansible_collections.kvm.passthrough.plugins.plugin_utils import _records, _report
from ansible_collections.kvm.passthrough.tests.page.conftest import Page
from ansible_collections.kvm.passthrough.tests.page.fleet import fleet, judged

HOSTILE = {
    "script": "<script>window.hurt = 1</script>",
    "image": "<img src=x onerror='window.hurt = 1'>",
    "end of script": "</script><script>window.hurt = 1</script>",
    "quotes": "\" onclick='window.hurt = 1' x=\"",
    "link": "javascript:window.hurt=1",
    "hash": "#/host/%2e%2e/../?a=b&c",
    "arabic": "\u0645\u0636\u064a\u0641 \u0627\u0644\u0628\u0637\u0627\u0642\u0629",
    "override": "invoice\u202efdp.exe",
    "emoji": "\U0001f9d1\U0001f3fd\u200d\U0001f680 host \U0001f1e9\U0001f1ea",
    "long": "w" * 4000,
    "control": "red\x1b[31m\x00\x07bell",
    "surrogate": "half\udc80",
    "template": "{{ 7 * 7 }} $hosts",
    "empty": "",
}
VIEWS = [
    "#/",
    "#/devices",
    "#/host/hv0001.example.org",
    "#/host/hv0001.example.org/0000:05:00.0",
    "#/host/hv0012.example.org",
]


def hostile(text: str) -> _records.Record:
    """A record in which every name that a host, a card or a user can choose is this text."""
    record = judged("hv0001.example.org", 0)
    record.update(
        name=text,
        wants=[
            {"guest": text, "devices": ["0000:05:01.0"], "fault": None},
            {"guest": text, "devices": [], "fault": text},
        ],
    )
    record["host"]["findings"] = [finding(text)]
    for device in record["devices"]:
        device["findings"] = [finding(text)]
    for guest in record["guests"]:
        guest["name"] = text
    for device in record["facts"]["pci_devices"]:
        device.update(
            dict.fromkeys(
                (
                    "vendor_name",
                    "device_name",
                    "subsystem_name",
                    "class_name",
                    "driver",
                    "driver_override",
                    "physical_slot",
                ),
                text,
            )
        )
    for row in record["facts"]["interrupts"]:
        row.update(actions=[text, text], chip=text)
    kvm = record["facts"]["kvm"] = {**record["facts"]["kvm"], "boot_loader": text}
    kvm["cpu"] = {**kvm["cpu"], "model": text, "reason": text}
    kvm["kernel"] = {**kvm["kernel"], "release": text, "arguments": [text]}
    return record


def finding(text: str) -> dict[str, t.Any]:
    return {
        **dict.fromkeys(("check", "message", "evidence", "symptom", "remedy", "repaired_by"), text),
        "severity": "blocker",
    }


def wide(page: Page) -> int:
    """By how much the page is wider than the window."""
    return page.script("return document.documentElement.scrollWidth - innerWidth")


def test_one_host_is_shown_at_once(page: Page) -> None:
    page.write(fleet(1)).open()
    assert page.texts("h2") == ["hv0001.example.org"]
    assert page.texts("h3") == ["Guests", "Devices", "Interrupt lines", "What the verdict stands on"]
    [card] = page.all("[id='d-0000:05:00.0']")
    for shown in (
        "ISDN network Controller [HFC-4S]",
        "blocked",
        "held by fax0",
        "vfio-pci",
        "IRQ 16 shared",
        "is held by the running guest fax0",
    ):
        assert shown in card.text
    box = card.find_element(By.XPATH, "..")
    assert box.get_attribute("aria-label") == "IOMMU group 14: 3 devices go together"
    assert len(box.find_elements(By.CSS_SELECTOR, ".row")) == 4
    assert "wanted by dvb0" in page.all("[id='d-0000:05:02.0']")[0].text


def test_a_finding_says_what_to_do(page: Page) -> None:
    page.write(fleet(1)).open("#/host/hv0001.example.org/0000:05:00.0")
    [card] = page.all("details.row[open]")
    [first, *_rest] = card.find_elements(By.CSS_SELECTOR, ".finding.blocker")
    for shown in (
        "held by the running guest fax0",
        "Detach it from fax0",
        "PCI device 0000:05:00.0 is in use by driver QEMU, domain fax0",
        "/run/libvirt/qemu/fax0.xml",
        "guest_running",
    ):
        assert shown in first.text
    assert "pin A, line 16, shared with i801_smbus, 0000:00:1f.4" in card.text
    assert page.focus().tag_name == "summary"


def test_a_card_of_the_catalogue_says_so(page: Page) -> None:
    page.write(fleet(1)).open("#/host/hv0001.example.org/0000:05:00.0")
    [card] = page.all("details.row[open]")
    assert "hfc-4s Cologne Chip HFC-4S, two or four S0 ports: beroNet BN2S0" in card.text.replace("\n", " ")
    page.open("#/host/hv0001.example.org/0000:01:00.0")
    [uplink] = page.all("details.row[open]")
    assert "Card family" not in uplink.text


def test_what_prepare_repairs(page: Page) -> None:
    page.write(fleet(12)).open("#/host/hv0004.example.org")
    assert page.texts(".repaired") == ["kvm.passthrough.prepare does this"]
    assert "the whole host is blocked: iommu_intel" in page.texts(".reason")


def test_the_fleet(page: Page) -> None:
    page.write(fleet(42)).open()
    numbers = _report.count(fleet(42)).numbers()
    assert page.texts(".overview .big") == ["42 hosts", f"{sum(numbers['devices'].values()):,} devices"]
    hosts = "{capable} capable\n{blocked} blocked\n{failed} not judged".format(**numbers["hosts"])
    devices = "{ready} ready\n{assignable} assignable\n{in_use} in use\n{blocked} blocked".format(**numbers["devices"])
    assert page.texts(".overview .entry") == [*hosts.split("\n"), *devices.split("\n")]
    heads = [head.get_attribute("textContent") for head in page.all(".matrix thead th")]
    assert heads[:5] == ["Host", "ready", "assignable", "in use", "blocked"]
    assert "group_viable" in heads
    assert "is_vf" not in heads, "an information stands in nobody's way"
    assert len(page.all(".matrix tbody tr")) == 42
    failed = page.all(".matrix tbody tr")[41]
    assert "hv0042.example.org" in failed.text
    assert "No route to host" in failed.text
    cell = page.all(".matrix tbody tr:first-child .cell")[0]
    assert cell.get_attribute("title") == "blocker: group_viable, 2 devices"
    page.all(".matrix tbody a")[0].click()
    page.wait(lambda: page.texts("h2") == ["hv0001.example.org"])
    page.browser.back()
    page.wait(lambda: len(page.all(".matrix tbody tr")) == 42)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("hv0007", ["hv0007.example.org"]),
        ("1397:08b4 group_viable", ["hv0001.example.org", "hv0006.example.org", "hv0011.example.org"]),
        ("winTV-nova quadBRI", []),
        ("saa7146-budget-ci", ["hv0001.example.org", "hv0006.example.org", "hv0011.example.org"]),
        ("FRITZ", ["hv0001.example.org", "hv0006.example.org", "hv0011.example.org"]),
        ("mlx5_core", ["hv0008.example.org"]),
        ("fax5", ["hv0006.example.org"]),
        ("0000:05:02.0 wanted", []),
        ("iommu_intel", ["hv0004.example.org"]),
    ],
)
def test_search(page: Page, text: str, hosts: list[str]) -> None:
    page.write(fleet(12)).open()
    page.search(text)
    page.wait(lambda: page.texts(".matrix tbody th a") == hosts)
    assert f"{len(hosts)} of 12 hosts" in page.all("#status")[0].text
    page.press(Keys.ESCAPE)
    page.wait(lambda: len(page.all(".matrix tbody tr")) == 12)


def test_filters(page: Page) -> None:
    page.write(fleet(12)).open("#/devices")
    everything = len(page.all(".device"))
    assert everything == 60, "as many as fit, the rest when they are scrolled to"
    Select(page.all("#f-verdict")[0]).select_by_value("in_use")
    assert set(page.texts(".device .badge")) == {"in use"}
    Select(page.all("#f-check")[0]).select_by_value("usb_controller")
    assert page.texts(".device .on") == ["hv0001.example.org", "hv0006.example.org", "hv0011.example.org"]
    Select(page.all("#f-host")[0]).select_by_visible_text("hv0006.example.org")
    assert re.match(r"1 of 12 hosts and 1 of \d+ devices match\Z", page.texts("#status")[0])
    Select(page.all("#f-severity")[0]).select_by_value("warning")
    assert page.texts(".nothing p") == ["Nothing matches."]
    page.all("#clear")[0].click()
    assert len(page.all(".device")) == 60
    assert page.focus().get_attribute("id") == "search"


def test_filters_hide_rows_of_a_host_but_not_the_way_to_them(page: Page) -> None:
    page.write(fleet(1)).open()
    Select(page.all("#f-check")[0]).select_by_value("net_inuse")
    assert [row.get_attribute("id") for row in page.all(".row")] == ["d-0000:00:01.0", "d-0000:01:00.0"]
    assert "10 of 12 do not match" in page.all("[aria-labelledby='h-tree'] p")[0].text


def test_pictures_are_filters(page: Page) -> None:
    page.write(fleet(12)).open()
    page.all(".entry.ready")[0].click()
    assert Select(page.all("#f-verdict")[0]).first_selected_option.text == "ready"
    assert page.all(".entry.ready")[0].get_attribute("aria-pressed") == "true"
    assert page.focus().get_attribute("class") == "entry ready"
    page.all(".entry.ready")[0].click()
    page.all(".ways button")[0].click()
    assert Select(page.all("#f-check")[0]).first_selected_option.text == page.texts(".ways .name")[0]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("width", [1280, 360])
def test_hostile_text_stays_text(page: Page, text: str, width: int) -> None:
    page.write([hostile(text), _records.empty(f"{text}!", text)])
    for view in ("#/", "#/devices"):
        page.open(view, width=width)
        assert wide(page) <= 0
    page.open(width=width)
    page.all(".matrix tbody a")[0].click()
    page.wait(lambda: page.all("#h-host"))
    page.script("dispatchEvent(new Event('beforeprint'))")
    assert len(page.all("details.row[open]")) > 5
    assert wide(page) <= 0
    assert page.script("return window.hurt") is None
    assert page.script("return document.scripts.length") == 2
    assert page.all("main img, main script, main style, main iframe, [onclick], [onerror]") == []
    shown = page.script("return document.querySelector('h2').textContent")
    unseen = {"\u202e": "\\u202e", "\x1b": "\\u001b", "\x00": "\\u0000", "\x07": "\\u0007", "\udc80": "\\udc80"}
    expected = "".join(unseen.get(character, character) for character in text)
    assert shown == (expected or "(no name)")
    for link in page.all("main a"):
        assert (link.get_dom_attribute("href") or "").startswith("#/")


def test_keyboard(page: Page) -> None:
    page.write(fleet(12)).open()
    page.press(Keys.TAB)
    assert page.focus().text == "Skip to the content"
    page.press(Keys.ENTER)
    assert page.focus().get_attribute("id") == "main"
    for _step in range(60):
        page.press(Keys.TAB)
        outline = page.script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.focus().get_attribute("outerHTML")
        if page.focus().text == "hv0001.example.org":
            break
    page.press(Keys.ENTER)
    page.wait(lambda: page.texts("h2") == ["hv0001.example.org"])
    page.script("document.querySelector('[id=\"d-0000:05:00.0\"] summary').focus()")
    page.press(Keys.ENTER)
    page.wait(lambda: page.all("[id='d-0000:05:00.0'] .finding"))
    page.press("/")
    assert page.focus().get_attribute("id") == "search"
    page.press("/")
    assert page.focus().get_property("value") == "/"


@pytest.mark.parametrize("view", VIEWS)
def test_everything_has_a_name_and_a_place(page: Page, view: str) -> None:
    page.write(fleet(12)).open(view)
    nameless = page.script("""
        return [...document.querySelectorAll("a, button, select, input, summary")].filter((each) =>
          each.checkVisibility() &&
          !(each.textContent.trim() || each.getAttribute("aria-label") || each.labels?.length))
          .map((each) => each.outerHTML)""")
    assert nameless == []
    levels = page.script("return [...document.querySelectorAll('h1, h2, h3, h4')].map((each) => +each.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    ids = page.script("return [...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    assert [len(page.all(landmark)) for landmark in ("header", "nav", "[role=search]", "main", "footer")] == [1] * 5


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_windows(page: Page, view: str, width: int) -> None:
    page.write(fleet(12)).open(view, width=width)
    assert wide(page) <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_contrast(page: Page, view: str, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: text stands out 4.5 : 1 from what is behind it."""
    page.write(fleet(12)).open(view, prefers_color_scheme=scheme)
    weak = page.script(CONTRAST)
    assert weak == []


def test_print(page: Page) -> None:
    page.write(fleet(1)).open()
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.script("dispatchEvent(new Event('beforeprint'))")
    assert not page.all("#filters")[0].is_displayed()
    judged_rows = [row for row in page.all(".row:not(.bridge)") if row.find_elements(By.CSS_SELECTOR, ".finding")]
    assert len(judged_rows) == 7
    assert all(row.get_attribute("open") for row in judged_rows)
    pdf = base64.b64decode(page.browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")


def test_printing_the_fleet_leaves_nobody_out(page: Page) -> None:
    page.write(fleet(200)).open()
    assert len(page.all(".matrix tbody tr")) < 200
    page.script("dispatchEvent(new Event('beforeprint'))")
    assert len(page.all(".matrix tbody tr")) == 200


def test_without_a_script(page: Page) -> None:
    page.write(fleet(42))
    page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.open()
        assert page.all("noscript p")[0].text.startswith(str(_report.count(fleet(42))))
        assert len(page.all("noscript tbody tr")) == 42
    finally:
        page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_thousand_hosts(page: Page) -> None:
    page.write(fleet(1000))
    size = sum(path.stat().st_size for path in page.folder.glob("*.html"))
    assert size < 30e6
    page.open()
    loaded = page.script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert loaded < 3000
    assert page.texts(".overview .big")[0] == "1,000 hosts"
    devices = int(page.texts(".overview .big")[1].split()[0].replace(",", ""))
    assert devices > 30_000
    # The first word makes the text of all devices, the next ones only look through it.
    for text, most in (("hfc", 2000), ("hfc-4s", 1000)):
        page.script("document.getElementById('search').value = arguments[0]", text)
        taken = page.script("""
            const start = performance.now();
            document.getElementById("f-verdict").dispatchEvent(new Event("change"));
            document.getElementById("search").dispatchEvent(new Event("input"));
            return new Promise((done) => { const look = () => document.getElementById("status").textContent ?
              done(performance.now() - start) : setTimeout(look, 5); look(); });""")
        assert taken < most
        page.search("")
        page.wait(lambda: not page.all("#status")[0].text)
    page.script("scrollTo(0, document.body.scrollHeight)")
    page.wait(lambda: len(page.all(".matrix tbody tr")) > 60)


CONTRAST = """
const parse = (color) => {
  const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
  return color.startsWith("color(") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
};
const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
  .map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
  .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
const behind = (node) => {
  for (let each = node; each; each = each.parentElement) {
    const color = parse(getComputedStyle(each).backgroundColor);
    if (color[3] > .9) return color;
  }
  return [255, 255, 255];
};
const weak = new Set();
const exempt = "noscript, script, :disabled, .off, .none, .unseen, .skip, option";
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const node = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !node.checkVisibility() || node.closest(exempt)) continue;
  const [one, two] = [parse(getComputedStyle(node).color), behind(node)].map(light).sort((a, b) => b - a);
  if ((one + .05) / (two + .05) < 4.5) weak.add(`${node.className} ${node.textContent.slice(0, 30)}`);
}
return [...weak];
"""
