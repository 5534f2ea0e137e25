"""All systems by name. A new one is a module with ``SYSTEMS`` and a line in `_MODULES`."""

from __future__ import annotations

from types import ModuleType

from c2f_dgl.baselines import full, qr
from c2f_dgl.baselines.system import System

# One a line, in the order of the table.
_MODULES: tuple[ModuleType, ...] = (
    full,
    qr,
)

SYSTEMS: dict[str, System] = {system.name: system for module in _MODULES for system in module.SYSTEMS}
