"""``c2f-dgl report``: runs as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c2f_dgl.errors import InputError
from c2f_dgl.io.files import write_text
from c2f_dgl.io.progress import Reporter, plain_console


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="HTML file to write; one that is there is replaced.", show_default=False)],
) -> None:
    """Write one self-contained HTML page about a run, or about several side by side."""
    from c2f_dgl.training.checks import check_run

    for run in runs:
        check_run(run, device="cpu")
    if out.is_dir():
        raise InputError("is a folder", where=out, expected="a file to write, e.g. report.html")
    reporter = Reporter()
    with reporter.busy(f"writing {out}"):
        from c2f_dgl.report import MAX_RUNS, collect_runs, render_page

        if len(runs) > MAX_RUNS:
            raise InputError(f"{len(runs)} runs on one page", where="RUN", expected=f"at most {MAX_RUNS}")
        page = render_page(collect_runs(runs, reporter))
    write_text(out, page)
    line = f"{out}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {len(page.encode()) / 1000:,.0f} kB"
    plain_console().print(line, soft_wrap=True)
