"""A trained model in the forms that others read: the artifact, embeddings, ONNX, faiss.

Every writer gives back the scorer that stands in its file, read again and rounded as it is, so that its figures can
be compared with the model's own.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from safetensors.numpy import load_file, save_file

from c2f_dgl.checks import check_export
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.files import replacing_folder, write_text
from c2f_dgl.graph.hetero import exponent_of
from c2f_dgl.graph.item_filter import GraphFilter
from c2f_dgl.model import Recommender
from c2f_dgl.serving import Artifact, Csr, Embeddings, Learned, LearnedTier, ServingModel, write_artifact
from c2f_dgl.serving.item_filter import FilterShape
from c2f_dgl.serving.learned import ENTITY_TYPES
from c2f_dgl.serving.precision import decode, encode
from c2f_dgl.tiers.tiered import Tier


def artifact_of(
    model: Recommender, split: Split, *, embeddings: bool = False, metrics: dict[str, Any] | None = None
) -> Artifact:
    """What `c2f_dgl.serving` needs of a model.

    Of one with further relations, node types or features, which the serving package does not propagate over, it is
    the table of its propagated embeddings: larger, and new users cannot be folded in.

    Parameters
    ----------
    model : Recommender
    split : Split
        The data it was trained on.
    embeddings : bool
        Take the propagated embeddings along.
    metrics : dict, optional
        JSON-able, for the manifest.
    """
    learned = _learned(model) if split.side is None else _propagated(model)
    stored = None
    if embeddings:
        scorer = model.scorer()
        stored = Embeddings(scorer.users.float().cpu().numpy(), scorer.items.float().cpu().numpy())
    details = {"data": split.name, "fingerprint": split.fingerprint, "metrics": metrics or {}}
    return Artifact(learned, csr_of(split.train), split.user_ids, split.item_ids, stored, details)


def _learned(model: Recommender) -> Learned:
    """A model of users, items and tiers as it is."""
    embedding = model.embedding
    n_layers = model.propagation.n_layers
    betas = model.propagation.layer_weights or (1.0 / (n_layers + 1),) * (n_layers + 1)
    table = None
    if embedding.table is not None:
        parts = embedding.layout.split(embedding.table)
        table = {role: parts[name].detach().cpu().numpy() for role, name in _node_types(model).items()}
    return Learned(
        tuple(_learned_tier(model, k) for k in range(len(embedding.tiers))),
        tuple(betas),
        table,
        entity_input=embedding.entity_input,
        activation=embedding.activation,
        link_scale=embedding.link_scale,
        # Interactions weigh 1 until they are normalised; where all degrees are 1 both are the same.
        prenormalise=bool((model.graph.edges[model.roles.target].data["weight"] != 1).any()),
        gate_layers=model.propagation.gate_layers,
        exponents={role: exponent_of(model.graph, name) for role, name in _node_types(model).items()},
        **_readout(model),
    )


def _propagated(model: Recommender) -> Learned:
    """A model as the embeddings it ends up with, which nothing is left to propagate to."""
    features = model.engine.all_nodes()
    table = {role: features[name].float().cpu().numpy() for role, name in _node_types(model).items()}
    return Learned((), (1.0,), table, **_readout(model))


def _readout(model: Recommender) -> dict[str, Any]:
    """What ranking needs beside embeddings, as fields of `Learned`."""
    readout = model.readout
    term = readout.filter if readout.filter_weight else None
    return {
        "item_scale": readout.item_scale,
        "item_bias": None if readout.bias is None else readout.bias.detach().cpu().numpy()[readout.n_users :],
        "filter_neighbours": 0 if term is None else term.k,
        "filter": FilterShape() if term is None else term.term.shape,
        "filter_weight": 0.0 if term is None else readout.filter_weight,
    }


def _node_types(model: Recommender) -> dict[str, str]:
    """What serving calls users and items, in the model's graph."""
    return dict(zip(ENTITY_TYPES, (model.roles.query, model.roles.ranked), strict=True))


