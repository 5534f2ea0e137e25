"""uvicorn with a stop that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from c2f_dgl.errors import InputError
from c2f_dgl.service.protocol import BoundedProtocol

_TICK = 0.05


def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    drain: float,
    shutdown_timeout: float,
    keep_alive: float,
    read_timeout: float,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in flight and return.

    Parameters
    ----------
    app : FastAPI
        Of `c2f_dgl.service.create_app`.
    host, port : str, int
        Where to listen; port 0 takes a free one.
    drain : float
        Seconds to go on answering after the signal, each response asking its client to close the connection, before
        the port closes; then at most as long again for connections that are open.
    shutdown_timeout : float
        Seconds that requests in flight then have.
    keep_alive : float
        Seconds an idle connection stays open.
    read_timeout : float
        Seconds that the head of a request may take to arrive.
    ready : callable
        Called with the address once requests are taken.

    Raises
    ------
    InputError
        The address cannot be listened on.
    """
    listening = _bound(host, port)
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        _Closing(app),
        http=type("Protocol", (BoundedProtocol,), {"read_timeout": read_timeout}),
        timeout_keep_alive=max(1, round(keep_alive)),
        timeout_graceful_shutdown=max(1, round(shutdown_timeout)),
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    server = _Server(config, app, drain, lambda: ready(f"http://{shown}:{listening.getsockname()[1]}"))
    # When it is done uvicorn raises again the signals it got; they have had their effect.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bound(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        problem = getattr(error, "strerror", None) or str(error)
        raise InputError(problem, where=f"{host}:{port}", expected="a free address of this machine") from error
    return listening


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI, drain: float, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app, self._drain, self._ready = app, drain, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.stopping = True
        await self._wait(lambda: False)
        await self._stop_listening(sockets or [])
        # Connections that were just accepted: uvicorn would close those whose request it has not read yet.
        await self._wait(lambda: not self.server_state.connections)
        await super().shutdown(sockets)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the port; connections that the system has made and the event loop not yet accepted are accepted."""
        ports = [listening.dup() for listening in sockets]
        for server in self.servers:
            server.close()
        await asyncio.sleep(_TICK)  # uvloop closes its sockets only later
        for listening in sockets:
            listening.close()
        accepted = []
        for port in ports:
            port.setblocking(False)
            with port, contextlib.suppress(BlockingIOError):
                while True:
                    accepted.append(port.accept()[0])
        loop = asyncio.get_running_loop()
        for connection in accepted:
            await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _wait(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + self._drain
        while time.monotonic() < end and not (done() or self.force_exit):
            await asyncio.sleep(_TICK)


class _Closing:
    """ASGI middleware: responses of an application that is stopping close their connection."""

    def __init__(self, app: FastAPI) -> None:
        self.app: ASGIApp = app
        self.state = app.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self.state.stopping:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, closing if scope["type"] == "http" else send)
