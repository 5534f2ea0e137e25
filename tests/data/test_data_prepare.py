"""Prepared logs: that they are what the readers read, whatever the log's form, and what is refused."""

from __future__ import annotations

import decimal
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_dgl.data import prepare as module
from c2f_dgl.data import tables
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.prepare import prepare
from c2f_dgl.data.readers import MANIFEST, read_interactions, read_prepared
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import locked
from tests.command import c2f
from tests.data.forms import FORMS, PACKERS, parquet, table, text

pytest.importorskip("duckdb")

ROOT = Path(__file__).parents[2]
LOG = table("user", "item", "rating", "timestamp")


def same(one: Interactions, other: Interactions) -> None:
    """Both hold the same pairs of the same ids."""
    for name in ("users", "items", "user_ids", "item_ids"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        assert a.tolist() == b.tolist(), name
    assert one.n_duplicates == other.n_duplicates
    assert (one.timestamps is None) == (other.timestamps is None)
    if one.timestamps is not None:
        assert one.timestamps.tolist() == other.timestamps.tolist()


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_comes_out_as_the_readers_read_it(tmp_path, form):
    path = written(tmp_path / form, FORMS[form])
    prepare(path, tmp_path / "all")
    same(read_interactions(tmp_path / "all"), read_interactions(path))
    guessed = re.search(r"data\.timestamp=([^, ]+)", " ".join(read_interactions(path, timed=True).notes))
    time = guessed[1] if guessed else "timestamp"
    prepare(path, tmp_path / "liked", min_rating=3, timestamp=time)
    same(read_interactions(tmp_path / "liked", timed=True), read_interactions(path, min_rating=3, timed=True))


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
def test_files_at_any_depth_are_one_log(tmp_path, form):
    write = {
        ".csv": lambda frame: text(frame),
        ".jsonl": lambda frame: frame.to_json(orient="records", lines=True).encode(),
        ".parquet": parquet,
    }[form]
    for number, folder in enumerate(["day=2024-01-01", "day=2024-02-01/hour=3", "day=2024-02-01/hour=4"]):
        written(tmp_path / "log" / folder / f"part-[{number}]*{form}", write(LOG[number * 20 : number * 20 + 20]))
    written(tmp_path / "log" / "_delta_log" / f"0{form}", b"nothing of ours")
    prepare(tmp_path / "log", tmp_path / "out", timestamp="timestamp")
    same(read_interactions(tmp_path / "out", timed=True), Interactions.from_frame(LOG, timestamp="timestamp"))


def test_the_name_of_a_folder_is_a_column(tmp_path):
    for number, month in enumerate(["01", "02", "03"]):
        part = LOG[number * 20 : number * 20 + 20][["user", "item"]]
        written(tmp_path / "log" / f"day=2024-{month}-01" / "part.parquet", parquet(part))
    prepare(tmp_path / "log", tmp_path / "out", timestamp="day")
    days = pd.Series(np.repeat(["2024-01-01", "2024-02-01", "2024-03-01"], 20))
    same(
        read_interactions(tmp_path / "out", timed=True),
        Interactions.from_frame(LOG.assign(day=days), timestamp="day"),
    )


IDS = {
    "whole numbers": [3, 1, 2**62, 1],
    "unsigned": np.array([3, 1, 2**63 - 1, 1], dtype=np.uint64),
    "text": ["b", "a", "é\u4e2d", "a"],
    "numbers as text": ["10", "9", "100", "9"],
    "not numbers": ["007", "7", "1e3", "7"],
    "floats": [3.0, 1.0, 2.0, 1.0],
    "floats as text": ["3.0", "1.0", "20.0", "1.0"],
    "bytes": [b"b", b"a", b"c", b"a"],
    "uuids": [str(uuid.UUID(int=n)) for n in (7, 3, 2**100, 3)],
    "decimals": [decimal.Decimal(n) for n in (12, 7, 3, 7)],
    "categories": pd.Categorical(["b", "a", "c", "a"]),
    "quotes": ["o'brien", 'say "x"', "a\nb", "o'brien"],
    "called missing": ["", "nan", "None", "nan"],
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_ids_of_any_type(tmp_path, ids):
    frame = pd.DataFrame({'it\'s a "user"': ids, "item": [1, 2, 1, 2]})
    path = written(tmp_path / "log.parquet", parquet(frame))
    prepare(path, tmp_path / "out", user='it\'s a "user"')
    same(read_interactions(tmp_path / "out"), read_interactions(path, user='it\'s a "user"'))


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@settings(max_examples=15)
@given(rows=st.lists(st.tuples(st.one_of(NAMES, st.integers(-5, 10**18).map(str)), NAMES), min_size=1, max_size=30))
def test_any_text_is_an_id_as_in_a_frame(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("prepare")
    frame = pd.DataFrame(rows, columns=["user", "item"])
    path = written(folder / "log.parquet", parquet(frame))
    try:
        expected = Interactions.from_frame(frame)
    except InputError:
        with pytest.raises(InputError):
            prepare(path, folder / "out")
        assert list(folder.iterdir()) == [path]
        return
    prepare(path, folder / "out")
    same(read_interactions(folder / "out"), expected)


def test_times_in_all_their_forms(tmp_path):
    dates = pd.Series(["2024-01-02", "2024-01-02T03:04:05.678901+02:00", "1960-05-05 10:00", "2300-01-01"] * 15)
    moments = pd.to_datetime(pd.Series(np.arange(60)), unit="h").astype("datetime64[us]")
    for number, times in enumerate([dates, moments, pd.Series(np.arange(60) / 4), pd.Series(np.arange(60) * 10**16)]):
        path = written(tmp_path / f"{number}.parquet", parquet(LOG.assign(timestamp=times)))
        prepare(path, tmp_path / str(number), timestamp="timestamp")
        same(
            read_interactions(tmp_path / str(number), timed=True),
            read_interactions(path, timed=True, timestamp="timestamp"),
        )


def test_later_files_may_have_further_columns_in_another_order(tmp_path):
    first, second = LOG[["user", "item"]][:20], LOG[["timestamp", "item", "user"]][20:]
    for form, write in ((".csv", text), (".parquet", parquet)):
        for number, frame in enumerate((first, second)):
            written(tmp_path / f"log{form}" / f"{number}{form}", write(frame))
        prepare(tmp_path / f"log{form}", tmp_path / f"out{form}")
        same(read_interactions(tmp_path / f"out{form}"), Interactions.from_frame(LOG))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("half.csv", b"user,item,timestamp\n1,2,3\n1,3,3.5\n2,2,4\n"),
        ("ends.csv", b"user,item,timestamp\n1,2,3\n3,4,3\r\n5,6,3\n"),
        ("latin.csv", "user,item,timestamp\n1,2,3\né,4,3\n".encode("latin-1")),
        ("capitals.parquet", parquet(LOG.assign(User=1))),
        ("packed.parquet.gz", PACKERS[".gz"](parquet(LOG))),
        *((f"packed.csv{suffix}", pack(text(LOG))) for suffix, pack in PACKERS.items()),
    ],
)
def test_what_the_readers_take_is_prepared_in_batches(tmp_path, monkeypatch, name, content):
    path = written(tmp_path / name, content)
    expected = read_interactions(path, timestamp="timestamp")
    monkeypatch.setattr(tables, "BATCH_ROWS", 2)
    prepare(path, tmp_path / "out", timestamp="timestamp")
    same(read_interactions(tmp_path / "out", timed=True), expected)


def test_a_table_without_header_goes_without_rows_that_lack_an_id(tmp_path):
    path = written(tmp_path / "log.tsv", "1\ta\n2\t\n\tb\n2\tb\n1\ta\n")
    made = prepare(path, tmp_path / "out", user=0, item=1)
    same(read_interactions(tmp_path / "out"), read_interactions(path, user=0, item=1))
    assert made["notes"] == ["2 rows without user or item left out", "1 duplicate pair merged"]
    assert made["rows"] == 5


def test_many_parts_and_little_memory_are_the_same_log(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, 20_000, 400_000), "item": rng.integers(0, 900, 400_000)}).astype(str)
    path = written(tmp_path / "log.parquet", parquet("u" + frame))
    monkeypatch.setattr(module, "PART", 60_000)
    made = prepare(path, tmp_path / "out", memory=0.1)
    assert len(made["parts"]) == 7
    same(read_interactions(tmp_path / "out"), read_interactions(path))
    users = [set(pq.read_table(tmp_path / "out" / part)["user"].to_pylist()) for part in made["parts"]]
    assert sum(map(len, users)) == len(set.union(*users)) == made["users"]


