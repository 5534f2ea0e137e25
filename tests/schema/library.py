"""A library in miniature, as a DGL heterograph with names of its own: readers, books, authors, who follows whom."""

from __future__ import annotations

import numpy as np
import torch

from c2f_dgl.dgl_import import dgl


def library(seed: int = 0, n_readers: int = 60, n_books: int = 40, n_authors: int = 8) -> dgl.DGLGraph:
    """Readers who like a quarter of the authors and borrow their books; friends like the same authors."""
    rng = np.random.default_rng(seed)
    taste, author = rng.integers(0, 4, n_readers), rng.integers(0, n_authors, n_books)
    liked = rng.random((n_readers, n_books)) < np.where(author[None, :] % 4 == taste[:, None], 0.7, 0.05)
    friends = (rng.random((n_readers, n_readers)) < 0.3) & (taste[:, None] == taste[None, :])
    np.fill_diagonal(friends, False)
    edges = {
        ("reader", "borrowed", "book"): np.nonzero(liked),
        ("book", "borrowed_by", "reader"): np.nonzero(liked.T),
        ("book", "written_by", "author"): (np.arange(n_books), author),
        ("reader", "follows", "reader"): np.nonzero(friends),
    }
    tensors = {etype: tuple(torch.as_tensor(ends) for ends in pair) for etype, pair in edges.items()}
    graph = dgl.heterograph(
        tensors, num_nodes_dict={"reader": n_readers, "book": n_books, "author": n_authors, "shelf": 3}
    )
    graph.nodes["book"].data["feat"] = torch.as_tensor(rng.normal(size=(n_books, 3)), dtype=torch.float32)
    graph.edges["follows"].data["hours"] = torch.as_tensor(rng.random(graph.num_edges("follows")) + 0.1)
    return graph
