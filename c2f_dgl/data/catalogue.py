"""From the name or path of data, or from a run's configuration, to a `Split`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from c2f_dgl.config.schema import DataConfig, RunConfig
from c2f_dgl.data.cards import CARDS, Card, dataset_folder, find_source, source_folder
from c2f_dgl.data.folds import rolling_splits, user_folds
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.packing import PACKED_SUFFIXES, unpacked
from c2f_dgl.data.planted import SAMPLE_SEED, built_in_sample, write_planted
from c2f_dgl.data.readers import is_prepared, read_interactions
from c2f_dgl.data.relations import read_side
from c2f_dgl.data.splits import Protocol, Split, given_split, leave_k_out, leave_last_out, random_split, temporal_split
from c2f_dgl.data.tables import log_files
from c2f_dgl.errors import InputError

How = Literal["auto", "given", "random", "leave-last", "temporal"]

# How a log is split: by which function, and which options of it may be given.
_WAYS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "random": (random_split, {"seed", "valid", "test"}),
    "leave-last": (leave_last_out, {"k"}),
    "leave-out": (leave_k_out, {"seed", "k"}),
    "temporal": (temporal_split, {"valid", "test"}),
    "rolling": (rolling_splits, {"folds", "valid", "test"}),
    "users": (user_folds, {"seed", "folds", "valid", "test"}),
}

SUFFIXES = (".txt", ".tsv", ".csv", ".parquet", ".jsonl")


def load_split(config: RunConfig, source: str | Path | None = None) -> Split:
    """The data of a run, read and split as its configuration says; from `source` where it has been moved."""
    source = config.data.source if source is None else str(source)
    if source is None:
        expected = "load_run(run, split=...), or training with data.source"
        raise InputError("was trained on data in memory", where="data.source", expected=expected)
    return read_side(read_data(source, config.data, config.seed), config.graph, source_folder(source))


def read_data(source: str, data: DataConfig, seed: int) -> Split:
    """The data at `source`, read and split as `data` says, with the run's seed where it says none."""
    columns = data.model_dump(exclude={"source", "split", "seed"}, exclude_none=True)
    return load_dataset(source, split=data.split, seed=seed if data.seed is None else data.seed, **columns)


def load_dataset(
    name_or_path: str | Path,
    *,
    split: How = "auto",
    seed: int = 2024,
    valid: float | None = None,
    test: float | None = None,
    protocol: Protocol = "paper",
    data_dir: str | Path | None = None,
    **read_options: Any,
) -> Split:
    """Load a data set by its name in the catalogue or by path.

    A folder with ``train`` and ``test`` files (.txt, .tsv, .csv, .parquet or .jsonl, compressed or not) is a given
    split, with ``valid``, ``val`` or ``validation`` too where there is one. A single file, a folder of one log or a
    prepared log is split at random per user unless `split` says otherwise.

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
        Columns and the like, as `read_log` takes them.
    """
    if split not in get_args(How):
        raise InputError(f"unknown split {split!r}", expected=f"one of {', '.join(get_args(How))}")
    card, path = find_source(name_or_path, data_dir)
    if card is not None and not card.files:
        path = planted_folder(data_dir)
    if card is not None and card.columns is not None:
        read_options = {"names": list(card.columns), **read_options}
    if _is_log(path):
        if split == "given":
            raise InputError("a single file is no given split", where=path, expected="a folder with train and test")
        log = read_interactions(path, timed=split in ("leave-last", "temporal"), **read_options)
        if card is not None and read_options.get("min_rating") is None:
            _check_against(card, [log], path if path.is_dir() else path.parent)
        name = card.name if card else path.resolve().name if path.is_dir() else unpacked(path).stem
        return split_interactions(log, split, seed=seed, valid=valid, test=test, name=name)
    if split not in ("auto", "given"):
        raise InputError(f"this is split already; no {split} split", where=path, expected="split auto or given")
    if valid is not None or test is not None:
        raise InputError("this is split already; no fractions", where=path, expected="neither valid nor test")
    files = {"train": _find_part(path, "train", required=True), "valid": _find_part(path, "valid", "val", "validation")}
    files["test"] = _find_part(path, "test", required=files["valid"] is None)
    parts = {role: read_interactions(file, **read_options) for role, file in files.items() if file is not None}
    if card is not None and "test" in parts and read_options.get("min_rating") is None:
        _check_against(card, [parts["train"], parts["test"]], path)
    return given_split(**parts, seed=seed, name=card.name if card else path.resolve().name, protocol=protocol)


