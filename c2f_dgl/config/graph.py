"""The schema of a run's graph: node types, relations, and which relation is to be predicted.

Entities are the nodes of the data; meta nodes are the tiers (`CoarseConfig`, `FineConfig`). Two entity types have a
role: recommendations are made *to* nodes of type ``query``, *of* nodes of type ``ranked``, and ``target`` is the
relation between them that is split, trained on and evaluated. Every other type and relation only takes part in the
propagation.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from c2f_dgl.config.roles import REVERSE_PREFIX, Roles, colliding


class Options(BaseModel):
    """A group of options: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NodeConfig(Options):
    """An entity type: how its H(0) is composed, and how many nodes it has."""

    size: int | None = Field(None, ge=1, description="number of nodes; null: as many as the data has")
    codebook: Literal["shared", "own"] = Field(
        "shared", description="composed from the first tier's meta-embeddings, or from some that no other type uses"
    )
    m: int | None = Field(None, ge=1, description="meta-embeddings of an own codebook; null: a tenth of the nodes")
    t: int | None = Field(
        None,
        ge=0,
        description="meta-embeddings a node is composed of; null: coarse.t for the ranked type, coarse.t_user for the "
        "others; 0: composed by propagation from its neighbours alone",
    )
    features: str | None = Field(
        None, description="a .npy file beside the data, (nodes, columns): each column is one more meta-embedding"
    )
    width: int | None = Field(None, ge=1, description="columns of the features; found from the data")

    @model_validator(mode="after")
    def _possible(self) -> NodeConfig:
        if self.m is not None and self.codebook == "shared":
            raise ValueError("m is for an own codebook: the shared one has coarse.m meta-embeddings")
        return self


class RelationConfig(Options):
    """A relation: where its edges come from, and what they weigh."""

    source: str | None = Field(None, description="node type; null for the target relation")
    destination: str | None = Field(None, description="node type; null for the target relation")
    file: str | None = Field(
        None, description="a table beside the data: source id, destination id, weight; null: given from Python"
    )
    weighted: bool = Field(False, description="edges have the weights of the third column, else 1")
    transform: Literal["none", "log"] = Field("none", description="of the weights: log is log(1 + w)")
    symmetric: bool = Field(True, description="messages go both ways; false: from source to destination alone")
    normalisation: Literal["joint", "own"] = Field(
        "joint",
        description="joint: degrees count all relations alike; own: weights are first divided by the roots of the "
        "relation's own degrees, so that it counts about as one edge at every node",
    )
    importance: float | Literal["learned"] | None = Field(
        1.0,
        description="factor on the weights; null: chosen on validation (coarse.start spectral); learned: by gradient, "
        "through message passing",
    )
    unknown: Literal["error", "drop"] = Field("error", description="what to do with edges of ids the data lacks")

    @model_validator(mode="after")
    def _possible(self) -> RelationConfig:
        if isinstance(self.importance, float) and not 0 < self.importance < float("inf"):
            raise ValueError(f"importance = {self.importance:g}: expected a number above 0, null or learned")
        if self.transform != "none" and not self.weighted:
            raise ValueError(f"transform {self.transform} needs weights: expected weighted: true")
        return self


class GraphConfig(Options):
    """Node types and relations of the graph, and the relation that is predicted."""

    query: str = Field("user", description="node type that is recommended to")
    target: str = Field("interacts", description="relation that is predicted, from the query type to the ranked one")
    ranked: str = Field("item", description="node type that is recommended")
    nodes: dict[str, NodeConfig] = Field({}, description="further entity types, and what the two above need beyond t")
    relations: dict[str, RelationConfig] = Field(
        {}, description="further relations; one of the target's name sets the weights of the interactions"
    )

    @property
    def roles(self) -> Roles:
        """Node types and the target relation as the graph has them."""
        others = tuple(name for name in self.nodes if name not in (self.query, self.ranked))
        return Roles(self.query, self.target, self.ranked, others)

    @property
    def extra(self) -> dict[str, RelationConfig]:
        """The relations beside the target."""
        return {name: relation for name, relation in self.relations.items() if name != self.target}

    def node(self, node_type: str) -> NodeConfig:
        """Options of an entity type."""
        return self.nodes.get(node_type, NodeConfig())

    @model_validator(mode="after")
    def _possible(self) -> GraphConfig:
        if self.query == self.ranked:
            raise ValueError(f"query and ranked are both {self.query!r}: expected two node types")
        for name in (*self.roles.entities, self.target, *self.relations):
            if not name.isidentifier() or name.startswith(REVERSE_PREFIX):
                raise ValueError(f"{name!r} cannot name a node type or relation: expected an identifier")
        for name in colliding({self.target, *self.relations}):
            raise ValueError(f"{name!r} cannot name a relation here: it is what the reverse of another is called")
        if (target := self.relations.get(self.target)) is not None:
            for end, given, own in (
                ("source", target.source, self.query),
                ("destination", target.destination, self.ranked),
            ):
                if given not in (None, own):
                    raise ValueError(f"relations.{self.target}.{end}: {given!r}: expected {own!r}, as the target has")
            if target.importance != 1 or not target.symmetric:
                raise ValueError(f"relations.{self.target}: the target relation is symmetric and has importance 1")
        for name, relation in self.extra.items():
            for end, node_type in (("source", relation.source), ("destination", relation.destination)):
                if node_type not in self.roles.entities:
                    raise ValueError(f"relations.{name}.{end}: {_unknown(node_type, self.roles.entities)}")
        return self


def _unknown(node_type: str | None, known: Iterable[str]) -> str:
    """What is wrong with a node type that is none of the known."""
    if node_type is None:
        return "is missing: expected a node type"
    near = difflib.get_close_matches(node_type, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"a new one stands in graph.nodes, e.g. {node_type}: {{}}"
    return f"no node type {node_type!r}; {hint}"
