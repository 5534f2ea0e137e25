"""The run folder: a complete configuration, one line of figures per epoch, checkpoints, the environment."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from c2f_dgl.config.load import dump_config, read_config
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import check_new_folder, locked, read_text, write_text, writing
from c2f_dgl.serving.file import older_artifact

_VERSIONS = ("c2f_dgl", "dgl", "torch", "numpy", "scipy", "pandas", "scikit-learn", "pymetis", "safetensors")

TRAINED_AGAIN = "a run of an older version is trained again: c2f-dgl train DATASET --out NEW"

_AS_WRITTEN = "what training wrote; --resume writes it again"


class RunFolder:
    """Paths and small files of a run.

    ``config.yaml`` re-runs it; ``environment.json`` says where it ran; ``metrics.jsonl`` has a record per epoch;
    ``checkpoints/<stage>.safetensors`` is each stage's best model on validation, ``last.safetensors`` where the run
    stands; ``summary.json``, written when the run is over, has the figures of each stage and which one was chosen;
    ``.lock`` keeps a second process out.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metrics = self.path / "metrics.jsonl"
        self.last = self.path / "checkpoints" / "last.safetensors"
        self._config, self._summary = self.path / "config.yaml", self.path / "summary.json"
        self._environment = self.path / "environment.json"

    def checkpoint(self, stage: str) -> Path:
        """Best model of a stage."""
        return self.path / "checkpoints" / f"{stage}.safetensors"

    @property
    def started(self) -> bool:
        """Whether a run was begun here."""
        return self._config.exists()

    def check_new(self) -> None:
        """See that a run could begin here (raises what `begin` does)."""
        check_new_folder(self.path, expected="a new folder, or --resume to go on with the run in it")

    def begin(self, config: RunConfig) -> None:
        """Make the folder of a new run (raises `InputError` where it is not empty or cannot be written)."""
        self.check_new()
        write_text(self._config, dump_config(config))

    def describe(self) -> None:
        """Write ``environment.json``, where there is none yet: a run may have been killed as it began."""
        if self._environment.exists():
            return
        environment = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": processor(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "versions": versions(),
        }
        write_text(self._environment, json.dumps(environment, indent=2) + "\n")

    def discard(self) -> None:
        """Take `begin` back: remove the folder, which was new or empty, unless another process trains there by now."""
        with self.locked():
            shutil.rmtree(self.path)

    def config(self) -> RunConfig:
        """The run's configuration."""
        if not self.started:
            raise older_artifact(self.path) or InputError(
                "no run here (config.yaml is missing)", where=self.path, expected="the folder of a run"
            )
        try:
            return read_config(self._config)
        except InputError as error:
            problem = str(error).partition(" (expected")[0]
            raise InputError(problem, expected=f"what training wrote; {TRAINED_AGAIN}") from error

    def environment(self) -> dict[str, Any]:
        """``environment.json``; empty where somebody has removed it."""
        return _json_object(self._environment) if self._environment.exists() else {}

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from training here (see `c2f_dgl.io.files.locked`)."""
        return locked(self.path, "trains")

    def sweep(self) -> None:
        """Remove what a killed process was writing here: files and folders not yet moved into place."""
        for stray in list(self.path.rglob(".*.part")):
            if stray.is_dir():
                shutil.rmtree(stray)
            else:
                stray.unlink(missing_ok=True)

    def append(self, record: dict[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with writing(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Lines of ``metrics.jsonl``; a last one cut short by a kill is left out."""
        if not self.metrics.exists():
            return []
        expected = "a line of figures per epoch, as training writes it"
        records, lines = [], read_text(self.metrics, expected).splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                if number == len(lines):
                    break
                raise InputError("is not valid JSON", where=self.metrics, line=number, expected=expected) from error
            if not isinstance(record, dict):
                raise InputError("holds no record", where=self.metrics, line=number, expected=expected)
            records.append(record)
        return records

    def keep_records(self, n: int) -> list[dict[str, Any]]:
        """Cut ``metrics.jsonl`` to its first `n` records, those the last checkpoint knows, and return them."""
        records = self.records()[:n]
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in records))
        return records

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``."""
        write_text(self._summary, json.dumps(summary, indent=2) + "\n")

    def reopen(self) -> None:
        """Remove ``summary.json``: the run goes on."""
        self._summary.unlink(missing_ok=True)

    def summary(self) -> dict[str, Any] | None:
        """``summary.json``, or None while the run is not over."""
        if not self._summary.exists():
            return None
        summary = _json_object(self._summary)
        if not {"chosen", "stages"} <= summary.keys():
            raise InputError("names no stages", where=self._summary, expected=_AS_WRITTEN)
        return summary


def _json_object(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(read_text(path, _AS_WRITTEN))
    except json.JSONDecodeError as error:
        raise InputError("is not valid JSON", where=path, line=error.lineno, expected=_AS_WRITTEN) from error
    if not isinstance(tree, dict):
        raise InputError("holds no JSON object", where=path, expected=_AS_WRITTEN)
    return tree


def versions() -> dict[str, str]:
    """Installed versions of what a run's figures depend on."""
    installed = {}
    for name in _VERSIONS:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def processor() -> str:
    """Model name of the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:(.*)$", info.read_text(encoding="utf-8"), re.M) if info.exists() else None
    return model[1].strip() if model else platform.processor() or platform.machine()
