"""What a score is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What a score is made of: users[u] . items[i] + item_bias[i].

    Attributes
    ----------
    users, items : float32 arrays, shapes (n_users, d) and (n_items, d)
        Propagated embeddings, the items' scaled.
    rounded : bool
        Whether they were stored, in whatever precision, and so are not to the last digit what is propagated.
    """

    users: np.ndarray
    items: np.ndarray
    rounded: bool = False
