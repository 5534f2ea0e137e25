"""What a system is to the bench: a name, typed hyper-parameters, and a function that trains it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypeVar

from c2f_dgl.config.schema import TrainingConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Ranker
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.build import stage_rng


class Settings(BaseModel):
    """Hyper-parameters of a system; each has its own subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
        shared = ("lr", "l2", "batch_size", "negatives", "evaluate_every", "patience")
        given = {name: getattr(self, name) for name in shared} | {"fixed_epochs": self.epochs, "updating_epochs": 0}
        return TrainingConfig(**{**given, **changes})


Tuned = TypeVar("Tuned", bound=Settings, default=Settings, covariant=True)


@dataclass(frozen=True)
class Context(Generic[Tuned]):
    """What a system is given to train with.

    Parameters
    ----------
    split : Split
        Trains on ``train``; early stops and any search on ``valid``. ``test`` is not a system's business.
    graph : DGLGraph
        Interactions of ``split.train`` (see `c2f_dgl.graph.hetero.interaction_graph`).
    values : int
        Learned values it may have, where its size can be set: an upper bound to come close to.
    settings : Settings
        Of the system's own class.
    seed : int
    device : torch.device
    reporter : Reporter
        Shows progress of what takes over two seconds.
    deadline : float, optional
        `time.monotonic` seconds at which training stops and keeps the best model it has.
    """

    split: Split
    graph: dgl.DGLGraph
    values: int
    settings: Tuned
    seed: int
    device: torch.device
    reporter: Reporter
    deadline: float | None = None

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

    def share_of_time(self, share: float) -> float | None:
        """The deadline of a phase that may use `share` of the time that is left."""
        now = time.monotonic()
        return None if self.deadline is None else now + share * max(0.0, self.deadline - now)


@dataclass(frozen=True)
class Fitted:
    """What a system leaves behind.

    Parameters
    ----------
    ranker : Ranker
        Scores all items for any users; the best model on validation.
    values : dict of str to int
        Learned values per part, without a total.
    bytes : int
        That store them (float32 values, int32 indices).
    phases : sequence of dict
        A JSON-able record per phase: its name, seconds, epochs, best validation figure, sizes found and the like.
    """

    ranker: Ranker
    values: Mapping[str, int]
    bytes: int
    phases: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class System:
    """A row of the table.

    Parameters
    ----------
    name : str
        E.g. ``"qr-sum"``. What stands before the first dash names the family, which `--systems` takes too.
    title : str
        As tables print it.
    source : str
        The paper it is from.
    defaults : Settings
        Of its own class: the hyper-parameters it runs with untuned.
    train : callable
        Context, with settings of that class, to `Fitted`.
    space : mapping of str to sequence
        Values that tuning draws settings from; the defaults are always tried first.
    budgeted : bool
        Whether its size follows `Context.values`.
    """

    name: str
    title: str
    source: str
    defaults: Settings
    train: Callable[[Context[Any]], Fitted]
    space: Mapping[str, Sequence[Any]]
    budgeted: bool = True

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
    """The settings of a system with some of them changed.

    Raises
    ------
    InputError
        An unknown setting or a value it cannot have.
    """
    try:
        return type(system.defaults).model_validate({**system.defaults.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=f"settings of {system.name}"
        ) from error


# The learning rates and penalties that tuning tries for every system trained by gradient.
GRADIENT_SPACE: Mapping[str, Sequence[Any]] = {
    "lr": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2),
    "l2": (0.0, 1e-5, 1e-4, 5e-4, 2e-3),
}
