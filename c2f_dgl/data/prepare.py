"""Logs that need not fit into memory, made into a prepared log by DuckDB, which spills to disk what does not fit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet

from c2f_dgl.data.columns import WHOLE_FLOAT, WHOLE_NUMBER, counted, guesses
from c2f_dgl.data.prepared import MANIFEST, VERSION
from c2f_dgl.data.rows import FLOATS, REFUSED, WHOLE, Rows
from c2f_dgl.data.sources import Source, literal, open_source
from c2f_dgl.errors import InputError
from c2f_dgl.extras import check_installed
from c2f_dgl.io.files import check_new_folder, locked, replacing_folder, writing
from c2f_dgl.io.progress import Reporter

if TYPE_CHECKING:
    import duckdb

# Interactions in a part: bounds what is sorted at a time.
PART = 1 << 24


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
    new or empty folder, of which nothing is left where the source cannot be used (`InputError`). Columns, ids, ratings,
    times and repeated pairs are taken as `read_log` takes them; times are kept where `timestamp` names their column.
    DuckDB holds `memory` GiB before it spills to disk, beside `out`. A run that was killed is begun anew.
    """
    check_installed("duckdb", where="data prepare")
    import duckdb

    source, out, reporter = Path(source), Path(out), reporter or Reporter(quiet=True)
    asked = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    check_new_folder(out)
    opened = open_source(source, asked, sep)
    if min_rating is not None and "rating" not in opened.columns:
        raise InputError("min_rating needs a rating column", where=source, expected="--rating NAME")
    _remove_dead(out)
    with reporter.busy(f"preparing {source}"), replacing_folder(out) as folder:
        aside = folder.parent
        with (
            locked(aside, "prepares"),
            _refusals(source, out, opened.form),
            closing(
                duckdb.connect(config={"memory_limit": f"{memory}GiB", "temp_directory": str(aside / "spilled")})
            ) as db,
        ):
            return _Preparation(db, source, opened, asked, min_rating, reporter).write(folder)


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
def _refusals(source: Path, out: Path, form: str) -> Iterator[None]:
    """Turn what DuckDB raises over a file into the one line that names it."""
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
        text = str(error)
        if "No space left" in text:
            raise InputError("cannot write: no space left", where=out, expected="a folder with free space") from error
        if REFUSED in text:
            raise InputError(text.partition(REFUSED)[2]) from error
        line = re.search(r"Line: (\d+)", text)
        named = re.search(r'^\s*file = (.+)$|in file "(.+?)"|file \'(.+?)\'', text, re.MULTILINE)
        where = next(filter(None, named.groups())) if named else source
        fault = re.search("Expected Number of Columns.*|Invalid unicode.*|.*unterminated quote.*", text)
        problem = fault[0] if fault else text.partition(": ")[2].splitlines()[0]
        raise InputError(
            f"not {form}, or damaged: {problem[:200]}", where=where, line=int(line[1]) if line else None, expected=form
        ) from error


