"""Deep hash embeddings: no table at all, hash functions and a network that decodes them.

Kang et al. *Learning to Embed Categorical Features without Embedding Tables.* KDD 2021. Entity s has k hashes:

    H_j(s) = ((a_j s + b_j) mod p) mod M        (p prime > M = 10^6, a_j, b_j drawn from the seed)
    hidden = Mish(BatchNorm(W x + b)), twice, of x_j = 2 H_j(s) / (M - 1) - 1;  embedding = W x + b

Deviations: users and items share hash functions and decoder; the paper has one for each feature, deeper, and k larger
(1024): at the budgets here two hidden layers, as wide as fits, leave more units. Batch normalisation is over all N
entities, in training and afterwards: serving stores its mean and variance, so they take bytes.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.baselines.fitting import fit, layout_of
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.tiers.embedding import ComputedTable

BUCKETS = 1_000_000
PRIME = 2_147_483_647  # 2^31 - 1: products of two numbers below it fit into int64


class DheSettings(GradientSettings):
    d: int = Field(64, ge=1, description="d")
    k: int = Field(64, ge=1, description="k: hash functions")


def hash_codes(n: int, k: int, rng: np.random.Generator) -> Tensor:
    """Codes of the entities 0 to n - 1 (n x k, float32, in [-1, 1])."""
    a, b = rng.integers(1, PRIME, size=k), rng.integers(0, PRIME, size=k)
    buckets = ((np.arange(n)[:, None] * a + b) % PRIME) % BUCKETS
    return torch.as_tensor(2.0 * buckets / (BUCKETS - 1) - 1.0, dtype=torch.float32)


def hidden_width(values: int, k: int, d: int) -> int:
    """Widest hidden layers w within the budget: k w + w^2 + w d weights, d biases, a scale and shift per unit."""
    # w^2 + (k + d + 4) w + d <= values
    half = (k + d + 4) / 2
    width = int(np.sqrt(half**2 + max(0, values - d)) - half)
    if width < 1:
        raise InputError(f"{values:,} values", where="dhe", expected=f"at least {k + 2 * d + 5:,} for a decoder")
    return width


class DeepHash(ComputedTable):
    """Codes (N x k) and their decoder, of `width` units in each hidden layer."""

    codes: Tensor

    def __init__(self, layout: NodeLayout, codes: Tensor, width: int, d: int, generator: torch.Generator) -> None:
        super().__init__(layout)
        self.register_buffer("codes", codes, persistent=False)
        # Biases before a normalisation do nothing, its shift takes their place.
        hidden = [nn.Linear(n_inputs, width, bias=False) for n_inputs in (codes.shape[1], width)]
        norms = [nn.BatchNorm1d(width, track_running_stats=False) for _ in hidden]
        self.hidden, self.norms, self.out = nn.ModuleList(hidden), nn.ModuleList(norms), nn.Linear(width, d)
        for layer in (*hidden, self.out):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(self.out.bias)

    def table(self) -> Tensor:
        x = self.codes
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            x = F.mish(norm(layer(x)))
        return self.out(x)

    def count_bytes(self) -> int:
        # Mean and variance of each normalised unit.
        return super().count_bytes() + 4 * 2 * self.out.in_features * len(self.norms)


def train(context: Context[DheSettings]) -> Fitted:
    """LightGCN on decoded hash codes."""
    settings = context.settings
    width = hidden_width(context.values, settings.k, settings.d)
    codes = hash_codes(context.n_entities, settings.k, context.rng("hashes"))
    return fit(context, DeepHash(layout_of(context), codes, width, settings.d, context.generator("decoder")))


_GRID = {**GRADIENT_SPACE, "k": (32, 64, 128)}
SYSTEMS = (System("dhe", "DHE", "Kang et al. 2021 (KDD)", DheSettings(), train, _GRID),)
