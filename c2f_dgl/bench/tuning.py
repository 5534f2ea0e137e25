"""Tuning of a preset with Optuna, on validation alone: a study that a stopped search goes on with, and its best preset.

Search spaces are options of the configuration; `c2f_dgl.bench.run` tunes other systems, each at as many draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from scipy.sparse import csr_matrix

from c2f_dgl import api
from c2f_dgl.config.load import changed, dump_config, value_of
from c2f_dgl.config.ranges import Range
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder, locked, write_text
from c2f_dgl.io.progress import Reporter

_OVER = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Tried:
    """A trial that is over: its values by option, and its figure on validation, None where it was not seen through."""

    number: int
    values: dict[str, Any]
    figure: float | None
    error: str | None = None


def tune(
    split: Split,  # its test part is not looked at
    out: str | Path,  # new, or of the same search: ``study.jsonl`` is Optuna's journal, ``best.yaml`` the best preset
    config: RunConfig,  # its values are tried first, where the ranges hold them; trials are compared by its ``select``
    ranges: Sequence[Range],
    *,
    trials: int,  # in all, with those that are over; one that a kill or Ctrl-C cut short does not count
    minutes: float | None = None,  # after so many no further trial begins
    device: str = "auto",
    reporter: Reporter | None = None,
    report: Callable[[Tried], None] = lambda tried: None,  # called with every trial when it is over
) -> list[Tried]:
    """Train with one set of values after the other, each with the same seed; trials that are over, the best first.

    `InputError` where the folder holds something else, another process tunes there, or no trial could be trained.
    """
    out, quiet = Path(out), reporter is None
    shown = _Pruning(None if reporter is None else reporter.console, quiet=quiet)
    check_new_folder(out, "a new folder, or that of a search to go on with", begun="study.jsonl")
    out.mkdir(parents=True, exist_ok=True)
    split = replace(split, test=csr_matrix(split.test.shape, dtype=split.test.dtype))
    with locked(out, "tunes"):
        study = _study(out, config, ranges, split.fingerprint)

        def objective(trial: optuna.Trial) -> float:
            values = {chosen.key: chosen.suggested(trial) for chosen in ranges}
            shown.trial, shown.select, shown.n_validations = trial, config.select, 0
            for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                if other.params == trial.params and other.value is not None:
                    return other.value  # training has the same seed
            try:
                tried = _changed(config, values)
                summary = api.train_run(split, None, tried, device=device, reporter=shown).summary
            except InputError as error:
                trial.set_user_attr("error", str(error))
                raise optuna.TrialPruned from error
            return float(summary["stages"][summary["chosen"]]["valid"][config.select])

        def on_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            if trial.state == TrialState.COMPLETE and study.best_trial.number == trial.number:
                figure = f"{config.select} {trial.value:.4f} on valid"
                head = f"# trial {trial.number} of a search on {split.name}: {figure}\n"
                write_text(out / "best.yaml", head + dump_config(_changed(config, trial.params)))
            report(_tried(trial))

        n = trials - len(study.get_trials(deepcopy=False, states=_OVER))
        with shown.bar("trials") as move:
            moved = lambda study, trial: move(trial.number + 1, trials)
            if n > 0:
                seconds = None if minutes is None else 60 * minutes
                study.optimize(objective, n_trials=n, timeout=seconds, callbacks=[on_trial, moved])
    over = [_tried(trial) for trial in study.get_trials(states=_OVER)]
    if not any(trial.figure is not None for trial in over):
        errors = [trial.error for trial in over if trial.error]
        raise InputError(f"no trial could be trained: {errors[0] if errors else 'none was begun'}", where=out)
    return sorted(over, key=lambda trial: -(trial.figure or 0.0))


def _study(out: Path, config: RunConfig, ranges: Sequence[Range], fingerprint: str) -> optuna.Study:
    """The study of a folder, begun or gone on with."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(out / "study.jsonl")))
    study = optuna.create_study(storage=storage, study_name="c2f_dgl", direction="maximize", load_if_exists=True)
    # Trials that went before are not drawn once more.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    plain = config.model_dump_json(exclude={"data": {"source"}})
    about = json.loads(json.dumps({"config": plain, "ranges": list(map(asdict, ranges)), "data": fingerprint}))
    if (begun := study.user_attrs.get("about")) is None:
        study.set_user_attr("about", about)
        at_first = [(chosen, value_of(config, chosen.key, None)) for chosen in ranges]
        study.enqueue_trial({chosen.key: value for chosen, value in at_first if chosen.holds(value)})
    elif begun != about:
        differing = next(name for name in about if begun.get(name) != about[name])
        raise InputError(f"holds a search with other {differing}", where=out, expected="a new folder")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # its process is gone: this one has the lock
    return study


def _changed(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """`config` with values by option, and for whatever data."""
    new = changed(config, [f"{key}={json.dumps(value)}" for key, value in values.items()])
    return new.model_copy(update={"data": new.data.model_copy(update={"source": None})})


def _tried(trial: optuna.trial.FrozenTrial) -> Tried:
    figure = trial.value if trial.state == TrialState.COMPLETE else None
    return Tried(trial.number, dict(trial.params), figure, trial.user_attrs.get("error"))


class _Pruning(Reporter):
    """A reporter that ends a trial whose validations are below the median of the others at the same step."""

    trial: optuna.Trial
    select: str
    n_validations: int = 0  # of the trial

    def end_epoch(self, record: dict[str, Any]) -> None:
        super().end_epoch(record)
        if (valid := record.get("valid")) is not None:
            self.trial.report(valid[self.select], self.n_validations)
            self.n_validations += 1
            if self.trial.should_prune():
                raise optuna.TrialPruned
