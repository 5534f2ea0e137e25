"""Logs that need not fit into memory, made into a prepared log by DuckDB, which spills to disk what does not fit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from c2f_dgl.data.columns import (
    Origin,
    are_dates,
    choose_columns,
    counted,
    final_ids,
    guesses,
    is_number,
    numbers,
    raw_ids,
    times,
)
from c2f_dgl.data.interactions import check_left, dropped
from c2f_dgl.data.packing import reading, suffix_of, unpacked
from c2f_dgl.data.readers import MANIFEST, VERSION
from c2f_dgl.data.tables import LIGHTGCN, LOG_SUFFIXES, Table, form_of, joined, read_batches
from c2f_dgl.errors import InputError
from c2f_dgl.extras import check_installed
from c2f_dgl.io.files import check_new_folder, locked, replacing_folder, writing
from c2f_dgl.io.progress import Reporter

if TYPE_CHECKING:
    import duckdb

# Interactions in a part: bounds what is sorted at a time.
PART = 1 << 24

_EXPECTED = "Parquet, CSV, TSV or JSON lines"


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    min_rating: float | None = None,
    timestamp: str | int | None = None,
    sep: str | None = None,
    memory: float = 4.0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Make a prepared log, which `load_dataset` and `train` read, of a log in one or many files; its manifest.

    `source` is a file, or a folder of files of one form at any depth: Parquet, delimited text or JSON lines. `out` is a
    new or empty folder, of which nothing is left where the source cannot be used. Rows are taken as `read_log` takes
    them, times where `timestamp` names their column. DuckDB holds `memory` GiB, beside the distinct ids, before it
    spills to disk, beside `out`.
    """
    check_installed("duckdb", where="data prepare")
    import duckdb

    source, out, reporter = Path(source), Path(out), reporter or Reporter(quiet=True)
    asked = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    check_new_folder(out)
    files = _files(source, sep)
    _remove_dead(out)
    with reporter.busy(f"preparing {source}"), replacing_folder(out) as folder:
        aside = folder.parent
        config: dict[str, Any] = {"memory_limit": f"{memory}GiB", "temp_directory": str(aside / "spilled")}
        with locked(aside, "prepares"), _refusals(source, out), closing(duckdb.connect(config=config)) as db:
            db.execute("SET preserve_insertion_order = false; SET enable_progress_bar = false")
            return _Preparation(db, source, asked, min_rating, reporter).write(files, sep, folder)


def _files(source: Path, sep: str | None) -> list[Path]:
    """The files of a log in a folder, all of the same form, in the order of their names; a file alone."""
    with reading(source, "a log"):
        hidden = lambda file: any(part.startswith((".", "_")) for part in file.relative_to(source).parts)
        found = (file for file in source.rglob("*") if suffix_of(file) in LOG_SUFFIXES and not hidden(file))
        files = sorted(found) if source.is_dir() else [source]
    if not files:
        raise InputError("no log in this folder", where=source, expected=_EXPECTED)
    if {"train", "test"} <= {unpacked(file).stem for file in files if file.parent == source}:
        raise InputError("this is split already", where=source, expected="a log in one or many files")
    forms: dict[str, Path] = {}
    for file in files:
        forms.setdefault(form_of(file, sep), file)
    if len(forms) > 1:
        names = " and ".join(f"{form} ({file.relative_to(source)})" for form, file in forms.items())
        raise InputError(f"holds {names}", where=source, expected="files of one form")
    if LIGHTGCN in forms:
        raise InputError("lines have no separator", where=source, expected=f"a log with columns: {_EXPECTED}")
    return files


def _remove_dead(out: Path) -> None:
    """Remove what runs that were killed have left beside `out`; those that still go hold a lock."""
    for aside in out.parent.glob(f".{out.name}.*.part") if out.parent.is_dir() else ():
        if (aside / ".lock").exists():
            try:
                with locked(aside, "prepares"):
                    pass
            except InputError:
                continue
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _refusals(source: Path, out: Path) -> Iterator[None]:
    """Turn what DuckDB raises where it lacks memory or space, or is interrupted, into what it is to the user."""
    import duckdb

    try:
        yield
    except RuntimeError as error:
        if "interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from error
    except duckdb.OutOfMemoryException as error:
        problem = str(error).splitlines()[0].removeprefix("Out of Memory Error: ")
        expected = "--memory GIB above it, and free space beside --out"
        raise InputError(problem, where=source, expected=expected) from error
    except duckdb.Error as error:
        if "No space left" not in str(error):
            raise
        raise InputError("cannot write: no space left", where=out, expected="a folder with free space") from error


