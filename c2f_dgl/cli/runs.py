"""``c2f-dgl train, update, info, report, options``: commands that make a run and look at it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from c2f_dgl.cli.common import (
    DataOption,
    DatasetArgument,
    DeviceOption,
    JsonOption,
    SetOption,
    data_source,
    print_stages,
    say,
    stoppable,
    total_and_parts,
)
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder, write_text
from c2f_dgl.io.progress import Reporter, plain_console


def train(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    preset: Annotated[
        str, typer.Option(help="fast, best, quick, paper, published, lightgcn, or a YAML file.")
    ] = "fast",
    stage: Annotated[str, typer.Option(help="coarse, fine (goes on from a run that has coarse) or both.")] = "both",
    set_: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the split, the start and the training.")] = None,
    device: DeviceOption = "auto",
    memory_budget: Annotated[
        float | None, typer.Option(metavar="GIB", help="What the collapsed basis may take: model.memory_budget.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    track: Annotated[str | None, typer.Option(help="Log the run to tensorboard, mlflow or wandb as well.")] = None,
) -> None:
    """Train on DATASET, stage after stage, and evaluate the best model of each."""
    from c2f_dgl.config.load import load_config
    from c2f_dgl.io import ranks
    from c2f_dgl.training.checks import check_new_run
    from c2f_dgl.training.tracking import check_tracker, tracking

    check_tracker(track)
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
        with Reporter(quiet=not is_first).busy("reading the data"):
            from c2f_dgl.data.catalogue import load_split

            split = load_split(config)  # before torch is imported: a wrong column is told at once
            from c2f_dgl import api
        if is_first:
            say(split.summary(), stderr=True)
        going_on = f"the same command with --resume goes on with {out}" if is_first else ""
        with stoppable(going_on), tracking(track if is_first else None, out) as callbacks:
            reporter = Reporter(quiet=not is_first, callbacks=callbacks)
            summary = api.train(split, out, config, stage=stage, resume=resume, device=device, reporter=reporter)
        if is_first:
            print_stages(summary)
            say(f"run: {out}   chosen on validation: {summary['chosen']}")


def update(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, as of the preset fast.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="A log of new interactions, with the run's columns.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the new run, which holds the data, too.", show_default=False)],
    data_: DataOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Solve RUN again with NEW interactions, of new users and items too, and what it has chosen: no search."""
    from c2f_dgl.training.checks import check_run
    from c2f_dgl.training.folder import RunFolder

    check_run(run, source=data_, device=device)
    if not new.exists():
        raise InputError("no such file", where=new, expected="a log of new interactions")
    check_new_folder(out)
    reporter = Reporter()
    with reporter.busy("solving again"):
        from c2f_dgl.data.readers import read_interactions

        given = {"user", "item", "rating", "min_rating"}
        columns = RunFolder(run).config().data.model_dump(include=given, exclude_none=True)
        log = read_interactions(new, **columns)
        from c2f_dgl.training.update import update as update_run

        made = update_run(run, log, out, source=data_, device=device, reporter=reporter)
    say(made.split.summary())
    print_stages(made.summary)
    say(f"run: {out}   with what {run} has chosen")


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
    say(f"{run}: {config.data.source}, seed {config.seed}, {epochs} epochs")
    if summary is None:
        say("not finished: go on with --resume")
        for record in records[-1:]:
            say(f"last: {json.dumps(record)}")
        return
    print_stages(summary)
    for name, stage in summary["stages"].items():
        say(f"{name}: {total_and_parts(stage['parameters'], ' learned values')}")
    chosen = summary["chosen"]
    say(f"chosen on validation: {chosen}")
    if scalars := summary["stages"][chosen].get("scalars"):
        values = {**scalars, **scalars.get("importances", {})}
        values.pop("importances", None)
        say("with " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="HTML file to write; one that is there is replaced.", show_default=False)],
) -> None:
    """Write one self-contained HTML page about a run, or about several side by side."""
    from c2f_dgl.training.checks import check_run

    for run in runs:
        check_run(run, device="cpu")
    if out.is_dir():
        raise InputError("is a folder", where=out, expected="a file to write, e.g. report.html")
    reporter = Reporter()
    with reporter.busy(f"writing {out}"):
        from c2f_dgl.report import MAX_RUNS, collect_runs, render_page

        if len(runs) > MAX_RUNS:
            raise InputError(f"{len(runs)} runs on one page", where="RUN", expected=f"at most {MAX_RUNS}")
        page = render_page(collect_runs(runs, reporter))
    write_text(out, page)
    say(f"{out}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {len(page.encode()) / 1000:,.0f} kB")


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
