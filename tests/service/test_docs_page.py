"""The OpenAPI page in a real headless Chromium: complete without a network beyond the service."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.chromium import needs_chromium, started
from tests.service.test_serve import serving
from tests.serving.coded import coded

pytestmark = needs_chromium


def test_the_page_needs_the_service_alone(tmp_path: Path) -> None:
    coded().save(tmp_path / "made.c2f")
    command = ["-m", "c2f_dgl.cli.main", "serve", str(tmp_path / "made.c2f"), "--port", "0"]
    with serving(*command) as (_, address), started(tmp_path / "profile") as browser:
        browser.get_log("performance")  # the browser's own first page
        browser.get(f"{address}/docs")
        operations = WebDriverWait(browser, 60).until(
            lambda page: len(found := page.find_elements(By.CSS_SELECTOR, ".opblock-summary-path")) >= 6 and found
        )
        shown = {operation.get_attribute("data-path") for operation in operations}
        assert shown == {"/recommend", "/similar", "/explain", "/health"}
        operations[0].click()
        WebDriverWait(browser, 60).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".opblock.is-open .try-out"))
        problems = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        assert not problems
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        wanted = [url for url in asked if urlsplit(url).scheme in ("http", "https", "ws", "wss")]
        assert len(wanted) >= 4, "the page, its script, its style and the description"
        assert {urlsplit(url).netloc for url in wanted} == {urlsplit(address).netloc}