def test_the_command_prepares_and_training_data_are_those_of_the_log(tmp_path):
    path = written(tmp_path / "log.csv", text(LOG.rename(columns={"user": "who"})))
    done = c2f("data", "prepare", path, "--out", tmp_path / "log", "--set", "data.user=who", "--timestamp", "timestamp")
    assert done.returncode == 0, done.stderr
    for words in ("12 users, 25 items, 60 interactions of 60 rows", "ratings in column rating not used"):
        assert words in done.stdout
    for split in ("random", "leave-last"):
        ours = load_dataset(tmp_path / "log", split=split)
        theirs = load_dataset(path, split=split, user="who")
        assert ours.fingerprint == theirs.fingerprint and ours.name == theirs.name
    again = c2f("data", "prepare", path, "--out", tmp_path / "log", "--user", "who")
    assert again.returncode == 2 and "is not empty" in again.stderr


def part(frame: pd.DataFrame) -> dict[str, bytes]:
    """A sound part, and another one in Parquet."""
    return {"a.parquet": parquet(LOG), "b.parquet": parquet(frame)}


NULL = LOG.astype({"user": "Int64", "rating": "Float64"})
NULL.loc[7, ["user", "rating"]] = pd.NA
MANY = text(pd.DataFrame({"user": np.random.default_rng(0).integers(0, 10**9, 20_000), "item": 1}))

