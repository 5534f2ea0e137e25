"""Where a collapsed basis is kept, given how much memory it may take.

``full``: in the dtype of the codebooks. ``half``: in float16, half of it or less. ``mapped``: in float16 in a file that
is mapped into memory, of which the system keeps as much as it has room for. In float16 each column is divided by its
largest entry, which what is learned is multiplied by in its place: the entries of M span several orders of magnitude.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Storage = Literal["full", "half", "mapped"]

_HALF = torch.float16.itemsize


def choose_storage(shape: tuple[int, int], like: Tensor, budget: float | None) -> Storage | None:
    """How a basis is kept so that it takes at most a budget; None where there is no way.

    Parameters
    ----------
    shape : (rows, columns)
    like : Tensor
        Of the dtype and on the device of the codebooks. Only memory of the CPU can be mapped to a file.
    budget : float, optional
        Bytes; None for no bound. A mapped file takes none of it: it needs its size as free space for temporary
        files.
    """
    values = math.prod(shape)
    if budget is None or values * like.element_size() <= budget:
        return "full"
    if values * _HALF <= budget:
        return "half"
    there = like.device.type == "cpu" and values * _HALF < shutil.disk_usage(tempfile.gettempdir()).free
    return "mapped" if there else None


def allocate(storage: Storage, shape: tuple[int, int], like: Tensor) -> Tensor:
    """A matrix with any values in it, kept as `storage` says; a mapped one's file goes when the matrix does."""
    if storage == "full":
        return like.new_empty(shape)
    if storage == "half":
        return like.new_empty(shape, dtype=torch.float16)
    with tempfile.TemporaryFile(prefix="c2f_dgl-") as file:  # the mapping outlives the name and the handle
        return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))


def column_scale(columns: Tensor) -> Tensor:
    """Largest absolute entry of each column (rows x columns), 1 where it is 0."""
    largest = columns.abs().amax(dim=0)
    return torch.where(largest > 0, largest, 1.0)
