"""Numbers of meta-embeddings that follow from the data and a budget of learned values."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from c2f_dgl.config.schema import CoarseConfig, FineConfig, RunConfig
from c2f_dgl.errors import InputError

# Most atoms of a spectral start by default: what it takes grows with entities x atoms and with atoms^2, and directions
# beyond the first hundreds rank no better.
_MOST_SPECTRAL = 512

# Most values of its basis, entities x atoms in float64: 4 GiB.
_MOST_BASIS = 2**29

# Most values a row of a fine codebook has by default: more of them cost the coarse tier atoms and have shown no use.
_COMPONENTS = 64

# Neighbours of all items in a filter, 8 bytes each, and of one at least: how many are worth it differs by data.
_NEIGHBOURS, _LEAST_NEIGHBOURS = 2**24, 100


@dataclass(frozen=True)
class AtomBlock:
    """The atoms that a node type is composed of, t a node: rows `start` to `stop` of the first codebook."""

    t: int
    start: int
    stop: int

    @property
    def rows(self) -> slice:
        """The rows."""
        return slice(self.start, self.stop)


def resolve_sizes(config: RunConfig, n_users: int, n_items: int) -> RunConfig:
    """The configuration with every null among ``m``, ``components`` and ``filter_neighbours`` replaced by a number.

    d^r is half of d (at most `_COMPONENTS`) where it is null; a d^c that is null is chosen later, m at most. A finer
    tier gets a tenth of the tier above, at least its t. The first tier gets the most atoms with which all tiers
    together, no value of a finer codebook being zero, stay within ``model.budget`` values per user and item: further
    node types and features are paid for out of the same budget. A spectral start gets at most `_MOST_SPECTRAL`, fewer
    where their basis would have over `_MOST_BASIS` values, and at least t; elsewhere a budget for less than t atoms is
    refused, as are more atoms than nodes to share them.
    """
    if config.model.filter_neighbours is None:
        neighbours = min(n_items, max(_LEAST_NEIGHBOURS, _NEIGHBOURS // max(n_items, 1)))
        model = config.model.model_copy(update={"filter_neighbours": neighbours})
        config = config.model_copy(update={"model": model})
    coarse = config.coarse
    if coarse is None:
        return config
    if coarse.m is not None:
        resolved = _with_sizes(config, coarse.m)
        if coarse.m > (most := _n_sharing(resolved, n_users, n_items)):
            problem = f"{coarse.m:,} meta-embeddings for {most:,} nodes"
            raise InputError(problem, where="coarse.m", expected="at most as many")
        return resolved
    budget = int(config.model.budget * (n_users + n_items))
    slots = [node.t or 0 for node in config.graph.nodes.values() if node.codebook == "shared"]
    least = max(coarse.t, coarse.t_user or 0, 1, *slots)
    most = _n_sharing(_with_sizes(config, least), n_users, n_items)
    if coarse.start == "spectral":
        most = min(most, max(least, min(_MOST_SPECTRAL, _MOST_BASIS // (n_users + n_items))))
    sizes = range(least, min(budget, most) + 1)
    n_fitting = bisect_right(sizes, budget, key=lambda m: most_values(_with_sizes(config, m), n_users, n_items))
    if n_fitting == 0 and coarse.start != "spectral":  # whose other scalars cost a handful of users and items as much
        problem = f"{config.model.budget:g} learned values per entity do not pay for {least} coarse meta-embeddings"
        expected = "a larger budget, a smaller model.d or coarse.t, or coarse.m"
        raise InputError(problem, where="model.budget", expected=expected)
    return _with_sizes(config, least + max(n_fitting - 1, 0))


def _with_sizes(config: RunConfig, m: int) -> RunConfig:
    """The configuration with `m` coarse atoms and the sizes that follow from them."""
    assert config.coarse is not None
    d = m if config.model.d is None else config.model.d
    finer, above = dict(config.finer), m
    for name, tier in finer.items():
        above = max(tier.t, above // 10) if tier.m is None else tier.m
        components = max(1, min(d // 2, _COMPONENTS)) if tier.components is None else tier.components
        finer[name] = tier.model_copy(update={"m": above, "components": components})
    return config.model_copy(update={"coarse": config.coarse.model_copy(update={"m": m}), "finer": finer})


def most_values(config: RunConfig, n_users: int, n_items: int) -> int:
    """Learned values of a configuration with sizes, were no value of a finer codebook zero (paper, Sec. 4.5)."""
    coarse = config.coarse
    assert coarse is not None
    d, atoms, counts = embedding_size(config), n_atoms(config), _node_counts(config, n_users, n_items)
    values = sum(counts[node_type] * block.t for node_type, block in atom_blocks(config).items())
    # E^c is whole, or a lower triangular factor.
    square = min(atoms, d) if coarse.start == "spectral" else 0
    values += square * (square + 1) // 2 + (atoms - square) * d
    values += config.model.chosen_scalars
    values += sum(not isinstance(relation.importance, float) for relation in config.graph.extra.values())
    above = atoms
    for tier in config.finer.values():
        width = _resolved(tier.components, "components") if tier.start == "sparse_pca" else d
        values += tier.t * above + size_of(tier) * width
        above = size_of(tier)
    return values


def _n_sharing(config: RunConfig, n_users: int, n_items: int) -> int:
    """How many nodes are composed of the shared atoms."""
    counts = _node_counts(config, n_users, n_items)
    return sum(counts[name] for name, block in atom_blocks(config).items() if block.start == 0 and block.t)


def _node_counts(config: RunConfig, n_users: int, n_items: int) -> dict[str, int]:
    """Nodes of every entity type."""
    graph = config.graph
    further = {name: _resolved(graph.node(name).size, f"graph.nodes.{name}.size") for name in graph.roles.others}
    return {graph.query: n_users, graph.ranked: n_items, **further}


def atom_blocks(config: RunConfig) -> dict[str, AtomBlock]:
    """Atoms of the first tier that each entity type is composed of, in stacking order.

    The shared atoms come first, then those of own codebooks in stacking order, then those of feature columns.
    """
    if config.coarse is None:
        raise ValueError("a full table has no atoms")
    n_shared = stop = size_of(config.coarse)
    blocks = {}
    for node_type in config.graph.roles.entities:
        node, t = config.graph.node(node_type), slots_of(config, node_type)
        start, size = 0, n_shared
        if node.codebook == "own":
            start, size = stop, _resolved(node.m, f"graph.nodes.{node_type}.m")
            stop += size
        if t > size:
            raise InputError(f"t = {t} of {size} meta-embeddings", where=f"graph.nodes.{node_type}", expected="fewer")
        blocks[node_type] = AtomBlock(t, start, start + size)
    return blocks


def slots_of(config: RunConfig, node_type: str) -> int:
    """t of an entity type."""
    coarse, t = config.coarse, config.graph.node(node_type).t
    if coarse is None:
        raise ValueError("a full table has no atoms")
    if t is not None:
        return t
    return coarse.t if node_type == config.graph.ranked or coarse.t_user is None else coarse.t_user


def n_atoms(config: RunConfig) -> int:
    """Rows of the first codebook: shared atoms, own ones, and one a feature column."""
    nodes = config.graph.nodes.values()
    return max(block.stop for block in atom_blocks(config).values()) + sum(node.width or 0 for node in nodes)


def embedding_size(config: RunConfig) -> int:
    """d, or where it is null the most it may be, one for each coarse atom."""
    return size_of(config.coarse) if config.model.d is None and config.coarse else _resolved(config.model.d, "model.d")


def n_neighbours(config: RunConfig) -> int:
    """Neighbours of an item in the filter, once resolved."""
    return _resolved(config.model.filter_neighbours, "model.filter_neighbours")


def size_of(tier: CoarseConfig | FineConfig) -> int:
    """m of a tier, once resolved."""
    return _resolved(tier.m, "m")


def _resolved(value: int | None, option: str) -> int:
    if value is None:
        raise ValueError(f"{option} is not resolved: see resolve_sizes")
    return value