@dataclass
class _Preparation:
    """The steps of preparing a log, by tables of a database.

    ``log`` has raw ids ``user`` and ``item`` of all rows, whether they are ``kept``, and a ``timestamp`` where those
    are kept; ``users`` and ``items`` have ``raw``, ``id`` and ``code`` of all ids in kept rows.
    """

    db: duckdb.DuckDBPyConnection
    source: Path
    asked: dict[str, Any]
    min_rating: float | None
    reporter: Reporter
    n_rows: int = 0  # without the incomplete ones, as is `n_kept`
    n_kept: int = 0

    @property
    def timed(self) -> bool:
        """Whether times are kept."""
        return self.asked["timestamp"] is not None

    def write(self, files: list[Path], sep: str | None, folder: Path) -> dict[str, Any]:
        """Write the prepared log into an empty folder; the manifest comes back."""
        table = self._read(files, sep, folder.parent / "rows")
        check_left(self.n_kept, self.n_rows, self.source)
        users, items = (self._ids(role, folder) for role in ("user", "item"))
        self._step("pairs")
        stamp = ", timestamp AS t" if self.timed else ""
        self.db.execute(
            f"CREATE TABLE pairs AS SELECT users.code AS u, items.code AS i{stamp} FROM log "
            'JOIN users ON log."user" = users.raw JOIN items ON log.item = items.raw WHERE kept'
        )
        parts = self._parts(folder)
        n = sum(pyarrow.parquet.read_metadata(folder / part).num_rows for part in parts)
        manifest = {
            "version": VERSION,
            "users": users,
            "items": items,
            "interactions": n,
            "rows": self.n_rows + table.n_incomplete,
            "duplicates": self.n_kept - n,
            "timestamps": self.timed,
            "columns": table.names,
            "parts": parts,
            "notes": self._notes(table, self.n_kept - n),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return manifest

    def _step(self, what: str) -> None:
        self.reporter.note(f"preparing {self.source} · {what}")

    def _read(self, files: list[Path], sep: str | None, aside: Path) -> Table:
        """Make the view ``log`` of checked rows, which are written aside; what was said of them comes back."""
        aside.mkdir()
        dated: bool | None = None
        read: list[Table] = []
        choose = lambda columns, file: choose_columns(columns, self.asked, file)
        numbered = any(map(is_number, self.asked.values()))
        for number, table in enumerate(read_batches(self.source, files, choose, sep=sep, numbered=numbered)):
            frame, origin = table.frame, table.origin
            if self.min_rating is not None and "rating" not in frame:
                raise InputError("min_rating needs a rating column", where=self.source, expected="--rating NAME")
            rows = pd.DataFrame({role: raw_ids(frame[role], role, origin) for role in ("user", "item")})
            rows["kept"] = self.min_rating is None or numbers(frame["rating"], "rating", origin) >= self.min_rating
            if self.timed:
                dated = are_dates(frame["timestamp"], origin) if dated is None else dated
                rows["timestamp"] = times(frame["timestamp"], origin, dated)
            rows.to_parquet(aside / f"{number:06}.parquet", index=False)
            read.append(replace(table, frame=frame[:0]))
            self.n_rows += len(rows)
            self.n_kept += int(rows["kept"].sum())
            self._step(f"{self.n_rows:,} rows")
        pattern = re.sub(r"([*?\[])", r"[\1]", str(aside)) + "/*.parquet"
        self.db.execute(f"CREATE VIEW log AS SELECT * FROM read_parquet({_literal(pattern)}, union_by_name=true)")
        return joined(read)

    def _ids(self, role: str, folder: Path) -> int:
        """Make the table of a role's ids and write them; how many there are comes back."""
        self._step(f"{role}s")
        query = f'SELECT "{role}" AS raw, count_if(kept)::BIGINT AS n FROM log GROUP BY 1'
        ids = self.db.execute(query).df()
        ids["id"] = final_ids(ids["raw"], role, Origin(self.source, unit=""))
        # Of all rows the ids say whether they are numbers, but nobody asked for those of dropped rows.
        ids = ids[ids["n"] > 0].sort_values("id", ignore_index=True)
        table = pyarrow.Table.from_pandas(ids.assign(code=ids.index.astype(np.int32)), preserve_index=False)
        self.db.register(f"{role}s", table)
        with writing(folder):
            pyarrow.parquet.write_table(table.select(["id"]), folder / f"{role}s.parquet", compression="zstd")
        return len(ids)

    def _parts(self, folder: Path) -> list[str]:
        """Write the distinct pairs, sorted, in parts of whole users; names of the parts in their order."""
        (folder / "interactions").mkdir()
        running = f"SELECT code, (sum(n) OVER (ORDER BY code) - n) // {PART} AS part FROM users"
        firsts = self.db.execute(f"SELECT min(code) FROM ({running}) GROUP BY part ORDER BY 1").fetchall()
        bounds = [first for (first,) in firsts] + [2**31]
        names = [f"interactions/part-{number:05}.parquet" for number in range(len(firsts))]
        stamp = ", max(t) AS timestamp" if self.timed else ""
        for number, name in enumerate(names):
            self._step(f"part {number + 1:,} of {len(names):,}")
            self.db.execute(
                f'COPY (SELECT u AS "user", i AS item{stamp} FROM pairs WHERE u >= {bounds[number]} '
                f"AND u < {bounds[number + 1]} GROUP BY u, i ORDER BY u, i) "
                f"TO {_literal(str(folder / name))} (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2)"
            )
        return names

    def _notes(self, table: Table, n_duplicates: int) -> list[str]:
        """What a reader of the log is told."""
        notes, used = table.mended(), dict(table.names)
        if self.min_rating is None and (name := used.pop("rating", None)):
            notes.append(f"ratings in column {name} not used, every row counts (--min-rating keeps the liked)")
        if not self.timed and (name := used.pop("timestamp", None)):
            notes.append(f"times in column {name} not kept (--timestamp {name} keeps them, for splits by time)")
        notes += guesses(self.asked, used, table.headless)
        notes += dropped(self.n_rows - self.n_kept, self.n_rows, self.min_rating)
        return [note for note in (*notes, counted(n_duplicates, "duplicate pair", "merged")) if note]


def _literal(text: str) -> str:
    """Text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
