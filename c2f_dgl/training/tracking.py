"""Experiment trackers: a run's options and figures, logged by the tracker's own library.

What is logged is what the run folder holds: a run that is resumed is logged whole, as another one of the tracker.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from c2f_dgl.config.load import flattened
from c2f_dgl.errors import InputError
from c2f_dgl.extras import check_installed
from c2f_dgl.io.progress import Callback
from c2f_dgl.training.folder import RunFolder


class TensorBoard:
    """Event files in the run folder."""

    def __init__(self, path: Path) -> None:
        self._events = path / "tensorboard"
        self._writer: Any = None

    def describe(self, options: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self._events, ignore_errors=True)  # a resumed run's: all of it is written again
        self._writer = SummaryWriter(str(self._events))
        self._writer.add_text("options", f"```yaml\n{yaml.safe_dump(options, sort_keys=False)}```")

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def end(self, chosen: str | None) -> None:
        if self._writer is not None:
            self._writer.add_text("chosen", str(chosen))
            self._writer.close()


class MLflow:
    """A run where `MLFLOW_TRACKING_URI` says, of the experiment `MLFLOW_EXPERIMENT_NAME`."""

    def __init__(self, path: Path) -> None:
        self._mlflow = importlib.import_module("mlflow")
        self._mlflow.start_run(run_name=path.name)

    def describe(self, options: dict[str, Any]) -> None:
        self._mlflow.log_params(flattened(options))

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        self._mlflow.log_metrics(figures, step=epoch)

    def end(self, chosen: str | None) -> None:
        self._mlflow.set_tag("chosen", chosen)
        self._mlflow.end_run("FAILED" if chosen is None else "FINISHED")


class WandB:
    """A run of the project `WANDB_PROJECT`; with `WANDB_MODE=offline` it is kept for `wandb sync`."""

    def __init__(self, path: Path) -> None:
        self._run = importlib.import_module("wandb").init(name=path.name)
        self._run.define_metric("*", step_metric="epoch")  # of each stage from 0, where its own steps only go up

    def describe(self, options: dict[str, Any]) -> None:
        self._run.config.update(options)

    def log(self, epoch: int, figures: dict[str, float]) -> None:
        self._run.log({"epoch": epoch, **figures})

    def end(self, chosen: str | None) -> None:
        self._run.summary["chosen"] = chosen
        self._run.finish(exit_code=int(chosen is None))


# By the name of library and extra, and what the library raises. One is made before training, so that a missing key is
# told at once; `describe` comes when the run folder is there, `end` with None where training did not come to its end.
_TRACKERS: dict[str, Callable[[Path], Any]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}
_RAISED = {"mlflow": "MlflowException", "wandb": "Error"}


def check_tracker(name: str | None) -> None:
    """Raise `InputError` where there is no such tracker, or its library is not installed."""
    if name not in (None, *_TRACKERS):
        raise InputError(f"no tracker {name!r}", where="--track", expected=f"one of {', '.join(_TRACKERS)}")
    check_installed(*filter(None, [name]), where=f"--track {name}")


@contextmanager
def tracking(name: str | None, path: str | Path) -> Iterator[list[Callback]]:
    """Callbacks for a `Reporter` that log the run which the body trains in a folder, and in the end its summary.

    There are none without a tracker's name. Raises `InputError` where it is not known, not installed or cannot log.
    """
    check_tracker(name)
    if name is None:
        yield []
        return
    failures = getattr(importlib.import_module(name), _RAISED[name]) if name in _RAISED else ()
    folder, n_logged, chosen = RunFolder(path), 0, None
    try:
        tracker = _TRACKERS[name](folder.path)

        def log(epoch: int, tree: dict[str, Any]) -> None:
            """Log the numbers of nested dictionaries by their path; MLflow takes no @ in names."""
            flat = flattened(tree, "/").items()
            tracker.log(epoch, {key.replace("@", "_"): value for key, value in flat if isinstance(value, int | float)})

        def log_new(_: Any = None) -> None:
            """Log the records that the folder has and the tracker has not: all of them, at first."""
            nonlocal n_logged
            if not n_logged:
                tracker.describe({"run": str(folder.path.resolve()), **folder.config().model_dump(mode="json")})
            records = folder.records()
            for record in records[n_logged:]:
                log(record["epoch"], {record["stage"]: record})
            n_logged = len(records)

        try:
            yield [log_new]
            log_new()
            summary: Any = folder.summary()
            for stage, best in summary["stages"].items():
                log(best["epoch"], {stage: {"best": best}})
            chosen = summary["chosen"]
        finally:
            tracker.end(chosen)
    except failures as error:
        expected = "what the tracker asks for; --resume goes on with a run that has begun"
        raise InputError(str(error), where=f"--track {name}", expected=expected) from error
