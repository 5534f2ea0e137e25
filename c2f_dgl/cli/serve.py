"""``c2f-dgl serve``: an artifact over HTTP."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from c2f_dgl.errors import InputError
from c2f_dgl.progress import Reporter

_NEEDED = ("fastapi", "fastapi_offline", "httptools", "uvicorn", "prometheus_client")


def serve(
    artifact: Annotated[Path, typer.Argument(help="Folder that `export` wrote.", show_default=False)],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    precompute: Annotated[
        int, typer.Option(min=0, help="Rank this many items for every user at the start, to look up.")
    ] = 0,
    max_k: Annotated[int, typer.Option(min=1, help="Largest k of a request.")] = 100,
    max_users: Annotated[int, typer.Option(min=1, help="Most users of a request.")] = 100,
    max_history: Annotated[int, typer.Option(min=1, help="Most items to fold in.")] = 1000,
    max_candidates: Annotated[int, typer.Option(min=1, help="Most items to choose from.")] = 10_000,
    max_body: Annotated[int, typer.Option(min=1, help="Most bytes of a request's body.")] = 2**20,
    max_waiting: Annotated[int, typer.Option(min=1, help="Most requests that wait; more get 503.")] = 1024,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds a request may wait to be computed.")] = 10.0,
    read_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds a request's head may take to arrive, and its body.")
    ] = 10.0,
    keep_alive: Annotated[float, typer.Option(min=1, help="Seconds an idle connection stays open.")] = 5.0,
    drain: Annotated[float, typer.Option(min=0, help="Seconds to go on answering after SIGTERM.")] = 1.0,
    shutdown_timeout: Annotated[float, typer.Option(min=1, help="Seconds that requests in flight then have.")] = 10.0,
) -> None:
    """Serve an artifact over HTTP: recommend, similar, explain, fold-in, health, metrics; OpenAPI page at /docs."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{missing[0]} is not installed", where="serve", expected="pip install 'c2f_dgl[serve]'")
    from c2f_dgl.serving import ServingModel

    reporter = Reporter()
    with reporter.bar(f"loading {artifact}") as progress:
        model = ServingModel.load(artifact, progress=progress)
    with reporter.busy("propagating, for explain and fold-in"):
        model.propagated  # noqa: B018
    from c2f_dgl import service

    limits = service.Limits(
        k=max_k,
        users=max_users,
        history=max_history,
        candidates=max_candidates,
        body=max_body,
        waiting=max_waiting,
        timeout=timeout,
        read_timeout=read_timeout,
    )
    lists = None
    if precompute:
        with reporter.bar(f"ranking {precompute} items for every user") as progress:
            lists = service.Precomputed.of(model, precompute, progress)
    app = service.create_app(model, limits, precomputed=lists)

    def ready(address: str) -> None:
        print(f"serving {artifact} at {address}, described at {address}/docs", flush=True)

    service.serve(
        app,
        host,
        port,
        drain=drain,
        shutdown_timeout=shutdown_timeout,
        keep_alive=keep_alive,
        read_timeout=read_timeout,
        ready=ready,
    )
