"""``c2f-dgl recommend``: items for some users or a history on the terminal, or for all users into a file."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c2f_dgl.cli.common import DataOption, DeviceOption, JsonOption, ServedArgument, StageOption, UsersOption, say
from c2f_dgl.errors import InputError
from c2f_dgl.io.progress import Reporter, plain_console

if TYPE_CHECKING:
    import numpy as np

    from c2f_dgl.data.ids import IdMap

    # Rows of users and k to their items and scores (n x k), best first, -inf where there are fewer.
    Ranking = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]

log = logging.getLogger("c2f_dgl")

# Users whose items are written at once.
_BLOCK = 8192


def recommend(
    run: ServedArgument,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="More items of --history.", show_default=False)
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(metavar="ITEM...", help="Of a model file: items that someone has had.", show_default=False),
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option(help="A user's id, as in the data; may be repeated.", show_default=False)
    ] = None,
    users: UsersOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All users, into --out.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="A .csv or .parquet with columns user, rank, item and score.", show_default=False),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items for each user.")] = 10,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also items the user has had, of a run held-out ones too.")
    ] = False,
    candidates: Annotated[
        Path | None, typer.Option(help="Only items of this table, whose first column is their ids.", show_default=False)
    ] = None,
    exclude: Annotated[Path | None, typer.Option(help="No items of this table.", show_default=False)] = None,
    stage: StageOption = None,
    data_: DataOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Recommend items: to users of a run, or by a model file for a history."""
    if more and history is None:
        raise InputError(f"unexpected {more[0]!r}", where=run, expected="--history before items")
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise InputError("no such format", where=f"--out {out}", expected="a name that ends in .csv or .parquet")
    if all_ and out is None:
        raise InputError("where to?", where="--all", expected="--out FILE")
    for file in (candidates, exclude):
        if file is not None and not file.exists():
            raise InputError("no such file", where=file, expected="a table whose first column is ids of items")
    ways = (history is not None) + (user is not None) + all_
    reporter = Reporter(quiet=json_)
    if run.is_file():
        if ways != 1 or (history is None and users is None):
            expected = "--history ITEM..., or --users FILE with --user ID or --all"
            raise InputError("for whom?", where=run, expected=expected)
        history = history and [*history, *(more or [])]
        names, ranking, titles = _of_file(run, history, user, users, include_seen, (candidates, exclude))
    else:
        from c2f_dgl.training.checks import check_run

        check_run(run, stage=stage, source=data_, device=device)
        if ways != 1 or history is not None:
            raise InputError("for whom?", where=run, expected="--user ID or --all (--history is of a model file)")
        names, ranking = _of_run(run, user, include_seen, (candidates, exclude), stage, data_, device, reporter)
        titles = None
    if out is not None:
        _write(out, names, ranking, k, reporter)
        return
    import numpy as np

    ranked = {}
    for name, items, scores in zip(names, *ranking(np.arange(len(names)), k), strict=True):
        n = int((scores > -math.inf).sum())
        pairs = zip(items[:n].tolist(), scores[:n].tolist(), strict=True)
        ranked[str(name)] = [{"item": item, "score": round(score, 6)} for item, score in pairs]
    if json_:
        print(json.dumps(ranked))
        return
    from rich.table import Table

    for name, entries in ranked.items():
        table = Table("rank", title=f"user {name}" if user else name, title_justify="left")
        table.add_column("item", overflow="fold")  # never cut: an id must be told from another
        if titles is not None:
            table.add_column("title")
        table.add_column("score", no_wrap=True)
        for rank, entry in enumerate(entries, 1):
            title = [] if titles is None else [titles[entry["item"]]]
            table.add_row(str(rank), str(entry["item"]), *title, f"{entry['score']:.4f}")
        plain_console().print(table)


