"""Run folders as plain dataclasses: all that a page shows, nothing of how it looks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.config.schema import DataConfig, RunConfig
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import top_items
from c2f_dgl.evaluation.slices import Slice, evaluate_slices, groups_by
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Recommender
from c2f_dgl.report.coarse_map import CoarseNode, coarse_nodes
from c2f_dgl.report.explain import explanations
from c2f_dgl.tiers.tiered import Tier
from c2f_dgl.training.checkpoint import load_checkpoint, restore_tiers
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.run import load_model

# Most that is collected; a page may show less.
_MOST_USERS = 200
_MOST_HISTORY = 20
_RANKS = 10
_REASONS = 3


@dataclass(frozen=True)
class StageReport:
    """The best checkpoint of a stage on validation."""

    name: str
    phase: str
    epoch: int
    seconds: float  # spent training the stage
    valid: dict[str, float]
    test: dict[str, float]  # empty where there is no test part
    values: dict[str, int]  # learned values per part, and ``total``
    bytes: int  # of the checkpoint's tensors, indices of assignments included


@dataclass(frozen=True)
class TierReport:
    """How a tier's codebook is used by what is composed from it."""

    name: str
    above: str  # what is composed from it
    counts: np.ndarray  # (m,), int64: rows above that use each atom with a positive weight
    n_rows: int  # rows above
    unassigned: int  # rows above that use no atom
    sparsity: float | None  # zeros in the soft-thresholded codebook (Eq. 16); None where there is no threshold

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
class Recommendation:
    """An item recommended to a user, and why: all contributions add up to the score."""

    item: Any
    score: float
    held_out: bool  # it is among the user's validation or test items
    because: list[tuple[Any, float]]  # history items with the largest contributions to the score
    others: float  # what all other history items contribute together
    rest: float  # what does not come from the history: own input embedding, meta nodes, bias


@dataclass(frozen=True)
class UserReport:
    """A user of the look-up."""

    user: Any
    n_history: int  # training items
    history: list[Any]  # ids of some of them
    recommended: list[Recommendation]  # best first


@dataclass(frozen=True, eq=False)
class RunReport:
    """A finished run."""

    name: str
    config: RunConfig
    data: str
    data_summary: str  # one line about the split
    chosen: str  # the stage chosen on validation
    written: str  # when the run ended
    environment: dict[str, Any]
    records: list[dict[str, Any]]  # lines of ``metrics.jsonl``
    stages: list[StageReport]
    tiers: list[TierReport]  # of the last stage
    nodes: list[CoarseNode]  # empty where there are no tiers; the largest if there are very many
    users: list[UserReport]
    slices: dict[str, list[Slice]]  # NDCG@20 by activity and popularity, on test, on validation without a test part

    @property
    def best(self) -> StageReport:
        """The chosen stage."""
        return next(stage for stage in self.stages if stage.name == self.chosen)


@dataclass(frozen=True)
class Reference:
    """Test figures to read a run's against: as a paper prints them, or means over seeds of the bench's records."""

    name: str
    kind: Literal["paper", "measured"]
    source: str
    values: int | None  # numbers that it stores; None where they are not known
    bytes: int | None
    metrics: dict[str, float]


def references_for(data: DataConfig) -> list[Reference]:
    """What there is for a run's data: only for a data set of the catalogue, split by its files and the paper's rule."""
    if data.split not in ("auto", "given") or data.protocol != "paper" or data.source is None:
        return []
    text = (resources.files("c2f_dgl.report") / "references.json").read_text(encoding="utf-8")
    return [Reference(**entry) for entry in json.loads(text).get(data.source, [])]


