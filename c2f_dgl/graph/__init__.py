"""The heterograph: built, linked to tiers, partitioned, propagated over."""

from c2f_dgl.graph.hetero import entity_layout, interaction_graph, link_tier
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.graph.partition import entity_groups, metis_parts
from c2f_dgl.graph.propagate import propagate

__all__ = ["NodeLayout", "entity_groups", "entity_layout", "interaction_graph", "link_tier", "metis_parts", "propagate"]
