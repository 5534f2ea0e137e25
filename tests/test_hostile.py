"""Hostile ids and names of files: printed as text, on one line, and kept as they are.

The pages are looked at in a browser: `tests/report/test_browser.py`, `tests/serving/test_web.py`.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from c2f_dgl.cli.main import _Printed
from c2f_dgl.data import Interactions, load_dataset, random_split
from c2f_dgl.data.ids import IdMap, id_array
from c2f_dgl.data.writers import write_split
from c2f_dgl.errors import InputError, printable
from c2f_dgl.service import create_app
from c2f_dgl.serving import UserHistories
from tests.command import c2f
from tests.serving.coded import coded

HOSTILE = [
    *("<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "{{ model }}", "&lt;b&gt;", "[b]x[/b]"),
    *('"', '""', '"q" r', "'", "' onclick='x", "=cmd()", "+1", "@x", "-1", "a,b", "a;b", "a::b", "\\", "\\n", "%s"),
    *("a\nb", "a\r\nb", "a\rb", "a\tb", " lead", "\x0bz", "\x85y", "\u2028x", "\x1b[2Jclear", "\x1b]0;t\x07", "\x9b2J"),
    *("\u202eabc", "\u2066isolated", "\u05e9\u05dc\u05d5\u05dd", "007", "1.0", "NA", "None", "user", "item", "😀"),
]
# Written out here, and not taken from what is tested.
ACTED_ON = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log of hostile ids, under a hostile name, and a run on it."""
    folder = tmp_path_factory.mktemp("hostile")
    log, out = folder / "log\x1b[31m\u202e\n.csv", folder / "run\x1b[31m"
    with log.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["user", "item"])
        writer.writerows((HOSTILE[u % 20], HOSTILE[i]) for u in range(30) for i in range(len(HOSTILE)) if (u + i) % 3)
    options = ("table.fixed_epochs=1", "table.negatives=1", "data.split=random")
    done = c2f(
        "train", log, "--out", out, "--preset", "lightgcn", *(word for option in options for word in ("--set", option))
    )
    assert done.returncode == 0 and not re.search(ACTED_ON, done.stdout + done.stderr), done
    assert f"run: {folder}/run\\x1b[31m" in done.stdout and "log\\x1b[31m\\u202e\\n: 20 users" in done.stderr
    return log, out


def test_what_a_terminal_would_act_on_is_printed_as_an_escape(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    log, run = hostile
    people = [word for user in HOSTILE[:20] for word in ("--user", user)]
    done = c2f("recommend", run, *people, "-k", len(HOSTILE), "--include-seen")
    assert done.returncode == 0 and not re.search(ACTED_ON, done.stdout)
    cells = {line.split("│")[2].strip() for line in done.stdout.splitlines() if line.startswith("│")}
    assert cells >= {printable(name).strip() for name in HOSTILE}
    assert json.loads(c2f("recommend", run, *people, "--json").stdout).keys() == set(HOSTILE[:20])
    for words in (("recommend", run, "--user", "\x1b[2Jnobody"), ("info", run / "\x9b"), ("data", "split", log)):
        done = c2f(*words, *(("--out", log) if words[0] == "data" else ()))
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not re.search(ACTED_ON, done.stderr)
    done = c2f("data", "split", log, "--out", tmp_path / "parts")
    assert done.returncode == 0 and not re.search(ACTED_ON, done.stdout), done


def test_a_file_of_items_holds_the_ids_as_they_are(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    done = c2f("recommend", hostile[1], "--all", "--out", tmp_path / "items.csv", "-k", len(HOSTILE), "--include-seen")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["user"], row["item"]) for row in rows]
    assert sorted(pairs) == sorted((user, item) for user in HOSTILE[:20] for item in HOSTILE)


def test_the_service_answers_with_the_ids_as_they_are_and_says_unknown_ones_on_one_line() -> None:
    model = coded(n_items=len(HOSTILE))
    model.items = IdMap(id_array(HOSTILE), "item")
    users = UserHistories.none(model.items).added({name: HOSTILE[:3] for name in HOSTILE})
    with TestClient(create_app(model, users)) as client, TestClient(create_app(coded())) as strangers:
        for name in HOSTILE:
            query, body = {"user": name, "item": name}, {"history": [name, "nobody"], "k": len(HOSTILE)}
            answer = client.post("/recommend", json=body).json()
            assert {name, *answer["items"]} == set(HOSTILE) and answer["unknown"] == ["nobody"]
            assert client.get("/explain", params=query).json()["item"] == name
            assert name not in client.get("/similar", params={**query, "k": 1000}).json()["items"]
            for answered in (strangers.get("/similar", params=query), strangers.get("/recommend", params=query)):
                assert answered.status_code == 404 and answered.headers["content-type"] == "application/json"
                assert not re.search(f"{ACTED_ON}|\n", answered.json()["detail"])


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 5000], ids=ascii)
def test_hostile_ids_are_written_and_read_as_they_are(name: str, tmp_path: Path) -> None:
    pairs = [(user, item) for user in (name, "u") for item in (name, *"abcdefghi")]
    split = random_split(Interactions.from_frame(pd.DataFrame(pairs, columns=["user", "item"])), seed=0, name="log")
    write_split(split, tmp_path / "parts")
    again = load_dataset(tmp_path / "parts")
    for part in ("train", "valid", "test"):
        written, read = (
            {(s.user_ids[u], s.item_ids[i]) for u, i in zip(*getattr(s, part).nonzero(), strict=True)}
            for s in (split, again)
        )
        assert read == written


def test_an_id_cannot_make_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    handler = _Printed()
    handler.emit(logging.LogRecord("c2f_dgl", logging.WARNING, "", 0, "%s: left out", ("a\nerror: b\x1b[2J",), None))
    assert capsys.readouterr().err == "warning: a\\nerror: b\\x1b[2J: left out\n"


def test_a_message_is_one_line_that_shows_what_stands_there() -> None:
    error = InputError("no user 'a\u202e\x1b[2J'", where="log\udcff\n.csv", line=3, expected="another\tone")
    assert str(error) == "log\\udcff .csv, line 3: no user 'a\\u202e\\x1b[2J' (expected another one)"
    assert printable("שלום 😀 é ‌") == "שלום 😀 é ‌"