def collect_runs(paths: Sequence[str | Path], reporter: Reporter) -> list[RunReport]:
    """Read finished runs; those on the same data get the same users in their look-ups.

    `InputError` where a folder holds no run, an unfinished or a damaged one, or its data is not there or has changed.
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
    samples: dict[str | None, tuple[np.ndarray, np.ndarray]] = {}  # ids of the first run's users, and which are shown
    reports = []
    for name, folder in zip(names, folders, strict=True):
        config = folder.config()
        with reporter.busy(f"{name}: reading the data"):
            # The relations of a run's schema are a part of its data.
            seed = config.seed if config.data.seed is None else config.data.seed
            key = config.data.model_dump_json(exclude={"seed"}), config.graph.model_dump_json(), seed
            if key not in splits:
                splits[key] = load_split(config)
            split = splits[key]
            # Another seed may have split the same interactions differently: the users stay those of the first run.
            source = config.data.source
            if source not in samples or not np.array_equal(samples[source][0], split.user_ids):
                samples[source] = split.user_ids, sample_users(split.train)
        reports.append(_collect(name, folder, split, samples[source][1], reporter))
    return reports


def sample_users(train: sp.csr_matrix, n: int = _MOST_USERS) -> np.ndarray:
    """Rows of n / 2 users at random (seeded), then of the n / 2 most active; only users with training items."""
    activity = train.getnnz(axis=1)
    order = np.argsort(-activity, kind="stable")[: np.count_nonzero(activity)]
    n = min(n, len(order))
    active, others = order[: n // 2], order[n // 2 :]
    drawn = np.random.default_rng(0).permutation(len(others))[: n - n // 2]
    return np.concatenate([np.sort(others[drawn]), active])


def _collect(name: str, folder: RunFolder, split: Split, users: np.ndarray, reporter: Reporter) -> RunReport:
    summary = folder.summary()
    assert summary is not None  # checked before anything was read
    with reporter.busy(f"{name}: loading the model"):
        model, split = load_model(folder, split, None, torch.device("cpu"))
        stages = [_stage(folder, stage, entry) for stage, entry in summary["stages"].items()]
        path = folder.checkpoint(stages[-1].name)
        tiers = restore_tiers(*load_checkpoint(path), path)
    with reporter.busy(f"{name}: laying out the coarse nodes"):
        nodes = coarse_nodes(model, tiers, split)
    with reporter.busy(f"{name}: recommending and explaining"):
        recommended = _recommended(model, split, users)
    with reporter.busy(f"{name}: figures by activity and popularity"):
        scorer, relevant = model.scorer(), split.test if split.test.nnz else split.valid
        groups = {by: groups_by(split, by) for by in ("activity", "popularity")}
        sliced = {by: evaluate_slices(scorer, split, relevant, named, (20,), ["ndcg"]) for by, named in groups.items()}
    above = ["users and items", *(f"{tier.name} meta-embeddings" for tier in tiers)]
    return RunReport(
        name,
        folder.config(),
        data=split.name,
        data_summary=split.summary(),
        chosen=summary["chosen"],
        written=summary["written"],
        environment=folder.environment(),
        records=folder.records(),
        stages=stages,
        tiers=[_tier(tier, named) for tier, named in zip(tiers, above, strict=False)],
        nodes=nodes,
        users=recommended,
        slices=sliced,
    )


def _stage(folder: RunFolder, name: str, entry: dict[str, Any]) -> StageReport:
    tensors, _ = load_checkpoint(folder.checkpoint(name))
    figures = {key: entry[key] for key in ("phase", "epoch", "seconds", "valid", "test")}
    size = sum(tensor.nbytes for tensor in tensors.values())
    return StageReport(name, **figures, values=entry["parameters"], bytes=size)


def _tier(tier: Tier, above: str) -> TierReport:
    used = tier.weights > 0
    counts = torch.bincount(tier.indices[used], minlength=tier.size).numpy()
    sparsity = None
    if tier.threshold > 0:
        codebook = tier.active_codebook()
        sparsity = 1.0 - int(torch.count_nonzero(codebook)) / codebook.numel()
    return TierReport(tier.name, above, counts, len(used), int((~used.any(dim=1)).sum()), sparsity)


def _recommended(model: Recommender, split: Split, users: np.ndarray) -> list[UserReport]:
    """What is recommended to some users (rows), and why."""
    scorer, ids = model.scorer(), split.item_ids
    items, scores = top_items(scorer, users, _RANKS, split.train)
    reasons = explanations(model, scorer, split.train, users, items, _REASONS)
    held_out = split.valid + split.test
    hits = np.asarray(held_out[np.repeat(users, items.shape[1]), items.ravel()]).reshape(items.shape) > 0
    others = reasons.history - reasons.contributions.sum(axis=2)
    rest = scores - reasons.history

    def recommendation(user: int, rank: int) -> Recommendation:
        n = int((reasons.items[user, rank] >= 0).sum())
        because = ids[reasons.items[user, rank, :n]].tolist(), reasons.contributions[user, rank, :n].tolist()
        parts = (float(others[user, rank]), float(rest[user, rank]))
        item, score = ids[items[user, rank : rank + 1]].tolist()[0], float(scores[user, rank])
        return Recommendation(item, score, bool(hits[user, rank]), list(zip(*because, strict=True)), *parts)

    reports = []
    for number, (user, name) in enumerate(zip(users, split.user_ids[users].tolist(), strict=True)):
        history = split.train.indices[split.train.indptr[user] : split.train.indptr[user + 1]]
        ranks = np.flatnonzero(np.isfinite(scores[number])).tolist()
        recommended = [recommendation(number, rank) for rank in ranks]
        reports.append(UserReport(name, len(history), ids[history[:_MOST_HISTORY]].tolist(), recommended))
    return reports
