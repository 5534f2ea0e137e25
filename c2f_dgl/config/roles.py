"""Which node types of a heterograph are entities, and which relation is to be predicted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EdgeType = tuple[str, str, str]

# As in `dgl.transforms.AddReverse`.
REVERSE_PREFIX = "rev_"


@dataclass(frozen=True)
class Roles:
    """The entity types of a graph in stacking order, and the relation between two of them that is predicted."""

    query: str = "user"  # recommended to
    name: str = "interacts"
    ranked: str = "item"  # recommended
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
    return "interacted_by" if name == "interacts" else f"{REVERSE_PREFIX}{name}"


def reverse(etype: EdgeType) -> EdgeType:
    """The relation with the edges of `etype` the other way."""
    source, name, destination = etype
    return (destination, reverse_name(name), source)


def colliding(names: Iterable[str]) -> set[str]:
    """Relations among `names` that are called what another one's reverse is called."""
    names = set(names)
    return names & {reverse_name(name) for name in names}


DEFAULT_ROLES = Roles()
