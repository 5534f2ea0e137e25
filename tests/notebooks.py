"""Notebooks under docs/notebooks, run in an empty folder; `python -m tests.notebooks` writes what they print anew."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs of a run in `folder`; raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    options = {"kernel_name": "python3", "timeout": 600, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()
    notebook.metadata = METADATA  # without the version of the Python that ran it
    return notebook


def main() -> None:
    """Run all notebooks and write their outputs into them."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(os.path.relpath(path))


if __name__ == "__main__":
    main()
