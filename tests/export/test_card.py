"""The card of a device model: what it says is so, and no name or id breaks it."""

from __future__ import annotations

import ast
import html
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import yaml
from markdown_it import MarkdownIt

from c2f_dgl.config.load import load_config
from c2f_dgl.data.catalogue import way_of_split
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import printable
from c2f_dgl.export.card import card_path, escaped, model_card
from c2f_dgl.export.device_model import details_of
from c2f_dgl.serving import ServingModel
from tests.command import c2f
from tests.serving.coded import coded

EVIL = [
    "a|b\n| --- |\n```\n---\n# owned",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1)) ![i](u) **b** _i_ `c` $$m$$ ~~s~~ &lt; \u202ertl",
    "'; rm -rf / #",
    '"""',
    "\\",
]


def parts_of(card: str) -> tuple[dict[str, object], str]:
    """The header, as the hub's library finds it, and the Markdown below."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1]), card[found.end() :]


def structure(body: str) -> list[str]:
    """What Markdown is made of: headings, tables, code, and what stands within lines, HTML as well."""
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    within = [child.type for token in tokens for child in token.children or [] if "text" not in child.type]
    return [token.type for token in tokens] + within


def fenced(body: str) -> dict[str, str]:
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL))


def test_an_export_writes_what_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert c2f("train", "planted", "--out", "run", "--preset", "quick").returncode == 0
    done = c2f("export", "run", "--out", "model.c2f", "--bytes", "30kB", "--users", "users.c2f")
    assert done.returncode == 0, done.stderr
    header, body = parts_of(Path("model.c2f.md").read_text("utf-8"))
    assert header["library_name"] == "c2f_dgl"
    counts = "planted: 1,000 users, 800 items, 27,996 interactions (22,363 train, 2,352 validation, 3,281 test)"
    assert counts in body.replace("\n", " ")
    assert "given, seed 2024; valid drawn from test." in body
    assert "\nCodes (a coarse meta-embedding" in body
    assert f"One file of {Path('model.c2f').stat().st_size:,} bytes recommends 800 items" in body
    for split in ("valid", "test"):
        figures = json.loads(c2f("evaluate", "model.c2f", "--data", "planted", "--split", split, "--json").stdout)
        assert f"| {split} | {figures['ndcg@20']:.4f} | {figures['recall@20']:.4f} |\n" in body
    # What it shows is run as it stands.
    code, names = fenced(body), dict[str, object]()
    exec(code["python"], names)
    words = shlex.split(code["sh"])
    found = json.loads(c2f(*words[1:], "--json").stdout)
    assert [entry["item"] for entry in found["history"]] == np.asarray(names["items"]).tolist()
    # Items that the data lack.
    Path("cold.csv").write_text("item,price\n" + "".join(f"{n},{n % 9}\n" for n in (*range(50), 9001, 9002)))
    done = c2f("export", "run", "--out", "cold.c2f", "--cold", "cold.csv")
    assert done.returncode == 0, done.stderr
    body = Path("cold.c2f.md").read_text("utf-8")
    assert "bytes recommends 802 items" in body and "1,000 users, 800 items, " in body
    assert "\n- 2 items are coded by features alone" in body
    # A card that is there is not written over, and nothing is begun.
    Path("next.c2f.md").write_text("mine")
    done = c2f("export", "run", "--out", "next.c2f")
    assert done.returncode == 2 and "next.c2f.md: is there already" in done.stderr
    assert not Path("next.c2f").exists() and Path("next.c2f.md").read_text() == "mine"
    assert c2f("export", "run", "--out", "x.onnx", "--format", "onnx").returncode == 0
    assert not card_path("x.onnx").exists()


@pytest.mark.parametrize("evil", EVIL)
def test_no_name_or_id_breaks_a_card(evil: str) -> None:
    harmless = made("plain", np.array([f"item {n}" for n in range(60)], dtype=object))
    ids = np.array([f"{evil} {n}" for n in range(60)], dtype=object)
    card = made(evil, ids)
    header, body = parts_of(card)
    assert header == parts_of(harmless)[0]
    assert structure(body) == structure(parts_of(harmless)[1])
    assert "\u202e" not in card
    assert f"# Recommendations from a history, {escaped(evil)}\n" in body
    assert html.unescape(MarkdownIt("commonmark").renderInline(escaped(evil))) == printable(evil), "shown as it is"
    called = ast.parse(fenced(body)["python"]).body[-1]
    assert ids[0] in [node.value for node in ast.walk(called) if isinstance(node, ast.Constant)]
    assert len(shlex.split(fenced(body)["sh"])) == 9, "each id is one word"


def made(name: str, ids: np.ndarray) -> str:
    """The card of a small model with these ids."""
    codes = coded(near=False, n_items=len(ids))
    model = ServingModel(codes.codes, codes.degree_level, codes.history_weight, codes.item_weight, ids)
    nothing = sp.csr_matrix((5, len(ids)), dtype=np.float32)
    split = Split(name, nothing, nothing, nothing, np.arange(5), ids)
    config = load_config("fast")
    model.details.update(details_of(config, split))
    model.details["test"] = {"ndcg@20": 0.25, "recall@20": 0.5}
    return model_card(model, split, config, {"codes": 0, "ids": 3}, how="random", exact=False)


def test_only_what_is_known_is_said() -> None:
    card = made("plain", np.array([f"item {n}" for n in range(60)], dtype=object))
    assert "|---|---:|---:|\n| test | 0.2500 | 0.5000 |\n\n" in card
    assert all(words in card for words in ("\nVectors of the items", "nearest model of items", "\nBytes: ids 3.\n"))
    assert "drawn" not in card
    assert escaped("a_b") == r"a\_b"


def test_the_way_of_a_split_is_what_loading_did(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"{n % 9},{n % 7}\n" for n in range(63)))
    (tmp_path / "given").mkdir()
    for part in ("train", "test"):
        (tmp_path / "given" / f"{part}.csv").write_text((tmp_path / "log.csv").read_text())
    for source, how, way in (
        (tmp_path / "log.csv", "auto", "random"),
        (tmp_path / "log.csv", "temporal", "temporal"),
        (tmp_path / "given", "auto", "given"),
        ("planted", "auto", "given"),
    ):
        assert way_of_split(source, how) == way
