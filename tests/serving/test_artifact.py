"""The artifact: what is written is what is read, and what is not as written is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from c2f_dgl.errors import InputError
from c2f_dgl.serving import Artifact, Csr, Learned, ServingModel, read_artifact, write_artifact
from c2f_dgl.serving.precision import decode, encode
from tests.serving.made import made

Change = Callable[[dict[str, Any]], object]


def change_manifest(path: Path, change: Change) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def change_tensors(path: Path, name: str, change: Change) -> None:
    """Alter a file as someone would who also renews its size and hash."""
    tensors = dict(load((path / name).read_bytes()))
    change(tensors)
    blob = save(tensors)
    (path / name).write_bytes(blob)
    entry = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    change_manifest(path, lambda manifest: manifest["files"].__setitem__(name, entry))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "whole"
    made(t_user=2, text=True).save(path, embeddings=True)
    return path


@pytest.fixture
def artifact(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "artifact"))


@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize(("t_user", "text"), [(0, False), (2, True)])
def test_fp32_comes_back_as_it_was(tmp_path: Path, embeddings: bool, t_user: int, text: bool) -> None:
    model = made(t_user=t_user, text=text)
    sizes = model.save(tmp_path / "a", embeddings=embeddings)
    assert sizes == {path.name: path.stat().st_size for path in (tmp_path / "a").iterdir()}
    again = ServingModel.load(tmp_path / "a")
    np.testing.assert_array_equal(again.embeddings.users, model.embeddings.users)
    np.testing.assert_array_equal(again.embeddings.items, model.embeddings.items)
    np.testing.assert_array_equal(again.items.ids, model.items.ids)
    assert again.details == {"data": "made"}
    found, wanted = again.explain(3, model.items.ids[4]), model.explain(3, model.items.ids[4])
    assert found.score == pytest.approx(wanted.score, rel=1e-6)
    assert again.fold_in({999: model.items.ids[:3]}).n_users == 31


@pytest.mark.parametrize(("precision", "error"), [("fp16", 2e-3), ("int8", 3e-2)])
@pytest.mark.parametrize("embeddings", [False, True])
def test_reduced_precision_is_near_and_still_explains(
    tmp_path: Path, precision: str, error: float, embeddings: bool
) -> None:
    model = made(t_user=2, m=40, d=20)
    whole = model.save(tmp_path / "a")["learned.safetensors"]
    assert model.save(tmp_path / "b", precision=precision, embeddings=embeddings)["learned.safetensors"] < whole
    again = ServingModel.load(tmp_path / "b")
    scale = np.abs(model.embeddings.items).max()
    assert np.abs(again.embeddings.items - model.embeddings.items).max() < error * scale
    explained = again.explain(3, 104)
    assert explained.score == pytest.approx(float(again.score(3, 104)), rel=1e-5, abs=1e-7)
    assert ("rounding" in explained.kinds) == embeddings


def test_a_triangular_codebook_is_packed(tmp_path: Path) -> None:
    model = made(m=5, d=5)
    first = model.learned.tiers[0]
    low = np.tril(first.codebook)
    solved = replace(first, codebook=low, whitened=True)
    learned = replace(model.learned, tiers=(solved, model.learned.tiers[1]))
    write_artifact(tmp_path / "a", Artifact(learned, model.interactions, model.users.ids, model.items.ids))
    assert load((tmp_path / "a" / "learned.safetensors").read_bytes())["coarse.codebook"].shape == (15,)
    again = read_artifact(tmp_path / "a").learned.tiers[0]
    assert again.whitened
    np.testing.assert_array_equal(again.codebook, low)
    change_manifest(tmp_path / "a", lambda manifest: manifest.update(version=3))  # that of 0.5.0
    with pytest.raises(InputError, match="export the run again"):
        read_artifact(tmp_path / "a")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_full_table_with_biases(tmp_path: Path, precision: str) -> None:
    rng = np.random.default_rng(0)
    pairs = Csr.from_pairs(rng.integers(0, 6, 20), rng.integers(0, 5, 20), (6, 5))
    table = {"user": rng.normal(size=(6, 3)).astype(np.float32), "item": rng.normal(size=(5, 3)).astype(np.float32)}
    learned = Learned((), (0.5, 0.5), table, prenormalise=True, item_bias=rng.normal(size=5).astype(np.float32))
    model = ServingModel(learned, pairs, np.arange(6), np.arange(5))
    model.save(tmp_path / "a", precision=precision)
    again = ServingModel.load(tmp_path / "a")
    users, items = np.meshgrid(np.arange(6), np.arange(5))
    np.testing.assert_allclose(again.score(users, items), model.score(users, items), atol=0.1)
    assert again.explain(1, 2).score == pytest.approx(float(again.score(1, 2)), rel=1e-5)


def test_a_model_that_was_folded_into_is_saved_as_its_graph(tmp_path: Path) -> None:
    new = made().partial_fit([5, 200], [900, 101])
    new.save(tmp_path / "a", embeddings=True)
    again, refreshed = ServingModel.load(tmp_path / "a"), new.refreshed()
    np.testing.assert_array_equal(again.embeddings.users, refreshed.embeddings.users)
    np.testing.assert_array_equal(again.items.ids, new.items.ids)


@given(st.integers(0, 2**32 - 1), st.floats(1e-30, 1e30))
def test_rounding_is_relative_to_each_row(seed: int, size: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(4, 9)) * np.array([[size], [1.0], [0.0], [1e-3]])
    for precision, error in [("fp32", 1e-7), ("fp16", 1e-3), ("int8", 5e-3)]:
        found = decode(*encode(rows, precision))
        assert (np.abs(found - rows).max(axis=1) <= error * np.abs(rows).max(axis=1)).all()


# Refusals ------------------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    model = made()
    model.save(tmp_path / "a")
    with pytest.raises(InputError, match="there already"):
        model.save(tmp_path / "a")
    model.save(tmp_path / "a", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    with pytest.raises(InputError, match="not an artifact"):
        model.save(tmp_path / "mine", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "mine"}


def with_filter(manifest: dict[str, Any], **changes: Any) -> None:
    term = {"neighbours": 3, "weight": 0.5, "user": 0.5, "item": 0.5, "power": 1.0, "history": 0.5, "target": 0.0}
    manifest["model"]["filter"] = {**term, **changes}


MANIFESTS: dict[str, tuple[Change, str]] = {
    "newer": (lambda m: m.update(version=5), "newer"),
    "older": (lambda m: m.update(version=3), "export the run again"),
    "T below the first tier": (lambda m: m["model"]["tiers"][1].update(whitened=True), "whitened"),
    "no version": (lambda m: m.pop("version"), "version"),
    "true version": (lambda m: m.update(version=True), "version"),
    "another format": (lambda m: m.update(format="zip"), "not a c2f_dgl artifact"),
    "unknown file": (lambda m: m["files"].update({"../../etc/passwd": m["files"].pop("ids.safetensors")}), "lists"),
    "absolute file": (lambda m: m["files"].update({"/etc/passwd": {"bytes": 1, "sha256": ""}}), "lists"),
    "many users": (lambda m: m["counts"].update(users=10**12), "users"),
    "too many users": (lambda m: m["counts"].update(users=2**31), "memory"),
    "one user more": (lambda m: m["counts"].update(users=31), "expected"),
    "no users": (lambda m: m["counts"].update(users=0), "users"),
    "negative items": (lambda m: m["counts"].update(items=-20), "items"),
    "fractional items": (lambda m: m["counts"].update(items=20.0), "items"),
    "more pairs than cells": (lambda m: m["counts"].update(interactions=10**9), "interactions"),
    "a huge codebook": (lambda m: m["model"]["tiers"][0].update(size=2**31), "memory"),
    "wide embeddings": (lambda m: m["model"].update(d=2**20), "expected"),
    "a wrong width": (lambda m: m["model"].update(d=4), "expected"),
    "a path as tier": (lambda m: m["model"]["tiers"][0].update(name="../x"), "identifier"),
    "a tier called user": (lambda m: m["model"]["tiers"][0].update(name="user"), "identifier"),
    "twin tiers": (lambda m: m["model"]["tiers"][1].update(name="coarse"), "identifier"),
    "no tiers": (lambda m: m["model"].update(tiers=[]), "table"),
    "negative threshold": (lambda m: m["model"]["tiers"][1].update(threshold=-1.0), "threshold"),
    "huge threshold": (lambda m: m["model"]["tiers"][1].update(threshold=10**400), "finite"),
    "a gate of 2": (lambda m: m["model"]["tiers"][1].update(gate=2), "gate"),
    "no layers": (lambda m: m["model"].update(layer_weights=[]), "layer"),
    "endless layers": (lambda m: m["model"].update(layer_weights=[0.1] * 5000), "layer"),
    "a word as layer": (lambda m: m["model"].update(layer_weights=["x"]), "finite"),
    "another activation": (lambda m: m["model"].update(activation="eval"), "tanh"),
    "another precision": (lambda m: m.update(precision="fp64"), "precision"),
    "precision not as stored": (lambda m: m.update(precision="int8"), "expected"),
    "slots of nobody": (lambda m: m["model"]["tiers"][0]["slots"].update(nobody={"t": 1}), "slots"),
    "triangular, not square": (lambda m: m["model"]["tiers"][0].update(triangular=True), "triangular"),
    "sha256": (lambda m: m["files"]["graph.safetensors"].update(sha256="0" * 64), "sha256"),
    "size": (lambda m: m["files"]["graph.safetensors"].update(bytes=3), "bytes"),
    "a list for an object": (lambda m: m.update(model=[]), "object"),
    "no counts": (lambda m: m.pop("counts"), "lacks"),
    "no exponents": (lambda m: m["model"].pop("exponents"), "exponents"),
    "an exponent of 100": (lambda m: m["model"]["exponents"].update(item=100), "item"),
    "a filter to the power of 0": (lambda m: with_filter(m, power=0), "power"),
    "a filter without exponents": (lambda m: m["model"].update(filter={"neighbours": 3, "weight": 0.5}), "user"),
    "no neighbours": (lambda m: with_filter(m, neighbours=0), "neighbours"),
    "fractional neighbours": (lambda m: with_filter(m, neighbours=1.5), "neighbours"),
    "a filter of weight 2": (lambda m: with_filter(m, weight=2), "weight"),
    "a list for a filter": (lambda m: m["model"].update(filter=[]), "object"),
    "text of a terabyte": (lambda m: m["ids"]["items"].update(bytes=2**40), "bytes"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_altered_manifest_is_refused(artifact: Path, name: str) -> None:
    change, word = MANIFESTS[name]
    change_manifest(artifact, change)
    with pytest.raises(InputError) as caught:
        ServingModel.load(artifact)
    assert word in str(caught.value)
    assert str(artifact) in str(caught.value) and "\n" not in str(caught.value)


def _set(name: str, at: Any, value: Any) -> Change:
    return lambda tensors: tensors[name].__setitem__(at, value)


TENSORS: dict[str, tuple[str, Change, str]] = {
    "outside the codebook": ("learned", _set("coarse.item.indices", (0, 0), 6), "below 6"),
    "signed indices": ("learned", lambda t: t.update({k: v.astype(np.int8) for k, v in t.items() if "ind" in k}), "I8"),
    "a NaN": ("learned", _set("coarse.codebook", (0, 0), np.nan), "finite"),
    "negative weights": ("learned", _set("coarse.user.weights", (0, 0), -1), "negative"),
    "a tensor too many": ("learned", lambda t: t.update(more=np.zeros(3)), "unexpected"),
    "a tensor too few": ("learned", lambda t: t.pop("fine.codebook"), "missing"),
    "doubles": ("learned", lambda t: t.update({"fine.codebook": t["fine.codebook"].astype(float)}), "F64"),
    "another shape": ("learned", lambda t: t.update({"fine.codebook": t["fine.codebook"].T.copy()}), "expected"),
    "an item that is not": ("graph", _set("items", 3, 20), "below 20"),
    "counts that do not add up": ("graph", _set("counts", 0, 200), "add up"),
    "items out of order": ("graph", _set("items", slice(0, 2), [5, 5]), "ascending"),
    "one id twice": ("ids", _set("users", 1, 0), "twice"),
    "ids not UTF-8": ("ids", _set("items", 0, 255), "UTF-8"),
    "ids run together": ("ids", lambda t: t["items"].__setitem__(t["items"] == 0, 65), "ids"),
    "infinite embeddings": ("embeddings", _set("items", (2, 2), np.inf), "finite"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_hostile_tensors_with_renewed_hashes_are_refused(artifact: Path, name: str) -> None:
    file, change, word = TENSORS[name]
    change_tensors(artifact, f"{file}.safetensors", change)
    with pytest.raises(InputError) as caught:
        ServingModel.load(artifact)
    assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "nul", '{"format": NaN}', "[" * 100_000, "\xff"])
def test_a_manifest_that_is_none_is_refused(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"manifest\.json"):
        ServingModel.load(artifact)


def test_links_pipes_and_holes_are_refused(artifact: Path, tmp_path: Path) -> None:
    graph = artifact / "graph.safetensors"
    elsewhere = tmp_path / "elsewhere"
    graph.rename(elsewhere)
    with pytest.raises(InputError, match="cannot read"):
        ServingModel.load(artifact)
    graph.symlink_to(elsewhere)
    with pytest.raises(InputError, match="cannot read"):
        ServingModel.load(artifact)
    graph.unlink()
    os.mkfifo(graph)
    with pytest.raises(InputError, match="regular"):
        ServingModel.load(artifact)
    graph.unlink()
    with graph.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="at most"):
        ServingModel.load(artifact)
    with pytest.raises(InputError, match="cannot read"):
        ServingModel.load(tmp_path / "nothing")


def test_memory_is_bounded_by_the_reader(artifact: Path) -> None:
    with pytest.raises(InputError, match="memory"):
        ServingModel.load(artifact, max_bytes=1000)


def test_memory_of_a_whitening_is_bounded_too(tmp_path: Path) -> None:
    model = made(n_items=3000, m=400, d=1)
    model.save(tmp_path / "plain")
    model.save(tmp_path / "whitened")
    change_manifest(tmp_path / "whitened", lambda manifest: manifest["model"]["tiers"][0].update(whitened=True))
    most = 8 * 400 * (3000 + 4 * 400)
    ServingModel.load(tmp_path / "plain", max_bytes=most)
    with pytest.raises(InputError, match="400 whitened atoms need too much memory"):
        ServingModel.load(tmp_path / "whitened", max_bytes=most)


def test_a_filter_that_would_take_forever_is_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_manifest(artifact, with_filter)
    model = ServingModel.load(artifact)
    paths = int(np.square(model.interactions.counts).sum())
    monkeypatch.setattr("c2f_dgl.serving.artifact.MOST_PATHS", paths)
    ServingModel.load(artifact)
    monkeypatch.setattr("c2f_dgl.serving.artifact.MOST_PATHS", paths - 1)
    with pytest.raises(InputError, match="users with fewer items"):
        ServingModel.load(artifact)


FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@FUZZ
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Any byte of any file changed, cut or grown, the hash renewed or not: InputError, or a model that works."""
    path = tmp_path / "fuzzed"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    name = data.draw(st.sampled_from(sorted(file.name for file in whole.iterdir())))
    blob = bytearray((path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["flip", "cut", "grow"]))
        # The first bytes are a safetensors file's header: most of what can go wrong is there.
        at = data.draw(st.integers(0, max(0, min(len(blob) - 1, data.draw(st.sampled_from([16, 600, 10**6]))))))
        if kind == "flip" and blob:
            blob[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del blob[at : at + data.draw(st.integers(1, 40))]
        else:
            blob[at:at] = data.draw(st.binary(min_size=1, max_size=40))
    (path / name).write_bytes(bytes(blob))
    if name != "manifest.json" and data.draw(st.booleans()):
        entry = {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
        change_manifest(path, lambda manifest: manifest["files"].__setitem__(name, entry))
    try:
        model = ServingModel.load(path, max_bytes=2**24)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        items, _ = model.recommend(model.users.ids, 3)
        assert set(items.ravel().tolist()) <= {*model.items.ids.tolist(), -1, None}


def test_nothing_is_unpickled() -> None:
    import c2f_dgl.serving

    sources = [path.read_text() for path in Path(c2f_dgl.serving.__file__).parent.glob("*.py")]
    assert len(sources) > 5
    for source in sources:
        assert "import pickle" not in source and "np.load" not in source and "eval(" not in source
