"""One stage: a phase with the assignment fixed, then one with it updated, each with its own early stop.

Before them the stage's start is validated as it is (phase ``start``, epoch 0): what training adds shows against it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from packaging.version import Version

from c2f_dgl.config.schema import CoarseConfig, FineConfig, TrainingConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Ranker
from c2f_dgl.evaluation.sampling import evaluate_split
from c2f_dgl.io import ranks
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Recommender
from c2f_dgl.tiers.assignment import Assignment, bridge, in_block, pinv, pursuit, stack
from c2f_dgl.tiers.tiered import TieredEmbedding
from c2f_dgl.training.build import stage_rng
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler

Phase = Literal["start", "fixed", "updating"]
Record = dict[str, Any]

# What an optimiser keeps of each parameter.
OptimizerState = Mapping[torch.Tensor, dict[str, Any]]
# Model and batch to the loss of a step.
Objective = Callable[[Any, Triplets], torch.Tensor]

PHASES: tuple[Phase, ...] = ("start", "fixed", "updating")


@dataclass(frozen=True)
class Stage:
    """What a stage trains, how, and what it is judged by."""

    name: str  # for records and random numbers
    training: TrainingConfig
    tier: CoarseConfig | FineConfig | None  # the one that is trained, the model's last; None for a full table
    seed: int
    select: str  # validation metric

    def limits(self) -> dict[Phase, int]:
        """Most epochs of each phase; a full table has no assignment, and so no second phase."""
        training = self.training
        return {"fixed": training.fixed_epochs, "updating": 0 if self.tier is None else training.updating_epochs}


@dataclass
class StageProgress:
    """Where a stage stands; saved with every epoch, so that a run can be resumed at the next one."""

    phase: int = 0  # index in `PHASES`; ``len(PHASES)`` when the stage is over
    epoch: int = 0
    phase_epoch: int = 0
    best: float = -math.inf  # validation figure
    phase_best: float = -math.inf
    stale: int = 0  # validations since `phase_best`

    def next_phase(self) -> None:
        """Leave the phase."""
        self.phase, self.phase_epoch, self.phase_best, self.stale = self.phase + 1, 0, -math.inf, 0

    def is_over(self, stage: Stage) -> bool:
        """Leave phases whose epochs or patience are used up; whether none is left."""
        limits = stage.limits()
        while 0 < self.phase < len(PHASES):
            if self.phase_epoch < limits[PHASES[self.phase]] and self.stale < stage.training.patience:
                return False
            self.next_phase()
        return self.phase > 0

    def improves(self, figure: float) -> bool:
        """Take a validation figure; whether it is the stage's best so far."""
        self.stale = 0 if figure > self.phase_best else self.stale + 1
        self.phase_best = max(self.phase_best, figure)
        improved = figure > self.best
        self.best = max(self.best, figure)
        return improved

    def to_json(self) -> dict[str, Any]:
        """JSON-able form; infinities become null."""
        return {key: None if value == -math.inf else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> StageProgress:
        """The progress that `to_json` wrote."""
        state: dict[str, Any] = {key: -math.inf if value is None else value for key, value in tree.items()}
        return cls(**state)


class Trainable(Protocol):
    """What a stage needs of a model, beside what its objective needs; a `Recommender`, mostly."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What is learned."""

    def scorer(self) -> Ranker:
        """The model as it is now, ready to rank."""

    def count_values(self) -> dict[str, int]:
        """Learned values per part, and ``total``."""


def train_stage(
    model: Trainable,
    stage: Stage,
    split: Split,
    reporter: Reporter,
    progress: StageProgress,
    on_best: Callable[[Record], None],
    *,
    on_epoch: Callable[[Record, OptimizerState], None] | None = None,
    after_step: Callable[[], None] | None = None,
    stop: Callable[[], bool] | None = None,
    restore: Callable[[torch.optim.Optimizer], None] | None = None,
    objective: Objective | None = None,
    parameters: Sequence[torch.nn.Parameter] | None = None,
    scorer: Ranker | None = None,
    began: float | None = None,
) -> None:
    """Train the last tier of `model` (or its full table, or another embedding layer) in place.

    Parameters
    ----------
    progress : StageProgress
        Updated in place; a fresh one starts the stage, a saved one goes on with it.
    on_best : callable
        Gets the record of every validation that is the stage's best so far, the model being in that state.
    on_epoch, after_step : callable, optional
        Called after every epoch, with its record and the optimiser's state, and after every step.
    stop : callable, optional
        Asked after every epoch; True ends the stage.
    restore : callable, optional
        Puts a saved state into the optimiser.
    objective : callable, optional
        What a step descends on; `batch_loss` with the stage's loss and l2 by default.
    parameters : sequence of Parameter, optional
        What is trained; every parameter of the model that requires a gradient by default.
    scorer : Ranker, optional
        Ranks as the model does at its start, in place of its own.
    began : float, optional
        `time.perf_counter` when work on the stage's start began, which counts as that record's seconds.
    """
    training, limits = stage.training, stage.limits()
    if parameters is None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if objective is None:
        objective = lambda model, batch: batch_loss(model, batch, training.loss, training.l2)
    n_positives = max(1, round(training.epoch_size * split.train.nnz))
    size = training.batch_size if training.shared_negatives else max(1, training.batch_size // training.negatives)
    n_steps = -(-n_positives // size)
    total_steps = sum(limits.values()) * n_steps
    # Without an epoch nothing is drawn, and data of which nothing could be drawn will do; nor is anything optimised,
    # for which torch takes a second to get ready.
    sampler = optimizer = None
    if total_steps:
        device, shared = parameters[0].device, training.shared_negatives
        sampler = TripletSampler(split.train, training.negatives, device, shared=shared)
        optimizer = adam(list(parameters), training.lr)
        if restore is not None:
            restore(optimizer)

    def validate(record: Record, *parts: str, by: Ranker | None = None) -> None:
        started = time.perf_counter()
        with reporter.bar("ranking") as report:
            record.update(evaluate_split(by or model.scorer(), split, parts, stage.seed, report))
        record["valid_seconds"] = round(time.perf_counter() - started, 3)
        record["parameters"] = model.count_values()["total"]
        if progress.improves(record["valid"][stage.select]):
            on_best(record)

    def end_epoch(record: Record) -> None:
        if on_epoch is not None:
            on_epoch(record, {} if optimizer is None else optimizer.state)
        reporter.end_epoch(record)

    def step(optimizer: torch.optim.Optimizer, rate: float, batch: Triplets) -> torch.Tensor:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = _descend(model, batch, objective, parameters)
        torch.nn.utils.clip_grad_value_(model.parameters(), training.clip)
        optimizer.step()
        reporter.step()
        if after_step is not None:
            after_step()
        return loss

    if progress.phase == 0:
        spent = 0.0 if began is None else round(time.perf_counter() - began, 3)
        record: Record = {"stage": stage.name, "phase": "start", "epoch": 0, "seconds": spent, **_sparsity(model)}
        # Where no epoch follows, nothing is trained or chosen after it.
        validate(record, *(("valid",) if any(limits.values()) else ("valid", "test")), by=scorer)
        progress.next_phase()
        end_epoch(record)
    while not progress.is_over(stage):
        assert sampler is not None and optimizer is not None, "there are epochs"
        phase, started, done = PHASES[progress.phase], time.perf_counter(), progress.epoch
        record = {"stage": stage.name, "phase": phase, "epoch": done + 1}
        if phase == "updating" and progress.phase_epoch % training.update_every == 0 and stage.tier is not None:
            if not isinstance(model, Recommender):
                raise TypeError("only a Recommender has an assignment to update")
            record["churn"] = update_assignment(model, stage.tier)
        ranks.of_first(*parameters)  # other machines may round in other ways
        reporter.start_epoch(stage.name, phase, done + 1, n_steps)
        batches = sampler.batches(n_positives, size, stage_rng(stage.seed, stage.name, done))
        rates = (learning_rate(training, done * n_steps + number, total_steps) for number in range(n_steps))
        losses = [step(optimizer, rate, batch) for rate, batch in zip(rates, batches, strict=True)]
        record["loss"] = float(torch.stack(losses).mean())
        _check_finite(record["loss"], parameters, stage)
        progress.epoch += 1
        progress.phase_epoch += 1
        record.update(_sparsity(model))
        record["seconds"] = round(time.perf_counter() - started, 3)
        if progress.phase_epoch % training.evaluate_every == 0 or progress.phase_epoch == limits[phase]:
            validate(record, "valid")
        end_epoch(record)
        if stop is not None and stop():
            if "valid" not in record:  # what was trained since the last validation counts, too
                validate(record, "valid")
            return


def _descend(
    model: Trainable, batch: Triplets, objective: Objective, parameters: Sequence[torch.nn.Parameter]
) -> torch.Tensor:
    """The loss of a batch, and its gradients in the parameters: the sums of what ranks have of their shares."""
    mine = batch.part(ranks.share(len(batch.users)))
    loss = torch.zeros((), device=parameters[0].device)
    if len(mine.users):  # the loss is a mean over triplets
        part = objective(model, mine) * (len(mine.users) / len(batch.users))
        part.backward()
        loss += part.detach()
    if ranks.size() > 1:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        ranks.add_up(loss, *(parameter.grad for parameter in parameters if parameter.grad is not None))
    return loss


def _check_finite(loss: float, parameters: Sequence[torch.nn.Parameter], stage: Stage) -> None:
    finite = all(bool(parameter.isfinite().all()) for parameter in parameters)
    if not (math.isfinite(loss) and finite):
        raise InputError(
            f"the loss is {loss:g}{'' if finite else ', and what is learned is no longer finite'}",
            where=f"{stage.name}.lr" if stage.tier is None else f"{stage.name}.training.lr",
            expected="a lower learning rate or a higher l2",
        )


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
    """Recompute the last tier's assignment from propagated embeddings, rebuild its relations, and return its churn.

    Churn is the share of stored entries that were not there before.
    """
    tiers, features = model.embedding.tiers, model.engine.all_nodes()
    last = tiers[-1]
    atoms = features[last.name]
    if isinstance(tier, CoarseConfig):
        match = pinv if tier.update == "pinv" else pursuit
        updated = stack(
            [
                in_block(match(features[node_type], atoms[block.rows], block.t), block, last.size)
                for node_type, block in model.embedding.blocks.items()
            ]
        )
    elif tier.bridge:
        entities = model.embedding.layout.stack(features)
        updated = bridge(entities, features[tiers[-2].name], atoms, tier.t, softmax=tier.softmax)
    else:
        updated = pinv(features[tiers[-2].name], atoms, tier.t, softmax=tier.softmax)
    ranks.of_first(updated.indices, updated.weights)
    churn = _churn(last.assignment, updated)
    last.assign(updated)
    model.relink(len(tiers) - 1)
    return churn


def _sparsity(model: Trainable) -> dict[str, float]:
    """Share of zeros in the codebook that is trained, if it is soft-thresholded (Eq. 16)."""
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, TieredEmbedding) or not embedding.tiers or embedding.tiers[-1].threshold == 0:
        return {}
    codebook = embedding.tiers[-1].active_codebook()
    return {"sparsity": 1.0 - int(torch.count_nonzero(codebook)) / codebook.numel()}


def _churn(old: Assignment, new: Assignment) -> float:
    used_old = torch.where(old.weights > 0, old.indices, -1)
    used_new = torch.where(new.weights > 0, new.indices, -2)
    stayed = (used_new[:, :, None] == used_old[:, None, :]).any(dim=2).sum()
    return 1.0 - int(stayed) / max(int((new.weights > 0).sum()), 1)
