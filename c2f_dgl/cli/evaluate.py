"""``c2f-dgl evaluate``: figures of a run's model or of a model file, of all users or of some."""

from __future__ import annotations

import json
import math
from itertools import starmap
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from c2f_dgl.cli.common import (
    DeviceOption,
    JsonOption,
    ServedArgument,
    StageOption,
    data_source,
    print_table,
    say,
    total_and_parts,
)
from c2f_dgl.errors import InputError
from c2f_dgl.io.progress import Reporter

if TYPE_CHECKING:
    from c2f_dgl.evaluation.slices import Slice


def evaluate(
    run: ServedArgument,
    split: Annotated[Literal["valid", "test"], typer.Option(help="What is to be found.")] = "test",
    mask: Annotated[
        Literal["train", "train+valid"],
        typer.Option(help="What a user has had and is not ranked; the paper's is train."),
    ] = "train",
    stage: StageOption = None,
    data_: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATASET", help="Of a model file: what to evaluate on; of a run: where it is now."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of a model file: seed and data.* as of `train`."),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="With commas, of ndcg, recall, precision, hit, map, mrr, auc; coverage, gini, novelty, popularity, "
            "diversity."
        ),
    ] = "ndcg,recall",
    cutoffs: Annotated[str, typer.Option(help="Lengths of the ranked lists, with commas.")] = "5,10,20,50",
    by: Annotated[
        str | None,
        typer.Option(
            metavar="GROUPS",
            help="Slices: of users by activity, of items by popularity or known, by users=FILE or items=FILE.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Rank all items for all users, with a run's model or by a model file: metrics of the ranked lists."""
    from c2f_dgl.evaluation.metrics import BEYOND, check_groups, check_names
    from c2f_dgl.training.checks import check_run

    names, depths = metrics.split(","), [int(k) if k.isdecimal() else 0 for k in cutoffs.split(",")]
    check_names(names)
    if min(depths) < 1:
        raise InputError(f"{cutoffs!r} are no lengths", where="--cutoffs", expected="e.g. 5,10,20,50")
    if by is not None:
        check_groups(by)
        if whole := [name for name in names if name in BEYOND]:
            raise InputError(f"{whole[0]} is not of slices", where="--by", expected="metrics such as ndcg and recall")
    if mask == "train+valid" and split == "valid":
        raise InputError("would hide what is to be found", where="--mask train+valid", expected="--split test")
    of_file = run.is_file()
    if not of_file:
        if set_:
            raise InputError("a run has its own options", where="--set", expected="a model file")
        check_run(run, stage=stage, source=data_, device=device)
    elif data_ is None:
        raise InputError("a model file holds no data", where=run, expected="--data DATASET to evaluate on")
    reporter = Reporter(quiet=json_)
    with reporter.busy("loading"):
        from c2f_dgl import api
        from c2f_dgl.config.load import load_config
        from c2f_dgl.data.catalogue import read_data
        from c2f_dgl.evaluation import beyond, ranking, slices

        scorer: ranking.Ranker
        if of_file:
            from c2f_dgl.evaluation.served import Served
            from c2f_dgl.serving import ServingModel

            served = ServingModel.load(run)
            config = load_config("fast", set_ or [])
            data = read_data(data_source(str(data_)), config.data, config.seed)
            scorer = Served(served, data.train, data.item_ids)
            counts = {"bytes": run.stat().st_size}
        else:
            model, data = api.load_run(run, stage=stage, device=device, source=data_)
            scorer, counts = model.scorer(), model.count_values()
    with reporter.busy("ranking"):
        seen = data.train if mask == "train" else data.train + data.valid
        relevant = data.valid if split == "valid" else data.test
        if by is not None:
            found = slices.evaluate_slices(scorer, data, relevant, slices.groups_by(data, by), depths, names, seen)
        else:
            figures = beyond.measure(scorer, seen, relevant, depths, names, data.train)
    sizes = counts if of_file else {"parameters": {"total": counts["total"], **counts}}
    if json_:
        print(json.dumps({**(figures if by is None else {"slices": _as_json(found)}), **sizes}))
        return
    title = f"{data.name}, {split}"
    if by is not None:
        shown = lambda mean, low, high: f"{mean:.4f} ({low:.4f} to {high:.4f})"
        rows = {each.name: [f"{each.users:,}", *starmap(shown, each.figures.values())] for each in found}
        print_table(f"{title}, 95 % intervals over users", ["", "users", *found[0].figures], rows)
    else:
        shown_at = lambda name, k: _number(figures[name] if name in figures else figures[f"{name}@{k}"])  # auc has no k
        rows = {name: [shown_at(name, k) for k in depths] for name in names}
        print_table(title, ["", *(f"@{k}" for k in depths)], rows)
    say(f"{counts['bytes']:,} bytes" if of_file else f"learned values: {total_and_parts(counts, '')}")


def _as_json(slices: list[Slice]) -> list[dict[str, Any]]:
    """Slices as JSON has them: a figure that there is not is null."""
    plain = lambda figures: [None if math.isnan(figure) else figure for figure in figures]
    return [
        {"name": each.name, "users": each.users, **{name: plain(values) for name, values in each.figures.items()}}
        for each in slices
    ]


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 10 else f"{value:,.1f}"
