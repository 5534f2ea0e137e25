"""A device model as evaluation takes it."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.serving import Csr, ServingModel


class Served:
    """A `Ranker` of a data set's items, `item_ids` (n_items,), by histories (csr_matrix, n_users x n_items) alone.

    Items that the model does not know are ranked last, and say nothing in a history.
    """

    device = torch.device("cpu")

    def __init__(self, model: ServingModel, histories: sp.csr_matrix, item_ids: np.ndarray) -> None:
        self.model, self.n_items = model, histories.shape[1]
        rows = model.items.find(item_ids)
        self._known = np.flatnonzero(rows >= 0)
        self._rows = rows[self._known]
        pairs = histories.tocoo()
        known = rows[pairs.col] >= 0
        shape = (histories.shape[0], model.n_items)
        self._histories = Csr.from_pairs(pairs.row[known], rows[pairs.col[known]], shape)

    def scores(self, users: Tensor) -> Tensor:
        scores = np.full((len(users), self.n_items), -np.inf)
        for block in self.model.blocks(len(users)):
            histories = self._histories.take(users[block].numpy())
            scores[block, self._known] = self.model.scores(histories)[:, self._rows]
        return torch.as_tensor(scores)
