"""The files of a device model, of safetensors: one for the model, one for histories of users.

The metadata hold a JSON manifest under ``c2f``. A reader trusts nothing: the manifest says which tensors there must be,
their types and shapes are looked at before any is read, and every value that is used as an index is checked. Tensors
are the file's pages, which processes that read one file share.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from c2f_dgl.data.ids import IdMap
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import replacing

Tensors = dict[str, np.ndarray]

MODEL, USERS, VERSION = "c2f_dgl model", "c2f_dgl users", 1
EXPORT = "c2f-dgl export RUN --out model.c2f"

# Largest header, with the manifest in it, that is read at all.
_HEADER_BYTES = 2**20

_DTYPES = {"U8": "u1", "U16": "<u2", "U32": "<u4", "I8": "i1", "I64": "<i8", "F16": "<f2", "F32": "<f4"}


class Checked:
    """The tensors and the manifest of a file, each looked at before it is taken."""

    def __init__(self, path: Path, manifest: dict[str, Any], header: dict[str, Any], contents: memoryview) -> None:
        self.path, self.manifest, self._header, self._contents = path, manifest, header, contents
        self._left = set(header) - {"__metadata__"}

    def refused(self, problem: str, expected: str = "a file as it was written") -> InputError:
        return InputError(problem, where=self.path, expected=expected)

    def has(self, name: str) -> bool:
        return name in self._left

    def tensor(
        self, name: str, dtypes: str, shape: tuple[int | None, ...], most: int = 2**32, below: int | None = None
    ) -> np.ndarray:
        """A tensor of one of some types, of a shape (None: of 1 to `most`), whose values are `below` some number."""
        if name not in self._left:
            raise self.refused(f"tensor {name!r} is missing")
        self._left.remove(name)
        dtype, size = self._header[name]["dtype"], tuple(self._header[name]["shape"])
        fits = len(size) == len(shape) and all(
            n == wanted if wanted is not None else 1 <= n <= most for n, wanted in zip(size, shape, strict=True)
        )
        if dtype not in dtypes.split() or not fits:
            wanted = ", ".join(f"1 to {most}" if n is None else str(n) for n in shape)
            raise self.refused(f"tensor {name!r} is {dtype} {list(size)}", f"{' or '.join(dtypes.split())} [{wanted}]")
        start = self._header[name]["data_offsets"][0]
        values = np.frombuffer(self._contents, _DTYPES[dtype], math.prod(size), start).reshape(size)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise self.refused(f"tensor {name!r} holds values that are not finite")
        if below is not None and values.size and int(values.max()) >= below:
            raise self.refused(f"tensor {name!r} holds {int(values.max())}", f"numbers below {below}")
        return values

    def ids(self, role: str, n: int) -> IdMap:
        """Distinct ids of users or items, of the kind that the manifest says."""
        kinds = ("integers", "text")
        if (kind := self.manifest.get("ids")) not in kinds:
            raise self.refused(f"ids of the manifest is {kind!r:.60}", " or ".join(kinds))
        whole = kind == "integers"
        ids = self.tensor("ids", "U16 U32 I64", (n,)).astype(np.int64) if whole else self.texts("ids", n)
        try:
            return IdMap(ids, role)
        except InputError as error:
            raise InputError(str(error), where=self.path) from error

    def texts(self, name: str, n: int) -> np.ndarray:
        """`n` str in an object array."""
        ends = self.tensor(f"{name[:-1]}_ends", "U32", (n,)).astype(np.int64)
        blob = self.tensor(name, "U8", (int(ends[-1]) if n else 0,)).tobytes()
        starts = np.append(0, ends[:-1])[:n]
        if (starts > ends).any():
            raise self.refused(f"tensor '{name[:-1]}_ends' is not in ascending order")
        out = np.empty(n, dtype=object)
        try:
            out[:] = [blob[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        except UnicodeDecodeError as error:
            raise self.refused(f"{name} are not UTF-8: {error.reason}") from error
        return out

    def whole(self, key: str, least: int, most: int) -> int:
        """A whole number of the manifest."""
        value = self.manifest.get(key)
        if type(value) is not int or not least <= value <= most:
            raise self.refused(f"{key} of the manifest is {value!r:.60}", f"a whole number from {least} to {most}")
        return value

    def finish(self) -> None:
        """See that nothing is left."""
        if self._left:
            raise self.refused(f"tensor {min(self._left)!r:.60} is unexpected")


def older_artifact(folder: Path) -> InputError | None:
    """The error for a folder that an older version exported; None of any other."""
    if not (folder / "manifest.json").is_file():
        return None
    return InputError("is an artifact of an older c2f_dgl", where=folder, expected=f"a new export: {EXPORT}")


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[Checked]:
    """Open a file of some kind; inside, and when all is read, its contents are checked (raises `InputError`)."""
    path = Path(path)
    expected = f"what {EXPORT}{' --users users.c2f' * (kind == USERS)} writes"
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode) and (error := older_artifact(path)) is not None:
            raise error
        if not stat.S_ISREG(status.st_mode):
            raise InputError("is not a file", where=path, expected=expected)
        with path.open("rb") as file:
            head = file.read(8)
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if head else None
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=path, expected=expected) from error
    if pages is None or len(head) < 8 or (length := struct.unpack("<Q", head)[0]) > _HEADER_BYTES:
        raise InputError(f"is no {kind} file", where=path, expected=expected)
    try:
        with safe_open(path, "numpy"):  # sees that header and file fit each other
            header = json.loads(pages[8 : 8 + length])
    except (SafetensorError, OSError) as error:
        raise InputError(f"is no {kind} file: {error!s:.100}", where=path, expected=expected) from error
    manifest = _manifest(path, (header.get("__metadata__") or {}).get("c2f"), kind, expected)
    checked = Checked(path, manifest, header, memoryview(pages)[8 + length :])
    yield checked
    checked.finish()


def _manifest(path: Path, text: str | None, kind: str, expected: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise InputError("holds no manifest", where=path, expected=expected) from error
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        raise InputError(f"is no {kind} file", where=path, expected=expected)
    if (version := manifest.get("version")) != VERSION:
        hint = "a newer c2f_dgl to read it" if isinstance(version, int) and version > VERSION else f"version {VERSION}"
        raise InputError(f"is of version {version!r:.40}", where=path, expected=hint)
    return manifest


def write(path: str | Path, kind: str, manifest: Mapping[str, Any], tensors: Tensors) -> int:
    """Write a file, whole or not at all, in the place of one that is there; its bytes come back."""
    stored = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    text = json.dumps({"format": kind, "version": VERSION, **manifest}, allow_nan=False)
    blob = save(stored, {"c2f": text})
    if len(blob) - sum(values.nbytes for values in stored.values()) > _HEADER_BYTES:
        raise InputError("the details are too large for a manifest", where=path, expected="figures, not data")
    with replacing(path) as aside:
        aside.write_bytes(blob)
    return len(blob)


def text_tensors(name: str, values: np.ndarray) -> Tensors:
    """Texts (n,) as the bytes of all, and where each ends."""
    try:
        encoded = [str(value).encode() for value in values.tolist()]
    except UnicodeEncodeError as error:
        raise InputError(f"not text: {error.reason}", where=name, expected="valid Unicode") from error
    ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
    if len(ends) and ends[-1] >= 2**32:
        raise InputError(f"{ends[-1]:,} bytes of text", where=name, expected="less than 4 GiB")
    return {name: np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name[:-1]}_ends": ends.astype(np.uint32)}


def id_tensors(ids: np.ndarray) -> tuple[str, Tensors]:
    """Kind of some ids (int64, or object holding str), and their tensors: whole numbers in as few bytes as hold all."""
    if ids.dtype == object:
        return "text", text_tensors("ids", ids)
    least, most = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
    kind = np.int64 if least < 0 or most >= 2**32 else np.uint16 if most < 2**16 else np.uint32
    return "integers", {"ids": ids.astype(kind)}
