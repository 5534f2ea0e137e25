"""Run folders as plain dataclasses: all that a page shows, nothing of how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.config.schema import DataConfig, RunConfig
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import top_items
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Recommender
from c2f_dgl.report.explain import explanations
from c2f_dgl.report.layout import place_circles
from c2f_dgl.tiers.tiered import Tier
from c2f_dgl.training.checkpoint import load_checkpoint, restore_tiers
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.run import load_model

# What a map is drawn on, in units of its drawing.
MAP_WIDTH, MAP_HEIGHT = 640.0, 480.0

# Most that is collected; a page may show less.
_MOST_NODES = 600
_MOST_ITEMS = 30
_MOST_USERS = 200
_MOST_HISTORY = 20
_RANKS = 10
_REASONS = 3


@dataclass(frozen=True)
class StageReport:
    """The best checkpoint of a stage on validation.

    Parameters
    ----------
    name, phase : str
    epoch : int
    seconds : float
        Spent training the stage.
    valid, test : dict of str to float
        Figures; no test figures where there is no test part.
    values : dict of str to int
        Learned values per part, and ``total``.
    bytes : int
        Of the checkpoint's tensors, indices of assignments included.
    """

    name: str
    phase: str
    epoch: int
    seconds: float
    valid: dict[str, float]
    test: dict[str, float]
    values: dict[str, int]
    bytes: int


@dataclass(frozen=True)
class TierReport:
    """How a tier's codebook is used.

    Parameters
    ----------
    name, above : str
        The tier, and what is composed from it.
    counts : ndarray, shape (m,), int64
        Rows above that use each atom with a positive weight.
    n_rows : int
        Rows above.
    unassigned : int
        Rows above that use none.
    sparsity : float, optional
        Share of zeros in the soft-thresholded codebook (Eq. 16); None where there is no threshold.
    """

    name: str
    above: str
    counts: np.ndarray
    n_rows: int
    unassigned: int
    sparsity: float | None

    @property
    def median(self) -> float:
        """Of the counts."""
        return float(np.median(self.counts))

    @property
    def effective(self) -> float:
        """Perplexity of the use: how many equally used atoms it amounts to."""
        share = self.counts[self.counts > 0] / max(self.counts.sum(), 1)
        return float(np.exp(-(share * np.log(share)).sum()))


@dataclass(frozen=True)
class CoarseNode:
    """A coarse node on the map and what is inside: the items whose largest weight is on it.

    Parameters
    ----------
    number : int
        Its atom.
    x, y, radius : float
    n_items, n_users : int
        Inside.
    popularity : float
        Mean training interactions of the items inside.
    items : list
        Ids of the most popular of them.
    fine : list of (int, float)
        Fine atoms that refine it and their weights, largest first.
    """

    number: int
    x: float
    y: float
    radius: float
    n_items: int
    n_users: int
    popularity: float
    items: list[Any]
    fine: list[tuple[int, float]]


@dataclass(frozen=True)
class Recommendation:
    """An item recommended to a user, and why.

    Parameters
    ----------
    item : str or int
    score : float
    held_out : bool
        It is among the user's validation or test items.
    because : list of (id, float)
        History items with the largest contributions to the score.
    others : float
        What all other history items contribute together.
    rest : float
        What does not come from the history: own input embedding, meta nodes, bias.
    """

    item: Any
    score: float
    held_out: bool
    because: list[tuple[Any, float]]
    others: float
    rest: float


@dataclass(frozen=True)
class UserReport:
    """A user of the look-up.

    Parameters
    ----------
    user : str or int
    n_history : int
        Training items.
    history : list
        Ids of some of them.
    recommended : list of Recommendation
        Best first.
    """

    user: Any
    n_history: int
    history: list[Any]
    recommended: list[Recommendation]


@dataclass(frozen=True, eq=False)
class RunReport:
    """A finished run.

    Parameters
    ----------
    name : str
    config : RunConfig
    data, data_summary : str
        Name of the data set, and one line about the split.
    chosen, written : str
        The stage chosen on validation, and when the run ended.
    environment : dict
    records : list of dict
        Lines of ``metrics.jsonl``.
    stages : list of StageReport
    tiers : list of TierReport
        Of the last stage.
    nodes : list of CoarseNode
        Empty where there are no tiers; the largest if there are very many.
    users : list of UserReport
    """

    name: str
    config: RunConfig
    data: str
    data_summary: str
    chosen: str
    written: str
    environment: dict[str, Any]
    records: list[dict[str, Any]]
    stages: list[StageReport]
    tiers: list[TierReport]
    nodes: list[CoarseNode]
    users: list[UserReport]

    @property
    def best(self) -> StageReport:
        """The chosen stage."""
        return next(stage for stage in self.stages if stage.name == self.chosen)


def collect_runs(paths: Sequence[str | Path], reporter: Reporter) -> list[RunReport]:
    """Read finished runs; those on the same data get the same users in their look-ups.

    Raises
    ------
    InputError
        A folder holds no run, an unfinished one or a damaged one, or its data is not there or has changed.
    """
    folders = [RunFolder(path) for path in paths]
    for folder in folders:
        folder.config()
        if folder.summary() is None:
            raise InputError("the run is not over", where=folder.path, expected="a finished run; --resume goes on")
    names = [folder.path.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder.path) for folder in folders]
    names = [name.encode("utf-8", "backslashreplace").decode() for name in names]  # a page is UTF-8
    splits: dict[tuple[str, str, int], Split] = {}
    samples: dict[str | None, tuple[np.ndarray, np.ndarray]] = {}
    reports = []
    for name, folder in zip(names, folders, strict=True):
        config = folder.config()
        with reporter.busy(f"{name}: reading the data"):
            key = _split_key(config)
            if key not in splits:
                splits[key] = load_split(config)
            split = splits[key]
            # Another seed may have split the same interactions differently: the users stay those of the first run.
            ids, users = samples.get(config.data.source, (None, None))
            if ids is None or users is None or not np.array_equal(ids, split.user_ids):
                users = sample_users(split.train)
                samples[config.data.source] = split.user_ids, users
        reports.append(_collect(name, folder, split, users, reporter))
    return reports


def sample_users(train: sp.csr_matrix, n: int = _MOST_USERS) -> np.ndarray:
    """Rows of n / 2 users at random (seeded), then of the n / 2 most active; only users with training items."""
    activity = train.getnnz(axis=1)
    order = np.argsort(-activity, kind="stable")[: np.count_nonzero(activity)]
    n = min(n, len(order))
    active, others = order[: n // 2], order[n // 2 :]
    drawn = np.random.default_rng(0).permutation(len(others))[: n - n // 2]
    return np.concatenate([np.sort(others[drawn]), active])


def _split_key(config: RunConfig) -> tuple[str, str, int]:
    """What a run's data depend on: the relations of its schema are a part of them."""
    data: DataConfig = config.data
    seed = config.seed if data.seed is None else data.seed
    return data.model_dump_json(exclude={"seed"}), config.graph.model_dump_json(), seed


