"""Module and page in a real headless Chromium: the items that Python finds, hostile ids as text, one-line errors."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from c2f_dgl.errors import InputError
from c2f_dgl.export.formats import write_web
from c2f_dgl.serving import ServingModel
from tests.chromium import needs_chromium, started
from tests.serving.coded import coded

Browser = webdriver.Chrome

MODULE = (resources.files("c2f_dgl.serving") / "web" / "c2f.js").read_text(encoding="utf-8")

# Of the module; `read` takes a model file in base64.
LOAD = """
const [answer, ...given] = [arguments[arguments.length - 1], ...arguments];
const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
import("data:text/javascript;base64," + given[0]).then(({ read: readBytes }) => {
  const read = (text) => readBytes(bytes(text).buffer);
  const run = %s;
  answer(run(read, ...given.slice(1, -1)));
}).catch((error) => answer("failed: " + error.stack));
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("profile")) as driver:
        driver.set_script_timeout(60)
        yield driver


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser; nothing may be said on its console, and nothing loaded but the page."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get("about:blank")
    chromium.get_log("browser")
    yield chromium
    assert chromium.get_log("browser") == []
    loaded = chromium.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def in_module(browser: Browser, function: str, *values: Any) -> Any:
    """What a function of `read` and some values returns."""
    module = base64.b64encode(MODULE.encode()).decode()
    return browser.execute_async_script(LOAD % function, module, *values)


def stored(model: ServingModel, folder: Path) -> bytes:
    model.save(folder / "model.c2f")
    return (folder / "model.c2f").read_bytes()


def encoded(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def texts(browser: Browser, css: str) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(element => element.textContent)", css
    )


def opened(browser: Browser, folder: Path) -> None:
    browser.get((folder / "index.html").as_uri())
    there = "return !document.getElementById('main').hidden || !document.getElementById('failed').hidden"
    WebDriverWait(browser, 20, 0.05).until(lambda _: browser.execute_script(there))


def test_the_module_is_small() -> None:
    assert len(MODULE.encode()) < 10_000


MODELS = {
    "residual": {"structure": "residual"},
    "residual without neighbours": {"structure": "residual", "near": False},
    "product": {"structure": "product", "text": True},
    "mixed": {"structure": "mixed", "text": True},
    "float32 table": {"structure": "table", "near": False},
    "float16 table": {"structure": "float16 table"},
    "int8 table": {"structure": "int8 table", "near": False, "text": True},
    "int8 table with neighbours": {"structure": "int8 table"},
}