def export(
    form: str,
    model: Recommender,
    split: Split,
    path: str | Path,
    *,
    precision: str = "fp32",
    embeddings: bool = False,
    without_filter: bool = False,
    all_interactions: bool = False,
    metrics: dict[str, Any] | None = None,
) -> Scorer:
    """Write a model in one of the forms that others read.

    Parameters
    ----------
    form : {"artifact", "embeddings", "onnx", "faiss"}
    model : Recommender
    split : Split
        The data it was trained on.
    path : str or Path
        New folder.
    precision : {"fp32", "fp16", "int8"}
    embeddings : bool
        Of an artifact: with propagated embeddings, so that it loads at once.
    without_filter : bool
        Leave a filter term out: what is written ranks by the embeddings alone.
    all_interactions : bool
        Of an artifact: the held-out interactions count as seen, too, and are propagated over.
    metrics : dict, optional
        For an artifact's manifest.

    Returns
    -------
    Scorer
        What was written, read again, on the training part alone.

    Raises
    ------
    InputError
        No such form or precision, something is at `path`, a package that the form needs is not installed, or the
        model has a filter term and the form, which is none but embeddings, cannot hold it.
    """
    check_export(form, precision)
    if form == "artifact":
        artifact = artifact_of(model, split, embeddings=embeddings, metrics=metrics)
        if without_filter:
            learned = replace(artifact.learned, filter_neighbours=0, filter_weight=0.0)
            artifact = replace(artifact, learned=learned)
        if not all_interactions:
            write_artifact(path, artifact, precision=precision)
            return scorer_of(ServingModel.load(path))
        with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as aside:
            write_artifact(Path(aside) / "train", artifact, precision=precision)
            ranked = scorer_of(ServingModel.load(Path(aside) / "train"))
        serving_model(artifact, split, held_out=True).save(path, precision=precision, embeddings=embeddings)
        return ranked
    if all_interactions:
        raise InputError("holds no interactions", where=f"--format {form}", expected="--format artifact")
    scorer = model.scorer()
    if scorer.filter_weight and not without_filter:
        raise InputError(
            "the model ranks with a filter term, and this format holds embeddings alone",
            where=f"--format {form}",
            expected="--format artifact, or --without-filter to leave it out",
        )
    return _WRITERS[form](replace(scorer, filter=None, filter_weight=0.0), split, Path(path), precision)


def serving_model(artifact: Artifact, split: Split, *, held_out: bool) -> ServingModel:
    """A model as it serves: with `held_out` those parts of `split` are seen as well, and propagated over."""
    seen = artifact.interactions
    if held_out:
        seen = csr_of((split.train + split.valid + split.test).sorted_indices())
    return ServingModel(artifact.learned, seen, artifact.user_ids, artifact.item_ids, details=artifact.details)


def scorer_of(model: ServingModel) -> Scorer:
    """A served model as evaluation takes it."""
    learned = model.learned
    users, items = torch.from_numpy(model.embeddings.users), torch.from_numpy(model.embeddings.items)
    bias = None if learned.item_bias is None else torch.from_numpy(learned.item_bias)
    term = None if model.filter is None else GraphFilter(learned.filter_neighbours, model.interactions, model.filter)
    return Scorer(users, items, bias, term, learned.filter_weight)


def write_embeddings(scorer: Scorer, split: Split, path: Path, precision: str) -> Scorer:
    """A folder with ``embeddings.safetensors`` (users, items, item_bias; ``.scale`` of each row) and ``ids.json``."""
    with replacing_folder(path) as aside:
        _save(aside / "embeddings.safetensors", scorer, precision)
        _write_ids(aside, split)
    return _load(path / "embeddings.safetensors")


