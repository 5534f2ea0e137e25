"""Tables of other libraries in memory."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pyarrow
import pytest

from c2f_dgl import C2FRecommender
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.errors import InputError
from tests.data.forms import table

FRAME = table("who", "what", "stars", "at").astype({"what": str})


class Bare:
    """A table that has the data frame's protocol alone."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = pyarrow.Table.from_pandas(frame)

    def __dataframe__(self, *arguments: object, **options: object) -> object:
        return self._frame.__dataframe__(*arguments, **options)


def relation(frame: pd.DataFrame) -> object:
    return pytest.importorskip("duckdb").from_arrow(pyarrow.Table.from_pandas(frame))


MAKERS = {
    "polars": lambda frame: pytest.importorskip("polars").from_pandas(frame),
    "Arrow": pyarrow.Table.from_pandas,
    "a stream": lambda frame: pyarrow.Table.from_pandas(frame).to_reader(max_chunksize=7),
    "DuckDB": relation,
    "the protocol": Bare,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_tables_of_others_are_those_of_pandas(make):
    ours, theirs = (
        Interactions.from_frame(frame, "who", "what", "stars", 3, "at")
        for frame in (make(FRAME.assign(note="x")), FRAME)
    )
    for name in ("users", "items", "user_ids", "item_ids", "timestamps"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert ours.notes == theirs.notes
    with pytest.raises(
        InputError, match=r"no column 'user' for the user .expected one of 'who', 'what', 'stars', 'at'"
    ):
        Interactions.from_frame(make(FRAME))


def test_what_is_no_table_is_refused():
    with pytest.raises(InputError, match=r"list is no data frame .expected pandas, polars, Arrow"):
        Interactions.from_frame([(1, 2)])


def answers(make: Callable[[pd.DataFrame], object]) -> tuple:
    """What the estimator says after it was given a table wherever it takes one."""
    frame = FRAME.rename(columns={"who": "user", "what": "item"})[["user", "item"]]
    items = frame["item"].unique()
    new, more, later = (pd.DataFrame({"user": 99, "item": items[n : n + 2]}) for n in (0, 2, 4))
    model = C2FRecommender("quick", options={"coarse.m": 8}).fit(make(frame)).fold_in(make(new))
    model.partial_fit(make(more))
    return model.recommend([0, 99], k=3)[0].tolist(), model.evaluate(make(later), cutoffs=(5,))


@pytest.fixture(scope="module")
def of_pandas() -> tuple:
    return answers(lambda frame: frame)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_estimator_takes_them_everywhere(make, of_pandas):
    assert answers(make) == of_pandas
