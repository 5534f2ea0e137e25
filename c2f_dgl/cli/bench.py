"""``c2f-dgl bench``: every system at the same budget, one row each."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c2f_dgl.cli.runs import DeviceOption, data_source
from c2f_dgl.extras import check_installed
from c2f_dgl.io.files import write_text
from c2f_dgl.io.progress import Reporter, plain_console

if TYPE_CHECKING:
    from c2f_dgl.bench.run import Bench, Job
    from c2f_dgl.bench.table import Results

# Learned values per entity where no budget is given: those of the preset `fast`.
_VALUES_PER_ENTITY = 128 / 48


def bench(
    dataset: Annotated[str, typer.Argument(help="A name from `c2f-dgl data list`, or a path.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder; that of a stopped bench is gone on with.", show_default=False)],
    systems: Annotated[
        str,
        typer.Option(help="all, or a list with commas of names and families (docs/baselines.md) or module:attribute."),
    ] = "all",
    parameters: Annotated[
        int | None, typer.Option(min=1, help="Learned values of each system. (default: 128/48 per user and item)")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The first one; tuning uses it.")] = 2024,
    budget: Annotated[float, typer.Option(min=0.001, help="Minutes of training for each run and trial.")] = 10.0,
    tune: Annotated[int, typer.Option(min=0, help="Trials for each system, judged on validation; 0: defaults.")] = 0,
    against: Annotated[str, typer.Option(help="The system that the others are tested against.")] = "c2f-fast",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A hyper-parameter of every system that has it, e.g. epochs, or an option data.NAME as of train.",
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train systems side by side on DATASET: accuracy, learned values, bytes, seconds, memory, significance."""
    from c2f_dgl.cli.checks import check_begun_folder, check_systems
    from c2f_dgl.config.load import parse_data
    from c2f_dgl.training.checks import check_device

    source = data_source(dataset)
    data = parse_data([option for option in set_ or [] if option.startswith("data.")])
    options = [option for option in set_ or [] if not option.startswith("data.")]
    check_systems(f"{against},{systems}", options)
    check_begun_folder(out, "bench.json", "bench")
    check_device(device)
    reporter = Reporter()
    with reporter.busy("reading the data"):
        from c2f_dgl.data.catalogue import read_data
        from c2f_dgl.data.splits import check_part

        split = read_data(source, data, seed)  # before torch is imported: a wrong column is told at once
        for part in ("valid", "test"):
            check_part(split, part)
        from c2f_dgl.baselines.registry import select_systems
        from c2f_dgl.bench import plot
        from c2f_dgl.bench.run import Bench, run_bench

        check_installed("matplotlib", where="bench")
        control = select_systems(against)[0]
        references = select_systems(f"{control},{systems}")
        n_entities = split.n_users + split.n_items
        common = Bench(
            data=source,
            name=split.name,
            fingerprint=split.fingerprint,
            n_entities=n_entities,
            values=round(_VALUES_PER_ENTITY * n_entities) if parameters is None else parameters,
            minutes=budget,
            tune=tune,
            seed=seed,
            device=device,
            settings=_settings(options, references),
            reading=data.model_dump(mode="json", exclude={"source"}, exclude_defaults=True),
        )
        for reference in references:
            common.job(reference, seed, {})  # refuses a setting that is out of range
    console = plain_console()
    console.print(split.summary(), soft_wrap=True)
    command = shlex.join(["c2f-dgl", *sys.argv[1:]])
    statuses: set[str] = set()

    def report(job: Job, record: dict[str, Any]) -> None:
        statuses.add(record["status"])
        console.print(_line(job, record), soft_wrap=True)
        if job.trial is None:
            _write(common, out, control, command)

    try:
        run_bench(common, references, seeds, out, report)
    except KeyboardInterrupt:
        reporter.console.print(f"stopped: the same command goes on with {out}", soft_wrap=True)
        raise typer.Exit(130) from None
    rows = _write(common, out, control, command).rows
    for suffix in ("svg", "png"):
        plot.draw(out / f"accuracy.{suffix}", f"{split.name}: accuracy against learned values", rows)
    console.print(f"{out}: results.json, results.csv, results.md, accuracy.svg, accuracy.png", soft_wrap=True)
    if statuses == {"failed"}:
        raise typer.Exit(1)


def _settings(options: list[str], references: list[str]) -> dict[str, Any]:
    """``name=value`` options, each one that a system has."""
    import yaml

    from c2f_dgl.baselines.registry import find_system
    from c2f_dgl.cli.checks import unknown_setting

    settings = {}
    known = {name for reference in references for name in type(find_system(reference).defaults).model_fields}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in known:
            raise unknown_setting(option, known)
        settings[name] = yaml.safe_load(value)
    return settings


def _write(common: Bench, out: Path, control: str, command: str) -> Results:
    """Renew the tables from the records there are."""
    from c2f_dgl.baselines.registry import find_system
    from c2f_dgl.bench import table

    name = find_system(control).name
    results = table.Results(common, command, name, table.collect(common, out, control))
    write_text(out / "results.json", table.as_json(results))
    write_text(out / "results.csv", table.as_csv(results.rows))
    write_text(out / "results.md", table.as_markdown(results))
    return results


def _line(job: Job, record: dict[str, Any]) -> str:
    head = f"{job.system:<16} {job.occasion:<10}"
    if record["status"] == "failed":
        return f"{head} failed: {record['error']}"
    part = "test" if job.trial is None else "valid"
    return (
        f"{head} {part} N@20 {record[part]['ndcg@20']:.4f}  R@20 {record[part]['recall@20']:.4f}  "
        f"{record['values']['total']:>10,} values  {record['seconds']:>7.1f} s  "
        f"{record['peak_bytes'] / 2**20:>6,.0f} MiB"
    )