def write_onnx(scorer: Scorer, split: Split, path: Path, precision: str) -> Scorer:
    """A folder with ``model.onnx`` and ``ids.json``.

    The graph takes ``users`` (int64 rows) and ``k`` (int64, one value) and gives ``scores`` and ``items`` (rows).

    Items that a user has seen are among them: a caller asks for more and leaves them out.
    """
    onnx = _optional("onnx", "onnx")
    helper, of = onnx.helper, onnx.numpy_helper.from_array
    kind = onnx.TensorProto
    nodes: list[Any] = []
    stored: list[Any] = []

    def rows_of(name: str, matrix: np.ndarray, at: str | None) -> str:
        """Store a matrix in `precision`; its rows `at` (or all of them) as float32."""
        values, scales = encode(matrix, precision)
        parts = [name]
        stored.append(of(values, name))
        if scales is not None:
            parts.append(f"{name}_scale")
            stored.append(of(scales[:, None], f"{name}_scale"))
        if at is not None:
            nodes.extend(helper.make_node("Gather", [part, at], [f"{part}_taken"], axis=0) for part in parts)
            parts = [f"{part}_taken" for part in parts]
        if scales is None:
            return parts[0]
        nodes.append(helper.make_node("Cast", parts[:1], [f"{name}_cast"], to=kind.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}_cast", parts[1]], [f"{name}_rows"]))
        return f"{name}_rows"

    users, items = scorer.users.float().cpu().numpy(), scorer.items.float().cpu().numpy()
    if users.nbytes + items.nbytes >= 2**31:
        raise InputError("the embeddings exceed the 2 GiB of an ONNX file", where=path, expected="--format embeddings")
    user_rows, item_rows = rows_of("user_embeddings", users, "users"), rows_of("item_embeddings", items, None)
    nodes.append(helper.make_node("Transpose", [item_rows], ["item_columns"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", [user_rows, "item_columns"], ["products"]))
    scores = "products"
    if scorer.item_bias is not None:
        stored.append(of(scorer.item_bias.float().cpu().numpy(), "item_bias"))
        nodes.append(helper.make_node("Add", ["products", "item_bias"], ["biased"]))
        scores = "biased"
    nodes.append(helper.make_node("TopK", [scores, "k"], ["scores", "items"], axis=1, largest=1, sorted=1))
    graph = helper.make_graph(
        nodes,
        "c2f_dgl",
        [
            helper.make_tensor_value_info("users", kind.INT64, ["n"]),
            helper.make_tensor_value_info("k", kind.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("scores", kind.FLOAT, ["n", "top"]),
            helper.make_tensor_value_info("items", kind.INT64, ["n", "top"]),
        ],
        stored,
    )
    written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(written)
    with replacing_folder(path) as aside:
        (aside / "model.onnx").write_bytes(written.SerializeToString())
        _write_ids(aside, split)
    initializers = onnx.load(str(path / "model.onnx")).graph.initializer
    again = {part.name: onnx.numpy_helper.to_array(part) for part in initializers}
    users, items = (
        decode(again[name], again[f"{name}_scale"][:, 0] if f"{name}_scale" in again else None)
        for name in ("user_embeddings", "item_embeddings")
    )
    return Scorer(torch.from_numpy(users.copy()), torch.from_numpy(items.copy()), scorer.item_bias)


def write_faiss(scorer: Scorer, split: Split, path: Path, precision: str) -> Scorer:
    """A folder with ``items.faiss``, an inner-product index, ``users.safetensors`` to query it with, ``ids.json``.

    A bias per item stands in one more column, in which users have 1.
    """
    faiss = _optional("faiss", "faiss")
    users, items = scorer.users.float().cpu().numpy(), scorer.items.float().cpu().numpy()
    if scorer.item_bias is not None:
        items = np.concatenate([items, scorer.item_bias.float().cpu().numpy()[:, None]], axis=1)
        users = np.concatenate([users, np.ones((len(users), 1), dtype=np.float32)], axis=1)
    if precision == "fp32":
        index = faiss.IndexFlatIP(items.shape[1])
    else:
        kind = faiss.ScalarQuantizer.QT_fp16 if precision == "fp16" else faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexScalarQuantizer(items.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(items))
    index.add(np.ascontiguousarray(items))
    with replacing_folder(path) as aside:
        faiss.write_index(index, str(aside / "items.faiss"))
        save_file({"users": np.ascontiguousarray(users)}, aside / "users.safetensors")
        _write_ids(aside, split)
    again = faiss.read_index(str(path / "items.faiss")).reconstruct_n(0, len(items))
    return Scorer(torch.from_numpy(users), torch.from_numpy(again))


_WRITERS: dict[str, Callable[[Scorer, Split, Path, str], Scorer]] = {
    "embeddings": write_embeddings,
    "onnx": write_onnx,
    "faiss": write_faiss,
}


def csr_of(matrix: sp.csr_matrix) -> Csr:
    """A binary scipy matrix (sorted, without repeats) as the serving package takes it."""
    return Csr(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.shape[1])


def _learned_tier(model: Recommender, k: int) -> LearnedTier:
    tier: Tier = model.embedding.tiers[k]
    indices, weights = tier.indices.cpu().numpy(), tier.weights.cpu().numpy()
    parents = {model.embedding.tiers[k - 1].name: slice(None)}
    if k == 0:
        parents = {role: model.embedding.layout.rows(name) for role, name in _node_types(model).items()}
    return LearnedTier(
        tier.name,
        (tier.codebook if tier.whitening is None else tier.codebook.tril()).detach().cpu().numpy(),
        {parent: indices[rows] for parent, rows in parents.items()},
        {parent: weights[rows] for parent, rows in parents.items()},
        threshold=tier.threshold,
        gate=tier.gate,
        whitened=tier.whitening is not None,
    )


def _save(path: Path, scorer: Scorer, precision: str) -> None:
    tensors = {}
    for name, matrix in (("users", scorer.users), ("items", scorer.items)):
        tensors[name], scales = encode(matrix.float().cpu().numpy(), precision)
        if scales is not None:
            tensors[f"{name}.scale"] = scales
    if scorer.item_bias is not None:
        tensors["item_bias"] = scorer.item_bias.float().cpu().numpy()
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, path)


def _load(path: Path) -> Scorer:
    tensors = load_file(path)
    users, items = (torch.from_numpy(decode(tensors[n], tensors.get(f"{n}.scale"))) for n in ("users", "items"))
    return Scorer(users, items, torch.from_numpy(tensors["item_bias"]) if "item_bias" in tensors else None)


def _write_ids(folder: Path, split: Split) -> None:
    ids = {"users": split.user_ids.tolist(), "items": split.item_ids.tolist()}
    write_text(folder / "ids.json", json.dumps(ids) + "\n")


def _optional(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name} is not installed", where=f"--format {extra}", expected=f"pip install 'c2f_dgl[{extra}]'"
        ) from error
