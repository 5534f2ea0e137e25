"""Requests that arrive while others are computed are computed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Query = TypeVar("Query")
Answer = TypeVar("Answer")


class OverloadedError(Exception):
    """More queries wait than may."""


class Batcher(Generic[Query, Answer]):
    """Answers queries in batches of those that wait; a query that comes alone does not wait for others.

    `answer` takes queries to as many answers, in one thread beside the event loop; at most `most` queries are in a
    batch, and `waiting` may wait.
    """

    def __init__(self, answer: Callable[[Sequence[Query]], Sequence[Answer]], most: int = 32, waiting: int = 1024):
        self._answer, self._most, self._most_waiting = answer, most, waiting
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ranking")
        self._waiting: deque[tuple[Query, asyncio.Future[Answer]]] = deque()
        self._draining: asyncio.Task[None] | None = None

    async def ask(self, query: Query) -> Answer:
        """Answer of one query, or `OverloadedError`; what a batch raises is raised for all of its queries."""
        if len(self._waiting) >= self._most_waiting:
            raise OverloadedError("too many requests wait, try again")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                # Done already: cancelled, because whoever asked has gone.
                batch = [(query, future) for query, future in batch if not future.done()]
                try:
                    answers = await loop.run_in_executor(self._executor, self._answer, [query for query, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._draining = None
