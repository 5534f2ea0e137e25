"""What an installation downloads, in megabytes: `python -m benchmarks.installs [--extras train serve ...]`.

For each extra the files that pip takes for this Python with constraints.txt: how many, their bytes, and those of what
is in them. Which build of torch it is depends on where pip looks, so that rows are kept by extra and torch's version,
and those measured elsewhere stay. Writes benchmarks/results/installs/sizes.json, which bin/setup reads, too.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks import measure
from c2f_dgl.bench.table import markdown_table
from c2f_dgl.extras import EXTRAS

ROOT = Path(__file__).parents[1]


def main() -> None:
    arguments = measure.parser(__doc__, extras=["", *EXTRAS, "dev"]).parse_args()
    for extra in arguments.extras:
        with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
            row = {"extra": extra, "python": platform.python_version(), **taken(Path(folder), extra)}
        rows = {(kept["extra"], kept["torch"]): kept for kept in (*rows_kept(), row)}
        print(row, measure.keep("installs", "sizes", {"rows": list(rows.values())}))


def rows_kept() -> list[dict[str, Any]]:
    """What has been measured."""
    return list((measure.read("installs", "sizes") or {"rows": []})["rows"])


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
    rows, cells = rows_kept(), []
    order = [row["extra"] for row in rows]
    for row in sorted(rows, key=lambda row: order.index(row["extra"])):
        name = f"`'c2f_dgl[{row['extra']}]'`" if row["extra"] else "`c2f_dgl`"
        torch = "" if row["torch"] is None else row["torch"] + ", with CUDA" * ("+" not in row["torch"])
        megabytes = (f"{row[key] / 1e6:,.0f}" for key in ("bytes", "bytes_unpacked"))
        cells.append([name, torch, row["files"], *megabytes])
    return markdown_table(["`pip install`", "torch", "files", "MB to download", "MB on disk"], cells)


if __name__ == "__main__":
    main()
