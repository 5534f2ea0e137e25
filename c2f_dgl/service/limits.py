"""What a request may ask for, and the middleware that refuses larger bodies and slower ones."""

from __future__ import annotations

import asyncio
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
    read_timeout : float
        Seconds that a request's head may take to arrive, and as many its body; 408 afterwards.
    """

    k: int = 100
    users: int = 100
    history: int = 1000
    candidates: int = 10_000
    id_length: int = 256
    body: int = 2**20
    waiting: int = 1024
    timeout: float = 10.0
    read_timeout: float = 10.0


class BodyLimit:
    """ASGI middleware: 413 for a body of more than `most` bytes, announced or not; 408 for one that is late."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app, self.most, self.seconds = app, most, seconds
        self.problem = f"the body is too large (expected at most {most:,} bytes)"
        self.late = f"the body was not read within {seconds:g} s"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(announced) > self.most:  # the HTTP parser lets only digits through
            await JSONResponse({"detail": self.problem}, 413)(scope, receive, send)
            return
        received, reading = 0, True
        end = asyncio.get_running_loop().time() + self.seconds

        async def counted() -> Message:
            nonlocal received, reading
            if not reading:  # what comes now is a disconnect
                return await receive()
            left = end - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), left)
            except asyncio.TimeoutError as error:
                raise HTTPException(408, self.late, {"Connection": "close"}) from error
            reading = message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self.most:
                raise HTTPException(413, self.problem)
            return message

        await self.app(scope, counted, send)