def way_of_split(source: str | Path, how: str) -> str:
    """How `load_dataset` splits what is at a source that it has loaded: `how`, or what ``auto`` is there."""
    return how if how != "auto" else "random" if _is_log(find_source(source)[1]) else "given"


def _is_log(path: Path) -> bool:
    """Whether a path holds one log, and not the parts of a split."""
    is_folder = os.path.isdir(path)  # not pathlib's, which raises where a folder may not be entered
    return not is_folder or is_prepared(path) or (_find_part(path, "train") is None and bool(log_files(path)))


def split_interactions(log: Interactions, how: str, *, seed: int, name: str, **options: Any) -> Any:
    """Split by a named way, ``auto`` being ``random``: a split, of ``rolling`` a list, of ``users`` one of pairs.

    Options that are None are as the way's function has them.
    """
    split, takes = _WAYS["random" if how == "auto" else how]
    given = {option: value for option, value in options.items() if value is not None}
    if given.keys() & {"valid", "test"} - takes:
        raise InputError(f"{how} takes no fractions", where=name, expected="neither valid nor test")
    return split(log, name=name, **given, **({"seed": seed} if "seed" in takes else {}))


def planted_folder(data_dir: str | Path | None = None) -> Path:
    """The folder of the built-in sample; where the repository is not at hand it is generated first."""
    folder = dataset_folder(CARDS["planted"], data_dir)
    if not (folder / "train.txt").is_file():
        write_planted(*built_in_sample(), folder, seed=SAMPLE_SEED)
    return folder


def _find_part(folder: Path, *names: str, required: bool = False) -> Path | None:
    """The file of a part by its first name that has one; without, None, or refused where it is `required`."""
    try:
        listed = {file.name for file in folder.iterdir()}
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=folder, expected="a readable folder") from error
    files = (f"{name}{suffix}{packed}" for name in names for suffix in SUFFIXES for packed in PACKED_SUFFIXES)
    file = next((file for file in files if file in listed), None)
    if file is None and required:
        expected = ", ".join(names[0] + suffix for suffix in SUFFIXES)
        raise InputError(f"no {names[0]} file", where=folder, expected=f"one of {expected}, or a folder of one log")
    return None if file is None else folder / file


def _check_against(card: Card, parts: Sequence[Interactions], folder: Path) -> None:
    """Compare what was read with the card, counting pairs as they stand in the files.

    Not what is left of it above a rating, which is no longer what the card counts.
    """
    expected = f"the files of its card; delete this folder and run: c2f-dgl data fetch {card.name}"
    for noun, count, of_card in (
        ("users", len(reduce(np.union1d, [part.user_ids for part in parts])), card.n_users),
        ("items", len(reduce(np.union1d, [part.item_ids for part in parts])), card.n_items),
        ("interactions", sum(len(part) + part.n_duplicates for part in parts), card.n_interactions),
    ):
        if of_card is not None and count != of_card:
            problem = f"{count:,} {noun} where {card.name} has {of_card:,}"
            raise InputError(problem, where=folder, expected=expected)
    if card.pairs_sha256 is not None and pairs_sha256(*parts) != card.pairs_sha256:
        raise InputError(f"the pairs are not those of {card.name}", where=folder, expected=expected)


def pairs_sha256(*parts: Interactions) -> str:
    """sha256 (hex) of the pairs of files with whole-number ids, whatever the order of their lines."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.user_ids[part.users].astype("<i8").tobytes())
        digest.update(part.item_ids[part.items].astype("<i8").tobytes())
    return digest.hexdigest()
