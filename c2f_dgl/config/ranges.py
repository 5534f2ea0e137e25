"""Options with the values that tuning tries: ``coarse.t=1,2,4`` or ``coarse.training.lr=1e-4..1e-2``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from c2f_dgl.config.load import changed
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.errors import InputError

_EXPECTED = "KEY=A,B,C or KEY=LOW..HIGH, e.g. coarse.t=1,2,4"


@dataclass(frozen=True)
class Range:
    """Some values of an option, or all numbers between two of them: whole ones where both ends are whole."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def by_logarithm(self) -> bool:
        """Whether numbers are drawn so that each power of ten is as likely: over a factor of ten or more."""
        return self.low > 0 and self.high >= 10 * self.low

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these."""
        if self.choices:
            return value in self.choices
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def suggested(self, trial: Any) -> Any:
        """The value that a trial of Optuna takes."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        return suggest(self.key, self.low, self.high, log=self.by_logarithm)


def parse_range(text: str, config: RunConfig) -> Range:
    """A range from the command line, of an option that `config` can have at both of its ends."""
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not key or not values:
        raise InputError(f"{text!r} is no range", where="--range", expected=_EXPECTED)
    low, dots, high = values.partition("..")
    if dots:
        ends = _number(low, text), _number(high, text)
        if not ends[0] < ends[1]:
            raise InputError(f"{low} is not below {high}", where=f"--range {text}", expected=_EXPECTED)
        tuned = Range(key, (), *ends)
    else:
        tuned = Range(key, tuple(yaml.safe_load(value) for value in values.split(",")))
    for value in tuned.choices or (tuned.low, tuned.high):
        changed(config, [f"{key}={value}"])
    return tuned


def default_ranges(config: RunConfig) -> list[str]:
    """What is tuned where nothing is named: learning rates and penalties; of a spectral start how it is composed."""
    if config.coarse is None:
        stages = ["table"]
    elif config.coarse.start == "spectral" and not config.finer:
        return ["model.layers=5,7,9,13", "coarse.t=1,2", "coarse.grouping=metis,kmeans"]
    else:
        stages = [f"{name}.training" for name in ("coarse", *config.finer)]
    return [f"{stage}.{range_}" for stage in stages for range_ in ("lr=0.0003..0.03", "l2=0.00001..0.01")]


def _number(text: str, range_: str) -> float:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    raise InputError(f"{text!r} is no number", where=f"--range {range_}", expected=_EXPECTED)
