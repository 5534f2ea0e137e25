"""What `Reporter` says where there is no terminal, and that it says nothing more once work is over."""

from __future__ import annotations

import io
import threading
import time
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from c2f_dgl.io import progress
from c2f_dgl.io.progress import Reporter, line, span


def a_reporter(*, quiet: bool = False, terminal: bool = False) -> tuple[Reporter, io.StringIO]:
    out = io.StringIO()
    return Reporter(Console(file=out, width=60, force_terminal=terminal), quiet=quiet), out


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_FIRST", 0.001)
    monkeypatch.setattr(progress, "_EVERY", 0.001)


def until(out: io.StringIO, text: str) -> None:
    """Wait for a text."""
    for _ in range(20_000):
        if text in out.getvalue():
            return
        time.sleep(0.001)
    pytest.fail(f"no {text!r} in {out.getvalue()[-200:]!r}")


def tellers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_every_kind_of_work_is_told_of_in_lines(hasty: None) -> None:
    reporter, out = a_reporter()
    with reporter.busy("reading [the] data"):
        until(out, "reading [the] data (0 s)\n")
        reporter.note("sorting")
        until(out, "sorting (0 s)\n")
        with reporter.bar("ranking") as ranked:
            ranked(3, 4_000)
            until(out, "sorting · ranking: 3 of 4,000 (0 s)\n")
    with reporter.stage("coarse"):
        until(out, "coarse (0 s)\n")
        reporter.start_epoch("coarse", "fixed", 7, 20)
        reporter.step()
        until(out, "coarse · fixed · epoch 7, step 1 of 20\n")
        reporter.end_epoch({"valid": {"ndcg@20": 0.25, "recall@20": 0.5}})
        reporter.start_epoch("coarse", "fixed", 8, 20)
        until(out, "coarse · fixed · epoch 8 · valid N@20 0.2500 R@20 0.5000, step 0 of 20\n")
    assert not tellers()


def test_nobody_tells_of_work_that_failed(hasty: None) -> None:
    reporter, out = a_reporter()
    with pytest.raises(ZeroDivisionError), reporter.stage("coarse"), reporter.bar("dividing"):
        until(out, "dividing")
        1 / 0  # noqa: B018
    assert not tellers()
    reporter.note("nothing")
    reporter.start_epoch("coarse", "fixed", 1, 20)
    with reporter.busy("going on"):
        until(out, "\ngoing on (0 s)\n")


def test_the_first_line_comes_after_two_seconds_then_one_every_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that is over in less does not put the next line off."""
    now, waits = 100.0, []

    class Event:
        n_lines = 0

        def wait(self, seconds: float) -> bool:
            nonlocal now
            waits.append(seconds)
            if self.n_lines == 0:
                return True
            self.n_lines -= 1
            now += seconds
            return False

        def set(self) -> None:
            pass

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(progress, "threading", SimpleNamespace(Event=Event, Thread=threading.Thread))
    reporter, out = a_reporter()
    monkeypatch.setattr(Event, "n_lines", 3)
    with reporter.busy("long"):
        pass
    assert waits == [2, 10, 10, 10]
    assert out.getvalue().count("long") == 3
    monkeypatch.setattr(Event, "n_lines", 0)
    for since, wait in ((0.0, 2.0), (7.0, 2.0), (2.5, 0.5), (1.0, 0.0)):
        now += since
        with reporter.busy("short"):
            pass
        assert waits[-1] == wait


def test_nothing_is_told_where_quiet_or_on_a_terminal(hasty: None) -> None:
    for quiet, terminal in ((True, False), (True, True), (False, True)):
        reporter, out = a_reporter(quiet=quiet, terminal=terminal)
        with reporter.busy("reading"), reporter.bar("ranking") as ranked:
            assert not tellers()
            ranked(1, 2)
        assert bool(out.getvalue()) == (terminal and not quiet)
        assert "(0 s)" not in out.getvalue()


def test_a_terminal_shows_what_goes_on_inside_below_it() -> None:
    reporter, out = a_reporter(terminal=True)
    with reporter.bar("outer"), reporter.busy("[inner]"):
        reporter.note("[noted]")
    assert "outer" in out.getvalue()
    with reporter.stage("coarse"):
        reporter.start_epoch("coarse", "fixed", 3, 2)
        reporter.step()
    assert "coarse · fixed · epoch 3" in out.getvalue() and "1/2" in out.getvalue()


def test_a_line_says_how_long_it_will_be() -> None:
    now = 0.0
    bars = Progress(get_time=lambda: now, speed_estimate_period=float("inf"))
    bars.add_task("ranking", total=None, unit="")
    (task,) = bars.tasks
    for now, done, text in (  # noqa: B007
        (60, 0, "ranking: 0 of 1,000 (60 s)"),
        (120, 100, "ranking: 100 of 1,000 (2 min)"),
        (180, 200, "ranking: 200 of 1,000 (3 min, about 8 min left)"),
        (280, 400, "ranking: 400 of 1,000 (5 min, about 5 min left)"),
        (300, 1000, "ranking: 1,000 of 1,000 (5 min)"),
    ):
        bars.update(task.id, completed=done, total=1000)
        assert line([task]) == text
    # Where it begins anew, with another amount.
    for now, done in ((400, 1), (500, 2), (600, 3)):  # noqa: B007
        bars.update(task.id, completed=done, total=5)
    assert line([task]) == "ranking: 3 of 5 (10 min, about 3 min left)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
