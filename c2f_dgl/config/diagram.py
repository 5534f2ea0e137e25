"""The schema of a run as a Mermaid diagram: entities, relations, tiers."""

from __future__ import annotations

from c2f_dgl.config.graph import GraphConfig, RelationConfig
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import slots_of


def mermaid(config: RunConfig) -> str:
    """A Mermaid flow chart: entities as circles, tiers as boxes, and a thick arrow for the relation that is predicted.

    A dotted one leads from a node type to the tier that composes or refines it; sizes stand where they are known.
    """
    graph = config.graph
    lines = ["graph LR"]
    lines += [f'  {node_type}(("{_entity(graph, node_type)}"))' for node_type in graph.roles.entities]
    lines.append(f'  {graph.query} == "{_label(graph, graph.target)}" ==> {graph.ranked}')
    for name, relation in graph.extra.items():
        arrow = "---" if relation.symmetric else "-->"
        lines.append(f'  {relation.source} -- "{_label(graph, name)}" {arrow} {relation.destination}')
    if config.coarse is None:
        return "\n".join(lines)
    lines.append(_tier("coarse", config.coarse.m))
    for node_type in graph.roles.entities:
        if t := slots_of(config, node_type):
            lines.append(f'  {node_type} -. "composed_of, t = {t}" .-> coarse')
    above = "coarse"
    for name, tier in config.finer.items():
        lines += [_tier(name, tier.m), f'  {above} -. "refined_by, t = {tier.t}" .-> {name}']
        above = name
    return "\n".join(lines)


def _tier(name: str, m: int | None) -> str:
    size = "" if m is None else f"<br>{m:,} meta-embeddings"
    return f'  {name}("{name}{size}")'


def _entity(graph: GraphConfig, node_type: str) -> str:
    node = graph.node(node_type)
    facts = [node_type]
    if node.size is not None:
        facts.append(f"{node.size:,} nodes")
    if node_type in (graph.query, graph.ranked):
        facts.append("recommended to" if node_type == graph.query else "ranked")
    if node.features is not None or node.width is not None:
        facts.append("features" if node.width is None else f"{node.width:,} features")
    if node.codebook == "own":
        facts.append("own codebook" if node.m is None else f"own codebook of {node.m:,}")
    return "<br>".join(facts)


def _label(graph: GraphConfig, name: str) -> str:
    relation, facts = graph.relations.get(name, RelationConfig()), [name]
    if relation.weighted:
        facts.append("weighted" if relation.transform == "none" else f"{relation.transform} weights")
    if relation.normalisation == "own":
        facts.append("own normalisation")
    if name != graph.target:
        facts.append(f"importance {'chosen' if relation.importance is None else relation.importance}")
    return ", ".join(facts)
