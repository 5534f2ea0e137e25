"""Which node types of a heterograph are entities, and which relation is to be predicted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EdgeType = tuple[str, str, str]

# As in `dgl.transforms.AddReverse`.
REVERSE_PREFIX = "rev_"
_REVERSES = {"interacts": "interacted_by"}


@dataclass(frozen=True)
class Roles:
    """The entity types of a graph in stacking order, two of them with a role.

    Parameters
    ----------
    query : str
        Node type that is recommended to; the paper's users.
    name : str
        Name of the relation that is predicted.
    ranked : str
        Node type that is recommended; the paper's items.
    others : tuple of str
        Further entity types.
    """

    query: str = "user"
    name: str = "interacts"
    ranked: str = "item"
    others: tuple[str, ...] = ()

    @property
    def entities(self) -> tuple[str, ...]:
        """All entity types: the query type, the ranked one, the others."""
        return (self.query, self.ranked, *self.others)

    @property
    def target(self) -> EdgeType:
        """The relation that is predicted."""
        return (self.query, self.name, self.ranked)


def reverse_name(name: str) -> str:
    """Name of the relation that carries the messages of `name` back."""
    return _REVERSES.get(name, f"{REVERSE_PREFIX}{name}")


def reverse(etype: EdgeType) -> EdgeType:
    """The relation with the edges of `etype` the other way."""
    source, name, destination = etype
    return (destination, reverse_name(name), source)


def colliding(names: Iterable[str]) -> set[str]:
    """Relations among `names` that are called what another one's reverse is called."""
    names = set(names)
    return {name for name in names if name in {reverse_name(other) for other in names}}


DEFAULT_ROLES = Roles()