class _Preparation:
    """The steps of preparing a log, as tables of a database: raw ids, their indices, pairs of indices.

    A raw id is a value as the files have it; the tables ``users`` and ``items`` hold ``raw``, ``id`` and ``code``.
    """

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        source: Path,
        opened: Source,
        asked: dict[str, Any],
        min_rating: float | None,
        reporter: Reporter,
    ) -> None:
        self.db, self.source, self.opened, self.asked = db, source, opened, asked
        self.min_rating, self.reporter = min_rating, reporter
        self.timed = asked["timestamp"] is not None
        # Times count in UTC, and nothing asks for the order of the rows.
        db.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
        db.execute(f"CREATE VIEW source AS {opened.relation}")
        columns = ", ".join(opened.columns.values())
        described = db.execute(f"DESCRIBE SELECT {columns} FROM source").fetchall()
        self.types = {role: kind for role, (_, kind, *_) in zip(opened.columns, described, strict=True)}

    def _one(self, query: str) -> tuple[Any, ...]:
        """The first row of a query."""
        return self.db.execute(query).fetchall()[0]

    def _step(self, what: str) -> None:
        self.reporter.note(f"preparing {self.source} · {what}")

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the prepared log into an empty folder; the manifest comes back."""
        kept = self._log()
        counts = [self._ids(role, kept) for role in ("user", "item")]
        n_rows, n_incomplete, n_kept = counts[0]
        if counts[1] != counts[0]:
            raise InputError("the files changed while they were read", where=self.source, expected="files at rest")
        self._step("pairs")
        stamp = ", t" if self.timed else ""
        self.db.execute(
            f"CREATE TABLE pairs AS SELECT users.code AS u, items.code AS i{stamp} FROM log "
            f"JOIN users ON log.u = users.raw JOIN items ON log.i = items.raw WHERE {kept}"
        )
        if self._one("SELECT count(*) FROM pairs")[0] != n_kept:
            raise InputError("the files changed while they were read", where=self.source, expected="files at rest")
        for role in ("user", "item"):
            with writing(folder):
                self._copy(f"SELECT id FROM {role}s ORDER BY code", folder / f"{role}s.parquet")
        parts = self._parts(folder)
        n = sum(pyarrow.parquet.read_metadata(folder / part).num_rows for part in parts)
        users, items = (self._one(f"SELECT count(*) FROM {role}s")[0] for role in ("user", "item"))
        manifest = {
            "version": VERSION,
            "users": users,
            "items": items,
            "interactions": n,
            "rows": n_rows,
            "duplicates": n_kept - n,
            "timestamps": self.timed,
            "columns": self.opened.called,
            "parts": parts,
            "notes": self._notes(n_rows, n_incomplete, n_kept, n_kept - n),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return manifest

    def _log(self) -> str:
        """Make the view ``log``: u, i and, where used, r and t; the condition that its rows are kept by comes back."""
        rows, kept = Rows(self.opened, self.types), []
        used = {"u": rows.id("user"), "i": rows.id("item")}
        if self.min_rating is not None:
            used["r"] = rows.number("rating")
            kept.append(f"r >= {float(self.min_rating)!r}::DOUBLE")
        if self.timed:
            text = self.opened.columns["timestamp"]
            query = f"SELECT CAST({text} AS VARCHAR) FROM source WHERE {text} IS NOT NULL LIMIT 1"
            used["t"] = rows.time(next((first for (first,) in self.db.execute(query).fetchall()), None))
        if self.opened.headless:
            kept += ["u IS NOT NULL", "i IS NOT NULL"]
        columns = ", ".join(f"{expression} AS {name}" for name, expression in used.items())
        self.db.execute(f"CREATE VIEW log AS SELECT {columns} FROM source")
        return " AND ".join(kept) or "true"

    def _ids(self, role: str, kept: str) -> tuple[int, int, int]:
        """Make the table of a role's ids: of rows in all, of rows without ids, and of those that are kept."""
        self._step(f"{role}s")
        incomplete = "u IS NULL OR i IS NULL" if self.opened.headless else "false"  # which reads this column alone
        self.db.execute(
            f"CREATE TABLE raw_{role}s AS SELECT {role[0]} AS raw, count(*) AS n_rows, "
            f"count_if({incomplete}) AS n_incomplete, count_if({kept}) AS n FROM log GROUP BY 1"
        )
        sums = "coalesce(sum(n_rows), 0), coalesce(sum(n_incomplete), 0), coalesce(sum(n), 0)"
        n_rows, n_incomplete, n_kept = map(int, self._one(f"SELECT {sums} FROM raw_{role}s"))
        if not n_kept:
            problem = "no interactions left" if n_rows else "no interactions"
            raise InputError(problem, where=self.source, expected="at least one row")
        self.db.execute(
            f"CREATE TABLE {role}s AS SELECT raw, id, n, (row_number() OVER (ORDER BY id) - 1)::INTEGER AS code "
            f"FROM (SELECT raw, n, {self._normal(role)} AS id FROM raw_{role}s WHERE n > 0 AND raw IS NOT NULL)"
        )
        self.db.execute(f"DROP TABLE raw_{role}s")
        return n_rows, n_incomplete, n_kept

    def _normal(self, role: str) -> str:
        """SQL that makes ids of a role's raw ids: BIGINT where all are whole numbers, else VARCHAR."""
        kind, normal = self.types[role], "CAST(raw AS BIGINT)"
        if kind in FLOATS:
            self._check(role, "raw <> floor(raw) OR abs(raw) > 2.0 ** 53", "is not an exact whole number")
        elif kind in WHOLE:
            self._check(role, f"raw > {2**63 - 1}", "is too large", "below 2**63")
        else:
            unlike = [f"count_if(NOT regexp_full_match(raw, '{form}'))" for form in (WHOLE_FLOAT, WHOLE_NUMBER)]
            n_no_float, n_no_number = self._one(f"SELECT {', '.join(unlike)} FROM raw_{role}s")
            if role in self.opened.whole:
                bad = f"NOT regexp_full_match(raw, '{WHOLE_NUMBER}')"
                self._check(role, bad, "is no whole number, as the first one is", "one type of ids")
            if n_no_float == 0:
                normal = "CAST(left(raw, -2) AS BIGINT)"
            elif n_no_number:
                return "raw"
        self._check(role, f"{normal} < 0", "is negative", "ids of 0 or more, or text")
        return normal

    def _check(self, role: str, bad: str, problem: str, expected: str = "whole numbers or text") -> None:
        """Refuse a role's first raw id that is `bad`."""
        if found := self.db.execute(f"SELECT raw FROM raw_{role}s WHERE {bad} LIMIT 1").fetchall():
            raise InputError(f"{role} id {found[0][0]} {problem}", where=self.source, expected=expected)

    def _parts(self, folder: Path) -> list[str]:
        """Write the distinct pairs, sorted, in parts of whole users; names of the parts in their order."""
        (folder / "interactions").mkdir()
        running = f"SELECT code, (sum(n) OVER (ORDER BY code) - n) // {PART} AS part FROM users"
        firsts = self.db.execute(f"SELECT min(code) FROM ({running}) GROUP BY part ORDER BY 1").fetchall()
        bounds = [first for (first,) in firsts] + [2**31]
        names = [f"interactions/part-{number:05}.parquet" for number in range(len(firsts))]
        for number, name in enumerate(names):
            self._step(f"part {number + 1:,} of {len(names):,}")
            rows = f"FROM pairs WHERE u >= {bounds[number]} AND u < {bounds[number + 1]}"
            if self.timed:
                query = f'SELECT u AS "user", i AS item, max(t) AS timestamp {rows} GROUP BY u, i'
            else:
                query = f'SELECT DISTINCT u AS "user", i AS item {rows}'
            self._copy(f"{query} ORDER BY u, i", folder / name)
        return names

    def _copy(self, query: str, path: Path) -> None:
        self.db.execute(
            f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2)"
        )

    def _notes(self, n_rows: int, n_incomplete: int, n_kept: int, n_duplicates: int) -> list[str]:
        """What a reader of the log is told."""
        called = self.opened.called
        in_use = {"user": True, "item": True, "rating": self.min_rating is not None, "timestamp": self.timed}
        used = {role: name for role, name in called.items() if in_use[role]}
        notes = [counted(n_incomplete, "row", "without user or item left out")]
        if "rating" in called and self.min_rating is None:
            notes.append(
                f"ratings in column {called['rating']} not used, every row counts (--min-rating keeps the liked)"
            )
        if "timestamp" in called and not self.timed:
            name = called["timestamp"]
            notes.append(f"times in column {name} not kept (--timestamp {name} keeps them, for splits by time)")
        notes += guesses(self.asked, used, self.opened.headless)
        if self.min_rating is not None and (n_dropped := n_rows - n_incomplete - n_kept):
            rows = n_rows - n_incomplete
            notes.append(f"{n_dropped:,} of {rows:,} rows below rating {self.min_rating:g} dropped")
        return [note for note in [*notes, counted(n_duplicates, "duplicate pair", "merged")] if note]
