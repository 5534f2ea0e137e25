"""The catalogue of known data sets, and the one door to data: a name or a path in, a `Split` out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from c2f_dgl.cards import CARDS, Card, dataset_folder, find_card, is_here
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.planted import SAMPLE_SEED, built_in_sample, write_planted
from c2f_dgl.data.readers import read_interactions
from c2f_dgl.data.splits import Protocol, Split, given_split, leave_last_out, random_split, temporal_split
from c2f_dgl.data.streams import PACKED_SUFFIXES, log_files, unpacked
from c2f_dgl.errors import InputError

How = Literal["random", "leave-last", "temporal"]

SUFFIXES = (".txt", ".tsv", ".csv", ".parquet", ".jsonl")
_VALID = ("valid", "val", "validation")


def planted_folder(data_dir: str | Path | None = None) -> Path:
    """Give the folder of the built-in sample; where the repository is not at hand it is generated first.

    Raises
    ------
    InputError
        It must be generated, and the folder cannot be written.
    """
    folder = dataset_folder(CARDS["planted"], data_dir)
    if not (folder / "train.txt").is_file():
        write_planted(*built_in_sample(), folder, seed=SAMPLE_SEED)
    return folder


def pairs_sha256(train: Interactions, test: Interactions) -> str:
    """Give the sha256 (hex) of the pairs of two files with whole-number ids, whatever the order of their lines."""
    digest = hashlib.sha256()
    for part in (train, test):
        digest.update(part.user_ids[part.users].astype("<i8").tobytes())
        digest.update(part.item_ids[part.items].astype("<i8").tobytes())
    return digest.hexdigest()


def load_dataset(
    name_or_path: str | Path,
    *,
    split: Literal["auto", "given"] | How = "auto",
    seed: int = 2024,
    valid: float | None = None,
    test: float | None = None,
    protocol: Protocol = "paper",
    data_dir: str | Path | None = None,
    **read_options: Any,
) -> Split:
    """Load a data set by its name in the catalogue or by path.

    A folder with ``train`` and ``test`` files (.txt, .tsv, .csv, .parquet or .jsonl, compressed or not) is a given
    split; with ``valid``, ``val`` or ``validation`` too the protocol is not asked, and ``test`` may be
    left out. A single file, or a folder of one log (RecBole's ``.inter``, or parts in Parquet), is split at random per
    user unless `split` says otherwise.

    Parameters
    ----------
    name_or_path : str or Path
        A name wins over a file of the same name; write ``./gowalla`` for the file.
    split : {"auto", "given", "random", "leave-last", "temporal"}
    seed : int
        Of the random draws, those of validation items among them.
    valid, test : float, optional
        Fractions held out, for ``random`` and ``temporal``; by default those of `random_split` and `temporal_split`.
    protocol : {"paper", "full-test"}
        What validates in a given split without a validation file: see `given_split`.
    data_dir : str or Path, optional
        Where named data sets are; by default `default_data_dir`.
    **read_options
        Passed to `read_interactions`.

    Raises
    ------
    InputError
        The name is unknown or not fetched yet, a file cannot be read, the counts are not the card's, or the options do
        not fit the data.
    """
    path = Path(name_or_path)
    card = None
    # os.path throughout: where a folder may not be entered it answers no, and pathlib raises.
    if isinstance(name_or_path, str) and name_or_path in CARDS:
        card = CARDS[name_or_path]
        path = _here(card, data_dir)
    elif not os.path.exists(path):
        if os.sep in str(name_or_path) or path.suffix:
            raise InputError("no such file or folder", where=path, expected="interactions, or a dataset's name")
        find_card(str(name_or_path))
    if card is not None and card.columns is not None:
        read_options = {"names": list(card.columns), **read_options}
    is_folder = os.path.isdir(path)
    if not is_folder or (_find_part(path, "train") is None and log_files(path)):
        if split == "given":
            raise InputError("a single file is no given split", where=path, expected="a folder with train and test")
        inter = read_interactions(path, timed=split in ("leave-last", "temporal"), **read_options)
        name = path.resolve().name if is_folder else unpacked(path).stem
        return split_interactions(
            inter, "random" if split == "auto" else split, seed=seed, valid=valid, test=test, name=name
        )
    if split not in ("auto", "given"):
        raise InputError(f"this is split already; no {split} split", where=path, expected="split auto or given")
    if valid is not None or test is not None:
        raise InputError("this is split already; no fractions", where=path, expected="neither valid nor test")
    train_file, valid_file = _part(path, "train"), _find_part(path, *_VALID)
    test_file = _part(path, "test") if valid_file is None else _find_part(path, "test")
    train_part = read_interactions(train_file, **read_options)
    test_part, valid_part = (
        None if file is None else read_interactions(file, **read_options) for file in (test_file, valid_file)
    )
    # What is left of it above a rating is no longer what the card counts.
    if card is not None and test_part is not None and read_options.get("min_rating") is None:
        _check_against(card, train_part, test_part, path)
    return given_split(
        train_part,
        valid=valid_part,
        test=test_part,
        seed=seed,
        name=card.name if card else path.resolve().name,
        protocol=protocol,
    )


def split_interactions(
    inter: Interactions, how: How, *, seed: int, valid: float | None = None, test: float | None = None, name: str
) -> Split:
    """Split by one of the named ways; fractions left None are those of the way's own function.

    Raises
    ------
    InputError
        `how` is unknown or takes no fractions; see also the ways themselves.
    """
    fractions = {part: value for part, value in (("valid", valid), ("test", test)) if value is not None}
    if how == "random":
        return random_split(inter, seed=seed, name=name, **fractions)
    if how == "temporal":
        return temporal_split(inter, name=name, **fractions)
    if how != "leave-last":
        raise InputError(f"unknown split {how!r}", expected="random, leave-last or temporal")
    if fractions:
        raise InputError("leave-last takes no fractions", where=name, expected="neither valid nor test")
    return leave_last_out(inter, name=name)


def _here(card: Card, data_dir: str | Path | None) -> Path:
    """Give the folder of a named data set that is there."""
    if not card.files:
        return planted_folder(data_dir)
    folder = dataset_folder(card, data_dir)
    if not is_here(card, data_dir):
        option = "" if data_dir is None else f" --data-dir {data_dir}"
        raise InputError(
            f"{card.name} has not been fetched",
            where=folder,
            expected=f"a run of: c2f-dgl data fetch {card.name}{option}",
        )
    return folder


def _find_part(folder: Path, *names: str) -> Path | None:
    """The file of a part by its first name that has one, None without."""
    try:
        there = {file.name for file in folder.iterdir()}
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=folder, expected="a readable folder") from error
    files = (f"{name}{suffix}{packed}" for name in names for suffix in SUFFIXES for packed in PACKED_SUFFIXES)
    return next((folder / file for file in files if file in there), None)


def _part(folder: Path, part: str) -> Path:
    file = _find_part(folder, part)
    if file is None:
        names = ", ".join(part + suffix for suffix in SUFFIXES)
        raise InputError(f"no {part} file", where=folder, expected=f"one of {names}, or a folder of one log")
    return file


def _check_against(card: Card, train: Interactions, test: Interactions, folder: Path) -> None:
    """Compare what was read with the card, counting pairs as they stand in the files."""
    found = (
        len(np.union1d(train.user_ids, test.user_ids)),
        len(np.union1d(train.item_ids, test.item_ids)),
        len(train) + train.n_duplicates + len(test) + test.n_duplicates,
    )
    known = (card.n_users, card.n_items, card.n_interactions)
    again = f"the files of its card; delete this folder and run: c2f-dgl data fetch {card.name}"
    for what, there, should in zip(("users", "items", "interactions"), found, known, strict=True):
        if there != should:
            raise InputError(f"{there:,} {what} where {card.name} has {should:,}", where=folder, expected=again)
    if card.pairs_sha256 is not None and pairs_sha256(train, test) != card.pairs_sha256:
        raise InputError(f"the pairs are not those of {card.name}", where=folder, expected=again)
