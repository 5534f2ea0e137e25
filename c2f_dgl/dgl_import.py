"""`import dgl` beside any torch, torchdata and setuptools.

The Linux wheels of DGL on PyPI stop at 2.1.0. ``import dgl`` fails there on torch > 2.2 (no prebuilt graphbolt
library for it), on torchdata >= 0.10 (no ``datapipes``) and on setuptools >= 71 (no ``setuptools.extern``). Where it
does, and only there, an empty ``dgl.graphbolt`` and, if missing, ``setuptools.extern.packaging`` are put in
``sys.modules``: heterographs and message passing need neither.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import types
import warnings
from typing import TYPE_CHECKING

log = logging.getLogger("c2f_dgl")

# Without it DGL prints a notice on standard output's sibling and writes a file to the home folder at first import.
os.environ.setdefault("DGLBACKEND", "pytorch")


def import_dgl() -> types.ModuleType:
    """DGL, with stand-ins where a plain import fails; `ImportError` where they do not cure it."""
    if "dgl" in sys.modules:
        return sys.modules["dgl"]
    try:
        return _import()
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "dgl":
            raise
        reason = str(error).splitlines()[0]
    for name in [name for name in sys.modules if name == "dgl" or name.startswith("dgl.")]:
        del sys.modules[name]  # left behind by the import that failed
    names = ", ".join(_stand_in())
    module = _import()
    log.info("dgl %s does not import by itself here (%s); using stand-ins for %s", module.__version__, reason, names)
    return module


def _import() -> types.ModuleType:
    with warnings.catch_warnings():
        # DGL loads tqdm's bars, which tell a notebook without ipywidgets to install them; none of them is shown here.
        warnings.filterwarnings("ignore", "IProgress not found")
        return importlib.import_module("dgl")


def _stand_in() -> list[str]:
    """Put the stand-ins in `sys.modules`; return the names of those that were needed."""
    graphbolt = types.ModuleType("dgl.graphbolt")
    graphbolt.__doc__ = "Empty: c2f_dgl does not use graphbolt, whose native library lacks a build for this torch."
    sys.modules["dgl.graphbolt"] = graphbolt
    try:
        importlib.import_module("setuptools.extern.packaging")
        return ["dgl.graphbolt"]
    except ImportError:
        packaging = importlib.import_module("packaging")
        importlib.import_module("packaging.version")
        extern = types.ModuleType("setuptools.extern")
        extern.packaging = packaging  # type: ignore[attr-defined]
        sys.modules["setuptools.extern"] = extern
        sys.modules["setuptools.extern.packaging"] = packaging
        return ["dgl.graphbolt", "setuptools.extern.packaging"]


if TYPE_CHECKING:
    import dgl
else:
    dgl = import_dgl()
