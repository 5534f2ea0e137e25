"""Memory that a process may still take, so that what will not fit is said before it is tried."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from c2f_dgl.errors import InputError


def available_bytes() -> int:
    """Bytes that are free on the host, or left of the limit of the process's address space if that is less."""
    page = os.sysconf("SC_PAGE_SIZE")
    free = page * os.sysconf("SC_PHYS_PAGES")
    meminfo, taken = Path("/proc/meminfo"), Path("/proc/self/statm")
    if meminfo.is_file():
        lines = (line.split() for line in meminfo.read_text().splitlines())
        free = next((1024 * int(line[1]) for line in lines if line[0] == "MemAvailable:"), free)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        used = page * int(taken.read_text().split()[0]) if taken.is_file() else 0
        free = min(free, max(limit - used, 0))
    return free


def check_memory(needed: int, what: str, *, where: str, expected: str) -> None:
    """Refuse what needs more bytes than are available.

    Raises
    ------
    InputError
        It does; `what` needs them, and `where` and `expected` say what to change.
    """
    if needed > (free := available_bytes()):
        raise InputError(
            f"{what} needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are available",
            where=where,
            expected=expected,
        )
