"""The communities of a planted data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def read_labels(folder: Path) -> dict[str, np.ndarray]:
    """Labels as `generate_planted` gives them, from the ``labels.tsv`` that `write_planted` wrote."""
    table = pd.read_csv(folder / "labels.tsv", sep="\t").set_index("kind")
    pairs = [(kind, level) for kind in ("user", "item") for level in ("coarse", "fine")]
    return {f"{kind}_{level}": table.loc[kind, level].to_numpy() for kind, level in pairs}
