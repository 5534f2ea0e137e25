"""How items without interactions rank by their features: `python -m benchmarks.cold_items DATASET FEATURES`.

A tenth of the items is taken out of the data with all interactions; `fast` is trained on the others and coded, and the
items come back by a table of features (`c2f-dgl export --cold`). For users who had some of them these alone are ranked,
from the histories that are left: N@20 and R@20, beside a random order and that of how many had them, which nobody knows
beforehand. Three seeds: benchmarks/results/cold_items/<data>.json.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks import measure
from c2f_dgl import C2FRecommender
from c2f_dgl.data import load_dataset
from c2f_dgl.evaluation.metrics import ranking_metrics
from c2f_dgl.export.cold import with_cold_items
from c2f_dgl.serving import ServingModel

_SHARE, _SEEDS, _K, _METRICS = 0.1, (2024, 2025, 2026), 20, ("ndcg@20", "recall@20")


def main(dataset: str, features: str) -> None:
    split = load_dataset(dataset)
    whole = (split.train + split.valid + split.test).tocoo()
    log = pd.DataFrame({"user": split.user_ids[whole.row], "item": split.item_ids[whole.col]})
    runs = [cold(log, features, seed) for seed in _SEEDS]
    print(measure.keep("cold_items", split.name, {"data": split.name, "runs": runs, "machine": measure.machine()}))


def cold(log: pd.DataFrame, features: str, seed: int) -> dict[str, Any]:
    """Figures of one draw of items, by the order they are ranked in."""
    rng, counts = np.random.default_rng(seed), log["item"].value_counts()
    items = rng.choice(np.sort(counts.index.to_numpy()), int(_SHARE * len(counts)), replace=False)
    taken = log["item"].isin(items)
    with measure.folder() as folder:
        path = folder / "model.c2f"
        C2FRecommender("fast", seed=seed).fit(log[~taken]).save(path, bytes=100_000)
        model = with_cold_items(ServingModel.load(path), features)
    items = items[model.items.find(items) >= 0]  # some may have no features
    wanted = log[taken & log["item"].isin(items)].groupby("user")["item"].agg(list)
    histories = log[~taken].groupby("user")["item"].agg(list)
    wanted = wanted[wanted.index.isin(histories.index)]
    ranked, _ = model.recommend_many(histories[wanted.index], _K, candidates=items)
    orders = {
        "features": ranked,
        "random": np.array([rng.permutation(items)[:_K] for _ in wanted]),
        "how many had them": np.tile(counts[items].sort_values(ascending=False).index[:_K], (len(wanted), 1)),
    }
    print(record := {"seed": seed, "items": len(items), "users": len(wanted), **_figures(orders, wanted)})
    return record


def _figures(orders: dict[str, np.ndarray], wanted: pd.Series) -> dict[str, dict[str, float]]:
    n_relevant = wanted.map(len).to_numpy()
    figures = {}
    for name, ranked in orders.items():
        hits = np.array([np.isin(row, items) for row, items in zip(ranked, wanted, strict=True)])
        metrics = ranking_metrics(hits, n_relevant, [_K])
        figures[name] = {metric: float(of_users.mean()) for metric, of_users in metrics.items()}
    return figures


def table() -> str:
    """Figures by order, means and standard deviations over seeds."""
    lines = []
    for record in measure.read_all("cold_items").values():
        for name in ("features", "random", "how many had them"):
            scores = (measure.mean_spread([run[name][metric] for run in record["runs"]]) for metric in _METRICS)
            lines.append(f"{record['data']}, {record['runs'][0]['items']} items | {name} | {' | '.join(scores)}")
    return measure.table("data | ranked by | N@20 | R@20", lines)


if __name__ == "__main__":
    measure.command(main)
