"""One small log in every form that is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma

import numpy as np
import pandas as pd
import pyarrow

N = 60
USERS, ITEMS = np.arange(N) % 12, np.arange(N) * 7 % 25
RATINGS, TIMES = np.arange(N) % 5 + 1, 10**9 + np.arange(N)
PAIRS = set(zip(USERS.tolist(), ITEMS.tolist(), strict=True))


def table(*names: str) -> pd.DataFrame:
    """Users, items, ratings and times, called so."""
    return pd.DataFrame(dict(zip(names, (USERS, ITEMS, RATINGS, TIMES), strict=False)))


def text(frame: pd.DataFrame, sep: str = ",", **options) -> bytes:
    return frame.to_csv(index=False, sep=sep, **options).encode()


def lines_of_json(frame: pd.DataFrame) -> bytes:
    return frame.to_json(orient="records", lines=True).encode()


BARE = table("a", "b", "c", "d")
FORMS = {
    "toy.inter": text(table("user_id:token", "item_id:token", "rating:float", "timestamp:float"), "\t"),
    "ratings.dat": text(BARE, "\t", header=False).replace(b"\t", b"::"),
    "u.data": text(BARE, "\t", header=False),
    "ratings.csv": text(table("userId", "movieId", "rating", "timestamp")),
    "books.csv": text(table("User-ID", "ISBN", "Book-Rating", "Date"), ";", quoting=1),
    "old.json": lines_of_json(table("reviewerID", "asin", "overall", "unixReviewTime").assign(helpful=[[1, 2]] * N)),
    "new.jsonl": lines_of_json(table("user_id", "parent_asin", "rating", "timestamp").assign(asin="B", text="x")),
    "floats.csv": text(table("user", "item", "rating", "timestamp").astype({"user": float, "item": float})),
}


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def parquet(frame: pd.DataFrame) -> bytes:
    frame.to_parquet(sink := io.BytesIO())
    return sink.getvalue()
