"""What a system is to the bench: a name, typed hyper-parameters, and a function that trains it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np
import torch
from pydantic import Field, ValidationError
from typing_extensions import TypeVar

from c2f_dgl.config.graph import Options
from c2f_dgl.config.schema import TrainingConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Ranker
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.build import stage_rng

# The validation metric that early stops, searches and tuning go by.
SELECT = "ndcg@20"


class Settings(Options):
    """Hyper-parameters of a system; each has its own subclass."""


class GradientSettings(Settings):
    """What every system that is trained by gradient has; the values are the same for all unless a system says why."""

    layers: int = Field(3, ge=0, description="L: propagation layers")
    lr: float = Field(5e-3, gt=0, description="Adam's learning rate")
    l2: float = Field(5e-4, ge=0, description="lambda of Eq. 9, on the input embeddings of the batch, a mean")
    batch_size: int = Field(8192, ge=1, description="triplets a step")
    negatives: int = Field(5, ge=1, description="unseen items drawn for each positive")
    epochs: int = Field(300, ge=1, description="most epochs of a phase")
    evaluate_every: int = Field(5, ge=1, description="epochs between validations")
    patience: int = Field(5, ge=1, description="validations without improvement that end a phase")

    def training(self, **changes: Any) -> TrainingConfig:
        """As the package's trainer takes them, for one phase; `changes` are fields of `TrainingConfig`."""
        shared = self.model_dump(include={"lr", "l2", "batch_size", "negatives", "evaluate_every", "patience"})
        return TrainingConfig(**{**shared, "fixed_epochs": self.epochs, "updating_epochs": 0, **changes})


class SearchSettings(GradientSettings):
    """A search, then retraining with what it found: fewer triplets an epoch, as both cost a training each."""

    lr: float = Field(2e-2, gt=0, description="Adam's learning rate where what was found is retrained")
    l2: float = Field(1e-4, ge=0, description="lambda of Eq. 9, on the input embeddings of the batch, a mean")
    batch_size: int = Field(4096, ge=1, description="triplets a step")
    negatives: int = Field(1, ge=1, description="unseen items drawn for each positive")
    search_epochs: int = Field(30, ge=1, description="epochs of the search")
    search_lr: float = Field(1e-2, gt=0, description="Adam's learning rate in the search")
    std: float = Field(0.1, gt=0, description="standard deviation of the embeddings at the start")

    def rate(self, distance: float, n_interactions: int) -> float:
        """Learning rate, over `search_lr`, that takes a parameter by `distance` in the search where nothing resists.

        Under Adam, a parameter that counts this many times over is learned at that rate.
        """
        steps_an_epoch = -(-n_interactions // max(1, self.batch_size // self.negatives))
        return distance / (self.search_lr * (self.search_epochs * steps_an_epoch))


Space = Mapping[str, Sequence[Any]]  # values of settings that tuning draws from

GRADIENT_SPACE: Space = {"lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2), "l2": (0.0, 1e-5, 1e-4, 5e-4, 2e-3)}
# Tables with few values an entity want larger steps than full ones.
SEARCH_SPACE: Space = {**GRADIENT_SPACE, "lr": (5e-3, 1e-2, 2e-2, 5e-2)}

Tuned = TypeVar("Tuned", bound=Settings, default=Settings, covariant=True)


@dataclass(frozen=True)
class Context(Generic[Tuned]):
    """What a system is given to train with."""

    split: Split  # to train on ``train``; early stops and any search are on ``valid``, ``test`` is not its business
    graph: dgl.DGLGraph  # interactions of ``split.train`` (see `c2f_dgl.graph.hetero.interaction_graph`)
    values: int  # learned ones it may have, where its size can be set: an upper bound to come close to
    settings: Tuned  # of the system's own class
    seed: int
    device: torch.device
    reporter: Reporter
    deadline: float | None = None  # `time.monotonic` at which training stops and keeps the best model it has

    @property
    def n_entities(self) -> int:
        """N: users and items."""
        return self.split.n_users + self.split.n_items

    def rng(self, phase: str) -> np.random.Generator:
        """Random numbers of a part of the training, the same whatever other parts draw."""
        return stage_rng(self.seed, phase)

    def generator(self, phase: str) -> torch.Generator:
        """The same for torch, on the CPU."""
        return torch.Generator().manual_seed(int(self.rng(phase).integers(2**62)))

    @property
    def is_late(self) -> bool:
        """Whether the deadline is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def within(self, share: float) -> Context[Tuned]:
        """This context with a deadline that leaves `share` of the time there is until its own."""
        now = time.monotonic()
        return self if self.deadline is None else replace(self, deadline=now + share * max(0.0, self.deadline - now))

    def left_for_entities(self, least: int = 1, others: int = 0) -> int:
        """Values beside `others`; `InputError` where they do not pay for `least` per entity."""
        if (left := self.values - others) < (needed := self.n_entities * least):
            beside, instead = (f" and {others:,} of maps", ", or smaller sizes or d") if others else ("", "")
            problem = f"{self.values:,} values do not pay for {least} per entity{beside}"
            raise InputError(problem, expected=f"at least {others + needed:,}{instead}")
        return left


@dataclass(frozen=True)
class Fitted:
    """What a system leaves behind: the best model on validation, and what it costs."""

    ranker: Ranker
    values: Mapping[str, int]  # learned, per part, without a total
    bytes: int  # that store them: float32 values, int32 indices
    phases: Sequence[dict[str, Any]] = ()  # a JSON-able record each: name, seconds, epochs, best validation figure


@dataclass(frozen=True)
class System:
    """A row of the table."""

    name: str  # e.g. "qr-sum"; what stands before the first dash names the family, which --systems takes too
    title: str  # as tables print it
    source: str  # its paper
    defaults: Settings  # of its own class: the hyper-parameters it runs with untuned
    train: Callable[[Context[Any]], Fitted]  # with settings of that class
    space: Space  # the defaults are always tried first
    budgeted: bool = True  # whether its size follows `Context.values`

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)*", self.name):
            raise ValueError(f"{self.name!r} cannot name a system: expected lower case, digits, dashes, underscores")

    @property
    def family(self) -> str:
        """What stands before the first dash of the name."""
        return self.name.partition("-")[0]


def phase_record(name: str, started: float, **more: int) -> dict[str, Any]:
    """The record of a phase that began at `started` (`time.perf_counter`) and ends now, for `Fitted.phases`."""
    return {"phase": name, "seconds": round(time.perf_counter() - started, 2), **more}


def make_settings(system: System, changes: Mapping[str, Any]) -> Settings:
    """The settings of a system with some of them changed; `InputError` for an unknown one or a value out of range."""
    try:
        return type(system.defaults).model_validate({**system.defaults.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InputError(message, where=f"settings of {system.name}") from error
