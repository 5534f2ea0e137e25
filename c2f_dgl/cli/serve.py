"""``c2f-dgl serve``: a model file over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from c2f_dgl.cli.common import UsersOption
from c2f_dgl.extras import check_installed


def serve(
    model: Annotated[Path, typer.Argument(help="Model file that `export` wrote.", show_default=False)],
    users: UsersOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer; they share the file's memory.")] = 1,
) -> None:
    """Serve a model file over HTTP: recommend, similar, explain, health; described at /docs."""
    check_installed("fastapi", "fastapi_offline", "uvicorn", where="serve")
    from c2f_dgl.serving import ServingModel, UserHistories

    served = ServingModel.load(model)  # what cannot be served is said before any worker starts
    if users is not None:
        UserHistories.load(users, served.items)
    del served  # each worker has its own
    import uvicorn

    from c2f_dgl.service import MODEL, USERS

    os.environ |= {MODEL: str(model), USERS: "" if users is None else str(users)}
    app = "c2f_dgl.service.app:app_of_environment"
    uvicorn.run(app, factory=True, workers=workers, host=host, port=port, access_log=False, server_header=False)
