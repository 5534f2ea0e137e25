"""One stage: a phase with the assignment fixed, then one with it updated, each with its own early stop.

Before them the stage's start is validated as it is (phase ``start``, epoch 0): what training adds shows against it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import scipy.sparse as sp
import torch
from packaging.version import Version

from c2f_dgl.config.schema import CoarseConfig, FineConfig, TrainingConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Ranker, evaluate_parts
from c2f_dgl.model import Recommender
from c2f_dgl.tiers.assignment import Assignment, bridge, in_block, pinv, pursuit, stack
from c2f_dgl.tiers.tiered import TieredEmbedding
from c2f_dgl.training.build import stage_rng
from c2f_dgl.training.device_sampler import DeviceTripletSampler
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler

Phase = Literal["start", "fixed", "updating"]
# Model and batch to the loss of a step.
Objective = Callable[[Any, Triplets], torch.Tensor]

PHASES: tuple[Phase, ...] = ("start", "fixed", "updating")


@dataclass(frozen=True)
class Stage:
    """What a stage trains, how, and what it is judged by.

    Parameters
    ----------
    name : str
        For records and random numbers.
    training : TrainingConfig
    tier : CoarseConfig or FineConfig, optional
        Of the tier that is trained, the model's last; None for a full table.
    seed : int
    select : str
        Validation metric.
    """

    name: str
    training: TrainingConfig
    tier: CoarseConfig | FineConfig | None
    seed: int
    select: str

    def limits(self) -> dict[Phase, int]:
        """Most epochs of each phase; a full table has no assignment, and so no second phase."""
        training = self.training
        return {"fixed": training.fixed_epochs, "updating": 0 if self.tier is None else training.updating_epochs}

    @property
    def lr_option(self) -> str:
        """The option of its learning rate."""
        return f"{self.name}.lr" if self.tier is None else f"{self.name}.training.lr"


@dataclass
class StageProgress:
    """Where a stage stands; saved with every epoch, so that a run can be resumed at the next one.

    Parameters
    ----------
    phase : int
        Index in `PHASES`; ``len(PHASES)`` when the stage is over.
    epoch, phase_epoch : int
        Epochs done, in the stage and in the phase.
    best, phase_best : float
        Best validation figure of the stage and of the phase.
    stale : int
        Validations since `phase_best`.
    """

    phase: int = 0
    epoch: int = 0
    phase_epoch: int = 0
    best: float = -math.inf
    phase_best: float = -math.inf
    stale: int = 0

    @property
    def done(self) -> bool:
        """Whether the stage is over."""
        return self.phase >= len(PHASES)

    def next_phase(self) -> None:
        """Leave the phase."""
        self.phase, self.phase_epoch, self.phase_best, self.stale = self.phase + 1, 0, -math.inf, 0

    def leave_finished(self, stage: Stage) -> None:
        """Leave phases that have had their epochs, or `patience` validations without improvement."""
        limits = stage.limits()
        while not self.done and PHASES[self.phase] != "start":
            if self.phase_epoch < limits[PHASES[self.phase]] and self.stale < stage.training.patience:
                return
            self.next_phase()

    def judge(self, figure: float) -> bool:
        """Take a validation figure; whether it is the stage's best so far."""
        self.stale = 0 if figure > self.phase_best else self.stale + 1
        self.phase_best = max(self.phase_best, figure)
        improved = figure > self.best
        self.best = max(self.best, figure)
        return improved


class Trainable(Protocol):
    """What a stage needs of a model, beside what its objective needs; a `Recommender`, mostly."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What is learned."""

    def scorer(self) -> Ranker:
        """The model as it is now, ready to rank."""

    def count_values(self) -> dict[str, int]:
        """Learned values per part, and ``total``."""


class StageObserver(Protocol):
    """What a run does while a stage trains: progress bars, records, checkpoints."""

    def start_epoch(self, stage: str, phase: Phase, epoch: int, n_steps: int) -> None:
        """An epoch of `n_steps` steps begins."""

    def step(self) -> None:
        """A step is done."""

    def best(self, record: dict[str, Any]) -> None:
        """The model is the stage's best so far on validation."""

    def end_epoch(self, record: dict[str, Any], optimizer: torch.optim.Optimizer, progress: StageProgress) -> None:
        """An epoch is done and may be saved."""


