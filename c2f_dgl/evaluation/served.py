"""A device model as evaluation takes it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.serving import Csr, ServingModel


class Served:
    """Ranks the items of a data set for its users, by their histories there alone; see `Ranker`.

    Parameters
    ----------
    model : ServingModel
    histories : csr_matrix, shape (n_users, n_items)
        Items that the model does not know say nothing.
    item_ids : array, shape (n_items,)
        Of the data set; those that the model does not know are ranked last.
    """

    device = torch.device("cpu")

    def __init__(self, model: ServingModel, histories: sp.csr_matrix, item_ids: np.ndarray) -> None:
        self.model, self.n_items = model, histories.shape[1]
        rows = model.items.find(item_ids)
        self._known = np.flatnonzero(rows >= 0)
        self._rows = rows[self._known]
        coo = histories.tocoo()
        known = rows[coo.col] >= 0
        shape = (histories.shape[0], model.n_items)
        self._histories = Csr.from_pairs(coo.row[known], rows[coo.col[known]], shape)

    def scores(self, users: Tensor) -> Tensor:
        """Scores (len(users) x n_items), float64, of all items for some users (int64)."""
        scores = torch.full((len(users), self.n_items), -torch.inf, dtype=torch.float64)
        view, some = scores.numpy(), self._histories.take(users.numpy())
        for block in self.model.blocks(len(users)):
            rows = some.take(np.arange(block.start, block.stop))
            view[block, self._known] = self.model.scores(rows)[:, self._rows]
        return scores
