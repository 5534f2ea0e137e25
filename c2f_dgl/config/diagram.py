"""The schema of a run as a Mermaid diagram: entities, relations, tiers."""

from __future__ import annotations

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import slots_of


def mermaid(config: RunConfig) -> str:
    """A Mermaid flow chart of a run's node types and relations.

    Entities are circles, tiers are rounded boxes; a thick arrow is the relation that is predicted, a dotted one leads
    from a node type to the tier that composes or refines it. Sizes stand where they are known, as in a run's folder.
    """
    graph = config.graph
    lines = ["graph LR"]
    for node_type in graph.roles.entities:
        lines.append(f'  {node_type}(("{_entity(config, node_type)}"))')
    target = graph.relations.get(graph.target)
    facts = [] if target is None else _facts(graph, graph.target)
    lines.append(f'  {graph.query} == "{", ".join([graph.target, *facts])}" ==> {graph.ranked}')
    for name, relation in graph.extra.items():
        arrow = "---" if relation.symmetric else "-->"
        label = ", ".join([name, *_facts(graph, name)])
        lines.append(f'  {relation.source} -- "{label}" {arrow} {relation.destination}')
    above, composed = list(graph.roles.entities), "composed_of, t = {t}"
    if config.coarse is not None:
        tiers = [("coarse", config.coarse.m, 0), *((name, tier.m, tier.t) for name, tier in config.finer.items())]
        for name, m, t_finer in tiers:
            size = "" if m is None else f"<br>{m:,} meta-embeddings"
            lines.append(f'  {name}("{name}{size}")')
            for parent in above:
                t = t_finer or slots_of(config, parent)
                if t:
                    lines.append(f'  {parent} -. "{composed.format(t=t)}" .-> {name}')
            above, composed = [name], "refined_by, t = {t}"
    return "\n".join(lines)


def _entity(config: RunConfig, node_type: str) -> str:
    node = config.graph.node(node_type)
    roles = {config.graph.query: "recommended to", config.graph.ranked: "ranked"}
    facts = [node_type]
    if node.size is not None:
        facts.append(f"{node.size:,} nodes")
    if node_type in roles:
        facts.append(roles[node_type])
    if node.features is not None or node.width is not None:
        facts.append("features" if node.width is None else f"{node.width:,} features")
    if node.codebook == "own":
        facts.append("own codebook" if node.m is None else f"own codebook of {node.m:,}")
    return "<br>".join(facts)


def _facts(graph: GraphConfig, name: str) -> list[str]:
    relation = graph.relations[name]
    facts = []
    if relation.weighted:
        facts.append("weighted" if relation.transform == "none" else f"{relation.transform} weights")
    if relation.normalisation == "own":
        facts.append("own normalisation")
    if name != graph.target:
        facts.append(f"importance {'chosen' if relation.importance is None else relation.importance}")
    return facts
