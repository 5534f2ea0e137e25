"""Downloads: resumed where they stopped, checked, and moved into place only when whole."""

from __future__ import annotations

import hashlib
import http
import http.client
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
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

    Each grows as ``NAME.part``, which is resumed next time, and takes its name when it is whole, checked and unpacked.
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
                if file.member is None:
                    part.replace(path)
                else:
                    _take_out(file, part, path)
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
    if file.checksum is None:
        return
    algorithm, _, expected = file.checksum.partition(":")
    digest = hashlib.new("sha1" if algorithm == "git" else algorithm, usedforsecurity=False)
    if algorithm == "git":  # its ids are of a header and the file
        digest.update(f"blob {part.stat().st_size}\0".encode())
    with part.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        part.unlink()
        raise InputError(f"{algorithm} checksum is {digest.hexdigest()}", where=file.url, expected=expected)


def _take_out(file: RemoteFile, archive: Path, path: Path) -> None:
    """Write the file within a zip archive to `path`, and remove the archive."""
    aside = path.with_name(f"{path.name}.unpacked")
    try:
        with zipfile.ZipFile(archive) as members, members.open(file.member or "") as packed, aside.open("wb") as whole:
            shutil.copyfileobj(packed, whole)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        archive.unlink()  # it would fail again
        raise InputError(f"cannot be unpacked: {error}", where=file.url, expected=f"zip with {file.member}") from error
    aside.replace(path)
    archive.unlink()
