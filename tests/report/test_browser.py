"""The page in a real headless Chromium: it renders, opens, explains, and says nothing on the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from c2f_dgl.io.progress import Reporter
from c2f_dgl.report import MAX_BYTES, collect_runs, render_page
from tests.chromium import needs_chromium, started

pytestmark = needs_chromium

Browser = webdriver.Chrome


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, tiny_run: Path, other_run: Path, table_run: Path, hostile_run: Path
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    chosen = {
        "one": [tiny_run],
        "several": [tiny_run, other_run, table_run],
        "table": [table_run],
        "hostile": [hostile_run, tiny_run],
    }
    written = {}
    for name, runs in chosen.items():
        written[name] = folder / f"{name}.html"
        written[name].write_text(render_page(collect_runs(runs, Reporter(quiet=True))), encoding="utf-8")
        assert written[name].stat().st_size <= MAX_BYTES
    return written


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    chromium.get_log("browser")
    yield chromium
    assert chromium.get_log("browser") == []
    loaded = chromium.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def one(browser: Browser, css: str) -> WebElement:
    (element,) = browser.find_elements(By.CSS_SELECTOR, css)
    return element


def press(browser: Browser, key: str) -> None:
    browser.switch_to.active_element.send_keys(key)


@pytest.mark.parametrize("name", ["one", "several", "table", "hostile"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_renders_without_overflow_or_overlap(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(pages[name].as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('svg.swatch, .chart svg').length") > 3
    duplicates = (
        "const ids = [...document.querySelectorAll('[id]')].map(e => e.id); return ids.length - new Set(ids).size"
    )
    assert browser.execute_script(duplicates) == 0
    # Labels of an axis do not touch, and no text of a chart leaves its frame.
    clashes = browser.execute_script(
        """
        const found = [];
        for (const svg of document.querySelectorAll(".chart svg")) {
          const frame = svg.closest(".chart").getBoundingClientRect();
          const boxes = [...svg.querySelectorAll(".ticks text")].map(t => [t.textContent, t.getBoundingClientRect()]);
          boxes.forEach(([text, a], i) => {
            if (a.left < frame.left || a.right > frame.right || a.bottom > frame.bottom) found.push(text);
            for (const [other, b] of boxes.slice(i + 1)) {
              const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
              if (!apart) found.push(text + " and " + other);
            }
          });
        }
        return found;
        """
    )
    assert clashes == []


def test_clicking_opens_a_coarse_node_with_its_fine_nodes_and_items(browser: Browser, pages: dict[str, Path]) -> None:
    browser.get(pages["one"].as_uri())
    nodes = browser.find_elements(By.CSS_SELECTOR, ".map .node[role=button]")
    assert len(nodes) == 16
    node = max(nodes, key=lambda element: float(element.get_attribute("r") or 0))
    node.click()
    number, said = node.get_attribute("data-node"), node.get_attribute("aria-label")
    panel = one(browser, ".panel")
    assert one(browser, ".panel h4").text == f"Coarse node {number}"
    assert said is not None and said.split(", ")[1] in panel.text
    assert len(browser.find_elements(By.CSS_SELECTOR, ".panel .items li")) > 0
    fine = browser.find_elements(By.CSS_SELECTOR, ".panel li button")
    assert 1 <= len(fine) <= 2 and fine[0].text.startswith("fine ")
    fine[0].click()
    marked = browser.find_elements(By.CSS_SELECTOR, ".node.marked")
    assert node in marked
    assert one(browser, ".panel [role=status]").text.startswith(f"refines {len(marked)} coarse node")
    node.click()
    assert panel.text == "No node is open."
    assert not browser.find_elements(By.CSS_SELECTOR, ".node.marked")


@pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
def test_the_map_works_from_the_keyboard(browser: Browser, pages: dict[str, Path], key: str) -> None:
    browser.get(pages["one"].as_uri())
    for _ in range(60):
        press(browser, Keys.TAB)
        if browser.switch_to.active_element.get_attribute("data-node") is not None:
            break
    first = browser.switch_to.active_element
    assert first.get_attribute("data-node") == "0"
    outline = browser.execute_script("return getComputedStyle(arguments[0]).strokeWidth", first)
    assert outline == "3.5px"
    visited = {"0"}
    for arrow in (Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ARROW_UP) * 2:
        press(browser, arrow)
        visited.add(str(browser.switch_to.active_element.get_attribute("data-node")))
    assert len(visited) > 2
    press(browser, Keys.END)
    node = browser.switch_to.active_element
    assert node.get_attribute("data-node") == "15"
    press(browser, key)
    assert one(browser, ".panel h4").text == "Coarse node 15"
    assert node.get_attribute("aria-expanded") == "true"
    press(browser, Keys.TAB)  # into the panel
    assert browser.switch_to.active_element.get_attribute("aria-label") == "Close the node"
    press(browser, Keys.ESCAPE)
    assert node.get_attribute("aria-expanded") == "false"
    assert browser.switch_to.active_element == node
    assert one(browser, ".panel").text == "No node is open."
    assert len(browser.find_elements(By.CSS_SELECTOR, ".node[tabindex='0']")) == 1


def test_users_are_looked_up_side_by_side(browser: Browser, pages: dict[str, Path]) -> None:
    browser.get(pages["several"].as_uri())
    users = browser.execute_script("return [...document.querySelectorAll('datalist option')].map(o => o.value)")
    box = one(browser, ".lookup input")
    box.clear()
    box.send_keys(users[4] + Keys.ENTER)
    articles = browser.find_elements(By.CSS_SELECTOR, ".found article")
    assert [article.find_element(By.TAG_NAME, "h3").text for article in articles] == ["one", "two", "table"]
    for article in articles:
        assert f"User {users[4]} has had" in article.text
        assert len(article.find_elements(By.CSS_SELECTOR, "tbody tr")) == 10
        assert all(len(cell.text) > 3 for cell in article.find_elements(By.CSS_SELECTOR, ".reasons"))
    one(browser, "[data-step='1']").click()
    assert box.get_attribute("value") == users[5]
    box.clear()
    box.send_keys("nobody" + Keys.ENTER)
    assert "not among" in one(browser, ".lookup output").text


def test_ids_with_markup_are_text(browser: Browser, pages: dict[str, Path]) -> None:
    browser.get(pages["hostile"].as_uri())
    browser.find_elements(By.CSS_SELECTOR, ".map .node[role=button]")[0].send_keys(Keys.ENTER)
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert "</script><img src=x onerror=alert(1)>" in one(browser, ".lookup[data-group='0'] .found").text
    assert len(browser.find_elements(By.CSS_SELECTOR, ".lookup")) == 2  # one for each data set
    assert "<i>run" in one(browser, "h1").text


def test_ids_turn_nothing_around_them_and_are_found_as_the_field_shows_them(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.get(pages["hostile"].as_uri())
    box = one(browser, ".lookup[data-group='0'] input")
    box.clear()
    box.send_keys("\u202eu7</script><img src=x onerror=alert(1)>" + Keys.ENTER)
    article = one(browser, ".lookup[data-group='0'] .found article")
    assert "User  \u202eu7\n</script>" in article.find_element(By.CSS_SELECTOR, ".history").get_attribute("textContent")
    around = browser.execute_script(
        "const copy = arguments[0].cloneNode(true); copy.querySelectorAll('bdi').forEach((id) => id.remove());"
        "return copy.textContent",
        article,
    )
    assert "User  has had 20 items: , , " in around and "\u202e" not in around


def test_dark_and_print(browser: Browser, pages: dict[str, Path]) -> None:
    browser.get(pages["one"].as_uri())
    background = "return getComputedStyle(document.body).backgroundColor"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    assert browser.execute_script(background) == "rgb(20, 23, 26)"
    # On paper it is light again, even where the screen is dark, without what can only be clicked.
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert browser.execute_script(background) == "rgb(255, 255, 255)"
    assert browser.execute_script("return getComputedStyle(document.querySelector('h1')).color") == "rgb(27, 31, 35)"
    for hidden in ("nav", ".lookup form", ".panel"):
        assert not one(browser, hidden).is_displayed()
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert all(table.is_displayed() for table in browser.find_elements(By.CSS_SELECTOR, "details table"))
