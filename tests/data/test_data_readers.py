"""Readers: what they accept, and the one line that they refuse with."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_dgl.data import tables
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.readers import read_interactions, read_lightgcn, read_log
from c2f_dgl.data.splits import random_split
from c2f_dgl.data.writers import write_split
from c2f_dgl.errors import InputError


def external_pairs(inter: Interactions) -> set[tuple]:
    """The pairs as external ids."""
    return set(zip(inter.user_ids[inter.users].tolist(), inter.item_ids[inter.items].tolist(), strict=True))


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


LINES = st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 2**31 - 1), max_size=6)), min_size=1)


@settings(max_examples=200)
@given(lines=LINES, end=st.sampled_from(["\n", "\r\n", "\r", " \n", "\n\n"]), last=st.booleans())
def test_lightgcn_agrees_with_a_plain_parser(tmp_path_factory, lines, end, last):
    path = tmp_path_factory.mktemp("lightgcn") / "train.txt"
    path.write_text(end.join(" ".join(map(str, [user, *items])) for user, items in lines) + end * last, newline="")
    pairs = [(user, item) for user, items in lines for item in items]
    if not pairs:
        with pytest.raises(InputError, match="no user has an item"):
            read_lightgcn(path)
        return
    inter = read_lightgcn(path)
    assert external_pairs(inter) == set(pairs)
    assert inter.user_ids.tolist() == sorted({user for user, _ in lines})
    assert inter.item_ids.tolist() == sorted({item for _, item in pairs})
    assert inter.n_duplicates == len(pairs) - len(set(pairs)) == len(pairs) - len(inter)


def test_lightgcn_keeps_users_without_items_and_contiguous_ids(tmp_path):
    inter = read_lightgcn(written(tmp_path, "train.txt", "\ufeff0 1 0\r\n1\r\n2 1 1\r\n"))
    assert inter.to_csr().toarray().tolist() == [[1, 1], [0, 0], [0, 1]]
    assert inter.notes == ("1 duplicate pair merged",)
    assert inter.user_ids.dtype == inter.users.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"the file is empty"),
        ("\n \n", r"the file is empty"),
        ("0\n1\n", r"no user has an item"),
        ("0 1\n\n1 x2 3\n", r"train\.txt, line 3: 'x2' is not a whole number .expected lines of whole numbers"),
        ("0 1\n1 2.5\n", r"line 2: '2\.5' is not a whole number"),
        ("0 1\n1 nan\n", r"line 2: 'nan' is not a whole number"),
        ("0 1\n1 2 -3\n", r"line 2: id -3 is negative"),
        ("0 1\n1 2147483648\n", r"line 2: id 2147483648 is absurdly large .expected ids from 0 to 2147483647"),
        ("0 1\n1 2\n" + "9" * 400 + " 1", r"line 3: id 9{24} is absurdly large"),
        (b"0 1\n1 2 \xff\xfe\n", r"line 2: this is not UTF-8 text"),
        ("0 1\n1 2\n".encode("utf-16"), r"line 1: this is not UTF-8 text"),
        (b"0 1\n1 2\n\0\0\0", r"line 3: this is not UTF-8 text"),
    ],
)
def test_lightgcn_refuses(tmp_path, content, message):
    path = written(tmp_path, "train.txt", content)
    with pytest.raises(InputError, match=message) as caught:
        read_interactions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["train.txt", "log.csv", "log.parquet"])
def test_what_is_no_readable_file_is_refused(tmp_path, name, monkeypatch):
    path = tmp_path / name
    with pytest.raises(InputError, match="no such file"):
        read_interactions(path)
    path.mkdir()
    with pytest.raises(InputError, match="this is a directory"):
        read_interactions(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(InputError, match="this is a pipe or a device"):
        read_interactions(path)
    path.unlink()
    path.write_text("0 1\n")

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    # A file mode would not stop root, whom tests may run as.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="cannot read: Permission denied"):
        read_interactions(path)


@pytest.mark.parametrize("sep", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_logs_of_any_separator_and_line_end(tmp_path, sep, end):
    rows = [["who", "what", "stars"], ["ann", "007", "5"], ["bob", "7", "2"], ["NA", "7", "4"]]
    path = written(tmp_path, "log.txt", end.join(sep.join(row) for row in rows) + end + end)
    inter = read_interactions(path, user="who", item="what", rating="stars", min_rating=3)
    assert external_pairs(inter) == {("ann", "007"), ("NA", "7")}
    assert inter.user_ids.tolist() == ["NA", "ann"]
    assert inter.notes == ("1 of 3 rows below rating 3 dropped",)


def test_a_log_without_header(tmp_path):
    path = written(tmp_path, "lastfm.tsv", "424\t4076\t993\r\n1311\t1574\t3.2466e+05\r\n424\t4076\t5\r\n")
    inter = read_log(path, rating="rating", min_rating=1000)
    assert external_pairs(inter) == {(1311, 1574)}
    assert inter.user_ids.dtype == np.int64
    named = read_log(written(tmp_path, "a.csv", "ann,x,1\nbob,y,2\n"), user="u", item="i", names=["u", "i", "r"])
    assert external_pairs(named) == {("ann", "x"), ("bob", "y")}
    blanks = read_log(written(tmp_path, "c.csv", "user, item\nann, x\n"))
    assert external_pairs(blanks) == {("ann", "x")}
    spaced = read_interactions(written(tmp_path, "b.txt", "1 2 5\n1 3 4\n"), sep=" ")
    assert external_pairs(spaced) == {(1, 2), (1, 3)}


@pytest.mark.parametrize(
    ("stamps", "latest"),
    [(["10", "30", "20"], 30), (["1.5", "3.5", "2"], 3.5), (["2024-01-01", "2024-03-01T10:00", "2024-02-01"], None)],
)
def test_duplicates_keep_the_latest_time(tmp_path, stamps, latest):
    body = "".join(f"a,x,{stamp}\n" for stamp in stamps)
    inter = read_log(written(tmp_path, "log.csv", "user,item,t\n" + body), timestamp="t")
    assert len(inter) == 1
    assert inter.timestamps[0] == (latest or pd.Timestamp("2024-03-01T10:00").value // 1000)
    assert inter.notes == ("2 duplicate pairs merged",)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, r"the file is empty"),
        ("user,item\n", {}, r"no interactions"),
        ("user,thing\na,b\n", {}, r"no column 'item' for the item .expected one of 'user', 'thing'"),
        ("user,item\na,b\n", {"timestamp": "t"}, r"no column 't' for the timestamp"),
        ("user,item\na,b\n\n,c\n", {}, r"log\.csv, line 4: the user is missing"),
        ("user,item\na,b\na,NaN\n", {}, r"line 3: the item is missing"),
        ("user,item\na,b\na\n", {}, r"line 3: the item is missing"),
        ("user,item\na,b\nc,d,e\n", {}, r"line 3: more fields than the 2 columns that have a name"),
        ("user,item\na,b\nc,d,e,f\n", {}, r"line 3: more fields than the 2 columns that have a name"),
        ('user,item\na,b\n"c,d\n', {}, r"cannot be split at ',': EOF inside string"),
        ("1,2\n3,-4\n", {}, r"line 2: item id -4 is negative"),
        ("user,item,r\na,b,4\na,c,good\n", {"rating": "r", "min_rating": 3}, r"line 3: rating 'good' is not a number"),
        ("user,item,r\na,b,4\na,c,\n", {"rating": "r", "min_rating": 3}, r"line 3: rating NaN is not a number"),
        ("user,item,r\na,b,4\n", {"rating": "r", "min_rating": 5}, r"no interactions left"),
        ("user,item,r\na,b,4\n", {"min_rating": 5}, r"min_rating needs a rating column"),
        ("user,item,t\na,b,4\na,c,May\n", {"timestamp": "t"}, r"line 3: timestamp 'May' is not a number"),
        ("user,item,t\na,b,2024-01-01\na,c,May\n", {"timestamp": "t"}, r"line 3: timestamp 'May' is not a time"),
        ("user,item\na,b\n".encode("utf-16"), {}, r"line 1: this is not UTF-8 text"),
        (
            gzip.compress(b"user,item\na,b\n", mtime=0)[:-9],
            {},
            r"log\.csv: not delimited text, or damaged: Compressed file ended",
        ),
        (b"PK\x03\x04...", {}, r"this is a zip archive"),
        ("user,item\na,b,c,d\n", {}, r"more fields than the 2 columns"),
        ("user,item\na,b\n", {"sep": ", "}, r"a separator ', ' .expected one character"),
        (b"user,item\n" + b"a,b\n" * 300_000 + b"\xe4\n", {}, r"line 300002: the item is missing"),
        ("\n\nuser,item\n\na,b\n \n,\n\nc\n", {}, r"line 9: the item is missing"),
    ],
)
def test_log_refuses(tmp_path, content, options, message):
    path = written(tmp_path, "log.csv", content)
    with pytest.raises(InputError, match=message) as caught:
        read_interactions(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a::x::1\nb::y:z::2\nc::::3\nd::x::4\n", None),
        ("user,item\na,b\nc,d\ne,f,g\n", "line 4: more fields than the 2 columns"),
        ("user,item\na,b\nc,d\ne,f,g,h\n", "line 4: more fields than the 2 columns"),
        ("user,item\na,b\n\n\n\nc,\n", "line 6: the item is missing"),
        ('{"user": 1, "item": 2}\n\n{"user": 1, "item": 3}\n{"user": 1}\n', "row 2: the item is missing"),
        ('{"user": 1, "item": 2}\n{"user": 1, "item": "x"}\n', "from number to string"),
    ],
)
def test_batches_of_rows_are_read_as_the_whole(tmp_path, monkeypatch, content, message):
    for rows, size in ((2, 4), (tables.BATCH_ROWS, tables.BATCH_BYTES)):
        monkeypatch.setattr(tables, "BATCH_ROWS", rows)
        monkeypatch.setattr(tables, "BATCH_BYTES", size)
        path = written(tmp_path, "log.txt", content)
        if message is None:
            assert external_pairs(read_log(path, user=0, item=1)) == {("a", "x"), ("b", "y:z"), ("d", "x")}
            continue
        with pytest.raises(InputError, match=message):
            read_log(path)


def test_options_of_logs_are_refused_for_lightgcn_files(tmp_path):
    path = written(tmp_path, "train.txt", "0 1 2\n")
    with pytest.raises(InputError, match="min_rating cannot be used with LightGCN's format"):
        read_interactions(path, min_rating=3)


def test_parquet(tmp_path):
    frame = pd.DataFrame(
        {
            "u": pd.Categorical(["b", "a", "b"]),
            "i": [3.0, 5.0, 3.0],
            "when": pd.to_datetime(["2024-01-02", "2024-01-01", "2024-01-03"]),
        }
    )
    frame.to_parquet(tmp_path / "log.parquet")
    inter = read_interactions(tmp_path / "log.parquet", user="u", item="i", timestamp="when")
    assert external_pairs(inter) == {("a", 5), ("b", 3)}
    assert inter.timestamps.tolist() == [pd.Timestamp(day).value // 1000 for day in ("2024-01-01", "2024-01-03")]
    with pytest.raises(InputError, match=r"no column 'user' for the user .expected one of 'u', 'i', 'when'"):
        read_interactions(tmp_path / "log.parquet")
    whole = (tmp_path / "log.parquet").read_bytes()
    with pytest.raises(InputError, match=r"half\.parquet: not Parquet, or damaged: Parquet magic bytes not found"):
        read_interactions(written(tmp_path, "half.parquet", whole[: len(whole) // 2]))


def test_dates_beyond_what_nanoseconds_reach(tmp_path):
    log = written(tmp_path, "log.csv", "user,item,t\na,x,9999-12-31\na,x,2024-01-01\n")
    assert read_log(log, timestamp="t").timestamps[0] == np.datetime64("9999-12-31", "us").astype(np.int64)


def test_lines_with_a_field_more_than_the_header(tmp_path):
    rows = written(tmp_path, "rows.csv", "user,item\n1,ann,x\n2,bob,y\n")
    with pytest.raises(InputError, match="line 2: more fields than the 2 columns that have a name"):
        read_log(rows)
    with pytest.raises(InputError, match="line 1: more fields"):
        read_log(written(tmp_path, "bare.csv", "ann,x,1\nbob,y,2\n"), names=["user", "item"])
    trailing = read_log(written(tmp_path, "trailing.csv", "user,item\nann,x,\nbob,y,\n"))
    assert external_pairs(trailing) == {("ann", "x"), ("bob", "y")}


def test_columns_that_cannot_be_told_apart(tmp_path):
    twice = pd.DataFrame([[1, 2, 3]], columns=["user", "user", "item"])
    with pytest.raises(InputError, match="2 columns are called 'user'"):
        Interactions.from_frame(twice)
    log = written(tmp_path, "log.csv", "a,b,c\n")
    with pytest.raises(InputError, match="two columns have the same name"):
        read_log(log, names=["user", "item", "item"])
    with pytest.raises(InputError, match="one character, no line end"):
        read_log(log, sep="\n")


def test_a_missing_category_is_a_missing_id():
    frame = pd.DataFrame({"user": pd.Categorical([1, None, 2]), "item": [1, 2, 3]})
    with pytest.raises(InputError, match="the user is missing"):
        Interactions.from_frame(frame)


def test_an_index_of_pandas_is_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["a", "b"], "item": [1, 2]})
    frame.set_index("user").to_parquet(tmp_path / "log.parquet")
    read = read_interactions(tmp_path / "log.parquet")
    assert read.user_ids.tolist() == ["a", "b"]


def test_quoted_numbers_are_no_header(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('"1";"2"\n"1";"3"\n"2";"3"\n')
    assert len(read_interactions(tmp_path / "log.csv")) == 3


def test_an_id_that_would_be_read_as_missing_is_not_written(tmp_path: Path) -> None:
    log = Interactions.from_frame(pd.DataFrame({"user": ["nan", "b"] * 5, "item": range(10)}))
    with pytest.raises(InputError, match="the user id 'nan' would be read as missing"):
        write_split(random_split(log, seed=0), tmp_path / "split")
    assert not (tmp_path / "split").exists()
