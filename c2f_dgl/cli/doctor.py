"""``c2f-dgl doctor``: what this installation has, and whether it works."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

import typer

from c2f_dgl.extras import EXTRAS
from c2f_dgl.io.progress import Reporter, plain_console

# What is checked, what was found, and what to do where it is amiss.
Finding = tuple[str, str, str]


def doctor() -> None:
    """Show versions, kernels, memory and folders, and train for two seconds, where there is what training takes."""
    from rich.table import Table

    table = Table("", "found", "to do", title_justify="left")
    is_ill = False
    with Reporter().busy("looking"):
        serves_alone = importlib.util.find_spec("torch") is None and importlib.util.find_spec("fastapi") is not None
        of_training = () if serves_alone else (_torch, _dgl, _data, _self_test)
        for check in (_system, *of_training):
            try:
                findings = list(check())
            # Whatever a broken installation raises is what is shown of it.
            except Exception as error:
                advice = "pip install 'c2f_dgl[train]', or bin/setup in a checkout"
                findings = [(check.__name__.strip("_"), f"{type(error).__name__}: {error}".splitlines()[0], advice)]
            is_ill |= any(to_do for _, _, to_do in findings)
            for finding in findings:
                table.add_row(*finding)
    plain_console().print(table)
    raise typer.Exit(int(is_ill))


def _system() -> Iterator[Finding]:
    from c2f_dgl.io.memory import available_bytes

    advice = "" if (3, 10) <= sys.version_info[:2] <= (3, 14) else "3.10 to 3.14 are known to work"
    yield "python", f"{platform.python_version()}, {platform.platform(terse=True)}", advice
    yield "c2f_dgl", importlib.metadata.version("c2f_dgl"), ""
    free, disk = available_bytes(), shutil.disk_usage(tempfile.gettempdir()).free
    yield "memory", f"{free / 2**30:.1f} GiB free", "" if free > 2**30 else "close other programs: fast takes 1 GiB"
    yield "disk", f"{disk / 2**30:.1f} GiB free for temporary files", "" if disk > 2**28 else "make room"
    there = [extra for extra, modules in EXTRAS.items() if all(map(importlib.util.find_spec, modules.split()))]
    yield "extras", ", ".join(there) or "none", ""


def _torch() -> Iterator[Finding]:
    import torch

    yield "torch", f"{torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} processors", ""
    yield "GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none: --device auto takes the CPU", ""


def _dgl() -> Iterator[Finding]:
    import torch

    from c2f_dgl.dgl_import import dgl
    from c2f_dgl.graph.propagate import chosen_kernel

    stood_in = "c2f_dgl" in (getattr(sys.modules.get("dgl.graphbolt"), "__doc__", None) or "")
    yield "dgl", f"{dgl.__version__}{', its graphbolt left out' if stood_in else ''}", ""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield "kernel of propagate", f"{chosen_kernel('auto', device)} on {device.type}", ""


def _data() -> Iterator[Finding]:
    from c2f_dgl.data.cards import default_data_dir

    folder = default_data_dir()
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    is_writable = os.access(above, os.W_OK | os.X_OK)
    yield "data folder", str(folder), "" if is_writable else "it cannot be written: set C2F_DGL_DATA"


def _self_test() -> Iterator[Finding]:
    from c2f_dgl import load_config, load_dataset
    from c2f_dgl.api import train_run
    from c2f_dgl.training.run import Run

    started = time.perf_counter()
    run: Run = train_run(load_dataset("planted"), None, load_config("quick"), reporter=Reporter(quiet=True))
    score, seconds = run.summary["stages"]["coarse"]["test"]["ndcg@20"], time.perf_counter() - started
    advice = "" if score > 0.25 else "0.33 was expected: please report this table"
    yield "self-test", f"trained and ranked in {seconds:.1f} s, test N@20 {score:.4f}", advice
