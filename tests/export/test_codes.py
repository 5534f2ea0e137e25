"""Codes that are fitted to a number of bytes, against dense float64 transcriptions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from c2f_dgl.errors import InputError
from c2f_dgl.export import codes as fitting
from c2f_dgl.export.codes import Fit, fit_codes, fit_fewest_codes, weighted_alone
from c2f_dgl.export.trial import NEIGHBOURS, Trial
from c2f_dgl.io.progress import Reporter
from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means

N_USERS, N_ITEMS, D = 150, 200, 16


class Made:
    """Users and items of five groups, the items as singular vectors have them, with their weights in them."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        same = np.arange(N_USERS)[:, None] % 5 == np.arange(N_ITEMS) % 5
        had = rng.random((N_USERS, N_ITEMS)) < np.where(same, 0.3, 0.02) * np.linspace(1.5, 0.3, N_ITEMS)
        held = had & (rng.random(had.shape) < 0.25)
        self.train, self.valid = (sp.csr_matrix(part.astype(np.float64)) for part in (had & ~held, held))
        d_u, d_i = (np.maximum(self.train.getnnz(axis=axis), 1.0) for axis in (1, 0))
        _, s, vt = np.linalg.svd(d_u[:, None] ** -0.4 * self.train.toarray() * d_i**-0.4, full_matrices=False)
        self.items = (vt[:D].T * s[:D] ** 0.25 * d_i[:, None] ** -0.4).astype(np.float32)
        self.t = (d_i + 1) ** 0.8
        self.trial = Trial(self.t, self.train, self.valid, 0)

    def fit(self, n_bytes: int) -> tuple[ItemCodes, Neighbours | None]:
        """Codes of so many bytes."""
        return fit_codes(self.items, self.trial, n_bytes, Reporter(quiet=True))

    def served(self, codes: ItemCodes, near: Neighbours | None) -> ServingModel:
        """The model of them."""
        level = degree_levels(self.train.getnnz(axis=0))
        w, t = level_means(level, np.ones(N_ITEMS)), level_means(level, self.t)
        return ServingModel(codes, level, w, t, np.arange(N_ITEMS), neighbours=near)


def assert_same(one: tuple[ItemCodes, Neighbours | None], other: tuple[ItemCodes, Neighbours | None]) -> None:
    """Both decode to the same."""
    everything = np.arange(N_ITEMS)
    np.testing.assert_array_equal(one[0].take(everything), other[0].take(everything))
    assert (one[1] is None) == (other[1] is None)


@pytest.mark.parametrize("n_bytes", [1_500, 3_000, 6_000, 20_000])
def test_no_more_bytes_are_used_than_there_are(n_bytes: int, tmp_path: Path) -> None:
    made = Made()
    codes, near = made.fit(n_bytes)
    model = made.served(codes, near)
    sizes = model.save(tmp_path / "model.c2f")
    values = 0 if near is None else near.values.nbytes + near.history_weight.nbytes
    assert sizes["codes"] + sizes["codebooks"] + sizes["neighbours"] - values <= n_bytes
    again = ServingModel.load(tmp_path / "model.c2f")
    np.testing.assert_array_equal(again.codes.take(np.arange(N_ITEMS)), codes.take(np.arange(N_ITEMS)))


def test_the_same_seed_gives_the_same_codes() -> None:
    assert_same(Made().fit(3_000), Made().fit(3_000))


def test_without_a_number_of_bytes_little_is_lost() -> None:
    made = Made()
    coded = fit_fewest_codes(made.items, made.trial, Reporter(quiet=True))
    if coded is not None and coded[1] is None:
        wanted, (figure, _) = made.trial.figure(made.items)[0], made.trial.figure(coded[0].take(np.arange(N_ITEMS)))
        assert figure >= 0.98 * wanted - 1e-9


def test_too_few_bytes_are_refused() -> None:
    with pytest.raises(InputError, match="300 bytes are left for codes of 200 items"):
        Made().fit(300)


def test_figures_are_those_of_the_served_model() -> None:
    made = Made()
    levels = [Level(Rows.stored(made.items[:40], "int8"), np.arange(N_ITEMS, dtype=np.uint8) % 40)]
    for k in (0, 3):
        fit = Fit(*made.trial.figure(fitting.decoded(levels, D), k), levels, k)
        model = made.served(*fit.stored(made.trial))
        scores = np.zeros((N_USERS, N_ITEMS))
        for user, history in enumerate(np.split(made.train.indices, made.train.indptr[1:-1])):
            scores[user] = model.scores(model.histories([history.tolist()]))[0]
        scores[made.train.toarray() > 0] = -np.inf
        relevant = made.valid.toarray() > 0
        order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
        gains = np.take_along_axis(relevant, order, axis=1) / np.log2(np.arange(2, 22))
        ideal = np.cumsum(1 / np.log2(np.arange(2, 22)))[np.minimum(relevant.sum(axis=1), 20) - 1]
        some = relevant.any(axis=1)
        # Weights of neighbours are rounded to a byte where they are served.
        wanted = float((gains.sum(axis=1) / ideal)[some].mean())
        assert fit.figure == pytest.approx(wanted, abs=1e-6 if k == 0 else 2e-3)