def train_stage(
    model: Trainable,
    stage: Stage,
    split: Split,
    observer: StageObserver,
    progress: StageProgress,
    *,
    restore: Callable[[torch.optim.Optimizer], None] | None = None,
    objective: Objective | None = None,
    parameters: Sequence[torch.nn.Parameter] | None = None,
    stop: Callable[[], bool] | None = None,
    began: float | None = None,
) -> None:
    """Train the last tier of `model` (or its full table, or another embedding layer) in place.

    Parameters
    ----------
    stage : Stage
    split : Split
        Trains on ``train``, stops on ``valid``.
    observer : StageObserver
    progress : StageProgress
        Updated in place; a fresh one starts the stage, a saved one goes on with it.
    restore : callable, optional
        Puts a saved state into the optimiser.
    objective : callable, optional
        What a step descends on, from model and batch; `batch_loss` with the stage's loss and l2 by default.
    parameters : sequence of Parameter, optional
        What is trained; every parameter of the model that requires a gradient by default.
    stop : callable, optional
        Asked after every epoch; True ends the stage.
    began : float, optional
        `time.perf_counter` when work on the stage's start began, which counts as that record's seconds.
    """
    training, name, tier = stage.training, stage.name, stage.tier
    if parameters is None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if objective is None:
        objective = lambda model, batch: batch_loss(model, batch, training.loss, training.l2)
    optimizer = adam(list(parameters), training.lr)
    if restore is not None:
        restore(optimizer)
    n_positives = max(1, round(training.epoch_size * split.train.nnz))
    size = training.batch_size if training.shared_negatives else max(1, training.batch_size // training.negatives)
    n_steps = -(-n_positives // size)
    limits = stage.limits()
    total_steps = sum(limits.values()) * n_steps
    # Without an epoch nothing is drawn, and data of which nothing could be drawn will do.
    sampler = make_sampler(split.train, training, parameters[0].device) if total_steps else None

    record: dict[str, Any]
    while True:
        progress.leave_finished(stage)
        if progress.done:
            return
        phase = PHASES[progress.phase]
        if phase == "start":
            spent = 0.0 if began is None else round(time.perf_counter() - began, 3)
            record = {"stage": name, "phase": phase, "epoch": 0, "seconds": spent, **_sparsity(model)}
            final = not any(limits.values())  # nothing is trained or chosen after it
            _validate(
                model, split, record, progress, stage.select, observer, ("valid", "test") if final else ("valid",)
            )
            progress.next_phase()
            observer.end_epoch(record, optimizer, progress)
            continue
        assert sampler is not None, "there are epochs"
        started = time.perf_counter()
        record = {"stage": name, "phase": phase, "epoch": progress.epoch + 1}
        if phase == "updating" and progress.phase_epoch % training.update_every == 0 and tier is not None:
            if not isinstance(model, Recommender):
                raise TypeError("only a Recommender has an assignment to update")
            record["churn"] = update_assignment(model, tier)
        observer.start_epoch(name, phase, progress.epoch + 1, n_steps)
        batches = sampler.batches(n_positives, size, stage_rng(stage.seed, name, progress.epoch))
        rates = [learning_rate(training, progress.epoch * n_steps + step, total_steps) for step in range(n_steps)]
        record["loss"] = _train_epoch(
            model, optimizer, batches, objective, training.clip, rates, observer, stage.lr_option
        )
        progress.epoch += 1
        progress.phase_epoch += 1
        record.update(_sparsity(model))
        record["seconds"] = round(time.perf_counter() - started, 3)
        if progress.phase_epoch % training.evaluate_every == 0 or progress.phase_epoch == limits[phase]:
            _validate(model, split, record, progress, stage.select, observer)
        observer.end_epoch(record, optimizer, progress)
        if stop is not None and stop():
            # What was trained since the last validation counts, too.
            if "valid" not in record:
                _validate(model, split, record, progress, stage.select, observer)
            return


def _validate(
    model: Trainable,
    split: Split,
    record: dict[str, Any],
    progress: StageProgress,
    select: str,
    observer: StageObserver,
    parts: Sequence[str] = ("valid",),
) -> None:
    """Add figures of some parts and their seconds to the record; tell the observer if they are the stage's best."""
    started = time.perf_counter()
    record.update(evaluate_parts(model.scorer(), split.train, {part: getattr(split, part) for part in parts}))
    record["valid_seconds"] = round(time.perf_counter() - started, 3)
    record["parameters"] = model.count_values()["total"]
    if progress.judge(record["valid"][select]):
        observer.best(record)


def _train_epoch(
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Triplets],
    objective: Objective,
    clip: float,
    rates: list[float],
    observer: StageObserver,
    option: str,
) -> float:
    """Take one step per batch; the mean loss."""
    losses = []
    for rate, batch in zip(rates, batches, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = objective(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.detach())
        observer.step()
    mean = float(torch.stack(losses).mean())
    finite = all(bool(parameter.isfinite().all()) for group in optimizer.param_groups for parameter in group["params"])
    if not (math.isfinite(mean) and finite):
        problem = f"the loss is {mean:g}{'' if finite else ', and what is learned is no longer finite'}"
        raise InputError(problem, where=option, expected="a lower learning rate or a higher l2")
    return mean


def make_sampler(
    train: sp.csr_matrix, training: TrainingConfig, device: torch.device
) -> TripletSampler | DeviceTripletSampler:
    """The sampler that is faster on `device`."""
    if device.type == "cpu":
        return TripletSampler(train, training.negatives, shared=training.shared_negatives)
    return DeviceTripletSampler(train, training.negatives, device, shared=training.shared_negatives)


def adam(parameters: list[torch.nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam in one pass over each parameter where torch has that: on a CPU from 2.4 on."""
    fused = parameters[0].is_cuda or Version(torch.__version__) >= Version("2.4")
    return torch.optim.Adam(parameters, lr=lr, fused=fused)


def learning_rate(training: TrainingConfig, step: int, total: int) -> float:
    """Learning rate of a step of a stage with at most `total` steps."""
    if training.schedule == "constant":
        return training.lr
    return training.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(step / max(total, 1), 1.0))))


@torch.no_grad()
def update_assignment(model: Recommender, tier: CoarseConfig | FineConfig) -> float:
    """Recompute the assignment of the last tier from propagated embeddings and rebuild its relations.

    Returns
    -------
    float
        Churn: share of stored entries that were not there before.
    """
    tiers = model.embedding.tiers
    features = model.engine.all_nodes()
    own = tiers[-1]
    if isinstance(tier, CoarseConfig):
        strategy, atoms = pinv if tier.update == "pinv" else pursuit, features[own.name]
        updated = stack(
            [
                in_block(strategy(features[node_type], atoms[block.rows], block.t), block, own.size)
                for node_type, block in model.embedding.blocks.items()
            ]
        )
    elif tier.bridge:
        entities = model.embedding.layout.stack(features)
        updated = bridge(entities, features[tiers[-2].name], features[own.name], tier.t, softmax=tier.softmax)
    else:
        updated = pinv(features[tiers[-2].name], features[own.name], tier.t, softmax=tier.softmax)
    churn = _churn(own.assignment, updated)
    own.assign(updated)
    model.relink(len(tiers) - 1)
    return churn


def _sparsity(model: Trainable) -> dict[str, float]:
    """Share of zeros in the codebook that is trained, if it is soft-thresholded (Eq. 16)."""
    embedding = model.embedding if isinstance(model, Recommender) else None
    tiers = embedding.tiers if isinstance(embedding, TieredEmbedding) else []
    if not tiers or tiers[-1].threshold == 0:
        return {}
    codebook = tiers[-1].active_codebook()
    return {"sparsity": 1.0 - int(torch.count_nonzero(codebook)) / codebook.numel()}


def _churn(old: Assignment, new: Assignment) -> float:
    used_old = torch.where(old.weights > 0, old.indices, -1)
    used_new = torch.where(new.weights > 0, new.indices, -2)
    stayed = (used_new[:, :, None] == used_old[:, None, :]).any(dim=2).sum()
    return 1.0 - int(stayed) / max(int((new.weights > 0).sum()), 1)


def progress_to_json(progress: StageProgress) -> dict[str, Any]:
    """JSON-able form; infinities become null."""
    return {key: None if value == -math.inf else value for key, value in asdict(progress).items()}


def progress_from_json(tree: dict[str, Any]) -> StageProgress:
    """The progress that `progress_to_json` wrote."""
    known: dict[str, Any] = {key: -math.inf if value is None else value for key, value in tree.items()}
    return StageProgress(**known)