# Files, options, what is said and of which file.
BAD = {
    "no such column": ({"a.csv": text(LOG)}, {"user": "who"}, "no column 'who' for the user", "a.csv"),
    "type changes": (
        part(LOG.astype({"user": str})),
        {},
        "column 'user' is text, and numbers in a.parquet",
        "b.parquet",
    ),
    "date in one": (
        part(LOG.assign(timestamp=pd.to_datetime(LOG["timestamp"], unit="s"))),
        {"timestamp": "timestamp"},
        "column 'timestamp' is times, and numbers in a.parquet",
        "b.parquet",
    ),
    "type changes in JSON": (
        {"a.jsonl": '{"user": 1, "item": 2}\n', "b.jsonl": '{"user": "x", "item": 2}\n'},
        {},
        "column 'user' is text, and numbers in a.jsonl",
        "b.jsonl",
    ),
    "type changes in a file": (
        {"a.jsonl": '{"user": 1, "item": 2}\n{"user": 2.5, "item": 2}\n'},
        {},
        "not JSON lines, or damaged: Failed to convert JSON to int64",
        "a.jsonl",
    ),
    "nulls": (part(NULL), {}, "row 7: the user is missing (empty or NaN) (expected an id in every row)", "b.parquet"),
    "nulls in text": ({"a.csv": "user,item\n1,2\n3,\n"}, {}, "the item is missing", "a.csv"),
    "truncated": (
        {"a.parquet": parquet(LOG), "b.parquet": parquet(LOG)[:-100]},
        {},
        "not Parquet, or damaged",
        "b.parquet",
    ),
    "empty part": ({"a.parquet": parquet(LOG), "b.parquet": b""}, {}, "not Parquet, or damaged", "b.parquet"),
    "truncated gzip": ({"a.csv.gz": PACKERS[".gz"](MANY)[:-1000]}, {}, "Compressed file ended", "a.csv.gz"),
    "other columns": (
        part(LOG.rename(columns={"item": "product"})),
        {},
        "no column 'item' for the item (expected one of 'user', 'product'",
        "b.parquet",
    ),
    "other columns in text": (
        {"a.csv": text(LOG), "b.csv": text(LOG[["item", "user"]])},
        {},
        "no column 'rating' for the rating (expected one of 'item', 'user'",
        "b.csv",
    ),
    "two forms": ({"a.csv": text(LOG), "b.parquet": parquet(LOG)}, {}, "holds delimited text (a.csv) and Parquet", ""),
    "a split": ({"train.csv": text(LOG), "test.csv": text(LOG)}, {}, "this is split already", ""),
    "no log": ({"README.md": "# Data"}, {}, "no log in this folder (expected Parquet, CSV, TSV or JSON lines", ""),
    "nothing liked": ({"a.csv": text(LOG)}, {"min_rating": 9}, "no interactions left", ""),
    "no ratings": ({"a.csv": text(LOG[["user", "item"]])}, {"min_rating": 3}, "min_rating needs a rating column", ""),
    "a rating": (
        {"a.csv": "user,item,rating\n1,2,3\n1,3,x\n"},
        {"min_rating": 3},
        "line 3: rating 'x' is not a number",
        "a.csv",
    ),
    "a time": (
        {"a.csv": "user,item,at\n1,2,2024-01-01\n1,3,soon\n"},
        {"timestamp": "at"},
        "line 3: timestamp 'soon' is not a time (expected a number or an ISO 8601 date in every row)",
        "a.csv",
    ),
    "fractions": (part(LOG.assign(user=LOG["user"] + 0.5)), {}, "is not an exact whole number", ""),
    "negative": (part(LOG.assign(user=-3)), {}, "user id -3 is negative (expected ids of 0 or more, or text)", ""),
    "huge": (part(LOG.assign(user=np.uint64(2**64 - 1))), {}, "user id 18446744073709551615 is too large", ""),
}


