"""Batches: who is in one, whose answer is whose, and what happens to errors, cancelled queries and a full queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from c2f_dgl.service.batching import Batcher, OverloadedError


def test_queries_that_wait_are_answered_together_and_each_its_own() -> None:
    sizes: list[int] = []
    first = threading.Event()

    def square(queries: Sequence[int]) -> list[int]:
        sizes.append(len(queries))
        first.wait(10)
        return [query**2 for query in queries]

    async def ask() -> list[int]:
        batcher: Batcher[int, int] = Batcher(square, most=4)
        tasks = [asyncio.create_task(batcher.ask(0))]
        while not sizes:
            await asyncio.sleep(0)
        tasks += [asyncio.create_task(batcher.ask(n)) for n in range(1, 10)]
        await asyncio.sleep(0)
        first.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(ask()) == [n**2 for n in range(10)]
    assert sizes == [1, 4, 4, 1]


def test_an_error_reaches_its_batch_and_no_other() -> None:
    def inverse(queries: Sequence[int]) -> list[float]:
        return [1 / query for query in queries]

    async def ask() -> list[float | BaseException]:
        batcher: Batcher[int, float] = Batcher(inverse, most=1)
        return await asyncio.gather(*(batcher.ask(n) for n in (1, 0, 2)), return_exceptions=True)

    one, zero, two = asyncio.run(ask())
    assert (one, two) == (1, 0.5) and isinstance(zero, ZeroDivisionError)


def test_too_many_are_refused_and_who_has_gone_is_not_answered() -> None:
    held, computed = threading.Event(), []

    def answer(queries: Sequence[int]) -> list[int]:
        held.wait(10)
        computed.extend(queries)
        return list(queries)

    async def ask() -> None:
        batcher: Batcher[int, int] = Batcher(answer, most=1, waiting=2)
        tasks = [asyncio.create_task(batcher.ask(0))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(batcher.ask(n)) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="too many"):
            await batcher.ask(3)
        tasks[1].cancel()
        await asyncio.sleep(0)
        held.set()
        assert await tasks[0] == 0 and await tasks[2] == 2

    asyncio.run(ask())
    assert computed == [0, 2]
