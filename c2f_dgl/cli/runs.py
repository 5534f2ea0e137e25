"""Commands that make a run and look at it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from c2f_dgl.io.progress import Reporter, plain_console

ServedArgument = Annotated[
    Path, typer.Argument(metavar="RUN|MODEL", help="Folder of a run, or a model file of `export`.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
StageOption = Annotated[
    str | None, typer.Option(help="The best model of this stage; by default of the one chosen on validation.")
]

DataOption = Annotated[
    str | None, typer.Option("--data", metavar="PATH", help="Where the run's data is now; by default where it was.")
]


def train(
    dataset: Annotated[str, typer.Argument(help="A name from `c2f-dgl data list`, or a path.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    preset: Annotated[
        str, typer.Option(help="fast, best, quick, paper, published, lightgcn, or a YAML file.")
    ] = "fast",
    stage: Annotated[str, typer.Option(help="coarse, fine (goes on from a run that has coarse) or both.")] = "both",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an option; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the split, the start and the training.")] = None,
    device: DeviceOption = "auto",
    memory_budget: Annotated[
        float | None, typer.Option(metavar="GIB", help="What the collapsed basis may take: model.memory_budget.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Train on DATASET, stage after stage, and evaluate the best model of each."""
    from c2f_dgl.config.load import load_config
    from c2f_dgl.io import ranks
    from c2f_dgl.training.checks import check_new_run

    named = {"seed": seed, "model.memory_budget": memory_budget}
    overrides = [*(set_ or []), *(f"{key}={value}" for key, value in named.items() if value is not None)]
    with ranks.joined():  # first, so that what one of them refuses ends the others at once
        config = load_config(preset, overrides)
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": data_source(dataset)})})
        is_first = ranks.rank() == 0  # which alone writes and prints
        if is_first:
            check_new_run(out, config, stage=stage, resume=resume, device=device)
        else:
            logging.disable(logging.WARNING)
        reporter = Reporter(quiet=not is_first)
        with reporter.busy("reading the data"):
            from c2f_dgl.data.catalogue import load_split

            split = load_split(config)  # before torch is imported: a wrong column is told at once
            from c2f_dgl import api
        if is_first:
            reporter.console.print(split.summary(), soft_wrap=True)
        try:
            summary = api.train(split, out, config, stage=stage, resume=resume, device=device, reporter=reporter)
        except KeyboardInterrupt:
            if is_first:
                reporter.console.print(f"stopped: the same command with --resume goes on with {out}", soft_wrap=True)
            raise typer.Exit(130) from None
        if is_first:
            print_stages(summary)
            plain_console().print(f"run: {out}   chosen on validation: {summary['chosen']}", soft_wrap=True)


def info(
    run: Annotated[Path, typer.Argument(help="Folder of a run; with --schema also a preset.", show_default=False)],
    schema: Annotated[bool, typer.Option("--schema", help="Draw node types, relations and tiers, in Mermaid.")] = False,
    json_: JsonOption = False,
) -> None:
    """Show what a run is and where it stands."""
    from c2f_dgl.training.folder import RunFolder

    if schema:
        from c2f_dgl.config.diagram import mermaid
        from c2f_dgl.config.load import load_config

        print(mermaid(RunFolder(run).config() if run.is_dir() else load_config(str(run))))
        return
    folder = RunFolder(run)
    config, records, summary = folder.config(), folder.records(), folder.summary()
    epochs = sum(record["epoch"] > 0 for record in records)
    if json_:
        print(json.dumps({"config": config.model_dump(mode="json"), "epochs": epochs, "summary": summary}, indent=2))
        return
    console = plain_console()
    console.print(f"{run}: {config.data.source}, seed {config.seed}, {epochs} epochs", soft_wrap=True)
    if summary is None:
        console.print("not finished: go on with --resume")
        for record in records[-1:]:
            console.print(f"last: {json.dumps(record)}", soft_wrap=True)
        return
    print_stages(summary)
    for name, stage in summary["stages"].items():
        console.print(f"{name}: {total_and_parts(stage['parameters'], ' learned values')}", soft_wrap=True)
    chosen = summary["chosen"]
    console.print(f"chosen on validation: {chosen}")
    if scalars := summary["stages"][chosen].get("scalars"):
        values = {name: value for name, value in scalars.items() if name != "importances"}
        values |= scalars.get("importances", {})
        console.print("with " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()), soft_wrap=True)


def options(
    preset: Annotated[str, typer.Option(help="A preset's name, or a YAML file.")] = "fast",
) -> None:
    """List every option for --set: its value in a preset, and the paper's symbol."""
    from rich.table import Column, Table

    from c2f_dgl.config import load

    table = Table(Column("option", no_wrap=True), preset, "meaning", show_lines=False)
    config = load.load_config(preset)
    for key, default, description in load.options():
        value = load.value_of(config, key, default if ".NAME." in key else "–")  # –: the preset has no such tier
        table.add_row(key, "null" if value is None else str(value), description)
    plain_console().print(table)


class WithOptions(TyperCommand):
    """A command whose help ends with every option for --set, one paragraph each."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from c2f_dgl.config import load

        lines = [f"{key}: {description} ({default})" for key, default, description in load.options()]
        self.epilog = "\n\n".join(["Options for --set (defaults of the schema; presets set their own):", *lines])
        super().format_help(ctx, formatter)


def data_source(dataset: str) -> str:
    """A catalogue name as it is; a path made absolute, so that the run can be evaluated from anywhere."""
    from c2f_dgl.data.cards import find_source

    card, path = find_source(dataset)
    return str(path.resolve()) if card is None else dataset


def total_and_parts(counts: dict[str, int], unit: str) -> str:
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items() if name != "total")
    return f"{counts['total']:,}{unit} ({parts})"


def print_stages(summary: dict[str, Any]) -> None:
    """Print the best of each stage as a table."""
    from rich.table import Table

    table = Table("stage", title=f"{summary['data']}, best of each stage", title_justify="left")
    for name in ("valid N@20", "valid R@20", "test N@20", "test R@20", "learned values", "epoch", "seconds"):
        table.add_column(name, justify="right")
    for name, stage in summary["stages"].items():
        table.add_row(
            name,
            *(
                f"{stage[split][metric]:.4f}" if stage[split] else "–"
                for split in ("valid", "test")
                for metric in ("ndcg@20", "recall@20")
            ),
            f"{stage['parameters']['total']:,}",
            str(stage["epoch"]),
            f"{stage['seconds']:.0f}",
        )
    console = plain_console()
    console.print(table)
    if n := summary.get("users_drawn"):
        console.print(f"figures of {n:,} users, drawn at random: c2f-dgl evaluate ranks for all", soft_wrap=True)
