"""A device model in the files of other programs: ONNX, faiss, and a page for a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from c2f_dgl.errors import InputError
from c2f_dgl.extras import check_installed
from c2f_dgl.io.files import replacing, replacing_folder
from c2f_dgl.serving import ServingModel

_MODULE = ("c2f.js", "c2f.d.ts")  # of serving/web


def write_onnx(model: ServingModel, path: str | Path) -> dict[str, int]:
    """Write a model as one ONNX file, as small as the model file; its bytes come back.

    The graph takes ``history`` (int64 rows of items, each once) and gives ``scores`` (float32) of all items, those of
    the history among them. The metadata hold ``ids``, a JSON list by row. `InputError` where onnx is not installed, or
    the model is larger than a file of it may be.
    """
    check_installed("onnx", where="--format onnx")
    import onnx

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
    history_popularity = gathered(popularity, "history")
    w = gathered(constant("history_weight", model.history_weight[:, None]), history_popularity)
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
        start, stop = (np.array([end]) for end in (level.columns.start, level.columns.stop))
        columns = node("Slice", user, constant(f"a_{number}", start), constant(f"b_{number}", stop))
        products = node("MatMul", book, columns)
        parts.append(products if code is None else gathered(products, code))
    t = gathered(constant("item_weight", model.item_weight), popularity)
    scores = node("Mul", node("Sum", *parts), t)
    if (near := model.neighbours) is not None:
        v = gathered(constant("neighbour_history_weight", near.history_weight), history_popularity)
        nobody = constant("nobody", np.zeros(model.n_items + 1, dtype=np.float32))
        sent = gathered(node("ScatterElements", nobody, "history", v, axis=0), indices("neighbours", near.sources))
        g = gathered(constant("neighbour_value", near.values), indices("neighbour_level", near.levels))
        summed = node("ReduceSum", node("Mul", sent, g), constant("columns", np.array([1])), keepdims=0)
        scores = node("Add", scores, summed)
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


def write_faiss(model: ServingModel, path: str | Path) -> dict[str, int]:
    """Write a faiss index of inner products over the decoded items t_i z_i; its bytes come back.

    Row n is that of ``model.items.ids[n]``; ``model.vectors(histories)`` makes what it is searched with. `InputError`
    where faiss is not installed, or the model has neighbours, which no inner product holds.
    """
    where = "--format faiss"
    check_installed("faiss", where=where)
    import faiss

    if model.neighbours is not None:
        raise InputError("the model has neighbours", where=where, expected="a model without, or --format onnx")
    items = model.codes.take(np.arange(model.n_items)) * model.item_weight[model.degree_level, None]
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items.astype(np.float32))
    return _written(path, faiss.serialize_index(index).tobytes())


def write_web(model: ServingModel, folder: str | Path) -> dict[str, int]:
    """Write a new folder with a page that works offline, the model file and the module that reads it; their bytes.

    ``index.html`` holds all it needs: a page opened from a disk can load nothing.
    """
    with replacing_folder(folder) as aside:
        model.save(aside / "model.c2f")
        texts = {name: _text(name) for name in _MODULE} | {"index.html": _page((aside / "model.c2f").read_bytes())}
        for name, text in texts.items():
            (aside / name).write_text(text, encoding="utf-8", newline="\n")
        return {name: (aside / name).stat().st_size for name in ("index.html", "model.c2f", *_MODULE)}


def _page(blob: bytes) -> str:
    script = _text("c2f.js") + _text("page.js")
    digest, packed = hashlib.sha256(script.encode()).digest(), zlib.compress(blob, 9)
    page = _text("index.html").replace("{{ script }}", script)
    for name, value in (("hash", digest), ("model", packed)):
        page = page.replace(f"{{{{ {name} }}}}", base64.b64encode(value).decode())
    return page


def _text(name: str) -> str:
    return (resources.files("c2f_dgl.serving") / "web" / name).read_text(encoding="utf-8")


def _written(path: str | Path, blob: bytes) -> dict[str, int]:
    with replacing(path) as aside:
        aside.write_bytes(blob)
    return {"file": len(blob)}
