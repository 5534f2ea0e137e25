"""How fast a log is prepared, and read: `python -m benchmarks.prepare [--rows 1e7] [--forms parquet csv.gz]`.

A log of random rows with ids of 16 letters, 20 rows a user and 100 an item on average, items by a law of powers, in ten
files of each form. `c2f-dgl data prepare` under its default limit of memory, then `read_interactions` of what it wrote,
each in a process of its own: seconds, rows a second, the most memory that was resident, and bytes on disk. Writes
benchmarks/results/scaling/prepare.json; what is in it already is not measured again.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure

FILES = 10

PREPARE = """
from c2f_dgl.cli.main import app
app(["data", "prepare", LOG, "--out", OUT], standalone_mode=False)
"""

READ = """
from c2f_dgl.data.readers import read_interactions
print(f"{len(read_interactions(OUT)):,} interactions read")
"""

# What a process was before it was this one counts for `getrusage`, but not here.
PEAK = """
import re, resource
status = open("/proc/self/status").read()
print(resource.getrusage(resource.RUSAGE_SELF)[0:2], re.search("VmHWM:[^0-9]*([0-9]+)", status)[1])
"""


def main(rows: Sequence[float] = (1e7,), forms: Sequence[str] = ("parquet", "csv.gz")) -> None:
    machine = measure.machine()
    points = (measure.read("scaling", "prepare") or {"points": []})["points"]
    done = [(point["rows"], point["form"]) for point in points]
    for n, form in ((int(n), form) for n in rows for form in forms):
        if (n, form) not in done:
            with tempfile.TemporaryDirectory(dir=".", prefix=".prepare-") as folder:
                points.append({"machine": machine, "rows": n, "form": form, **one(Path(folder), n, form)})
            print(points[-1], measure.keep("scaling", "prepare", {"points": points}))


def one(folder: Path, rows: int, form: str) -> dict[str, Any]:
    """Figures of one size and form."""
    log, out = folder / "log", folder / "prepared"
    write_log(log, rows, form)
    record: dict[str, Any] = {"bytes_of_log": size(log)}
    for name, code in (("prepare", PREPARE), ("read", READ)):
        started = time.perf_counter()
        code = f"LOG, OUT = {str(log)!r}, {str(out)!r}\n{code}{PEAK}"
        said = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds, (*lines, figures) = time.perf_counter() - started, said.splitlines()
        print(*lines)
        user, system, peak = map(float, re.findall(r"[\d.]+", figures))
        record[name] = {"seconds": seconds, "rows_a_second": rows / seconds, "processor_seconds": user + system}
        record[name]["peak_bytes"] = int(1024 * peak)
    return {**record, "bytes_prepared": size(out)}


def write_log(folder: Path, rows: int, form: str) -> None:
    """Write random rows in files of a form."""
    import duckdb

    folder.mkdir()
    how = "FORMAT parquet" if form == "parquet" else "FORMAT csv, HEADER, COMPRESSION gzip"
    name = "printf('%016X', hash({}))"
    user = name.format(f"(random() * {rows // 20})::BIGINT")
    item = name.format(f"(-1 - random() ** 3 * {rows // 100})::BIGINT")
    duckdb.execute("SELECT setseed(0.5)")
    duckdb.execute("SET threads = 1")
    for number in range(FILES):
        query = f"SELECT {user} AS user_id, {item} AS item_id FROM range({rows // FILES})"
        duckdb.execute(f"COPY ({query}) TO '{folder / f'part-{number}.{form}'}' ({how})")


def size(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    measure.command(main)