@needs_chromium
@pytest.mark.parametrize("name", MODELS)
def test_it_ranks_and_explains_as_python_does(browser: Browser, tmp_path: Path, name: str) -> None:
    model = coded(3, n_items=70, **MODELS[name])  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    histories = [rng.choice(model.items.ids, rng.integers(0, 40)).tolist() for _ in range(1000)]
    histories[0] = []
    wanted, scores = model.recommend_many(histories, 20)
    found = in_module(
        browser,
        """(read, file, histories) => {
          const model = read(file);
          return histories.map((history) => model.recommend(history, 20).items.map(({ id, score }) => [id, score]));
        }""",
        encoded(stored(model, tmp_path)),
        histories,
    )
    assert [[item for item, _ in ranked] for ranked in found] == wanted.tolist()
    np.testing.assert_allclose([[score for _, score in ranked] for ranked in found], scores, rtol=1e-12, atol=1e-12)
    explained = in_module(
        browser,
        """(read, file, histories, items) => {
          const model = read(file);
          return histories.map((history, at) => model.explain(history, items[at]));
        }""",
        encoded(stored(model, tmp_path)),
        histories[:50],
        wanted[:50, 0].tolist(),
    )
    for n, said in enumerate(explained):
        expected = model.explain(histories[n], wanted[n, 0])
        terms = [term["contribution"] for term in said["terms"]]
        assert {term["id"] for term in said["terms"]} == set(histories[n])
        np.testing.assert_allclose(terms, expected.contributions, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose([said["score"], sum(terms)], scores[n, 0], rtol=1e-9, atol=1e-12)


@needs_chromium
def test_items_of_equal_scores_are_in_the_order_of_rows(browser: Browser, tmp_path: Path) -> None:
    model = coded(near=False, n_items=20)
    for level in model.codes.levels:
        assert level.codes is not None
        level.codes[:] = level.codes[0]
    model.degree_level[:] = 0
    wanted = model.recommend([105], 20)[0].tolist()
    assert wanted == [item for item in range(100, 120) if item != 105]
    function = "(read, file) => read(file).recommend([105], 20).items.map((item) => item.id)"
    assert in_module(browser, function, encoded(stored(model, tmp_path))) == wanted


@needs_chromium
def test_what_is_unknown_is_reported_and_numbers_may_be_text(browser: Browser, tmp_path: Path) -> None:
    function = """(read, file) => {
      const model = read(file), { items, unknown } = model.recommend(["101", 5, 102, 102, "x"], 3), failed = [];
      for (const trial of [
        () => model.recommend([101], 0), () => model.recommend([101], "3"), () => model.explain([101], 5),
      ]) try { trial(); } catch (error) { failed.push(error.message); }
      return [items.map((item) => item.id), unknown, model.find(100), model.find("5"), model.length, failed];
    }"""
    model = coded()
    found = in_module(browser, function, encoded(stored(model, tmp_path)))
    assert found[:-1] == [model.recommend([101, 102], 3)[0].tolist(), [5, "x"], 0, -1, 20]
    assert found[-1] == [
        "k = 0 is no whole number of 1 or more",
        'k = "3" is no whole number of 1 or more',
        'no item "5"',
    ]


@needs_chromium
def test_large_ids_are_exact(browser: Browser, tmp_path: Path) -> None:
    model = coded(near=False)
    ids = np.array([2**62 + n for n in range(20)])
    model = ServingModel(model.codes, model.degree_level, model.history_weight, model.item_weight, ids)
    function = "(read, file) => read(file).recommend([2n ** 62n], 3).items.map((item) => String(item.id))"
    wanted = model.recommend([2**62], 3)[0].tolist()
    assert in_module(browser, function, encoded(stored(model, tmp_path))) == [str(item) for item in wanted]


@needs_chromium
def test_what_python_refuses_is_refused_in_one_line(browser: Browser, tmp_path: Path) -> None:
    """Files written anew with other values, and files with bytes changed, cut or added."""
    path = tmp_path / "model.c2f"
    blob = stored(coded(text=True), tmp_path)
    tensors = load_file(path)
    with safe_open(path, "numpy") as file:
        manifest = json.loads(file.metadata()["c2f"])
    files = [
        b"",
        b"x" * 8,
        b"\xff" * 100,
        blob[:100],
        blob[:-1],
        blob + b"x",
        blob.replace(b"c2f_dgl model", b"c2f_dgl users"),
    ]
    for name, values in tensors.items():
        some = [values[:-1], values.astype(np.float64), None]
        some += [np.full_like(values, 255 if values.dtype.kind in "ui" and values.dtype.itemsize > 1 else 120)]
        some += [np.full_like(values, np.nan)] if values.dtype.kind == "f" else []
        for value in some:
            changed = {**tensors, name: value} if value is not None else {k: v for k, v in tensors.items() if k != name}
            save_file(changed, path, {"c2f": json.dumps(manifest)})
            files.append(path.read_bytes())
    for key in manifest:
        for value in (None, -1, 3, "x", [], {}, [0, 0, 2, 9], 1e99):
            save_file(tensors, path, {"c2f": json.dumps({**manifest, key: value})})
            files.append(path.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(600):
        damaged = bytearray(blob)
        end = len(blob) if rng.random() < 0.5 else 2000  # the header is where most is to be found
        for place in rng.integers(0, end, rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        files.append(bytes(damaged))
    function = """(read, files) => files.map((file) => {
      try { read(file).recommend([], 3); return ""; } catch (error) { return `${error.name}: ${error.message}`; }
    })"""
    found = in_module(browser, function, [encoded(file) for file in files])
    assert isinstance(found, list), found
    refused = 0
    for file, said in zip(files, found, strict=True):
        path.write_bytes(file)
        try:
            ServingModel.load(path)
        except InputError as error:
            refused += 1
            assert said, error
        if said:
            assert said.startswith("Error: no c2f_dgl model, or damaged: "), said
            assert "\n" not in said and len(said) < 250
            with pytest.raises(InputError):
                ServingModel.load(path)
    assert refused > 300


HOSTILE = [
    "<script>document.title = 'bad'</script>",
    '"><img src=x onerror="document.title=1">',
    "' onclick='document.title=1",
    "line\nbreak",
    "\u202eright to left",
    "שלום עולם",
    "</script><h1>x</h1>",
    "&lt;b&gt; &amp;",
    "  ",
    "x" * 300,
    "{{ model }}",
]


def hostile() -> ServingModel:
    made = coded(text=True)
    ids = np.array([*HOSTILE, *made.items.ids[len(HOSTILE) :]], dtype=object)
    titles = np.array([f"title of {name}" for name in ids], dtype=object)
    weights = made.history_weight, made.item_weight
    details = {"data": "<b>data</b></script>"}
    return ServingModel(
        made.codes, made.degree_level, *weights, ids, neighbours=made.neighbours, titles=titles, details=details
    )


@needs_chromium
def test_hostile_ids_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    model = hostile()
    write_web(model, tmp_path / "page")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    opened(browser, tmp_path / "page")
    assert texts(browser, "#about") == ["<b>data</b></script> · 20 items"]
    assert texts(browser, "#recommended .id") == model.items.ids.tolist()
    assert texts(browser, "#recommended .about > bdi") == [f"title of {name}" for name in model.items.ids]
    for n in range(len(HOSTILE)):
        browser.find_elements(By.CSS_SELECTOR, "#recommended .add")[0].click()
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 375, n
    chosen = texts(browser, "#chosen bdi")
    assert len(set(chosen)) == len(HOSTILE)
    wanted = model.recommend([name.removeprefix("title of ") for name in chosen], 20)[0]
    assert texts(browser, "#recommended .id") == wanted.tolist()
    assert browser.title == "Recommendations"
    assert texts(browser, "h1") == ["Recommendations"] and texts(browser, "img, main script") == []


@needs_chromium
@pytest.mark.parametrize("titled", [True, False])
def test_search_choose_and_remove(browser: Browser, tmp_path: Path, titled: bool) -> None:
    model = coded(5, text=titled)
    write_web(model, tmp_path / "page")
    opened(browser, tmp_path / "page")
    first = str(model.items.ids[7])
    key = ".id" if titled else ".about > bdi"
    assert texts(browser, f"#recommended {key}") == [str(item) for item in model.items.ids]
    search = browser.find_element(By.ID, "search")
    search.send_keys("no such thing")
    assert browser.find_element(By.ID, "none").is_displayed()
    search.clear()
    search.send_keys("ÜNDER" if titled else "1")
    assert len(texts(browser, "#matches li")) == 8
    search.clear()
    search.send_keys("THE 7T" if titled else first)
    assert texts(browser, "#matches bdi")[0] == (model.titles[7] if model.titles is not None else first)
    search.send_keys(Keys.ENTER)
    assert len(texts(browser, "#chosen li")) == 1 and texts(browser, "#matches li") == []
    assert browser.switch_to.active_element == search
    ids, _ = model.recommend([model.items.ids[7]], 20)
    assert texts(browser, f"#recommended {key}") == [str(item) for item in ids]
    assert texts(browser, "#said") == ["19 recommendations from 1 item"]
    why = texts(browser, "#recommended .why")
    assert why[0] == f"because of {model.titles[7] if model.titles is not None else first} (100\u00a0%)"
    browser.find_element(By.CSS_SELECTOR, "#recommended .add").click()
    history = [model.items.ids[7], ids[0]]
    best = model.recommend(history, 1)[0][0]
    shares = model.explain(history, best).contributions
    wanted = [f"{round(100 * part / np.abs(shares).sum())}\u00a0%" for part in shares if part > 0]
    assert all(part in texts(browser, "#recommended .why")[0] for part in wanted)
    browser.find_elements(By.CSS_SELECTOR, "#chosen .drop")[0].click()
    assert len(texts(browser, "#chosen li")) == 1
    assert texts(browser, f"#recommended {key}") == [str(item) for item in model.recommend([ids[0]], 20)[0]]
    browser.find_element(By.CSS_SELECTOR, "#recommended .add").click()
    browser.find_element(By.ID, "clear").click()
    assert texts(browser, "#chosen li") == [] and texts(browser, "#heading") == ["Popular"]


@needs_chromium
@pytest.mark.parametrize("how", ["model", "base64", "compressed"])
def test_a_damaged_page_says_so_in_one_line(browser: Browser, tmp_path: Path, how: str) -> None:
    write_web(coded(), tmp_path / "page")
    page = tmp_path / "page" / "index.html"
    text = page.read_text(encoding="utf-8")
    start = text.index('type="text/plain">') + len('type="text/plain">')
    end = text.index("</script>", start)
    damaged = {
        "model": encoded(zlib.compress(zlib.decompress(base64.b64decode(text[start:end]))[:-1])),
        "base64": "?",
        "compressed": encoded(b"no deflate"),
    }
    page.write_text(text[:start] + damaged[how] + text[end:], encoding="utf-8")
    opened(browser, tmp_path / "page")
    (said,) = texts(browser, "#failed")
    problem = "no c2f_dgl model, or damaged: it is cut" if how == "model" else "this page is damaged"
    assert said.startswith(f"The model cannot be read: {problem}") and "\n" not in said
    assert browser.find_element(By.ID, "failed").is_displayed()
    assert not browser.find_element(By.ID, "main").is_displayed()


def test_the_folder(tmp_path: Path) -> None:
    """What is written is the model file itself, and a page not much larger; nothing is written over."""
    model = coded(n_items=5000, d=32, structure="residual")
    blob = stored(model, tmp_path)
    sizes = write_web(model, tmp_path / "page")
    assert {file.name: file.stat().st_size for file in (tmp_path / "page").iterdir()} == sizes
    assert (tmp_path / "page" / "model.c2f").read_bytes() == blob
    assert sizes["index.html"] < 1.34 * len(blob) + 30_000
    assert {file.name for file in tmp_path.iterdir()} == {"model.c2f", "page"}
    with pytest.raises(InputError, match="is there already"):
        write_web(model, tmp_path / "page")
