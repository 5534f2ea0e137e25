"""Numbers of meta-embeddings that follow from the data and a budget of learned values."""

from __future__ import annotations

from c2f_dgl.config.schema import CoarseConfig, FineConfig, RunConfig
from c2f_dgl.errors import InputError

# Most values a row of a fine codebook has by default: more of them cost the coarse tier atoms and have shown no use.
_COMPONENTS = 64


def resolve_sizes(config: RunConfig, n_users: int, n_items: int) -> RunConfig:
    """The configuration with every null among ``m``, ``d`` and ``components`` replaced by a number.

    d is m^c, and d^r half of d (at most `_COMPONENTS`), where they are null. A finer tier gets a tenth of the tier
    above, at least its t. The first tier gets the most atoms with which all tiers together, no value of a finer
    codebook being zero, stay within ``model.budget`` values per entity.

    Parameters
    ----------
    n_users, n_items : int
        Of the data.

    Raises
    ------
    InputError
        The budget leaves less than t atoms.
    """
    if config.coarse is None:
        return config
    if config.coarse.m is not None:
        return _with_sizes(config, config.coarse, config.coarse.m)
    allowed = int(config.model.budget * (n_users + n_items))
    needed = max(config.coarse.t, config.coarse.t_user or 0, 1)
    low, high = needed - 1, allowed + 1  # low fits or is too few; high does not fit
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
    t_user = coarse.t if coarse.t_user is None else coarse.t_user
    d = embedding_size(config)
    values, above = n_items * coarse.t + n_users * t_user + codebook_values(coarse, d), coarse.m
    if config.model.layer_weights == "lowpass":
        values += config.model.layers + 1
    values += (config.model.item_scale is None) + (config.model.filter_weight is None)
    for tier in config.finer.values():
        if tier.m is None or tier.components is None:
            raise ValueError("sizes are not resolved")
        values += tier.t * above + tier.m * (tier.components if tier.start == "sparse_pca" else d)
        above = tier.m
    return values


def codebook_values(coarse: CoarseConfig, d: int) -> int:
    """Learned values of E^c (m x d): all of them, or those of a lower triangular factor."""
    m = size_of(coarse)
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
