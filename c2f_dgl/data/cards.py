"""Cards of the known data sets, and where their files are; nothing of pandas or scipy is imported here."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import platformdirs
import yaml
from pydantic import TypeAdapter

from c2f_dgl.errors import InputError

REPOSITORY_SAMPLE = Path(__file__).parents[2] / "data" / "planted"


class RemoteFile(NamedTuple):
    """A file of a data set: its name here, where it is public, and what is known of the download."""

    filename: str
    url: str
    # As ALGORITHM:HEX, of hashlib, or git for the id that the file has in a repository.
    checksum: str | None = None
    member: str | None = None  # the file within, where the download is a zip archive


@dataclass(frozen=True)
class Card:
    """What is known of a data set."""

    name: str
    title: str
    source: str  # where the data come from, and whom to cite
    form: str  # the format of its files
    files: tuple[RemoteFile, ...]  # empty for the built-in sample; one is a log that is not split yet
    # Over all files of interactions together; checked whenever the data set is loaded.
    n_users: int
    n_items: int
    n_interactions: int | None  # None where it is not known
    pairs_sha256: str | None = None  # `pairs_sha256` of these files, where known; also checked
    notes: str = ""  # terms of use and oddities
    columns: tuple[str, ...] | None = None  # names of the columns, where the files are logs without a header


_CARDS = yaml.safe_load((resources.files("c2f_dgl.data") / "cards.yaml").read_text(encoding="utf-8"))
CARDS: dict[str, Card] = {card.name: card for card in TypeAdapter(list[Card]).validate_python(_CARDS)}


def find_card(name: str) -> Card:
    """The card of a data set; for an unknown name the error suggests the nearest."""
    if name in CARDS:
        return CARDS[name]
    near = difflib.get_close_matches(name.lower(), CARDS, n=1)
    problem = f"unknown dataset {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    raise InputError(problem, expected=f"a path that exists, or one of {', '.join(CARDS)}")


def default_data_dir() -> Path:
    """The folder that data sets are fetched to: ``$C2F_DGL_DATA``, else the user's data folder."""
    return Path(os.environ.get("C2F_DGL_DATA") or platformdirs.user_data_dir("c2f_dgl", appauthor=False))


def dataset_folder(card: Card, data_dir: str | Path | None = None) -> Path:
    """Where the files of `card` are, or would be once fetched."""
    if not card.files and (REPOSITORY_SAMPLE / "train.txt").is_file():
        return REPOSITORY_SAMPLE
    return (default_data_dir() if data_dir is None else Path(data_dir)) / card.name


def source_folder(name_or_path: str | Path, data_dir: str | Path | None = None) -> Path:
    """Where files that belong to a data set stand: in its folder, or beside its one file."""
    _, path = find_source(name_or_path, data_dir)
    return path if path.is_dir() else path.parent


def is_here(card: Card, data_dir: str | Path | None = None) -> bool:
    """Whether every file of `card` is there; the built-in sample, which is made where it is not, always counts."""
    folder = dataset_folder(card, data_dir)
    return all(os.path.isfile(folder / file.filename) for file in card.files)


def find_source(name_or_path: str | Path, data_dir: str | Path | None = None) -> tuple[Card | None, Path]:
    """The card of a named data set, None for a path, and where its files are; refused where there is nothing.

    A data set of one file is at that file, which is a log.
    """
    if isinstance(name_or_path, str) and name_or_path in CARDS:
        card = CARDS[name_or_path]
        folder = dataset_folder(card, data_dir)
        if not is_here(card, data_dir):
            option = "" if data_dir is None else f" --data-dir {data_dir}"
            expected = f"a run of: c2f-dgl data fetch {card.name}{option}"
            raise InputError(f"{card.name} has not been fetched", where=folder, expected=expected)
        return card, folder / card.files[0].filename if len(card.files) == 1 else folder
    path = Path(name_or_path)
    if not os.path.exists(path):  # not pathlib's, which raises where a folder may not be entered
        if os.sep in str(name_or_path) or path.suffix:
            raise InputError("no such file or folder", where=path, expected="interactions, or a dataset's name")
        find_card(str(name_or_path))
    return None, path
