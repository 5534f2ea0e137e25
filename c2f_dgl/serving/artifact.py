"""The artifact: a folder with a JSON manifest and safetensors files, from which a model serves.

``learned.safetensors``
    Codebooks (the packed lower triangle of a triangular one), assignments (indices in the smallest unsigned type,
    weights; a single one where they are all equal), biases or a full table, in fp32, fp16 or int8 with a scale a row.
``graph.safetensors``
    Training interactions, CSR in the smallest unsigned types.
``ids.safetensors``
    External ids: integers, or UTF-8 text with NUL between ids.
``embeddings.safetensors`` (optional)
    Propagated embeddings of users and items, the items' scaled.
``manifest.json``
    Format version, counts, the settings of the model, data and metrics; size and sha256 of every file.

A reader trusts nothing: from the manifest it derives which tensors of which shapes and types there must be, refuses
files that are larger, and checks every value that is used as an index. Only the names above are ever opened, and
nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from c2f_dgl.errors import InputError
from c2f_dgl.files import replacing_folder
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.embeddings import Embeddings
from c2f_dgl.serving.item_filter import FilterShape
from c2f_dgl.serving.learned import ENTITY_TYPES, Learned, LearnedTier
from c2f_dgl.serving.precision import PRECISIONS, decode, encode, smallest_unsigned

FORMAT, VERSION = "c2f_dgl artifact", 4
MANIFEST = "manifest.json"
FILES = ("learned.safetensors", "graph.safetensors", "ids.safetensors", "embeddings.safetensors")

DEFAULT_MAX_BYTES = 8 * 2**30

# Steps from an item over a user to an item that a filter may be formed of: a thousand times Gowalla's.
MOST_PATHS = 2**36

# Largest manifest, and largest header of a tensor file, that are read at all.
_MANIFEST_BYTES = 2**22
_HEADER_BYTES = 2**20
_MOST_LAYERS, _MOST_TIERS = 1000, 64
# Within these powers of degrees and similarities stay finite.
_EXPONENTS, _LEAST_POWER = (-8.0, 8.0), 0.125

_DTYPES = {
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "I8": np.int8,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
}
_UNSIGNED = ("U8", "U16", "U32")
_STORED = {"fp32": ("F32",), "fp16": ("F16",), "int8": ("I8",)}

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Artifact:
    """What an artifact holds.

    Attributes
    ----------
    learned : Learned
    interactions : Csr, n_users x n_items
    user_ids, item_ids : arrays
        Integers of 0 or more, or str.
    embeddings : Embeddings, optional
    details : mapping
        JSON-able: ``data``, ``fingerprint``, ``metrics`` and what else the writer knows.
    """

    learned: Learned
    interactions: Csr
    user_ids: np.ndarray
    item_ids: np.ndarray
    embeddings: Embeddings | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Spec:
    """A tensor that must be there."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]

    @property
    def most_bytes(self) -> int:
        return math.prod(self.shape) * max(np.dtype(_DTYPES[dtype]).itemsize for dtype in self.dtypes)


# Writing -------------------------------------------------------------------------------------------------------------


