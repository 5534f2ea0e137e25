"""A whole run: from data and configuration to a folder with trained stages, and back from the folder to a model.

Follow one batch: `train_run` -> `train_stage` (stage.py) -> `TripletSampler.batches` (sampler.py) -> `batch_loss`
(loss.py) -> `Engine.scores` (engines/). `propagate` (graph/) is below it with message passing; the collapsed engine
calls it in `rebuild`, once an assignment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate, most_popular
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Recommender
from c2f_dgl.training.build import (
    COARSE,
    TABLE,
    Scalars,
    add_tier,
    assemble,
    exponents_of,
    feature_columns,
    start_graph,
    start_model,
    trains_all,
)
from c2f_dgl.training.checkpoint import (
    load_checkpoint,
    load_meta,
    model_description,
    model_tensors,
    optimizer_tensors,
    restore_optimizer,
    restore_tiers,
    save_checkpoint,
)
from c2f_dgl.training.checks import stage_names
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.stage import (
    Phase,
    Stage,
    StageProgress,
    progress_from_json,
    progress_to_json,
    train_stage,
)

log = logging.getLogger("c2f_dgl")

Restore = Callable[[torch.optim.Optimizer], None]


def train_run(
    config: RunConfig, split: Split, folder: RunFolder, reporter: Reporter, stages: list[str], device: torch.device
) -> dict[str, Any]:
    """Train `stages` one after the other, or go on with them where a stopped run left off.

    Parameters
    ----------
    config : RunConfig
    split : Split
    folder : RunFolder
        A begun run (`RunFolder.begin`).
    reporter : Reporter
        Shows progress.
    stages : list of str
        A subsequence of `stage_names`; a stage needs the ones before it, in this call or over in the folder.
    device : torch.device

    Returns
    -------
    dict
        What ``summary.json`` holds: per stage its best validation and its test figures (none without a
        test part), and the chosen stage.

    Raises
    ------
    InputError
        Another process trains in the folder, or a stage lacks the one before it.
    """
    with folder.locked():
        folder.sweep()
        graph = start_graph(split, config.model, config.graph)
        names = stage_names(config)
        for stage in stages:
            if _finished(folder, stage, names):
                continue
            folder.reopen()
            _train_one(config, split, folder, reporter, graph, stage, device)
        with reporter.busy("evaluating"):
            return _summarise(config, split, folder, graph, names, device)


def load_model(folder: RunFolder, split: Split, stage: str | None, device: torch.device) -> Recommender:
    """The best model of a stage, by default of the stage that was chosen on validation.

    Raises
    ------
    InputError
        The run has no such stage, or `split` is not the one it was trained on.
    """
    config = folder.config()
    if stage is None:
        summary = folder.summary()
        if summary is None:
            log.warning("%s is not finished: this is its best model so far", folder.path)
        stage = summary["chosen"] if summary else _furthest(folder, stage_names(config))
    if stage not in stage_names(config):
        raise InputError(f"no stage {stage!r}", where=folder.path, expected=f"one of {', '.join(stage_names(config))}")
    return _restore(folder.checkpoint(stage), config, split, start_graph(split, config.model, config.graph), device)[0]


def _train_one(
    config: RunConfig,
    split: Split,
    folder: RunFolder,
    reporter: Reporter,
    graph: dgl.DGLGraph,
    stage: str,
    device: torch.device,
) -> None:
    names, began = stage_names(config), time.perf_counter()
    model, progress, restore = None, StageProgress(), None
    if folder.last.is_file():
        meta = load_meta(folder.last)
        there = progress_from_json(meta["progress"])
        if meta["stage"] == stage:
            tensors, _ = load_checkpoint(folder.last)
            model, _ = _restore(folder.last, config, split, graph, device)
            progress = there
            restore = _optimizer_restorer(model, tensors)
        elif not _is_over(there, _stage(config, meta["stage"])):
            raise InputError(
                f"stage {stage} needs {meta['stage']}, which is not over",
                where=folder.path,
                expected="--resume with --stage both, or a run of that stage first",
            )
        folder.keep_records(meta["records"])
    else:
        folder.keep_records(0)
    if model is None:
        before = names.index(stage) - 1
        with reporter.busy(f"starting {stage}"):
            if before >= 0 and not folder.checkpoint(names[before]).is_file():
                raise InputError(f"stage {stage} needs {names[before]} trained first", where=folder.path)
            if before < 0:
                model = start_model(config, graph, split, device, reporter)
            else:
                coarser, _ = _restore(folder.checkpoint(names[before]), config, split, graph, device)
                model = add_tier(config, coarser, graph, stage)
    observer = _Observer(folder, reporter, model, split.fingerprint, stage)
    with reporter.stage(stage):
        train_stage(model, _stage(config, stage), split, observer, progress, restore=restore, began=began)


def _is_over(progress: StageProgress, stage: Stage) -> bool:
    progress.leave_finished(stage)
    return progress.done


def _stage(config: RunConfig, name: str) -> Stage:
    if name == TABLE:
        return Stage(name, config.table, None, config.seed, config.select)
    tier = config.coarse if name == COARSE else config.finer[name]
    assert tier is not None  # a config without tiers has the one stage "table"
    return Stage(name, tier.training, tier, config.seed, config.select)


class _Observer:
    """Writes records and checkpoints while a stage trains, and passes progress on."""

    def __init__(self, folder: RunFolder, reporter: Reporter, model: Recommender, fingerprint: str, stage: str) -> None:
        self.folder, self.reporter, self.model = folder, reporter, model
        self.fingerprint, self.stage = fingerprint, stage
        self.n_records = len(folder.records())

    def start_epoch(self, stage: str, phase: Phase, epoch: int, n_steps: int) -> None:
        self.reporter.start_epoch(stage, phase, epoch, n_steps)

    def step(self) -> None:
        self.reporter.step()

    def best(self, record: dict[str, Any]) -> None:
        meta = {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "record": record,
            "scalars": _chosen_scalars(self.model),
            **model_description(self.model),
        }
        save_checkpoint(self.folder.checkpoint(self.stage), model_tensors(self.model), meta)

    def end_epoch(self, record: dict[str, Any], optimizer: torch.optim.Optimizer, progress: StageProgress) -> None:
        self.folder.append(record)
        self.n_records += 1
        save_checkpoint(
            self.folder.last,
            {**model_tensors(self.model), **optimizer_tensors(self.model, optimizer)},
            {
                "stage": self.stage,
                "fingerprint": self.fingerprint,
                "progress": progress_to_json(progress),
                "records": self.n_records,
                **model_description(self.model),
            },
        )
        self.reporter.end_epoch(record)


def _restore(
    path: Path, config: RunConfig, split: Split, graph: dgl.DGLGraph, device: torch.device
) -> tuple[Recommender, dict[str, Any]]:
    tensors, meta = load_checkpoint(path)
    if meta["fingerprint"] != split.fingerprint:
        raise InputError("was trained on other data", where=path, expected="the data set and split of the run")
    tiers = restore_tiers(tensors, meta, path)
    weights, shape = meta["layer_weights"], meta["filter"]
    scalars = Scalars(
        None if weights is None else tuple(weights),
        (meta["exponents"][0], meta["exponents"][1]),
        meta["item_scale"],
        None if shape is None else FilterShape(**shape),
        meta["filter_weight"],
        meta["importances"],
    )
    model = assemble(
        config,
        graph,
        tiers,
        tensors.get("table"),
        device,
        scalars,
        columns=feature_columns(split),
        train_all=trains_all(config, tiers),
    )
    if model.readout.bias is not None:
        if "bias" not in tensors or tensors["bias"].shape != model.readout.bias.shape:
            raise InputError("the biases are missing or of another size", where=path)
        model.readout.bias.data.copy_(tensors["bias"])
    if model.importance is not None:
        if "importance" not in tensors or tensors["importance"].shape != model.importance.log_factor.shape:
            raise InputError("the importances are missing or of another number", where=path)
        model.importance.log_factor.data.copy_(tensors["importance"])
        model.relink()
    return model, meta


def _optimizer_restorer(model: Recommender, tensors: dict[str, torch.Tensor]) -> Restore:
    return lambda optimizer: restore_optimizer(model, optimizer, tensors)


def _finished(folder: RunFolder, stage: str, names: list[str]) -> bool:
    """Whether the run is past `stage`: its last checkpoint is of a later one."""
    if not folder.last.is_file():
        return False
    return names.index(load_meta(folder.last)["stage"]) > names.index(stage)


def _furthest(folder: RunFolder, names: list[str]) -> str:
    there = [name for name in names if folder.checkpoint(name).is_file()]
    if not there:
        raise InputError("no checkpoint yet", where=folder.path, expected="a run that has validated at least once")
    return there[-1]


def _chosen_scalars(model: Recommender) -> dict[str, Any]:
    """What a spectral start chooses on validation, for `info`; given by options with any other."""
    readout = model.readout
    return {
        "d": model.embedding.codebooks()[0].shape[1],
        **dict(zip(("user_exponent", "item_exponent"), exponents_of(model), strict=True)),
        "item_scale": readout.item_scale,
        "filter_weight": readout.filter_weight,
        **({} if readout.filter is None else {f"filter_{k}": v for k, v in asdict(readout.filter.term.shape).items()}),
        **({"importances": model.importances()} if model.importances() else {}),
    }


def _summarise(
    config: RunConfig,
    split: Split,
    folder: RunFolder,
    graph: dgl.DGLGraph,
    names: list[str],
    device: torch.device,
) -> dict[str, Any]:
    """Evaluate each stage's best checkpoint; choose between them on validation."""
    seconds: dict[str, float] = {}
    for record in folder.records():
        spent = record["seconds"] + record.get("valid_seconds", 0.0)
        seconds[record["stage"]] = seconds.get(record["stage"], 0.0) + spent
    stages = {}
    for stage in names:
        if folder.checkpoint(stage).is_file():
            meta = load_meta(folder.checkpoint(stage))
            if (test := meta["record"].get("test")) is None:
                model, _ = _restore(folder.checkpoint(stage), config, split, graph, device)
                test = evaluate(model.scorer(), split.train, split.test) if split.test.nnz else {}
            stages[stage] = {
                "valid": meta["record"]["valid"],
                "test": test,
                "parameters": meta["parameters"],
                "scalars": meta["scalars"],
                "epoch": meta["record"]["epoch"],
                "phase": meta["record"]["phase"],
                "seconds": round(seconds.get(stage, 0.0), 1),
            }
    chosen = max(stages, key=lambda stage: stages[stage]["valid"][config.select])
    popular = evaluate(most_popular(split.train), split.train, split.valid)[config.select]
    if (figure := stages[chosen]["valid"][config.select]) < popular:
        log.warning("validates at %.4f, below the most popular items (%.4f): do not use this model", figure, popular)
    summary = {
        "data": split.name,
        "fingerprint": split.fingerprint,
        "entities": split.n_users + split.n_items,
        "select": config.select,
        "chosen": chosen,
        "stages": stages,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    folder.write_summary(summary)
    return summary
