"""How far `c2f-dgl update` is from a full fit over ten days: `python -m benchmarks.updates LOG`.

Of a log with times a fifth of each user's interactions tests and a tenth validates, drawn at random. A run of `fast` is
trained on what came before the last ten days, and updated with one day after the other, each time the run of the day
before. Beside each stands a full fit of the same training data, which chooses anew on all that validates by then. Both
rank for all that tests by then, for users and items that training has: N@20, and seconds. Three seeds:
benchmarks/results/updates/<data>.json.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix

from benchmarks import measure
from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.api import train_run
from c2f_dgl.data import Interactions, Split
from c2f_dgl.data.interactions import binary_csr
from c2f_dgl.data.readers import read_interactions
from c2f_dgl.data.splits import random_split
from c2f_dgl.data.writers import write_split
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.training.update import update

DAYS, SEEDS, DAY, METRIC = 10, (2024, 2025, 2026), 86_400, "ndcg@20"


def main(log: str) -> None:
    interactions = read_interactions(log, timed=True)
    record: dict[str, Any] = {"data": Path(log).stem, "runs": [], "machine": measure.machine()}
    for seed in SEEDS:
        record["runs"].append(followed(interactions, seed))
        print(measure.keep("updates", record["data"], record))


def followed(log: Interactions, seed: int) -> dict[str, Any]:
    """Figures of updates and of full fits, by day."""
    parts = _parts(log, seed)
    start = int(parts["time"].max()) + 1 - DAYS * DAY
    rows = []
    with measure.folder() as folder:
        write_split(_as_split(parts[parts["time"] < start]), folder / "data")
        config = load_config("fast", [f"data.source={folder / 'data'}", f"seed={seed}"])
        for number in range(DAYS + 1):
            now = start + number * DAY
            known, run = parts[parts["time"] < now], folder / str(number)
            new = known[(known["time"] >= now - DAY) & (known["part"] == "train")] if number else known[:0]
            began = time.perf_counter()
            if number:
                update(folder / str(number - 1), Interactions.from_frame(new), run)
            else:
                train(load_dataset(folder / "data"), run, config)
            seconds = [time.perf_counter() - began]
            model, split = load_run(run)
            split = _held_out(split, known)
            began = time.perf_counter()
            fitted = train_run(split, None, config)
            seconds.append(time.perf_counter() - began)
            scores = [evaluate(each.scorer(), split.train, split.test)[METRIC] for each in (model, fitted.model())]
            rows.append({"added": len(new), "updated": scores[0], "fitted": scores[1], "seconds": seconds})
            print(seed, number, rows[-1], flush=True)
    return {"seed": seed, "days": rows}


def _parts(log: Interactions, seed: int) -> pd.DataFrame:
    """Every interaction of a log: user, item, time, and the part that it is in."""
    split = random_split(log, seed=seed)
    frame = pd.DataFrame({"user": log.users, "item": log.items, "time": log.timestamps, "part": "train"})
    for part in ("valid", "test"):
        frame.loc[np.asarray(getattr(split, part)[log.users, log.items]).ravel() > 0, "part"] = part
    return frame


def _as_split(parts: pd.DataFrame) -> Split:
    """A split of the users and items that `parts` trains on; what is held out of others is left out."""
    known = [np.unique(parts.loc[parts["part"] == "train", role]) for role in ("user", "item")]
    empty = coo_matrix((len(known[0]), len(known[1])), dtype=np.float32).tocsr()
    return _held_out(Split("log", empty, empty, empty, *known), parts, ("train", "valid", "test"))


def _held_out(split: Split, parts: pd.DataFrame, roles: Sequence[str] = ("valid", "test")) -> Split:
    """`split` with its parts of some roles as `parts` says, as far as it has users and items."""
    parts = parts[parts["user"].isin(split.user_ids) & parts["item"].isin(split.item_ids)]
    shape, found = (split.n_users, split.n_items), {}
    for role in roles:
        chosen = parts[parts["part"] == role]
        users, items = np.searchsorted(split.user_ids, chosen["user"]), np.searchsorted(split.item_ids, chosen["item"])
        found[role] = binary_csr(users, items, shape)
    return replace(split, **found)


def table() -> str:
    """N@20 after each day, by updates and by full fits: means over seeds, and between which values they differ.

    Seconds are medians: what else the machine does shows in some of them.
    """
    lines = []
    for record in measure.read_all("updates").values():
        for day, rows in enumerate(zip(*(run["days"] for run in record["runs"]), strict=True)):
            added, updated, fitted = (mean(row[key] for row in rows) for key in ("added", "updated", "fitted"))
            changes = [100 * (row["updated"] / row["fitted"] - 1) for row in rows]
            change = f"{mean(changes):+.1f} ({min(changes):+.1f} to {max(changes):+.1f})"
            seconds = " | ".join(f"{median(row['seconds'][place] for row in rows):.0f}" for place in (0, 1))
            cells = f"{len(rows)} | {added:,.0f} | {updated:.4f} | {fitted:.4f} | {change} | {seconds}"
            lines.append(f"{record['data']}, {day} | {cells}")
    head = "day | seeds | new interactions | N@20, updated | N@20, fitted anew | difference, %"
    return measure.table(f"{head} | seconds, update | seconds, fit", lines)


if __name__ == "__main__":
    measure.command(main)
