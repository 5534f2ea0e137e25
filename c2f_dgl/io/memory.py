"""Memory that a process may still take, so that what will not fit is said before it is tried."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

from c2f_dgl.errors import InputError


def available_bytes() -> int:
    """Bytes that are free on the host, or left of the limit of the process's address space if that is less."""
    page, meminfo, statm = os.sysconf("SC_PAGE_SIZE"), Path("/proc/meminfo"), Path("/proc/self/statm")
    free = re.search(r"MemAvailable: *(\d+) kB", meminfo.read_text()) if meminfo.is_file() else None
    available = 1024 * int(free[1]) if free else page * os.sysconf("SC_PHYS_PAGES")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return available
    used = page * int(statm.read_text().split()[0]) if statm.is_file() else 0
    return min(available, max(limit - used, 0))


def check_memory(needed: int, what: str, *, where: str, expected: str) -> None:
    """Refuse (`InputError`) `what` needs more bytes than are available; `where` and `expected` say what to change."""
    if needed > (free := available_bytes()):
        sizes = f"{needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are available"
        raise InputError(f"{what} needs about {sizes}", where=where, expected=expected)
