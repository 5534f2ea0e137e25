"""Training steps against those of other ways to train the same model, in one process, alternating.

    python -m benchmarks.throughput DATASET [--batches 8192 32768] [--runs 5] [--without coo,pyg] [--parts]

DATASET is a name or a path, or `planted` at a shape: yelp2020-shape, amazon-book-shape (the paper's Table 2), or
USERSxITEMSxINTERACTIONS. The model is the paper's coarse stage, m = 300, t = 2, d = 128, L = 3; each step is the loss
of the same triplets, its gradient and Adam. The ways with one codebook must give the same gradient, else the run
fails. With --parts also what else training does, part by part. Writes
benchmarks/results/throughput/<data set>.json. PyG is used where it is installed (`pip install torch_geometric`).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from torch.nn import functional as F

from benchmarks import measure, rivals
from benchmarks.rivals import Step
from c2f_dgl.config.schema import CoarseConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.graph.propagate import Kernel
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.roles import DEFAULT_ROLES, reverse
from c2f_dgl.tiers.assignment import Assignment, anchored
from c2f_dgl.tiers.codebook import sparse_pca_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler
from c2f_dgl.training.stage import adam, update_assignment

M, T, D, NEGATIVES, L2, LR = 300, 2, 128, 5, 5e-4, 1e-3
OURS = {"collapsed": ("collapsed", "csr"), "message passing, csr": ("message_passing", "csr")}
OURS["message passing, dgl"] = ("message_passing", "dgl")

# Largest difference of a gradient from the collapsed one's, of float32 sums of some 10^5 terms.
TOLERANCE = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--batches", type=int, nargs="+", default=[8192, 32768], metavar="TRIPLETS")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--without", default="", help="ways to leave out, by the start of their names: coo,pyg,dgl")
    parser.add_argument("--parts", action="store_true")
    arguments = parser.parse_args()
    console, machine = Console(stderr=True), measure.machine()
    with console.status("reading"):
        split = measure.load(arguments.dataset)
    record = {
        "data": split.name,
        "users": split.n_users,
        "items": split.n_items,
        "train": int(split.train.nnz),
        "model": {"m": M, "t": T, "d": D, "layers": rivals.LAYERS, "negatives": NEGATIVES},
        "machine": machine,
    }
    without = tuple(filter(None, arguments.without.split(",")))
    record["steps"] = steps(split, arguments.batches, arguments.runs, without, console)
    if arguments.parts:
        fastest = record["steps"][str(arguments.batches[0])]["collapsed"]
        record["parts"] = parts(split, arguments.runs, fastest["triplets_a_second"], console)
    print(measure.keep("throughput", split.name, record))


def steps(
    split: Split, batches: list[int], runs: int, without: tuple[str, ...], console: Console
) -> dict[str, dict[str, dict[str, float]]]:
    """Per batch size and way: seconds, triplets a second, how many times the collapsed step's seconds, memory."""
    rng = np.random.default_rng(0)
    sampler = TripletSampler(split.train, NEGATIVES)
    drawn = {size: sampler.epoch(size // NEGATIVES, size // NEGATIVES, rng) for size in batches}
    takers: dict[str, Callable[[Triplets], None]] = {}
    memory = {}
    gradients: dict[str, torch.Tensor] = {}
    for name, make in _ways(split).items():
        if name.startswith(without) and without:
            continue
        with console.status(f"{name}: first step"):
            built: list[Step] = []

            def begin(make: Callable[[], Step] = make, built: list[Step] = built) -> None:
                built.append(make())
                built[0].loss(drawn[batches[0]]).backward()

            memory[name] = measure.peak_bytes(begin)
            if len(built[0].parameters[0]) == M:
                gradients[name] = built[0].parameters[0].grad.clone()
            takers[name] = taker(built[0])
    errors = _compare(gradients)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for size, batch in drawn.items():
        with console.status(f"{size} triplets"):
            ways = {name: lambda take=take, batch=batch: take(batch) for name, take in takers.items()}
            seconds = measure.alternate(ways, runs)
        found[str(size)] = {}
        least = measure.spread(seconds["collapsed"])["median_seconds"]
        for name, times in seconds.items():
            row = measure.spread(times)
            row["triplets_a_second"] = batch.negatives.size / row["median_seconds"]
            row["times_collapsed"] = row["median_seconds"] / least
            row["peak_bytes"] = memory[name]
            if name in errors:
                row["gradient_error"] = errors[name]
            found[str(size)][name] = row
            print(f"{size:>6} {name:50} {row['median_seconds']:9.4f} s  {row['times_collapsed']:8.1f} x")
    return found


def _compare(gradients: dict[str, torch.Tensor]) -> dict[str, float]:
    """Largest difference of each gradient from the collapsed one, as a share of its largest entry."""
    reference = gradients["collapsed"]
    errors = {name: float((g - reference).abs().max() / reference.abs().max()) for name, g in gradients.items()}
    if max(errors.values()) > TOLERANCE:
        sys.exit(f"the gradients differ: {errors}")
    return errors


def taker(step: Step) -> Callable[[Triplets], None]:
    optimizer = adam(step.parameters, LR)

    def take(batch: Triplets) -> None:
        optimizer.zero_grad()
        step.loss(batch).backward()
        torch.nn.utils.clip_grad_value_(step.parameters, 3.0)
        optimizer.step()

    return take


def _start(split: Split, m: int = M, d: int = D) -> tuple[torch.Tensor, Assignment]:
    rng, n = np.random.default_rng(0), split.n_users + split.n_items
    codebook = torch.nn.init.xavier_uniform_(torch.empty(m, d), generator=torch.Generator().manual_seed(0))
    return codebook, anchored(rng.integers(0, m, n), m, T, 0.5, rng)


def _ways(split: Split) -> dict[str, Callable[[], Step]]:
    codebook, assignment = _start(split)
    n = split.n_users + split.n_items
    table = torch.nn.init.xavier_uniform_(torch.empty(n, D), generator=torch.Generator().manual_seed(0))
    ways: dict[str, Callable[[], Step]] = {
        name: lambda engine=engine, kernel=kernel: own(build(split, engine, kernel))
        for name, (engine, kernel) in OURS.items()
    }
    for weights in ("edges", "nodes"):
        ways[f"dgl heterograph, compositional, weights on {weights}"] = lambda weights=weights: (
            rivals.dgl_compositional(split, codebook, assignment, L2, weights)
        )
        ways[f"dgl heterograph, full table, weights on {weights}"] = lambda weights=weights: rivals.dgl_table(
            split, table, L2, weights
        )
    ways["coo, as published"] = lambda: rivals.coo_compositional(split, codebook, assignment, L2)
    if importlib.util.find_spec("torch_geometric") is not None:
        ways["pyg LightGCN, full table"] = lambda: rivals.pyg_table(split, table, L2)
    return ways


def build(
    split: Split,
    engine: str,
    kernel: Kernel,
    device: str = "cpu",
    *,
    graph: dgl.DGLGraph | None = None,
    m: int = M,
    d: int = D,
    memory_budget: float | None = None,
) -> Recommender:
    """The paper's coarse stage on a random assignment."""
    codebook, assignment = _start(split, m, d)
    graph = interaction_graph(split.train) if graph is None else graph
    embedding = TieredEmbedding(entity_layout(graph), [Tier("coarse", codebook, assignment)]).to(device)
    readout = Readout(item_degrees(graph), split.n_users).to(device)
    propagation = Propagation(rivals.LAYERS, kernel=kernel)
    return Recommender(graph, embedding, propagation, readout, engine, memory_budget=memory_budget)


def own(model: Recommender) -> Step:
    return Step([model.embedding.tiers[0].codebook], lambda batch: batch_loss(model, batch, "bpr", L2))


def products(split: Split) -> dict[str, Callable[[], object]]:
    """The product of the interactions with 32 columns: as bags, as torch's CSR product, and by DGL's kernels."""
    relation = interaction_graph(split.train)[reverse(DEFAULT_ROLES.target)]
    weight, x = relation.edata["weight"][:, None], torch.randn(split.n_items, 32)
    train = split.train.sorted_indices()
    starts, columns = (torch.as_tensor(part, dtype=torch.int32) for part in (train.indptr, train.indices))
    values = torch.as_tensor(train.data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        matrix = torch.sparse_csr_tensor(starts, columns, values, train.shape, check_invariants=False)
    return {
        "weighted bags": lambda: F.embedding_bag(
            columns, x, starts, mode="sum", per_sample_weights=values, include_last_offset=True
        ),
        "CSR product": lambda: matrix @ x,
        "DGL u_mul_e": lambda: dgl.ops.u_mul_e_sum(relation, x, weight),
        "DGL copy_u": lambda: dgl.ops.copy_u_sum(relation, x),
    }


def parts(split: Split, runs: int, triplets_a_second: float, console: Console) -> dict[str, dict[str, float]]:
    """What training does beside its steps: seconds of each, and sampling as a share of an epoch."""
    codebook, _ = _start(split)
    models = {kernel: build(split, "collapsed", kernel) for kernel in ("csr", "dgl")}
    model = models["csr"]
    sampler = TripletSampler(split.train, NEGATIVES)
    n, size = int(split.train.nnz), 8192 // NEGATIVES
    often: dict[str, Callable[[], object]] = {
        "relations rebuilt from the assignment": lambda: model.embedding.link(model.graph, 0),
        **{f"basis propagated, {kernel}": lambda of=of: of.engine.rebuild(of.graph) for kernel, of in models.items()},
        "whole assignment update": lambda: update_assignment(model, CoarseConfig()),
        "sampling an epoch": lambda: sampler.epoch(n, size, np.random.default_rng(1)),
        "evaluation of all users": lambda: evaluate(model.scorer(), split.train, split.test),
        **{f"one relation times 32 columns: {name}": take for name, take in products(split).items()},
    }
    once: dict[str, Callable[[], object]] = {
        "sampler made": lambda: TripletSampler(split.train, NEGATIVES),
        "graph built": lambda: interaction_graph(split.train),
        "METIS start": lambda: metis_parts(model.graph, M, 0),
        "SparsePCA start": lambda: sparse_pca_codebook(codebook, 100, 80, 1.0, np.random.default_rng(0)),
    }
    found = {}
    for name, take in {**often, **once}.items():
        with console.status(name):
            found[name] = measure.spread(measure.alternate({name: take}, 1 if name in once else runs)[name])
        print(f"{name:40} {found[name]['median_seconds']:9.4f} s")
    steps_seconds = n * NEGATIVES / triplets_a_second
    found["sampling an epoch"]["share"] = found["sampling an epoch"]["median_seconds"] / steps_seconds
    print(f"sampling is {found['sampling an epoch']['share']:.1%} of the {steps_seconds:.2f} s of an epoch's steps")
    return found


if __name__ == "__main__":
    main()
