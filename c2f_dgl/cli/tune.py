"""``c2f-dgl tune``: options of a preset, searched on validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c2f_dgl.cli.runs import DeviceOption, data_source
from c2f_dgl.extras import check_installed
from c2f_dgl.io.progress import Reporter, plain_console

if TYPE_CHECKING:
    from c2f_dgl.bench.tuning import Tried

# Trials that the table at the end shows.
_SHOWN = 5


def tune(
    dataset: Annotated[str, typer.Argument(help="A name from `c2f-dgl data list`, or a path.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder; that of a stopped search is gone on with.", show_default=False)],
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, the preset itself the first.")] = 20,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="After so many no further trial begins.")] = None,
    preset: Annotated[str, typer.Option(help="The preset that is changed, or a YAML file.")] = "fast",
    range_: Annotated[
        list[str] | None,
        typer.Option(
            "--range", metavar="KEY=A,B|LOW..HIGH", help="What is searched; by default what suits the preset."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of all trials; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the split and of every trial.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Search options of a preset for DATASET on validation; the best is a preset for `train --preset OUT/best.yaml`."""
    from c2f_dgl.cli.checks import check_begun_folder
    from c2f_dgl.config.load import load_config
    from c2f_dgl.config.ranges import default_ranges, parse_range
    from c2f_dgl.training.checks import check_device

    config = load_config(preset, [*(set_ or []), *([] if seed is None else [f"seed={seed}"])])
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": data_source(dataset)})})
    ranges = [parse_range(text, config) for text in range_ or default_ranges(config)]
    check_device(device)
    check_begun_folder(out, "study.jsonl", "search")
    check_installed("optuna", where="tune")
    reporter = Reporter()
    with reporter.busy("reading the data"):
        from c2f_dgl.data.catalogue import load_split

        split = load_split(config)  # before torch is imported: a wrong column is told at once
        from c2f_dgl.bench import tuning
    console = plain_console()
    console.print(split.summary(), soft_wrap=True)
    console.print("searched: " + "  ".join(range_ or default_ranges(config)), soft_wrap=True)

    def report(tried: Tried) -> None:
        console.print(f"trial {tried.number}: {_outcome(tried)}  {_values(tried)}", soft_wrap=True)

    try:
        over = tuning.tune(
            split, out, config, ranges, trials=trials, minutes=minutes, device=device, reporter=reporter, report=report
        )
    except KeyboardInterrupt:
        reporter.console.print(f"stopped: the same command goes on with {out}", soft_wrap=True)
        raise typer.Exit(130) from None
    console.print(f"best of {len(over)}, by {config.select} on validation:")
    for tried in [tried for tried in over if tried.figure is not None][:_SHOWN]:
        console.print(f"  {_outcome(tried)}  {_values(tried)}", soft_wrap=True)
    console.print(
        f"c2f-dgl train {dataset} --preset {out / 'best.yaml'} --out NEW trains with the best", soft_wrap=True
    )


def _outcome(tried: Tried) -> str:
    if tried.figure is not None:
        return f"{tried.figure:.4f}"
    return "ended early" if tried.error is None else f"refused: {tried.error}"


def _values(tried: Tried) -> str:
    show = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    return "  ".join(f"{key}={show(value)}" for key, value in tried.values.items())
