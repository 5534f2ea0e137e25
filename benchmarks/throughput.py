"""Training steps against those of other ways to train the same model, in one process, alternating.

    python -m benchmarks.throughput DATASET [--batches 8192 32768] [--runs 5] [--parts]

DATASET is a name or a path, or `planted` at a shape: yelp2020-shape, amazon-book-shape (the paper's Table 2), or
USERSxITEMSxINTERACTIONS. The model is the paper's coarse stage, m = 300, t = 2, d = 128, L = 3; each step is the loss
of the same triplets, its gradient and Adam. The ways with one codebook must give the same gradient, else the run
fails. With --parts also what else training does, part by part. Writes
benchmarks/results/throughput/<data set>.json. PyG is used where it is installed (`pip install torch_geometric`).
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import measure, rivals
from benchmarks.rivals import Step
from c2f_dgl.config.roles import DEFAULT_ROLES, reverse
from c2f_dgl.config.schema import CoarseConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.graph.propagate import Kernel, chosen_kernel
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.tiers.assignment import Assignment, anchored
from c2f_dgl.tiers.codebook import sparse_pca_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler
from c2f_dgl.training.stage import adam, update_assignment

M, T, D, NEGATIVES, L2, LR = 300, 2, 128, 5, 5e-4, 1e-3

# Largest difference of a gradient from the collapsed one's, of float32 sums of some 10^5 terms.
TOLERANCE = 1e-3


def main(dataset: str, batches: Sequence[int] = (8192, 32768), runs: int = 5, parts: bool = False) -> None:
    machine, split = measure.machine(), measure.load(dataset)
    record: dict[str, Any] = {
        "data": split.name,
        "users": split.n_users,
        "items": split.n_items,
        "train": int(split.train.nnz),
        "model": {"m": M, "t": T, "d": D, "layers": rivals.LAYERS, "negatives": NEGATIVES},
        "machine": machine,
        "steps": steps(split, batches, runs),
    }
    if parts:
        fastest = record["steps"][str(batches[0])]["collapsed"]
        record["parts"] = beside(split, runs, fastest["triplets_a_second"])
    print(measure.keep("throughput", split.name, record))


def steps(
    split: Split, batches: Sequence[int], runs: int, device: str = "cpu"
) -> dict[str, dict[str, dict[str, float]]]:
    """Per batch size and way: seconds, triplets a second, how many times the collapsed step's seconds, memory."""
    rng, sampler = np.random.default_rng(0), TripletSampler(split.train, NEGATIVES, device)
    drawn = {size: next(sampler.batches(size // NEGATIVES, size // NEGATIVES, rng)) for size in batches}
    built: dict[str, Step] = {}

    def first_step(name: str, make: Callable[[], Step]) -> None:
        built[name] = make()
        built[name].loss(drawn[batches[0]]).backward()

    memory = {name: measure.peak_bytes(partial(first_step, name, make)) for name, make in _ways(split, device).items()}
    errors = _compare({name: step.parameter.grad.clone() for name, step in built.items() if len(step.parameter) == M})
    steppers = {name: stepper(step) for name, step in built.items()}
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for size, batch in drawn.items():
        rows[str(size)] = measure.timed({name: partial(take, batch) for name, take in steppers.items()}, runs)
        least = rows[str(size)]["collapsed"]["median_seconds"]
        for name, row in rows[str(size)].items():
            row["triplets_a_second"] = size // NEGATIVES * NEGATIVES / row["median_seconds"]
            row["times_collapsed"] = row["median_seconds"] / least
            row["peak_bytes"] = memory[name]
            if name in errors:
                row["gradient_error"] = errors[name]
            print(f"{size:>6} {name:50} {row['median_seconds']:9.4f} s  {row['times_collapsed']:8.1f} x")
    return rows


def _compare(gradients: dict[str, torch.Tensor]) -> dict[str, float]:
    """Largest difference of each gradient from the collapsed one, as a share of its largest entry."""
    reference = gradients["collapsed"]
    errors = {name: float((g - reference).abs().max() / reference.abs().max()) for name, g in gradients.items()}
    if max(errors.values()) > TOLERANCE:
        sys.exit(f"the gradients differ: {errors}")
    return errors


def stepper(step: Step) -> Callable[[Triplets], None]:
    """What takes a step of Adam, given a batch."""
    optimizer = adam([step.parameter], LR)

    def take(batch: Triplets) -> None:
        optimizer.zero_grad()
        step.loss(batch).backward()
        torch.nn.utils.clip_grad_value_([step.parameter], 3.0)
        optimizer.step()

    return take


def _start(split: Split, m: int = M, d: int = D) -> tuple[torch.Tensor, Assignment]:
    rng, n = np.random.default_rng(0), split.n_users + split.n_items
    return _xavier(m, d), anchored(rng.integers(0, m, n), m, T, 0.5, rng)


def _xavier(m: int, d: int) -> torch.Tensor:
    return torch.nn.init.xavier_uniform_(torch.empty(m, d), generator=torch.Generator().manual_seed(0))


def kernels(device: str) -> list[Kernel]:
    """Those that run on a device: a DGL that was built without CUDA has its own on the CPU alone."""
    on_gpu = device == "cpu" or chosen_kernel("auto", torch.device(device)) == "dgl"
    return ["csr", "dgl"] if on_gpu else ["csr"]


def _ways(split: Split, device: str) -> dict[str, Callable[[], Step]]:
    """Ours and, on a CPU, the others."""
    codebook, assignment = _start(split)
    ours = lambda engine, kernel: our_step(build(split, engine, kernel, device))
    ways: dict[str, Callable[[], Step]] = {"collapsed": partial(ours, "collapsed", "csr")}
    for kernel in kernels(device):
        ways[f"message passing, {kernel}"] = partial(ours, "message_passing", kernel)
    if device != "cpu":
        return ways
    table = _xavier(split.n_users + split.n_items, D)
    for weights in ("edges", "nodes"):
        for name, values, of in (("compositional", codebook, assignment), ("full table", table, None)):
            way = partial(rivals.dgl_step, split, values, of, L2, weights)
            ways[f"dgl heterograph, {name}, weights on {weights}"] = way
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


def our_step(model: Recommender) -> Step:
    """A step of this package's."""
    return Step(model.embedding.tiers[0].codebook, lambda batch: batch_loss(model, batch, "bpr", L2))


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


def rebuilt(model: Recommender) -> None:
    """Propagate the basis anew: it is when some row is asked for."""
    model.relink()
    model.engine.entities(torch.zeros(1, dtype=torch.int64, device=next(model.parameters()).device))


def beside(split: Split, runs: int, triplets_a_second: float, device: str = "cpu") -> dict[str, dict[str, float]]:
    """What training does beside its steps: seconds of each, and sampling as a share of an epoch."""
    codebook, _ = _start(split)
    models = {kernel: build(split, "collapsed", kernel, device) for kernel in kernels(device)}
    model, sampler = models["csr"], TripletSampler(split.train, NEGATIVES, device)
    n, size = int(split.train.nnz), 8192 // NEGATIVES
    often: dict[str, Callable[[], object]] = {
        "relations rebuilt from the assignment": lambda: model.embedding.link(model.graph, 0),
        **{f"basis propagated, {kernel}": partial(rebuilt, of) for kernel, of in models.items()},
        "whole assignment update": lambda: update_assignment(model, CoarseConfig()),
        "sampling an epoch": lambda: list(sampler.batches(n, size, np.random.default_rng(1))),
        "evaluation of all users": lambda: evaluate(model.scorer(), split.train, split.test),
        **{f"one relation times 32 columns: {name}": take for name, take in products(split).items()},
    }
    once: dict[str, Callable[[], object]] = {
        "sampler made": lambda: TripletSampler(split.train, NEGATIVES),
        "graph built": lambda: interaction_graph(split.train),
        "METIS start": lambda: metis_parts(model.graph, M, 0),
        "SparsePCA start": lambda: sparse_pca_codebook(codebook, 100, 80, 1.0, np.random.default_rng(0)),
    }
    rows = {}
    for name, take in {**often, **once}.items():
        rows |= measure.timed({name: take}, 1 if name in once else runs)
        print(f"{name:40} {rows[name]['median_seconds']:9.4f} s")
    sampling = rows["sampling an epoch"]
    sampling["share"] = sampling["median_seconds"] / (n * NEGATIVES / triplets_a_second)
    return rows


if __name__ == "__main__":
    measure.command(main)
