"""What several commands share: options, and how they print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from c2f_dgl.io.progress import plain_console

DatasetArgument = Annotated[str, typer.Argument(help="A name from `c2f-dgl data list`, or a path.", show_default=False)]
ServedArgument = Annotated[
    Path, typer.Argument(metavar="RUN|MODEL", help="Folder of a run, or a model file of `export`.", show_default=False)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an option; may be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
StageOption = Annotated[
    str | None, typer.Option(help="The best model of this stage; by default of the one chosen on validation.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", metavar="PATH", help="Where the run's data is now; by default where it was.")
]
UsersOption = Annotated[
    Path | None, typer.Option("--users", help="File of users' histories that `export --users` wrote.")
]


def data_source(dataset: str) -> str:
    """A catalogue name as it is; a path made absolute, so that the run can be evaluated from anywhere."""
    from c2f_dgl.data.cards import find_source

    card, path = find_source(dataset)
    return str(path.resolve()) if card is None else dataset


def say(text: str, *, stderr: bool = False) -> None:
    """Print a line, however long it is."""
    plain_console(stderr=stderr).print(text, soft_wrap=True)


def print_table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Print rows of figures by name; the first of the columns is that of the names."""
    from rich.table import Table

    table = Table(columns[0], title=title, title_justify="left")
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(name, *values)
    plain_console().print(table)


def print_stages(summary: dict[str, Any]) -> None:
    """Print the best of each stage of a run as a table."""
    rows = {}
    for name, stage in summary["stages"].items():
        figures = [
            f"{stage[split][metric]:.4f}" if stage[split] else "–"
            for split in ("valid", "test")
            for metric in ("ndcg@20", "recall@20")
        ]
        rows[name] = [*figures, f"{stage['parameters']['total']:,}", str(stage["epoch"]), f"{stage['seconds']:.0f}"]
    columns = ("stage", "valid N@20", "valid R@20", "test N@20", "test R@20", "learned values", "epoch", "seconds")
    print_table(f"{summary['data']}, best of each stage", columns, rows)
    if n := summary.get("users_drawn"):
        say(f"figures of {n:,} users, drawn at random: c2f-dgl evaluate ranks for all")


def total_and_parts(counts: dict[str, int], unit: str) -> str:
    """A count with what it is made of in brackets."""
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items() if name != "total")
    return f"{counts['total']:,}{unit} ({parts})"


@contextmanager
def stoppable(how_to_go_on: str) -> Iterator[None]:
    """Where Ctrl-C stops the body, end the command with exit code 130 and a line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if how_to_go_on:
            say(f"stopped: {how_to_go_on}", stderr=True)
        raise typer.Exit(130) from None