def _of_file(
    path: Path,
    history: list[str] | None,
    user: list[str] | None,
    users: Path | None,
    include_seen: bool,
    limits: tuple[Path | None, Path | None],
) -> tuple[np.ndarray, Ranking, dict[object, str] | None]:
    """Ids and ranking by a model file, of a history or of users of the file `users`; titles by id, where it has any."""
    import numpy as np

    from c2f_dgl.serving import ServingModel, UserHistories

    model = ServingModel.load(path)
    if history is not None:
        names, histories = np.array(["history"]), model.histories([history])
    else:
        assert users is not None
        known = UserHistories.load(users, model.items)
        rows = np.arange(len(known)) if user is None else known.ids.rows(user)
        names, histories = known.ids.ids[rows], known.histories.take(rows)
    allowed = _allowed(model.items, *limits)
    among = None if allowed is None else model.items.ids[allowed]

    def ranking(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return model.recommend_rows(histories.take(rows), k, exclude_seen=not include_seen, candidates=among)

    titles = None if model.titles is None else dict(zip(model.items.ids.tolist(), model.titles, strict=True))
    return names, ranking, titles


def _allowed(items: IdMap, candidates: Path | None, exclude: Path | None) -> np.ndarray | None:
    """Rows of the candidates but for those that are excluded; None for all items."""
    if candidates is None and exclude is None:
        return None
    import numpy as np

    from c2f_dgl.data.readers import read_leading

    allowed = np.full(len(items), candidates is None)
    for path, is_allowed in ((candidates, True), (exclude, False)):
        if path is not None:
            rows = items.find(read_leading(path, ("item",), numbered=True)[0]["item"].to_numpy(dtype=object))
            if not (rows >= 0).any():
                expected = "ids of items, in its first column"
                raise InputError("names no item that is known", where=path, expected=expected)
            if n := int((rows < 0).sum()):
                log.warning("%s: %d of %d items are unknown, and left out", path, n, len(rows))
            allowed[rows[rows >= 0]] = is_allowed
    if not allowed.any():
        raise InputError("no item is left", where=exclude, expected="fewer items than --candidates has")
    return np.flatnonzero(allowed)


def _of_run(
    run: Path,
    user: list[str] | None,
    include_seen: bool,
    limits: tuple[Path | None, Path | None],
    stage: str | None,
    source: str | None,
    device: str,
    reporter: Reporter,
) -> tuple[np.ndarray, Ranking]:
    """Ids and ranking of some or all users of a run."""
    with reporter.busy("loading the run"):
        import numpy as np

        from c2f_dgl import api
        from c2f_dgl.data.ids import IdMap
        from c2f_dgl.evaluation.ranking import top_items

        model, data = api.load_run(run, stage=stage, device=device, source=source)
        chosen = np.arange(data.n_users) if user is None else IdMap(data.user_ids, "user").rows(user, where="--user")
        among, scorer = _allowed(IdMap(data.item_ids, "item"), *limits), model.scorer()
        seen = None if include_seen else data.train + data.valid + data.test
    if cold := [name for name, row in zip(user or [], chosen, strict=False) if not data.train[row].nnz]:
        names = ", ".join(cold)
        say(f"nothing to go by in the training part: {names}: all items are alike", stderr=True)

    def ranking(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        items, scores = top_items(scorer, chosen[rows], k, seen, among=among)
        return data.item_ids[items], scores

    return data.user_ids[chosen], ranking


def _write(out: Path, names: np.ndarray, ranking: Ranking, k: int, reporter: Reporter) -> None:
    """Items of all users, block by block; the file is moved into place when it is whole."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv, parquet

    from c2f_dgl.io.files import replacing

    # Ids are text or whole numbers; said, as a block may have none of them.
    typed = lambda ids: pa.array(ids, pa.string() if ids.dtype.kind in "OU" else None)
    writer = None
    with reporter.bar("users") as report, replacing(out) as aside:
        for start in range(0, len(names), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(names)))
            items, scores = ranking(rows, k)
            user, rank = np.nonzero(scores > -np.inf)
            users, items = typed(names[rows][user]), typed(items[user, rank])
            table = pa.table({"user": users, "rank": rank + 1, "item": items, "score": scores[user, rank]})
            if writer is None:
                writer = (csv.CSVWriter if out.suffix == ".csv" else parquet.ParquetWriter)(aside, table.schema)
            writer.write_table(table)
            report(start + len(rows), len(names))
        if writer is not None:
            writer.close()
    say(f"{out}: {len(names):,} users", stderr=True)
