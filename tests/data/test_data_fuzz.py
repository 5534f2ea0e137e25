"""Damaged files of every form: read, or refused by one line that names the file; never anything else."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.errors import InputError
from tests.data.forms import FORMS, PACKERS, lines_of_json, parquet, text

N = 30
_RNG = np.random.default_rng(0)
_LOG = pd.DataFrame(
    {
        "user": [f"é{n}" for n in _RNG.integers(0, 20, N)],
        "item": _RNG.integers(0, 15, N),
        "rating": _RNG.integers(1, 6, N) / 2,
        "timestamp": pd.date_range("2024-01-01", periods=N),
    }
)


WHOLE = {
    **{name: content[:700].rpartition(b"\n")[0] for name, content in FORMS.items()},
    "train.txt": b"0 1 2 3\n1 2\n2 0 3 4 5\n3 1 5 6\n4 0 6\n",
    "text.csv": text(_LOG),
    "latin.csv": _LOG.to_csv(index=False, sep=";", decimal=",", quoting=csv.QUOTE_ALL).encode("latin-1"),
    "text.jsonl": lines_of_json(_LOG.astype({"timestamp": str})),
    "log.parquet": parquet(_LOG),
    "numbers.parquet": parquet(_LOG.assign(user=range(N))),
    "log.parquet.gz": gzip.compress(parquet(_LOG)),
    **{f"log.csv{suffix}": pack(text(_LOG)) for suffix, pack in PACKERS.items()},
}
OPTIONS = ({}, {"split": "temporal"}, {"min_rating": 2}, {"user": "0", "item": 1, "split": "leave-last"})
JUNK = (
    *(b"", b"\0", b"\n", b"\n\n\n", b"\r", b" ", b'"', b'""', b"'", b"\\", b",", b"\t", b";", b"::", b"{", b"}", b"["),
    *(b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"\x0b", b"\x85", b"\xe2\x80\xa8", b"\x1f\x8b", b"PK\x03\x04", b"PAR1"),
    *(b"-", b"1.5", b"3.0", b"9" * 30, b"1e999", b"nan", b"inf", b"null", b"None", b"{}", b"user", b"2024-01-01"),
)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, and now and then some left out, put in, doubled, or the end cut off."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at, width = int(rng.integers(len(data) + 1)), int(rng.choice([1, 1, 2, 8, 40, 200]))
        junk = JUNK[rng.integers(len(JUNK))] * int(rng.integers(1, 4))
        how = rng.choice(["byte", "gone", "junk", "over", "twice", "cut"], p=[0.58, 0.1, 0.1, 0.1, 0.1, 0.02])
        if how == "byte":
            data[at : at + 1] = rng.bytes(1)
        elif how == "gone":
            del data[at : at + width]
        elif how == "cut":
            del data[at:]
        else:
            source = int(rng.integers(len(data) + 1))
            new = data[source : source + width] if how == "twice" else junk
            data[at : at + (width if how == "over" else 0)] = new
    return bytes(data)


def check(path: Path, whole: bytes, seeds: range) -> int:
    """Load one damaged file for each seed; how many could be read."""
    n_read = 0
    for seed in seeds:
        path.write_bytes(damaged(whole, np.random.default_rng(seed)))
        options = {} if path.suffix == ".txt" else OPTIONS[seed % len(OPTIONS)]
        try:
            load_dataset(path, **options)
            n_read += 1
        except InputError as error:
            assert str(error).startswith((str(path), path.name.partition(".")[0])), (seed, error)
            assert len(str(error).splitlines()) == 1, seed
    return n_read


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    assert load_dataset(path).n_users > 4
    check(path, WHOLE[name], range(20))


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_thousands_of_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    n_read = check(tmp_path / name, WHOLE[name], range(20, 20 + -(-20_000 // len(WHOLE))))
    assert n_read > 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("blank.csv", b"user,item,rating\n1,2,3\n\n5,4\n\x85\n\n3,,1\n"),
        ("blanks.csv", b"user,item\n\n \n\n,\n\n"),
        ("values.parquet", parquet(_LOG).replace("é1".encode(), b"\xff\xfe1")),
        ("schema.parquet", parquet(_LOG).replace(b"user", b"\xf9\xf9er")),
    ],
)
def test_what_was_a_traceback_once(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_dataset(path)


def test_damaged_metadata_of_pandas_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "metadata.parquet"
    path.write_bytes(parquet(_LOG).replace(b'"pandas_version"', b'"pandas_versio\xeb"'))
    assert load_dataset(path).n_users > 4
