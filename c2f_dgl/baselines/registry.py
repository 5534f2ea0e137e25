"""All systems by name. A new one is a module with ``SYSTEMS`` and a line in `_MODULES`."""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType

from c2f_dgl.baselines import (
    anchors,
    autoemb,
    cerp,
    ciess,
    dgl_lightgcn,
    dgl_ngcf,
    dhe,
    esapn,
    full,
    graph_filters,
    item_item,
    legcf,
    nimble_tt,
    optembed,
    ours,
    pep,
    pruned,
    qr,
)
from c2f_dgl.baselines.system import System
from c2f_dgl.errors import InputError

# One a line, in the order of the table.
_MODULES: tuple[ModuleType, ...] = (
    ours,
    full,
    qr,
    legcf,
    dhe,
    nimble_tt,
    pep,
    cerp,
    autoemb,
    esapn,
    optembed,
    ciess,
    anchors,
    item_item,
    graph_filters,
    pruned,
    dgl_lightgcn,
    dgl_ngcf,
)

SYSTEMS: dict[str, System] = {system.name: system for module in _MODULES for system in module.SYSTEMS}


def find_system(reference: str) -> System:
    """A system by its name, or by ``module:attribute`` for one that is not of this package.

    Raises
    ------
    InputError
        There is none.
    """
    module, colon, attribute = reference.partition(":")
    if not colon:
        if reference in SYSTEMS:
            return SYSTEMS[reference]
        near = difflib.get_close_matches(reference, SYSTEMS, n=1, cutoff=0.3)
        raise InputError(f"no system {reference!r}", where="--systems", expected=f"e.g. {(near or list(SYSTEMS))[0]}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{error}", where=f"--systems {reference}", expected="module:attribute") from error
    if not isinstance(found, System):
        raise InputError(f"is a {type(found).__name__}", where=f"--systems {reference}", expected="a System")
    return found


def select_systems(names: str) -> list[str]:
    """References from a list with commas: ``all``, names, families, ``module:attribute``; in order, each once."""
    selected: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        family = [system.name for system in SYSTEMS.values() if name in ("all", system.family)]
        if name not in SYSTEMS and family:
            selected += family
        else:
            find_system(name)
            selected.append(name)
    selected = list(dict.fromkeys(selected))
    owner: dict[str, str] = {}
    for reference in selected:
        name = find_system(reference).name
        if name in owner:
            raise InputError(f"{owner[name]} and {reference} are both called {name}", expected="a name of its own each")
        owner[name] = reference
    return selected
