"""Learned importances of relations: one positive factor on all weights of a relation and its reverse."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from c2f_dgl.roles import EdgeType, reverse


class RelationImportance(nn.Module):
    """Factors exp(a_r), one learned value a_r a relation.

    H is not linear in them (they are in the products of all layers, and in D), so they need message passing.

    Parameters
    ----------
    start : mapping of relation to float
        Factor that each starts at, > 0.
    """

    def __init__(self, start: Mapping[EdgeType, float]) -> None:
        super().__init__()
        self.relations = tuple(start)
        self.log_factor = nn.Parameter(torch.tensor([start[etype] for etype in self.relations]).log())

    def factors(self) -> dict[EdgeType, Tensor]:
        """exp(a_r) of each relation and its reverse, differentiable."""
        values = dict(zip(self.relations, self.log_factor.exp(), strict=True))
        return values | {reverse(etype): factor for etype, factor in values.items() if etype[0] != etype[2]}

    def values(self) -> dict[str, float]:
        """Factors by the relation's name."""
        found = self.log_factor.detach().exp().tolist()
        return {etype[1]: factor for etype, factor in zip(self.relations, found, strict=True)}
