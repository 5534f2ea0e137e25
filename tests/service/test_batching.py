"""Batches: who is in one, whose answer is whose, and what happens to errors, cancelled queries and a full queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from c2f_dgl.service.batching import Batcher, Gate, OverloadedError


def test_queries_that_wait_are_answered_together_and_each_its_own() -> None:
    sizes: list[int] = []
    first = threading.Event()

    def square(queries: Sequence[int]) -> list[int]:
        first.wait(10)
        return [query**2 for query in queries]

    async def ask() -> list[int]:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(executor, square, 4, sizes.append)
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
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, float] = Batcher(executor, inverse, 1, lambda _: None)
            return await asyncio.gather(*(batcher.ask(n) for n in (1, 0, 2)), return_exceptions=True)

    one, zero, two = asyncio.run(ask())
    assert (one, two) == (1, 0.5) and isinstance(zero, ZeroDivisionError)


def test_the_gate_refuses_what_is_too_much_or_takes_too_long() -> None:
    held = threading.Event()
    computed: list[int] = []

    def answer(queries: Sequence[int]) -> list[int]:
        held.wait(10)
        computed.extend(queries)
        return list(queries)

    async def ask() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(executor, answer, 1, lambda _: None)
            gate = Gate(2, 0.05)
            waiting = [asyncio.create_task(gate(lambda n=n: batcher.ask(n))) for n in (1, 2)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match="too many"):
                await gate(lambda: batcher.ask(3))
            for late in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(late, OverloadedError) and "0.05 s" in str(late)
            held.set()
            assert await Gate(1, 10)(lambda: batcher.ask(4)) == 4

    asyncio.run(ask())
    # The second was given up before its turn and is not computed.
    assert computed == [1, 4]
