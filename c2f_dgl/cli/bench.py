"""``c2f-dgl bench``: every system at the same budget, one row each; ``tune``: options of a preset, searched."""

from __future__ import annotations

import difflib
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c2f_dgl.cli.common import DatasetArgument, DeviceOption, SetOption, data_source, say, stoppable
from c2f_dgl.errors import InputError
from c2f_dgl.extras import check_installed
from c2f_dgl.io.files import check_new_folder, write_text
from c2f_dgl.io.progress import Reporter

if TYPE_CHECKING:
    from c2f_dgl.bench.run import Bench, Job
    from c2f_dgl.bench.table import Results
    from c2f_dgl.bench.tuning import Tried

# Learned values per entity where no budget is given: those of the preset `fast`.
_VALUES_PER_ENTITY = 128 / 48

# Trials that the table at the end of a search shows.
_SHOWN = 5


def bench(
    dataset: DatasetArgument,
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
    from c2f_dgl.config.load import parse_data
    from c2f_dgl.training.checks import check_device

    source = data_source(dataset)
    data = parse_data([option for option in set_ or [] if option.startswith("data.")])
    options = [option for option in set_ or [] if not option.startswith("data.")]
    check_systems(f"{against},{systems}", options)
    check_new_folder(out, "a new folder, or that of a bench to go on with", begun="bench.json")
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
    say(split.summary())
    command = shlex.join(["c2f-dgl", *sys.argv[1:]])
    statuses: set[str] = set()

    def report(job: Job, record: dict[str, Any]) -> None:
        statuses.add(record["status"])
        say(_line(job, record))
        if job.trial is None:
            _write(common, out, control, command)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the process of a run is ended, too
    with stoppable(f"the same command goes on with {out}"):
        run_bench(common, references, seeds, out, report)
    rows = _write(common, out, control, command).rows
    for suffix in ("svg", "png"):
        plot.draw(out / f"accuracy.{suffix}", f"{split.name}: accuracy against learned values", rows)
    say(f"{out}: results.json, results.csv, results.md, accuracy.svg, accuracy.png")
    if statuses == {"failed"}:
        raise typer.Exit(1)


def _settings(options: list[str], references: list[str]) -> dict[str, Any]:
    """``name=value`` options, each one that a system has."""
    import yaml

    from c2f_dgl.baselines.registry import find_system

    known = {name for reference in references for name in type(find_system(reference).defaults).model_fields}
    _check_settings(options, known)
    pairs = (option.split("=", 1) for option in options)
    return {name: yaml.safe_load(value) for name, value in pairs}


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


def tune(
    dataset: DatasetArgument,
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
    set_: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the split and of every trial.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Search options of a preset for DATASET on validation; the best is a preset for `train --preset OUT/best.yaml`."""
    from c2f_dgl.config.load import load_config
    from c2f_dgl.config.ranges import default_ranges, parse_range
    from c2f_dgl.training.checks import check_device

    config = load_config(preset, [*(set_ or []), *([] if seed is None else [f"seed={seed}"])])
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": data_source(dataset)})})
    ranges = [parse_range(text, config) for text in range_ or default_ranges(config)]
    check_device(device)
    check_new_folder(out, "a new folder, or that of a search to go on with", begun="study.jsonl")
    check_installed("optuna", where="tune")
    reporter = Reporter()
    with reporter.busy("reading the data"):
        from c2f_dgl.data.catalogue import load_split

        split = load_split(config)  # before torch is imported: a wrong column is told at once
        from c2f_dgl.bench import tuning
    say(split.summary())
    say("searched: " + "  ".join(range_ or default_ranges(config)))

    report = lambda tried: say(f"trial {tried.number}: {_shown(tried)}")
    with stoppable(f"the same command goes on with {out}"):
        over = tuning.tune(
            split, out, config, ranges, trials=trials, minutes=minutes, device=device, reporter=reporter, report=report
        )
    say(f"best of {len(over)}, by {config.select} on validation:")
    for tried in [tried for tried in over if tried.figure is not None][:_SHOWN]:
        say(f"  {_shown(tried)}")
    say(f"c2f-dgl train {dataset} --preset {out / 'best.yaml'} --out NEW trains with the best")


def _shown(tried: Tried) -> str:
    """How a trial went, and its values."""
    ended = "ended early" if tried.error is None else f"refused: {tried.error}"
    outcome = ended if tried.figure is None else f"{tried.figure:.4f}"
    short = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    return "  ".join([outcome, *(f"{key}={short(value)}" for key, value in tried.values.items())])


def check_systems(names: str, settings: Sequence[str]) -> None:
    """Raise `InputError` for an unknown system, or a setting ``name=value`` that no system has.

    Both are read off the sources; a system of ``module:attribute`` may have any settings.
    """
    files = resources.files("c2f_dgl.baselines").iterdir()
    source = "".join(file.read_text(encoding="utf-8") for file in files if file.name.endswith(".py"))
    systems = re.findall(r'\bSystem\(\s*"([^"]+)"', source)
    families = {system.partition("-")[0] for system in systems}
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if ":" not in name and name not in {"all", *families, *systems}:
            near = difflib.get_close_matches(name, systems, n=1, cutoff=0.3)
            raise InputError(f"no system {name!r}", where="--systems", expected=f"e.g. {(near or systems)[0]}")
    if not any(":" in name for name in asked):
        _check_settings(settings, set(re.findall(r"^    (\w+): .+ = Field\(", source, flags=re.MULTILINE)))


def _check_settings(settings: Sequence[str], known: set[str]) -> None:
    for setting in settings:
        name, equals, _ = setting.partition("=")
        if not equals or name not in known:
            names = ", ".join(["data.NAME", *sorted(known)])
            raise InputError(f"no system has {setting!r}", where="--set", expected=f"NAME=VALUE, NAME one of {names}")