def test_neighbours_are_the_items_had_together() -> None:
    made = Made()
    nearest = made.trial.neighbours.weights.toarray()
    r = made.train.toarray()
    d_u, d_i = np.maximum(r.sum(axis=1), 1), np.maximum(r.sum(axis=0), 1)
    g = ((r.T * d_u**-0.8) @ r / np.sqrt(np.outer(d_i, d_i))) ** 1.5 * d_i[:, None] ** 0.4
    np.fill_diagonal(g, 0)
    said = g * d_i**-0.4
    for k, found in ((NEIGHBOURS, nearest), (4, made.trial.neighbours.largest(4).weights.toarray())):
        there = found > 0
        assert (there.sum(axis=1) <= k).all()
        np.testing.assert_allclose(found[there], g[there], rtol=1e-4)
        if k == 4:  # of equal ones either may be kept
            wanted = np.sort(np.where(nearest > 0, said, 0), axis=1)[:, -k:]
            np.testing.assert_allclose(np.sort(np.where(there, said, 0), axis=1)[:, -k:], wanted, rtol=1e-4)


def test_every_level_lowers_what_is_missed() -> None:
    made = Made()
    weights = made.t**2
    slices = fitting.slices(N_ITEMS, 25, D, 8_000)
    levels = fitting.fitted(made.items, weights, slices, 25, 0)

    def missed(some: list[Level]) -> float:
        z = sum(
            np.pad(level.take(np.arange(N_ITEMS)), ((0, 0), (level.start, D - level.columns.stop))) for level in some
        )
        return float((weights[:, None] * (made.items.astype(np.float64) - z) ** 2).sum())

    errors = [missed(levels[:n]) for n in range(1, len(levels) + 1)]
    assert len(errors) > 2 and all(after < before for before, after in pairwise(errors))
    assert missed(fitting.fitted_again(made.items, weights, levels)) < errors[-1]


def test_fine_codes_are_worth_more_than_a_larger_coarse_codebook() -> None:
    made, weights = Made(), np.ones(N_ITEMS)
    fine = fitting.fitted(made.items, weights, [(0, D), (0, D)], 16, 0)
    coarse = fitting.fitted(made.items, weights, [(0, D)], 32, 0)
    assert sum(level.codebook.values.nbytes for level in fine) == coarse[0].codebook.values.nbytes
    errors = [np.square(made.items - fitting.decoded(levels, D)).sum() for levels in (fine, coarse)]
    assert errors[0] < errors[1]


def test_one_round_is_the_weighted_mean_of_what_is_nearest() -> None:
    rng = np.random.default_rng(0)
    target, weights, centres = rng.normal(size=(60, 4)).astype(np.float32), rng.random(60), np.zeros((5, 4))
    centres[:4] = target[:4]
    centres[4] = 100  # nearest to nothing: stays as it is
    level = fitting.clustered(target, weights, centres, 0, 1)
    near = ((target[:, None].astype(np.float64) - centres) ** 2).sum(axis=2).argmin(axis=1)
    wanted = [np.average(target[near == c], axis=0, weights=weights[near == c]) for c in range(4)]
    np.testing.assert_allclose(level.codebook.take(slice(None))[:4], wanted, atol=0.02)
    np.testing.assert_allclose(level.codebook.take(slice(4, 5)), centres[4:], rtol=1e-2)


def test_slices_cover_all_columns_and_fit() -> None:
    for n_items, rows, d, n_bytes, finer in [
        (5_000, 256, 96, 90_000, 0),
        (40_000, 256, 512, 10**6, 1),
        (50, 6, 3, 900, 3),
    ]:
        slices = fitting.slices(n_items, rows, d, n_bytes, finer)
        assert slices[0] == (0, d) and all(0 <= start < stop <= d for start, stop in slices)
        assert sum(fitting.level_bytes(n_items, rows, stop - start) for start, stop in slices) <= n_bytes
        if any(stop == d for _, stop in slices[1:]):
            assert {c for start, stop in slices[1:] for c in range(start, stop)} == set(range(d))


@pytest.mark.parametrize(("of_directions", "of_degrees"), [(-1.5, 0.0), (0.0, 1.0), (-2.0, -0.75), (0.75, 0.5)])
def test_weights_are_found_however_far_from_what_ranks_best_alone(of_directions: float, of_degrees: float) -> None:
    made = Made()
    vectors, energies = made.trial.rotated(made.items)
    best = weighted_alone(made.items, made.trial)
    off = vectors * (energies / energies[0]) ** of_directions, made.t * (made.trial.degrees + 1.0) ** of_degrees
    found = weighted_alone(off[0].astype(np.float32), Trial(off[1], made.train, made.valid, 0))

    def figure(items: np.ndarray, t: np.ndarray) -> float:
        return Trial(t, made.train, made.valid, 0).figure(items)[0]

    assert figure(*best) >= figure(made.items, made.t)
    assert figure(*found) > 0.95 * figure(*best) > figure(*off)
