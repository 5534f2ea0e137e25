"""LightGCN propagation over any heterograph.

    H(l+1) = D^(-1/2) A' D^(-1/2) H(l)         (Eq. 5, 20)
    H      = sum_l  beta_l H(l)                (Eq. 6, 21: beta_l = 1 / (L+1))

A' are the edge weights; D^(-1/2) is D^(-a) where `c2f_dgl.graph.hetero.with_exponents` has set other exponents.

Kernels: ``dgl`` is DGL's message passing, with D applied to the node features before and after; ``csr`` is torch's
product with a sparse matrix a relation, on the structure that DGL holds, with D in its values; ``bfloat16`` is ``csr``
with float32 features rounded to 8 bits. ``auto`` is ``dgl`` on a GPU for which DGL was built, ``csr`` elsewhere: DGL's
CPU kernels for weighted edges take longer (`benchmarks/throughput.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from c2f_dgl.config.roles import EdgeType
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import degree_norm, derived

Kernel = Literal["auto", "dgl", "csr", "bfloat16"]
Features = dict[str, Tensor]

# Messages of a relation that are smaller than this, normalised, are rounding: links of meta nodes that only compose.
_ROUNDING = 1e-15


def propagate(
    graph: dgl.DGLGraph,
    features: Mapping[str, Tensor],
    n_layers: int,
    *,
    kernel: Kernel = "auto",
    layer_weights: Sequence[float] | None = None,
    after_layer: Callable[[Features], Features] | None = None,
    factors: Mapping[EdgeType, Tensor] | None = None,
) -> Features:
    """H per node type from H(0): features propagated for `n_layers` layers, and the layers combined (Eq. 4-6, 19-21).

    Parameters
    ----------
    graph : DGLGraph
        Edge data ``weight``, node data ``norm`` (see `c2f_dgl.graph.hetero`).
    features : mapping of node type to Tensor, shape (n_nodes of the type, width)
        H(0) of every node type, of the dtype of the edge weights. Differentiable.
    kernel : {"auto", "dgl", "csr", "bfloat16"}
        Sparse product (see the module). Only ``dgl`` has gradients in edge weights; ``auto`` is ``dgl`` for those.
    layer_weights : sequence of L + 1 floats, optional
        beta; the mean over layers by default.
    after_layer : callable, optional
        Applied to the features after each layer, before they are combined and propagated on.
    factors : mapping of relation to Tensor of one value, optional
        Factors on all weights of a relation, > 0, in A' as in D. Differentiable.

    Raises
    ------
    ValueError
        Features, layer weights, kernel and graph do not fit each other.
    """
    _check_features(graph, features)
    if n_layers < 0:
        raise ValueError(f"{n_layers} layers: expected 0 or more")
    betas = [1.0 / (n_layers + 1)] * (n_layers + 1) if layer_weights is None else list(layer_weights)
    if len(betas) != n_layers + 1:
        raise ValueError(f"{len(betas)} layer weights for {n_layers} layers: expected {n_layers + 1}")

    like = next(iter(features.values()))
    norms = (graph.nodes[t].data["norm"] if factors is None else degree_norm(graph, t, factors) for t in graph.ntypes)
    norm = {node_type: values.to(like.device) for node_type, values in zip(graph.ntypes, norms, strict=True)}
    etypes = [etype for etype in graph.canonical_etypes if _counts(graph, etype, norm)]
    chosen = _kernel_for(graph, kernel, like, learned=bool(factors))
    if chosen == "dgl":
        product = partial(_message_passing, _graph_on_device(graph, like.device), norm, factors or {})
    else:
        rounded = chosen == "bfloat16" and like.dtype == torch.float32
        product = partial(_csr_product, graph, torch.bfloat16 if rounded else like.dtype)
    combined = {node_type: betas[0] * features[node_type] for node_type in graph.ntypes}
    # Zeros send nothing: of two sides of a bipartite graph that start with one of them, half of the products are left.
    layer = {node_type: x for node_type in graph.ntypes if (x := features[node_type]).requires_grad or x.any()}
    for beta in betas[1:]:
        layer = product([etype for etype in etypes if etype[0] in layer], layer)
        if after_layer is not None:
            layer = after_layer({**{t: torch.zeros_like(x) for t, x in combined.items() if t not in layer}, **layer})
        if beta != 0.0:
            combined |= {node_type: torch.add(combined[node_type], x, alpha=beta) for node_type, x in layer.items()}
    return combined


def _counts(graph: dgl.DGLGraph, etype: EdgeType, norm: Mapping[str, Tensor]) -> bool:
    """Whether any message of a relation is more than rounding beside the features that are sent."""
    weight, (source, _, destination) = graph.edges[etype].data["weight"].detach(), etype
    if not len(weight):
        return False
    return bool(weight.max().to(norm[source]) * norm[source].max() * norm[destination].max() > _ROUNDING)


def _check_features(graph: dgl.DGLGraph, features: Mapping[str, Tensor]) -> None:
    missing = set(graph.ntypes) - set(features)
    if missing:
        raise ValueError(f"no features for node types {sorted(missing)}")
    for node_type in graph.ntypes:
        n, shape = graph.num_nodes(node_type), tuple(features[node_type].shape)
        if shape[0] != n:
            raise ValueError(f"features {shape} of the {n} nodes of type {node_type!r}")
    if len({features[node_type].shape[1:] for node_type in graph.ntypes}) > 1:
        raise ValueError("features of several widths: expected the same for all node types")


def _kernel_for(graph: dgl.DGLGraph, kernel: Kernel, like: Tensor, *, learned: bool) -> Kernel:
    """The kernel for these weights and features: DGL's where the weights learn, or where torch's has no such dtype."""
    if kernel not in get_args(Kernel):
        raise ValueError(f"no kernel {kernel!r}: expected {', '.join(get_args(Kernel))}")
    if learned or any(graph.edges[etype].data["weight"].requires_grad for etype in graph.canonical_etypes):
        if kernel not in ("auto", "dgl"):
            raise ValueError(
                f"kernel {kernel} takes weights as constants: expected kernel dgl for those with a gradient"
            )
        return "dgl"
    if kernel == "auto" and like.dtype not in (torch.float32, torch.float64):
        return "dgl"
    return chosen_kernel(kernel, like.device)


def chosen_kernel(kernel: Kernel, device: torch.device) -> Kernel:
    """What `kernel` stands for on `device`."""
    if kernel != "auto":
        return kernel
    return "dgl" if device.type == "cuda" and _dgl_has_cuda() else "csr"


@cache
def _dgl_has_cuda() -> bool:
    """Whether this DGL was built with GPU kernels (PyPI's wheels are not)."""
    try:
        dgl.graph(([0], [0])).to("cuda")
    except dgl.DGLError:
        return False
    return True


def _message_passing(
    graph: dgl.DGLGraph,
    norm: Mapping[str, Tensor],
    factors: Mapping[EdgeType, Tensor],
    etypes: Sequence[EdgeType],
    features: Features,
) -> Features:
    """A layer with DGL: every node type's messages over relations, summed; node types that get none are left out."""
    with graph.local_scope():
        for etype in factors.keys() & set(etypes):
            weight = graph.edges[etype].data["weight"]
            graph.edges[etype].data["weight"] = weight * factors[etype].to(weight.device)
        for node_type, x in features.items():
            graph.nodes[node_type].data["x"] = norm[node_type][:, None] * x
        multiply, add = dgl.function.u_mul_e("x", "weight", "m"), dgl.function.sum("m", "y")
        if etypes:
            graph.multi_update_all({etype: (multiply, add) for etype in etypes}, "sum")
        reached = dict.fromkeys(etype[2] for etype in etypes)
        return {name: norm[name][:, None] * graph.nodes[name].data["y"] for name in reached}


def _csr_product(graph: dgl.DGLGraph, dtype: torch.dtype, etypes: Sequence[EdgeType], features: Features) -> Features:
    """A layer with torch: one sparse product a relation, in `dtype`, summed into the destination's node type."""
    sent = {node_type: x.to(dtype) for node_type, x in features.items()}
    summed: Features = {}
    for etype in etypes:
        source, _, destination = etype
        message = _SparseProduct.apply(graph, etype, sent[source]).to(features[source])
        summed[destination] = message if destination not in summed else summed[destination] + message
    return summed


class _SparseProduct(torch.autograd.Function):
    """The constant CSR matrix of a relation times the features of its source; its transpose for the backward pass."""

    @staticmethod
    def forward(ctx, graph: dgl.DGLGraph, etype: EdgeType, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.relation = graph, etype
        return multiply(_csr_matrix(graph, etype, x.device, x.dtype), x)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        graph, etype = ctx.relation
        transposed = _csr_matrix(graph, etype, gradient.device, gradient.dtype, transposed=True)
        return None, None, multiply(transposed, gradient.contiguous())


def multiply(matrix: Tensor, x: Tensor) -> Tensor:
    """CSR times dense: on a CPU as weighted bags of rows of x, in a fraction of the time, unless in float64."""
    if x.dtype == torch.float64 or x.device.type != "cpu":
        return matrix @ x
    rows, starts, weights = matrix.col_indices(), matrix.crow_indices(), matrix.values()
    return F.embedding_bag(rows, x, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _csr_matrix(
    graph: dgl.DGLGraph, etype: EdgeType, device: torch.device, dtype: torch.dtype, *, transposed: bool = False
) -> Tensor:
    """D^(-1/2) A' D^(-1/2) of a relation, from its source's features to its destination's, or the transpose."""
    source, _, destination = etype
    weight = graph.edges[etype].data["weight"]
    norms = [graph.nodes[node_type].data["norm"] for node_type in (source, destination)]
    structure = graph.adj_tensors("csr" if transposed else "csc", etype)

    def make() -> Tensor:
        pointers, columns, edge_ids = structure
        values = weight * norms[0][graph.edges(etype=etype)[0]] * norms[1][graph.edges(etype=etype)[1]]
        values = values if len(edge_ids) == 0 else values[edge_ids]
        shape = (graph.num_nodes(destination), graph.num_nodes(source))
        return csr_tensor(pointers, columns, values.to(device, dtype), shape[::-1] if transposed else shape)

    return derived(norms[1], (etype, device, dtype, transposed), make, norms[0], weight, structure[0])  # type: ignore[no-any-return]


def csr_tensor(pointers: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix on the device of its values, of a structure that is right, with indices that products work on."""
    # MKL and cuSPARSE work on 32-bit indices; torch would convert 64-bit ones at every product.
    index_type = torch.int32 if max(*shape, len(values)) < 2**31 else torch.int64
    pointers, columns = (x.to(values.device, index_type) for x in (pointers, columns))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(pointers, columns, values, shape, check_invariants=False)


def _graph_on_device(graph: dgl.DGLGraph, device: torch.device) -> dgl.DGLGraph:
    """A graph, moved once for as long as it lives with these weights."""
    if graph.device == device:
        return graph
    weights = [graph.edges[etype].data["weight"] for etype in graph.canonical_etypes]
    # Every graph's norm is its own: `with_norm` is the last step of whatever makes one.
    norm = graph.nodes[graph.ntypes[0]].data["norm"]
    return derived(norm, device, lambda: graph.to(device), *weights)
