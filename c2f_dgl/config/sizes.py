"""Numbers of meta-embeddings that follow from the data and a budget of learned values."""

from __future__ import annotations

from dataclasses import dataclass

from c2f_dgl.config.schema import CoarseConfig, FineConfig, RunConfig
from c2f_dgl.errors import InputError


@dataclass(frozen=True)
class AtomBlock:
    """The atoms that a node type is composed of: consecutive rows of the first codebook.

    Parameters
    ----------
    t : int
        Atoms that one node is composed of.
    start, stop : int
        The rows.
    """

    t: int
    start: int
    stop: int

    @property
    def rows(self) -> slice:
        """The rows."""
        return slice(self.start, self.stop)


# Most atoms of a spectral start by default: what it takes grows with entities x atoms and with atoms^2, and directions
# beyond the first hundreds rank no better.
_MOST_SPECTRAL = 512

# Most values a row of a fine codebook has by default: more of them cost the coarse tier atoms and have shown no use.
_COMPONENTS = 64


def resolve_sizes(config: RunConfig, n_users: int, n_items: int) -> RunConfig:
    """The configuration with every null among ``m``, ``d`` and ``components`` replaced by a number.

    d is m^c, and d^r half of d (at most `_COMPONENTS`), where they are null. A finer tier gets a tenth of the tier
    above, at least its t. The first tier gets the most atoms with which all tiers together, no value of a finer
    codebook being zero, stay within ``model.budget`` values per user and item, and at most `_MOST_SPECTRAL` for a
    spectral start: further node types and features are paid for out of the same budget.

    Parameters
    ----------
    n_users, n_items : int
        Of the data.

    Raises
    ------
    InputError
        The budget leaves less than t atoms, or there are more atoms than nodes to share them.
    """
    if config.coarse is None:
        return config
    if config.coarse.m is not None:
        resolved = _with_sizes(config, config.coarse, config.coarse.m)
        if config.coarse.m > (most := _sharing(resolved, n_users, n_items)):
            raise InputError(
                f"{config.coarse.m:,} meta-embeddings for {most:,} nodes", where="coarse.m", expected="at most as many"
            )
        return resolved
    allowed = int(config.model.budget * (n_users + n_items))
    shared = [node.t or 0 for node in config.graph.nodes.values() if node.codebook == "shared"]
    needed = max(config.coarse.t, config.coarse.t_user or 0, 1, *shared)
    most = _sharing(_with_sizes(config, config.coarse, needed), n_users, n_items)
    if config.coarse.start == "spectral":
        most = min(most, max(_MOST_SPECTRAL, needed))
    low, high = needed - 1, min(allowed, most) + 1  # low fits or is too few; high does not fit
    while high - low > 1:
        middle = (low + high) // 2
        fits = most_values(_with_sizes(config, config.coarse, middle), n_users, n_items) <= allowed
        low, high = (middle, high) if fits else (low, middle)
    if low < needed:
        raise InputError(
            f"{config.model.budget:g} learned values per entity do not pay for {needed} coarse meta-embeddings",
            where="model.budget",
            expected="a larger budget, a smaller model.d or coarse.t, or coarse.m",
        )
    return _with_sizes(config, config.coarse, low)


def most_values(config: RunConfig, n_users: int, n_items: int) -> int:
    """Learned values of a configuration with sizes, were no value of a finer codebook zero (paper, Sec. 4.5)."""
    coarse = config.coarse
    if coarse is None or coarse.m is None:
        raise ValueError("sizes are not resolved")
    d, atoms, sizes = embedding_size(config), n_atoms(config), _node_counts(config, n_users, n_items)
    values = sum(sizes[node_type] * block.t for node_type, block in atom_blocks(config).items())
    values, above = values + codebook_values(coarse, atoms, d), atoms
    values += config.model.chosen_scalars
    values += sum(not isinstance(relation.importance, float) for relation in config.graph.extra.values())
    for tier in config.finer.values():
        if tier.m is None or tier.components is None:
            raise ValueError("sizes are not resolved")
        values += tier.t * above + tier.m * (tier.components if tier.start == "sparse_pca" else d)
        above = tier.m
    return values


