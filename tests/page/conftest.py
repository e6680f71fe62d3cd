# Copyright (c) 2026, the kvm.passthrough authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil
import typing as t
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from ansible_collections.kvm.passthrough.plugins.plugin_utils import _records, _report

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Page:
    """The page in a browser without a screen."""

    def __init__(self, browser: Chrome, folder: Path) -> None:
        self.browser = browser
        self.folder = folder

    def write(self, records: t.Iterable[_records.Record]) -> Page:
        _report.write(self.folder, records)
        return self

    def open(self, place: str = "", width: int = 1280, height: int = 900, **media: str) -> Page:
        """The page at a place, such as #/devices; media are what CSS asks for, prefers_color_scheme="dark" say."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        self.browser.get("about:blank")
        self.browser.get((self.folder / _report.PAGE).as_uri() + place)
        return self

    def all(self, css: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def texts(self, css: str) -> list[str]:
        """What is seen of the elements, all at one moment."""
        return self.script(
            "return [...document.querySelectorAll(arguments[0])]"
            ".map((each) => each.innerText.trim().replace(/\\s+/g, ' '))",
            css,
        )

    def script(self, code: str, *arguments: t.Any) -> t.Any:
        return self.browser.execute_script(code, *arguments)

    def focus(self) -> WebElement:
        return self.browser.switch_to.active_element

    def press(self, *keys: str) -> None:
        for key in keys:
            self.focus().send_keys(key)

    def wait(self, condition: t.Callable[[], t.Any]) -> t.Any:
        return WebDriverWait(self.browser, 5, poll_frequency=0.05).until(lambda _browser: condition())

    def search(self, text: str) -> None:
        self.press("/", Keys.CONTROL + "a", text or Keys.DELETE)

    def complaints(self) -> list[str]:
        """What the browser has to say: errors, warnings, violations of the Content-Security-Policy."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture(scope="session")
def browser() -> t.Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, NAMES)), "chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options=options, service=ChromeService(shutil.which("chromedriver"))) as chrome:
        yield chrome


@pytest.fixture
def page(browser: Chrome, tmp_path: Path) -> t.Iterator[Page]:
    """A page to write and open; whatever a test does with it, the browser has nothing to complain of."""
    opened = Page(browser, tmp_path)
    opened.complaints()
    yield opened
    assert opened.complaints() == []