@pytest.mark.parametrize(("files", "options", "words", "named"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(tmp_path, files, options, words, named):
    log = tmp_path / "log"
    for name, content in files.items():
        written(log / name, content)
    with pytest.raises(InputError) as refused:
        prepare(log, tmp_path / "out", **options)
    assert words in str(refused.value)
    assert str(refused.value).startswith(str(log / named))
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_what_is_no_file_of_a_log_is_refused(tmp_path):
    for name, content, words in [
        ("train.txt", "0 1 2\n1 2\n", "lines have no separator"),
        ("a.csv", "", "the file is empty"),
        ("b.jsonl", "[1]\n", "the first line holds no object"),
    ]:
        with pytest.raises(InputError, match=words):
            prepare(written(tmp_path / name, content), tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        prepare(tmp_path / "none", tmp_path / "out")


def test_without_duckdb_and_without_memory_there_is_one_line(tmp_path, monkeypatch):
    path = written(tmp_path / "log.parquet", parquet(pd.DataFrame({"user": np.arange(300_000), "item": 1}).astype(str)))
    with pytest.raises(InputError, match="expected --memory GIB above it"):
        prepare(path, tmp_path / "out", memory=0.002)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(InputError, match=r"duckdb is not installed \(expected pip install 'c2f_dgl\[prepare\]'\)"):
        prepare(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    path = written(tmp_path / "log.parquet", parquet(LOG))

    def interrupted(*_: object) -> None:
        raise RuntimeError("Query interrupted")  # as DuckDB says it

    monkeypatch.setattr(module._Preparation, "_parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_run_leaves_no_folder_and_is_begun_anew(tmp_path):
    path = written(tmp_path / "log.parquet", parquet(LOG))
    code = f"""
import os, signal
from c2f_dgl.data import prepare as module
from c2f_dgl.data import tables
module._Preparation._parts = lambda self, folder: os.kill(os.getpid(), signal.SIGKILL)
module.prepare({str(path)!r}, {str(tmp_path / "out")!r})
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".out.*.part")
    assert not (tmp_path / "out").exists()
    with locked(left, "prepares"):  # as if it still went
        prepare(path, tmp_path / "out")
        assert left.exists()
    (tmp_path / "out").rename(tmp_path / "first")
    prepare(path, tmp_path / "out")
    assert {entry.name for entry in tmp_path.iterdir()} == {"log.parquet", "first", "out"}


def changed(**values: object):
    def change(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**manifest, **values}))

    return change


def rewritten(name: str, change):
    def rewrite(folder: Path) -> None:
        (path,) = folder.rglob(name)
        pq.write_table(change(pq.read_table(path)), path)

    return rewrite


def cut(name: str):
    def shorten(folder: Path) -> None:
        (path,) = folder.rglob(name)
        path.write_bytes(path.read_bytes()[:-40])

    return shorten


DAMAGE = {
    "a part is missing": (lambda folder: next(folder.rglob("part-*")).unlink(), "no such file"),
    "a part is cut": (cut("part-*"), "not Parquet, or damaged"),
    "rows are missing": (
        rewritten("part-*", lambda part: part[:-1]),
        "are not the ascending pairs that prepared.json counts",
    ),
    "rows are added": (
        rewritten("part-*", lambda part: pyarrow.concat_tables([part, part])),
        "are not the ascending pairs",
    ),
    "rows are mixed up": (
        rewritten("part-*", lambda part: part.take(np.arange(60)[::-1])),
        "are not the ascending pairs",
    ),
    "nulls": (
        rewritten(
            "part-*", lambda part: pyarrow.table({"user": pyarrow.nulls(60, pyarrow.int32()), "item": part["item"]})
        ),
        "are not the ascending pairs",
    ),
    "no such item": (
        rewritten("part-*", lambda part: pyarrow.table({"user": part["user"], "item": pyarrow.array(range(60))})),
        "are not the ascending pairs",
    ),
    "an id is missing": (rewritten("items.parquet", lambda ids: ids[1:]), "24 ids where prepared.json counts 25"),
    "another version": (changed(version=2), "format version 2 (expected 1: prepare it again)"),
    "no count": (changed(users=None), "is no manifest of a prepared log"),
    "no parts": (changed(parts=3), "is no manifest of a prepared log"),
    "no JSON": (lambda folder: (folder / MANIFEST).write_text("{"), "is no manifest of a prepared log"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_refused(tmp_path, damage, words):
    prepare(written(tmp_path / "log.parquet", parquet(LOG)), tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(InputError) as refused:
        read_prepared(tmp_path / "out")
    assert words in str(refused.value) and str(tmp_path / "out") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_was_not_kept_is_said(tmp_path):
    prepare(written(tmp_path / "log.parquet", parquet(LOG)), tmp_path / "out")
    with pytest.raises(InputError, match=r"no times were kept .expected it prepared with --timestamp NAME"):
        load_dataset(tmp_path / "out", split="temporal")
    with pytest.raises(InputError, match="min_rating cannot be used with a prepared log"):
        load_dataset(tmp_path / "out", min_rating=3)
