"""Processes that train one run together, as torchrun starts them: which this one is, and what they tell each other.

Ranks have the same data and take the same decisions: what they decide by is gathered from all, or is that of rank 0. So
each call below is made by every rank, in the same order.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from c2f_dgl.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# Seconds that ranks wait for each other: to begin with, and at work, where one may have to finish what others have not.
_TO_BEGIN, _AT_WORK = 300.0, 1800.0

# Overrides both.
SECONDS = "C2F_DGL_RANKS_SECONDS"

_rank, _size = 0, 1
_group: Any = None


def rank() -> int:
    """Which of the processes this is, from 0."""
    return _rank


def size() -> int:
    """How many processes train together."""
    return _size


@contextmanager
def joined() -> Iterator[None]:
    """Train together with the others while the body runs, where RANK and WORLD_SIZE say that there are others.

    One that does not come, ends, or does not answer in time ends this one with an `InputError`.
    """
    global _rank, _size, _group
    n, mine = (_environment(name, default) for name, default in (("WORLD_SIZE", 1), ("RANK", 0)))
    if n == 1:
        yield
        return
    # What these processes have to say is said in one line each.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    import torch.distributed as dist

    seconds = os.environ.get(SECONDS)
    to_begin, at_work = (timedelta(seconds=float(seconds or limit)) for limit in (_TO_BEGIN, _AT_WORK))
    _rank, _size = mine, n
    try:
        with _heard(f"not all of them came within {to_begin.total_seconds():.0f} s"):
            dist.init_process_group("gloo", rank=mine, world_size=n, timeout=to_begin)
            _group = dist.new_group(timeout=at_work)
        yield
    finally:
        with contextlib.suppress(Exception):
            dist.destroy_process_group()
        _rank, _size, _group = 0, 1, None


def _environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise InputError(f"{name} is {text!r}", where="the environment", expected="a number, as torchrun sets it")
    return int(text)


@contextmanager
def _heard(problem: str) -> Iterator[None]:
    """Turn what torch raises over others that are gone into the one line of this rank."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        expected = "what it says itself to be put right, and all of them started again"
        raise InputError(problem, where=f"rank {_rank} of {_size}", expected=expected) from error


def share(n: int) -> slice:
    """This rank's share of n things in a row, whose sizes differ by one at most."""
    return slice(n * _rank // _size, n * (_rank + 1) // _size)


def gathered(part: Tensor, dim: int = 0) -> Tensor:
    """The ranks' parts one behind the other along `dim`, where their sizes may differ, on every rank."""
    if _size == 1:
        return part
    import torch
    import torch.distributed as dist

    with _heard("another rank has ended, or does not answer"):
        sizes = torch.zeros(_size, dtype=torch.int64)
        sizes[_rank] = part.shape[dim]
        dist.all_reduce(sizes, group=_group)
        shape = list(part.shape)
        shape[dim] = int(sizes.sum())
        whole, start = part.new_empty(shape), 0
        for source, n in enumerate(sizes.tolist()):
            shape[dim] = n
            piece = part.contiguous() if source == _rank else part.new_empty(shape)
            dist.broadcast(piece, source, group=_group)
            whole.narrow(dim, start, n).copy_(piece)
            start += n
    return whole


def of_first(*tensors: Tensor) -> None:
    """Put the values of rank 0 into tensors."""
    if _size == 1:
        return
    import torch.distributed as dist

    with _heard("another rank has ended, or does not answer"):
        for tensor in tensors:
            values = tensor.detach().contiguous()
            dist.broadcast(values, 0, group=_group)
            tensor.detach().copy_(values)


def add_up(*tensors: Tensor) -> None:
    """Put the sums over the ranks into tensors."""
    if _size == 1:
        return
    import torch.distributed as dist

    with _heard("another rank has ended, or does not answer"):
        for tensor in tensors:
            dist.all_reduce(tensor, group=_group)


@contextmanager
def file_of_first(path: Path | None) -> Iterator[Path | None]:
    """Rank 0's file, of which the others have a copy while the body runs; None where there is no such file."""
    there = path is not None and path.is_file()
    if not decided(there):
        yield None
    elif _size == 1:
        yield path
    else:
        import torch

        (n_bytes,) = numbers_of_first(path.stat().st_size if path else 0)
        content = torch.empty(int(n_bytes), dtype=torch.uint8)
        if path:
            content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        of_first(content)
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            if _rank > 0:
                copy.write_bytes(content.numpy().tobytes())
            yield path if _rank == 0 else copy


def numbers_of_first(*numbers: float) -> tuple[float, ...]:
    """Rank 0's numbers."""
    if _size == 1:
        return numbers
    import torch

    values = torch.tensor(numbers, dtype=torch.float64)
    of_first(values)
    return tuple(values.tolist())


def decided(here: bool) -> bool:
    """What rank 0 has decided."""
    return bool(numbers_of_first(here)[0])


def check_same(digest: str, what: str) -> None:
    """Refuse (`InputError`) where ranks have different digests (hex) of `what`."""
    if _size == 1:
        return
    import torch

    digests = gathered(torch.tensor([list(bytes.fromhex(digest))]))
    other = (digests != digests[0]).any(dim=1).nonzero().flatten().tolist()
    if other:
        problem = f"{what} of rank {other[0]} are not those of rank 0"
        raise InputError(problem, where=f"rank {_rank} of {_size}", expected="the same files on every machine")