def _sharing(config: RunConfig, n_users: int, n_items: int) -> int:
    """How many nodes are composed of the shared atoms."""
    counts = _node_counts(config, n_users, n_items)
    return sum(counts[name] for name, block in atom_blocks(config).items() if block.start == 0 and block.t)


def _node_counts(config: RunConfig, n_users: int, n_items: int) -> dict[str, int]:
    """Nodes of every entity type."""
    roles = config.graph.roles
    return {roles.query: n_users, roles.ranked: n_items} | {name: _size(config, name) for name in roles.others}


def atom_blocks(config: RunConfig) -> dict[str, AtomBlock]:
    """Atoms of the first tier that each entity type is composed of, in stacking order.

    The shared atoms come first, then those of own codebooks in stacking order, then those of feature columns.
    """
    if config.coarse is None:
        raise ValueError("a full table has no atoms")
    coarse, roles, blocks = config.coarse, config.graph.roles, {}
    stop = size_of(coarse)
    for node_type in roles.entities:
        node, t = config.graph.node(node_type), slots_of(config, node_type)
        if node.codebook == "shared":
            blocks[node_type] = AtomBlock(t, 0, size_of(coarse))
        elif node.m is None:
            raise ValueError("sizes are not resolved")
        else:
            blocks[node_type] = AtomBlock(t, stop, stop + node.m)
            stop += node.m
        block = blocks[node_type]
        if t > block.stop - block.start:
            raise InputError(
                f"t = {t} of {block.stop - block.start} meta-embeddings",
                where=f"graph.nodes.{node_type}",
                expected="fewer",
            )
    return blocks


def slots_of(config: RunConfig, node_type: str) -> int:
    """t of an entity type."""
    if config.coarse is None:
        raise ValueError("a full table has no atoms")
    coarse, own = config.coarse, config.graph.node(node_type).t
    if own is not None:
        return own
    return coarse.t if node_type == config.graph.ranked or coarse.t_user is None else coarse.t_user


def n_atoms(config: RunConfig) -> int:
    """Rows of the first codebook: shared atoms, own ones, and one a feature column."""
    nodes = config.graph.nodes.values()
    return max(block.stop for block in atom_blocks(config).values()) + sum(node.width or 0 for node in nodes)


def codebook_values(coarse: CoarseConfig, m: int, d: int) -> int:
    """Learned values of E^c (m x d): all of them, or those of a lower triangular factor."""
    if coarse.start != "spectral":
        return m * d
    square = min(m, d)
    return square * (square + 1) // 2 + (m - square) * d


def embedding_size(config: RunConfig) -> int:
    """d, once resolved."""
    if config.model.d is None:
        raise ValueError("the embedding size is not resolved")
    return config.model.d


def size_of(tier: CoarseConfig | FineConfig) -> int:
    """m, once resolved (see `resolve_sizes`)."""
    if tier.m is None:
        raise ValueError("the number of meta-embeddings is not resolved")
    return tier.m


def _size(config: RunConfig, node_type: str) -> int:
    size = config.graph.node(node_type).size
    if size is None:
        raise ValueError(f"the number of nodes of type {node_type} is not resolved")
    return size


def _with_sizes(config: RunConfig, coarse: CoarseConfig, m: int) -> RunConfig:
    d = m if config.model.d is None else config.model.d
    finer, above = dict(config.finer), m
    for name, tier in finer.items():
        size = max(tier.t, above // 10) if tier.m is None else tier.m
        components = max(1, min(d // 2, _COMPONENTS)) if tier.components is None else tier.components
        finer[name] = tier.model_copy(update={"m": size, "components": components})
        above = size
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"d": d}),
            "coarse": coarse.model_copy(update={"m": m}),
            "finer": finer,
        }
    )