def write_artifact(
    path: str | Path, artifact: Artifact, *, precision: str = "fp32", overwrite: bool = False
) -> dict[str, int]:
    """Write an artifact, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The folder.
    artifact : Artifact
    precision : {"fp32", "fp16", "int8"}
        Of everything learned and of the embeddings.
    overwrite : bool
        Replace an artifact that is there.

    Returns
    -------
    dict
        Bytes of each file.

    Raises
    ------
    InputError
        Something else is there, the folder cannot be written, or the model holds what the format does not.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise InputError(f"no precision {precision!r}", where="precision", expected=f"one of {', '.join(PRECISIONS)}")
    if overwrite and path.exists() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise InputError("is not an artifact, so it is not replaced", where=path, expected="a new folder")
    tensors, ids = {}, {}
    learned = artifact.learned
    tensors["learned.safetensors"], model = _learned_tensors(learned, precision)
    tensors["graph.safetensors"] = _graph_tensors(artifact.interactions)
    tensors["ids.safetensors"] = {}
    for role, values in (("users", artifact.user_ids), ("items", artifact.item_ids)):
        tensors["ids.safetensors"][role], ids[role] = _id_tensor(values, role)
    if artifact.embeddings is not None:
        tensors["embeddings.safetensors"] = _encoded(
            {"users": artifact.embeddings.users, "items": artifact.embeddings.items}, precision
        )
    # safetensors writes memory as it lies.
    blobs = {name: save({k: np.ascontiguousarray(x) for k, x in some.items()}) for name, some in tensors.items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "precision": precision,
        "counts": {
            "users": artifact.interactions.n_rows,
            "items": artifact.interactions.n_columns,
            "interactions": len(artifact.interactions.columns),
        },
        "model": model,
        "ids": ids,
        "details": dict(artifact.details),
        "files": {
            name: {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()} for name, blob in blobs.items()
        },
    }
    text = json.dumps(manifest, indent=2, allow_nan=False) + "\n"
    if len(text) > _MANIFEST_BYTES:
        raise InputError("the details are too large for a manifest", where=path, expected="metrics, not data")
    blobs[MANIFEST] = text.encode()
    with replacing_folder(path, overwrite=overwrite) as aside:
        for name, blob in blobs.items():
            (aside / name).write_bytes(blob)
    return {name: len(blob) for name, blob in blobs.items()}


def _learned_tensors(learned: Learned, precision: str) -> tuple[Tensors, dict[str, Any]]:
    tensors: Tensors = {}
    tiers = []
    for tier in learned.tiers:
        triangular = tier.codebook.shape[0] == tier.codebook.shape[1] and not np.triu(tier.codebook, 1).any()
        encoded = _encoded({f"{tier.name}.codebook": tier.codebook}, precision)
        if triangular:
            encoded[f"{tier.name}.codebook"] = encoded[f"{tier.name}.codebook"][np.tril_indices(tier.size)]
        tensors |= encoded
        slots = {}
        for parent, indices in tier.indices.items():
            weights = tier.weights[parent]
            used = (weights != 0).any(axis=0)
            indices, weights = indices[:, used], weights[:, used]
            constant = bool(weights.size) and bool((weights == weights.flat[0]).all())
            slots[parent] = {"t": int(used.sum()), "constant": constant}
            if not used.any():
                continue
            name = f"{tier.name}.{parent}"
            tensors[f"{name}.indices"] = indices.astype(smallest_unsigned(tier.size - 1))
            stored = weights[:1, :1] if constant else weights.reshape(1, -1)
            for key, value in _encoded({f"{name}.weights": stored}, precision).items():
                tensors[key] = value if constant or key.endswith(".scale") else value.reshape(weights.shape)
        tiers.append(
            {
                "name": tier.name,
                "size": tier.size,
                "threshold": float(tier.threshold),
                "gate": float(tier.gate),
                "whitened": bool(tier.whitened),
                "triangular": triangular,
                "slots": slots,
            }
        )
    if learned.table is not None:
        tensors |= _encoded({f"table.{role}": learned.table[role] for role in ENTITY_TYPES}, precision)
    if learned.item_bias is not None:
        tensors |= {
            key: value.reshape(-1)
            for key, value in _encoded({"item_bias": learned.item_bias[None, :]}, precision).items()
        }
    term = {"neighbours": int(learned.filter_neighbours), "weight": float(learned.filter_weight)}
    term |= {name: float(value) for name, value in asdict(learned.filter).items()}
    return tensors, {
        **({"filter": term} if learned.filter_neighbours else {}),
        "exponents": {role: float(learned.exponents[role]) for role in ENTITY_TYPES},
        "d": learned.d,
        "tiers": tiers,
        "table": learned.table is not None,
        "item_bias": learned.item_bias is not None,
        "layer_weights": [float(beta) for beta in learned.layer_weights],
        "entity_input": learned.entity_input,
        "activation": learned.activation,
        "link_scale": float(learned.link_scale),
        "prenormalise": bool(learned.prenormalise),
        "gate_layers": bool(learned.gate_layers),
        "item_scale": float(learned.item_scale),
    }


def _encoded(matrices: Mapping[str, np.ndarray], precision: str) -> Tensors:
    tensors: Tensors = {}
    for name, matrix in matrices.items():
        tensors[name], scales = encode(matrix, precision)
        if scales is not None:
            tensors[f"{name}.scale"] = scales
    return tensors


def _graph_tensors(interactions: Csr) -> Tensors:
    longest = int(interactions.counts.max(initial=0))
    return {
        "counts": interactions.counts.astype(smallest_unsigned(longest)),
        "items": interactions.columns.astype(smallest_unsigned(max(interactions.n_columns - 1, 0))),
    }


def _id_tensor(ids: np.ndarray, role: str) -> tuple[np.ndarray, dict[str, Any]]:
    if ids.dtype.kind in "iu":
        if len(ids) and ids.min() < 0:
            raise InputError(f"id {ids.min()} is negative", where=role, expected="integers of 0 or more, or text")
        largest = int(ids.max(initial=0))
        return ids.astype(smallest_unsigned(largest) if largest < 2**32 else np.int64), {"kind": "integers"}
    joined = "\0".join(ids.tolist())
    if joined.count("\0") != len(ids) - 1:
        raise InputError("an id holds a NUL character", where=role, expected="text without it")
    try:
        text = joined.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"an id is not text: {error.reason}", where=role, expected="valid Unicode") from error
    return np.frombuffer(text, dtype=np.uint8), {"kind": "text", "bytes": len(text)}


# Reading -------------------------------------------------------------------------------------------------------------


def read_artifact(path: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Artifact:
    """Read an artifact and check all of it.

    Parameters
    ----------
    path : str or Path
        The folder.
    max_bytes : int
        Refuse an artifact whose files, or whose embeddings and messages in float32 with what forming them takes, need
        more memory than this.

    Raises
    ------
    InputError
        Not an artifact, damaged, of another format version, or too large.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    where = path / MANIFEST
    tree = _Tree(manifest, where)
    precision = tree.choice("precision", PRECISIONS)
    counts = tree.child("counts")
    n_users, n_items = (counts.whole(name, 1, 2**32) for name in ("users", "items"))
    n_interactions = counts.whole("interactions", 0, n_users * n_items)
    files, details = tree.child("files"), tree.child("details").tree
    optional = "embeddings.safetensors"
    if set(files.tree) - {optional} != set(FILES) - {optional}:
        raise InputError(f"lists files {sorted(files.tree)}", where=where, expected=", ".join(FILES))
    layout = _Layout(tree.child("model"), n_users, n_items, precision)
    n_nodes = n_users + n_items + sum(layout.sizes.values())
    neighbours = n_items * min(layout.filter_neighbours, n_items)
    # W is made from the items' rows of the basis, with a few matrices of its own size.
    whitened = next(iter(layout.sizes.values())) if layout.tiers and layout.tiers[0].truth("whitened") else 0
    whitening = 8 * whitened * (n_items + 4 * whitened)
    if 8 * n_nodes * layout.d + 64 * n_interactions + 8 * neighbours + whitening > max_bytes:
        raise InputError(
            f"{n_nodes:,} nodes with {layout.d:,} values, {n_interactions:,} interactions, {neighbours:,} neighbours "
            f"and {whitened:,} whitened atoms need too much memory",
            where=where,
            expected=f"at most {max_bytes:,} bytes (max_bytes)",
        )
    specs = {
        "learned.safetensors": layout.specs(),
        "graph.safetensors": {
            "counts": _Spec((n_users,), _UNSIGNED),
            "items": _Spec((n_interactions,), _UNSIGNED),
        },
        "ids.safetensors": {
            role: _id_spec(tree.child("ids").child(role), n, max_bytes)
            for role, n in (("users", n_users), ("items", n_items))
        },
    }
    if optional in files.tree:
        specs[optional] = {
            key: spec
            for role, n in (("users", n_users), ("items", n_items))
            for key, spec in _matrix_specs(role, (n, layout.d), precision).items()
        }
    budget, tensors = max_bytes, {}
    for name, wanted in specs.items():
        entry = files.child(name)
        tensors[name] = _read_tensors(path / name, entry, wanted, budget)
        budget -= sum(values.nbytes for values in tensors[name].values())
    interactions = _interactions(tensors["graph.safetensors"], n_items, path / "graph.safetensors")
    paths = float(np.square(interactions.counts, dtype=np.float64).sum())
    if layout.filter_neighbours > 0 and paths > MOST_PATHS:
        raise InputError(
            f"its filter would be formed of {paths:.0e} pairs of items with a user in common",
            where=path / "graph.safetensors",
            expected=f"at most {MOST_PATHS:.0e}: users with fewer items",
        )
    embeddings = None
    if optional in tensors:
        users, items = (_decoded(tensors[optional], role, path / optional) for role in ("users", "items"))
        embeddings = Embeddings(users, items, rounded=True)
    return Artifact(
        layout.learned(tensors["learned.safetensors"], path / "learned.safetensors"),
        interactions,
        _ids(tensors["ids.safetensors"]["users"], tree.child("ids").child("users"), n_users, path),
        _ids(tensors["ids.safetensors"]["items"], tree.child("ids").child("items"), n_items, path),
        embeddings,
        details,
    )


