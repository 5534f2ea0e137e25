"""A node type of one's own: communities of items, found by METIS in the training interactions."""

from __future__ import annotations

import numpy as np

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.relations import add_relations
from c2f_dgl.data.splits import Split
from c2f_dgl.examples.compare import main, prepared
from c2f_dgl.graph.hetero import interaction_graph
from c2f_dgl.graph.partition import metis_parts

# Items a community has on average.
_COMMUNITY = 50

SCHEMA = GraphConfig.model_validate(
    {
        "nodes": {"community": {}},
        "relations": {"belongs_to": {"source": "item", "destination": "community", "importance": None}},
    }
)


def prepare(dataset: str, seed: int, added: bool) -> tuple[Split, RunConfig]:
    """`fast`, with a node a community and the relation item-belongs_to-community if they are to be added."""
    split, config = prepared("fast", dataset, seed)
    if not added:
        return split, config
    n_communities = max(2, split.n_items // _COMMUNITY)
    parts = metis_parts(interaction_graph(split.train), n_communities, seed)[split.n_users :]
    _, communities = np.unique(parts, return_inverse=True)
    split = add_relations(split, SCHEMA, {"belongs_to": (np.arange(split.n_items), communities)})
    return split, config.model_copy(update={"graph": SCHEMA})


if __name__ == "__main__":
    main(prepare, __doc__)
