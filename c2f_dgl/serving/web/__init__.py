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
    """Write a new folder with the page, and with the model file and the module that reads it for other pages.

    ``index.html`` holds all it needs, as a page that is opened from a disk can load nothing.

    Returns
    -------
    dict
        Bytes of each file.

    Raises
    ------
    InputError
        Something is there already, or the folder cannot be written.
    """
    with replacing_folder(folder) as aside:
        model.save(aside / "model.c2f")
        for name in _MODULE:
            (aside / name).write_text(_text(name), encoding="utf-8", newline="\n")
        page = _page((aside / "model.c2f").read_bytes())
        (aside / "index.html").write_text(page, encoding="utf-8", newline="\n")
        return {name: (aside / name).stat().st_size for name in ("index.html", "model.c2f", *_MODULE)}


def _page(blob: bytes) -> str:
    script = _text("c2f.js") + _text("page.js")
    filled = {
        "script": script,
        "hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "model": base64.b64encode(zlib.compress(blob, 9)).decode(),
    }
    page = _text("index.html")
    for name, value in filled.items():
        page = page.replace(f"{{{{ {name} }}}}", value)
    return page


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
