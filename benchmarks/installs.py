"""What an installation downloads, in megabytes: `python -m benchmarks.installs [--extras train serve ...]`.

For each extra the files that pip takes for this Python with constraints.txt: how many, their bytes, and those of what
is in them. Which build of torch it is depends on where pip looks, so that rows are kept by extra and torch's version,
and those measured elsewhere stay. Writes benchmarks/results/installs/sizes.json, which bin/setup reads, too.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from c2f_dgl.extras import EXTRAS

ROOT = Path(__file__).parents[1]


def main(extras: Sequence[str] = ("", *EXTRAS, "dev")) -> None:
    for extra in extras:
        with measure.folder() as folder:
            row = {"extra": extra, "python": platform.python_version(), **taken(folder, extra)}
        kept = measure.read("installs", "sizes") or {"rows": []}
        rows = {(row["extra"], row["torch"]): row for row in (*kept["rows"], row)}
        print(row, measure.keep("installs", "sizes", {"rows": list(rows.values())}))


def taken(folder: Path, extra: str) -> dict[str, Any]:
    """Number and bytes of the wheels that pip takes for an extra, and which torch is among them."""
    download = ["-m", "pip", "download", "--quiet", "--constraint", "constraints.txt", "--dest", str(folder)]
    subprocess.run([sys.executable, *download, f".[{extra}]" if extra else "."], cwd=ROOT, check=True)
    files = [file for file in folder.iterdir() if not file.name.startswith("c2f_dgl-")]
    torch = next((file.name.split("-")[1] for file in files if file.name.startswith("torch-")), None)
    wheels = [zipfile.ZipFile(file) for file in files if file.suffix == ".whl"]
    unpacked = sum(entry.file_size for wheel in wheels for entry in wheel.infolist())
    size = sum(file.stat().st_size for file in files)
    return {"torch": torch, "files": len(files), "bytes": size, "bytes_unpacked": unpacked}


def table() -> str:
    """Megabytes by extra, and by the build of torch where there is one; without a local version it has CUDA (Linux)."""
    rows = measure.read("installs", "sizes")["rows"]
    order = [row["extra"] for row in rows]
    lines = []
    for row in sorted(rows, key=lambda row: order.index(row["extra"])):
        name = f"`'c2f_dgl[{row['extra']}]'`" if row["extra"] else "`c2f_dgl`"
        torch = "" if row["torch"] is None else row["torch"] + ", with CUDA" * ("+" not in row["torch"])
        sizes = f"{row['bytes'] / 1e6:,.0f} | {row['bytes_unpacked'] / 1e6:,.0f}"
        lines.append(f"{name} | {torch} | {row['files']} | {sizes}")
    return measure.table("`pip install` | torch | files | MB to download | MB on disk", lines)


if __name__ == "__main__":
    measure.command(main)