def _collect(name: str, folder: RunFolder, split: Split, users: np.ndarray, reporter: Reporter) -> RunReport:
    config, summary = folder.config(), folder.summary()
    assert summary is not None  # checked before anything was read
    with reporter.busy(f"{name}: loading the model"):
        model = load_model(folder, split, None, torch.device("cpu"))
        stages = [_stage(folder, stage, entry) for stage, entry in summary["stages"].items()]
        path = folder.checkpoint(stages[-1].name)
        tiers = restore_tiers(*load_checkpoint(path), path)
    with reporter.busy(f"{name}: laying out the coarse nodes"):
        nodes = _coarse_nodes(model, tiers, split) if tiers else []
    with reporter.busy(f"{name}: recommending and explaining"):
        looked_up = _users(model, split, users)
    return RunReport(
        name,
        config,
        split.name,
        split.summary(),
        summary["chosen"],
        summary["written"],
        folder.environment(),
        folder.records(),
        stages,
        [
            _tier(tier, "users and items" if k == 0 else f"{tiers[k - 1].name} meta-embeddings")
            for k, tier in enumerate(tiers)
        ],
        nodes,
        looked_up,
    )


def _stage(folder: RunFolder, name: str, entry: dict[str, Any]) -> StageReport:
    tensors, _ = load_checkpoint(folder.checkpoint(name))
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return StageReport(
        name,
        entry["phase"],
        entry["epoch"],
        entry["seconds"],
        entry["valid"],
        entry["test"],
        entry["parameters"],
        size,
    )