class _Tree:
    """A JSON object whose values are asked for by name, type and range."""

    def __init__(self, tree: Any, where: Path, name: str = "the manifest") -> None:
        if not isinstance(tree, dict):
            raise InputError(f"{name} is not an object", where=where, expected="an unaltered artifact")
        self.tree, self.where, self.name = tree, where, name

    def value(self, key: str) -> Any:
        """Whatever stands under `key`, which must be there."""
        if key not in self.tree:
            raise InputError(f"{self.name} lacks {key!r}", where=self.where, expected="an unaltered artifact")
        return self.tree[key]

    def refused(self, key: str, expected: str) -> InputError:
        """The error for what stands under `key`."""
        shown = repr(self.tree[key])[:60]
        return InputError(f"{self.name}: {key} is {shown}", where=self.where, expected=expected)

    def child(self, key: str) -> _Tree:
        return _Tree(self.value(key), self.where, key)

    def whole(self, key: str, least: int, most: int) -> int:
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refused(key, f"a whole number from {least:,} to {most:,}")
        return value

    def number(self, key: str, least: float = -math.inf, most: float = math.inf) -> float:
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
            raise self.refused(key, "a finite number")
        if not least <= value <= most:
            raise self.refused(key, f"{least:g} to {most:g}")
        return float(value)

    def truth(self, key: str) -> bool:
        value = self.value(key)
        if not isinstance(value, bool):
            raise self.refused(key, "true or false")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.value(key)
        if not isinstance(value, str) or value not in choices:
            raise self.refused(key, f"one of {', '.join(choices)}")
        return value

    def list(self, key: str, most: int) -> list[Any]:
        value = self.value(key)
        if not isinstance(value, list) or len(value) > most:
            raise self.refused(key, f"a list of at most {most} entries")
        return value


