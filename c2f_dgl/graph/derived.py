"""What is derived from a relation's weights and structure, kept for as long as the weights live."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from c2f_dgl.dgl_import import dgl
from c2f_dgl.roles import EdgeType


class _Kept(NamedTuple):
    version: int
    pointers: Tensor
    value: Any


class Derived:
    """Values by relation, made once for all graphs that share the relation.

    One relation's matrices serve every graph that has it: after an assignment update only the tier's are made anew. A
    value is made again where the weights have changed in place, or weigh another structure.
    """

    def __init__(self) -> None:
        self._kept = WeakTensorKeyDictionary()

    def get(
        self,
        graph: dgl.DGLGraph,
        etype: EdgeType,
        key: Hashable,
        make: Callable[[], Any],
        layout: Literal["csr", "csc"] = "csc",
    ) -> Any:
        """The value of `key` for a relation of `graph`, from ``make()`` where there is none.

        Parameters
        ----------
        graph : DGLGraph
            Edge data ``weight``.
        etype : (source, name, destination)
        key : hashable
        make : callable
        layout : {"csr", "csc"}
            Which of DGL's formats `make` reads: the other is not formed for the comparison.
        """
        weight = graph.edges[etype].data["weight"]
        # DGL hands out its own memory: held here, no other structure's pointers can come to lie at the same place.
        pointers = graph.adj_tensors(layout, etype)[0]
        version = changes(weight)
        values = self._kept.setdefault(weight, {})
        kept = values.get(key)
        if kept is None or kept.version != version or kept.pointers.data_ptr() != pointers.data_ptr():
            kept = values[key] = _Kept(version, pointers, make())
        return kept.value


def changes(tensor: Tensor) -> int:
    """How often a tensor was changed in place, as torch counts; 0 where it does not."""
    return 0 if tensor.is_inference() else int(tensor._version)
