"""Downloads: resumed where they stopped, checked, and moved into place only when whole."""

from __future__ import annotations

import hashlib
import http
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from c2f_dgl.data.cards import Card, RemoteFile, dataset_folder, is_here
from c2f_dgl.data.catalogue import planted_folder
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import locked, writing
from c2f_dgl.io.progress import Reporter

BLOCK = 1 << 18
TIMEOUT_S = 30.0


def fetch(card: Card, data_dir: str | Path | None = None) -> Path:
    """Download the files of a data set that are not there yet; its folder.

    Each file grows as ``NAME.part`` and takes its name only when it is whole and its checksum, where known, is right.
    A part that is left behind is resumed next time.
    """
    if not card.files:
        return planted_folder(data_dir)
    folder = dataset_folder(card, data_dir)
    if is_here(card, data_dir):
        return folder
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "fetches", folder.with_name(f".{folder.name}.lock")):
        for file in card.files:
            path = folder / file.filename
            if path.is_file():
                continue
            part = path.with_name(f"{path.name}.part")
            with Reporter().bar(f"{card.name}/{file.filename}, kB") as move:
                _download(file.url, part, move)
            _verify(part, file)
            with writing(path):
                part.replace(path)
    return folder


def _download(url: str, part: Path, move: Callable[[int, int], None]) -> None:
    """Bring `part` to the length that the server names, from the size it has."""
    try:
        size = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"} if size else {})
        try:
            answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if not size or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            # Nothing follows the part: either it is whole already, or it is not a part of this file.
            if error.headers.get("Content-Range") == f"bytes */{size}":
                return
            part.unlink()
            return _download(url, part, move)
        with answer:
            # A server that knows no ranges answers 200 and starts over.
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                size = 0
            length = answer.headers.get("Content-Length")
            total = None if length is None else size + int(length)
            with part.open("ab" if size else "wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
                    size += len(block)
                    move(size // 1000, (total or 0) // 1000)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"cannot be fetched: {reason}", where=url, expected="a file; fetch again to resume") from error
    if total is not None and size != total:
        problem = f"the download is truncated: {size:,} of {total:,} bytes"
        raise InputError(problem, where=url, expected="all; fetch again to resume")


def _verify(part: Path, file: RemoteFile) -> None:
    """Compare the checksum, where one is known; a part that fails is removed, since it would fail again."""
    if file.sha256 is None:
        return
    digest = hashlib.sha256(part.read_bytes()).hexdigest()  # of files of some megabytes
    if digest != file.sha256:
        part.unlink()
        raise InputError(f"sha256 is {digest}", where=file.url, expected=file.sha256)
