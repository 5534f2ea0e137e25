"""The collapsed training step as a share of what the machine can do: `python -m benchmarks.roofline DATASET`.

In one run: the rate of a square matrix product, and how much longer or shorter it takes in bfloat16 (whether a step in
it could win); the bandwidth of a copy; the step of `benchmarks.throughput` at each batch size. The step's operations
and bytes are those that it cannot do without, counted from its sizes; the bound is the longer of the two times, as if
each hid the other entirely. Also each operator's share of a step, and what full ranking is made of. Writes
benchmarks/results/roofline/<data set>.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import measure, throughput
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import largest, product, top_items
from c2f_dgl.training.checks import check_device
from c2f_dgl.training.sampler import TripletSampler

SIDE = 2048  # of the matrices of the product
LOW_SIDE = 512  # of those in bfloat16, which takes a processor without it many times as long
SCORES = 3 << 21  # of a block of users in full ranking
OPERATORS = 8  # of a profile, those that take most
DEPTH = 50  # of full ranking
COPIED = 1 << 26  # float32 values: 256 MiB, beyond any cache


def main(dataset: str, batches: Sequence[int] = (8192, 32768), runs: int = 9, device: str = "cpu") -> None:
    check_device(device)
    split, machine = measure.load(dataset), measure.machine()
    record = {"data": split.name, "device": device, "machine": machine, **measured(split, batches, runs, device)}
    record["ranking"] = ranking(split, runs, device)
    for size, step in record["steps"].items():
        print(f"{size:>6} triplets: {step['median_seconds']:.4f} s, {step['times_bound']:.2f} times the bound")
    print(measure.keep("roofline", split.name, record))


def measured(split: Split, batches: Sequence[int], runs: int, device: str) -> dict[str, Any]:
    """Rates of the machine, and each step beside its bound."""
    model = throughput.build(split, "collapsed", "csr", device)
    sampler = TripletSampler(split.train, throughput.NEGATIVES)
    square = torch.randn(SIDE, SIDE, device=device)
    result = torch.empty_like(square)
    source = torch.randn(COPIED, device=device)
    target = torch.empty_like(source)
    small = torch.randn(LOW_SIDE, LOW_SIDE, device=device)
    low = small.bfloat16()
    ways = {
        "product": lambda: torch.mm(square, square, out=result),
        "small product": lambda: small @ small,
        "small product in bfloat16": lambda: low @ low,
        "copy": lambda: target.copy_(source),
    }
    take = throughput.stepper(throughput.our_step(model))
    for size in batches:
        n = size // throughput.NEGATIVES
        ways[str(size)] = partial(take, sampler.epoch(n, n, np.random.default_rng(0)))
    times = measure.timed(ways, runs)
    median = {way: row["median_seconds"] for way, row in times.items()}
    flops, bandwidth = 2 * SIDE**3 / median["product"], 2 * source.nbytes / median["copy"]
    steps = {}
    for size in batches:
        n, c = size // throughput.NEGATIVES, throughput.NEGATIVES + 1
        operations, traffic = needed(n, c, throughput.M, throughput.D)
        with torch.profiler.profile() as profiled:
            ways[str(size)]()
        spent = {row.key: row.self_cpu_time_total for row in profiled.key_averages()}
        longest = sorted(spent, key=spent.__getitem__, reverse=True)[:OPERATORS]
        steps[str(size)] = {
            **times[str(size)],
            "operations": operations,
            "bytes": traffic,
            "seconds_of_operations": operations / flops,
            "seconds_of_bytes": traffic / bandwidth,
            "times_bound": median[str(size)] / max(operations / flops, traffic / bandwidth),
            "profile": {name: spent[name] / sum(spent.values()) for name in longest},
        }
    in_bfloat16 = median["small product in bfloat16"] / median["small product"]
    rates = {"flops_a_second": flops, "bytes_a_second": bandwidth, "bfloat16_times_float32": in_bfloat16}
    return {**rates, "steps": steps}


def ranking(split: Split, runs: int, device: str) -> dict[str, Any]:
    """Seconds to rank all items for all users, and of its two largest parts, in blocks of as many users."""
    scorer = throughput.build(split, "collapsed", "csr", device).scorer()
    blocks = scorer.users.split(max(1, SCORES // split.n_items))
    scores = product(blocks[0], scorer.items)

    def multiply() -> None:
        for users in blocks:
            product(users, scorer.items)  # not held: the scores of all users would not fit

    ways = {
        "all": lambda: top_items(scorer, np.arange(split.n_users), DEPTH, split.train),
        "product": multiply,
        "search": lambda: [largest(scores[: len(users)], min(DEPTH, split.n_items)) for users in blocks],
    }
    return measure.timed(ways, min(runs, 5))


def needed(n: int, c: int, m: int, d: int) -> tuple[float, float]:
    """Floating-point operations and bytes of a step with n users of c items each, basis N x m, codebook m x d.

    Forward: v_u = b_u E E^T and n c dot products. Backward: n c weighted rows Q, and (A + A^T) E with A = B_u^T Q. Both
    through m x m or through the d columns, whichever is cheaper. Bytes: the rows of the batch, once forward and the
    items' again backward, in float32. What the L2 term, the loss and Adam need is left out of the bound.
    """
    square = 2 * n * m * m + 2 * m * m * d
    operations = min(square, 4 * n * m * d) + 4 * n * c * m + min(square, 8 * n * m * d)
    return float(operations), 4.0 * m * (n + 2 * n * c)


if __name__ == "__main__":
    measure.command(main)
