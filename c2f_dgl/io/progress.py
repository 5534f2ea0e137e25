"""Progress of long work: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from c2f_dgl.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

# Called with the record of an epoch.
Callback = Callable[[dict[str, Any]], None]

# Seconds from the start of work to its first line, and most seconds from one line to the next.
_FIRST, _EVERY = 2.0, 10.0


def plain_console(*, stderr: bool = False) -> Console:
    """A console that prints ids, names and paths as they are, whatever they hold, and each on one line."""
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return Plain(stderr=stderr, markup=False, emoji=False, highlight=False)


class Reporter:
    """Shows, unless `quiet`, what is going on and how far it is: in bars on a terminal, by default of standard error.

    Elsewhere it prints lines. Quiet or not, `callbacks` are called with the record of every epoch.
    """

    def __init__(
        self, console: Console | None = None, *, quiet: bool = False, callbacks: Sequence[Callback] = ()
    ) -> None:
        self.console = console or plain_console(stderr=True)
        self._quiet, self._callbacks = quiet, tuple(callbacks)
        self._rows: list[Progress] = []
        self._stage: Progress | None = None
        self._figures = ""
        self._last_line = time.monotonic()

    def busy(self, what: str) -> AbstractContextManager[object]:
        """A spinner beside `what` while the body runs."""
        return self._row(what)

    @contextmanager
    def bar(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar beside `what` while the body runs; yields a function of the amounts done and in all that moves it."""
        from rich.progress import BarColumn, TimeElapsedColumn

        with self._row(what, BarColumn(bar_width=20), TimeElapsedColumn()) as row:
            yield lambda done, total: row.update(row.task_ids[0], completed=done, total=total)

    def note(self, text: str) -> None:
        """Show `text` in place of what the innermost `busy`, `bar` or `stage` shows."""
        if self._rows:
            self._rows[-1].update(self._rows[-1].task_ids[0], description=text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Bars for a stage's epochs while the body runs."""
        from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

        with self._row(name, BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), unit="step") as row:
            self._stage, self._figures = row, ""
            try:
                yield
            finally:
                self._stage = None

    def start_epoch(self, stage: str, phase: str, epoch: int, n_steps: int) -> None:
        """An epoch of `n_steps` steps begins."""
        if self._stage is not None:
            description = f"{stage} · {phase} · epoch {epoch}{self._figures}"
            self._stage.reset(self._stage.task_ids[0], total=n_steps, description=description)

    def step(self) -> None:
        """A step is done."""
        if self._stage is not None:
            self._stage.advance(self._stage.task_ids[0])

    def end_epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done; `record` is its line of figures."""
        if (valid := record.get("valid")) is not None:
            self._figures = f" · valid N@20 {valid['ndcg@20']:.4f} R@20 {valid['recall@20']:.4f}"
        for callback in self._callbacks:
            callback(dict(record))

    @contextmanager
    def _row(self, what: str, *columns: ProgressColumn, unit: str = "") -> Iterator[Progress]:
        """Show `what` and columns while the body runs; with a `unit`, what is counted is a part of the work."""
        from rich.progress import Progress, SpinnerColumn, TextColumn

        text = TextColumn("{task.description}", markup=False)
        # Of all updates, not of the last half a minute: some come more seldom.
        row = Progress(SpinnerColumn(), text, *columns, console=self.console, speed_estimate_period=float("inf"))
        row.add_task(what, total=None, unit=unit)
        self._rows.append(row)
        outermost = len(self._rows) == 1
        try:
            with self._shown(transient=not columns) if outermost and not self._quiet else nullcontext():
                yield row
        finally:
            self._rows.remove(row)

    @contextmanager
    def _shown(self, *, transient: bool) -> Iterator[None]:
        """Bars on a terminal, or a line now and then, about all rows while the body runs."""
        if self.console.is_terminal:
            from rich.console import Group
            from rich.live import Live

            rows = lambda: Group(*self._rows)
            with Live(console=self.console, refresh_per_second=10, transient=transient, get_renderable=rows):
                yield
            return
        over, first = threading.Event(), time.monotonic() + _FIRST

        def print_lines() -> None:
            due = min(first, self._last_line + _EVERY)
            while not over.wait(max(0.0, due - time.monotonic())):
                self.console.out(line([row.tasks[0] for row in self._rows]), highlight=False)
                self._last_line = time.monotonic()
                due = self._last_line + _EVERY

        thread = threading.Thread(target=print_lines, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def line(tasks: list[Task]) -> str:
    """Descriptions, the outermost first, how far the innermost is, for how long it has run and about will run."""
    what, innermost = " · ".join(task.description for task in tasks), tasks[-1]
    amount = f"{innermost.completed:,.0f} of {innermost.total:,.0f}" if innermost.total else ""
    if amount and innermost.fields["unit"]:
        return f"{what}, {innermost.fields['unit']} {amount}"
    remaining = innermost.time_remaining
    left = f", about {span(remaining)} left" if remaining else ""
    return f"{what}{amount and f': {amount}'} ({span(innermost.elapsed or 0.0)}{left})"


def span(seconds: float) -> str:
    """A time as people say it: ``"40 s"``, ``"12 min"``, ``"1.5 h"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