def _tier(tier: Tier, above: str) -> TierReport:
    used = tier.weights > 0
    counts = torch.bincount(tier.indices[used], minlength=tier.size).numpy()
    sparsity = None
    if tier.threshold > 0:
        codebook = tier.active_codebook()
        sparsity = 1.0 - int(torch.count_nonzero(codebook)) / codebook.numel()
    return TierReport(tier.name, above, counts, len(used), int((~used.any(dim=1)).sum()), sparsity)


def _coarse_nodes(model: Recommender, tiers: list[Tier], split: Split) -> list[CoarseNode]:
    coarse = tiers[0]
    owner = _owners(coarse)
    layout, roles = model.embedding.layout, model.roles
    user_owner, item_owner = owner[layout.rows(roles.query)], owner[layout.rows(roles.ranked)]
    n_users = np.bincount(user_owner[user_owner >= 0], minlength=coarse.size)
    n_items = np.bincount(item_owner[item_owner >= 0], minlength=coarse.size)
    degree = split.train.getnnz(axis=0)
    total = np.bincount(item_owner[item_owner >= 0], weights=degree[item_owner >= 0], minlength=coarse.size)

    shown = np.sort(np.argsort(-n_items, kind="stable")[:_MOST_NODES])
    embeddings = model.engine.all_nodes()[coarse.name].float().numpy()[shown]
    centres, radii = place_circles(embeddings, n_items[shown], MAP_WIDTH, MAP_HEIGHT)

    # Items by node, the most popular first; items without a node come first of all.
    order = np.lexsort((-degree, item_owner))
    starts = np.searchsorted(item_owner[order], np.arange(coarse.size + 1))
    fine = tiers[1] if len(tiers) > 1 else None
    return [
        CoarseNode(
            int(atom),
            float(centre[0]),
            float(centre[1]),
            float(radius),
            int(n_items[atom]),
            int(n_users[atom]),
            float(total[atom] / max(n_items[atom], 1)),
            split.item_ids[order[starts[atom] : starts[atom + 1]][:_MOST_ITEMS]].tolist(),
            [] if fine is None else _links(fine, int(atom)),
        )
        for atom, centre, radius in zip(shown, centres, radii, strict=True)
    ]


def _owners(tier: Tier) -> np.ndarray:
    """The atom with the largest weight of each row (rows,), -1 where all weights are 0 or there is no slot."""
    if tier.indices.shape[1] == 0:
        return np.full(len(tier.indices), -1)
    weight, slot = tier.weights.max(dim=1)
    atom = tier.indices.gather(1, slot[:, None])[:, 0]
    return torch.where(weight > 0, atom, -1).numpy()


def _links(tier: Tier, row: int) -> list[tuple[int, float]]:
    weights, slots = tier.weights[row].sort(descending=True)
    return [
        (int(atom), float(weight))
        for atom, weight in zip(tier.indices[row][slots].tolist(), weights.tolist(), strict=True)
        if weight > 0
    ]


def _users(model: Recommender, split: Split, users: np.ndarray) -> list[UserReport]:
    scorer = model.scorer()
    items, scores = top_items(scorer, users, _RANKS, split.train)
    reasons = explanations(model, scorer, split.train, users, items, _REASONS)
    held_out = split.valid + split.test
    found = np.asarray(held_out[np.repeat(users, items.shape[1]), items.ravel()]).reshape(items.shape) > 0
    others = reasons.history - reasons.contributions.sum(axis=2)
    rest = scores - reasons.history
    histories = [split.train.indices[split.train.indptr[u] : split.train.indptr[u + 1]] for u in users]
    names, external = split.item_ids[items].tolist(), split.item_ids
    return [
        UserReport(
            split.user_ids[[user]].tolist()[0],
            len(histories[i]),
            external[histories[i][:_MOST_HISTORY]].tolist(),
            [
                Recommendation(
                    names[i][rank],
                    float(scores[i, rank]),
                    bool(found[i, rank]),
                    [
                        (external[[item]].tolist()[0], float(value))
                        for item, value in zip(reasons.items[i, rank], reasons.contributions[i, rank], strict=True)
                        if item >= 0
                    ],
                    float(others[i, rank]),
                    float(rest[i, rank]),
                )
                for rank in range(items.shape[1])
                if np.isfinite(scores[i, rank])
            ],
        )
        for i, user in enumerate(users)
    ]
