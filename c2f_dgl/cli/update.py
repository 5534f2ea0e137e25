"""``c2f-dgl update``: new interactions in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c2f_dgl.cli.runs import DataOption, DeviceOption, print_stages
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder
from c2f_dgl.io.progress import Reporter, plain_console


def update(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, as of the preset fast.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="A log of new interactions, with the run's columns.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the new run, which holds the data, too.", show_default=False)],
    data_: DataOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Solve RUN again with NEW interactions, of new users and items too, and what it has chosen: no search."""
    from c2f_dgl.training.checks import check_run
    from c2f_dgl.training.folder import RunFolder

    check_run(run, source=data_, device=device)
    if not new.exists():
        raise InputError("no such file", where=new, expected="a log of new interactions")
    check_new_folder(out)
    reporter = Reporter()
    with reporter.busy("solving again"):
        from c2f_dgl.data.readers import read_interactions

        given = {"user", "item", "rating", "min_rating"}
        columns = RunFolder(run).config().data.model_dump(include=given, exclude_none=True)
        log = read_interactions(new, **columns)
        from c2f_dgl.training.update import update as update_run

        made = update_run(run, log, out, source=data_, device=device, reporter=reporter)
    plain_console().print(made.split.summary(), soft_wrap=True)
    print_stages(made.summary)
    plain_console().print(f"run: {out}   with what {run} has chosen", soft_wrap=True)
