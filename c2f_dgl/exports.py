"""A trained model in the forms that others read: the model file, ONNX, faiss."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import c2f_dgl
from c2f_dgl.codes import fit_codes, weighted_alone
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.data.ids import IdMap
from c2f_dgl.data.splits import Split
from c2f_dgl.data.tables import read_table
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.io.files import replacing
from c2f_dgl.io.progress import Reporter
from c2f_dgl.serving import Csr, ItemCodes, Level, Neighbours, ServingModel, UserHistories
from c2f_dgl.serving.codes import level_means
from c2f_dgl.serving.file import id_tensors
from c2f_dgl.teacher import Teacher

# Neighbours kept of each item where no codes are made.
_NEIGHBOURS = 400

_MANIFEST_BYTES = 2048


def serving_model(
    teacher: Teacher,
    item_ids: np.ndarray,
    codes: ItemCodes | None = None,
    neighbours: Neighbours | None = None,
    *,
    details: dict[str, Any] | None = None,
) -> ServingModel:
    """A device model; of nothing but what is said of items here.

    Parameters
    ----------
    teacher : Teacher
    item_ids : array, shape (n_items,)
        In the order of the data.
    codes, neighbours
        Of `fit_codes`; by default the teacher's items as they are, in float32, with all of its neighbours.
    details : dict, optional
        See `ServingModel`.
    """
    if codes is None:
        codes, neighbours = ItemCodes.table(teacher.items), teacher.nearest(_NEIGHBOURS)
    level = teacher.degree_level
    w, t = level_means(level, teacher.history_weight), level_means(level, teacher.item_weight)
    return ServingModel(codes, level, w, t, item_ids[teacher.order], neighbours=neighbours, details=details)


def coded_model(
    teacher: Teacher,
    split: Split,
    n_bytes: int | None,
    *,
    seed: int = 0,
    reporter: Reporter | None = None,
    details: dict[str, Any] | None = None,
) -> ServingModel:
    """A device model of codes.

    Parameters
    ----------
    teacher : Teacher
    split : Split
        Its training part has the histories that the codes are made for, its validation part says how good they are.
    n_bytes : int, optional
        Of the file, without titles; by default the fewest that lose at most 2 % on validation.
    seed : int
    reporter : Reporter, optional
    details : dict, optional
        See `ServingModel`.

    Raises
    ------
    InputError
        So few bytes hold no codes.
    """
    teacher = teacher.weighted()
    figure = 0.0
    if n_bytes is None and teacher.neighbours is not None:
        whole = serving_model(teacher, split.item_ids)
        figure = evaluate(Served(whole, split.train, split.item_ids), split.train, split.valid)["ndcg@20"]
    # Beside codes: each item's popularity and id, weights by popularity and those of neighbours by level, the manifest.
    ids = sum(values.nbytes for values in id_tensors(split.item_ids)[1].values())
    beside = ids + len(teacher.items) + 12 * (int(teacher.degree_level.max()) + 1) + 4 * 256 + _MANIFEST_BYTES
    train, valid = (part[:, teacher.order] for part in (split.train, split.valid))
    coded = teacher
    if teacher.neighbours is not None:
        with (reporter or Reporter(quiet=True)).busy("weights without most of the neighbours"):
            items, item_weight = weighted_alone(teacher.items, teacher.item_weight, train, valid, seed)
        coded = replace(teacher, items=items, item_weight=item_weight)
    codes, neighbours = fit_codes(
        coded.items,
        coded.history_weight,
        coded.item_weight,
        train,
        valid,
        None if n_bytes is None else n_bytes - beside,
        seed,
        reporter or Reporter(quiet=True),
        figure=figure,
    )
    if codes.levels[0].codes is None:  # codes lose too much: the items as they are, and their neighbours
        coded, codes, neighbours = teacher, ItemCodes.table(teacher.items, "int8"), teacher.nearest(_NEIGHBOURS)
    return serving_model(coded, split.item_ids, codes, neighbours, details=details)


def details_of(config: RunConfig, split: Split) -> dict[str, Any]:
    """What a model file says of where it comes from."""
    text = config.model_dump_json(exclude={"data"})
    return {
        "data": split.name,
        "config": hashlib.sha256(text.encode()).hexdigest()[:16],
        "created_with": f"c2f_dgl {c2f_dgl.__version__}",
    }


def user_histories(model: ServingModel, split: Split, *, held_out: bool = True) -> UserHistories:
    """What the users of a split have had: all that it holds, or only the training part."""
    had = (split.train + split.valid + split.test if held_out else split.train).tocsr()
    rows = model.items.find(split.item_ids)
    histories = Csr.from_counts(np.diff(had.indptr), rows[had.indices], model.n_items)
    return UserHistories(IdMap(split.user_ids, "user"), model.items, histories)


def read_titles(path: str | Path, items: IdMap) -> np.ndarray:
    """What items are called (n_items,), empty where it is not said.

    Parameters
    ----------
    path : str or Path
        A table whose first columns are an item's id and its title, in any form that `read_log` takes, or MovieLens'
        ``u.item``.
    items : IdMap

    Raises
    ------
    InputError
        The file cannot be read, or none of its ids is an item's.
    """
    path = Path(path)

    def leading(columns: list[str]) -> dict[str, int]:
        if len(columns) < 2:
            raise InputError("has one column", where=path, expected="columns: id, title")
        return {"item": 0, "title": 1}

    # Where the first line is a header that is not known as one, it is that of an unknown item.
    table = read_table(path, leading, sep="|" if path.suffix == ".item" else None, numbered=True).frame
    rows = items.find(table["item"].to_numpy(dtype=object))
    titles = np.full(len(items), "", dtype=object)
    titles[rows[rows >= 0]] = table["title"].fillna("").astype(str).to_numpy(dtype=object)[rows >= 0]
    if not titles.any():
        raise InputError("has no title of any item", where=path, expected="columns: id, title")
    return titles


def write_onnx(model: ServingModel, path: str | Path) -> int:
    """Write a model as one ONNX file, as small as the model file; its bytes come back.

    The graph takes ``history`` (int64 rows of items, each once) and gives ``scores`` (float32) of all items, those of
    the history among them. The metadata hold ``ids``, a JSON list by row.

    Raises
    ------
    InputError
        onnx is not installed, or the model is larger than a file of it may be.
    """
    onnx = _optional("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes: list[Any] = []
    stored: dict[str, np.ndarray] = {}

    def constant(name: str, values: Any) -> str:
        stored[name] = np.ascontiguousarray(values)
        return name

    def node(op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def gathered(name: str, at: str) -> str:
        return node("Gather", name, at, axis=0)

    def indices(name: str, values: np.ndarray) -> str:
        return node("Cast", constant(name, values), to=kind.INT32)

    levels, d = model.codes.levels, model.codes.d
    popularity = indices("degree_level", model.degree_level)
    had = gathered(popularity, "history")
    w = gathered(constant("history_weight", model.history_weight[:, None]), had)
    books, codes, sums = [], [], []
    for number, level in enumerate(levels):
        book = node("Cast", constant(f"codebook_{number}", level.codebook.values), to=kind.FLOAT)
        if level.codebook.scale is not None:
            book = node("Mul", book, constant(f"codebook_{number}_scale", level.codebook.scale[:, None]))
        books.append(book)
        codes.append(None if level.codes is None else indices(f"code_{number}", level.codes))
        taken = gathered(book, "history" if codes[-1] is None else gathered(codes[-1], "history"))
        summed = node("ReduceSum", node("Mul", taken, w), constant("rows", np.array([0])), keepdims=0)
        around = np.array([level.columns.start, d - level.columns.stop])
        sums.append(node("Pad", summed, constant(f"around_{number}", around)))
    user = node("Sum", *sums)
    parts = []
    for number, (level, book, code) in enumerate(zip(levels, books, codes, strict=True)):
        ends = (constant(f"{side}_{number}", np.array([end])) for side, end in zip("ab", _ends(level), strict=True))
        products = node("MatMul", book, node("Slice", user, *ends))
        parts.append(products if code is None else gathered(products, code))
    t = gathered(constant("item_weight", model.item_weight), popularity)
    scores = node("Mul", node("Sum", *parts), t)
    if (near := model.neighbours) is not None:
        v = gathered(constant("neighbour_history_weight", near.history_weight), had)
        nobody = constant("nobody", np.zeros(model.n_items + 1, dtype=np.float32))
        sent = gathered(node("ScatterElements", nobody, "history", v, axis=0), indices("neighbours", near.sources))
        g = gathered(constant("neighbour_value", near.values), indices("neighbour_level", near.levels))
        said = node("ReduceSum", node("Mul", sent, g), constant("columns", np.array([1])), keepdims=0)
        scores = node("Add", scores, said)
    nodes.append(helper.make_node("Identity", [scores], ["scores"]))
    if sum(values.nbytes for values in stored.values()) >= 2**31 - 2**20:
        raise InputError("exceeds the 2 GiB of an ONNX file", where=path, expected="a model of codes: --bytes")
    graph = helper.make_graph(
        nodes,
        "c2f_dgl",
        [helper.make_tensor_value_info("history", kind.INT64, ["n"])],
        [helper.make_tensor_value_info("scores", kind.FLOAT, [model.n_items])],
        [onnx.numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    written = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(written, {"ids": json.dumps(model.items.ids.tolist())})
    onnx.checker.check_model(written)
    return _written(path, written.SerializeToString())


def write_faiss(model: ServingModel, path: str | Path) -> int:
    """Write a faiss index of inner products over the decoded items t_i z_i; its bytes come back.

    Row n is that of ``model.items.ids[n]``; ``model.vectors(histories)`` makes what it is searched with.

    Raises
    ------
    InputError
        faiss is not installed, or the model has neighbours, which no inner product holds.
    """
    faiss = _optional("faiss")
    if model.neighbours is not None:
        raise InputError(
            "the model has neighbours", where="--format faiss", expected="a model without, or --format onnx"
        )
    items = model.codes.take(np.arange(model.n_items)) * model.item_weight[model.degree_level, None]
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items.astype(np.float32))
    return _written(path, faiss.serialize_index(index).tobytes())


def _ends(level: Level) -> tuple[int, int]:
    return level.columns.start, level.columns.stop


def _written(path: str | Path, blob: bytes) -> int:
    with replacing(path) as aside:
        aside.write_bytes(blob)
    return len(blob)


def _optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name} is not installed", where=f"--format {name}", expected=f"pip install 'c2f_dgl[{name}]'"
        ) from error
