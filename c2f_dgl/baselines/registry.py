"""All systems by name. A new one is a module with ``SYSTEMS`` and its name in `_MODULES`."""

from __future__ import annotations

import difflib
import importlib

from c2f_dgl.baselines.system import System
from c2f_dgl.errors import InputError

# In the order of the table.
_MODULES = (
    *("ours", "full", "qr", "legcf", "dhe", "nimble_tt", "pruning", "autoemb", "esapn", "optembed", "ciess"),
    *("anchors", "item_item", "graph_filters", "dgl_programs"),
)

SYSTEMS: dict[str, System] = {
    system.name: system
    for module in _MODULES
    for system in importlib.import_module(f"c2f_dgl.baselines.{module}").SYSTEMS
}


def find_system(reference: str) -> System:
    """A system by its name, or by ``module:attribute`` for one that is not of this package; `InputError` for none."""
    module, colon, attribute = reference.partition(":")
    if not colon:
        if reference in SYSTEMS:
            return SYSTEMS[reference]
        near = difflib.get_close_matches(reference, SYSTEMS, n=1, cutoff=0.3)
        raise InputError(f"no system {reference!r}", where="--systems", expected=f"e.g. {(near or list(SYSTEMS))[0]}")
    try:
        system = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{error}", where=f"--systems {reference}", expected="module:attribute") from error
    if not isinstance(system, System):
        raise InputError(f"is a {type(system).__name__}", where=f"--systems {reference}", expected="a System")
    return system


def select_systems(names: str) -> list[str]:
    """References from a list with commas: ``all``, names, families, ``module:attribute``; in order, each once."""
    selected: dict[str, str] = {}  # reference to name
    for name in (part.strip() for part in names.split(",")):
        family = [system.name for system in SYSTEMS.values() if name in ("all", system.family)]
        for reference in [name] if name in SYSTEMS or not family else family:
            selected[reference] = find_system(reference).name
    owners: dict[str, str] = {}
    for reference, name in selected.items():
        if (owner := owners.setdefault(name, reference)) != reference:
            raise InputError(f"{owner} and {reference} are both called {name}", expected="a name of its own each")
    return list(selected)