class _Layout:
    """The model section of a manifest: what tensors it asks for, and the model that they make."""

    def __init__(self, model: _Tree, n_users: int, n_items: int, precision: str) -> None:
        self.model, self.precision = model, precision
        self.filter_neighbours, self.filter_weight, self.filter = 0, 0.0, FilterShape()
        if "filter" in model.tree:
            term = model.child("filter")
            self.filter_neighbours, self.filter_weight = (
                term.whole("neighbours", 1, 2**32),
                term.number("weight", 0.0, 1.0),
            )
            shape = {entry.name: term.number(entry.name, *_EXPONENTS) for entry in fields(FilterShape)}
            if shape["power"] < _LEAST_POWER:
                raise term.refused("power", f"{_LEAST_POWER:g} or more")
            self.filter = FilterShape(**shape)
        exponents = model.child("exponents")
        self.exponents = {role: exponents.number(role, *_EXPONENTS) for role in ENTITY_TYPES}
        self.d = model.whole("d", 1, 2**20)
        self.entities = {"user": n_users, "item": n_items}
        self.has_table, self.has_bias = model.truth("table"), model.truth("item_bias")
        self.tiers = [_Tree(entry, model.where, "a tier") for entry in model.list("tiers", _MOST_TIERS)]
        if self.has_table == bool(self.tiers):
            raise InputError("has both tiers and a full table, or neither", where=model.where)
        self.sizes: dict[str, int] = {}
        for tier in self.tiers:
            name = tier.value("name")
            if not isinstance(name, str) or not name.isidentifier() or name in (*ENTITY_TYPES, "table", *self.sizes):
                raise tier.refused("name", "a new identifier")
            if tier.truth("whitened") and self.sizes:
                raise tier.refused("whitened", "false below the first tier")
            self.sizes[name] = tier.whole("size", 1, 2**32)
        self.slots = {name: self._slots(k, name) for k, name in enumerate(self.sizes)}

    def _slots(self, k: int, name: str) -> dict[str, tuple[int, int, bool]]:
        """Of each parent type: rows, entries a row, and whether one weight is all of them."""
        parents = self.entities if k == 0 else {list(self.sizes)[k - 1]: list(self.sizes.values())[k - 1]}
        slots = self.tiers[k].child("slots")
        if set(slots.tree) != set(parents):
            raise self.tiers[k].refused("slots", f"entries {', '.join(parents)}")
        found = {}
        for parent, rows in parents.items():
            entry = slots.child(parent)
            found[parent] = (rows, entry.whole("t", 0, self.sizes[name]), entry.truth("constant"))
        return found

    def specs(self) -> dict[str, _Spec]:
        """Tensors of ``learned.safetensors``."""
        specs: dict[str, _Spec] = {}
        for tier, (name, size) in zip(self.tiers, self.sizes.items(), strict=True):
            specs |= _matrix_specs(f"{name}.codebook", (size, self.d), self.precision)
            if tier.truth("triangular"):
                if size != self.d:
                    raise tier.refused("triangular", f"a square codebook, not {size} x {self.d}")
                specs[f"{name}.codebook"] = _Spec((size * (size + 1) // 2,), _STORED[self.precision])
            for parent, (rows, t, constant) in self.slots[name].items():
                if t:
                    key = f"{name}.{parent}"
                    specs[f"{key}.indices"] = _Spec((rows, t), _UNSIGNED)
                    specs |= _matrix_specs(f"{key}.weights", (1, 1) if constant else (rows, t), self.precision, 1)
        if self.has_table:
            for role, n in self.entities.items():
                specs |= _matrix_specs(f"table.{role}", (n, self.d), self.precision)
        if self.has_bias:
            specs |= _matrix_specs("item_bias", (self.entities["item"],), self.precision, 1)
        return specs

    def learned(self, tensors: Tensors, where: Path) -> Learned:
        """The model of tensors that match `specs`."""
        model = self.model
        tiers: list[LearnedTier] = []
        for tier, (name, size) in zip(self.tiers, self.sizes.items(), strict=True):
            key = f"{name}.codebook"
            if tier.truth("triangular"):
                square = np.zeros((size, size), dtype=tensors[key].dtype)
                square[np.tril_indices(size)] = tensors[key]
                tensors = {**tensors, key: square}
            indices, weights = {}, {}
            for parent, (rows, t, constant) in self.slots[name].items():
                indices[parent], weights[parent] = self._assignment(tensors, name, parent, (rows, t), constant, where)
            tiers.append(
                LearnedTier(
                    name,
                    _decoded(tensors, key, where),
                    indices,
                    weights,
                    threshold=tier.number("threshold", 0.0),
                    gate=tier.number("gate", 0.0, 1.0),
                    whitened=tier.truth("whitened"),
                )
            )
        betas = _Tree(dict(enumerate(model.list("layer_weights", _MOST_LAYERS))), model.where, "layer_weights")
        if not betas.tree:
            raise model.refused("layer_weights", "one number a layer, and one more")
        return Learned(
            tuple(tiers),
            tuple(betas.number(layer) for layer in betas.tree),
            {role: _decoded(tensors, f"table.{role}", where) for role in ENTITY_TYPES} if self.has_table else None,
            entity_input=model.choice("entity_input", ("unrefined", "refined")),
            activation=model.choice("activation", ("none", "tanh")),
            link_scale=model.number("link_scale", 0.0),
            prenormalise=model.truth("prenormalise"),
            gate_layers=model.truth("gate_layers"),
            item_scale=model.number("item_scale", -100.0, 100.0),
            item_bias=_decoded(tensors, "item_bias", where) if self.has_bias else None,
            exponents=self.exponents,
            filter_neighbours=self.filter_neighbours,
            filter=self.filter,
            filter_weight=self.filter_weight,
        )

    def _assignment(
        self, tensors: Tensors, name: str, parent: str, shape: tuple[int, int], constant: bool, where: Path
    ) -> tuple[np.ndarray, np.ndarray]:
        key = f"{name}.{parent}"
        if shape[1] == 0:
            return np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        indices = tensors[f"{key}.indices"].astype(np.int64)
        if indices.size and int(indices.max()) >= self.sizes[name]:
            raise InputError(
                f"{key}.indices holds {int(indices.max())}", where=where, expected=f"numbers below {self.sizes[name]}"
            )
        weights = _decoded(tensors, f"{key}.weights", where)
        if (weights < 0).any():
            raise InputError(f"{key}.weights holds negative values", where=where, expected="0 or more")
        return indices, np.broadcast_to(weights, shape) if constant else weights


def _matrix_specs(name: str, shape: tuple[int, ...], precision: str, n_scales: int | None = None) -> dict[str, _Spec]:
    specs = {name: _Spec(shape, _STORED[precision])}
    if precision != "fp32":
        specs[f"{name}.scale"] = _Spec((shape[0] if n_scales is None else n_scales,), ("F32",))
    return specs


def _id_spec(entry: _Tree, n: int, max_bytes: int) -> _Spec:
    if entry.choice("kind", ("integers", "text")) == "integers":
        return _Spec((n,), (*_UNSIGNED, "I64"))
    return _Spec((entry.whole("bytes", 0, max_bytes),), ("U8",))


def _read_manifest(path: Path) -> dict[str, Any]:
    where = path / MANIFEST
    blob = _read_file(where, _MANIFEST_BYTES)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        manifest = json.loads(blob.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        problem = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise InputError(f"not a manifest: {problem}", where=where, expected="an unaltered artifact") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError("not a c2f_dgl artifact", where=where, expected=f'"format": "{FORMAT}"')
    version = manifest.get("version")
    if isinstance(version, bool) or version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        hint = "a newer c2f_dgl to read it" if newer else f"version {VERSION}: export the run again, c2f-dgl export RUN"
        raise InputError(f"is of artifact version {version!r}"[:80], where=where, expected=hint)
    return manifest


def _read_file(path: Path, most: int) -> bytes:
    """A regular file of at most `most` bytes; links are not followed."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path, expected="the folder of an artifact") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("is not a regular file", where=path, expected="an unaltered artifact")
        if status.st_size > most:
            raise InputError(f"has {status.st_size:,} bytes", where=path, expected=f"at most {most:,}")
        return file.read(most + 1)


def _read_tensors(path: Path, entry: _Tree, specs: Mapping[str, _Spec], budget: int) -> Tensors:
    """The tensors of a file, exactly those of `specs`."""
    most = sum(spec.most_bytes for spec in specs.values()) + _HEADER_BYTES
    if most - _HEADER_BYTES > budget:
        raise InputError("needs too much memory", where=path, expected="a smaller artifact, or a larger max_bytes")
    blob = _read_file(path, most)
    if len(blob) != entry.whole("bytes", 0, most):
        raise InputError(
            f"has {len(blob):,} bytes", where=path, expected=f"the {entry.tree['bytes']:,} of the manifest"
        )
    if hashlib.sha256(blob).hexdigest() != entry.tree.get("sha256"):
        raise InputError("its sha256 is not that of the manifest", where=path, expected="an unaltered artifact")
    try:
        found = dict(deserialize(blob))
    except SafetensorError as error:
        raise InputError(f"not a safetensors file: {error}", where=path, expected="an unaltered artifact") from error
    if set(found) != set(specs):
        odd = sorted(set(found) ^ set(specs))[0]
        problem = "unexpected" if odd in found else "missing"
        raise InputError(f"tensor {odd[:60]!r} is {problem}", where=path, expected="the tensors of the manifest")
    tensors = {}
    for name, spec in specs.items():
        shape, dtype = tuple(found[name]["shape"]), found[name]["dtype"]
        if shape != spec.shape or dtype not in spec.dtypes:
            raise InputError(
                f"tensor {name!r} is {dtype} {list(shape)}",
                where=path,
                expected=f"{' or '.join(spec.dtypes)} {list(spec.shape)}",
            )
        values = np.frombuffer(found[name]["data"], dtype=np.dtype(_DTYPES[dtype]).newbyteorder("<"))
        tensors[name] = values.reshape(shape).astype(_DTYPES[dtype], copy=False)
        if dtype in ("F16", "F32") and not np.isfinite(tensors[name]).all():
            raise InputError(f"tensor {name!r} holds values that are not finite", where=path)
    return tensors


def _decoded(tensors: Tensors, name: str, where: Path) -> np.ndarray:
    values, scales = tensors[name], tensors.get(f"{name}.scale")
    if scales is None:
        return values
    # One scale for all values, or one a row.
    with np.errstate(over="ignore"):
        if len(scales) == 1:
            decoded = decode(values.reshape(1, -1), scales).reshape(values.shape)
        else:
            decoded = decode(values, scales)
    if not np.isfinite(decoded).all():
        raise InputError(f"tensor {name!r} holds values that are not finite", where=where)
    return decoded


def _interactions(tensors: Tensors, n_items: int, where: Path) -> Csr:
    counts, items = tensors["counts"].astype(np.int64), tensors["items"].astype(np.int64)
    if int(counts.sum()) != len(items):
        raise InputError(f"counts add up to {int(counts.sum())}", where=where, expected=f"{len(items)} interactions")
    if len(items) and int(items.max()) >= n_items:
        raise InputError(f"holds item {int(items.max())}", where=where, expected=f"numbers below {n_items}")
    interactions = Csr.from_counts(counts, items, n_items)
    same_user = interactions.rows[1:] == interactions.rows[:-1]
    if (same_user & (items[1:] <= items[:-1])).any():
        raise InputError("a user's items are not in ascending order", where=where, expected="an unaltered artifact")
    return interactions


def _ids(values: np.ndarray, entry: _Tree, n: int, path: Path) -> np.ndarray:
    where = path / "ids.safetensors"
    if entry.choice("kind", ("integers", "text")) == "text":
        try:
            text = values.tobytes().decode("utf-8").split("\0")
        except UnicodeDecodeError as error:
            raise InputError(f"ids are not UTF-8: {error.reason}", where=where) from error
        if len(text) != n:
            raise InputError(f"holds {len(text):,} ids", where=where, expected=f"{n:,}")
        ids = np.empty(n, dtype=object)
        ids[:] = text
    else:
        ids = values.astype(np.int64)
        if len(ids) and int(ids.min()) < 0:
            raise InputError(f"holds id {int(ids.min())}", where=where, expected="0 or more")
    if len(np.unique(ids)) != n:
        raise InputError("holds an id twice", where=where, expected="distinct ids")
    return ids


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond floats
        return False
