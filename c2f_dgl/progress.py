"""Progress of long work: bars on a terminal, silence elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text


def plain_console(*, stderr: bool = False) -> Console:
    """A console that prints ids, names and paths as they are, whatever brackets and colons they hold."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


class Reporter:
    """Shows where a run stands.

    Parameters
    ----------
    console : Console, optional
        Standard error by default. Nothing is drawn where it is not a terminal, or if `quiet`.
    quiet : bool
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or plain_console(stderr=True)
        self._shown = self.console.is_terminal and not quiet
        self._progress: Progress | None = None
        self._figures = ""

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A spinner beside `what` while the body runs."""
        if not self._shown:
            yield
            return
        with self.console.status(Text(what)):
            yield

    @contextmanager
    def bar(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar beside `what` while the body runs, which calls what it is given with the amounts done and in all."""
        text = TextColumn("{task.description}", markup=False)
        columns = (SpinnerColumn(), text, BarColumn(bar_width=20), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self._shown) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Bars for a stage's epochs while the body runs."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, disable=not self._shown) as progress:
            self._progress, self._task = progress, progress.add_task(name)
            self._figures = ""
            yield
        self._progress = None

    def start_epoch(self, stage: str, phase: str, epoch: int, n_steps: int) -> None:
        """An epoch of `n_steps` steps begins."""
        if self._progress is not None:
            description = f"{stage} · {phase} · epoch {epoch}{self._figures}"
            self._progress.reset(self._task, total=n_steps, description=description)

    def step(self) -> None:
        """A step is done."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def end_epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done; `record` is its line of figures."""
        valid = record.get("valid")
        if valid is not None:
            self._figures = f" · valid N@20 {valid['ndcg@20']:.4f} R@20 {valid['recall@20']:.4f}"
