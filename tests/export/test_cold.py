"""Items without interactions: what is added to a model, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from c2f_dgl.errors import InputError
from c2f_dgl.export.cold import with_cold_items
from c2f_dgl.serving import Csr, ServingModel
from tests.serving.coded import STRUCTURES, coded, dense_scores


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def features_of(model: ServingModel, n_new: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Features from which what scores the items follows linearly, and what scores the new items."""
    rng = np.random.default_rng(seed)
    scoring = model.item_weight.astype(float)[model.degree_level][:, None] * model.codes.take(np.arange(model.n_items))
    new = scoring[rng.integers(0, model.n_items, n_new)] + 0.1 * rng.normal(size=(n_new, scoring.shape[1]))
    ids = [*model.items.ids, *(f"new-{n}" if model.items.are_text else 10_000 + n for n in range(n_new))]
    table = pd.DataFrame(np.concatenate([scoring, new]) * 3 + 1, columns=[f"f{n}" for n in range(scoring.shape[1])])
    table.insert(0, "item", ids)
    return table.sample(frac=1, random_state=seed), new


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("structure", ["table", "float16 table", "int8 table"])
def test_vectors_follow_from_features(tmp_path: Path, structure: str, text: bool) -> None:
    model = coded(structure=structure, n_items=60, text=text)
    table, expected = features_of(model, 5)
    table.to_parquet(tmp_path / "items.parquet")
    extended = with_cold_items(model, tmp_path / "items.parquet")
    assert extended.n_items == 65 and (extended.items.ids[:60] == model.items.ids).all()
    rows = extended.items.rows([f"new-{n}" if text else 10_000 + n for n in range(5)])
    found = extended.item_weight[extended.degree_level[rows], None] * extended.codes.take(rows)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
    assert (extended.degree_level[rows] == model.degree_level.min()).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_model_with_further_items_scores_the_others_as_before(tmp_path: Path, structure: str) -> None:
    model = coded(structure=structure, text=True)
    table, _ = features_of(model, 3)
    table.to_csv(tmp_path / "items.csv", index=False)
    extended = with_cold_items(model, tmp_path / "items.csv")
    extended.save(tmp_path / "model.c2f")
    extended = ServingModel.load(tmp_path / "model.c2f")
    histories = [[*model.items.ids[:4]], [*model.items.ids[5:9]]]
    before, after = (one.scores(one.histories(histories)) for one in (model, extended))
    np.testing.assert_array_equal(after[:, : model.n_items], before)
    new = Csr.from_pairs(np.array([0, 0, 1]), np.array([2, 21, 22]), (2, 23))
    np.testing.assert_allclose(extended.scores(new), dense_scores(extended, new), rtol=1e-6)
    assert extended.titles is not None and list(extended.titles[-3:]) == ["", "", ""]
    assert extended.details == {"data": "made", "cold_items": 3}


def test_codes_are_the_nearest_rows_level_by_level(tmp_path: Path) -> None:
    model = coded(structure="residual", near=False)
    table, _ = features_of(model, 4)
    table.to_csv(tmp_path / "items.csv", index=False)
    whole = with_cold_items(coded(structure="residual", near=False), tmp_path / "items.csv")
    for row in range(20, 24):
        # Of one level the code is the best there is while the others stay: no other row of the last is nearer.
        last, rest = whole.codes.levels[-1], whole.codes.levels[:-1]
        so_far = sum(level.take(np.array([row]))[0] for level in rest)
        every = so_far + last.codebook.take(slice(None))
        chosen = so_far + last.take(np.array([row]))[0]
        wanted = whole.codes.take(np.array([row]))[0]
        np.testing.assert_allclose(chosen, wanted)
        assert np.linalg.norm(every - wanted, axis=1).argmin() == last.codes[row]


def test_words_and_numbers_that_are_missing(tmp_path: Path) -> None:
    """Items of a word are alike: a new one of that word is like them, and unlike the others."""
    model = coded(structure="table", near=False, n_items=40)
    words = np.where(np.arange(40) < 20, "Comedy|Short", "War, Drama")
    direction = np.where(np.arange(40) < 20, 1.0, -1.0)[:, None] * np.ones(6)
    vectors = direction + 0.1 * model.codes.take(np.arange(40))
    model = ServingModel(
        type(model.codes).table(vectors / model.item_weight[model.degree_level][:, None]),
        model.degree_level,
        model.history_weight,
        model.item_weight,
        model.items,
    )
    lines = [
        f"{item};{word};{'' if item % 3 else 1990 + item % 7}"
        for item, word in zip(model.items.ids, words, strict=True)
    ]
    path = written(
        tmp_path / "items.csv", "id;genres;year\n" + "\n".join(lines) + "\n7;Short;\n8;Drama;1991\n9;Opera;\n"
    )
    extended = with_cold_items(model, path)
    short, drama, opera = extended.codes.take(extended.items.rows([7, 8, 9])).mean(axis=1)
    assert short > 3 * abs(opera) and drama < -3 * abs(opera)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id\n100\n5\n", "has one column"),
        ("id,x\n100,1\n101,2\n", "has 2 items of the model and 0 others"),
        ("id,x\n100,1\n5,2\n", "has 1 items of the model and 1 others"),
        ("id,x\n100,1\n101,2\n5,2\n5,3\n", "item id occurs twice"),
        ("id,x\n100,1\n101,2\nfive,2\n", "has an item 'five'"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        with_cold_items(coded(), written(tmp_path / "items.csv", text))
