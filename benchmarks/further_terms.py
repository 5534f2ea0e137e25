"""Does a further term help a trained preset? A filter of users, a sharpening step, a learned response, degree groups.

    python -m benchmarks.further_terms RUN DATASET [RUN DATASET ...]

Each term is fitted on one half of a sample of validation users and judged on the other half, beside the run's model as
it is; its gain is given with the standard error of the mean difference. Records: benchmarks/results/further_terms/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from benchmarks import measure
from c2f_dgl import load_dataset, load_run
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import Scorer, evaluate_per_user, mixed, standardised
from c2f_dgl.evaluation.sampling import sampled_rows
from c2f_dgl.graph.neighbourhood import PLAIN, FilterShape, item_walks
from c2f_dgl.serving import Csr

_USERS, _SEED, _BINS, _GROUPS = 4_000, 1, 16, 4
_WEIGHTS, _FACTORS = (0.05, 0.1, 0.2), (0.7, 0.85, 1.2, 1.4)

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Varied:
    """A ranker by any function of users."""

    scores: Score
    n_items: int
    device = torch.device("cpu")


def main(runs: Sequence[str]) -> None:
    for run, dataset in zip(runs[::2], runs[1::2], strict=True):
        split = load_dataset(dataset)
        model, _ = load_run(run, split=split)
        measure.keep("further_terms", Path(dataset).name, {"data": split.name, **terms(model.scorer(), split)})


def terms(scorer: Scorer, split: Split) -> dict[str, object]:
    """Per term what was chosen, the gain in N@20 on the other users, and its standard error."""
    sample = sampled_rows(split.valid, _USERS, _SEED)
    users = np.random.default_rng(_SEED).permutation(np.flatnonzero(sample.getnnz(axis=1)))
    halves = [_rows(sample, half) for half in np.array_split(users, 2)]

    def figures(scores: Score, half: sp.csr_matrix) -> np.ndarray:
        return evaluate_per_user(Varied(scores, split.n_items), split.train, half, [20])[1]["ndcg@20"]

    def compared(ways: Iterator[tuple[str, Score]]) -> dict[str, object]:
        name, best = max(ways, key=lambda way: figures(way[1], halves[0]).mean())
        gains = figures(best, halves[1]) - before[1]
        return {"chosen": name, "gain": gains.mean(), "error": gains.std() / len(gains) ** 0.5}

    def climbed(n: int, varied: Callable[[Tensor], Score]) -> dict[str, object]:
        """Factors of n parts, each moved as long as that helps on the first half, twice around."""
        factors, best = torch.ones(n), before[0].mean()
        for part in [*range(n), *range(n)]:
            for factor in _FACTORS:
                trial = factors.clone()
                trial[part] *= factor
                if (figure := figures(varied(trial), halves[0]).mean()) > best:
                    factors, best = trial, figure
        return compared(iter([(str([round(float(f), 2) for f in factors]), varied(factors))]))

    before = [figures(scorer.scores, half) for half in halves]
    return {
        "users": [len(half) for half in before],
        "ndcg@20": [half.mean() for half in before],
        "filter of users": compared(_filters_of_users(scorer, split)),
        "sharpening": compared(_sharpened(scorer, split)),
        "learned response": climbed(_BINS, lambda factors: _by_direction(scorer, factors).scores),
        "degree groups": climbed(_GROUPS, lambda factors: _by_degree(scorer, split, factors).scores),
    }


def _rows(matrix: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
    """The matrix with all other rows empty."""
    chosen = sp.csr_matrix(sp.diags(np.isin(np.arange(matrix.shape[0]), rows).astype(matrix.dtype)) @ matrix)
    chosen.eliminate_zeros()
    return chosen


def _near(train: sp.csr_matrix, power: float) -> sp.csr_matrix:
    """Each column's 100 nearest columns by the elementwise power of their degree-normalised products."""
    pairs = train.tocoo()
    walks = item_walks(Csr.from_pairs(pairs.row.astype(np.int64), pairs.col.astype(np.int64), train.shape), 100, 0.4)
    return walks.weights(FilterShape(item=0.4, power=power)).astype(np.float32)


def _filters_of_users(scorer: Scorer, split: Split) -> Iterator[tuple[str, Score]]:
    train = sp.csr_matrix(split.train, dtype=np.float32)
    for power in (1.0, 1.5):
        near = _near(sp.csr_matrix(train.T), power)
        for weight in _WEIGHTS:

            def scores(users: Tensor, near: sp.csr_matrix = near, weight: float = weight) -> Tensor:
                term = standardised(torch.as_tensor((near[users.numpy()] @ train).toarray()))
                return mixed(standardised(scorer.scores(users)), term, weight)

            yield f"power {power}, weight {weight}", scores


def _sharpened(scorer: Scorer, split: Split) -> Iterator[tuple[str, Score]]:
    """y - tau y P, P the items' nearest with rows that add up to 1."""
    near = _near(sp.csr_matrix(split.train), PLAIN.power)
    p = sp.csr_matrix(sp.diags(1 / np.maximum(near.sum(axis=1).A1, 1e-12)) @ near, dtype=np.float32).T.tocsr()
    for tau in (-0.1, 0.1, 0.3):

        def scores(users: Tensor, tau: float = tau) -> Tensor:
            y = standardised(scorer.scores(users))
            return y - tau * torch.as_tensor((p @ y.numpy().T).T.copy())

        yield f"tau {tau}", scores


def _by_direction(scorer: Scorer, factors: Tensor) -> Scorer:
    """Directions, in bins of as many, weighed by factors."""
    d = scorer.users.shape[1]
    return replace(scorer, users=scorer.users * factors[torch.arange(d) * len(factors) // d])


def _by_degree(scorer: Scorer, split: Split, factors: Tensor) -> Scorer:
    """Items, in groups of as many interactions, weighed by factors."""
    degree = split.train.getnnz(axis=0)
    ends = np.cumsum(np.sort(degree))
    group = np.empty(split.n_items, dtype=np.int64)
    group[np.argsort(degree, kind="stable")] = (ends - 1) * len(factors) // ends[-1]
    return replace(scorer, items=scorer.items * factors[torch.as_tensor(group)][:, None])


if __name__ == "__main__":
    measure.command(main)
