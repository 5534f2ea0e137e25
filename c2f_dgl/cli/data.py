"""``c2f-dgl data``: look at, fetch, prepare, split and generate data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from c2f_dgl.cli.common import say
from c2f_dgl.errors import InputError
from c2f_dgl.io.progress import Reporter, plain_console

app = typer.Typer(no_args_is_help=True, help="List, describe, fetch, prepare, split and generate data sets.")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where fetched data sets are. (default: $C2F_DGL_DATA or the user's data folder)"),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty.")]

_TAKES = {"--folds": "rolling or users", "--k": "leave-last or leave-out"}
UserColumn = Annotated[str | None, typer.Option(help="data.user: the user column, by name or place.")]
ItemColumn = Annotated[str | None, typer.Option(help="data.item: the item column.")]
RatingColumn = Annotated[str | None, typer.Option(help="data.rating: the rating column.")]
MinRating = Annotated[float | None, typer.Option(help="data.min_rating: keep rows rated at least this.")]
TimestampColumn = Annotated[str | None, typer.Option(help="data.timestamp: the time column.")]
Separator = Annotated[str | None, typer.Option(help="Separator of the log. (default: found out)")]
ColumnsSet = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One of the five data options above, as `train` takes them."),
]


@app.command("list")
def list_cards(data_dir: DataDir = None) -> None:
    """List the data sets of the catalogue."""
    from rich.table import Table

    from c2f_dgl.data.cards import CARDS, is_here

    table = Table("name", "users", "items", "interactions", "here", "what it is", box=None)
    for card in CARDS.values():
        sizes = (_count(size) for size in (card.n_users, card.n_items, card.n_interactions))
        table.add_row(card.name, *sizes, "yes" if is_here(card, data_dir) else "no", card.title)
    plain_console().print(table)


def _count(size: int | None) -> str:
    return "not known" if size is None else f"{size:,}"


@app.command()
def describe(name: Annotated[str, typer.Argument(help="Name in the catalogue.")], data_dir: DataDir = None) -> None:
    """Show the card of a data set."""
    from c2f_dgl.data.cards import dataset_folder, find_card, is_here

    card = find_card(name)
    here = is_here(card, data_dir)
    density = "" if not card.n_interactions else f" (density {card.n_interactions / card.n_users / card.n_items:.3%})"
    lines = {
        "title": card.title,
        "source": card.source,
        "format": card.form,
        "users": f"{card.n_users:,}",
        "items": f"{card.n_items:,}",
        "interactions": _count(card.n_interactions) + density,
        "notes": card.notes,
        **{file.filename: file.url for file in card.files},
        "folder": str(dataset_folder(card, data_dir)) + ("" if here else f" (not yet: c2f-dgl data fetch {name})"),
    }
    for key, value in lines.items():
        typer.echo(f"{key:<13}{value}")


@app.command("fetch")
def fetch_card(name: Annotated[str, typer.Argument(help="Name in the catalogue.")], data_dir: DataDir = None) -> None:
    """Download a data set; a download that was interrupted goes on where it stopped."""
    from c2f_dgl.data.cards import find_card

    card = find_card(name)  # before pandas is imported
    from c2f_dgl.data.fetch import fetch

    typer.echo(f"{name} is in {fetch(card, data_dir)}")


@app.command()
def split(
    path: Annotated[Path, typer.Argument(help="A file of interactions, or a folder of one log.")],
    out: Out,
    how: Annotated[
        Literal["random", "leave-last", "leave-out", "temporal", "rolling", "users"],
        typer.Option(help="leave-last, temporal and rolling need times; rolling and users make folders 1, 2, ..."),
    ] = "random",
    seed: Annotated[int, typer.Option(min=0, help="Seed of random splits.")] = 2024,
    k: Annotated[
        int | None, typer.Option(min=1, help="Of leave-last and leave-out: items of a user. (default: 1)")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Of rolling: windows (default: 3); of users: groups (default: 5).")
    ] = None,
    valid: Annotated[float | None, typer.Option(help="Fraction that validates. (default: 0.1)")] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Fraction that tests. (default: 0.2 random, 0.1 temporal and rolling)"),
    ] = None,
    user: UserColumn = None,
    item: ItemColumn = None,
    rating: RatingColumn = None,
    min_rating: MinRating = None,
    timestamp: TimestampColumn = None,
    sep: Separator = None,
    set_: ColumnsSet = None,
) -> None:
    """Split a file into train.tsv, valid.tsv and test.tsv (no file for an empty part), a folder for `c2f-dgl train`."""
    if not os.path.exists(path):
        raise InputError("no such file", where=path, expected="a file of interactions")
    several = how in ("rolling", "users")
    for option, value, takes in (("--folds", folds, several), ("--k", k, how.startswith("leave"))):
        if value is not None and not takes:
            raise InputError(f"{how} takes none", where=option, expected="--how " + _TAKES[option])
    from c2f_dgl.data.catalogue import split_interactions
    from c2f_dgl.data.packing import unpacked
    from c2f_dgl.data.readers import read_interactions
    from c2f_dgl.data.writers import write_folds, write_split

    columns = _columns(set_, sep, user=user, item=item, rating=rating, min_rating=min_rating, timestamp=timestamp)
    inter = read_interactions(path, timed=how in ("leave-last", "temporal", "rolling"), **columns)
    name = unpacked(path.resolve()).stem
    made = split_interactions(inter, how, seed=seed, name=name, valid=valid, test=test, k=k, folds=folds)
    (write_folds if several else write_split)(made, out)
    for fold in made if several else [made]:
        for each in fold if isinstance(fold, tuple) else (fold,):
            say(each.summary())


def _columns(overrides: list[str] | None, sep: str | None, **named: Any) -> dict[str, Any]:
    """What options by name, and `overrides` as `train` takes them, say of a log's columns."""
    from c2f_dgl.config.load import load_config

    for override in overrides or []:
        if override.partition("=")[0].strip().removeprefix("data.") not in named:
            expected = f"data.{', data.'.join(named)}"
            raise InputError(f"{override} does not say how to read", where="--set", expected=expected)
    columns = load_config(overrides=overrides or []).data.model_dump(include=set(named), exclude_none=True)
    return columns | {key: value for key, value in {**named, "sep": sep}.items() if value is not None}


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="A file, or a folder of Parquet, CSV or JSON lines at any depth.")],
    out: Out,
    user: UserColumn = None,
    item: ItemColumn = None,
    rating: RatingColumn = None,
    min_rating: MinRating = None,
    timestamp: TimestampColumn = None,
    sep: Separator = None,
    set_: ColumnsSet = None,
    memory: Annotated[
        float, typer.Option(min=0.1, metavar="GIB", help="What DuckDB may hold before it spills to disk.")
    ] = 4.0,
) -> None:
    """Make a log of any size a folder of dense indices, which `c2f-dgl train` reads; needs DuckDB."""
    if not os.path.exists(source):
        raise InputError("no such file or folder", where=source, expected="a log in one or many files")
    from c2f_dgl.data.prepare import prepare as prepare_log

    columns = _columns(set_, sep, user=user, item=item, rating=rating, min_rating=min_rating, timestamp=timestamp)
    made = prepare_log(source, out, **columns, memory=memory, reporter=Reporter())
    counts = f"{made['users']:,} users, {made['items']:,} items, {made['interactions']:,} interactions"
    say("; ".join([f"{out}: {counts} of {made['rows']:,} rows", *made["notes"]]))


@app.command()
def planted(
    out: Out,
    users: Annotated[int, typer.Option(help="Users.")] = 1000,
    items: Annotated[int, typer.Option(help="Items.")] = 800,
    interactions: Annotated[int, typer.Option(help="Interactions aimed at.")] = 28_000,
    coarse: Annotated[int, typer.Option(help="Coarse communities.")] = 6,
    fine: Annotated[int, typer.Option(help="Fine communities inside each coarse one.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the defaults make the built-in sample.")] = 2024,
) -> None:
    """Generate a data set with planted communities: train.txt, test.txt and labels.tsv."""
    from c2f_dgl.data.planted import generate_planted, write_planted

    reporter = Reporter()
    with reporter.busy("drawing interactions"):
        inter, labels = generate_planted(users, items, interactions, coarse, fine, seed=seed)
    with reporter.busy("splitting and writing them"):
        write_planted(inter, labels, out, seed=seed)
    typer.echo(f"{len(inter):,} interactions of {users:,} users and {items:,} items are in {out}")
