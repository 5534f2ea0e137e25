"""Tables in memory, whoever made them, as data frames of pandas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.interchange


def is_table(data: Any) -> bool:
    """Whether `data` is a table by one of the two protocols for it, Arrow's or that of data frames.

    polars, Arrow, DuckDB's relations and pandas itself have one or both.
    """
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__dataframe__")


def as_frame(table: Any, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A table as a data frame of pandas: of `columns` where all are there, else of all of them."""
    if isinstance(table, pd.DataFrame):
        return table
    read = pyarrow.table if hasattr(table, "__arrow_c_stream__") else pyarrow.interchange.from_dataframe
    arrow = read(table)
    if columns and set(columns) <= set(arrow.column_names):
        arrow = arrow.select(list(dict.fromkeys(columns)))
    return arrow.to_pandas()
