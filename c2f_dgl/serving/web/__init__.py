"""A model as a page that works offline: search for items, choose some, see recommendations and why."""

from __future__ import annotations

import base64
import hashlib
import zlib
from importlib import resources
from pathlib import Path

from c2f_dgl.io.files import replacing_folder
from c2f_dgl.serving.model import ServingModel

_MODULE = ("c2f.js", "c2f.d.ts")


def write_web(model: ServingModel, folder: str | Path) -> dict[str, int]:
    """Write a new folder with the page, the model file and the module that reads it; the bytes of each file come back.

    ``index.html`` holds all it needs, as a page that is opened from a disk can load nothing.

    Raises
    ------
    InputError
        Something is there already, or the folder cannot be written.
    """
    with replacing_folder(folder) as aside:
        model.save(aside / "model.c2f")
        texts = {name: _text(name) for name in _MODULE} | {"index.html": _page((aside / "model.c2f").read_bytes())}
        for name, text in texts.items():
            (aside / name).write_text(text, encoding="utf-8", newline="\n")
        return {name: (aside / name).stat().st_size for name in ("index.html", "model.c2f", *_MODULE)}


def _page(blob: bytes) -> str:
    page, script = _text("index.html"), _text("c2f.js") + _text("page.js")
    values = {
        "script": script,
        "hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "model": base64.b64encode(zlib.compress(blob, 9)).decode(),
    }
    for name, value in values.items():
        page = page.replace(f"{{{{ {name} }}}}", value)
    return page


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
