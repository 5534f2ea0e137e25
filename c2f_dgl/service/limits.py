"""What a request may ask for, and the middleware that refuses larger bodies."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Limits:
    """Bounds of one service.

    Attributes
    ----------
    k : int
        Largest k.
    users : int
        Users in one request.
    history : int
        Items of a history to fold in.
    candidates : int
        Items to choose from.
    id_length : int
        Characters of an id.
    body : int
        Bytes of a request's body.
    waiting : int
        Requests that wait for a computation or are in it; more are refused with 503.
    timeout : float
        Seconds a request may wait for its computation; 503 afterwards.
    """

    k: int = 100
    users: int = 100
    history: int = 1000
    candidates: int = 10_000
    id_length: int = 256
    body: int = 2**20
    waiting: int = 1024
    timeout: float = 10.0


class BodyLimit:
    """ASGI middleware: 413 for a body of more than `most` bytes, announced or not."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most
        self.problem = f"the body is too large (expected at most {most:,} bytes)"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(announced) > self.most:  # the HTTP parser lets only digits through
            await JSONResponse({"detail": self.problem}, 413)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most:
                raise HTTPException(413, self.problem)
            return message

        await self.app(scope, counted, send)
