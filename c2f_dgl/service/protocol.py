"""uvicorn's HTTP protocol with bounds on a request's head, which it reads before any application sees it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 2**16


class BoundedProtocol(HttpToolsProtocol):
    """Answers 408 to a head that is not there in time, and 431 to one that is too large; closes idle connections.

    `c2f_dgl.service.limits.BodyLimit` bounds the body. A subclass sets `read_timeout`, in seconds.
    """

    read_timeout = 10.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_bytes = 0
        self._started = False
        self._timer: asyncio.TimerHandle | None = None
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._started, self._head_bytes = True, 0
        self._stop_waiting()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._started = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answered = self.cycle is None or self.cycle.response_complete
        if answered and not self._started and self._timer is None and not self.transport.is_closing():
            # Bytes that begin no request (the rest of a body, blank lines) end uvicorn's wait for the next one.
            self._wait_for_head()
        if self._started and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, f"the head of the request is too large (expected at most {HEAD_BYTES:,} bytes)")

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self.read_timeout, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._started:
            self._refuse(408, f"the head of the request was not read within {self.read_timeout:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, problem: str) -> None:
        self._stop_waiting()
        # An earlier request of this connection may still be answered: nothing may be written between.
        if self.cycle is None or self.cycle.response_complete:
            body = json.dumps({"detail": problem}).encode()
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
