"""Scales, ticks and the layout of the map, on whatever numbers come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_dgl.report.charts import Point, chart, thinned
from c2f_dgl.report.coarse_map import place_circles

VALUES = st.floats(-1e6, 1e6).map(lambda v: round(v, 6))


@given(st.lists(st.tuples(st.integers(0, 5000), VALUES), min_size=1, max_size=30), st.booleans())
def test_points_and_ticks_lie_inside_the_plot(points: list[tuple[float, float]], whole: bool) -> None:
    drawn = chart("t", "x", points=[Point(x, y, "") for x, y in points], whole_x=whole)
    assert drawn is not None
    for point in drawn.points:
        assert drawn.left <= point.x <= drawn.right and 0 <= point.y <= drawn.bottom
    for ticks, low, high in ((drawn.x_ticks, drawn.left, drawn.right), (drawn.y_ticks, 0, drawn.bottom)):
        assert all(low - 0.1 <= at <= high + 0.1 for at, _ in ticks)
        assert len({label for _, label in ticks}) == len(ticks) <= 7
    assert len(drawn.y_ticks) >= 2
    if whole:
        assert all("." not in label for _, label in drawn.x_ticks)


def test_a_linear_scale_is_linear_and_larger_values_are_higher() -> None:
    drawn = chart("t", "x", curves=[([(0, 0.0), (1, 1.0), (2, 2.0)], "")])
    assert drawn is not None
    xs, ys = zip(*(map(float, pair.split(",")) for pair in drawn.lines[0][0].split()), strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2) and xs[0] < xs[1]
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.2) and ys[0] > ys[1]
    ticks = {label: at for at, label in drawn.y_ticks}
    assert ticks["1.0"] == pytest.approx(ys[1], abs=0.2)


@pytest.mark.parametrize("sizes", [(4240, 4442), (16_000, 815_232), (180_000, 9_000_000), (5, 5_000_000_000)])
def test_log_scales_always_have_ticks(sizes: tuple[int, int]) -> None:
    drawn = chart("t", "x", points=[Point(x, 1.0, "") for x in sizes], log_x=True)
    assert drawn is not None
    assert 2 <= len(drawn.x_ticks) <= 12
    middle = chart("t", "x", points=[Point(x, 1.0, "") for x in (1, 100, 10_000)], log_x=True)
    assert middle is not None
    a, b, c = (point.x for point in middle.points)
    assert b - a == pytest.approx(c - b, abs=0.2)


def test_nothing_to_draw_is_no_chart() -> None:
    assert chart("t", "x", curves=[([], "")]) is None


@given(st.integers(1, 2000), st.integers(1, 400))
def test_thinning_keeps_the_ends(n: int, most: int) -> None:
    points = [(float(i), 0.0) for i in range(n)]
    kept = thinned(points, most)
    assert kept[0] == points[0] and kept[-1] == points[-1]
    assert len(kept) <= most + 1 and len(set(kept)) == len(kept)


@settings(max_examples=6)
@given(st.sampled_from([1, 2, 9, 12, 60]), st.sampled_from(["normal", "equal", "zero"]), st.integers(0, 99))
def test_circles_are_inside_and_apart(m: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings = {"normal": rng.normal(size=(m, 5)), "equal": np.ones((m, 5)), "zero": np.zeros((m, 5))}[kind]
    counts = rng.integers(0, 50, size=m)
    centres, radii = place_circles(embeddings.astype(np.float32), counts, 640, 480)
    assert np.isfinite(centres).all()
    assert (centres >= radii[:, None]).all() and (centres <= np.array([640, 480]) - radii[:, None]).all()
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2) + np.eye(m) * 1e9
    assert (distance > 0.8 * (radii[:, None] + radii[None])).all()
    np.testing.assert_array_equal(place_circles(embeddings.astype(np.float32), counts, 640, 480)[0], centres)


def test_alike_embeddings_are_near_one_another() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 15)
    embeddings = np.eye(3)[group] * 5 + 0.1 * rng.normal(size=(45, 3))
    centres, _ = place_circles(embeddings, np.ones(45), 640, 480)
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2) + np.eye(45) * 1e9
    assert (group[distance.argmin(axis=1)] == group).mean() > 0.9
