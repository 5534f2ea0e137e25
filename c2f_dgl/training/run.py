"""A whole run: from configuration and data through trained stages to the model that validates best.

Follow one batch: `Run.train` -> `train_stage` (stage.py) -> `TripletSampler.batches` (sampler.py) -> `batch_loss`
(loss.py) -> `Engine.scores` (engines/). `propagate` (graph/) is below it with message passing; the collapsed engine
calls it in `rebuild`, once an assignment.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate, most_popular
from c2f_dgl.evaluation.sampling import drawn_users, evaluate_split, sampled_rows
from c2f_dgl.io import ranks
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Recommender
from c2f_dgl.training.build import COARSE, TABLE, Start, add_tier, assemble, feature_columns, start_graph, start_model
from c2f_dgl.training.checkpoint import (
    described_scalars,
    flat_scalars,
    kept_choice,
    load_checkpoint,
    load_vectors,
    model_description,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    restore_tiers,
    save_checkpoint,
)
from c2f_dgl.training.checks import check_device, stage_names
from c2f_dgl.training.choice import Choice
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.stage import OptimizerState, Record, Stage, StageProgress, train_stage

log = logging.getLogger("c2f_dgl")

# Users that the most popular items are ranked for, beside which a model should not be worse.
_POPULAR_USERS = 10_000

Checkpoint = tuple[dict[str, torch.Tensor], dict[str, Any]]


class Run:
    """Stages of a configuration on a split: each stage's best model, and a record per epoch.

    Parameters
    ----------
    config : RunConfig
        With its sizes resolved.
    split : Split
    device : torch.device
    reporter : Reporter, optional
        Shows progress.
    folder : RunFolder, optional
        A begun run (`RunFolder.begin`): everything is written to it as well, and read from it to go on.
    choice : Choice, optional
        What a spectral start would choose on validation.

    Attributes
    ----------
    stages : list of str
        In order: one per tier, or the full table's.
    summary : dict
        What ``summary.json`` holds: per stage its best validation and its test figures (none without a test part),
        and the chosen stage.
    """

    def __init__(
        self,
        config: RunConfig,
        split: Split,
        device: torch.device,
        reporter: Reporter | None = None,
        folder: RunFolder | None = None,
        choice: Choice | None = None,
    ) -> None:
        self.config, self.split, self.device, self.folder = config, split, device, folder
        self.reporter, self._choice = reporter or Reporter(quiet=True), choice
        self.stages = stage_names(config)
        self.summary: dict[str, Any] = {}
        self._records: list[Record] = []
        self._best: dict[str, Checkpoint] = {}
        self._tests: dict[str, dict[str, float]] = {}
        self._model: tuple[str, Recommender] | None = None  # of the stage, in its best state

    def train(self, stages: list[str] | None = None) -> None:
        """Train all stages or some, one after the other, or go on with them where a stopped run left off.

        Raises
        ------
        InputError
            Another process trains in the folder, or a stage lacks the one before it.
        """
        with nullcontext() if self.folder is None else self.folder.locked():
            last = self._reopen()
            for stage in self.stages if stages is None else stages:
                if last is None or self.stages.index(stage) >= self.stages.index(last[1]["stage"]):
                    self._train_stage(stage, last)
                    last = None
            with self.reporter.busy("evaluating"):
                self._summarise()

    def model(self, stage: str | None = None) -> Recommender:
        """The best model of a stage, by default of the one chosen on validation (raises `InputError` without one)."""
        stage = stage or self.summary["chosen"]
        if self._model is None or self._model[0] != stage:
            path = stage if self.folder is None else self.folder.checkpoint(stage)
            self._model = stage, self._restored(*self._checkpoint(stage), path)
        return self._model[1]

    def data(self, stage: str | None = None) -> Split:
        """What the model of a stage was trained on: the split, or its `merged` where it was solved again."""
        stage = stage or self.summary["chosen"]
        return self._trained_on(self._checkpoint(stage)[1], stage)

    def _trained_on(self, meta: dict[str, Any], path: str | Path) -> Split:
        """The data of a checkpoint (raises `InputError` where it is neither the split nor its `merged`)."""
        if meta["fingerprint"] == self.split.fingerprint:
            return self.split
        if meta["fingerprint"] != (merged := self.split.merged()).fingerprint:
            raise InputError("was trained on other data", where=path, expected="the data set and split of the run")
        return merged

    @cached_property
    def _graph(self) -> dgl.DGLGraph:
        return start_graph(self.split, self.config.model, self.config.graph)

    def _reopen(self) -> Checkpoint | None:
        """The last checkpoint, of where the run in the folder stands; None of a new run.

        Where several processes train, they get it and the stages' best from rank 0, which alone has the folder.
        """
        if self.folder is not None:
            self.folder.sweep()
            self.folder.describe()
        for stage in self.stages:
            with ranks.file_of_first(None if self.folder is None else self.folder.checkpoint(stage)) as path:
                if path is not None:
                    self._best[stage] = load_checkpoint(path)
        with ranks.file_of_first(None if self.folder is None else self.folder.last) as path:
            last = None if path is None else load_checkpoint(path)
        if self.folder is not None:
            self._records = self.folder.keep_records(0 if last is None else last[1]["records"])
        return last

    def _restored(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any], path: str | Path) -> Recommender:
        """The model of a checkpoint."""
        split = self._trained_on(meta, path)
        tiers, columns = restore_tiers(tensors, meta, path), feature_columns(split)
        scalars, table = described_scalars(meta), tensors.get("table")
        graph = self._graph if split is self.split else start_graph(split, self.config.model, self.config.graph)
        model = assemble(self.config, graph, tiers, table, self.device, scalars, columns=columns)
        load_vectors(model, tensors, path)
        return model

    def _train_stage(self, stage: str, last: Checkpoint | None) -> None:
        """Train one stage, anew or from the last checkpoint of the folder where that is of this stage."""
        began, progress, restore, best_epoch = time.perf_counter(), StageProgress(), None, -1
        if last is not None and last[1]["stage"] == stage:
            tensors, meta = last
            path = stage if self.folder is None else self.folder.last
            start = Start(self._restored(tensors, meta, path), kept_choice(meta))
            progress = StageProgress.from_json(meta["progress"])
            restore = partial(restore_optimizer, start.model, tensors)
        else:
            start = self._started(stage, None if last is None else last[1])
        model, self._choice = start.model, start.choice or self._choice
        if self.folder is not None:
            self.folder.reopen()
        self._model = None
        choice = None if self._choice is None else asdict(self._choice)
        origin = {"stage": stage, "fingerprint": self.split.fingerprint, "choice": choice}

        def on_best(record: Record) -> None:
            nonlocal best_epoch
            best_epoch = record["epoch"]
            meta = {"record": dict(record), "scalars": flat_scalars(model)}
            self._best[stage] = model_tensors(model), {**origin, **meta, **model_description(model)}
            if self.folder is not None:
                save_checkpoint(self.folder.checkpoint(stage), *self._best[stage])

        def on_epoch(record: Record, optimizer_state: OptimizerState) -> None:
            self._records.append(record)
            if self.folder is not None:
                self.folder.append(record)
                meta = {"progress": progress.to_json(), "records": len(self._records)}
                tensors = model_tensors(model) | optimizer_tensors(model, optimizer_state)
                save_checkpoint(self.folder.last, tensors, {**origin, **meta, **model_description(model)})

        split, again = self.split, self._is_solved_again()
        if again:  # what is chosen is not tested: what is solved with it is
            split = replace(split, test=sp.csr_matrix(split.test.shape, dtype=np.float32))
        with self.reporter.stage(stage):
            train_stage(
                model,
                self._stage(stage),
                split,
                self.reporter,
                progress,
                on_best,
                on_epoch=on_epoch,
                restore=restore,
                scorer=start.scorer,
                began=began,
            )
        if best_epoch == progress.epoch:
            self._model = stage, model
        if again:
            self._solve_again(stage)
        with self.reporter.busy("evaluating"):
            self._test(stage)

    def _is_solved_again(self) -> bool:
        """Whether the model that was chosen is solved for once more with what validated: all that others train on."""
        drawn = self.config.data.protocol == "full-test" and self.split.valid_from_train
        one_solve = self.stages == [COARSE] and not any(self._stage(COARSE).limits().values())
        return drawn and one_solve and self._choice is not None

    def _solve_again(self, stage: str) -> None:
        """Solve for the stage's best once more, with what was chosen, on `Split.merged`."""
        merged, (_, meta) = self.split.merged(), self._checkpoint(stage)
        if meta["fingerprint"] == merged.fingerprint:
            return
        graph = start_graph(merged, self.config.model, self.config.graph)
        with self.reporter.busy("solving again"):
            model = start_model(self.config, graph, merged, self.device, self.reporter, self._choice).model
        description = {**meta, "fingerprint": merged.fingerprint, **model_description(model)}
        self._best[stage], self._model = (model_tensors(model), description), (stage, model)
        if self.folder is not None:
            save_checkpoint(self.folder.checkpoint(stage), *self._best[stage])

    def _started(self, stage: str, last: dict[str, Any] | None) -> Start:
        """What a stage starts from."""
        path = None if self.folder is None else self.folder.path
        if last is not None and not StageProgress.from_json(last["progress"]).is_over(self._stage(last["stage"])):
            raise InputError(
                f"stage {stage} needs {last['stage']}, which is not over",
                where=path,
                expected="--resume with --stage both, or a run of that stage first",
            )
        with self.reporter.busy(f"starting {stage}"):
            number = self.stages.index(stage)
            if number == 0:
                return start_model(self.config, self._graph, self.split, self.device, self.reporter, self._choice)
            coarser = self.stages[number - 1]
            if not self._is_trained(coarser):
                raise InputError(f"stage {stage} needs {coarser} trained first", where=path)
            return Start(add_tier(self.config, self.model(coarser), self._graph, stage))

    def _stage(self, name: str) -> Stage:
        config = self.config
        if name == TABLE:
            return Stage(name, config.table, None, config.seed, config.select)
        tier = config.coarse if name == COARSE else config.finer[name]
        assert tier is not None  # a config without tiers has the one stage "table"
        return Stage(name, tier.training, tier, config.seed, config.select)

    def _is_trained(self, stage: str) -> bool:
        return stage in self._best or (self.folder is not None and self.folder.checkpoint(stage).is_file())

    def _checkpoint(self, stage: str) -> Checkpoint:
        """The stage's best on validation: what was learned, and its meta."""
        if stage not in self._best:
            assert self.folder is not None, "trained here, or in the folder"
            self._best[stage] = load_checkpoint(self.folder.checkpoint(stage))
        return self._best[stage]

    def _test(self, stage: str) -> dict[str, float]:
        """Test figures of the stage's best; none without a test part."""
        if stage not in self._tests:
            figures = self._checkpoint(stage)[1]["record"].get("test", {})
            if not figures and self.split.test.nnz:
                scorer, split = self.model(stage).scorer(), self.data(stage)
                figures = evaluate_split(scorer, split, ["test"], self.config.seed)["test"]
            self._tests[stage] = figures
        return self._tests[stage]

    def _summarise(self) -> None:
        """Test figures of each stage's best, and the choice between them on validation."""
        seconds = dict.fromkeys(self.stages, 0.0)
        for record in self._records:
            seconds[record["stage"]] += record["seconds"] + record.get("valid_seconds", 0.0)
        stages = {}
        for stage in filter(self._is_trained, self.stages):
            _, meta = self._checkpoint(stage)
            stages[stage] = {
                "valid": meta["record"]["valid"],
                "test": self._test(stage),
                "parameters": meta["parameters"],
                "scalars": meta["scalars"],
                "at_end": (meta.get("choice") or {}).get("ends", []),
                "epoch": meta["record"]["epoch"],
                "phase": meta["record"]["phase"],
                "seconds": round(seconds[stage], 1),
            }
        split, select = self.split, self.config.select
        figures = {stage: entry["valid"][select] for stage, entry in stages.items()}
        chosen = max(figures, key=figures.__getitem__)
        sample = sampled_rows(split.valid, _POPULAR_USERS, self.config.seed)
        popular = evaluate(most_popular(split.train), split.train, sample)[select]
        if figures[chosen] < popular:
            message = "validates at %.4f, below the most popular items (%.4f): do not use this model"
            log.warning(message, figures[chosen], popular)
        self.summary = {
            "data": split.name,
            "fingerprint": split.fingerprint,
            "entities": split.n_users + split.n_items,
            "users_drawn": None if (users := drawn_users(split, self.config.seed)) is None else len(users),
            "select": select,
            "chosen": chosen,
            "stages": stages,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if self.folder is not None:
            self.folder.write_summary(self.summary)


def load_model(folder: RunFolder, split: Split, stage: str | None, device: torch.device) -> tuple[Recommender, Split]:
    """The best model of a folder's stage, by default of the chosen one, and what it was trained on.

    Raises `InputError` where there is none. `split` is the run's.
    """
    run = Run(folder.config(), split, device, folder=folder)
    if stage is None and (summary := folder.summary()) is not None:
        stage = summary["chosen"]
    elif stage is None:
        log.warning("%s is not finished: this is its best model so far", folder.path)
        trained = [name for name in run.stages if folder.checkpoint(name).is_file()]
        if not trained:
            raise InputError("no checkpoint yet", where=folder.path, expected="a run that has validated at least once")
        stage = trained[-1]
    if stage not in run.stages:
        raise InputError(f"no stage {stage!r}", where=folder.path, expected=f"one of {', '.join(run.stages)}")
    return run.model(stage), run.data(stage)


def choose_device(name: str) -> torch.device:
    """The torch device for ``auto``, ``cpu`` or ``cuda``."""
    check_device(name)
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
