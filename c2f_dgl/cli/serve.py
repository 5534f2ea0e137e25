"""``c2f-dgl serve``: a model file over HTTP."""

from __future__ import annotations

import sys
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
) -> None:
    """Serve a model file over HTTP: recommend, similar, explain, health; described at /docs."""
    check_installed("fastapi", "fastapi_offline", "uvicorn", where="serve")
    from c2f_dgl.serving import ServingModel, UserHistories

    served = ServingModel.load(model)
    histories = None if users is None else UserHistories.load(users, served.items)
    import uvicorn

    from c2f_dgl.service import create_app

    # Ranking and the event loop hand the interpreter to each other every few products.
    sys.setswitchinterval(5e-4)
    uvicorn.run(create_app(served, histories), host=host, port=port, access_log=False, server_header=False)
