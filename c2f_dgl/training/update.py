"""New interactions in a run: solved again with what the run has chosen, and without a search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from c2f_dgl.config.schema import DataConfig
from c2f_dgl.data.catalogue import load_split
from c2f_dgl.data.columns import counted
from c2f_dgl.data.interactions import Interactions, binary_csr
from c2f_dgl.data.splits import Split, align_ids
from c2f_dgl.data.writers import write_split
from c2f_dgl.errors import InputError
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.checkpoint import kept_choice, load_meta
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.run import Run, choose_device


def update(
    run: str | Path,
    new: Interactions,
    out: str | Path,
    *,
    source: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Run:
    """A new run on the data of a run and new interactions, of new users and items too, which all train.

    Parameters
    ----------
    run : str or Path
        Folder of a finished run whose one stage is solved for, as with the preset `fast`.
    new : Interactions
    out : str or Path
        New folder, which holds the data, too.
    source : str or Path, optional
        Where the run's data is now, if it has been moved.
    device : {"auto", "cpu", "cuda"}
    reporter : Reporter, optional

    Raises
    ------
    InputError
        The run is not finished, of another kind, or from before choices were kept; `out` is taken.
    """
    before, folder = RunFolder(run), RunFolder(out)
    config, summary = before.config(), before.summary()
    if summary is None:
        raise InputError("the run is not over", where=run, expected="a finished run; --resume goes on")
    choice = kept_choice(load_meta(before.checkpoint(summary["chosen"])))
    if choice is None or config.finer or config.graph.extra:
        expected = "one stage of start spectral, interactions alone, and a run of this version"
        raise InputError("has nothing to solve again with", where=run, expected=expected)
    folder.check_new()
    split = with_new(load_split(config, source), new)
    data = DataConfig(source=str((folder.path / "data").resolve()), seed=config.data.seed)
    config = config.model_copy(update={"data": data})
    folder.begin(config)
    try:
        write_split(split, folder.path / "data")
        made = Run(config, load_split(config), choose_device(device), reporter, folder, choice)
        made.train()
    except BaseException:  # Ctrl-C too: nothing goes on with an update
        folder.discard()
        raise
    return made


def with_new(split: Split, new: Interactions) -> Split:
    """A split with further training interactions; those that are held out stay so."""
    user_ids, (old_users, new_users) = align_ids([split.user_ids, new.user_ids])
    item_ids, (old_items, new_items) = align_ids([split.item_ids, new.item_ids])
    shape = (len(user_ids), len(item_ids))
    pairs = (part.tocoo() for part in (split.train, split.valid, split.test))
    train, valid, test = (binary_csr(old_users[part.row], old_items[part.col], shape) for part in pairs)
    fresh = binary_csr(new_users[new.users], new_items[new.items], shape)
    fresh = csr_matrix(fresh - fresh.multiply(train + valid + test), dtype=np.float32)
    fresh.eliminate_zeros()
    note = counted(fresh.nnz, "interaction", "added to train") or "nothing new"
    train = csr_matrix(train + fresh)
    train.sort_indices()
    parts = {"train": train, "valid": valid, "test": test, "user_ids": user_ids, "item_ids": item_ids}
    return replace(split, **parts, notes=(*split.notes, note))
