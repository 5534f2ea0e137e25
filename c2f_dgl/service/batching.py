"""Requests that arrive while others are computed are computed together: one matrix product reads the items once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Query = TypeVar("Query")
Answer = TypeVar("Answer")


class OverloadedError(Exception):
    """More requests wait than may, or one waited too long."""


class Batcher(Generic[Query, Answer]):
    """Answers queries in batches of those that wait; a query that comes alone does not wait for others.

    Parameters
    ----------
    executor : Executor
        Where batches are computed, off the event loop.
    answer : callable
        Queries to as many answers.
    most : int
        Queries in a batch.
    observe : callable
        Called with the size of every batch.
    """

    def __init__(
        self,
        executor: Executor,
        answer: Callable[[Sequence[Query]], Sequence[Answer]],
        most: int,
        observe: Callable[[int], None],
    ) -> None:
        self._executor, self._answer, self._most, self._observe = executor, answer, most, observe
        self._waiting: deque[tuple[Query, asyncio.Future[Answer]]] = deque()
        self._draining: asyncio.Task[None] | None = None

    async def ask(self, query: Query) -> Answer:
        """Answer of one query; what a batch raises is raised for all of its queries."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                # Done already: cancelled, because whoever asked has gone or waited too long.
                batch = [(query, future) for query, future in taken if not future.done()]
                if not batch:
                    continue
                self._observe(len(batch))
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


class Gate:
    """Lets at most `most` calls in at a time, each for at most `timeout` seconds."""

    def __init__(self, most: int, timeout: float) -> None:
        self.most, self.timeout, self.inside = most, timeout, 0

    async def __call__(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `call` gives.

        Raises
        ------
        OverloadedError
            Too many are inside, or `call` took too long.
        """
        if self.inside >= self.most:
            raise OverloadedError("too many requests wait, try again")
        self.inside += 1
        try:
            return await asyncio.wait_for(call(), self.timeout)
        except asyncio.TimeoutError as error:
            raise OverloadedError(f"not computed within {self.timeout:g} s, try again") from error
        finally:
            self.inside -= 1
