"""Processes that train together: what they exchange, that they train what one trains, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import hosts
from c2f_dgl import load_config, load_dataset, load_run
from c2f_dgl.api import train_run
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate_per_user
from c2f_dgl.io import ranks

ROOT = Path(__file__).parents[2]

# A start of a second that chooses some of its scalars, with a filter.
_OPTIONS = ["coarse.m=24", "model.item_exponent=null", "model.item_scale=null", "coarse.power=null"]
_FILTER = ["model.filter_neighbours=20", "model.filter_weight=0.2"]
TRAIN = ["train", "planted", "--preset", "quick", *(f"--set={option}" for option in (*_OPTIONS, *_FILTER))]


def started(n: int, arguments: list[str], only: range | None = None, seconds: int = 120) -> list[subprocess.Popen]:
    """Processes as torchrun starts them; some of the ranks alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": n, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, ranks.SECONDS: seconds}
    common |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": ROOT}
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | {key: str(value) for key, value in {**common, "RANK": rank}.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in only or range(n)
    ]


def ended(processes: list[subprocess.Popen]) -> list[tuple[int, str, list[str]]]:
    """Exit code, standard output and what was said beside progress, of each."""
    try:
        said = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    shown = r"reading the data|starting |evaluating|planted: |coarse|fine|\d+ tried"
    return [
        (process.returncode, out, [line for line in err.splitlines() if not re.match(shown, line)])
        for process, (out, err) in zip(processes, said, strict=True)
    ]


EXCHANGE = """
import json, sys, torch
from pathlib import Path
from c2f_dgl.errors import InputError
from c2f_dgl.io import ranks

assert (ranks.rank(), ranks.size()) == (0, 1)
with ranks.joined():
    r, n = ranks.rank(), ranks.size()
    sums = torch.tensor([r + 1.0, 2.0])
    ranks.add_up(sums)
    with ranks.file_of_first(Path(sys.argv[1]) if r == 0 else None) as path:
        content = path.read_text()
    with ranks.file_of_first(Path("none") if r == 0 else None) as path:
        assert path is None
    things = torch.arange(28.0).reshape(4, 7)
    mine = things[:, ranks.share(7)]
    uneven = ranks.gathered(torch.full((r * 2, 3), r, dtype=torch.int64))
    values = torch.full((3, 2), float(r)).T
    ranks.of_first(values)
    ranks.check_same("00ff", "the data")
    try:
        ranks.check_same(f"00{min(r, 1):02}", "the data")
    except InputError as error:
        refused = str(error)
    print(json.dumps([r, n, mine.shape[1], bool((ranks.gathered(mine, dim=1) == things).all()), uneven.tolist(),
                      float(values.abs().sum()), ranks.decided(r == 0), ranks.numbers_of_first(r + 0.5, 2), refused,
                      sums.tolist(), content]))
assert ranks.size() == 1
"""


def test_ranks_gather_shares_of_any_size_and_agree_with_the_first(tmp_path):
    (tmp_path / "file").write_text("of the first")
    answers = ended(started(3, ["-c", EXCHANGE, str(tmp_path / "file")]))
    assert [code for code, _, _ in answers] == [0, 0, 0], answers
    for rank, (_, out, _) in enumerate(answers):
        uneven = [[1] * 3] * 2 + [[2] * 3] * 4
        refused = (
            f"rank {rank} of 3: the data of rank 1 are not those of rank 0 (expected the same files on every machine)"
        )
        expected = [rank, 3, [2, 2, 3][rank], True, uneven, 0.0, True, [0.5, 2.0], refused, [6.0, 6.0], "of the first"]
        assert json.loads(out) == expected


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    ((code, _, said),) = ended(started(1, ["-m", "c2f_dgl", *TRAIN, "--out", str(out)]))
    assert code == 0, said
    return out


def same_run(ours: Path, theirs: Path) -> None:
    """See that two runs have chosen the same scalars and have the same figures."""
    of_ours, of_theirs = (json.loads((run / "summary.json").read_text())["stages"]["coarse"] for run in (ours, theirs))
    assert of_ours["scalars"] == of_theirs["scalars"]
    for part in ("valid", "test"):
        assert of_ours[part] == pytest.approx(of_theirs[part], abs=1e-6)


@pytest.mark.parametrize("n", [2, 3])
def test_several_ranks_choose_and_score_as_one_process_does(tmp_path, alone, n):
    out = tmp_path / "run"
    answers = ended(started(n, ["-m", "c2f_dgl", *TRAIN, "--out", str(out)]))
    assert [code for code, _, _ in answers] == [0] * n, answers
    assert "chosen on validation: coarse" in answers[0][1]
    assert all((out, said) == ("", []) for _, out, said in answers[1:])
    same_run(out, alone)
    users = torch.arange(1000)
    scores, expected = (load_run(path)[0].scorer().scores(users) for path in (out, alone))
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-6)


@pytest.fixture
def two_hosts() -> Iterator[list[str]]:
    """Names of two network namespaces, with a wire between them."""
    with ExitStack() as stack:
        try:
            names = stack.enter_context(hosts.hosts(2))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs network namespaces and TUN devices, which only root may make: {error}")
        yield names


@pytest.mark.slow
def test_two_hosts_choose_and_score_as_one_process_does(tmp_path, alone, two_hosts):
    command = ["-m", "c2f_dgl", *TRAIN, "--out", str(tmp_path / "run")]
    answers = ended(hosts.started(two_hosts, [command] * 2))
    assert [code for code, _, _ in answers] == [0, 0], answers
    same_run(tmp_path / "run", alone)


@pytest.mark.slow
def test_a_link_that_drops_ends_both_hosts_with_one_line(tmp_path, two_hosts):
    command = ["-m", "c2f_dgl", *TRAIN, "--out", str(tmp_path / "run")]
    processes = hosts.started(two_hosts, [command] * 2, seconds=15)
    assert processes[0].stderr is not None
    for line in processes[0].stderr:  # the search follows
        if line.startswith("planted: "):
            break
    hosts.ip("-n", two_hosts[1], "link", "set", "eth0", "down")
    answers = ended(processes)
    assert [code for code, _, _ in answers] == [2, 2], answers
    for rank, (_, _, said) in enumerate(answers):
        assert len(said) == 1, said
        assert said[0].startswith(f"c2f-dgl: rank {rank} of 2: another rank has ended, or does not answer (expected")
    assert not (tmp_path / "run").exists()


# Both stages of the paper's model by gradient, with an assignment update in each.
_PHASES = [f"{stage}.training.{phase}_epochs=2" for stage in ("coarse", "fine") for phase in ("fixed", "updating")]
_EVERY = [f"{stage}.training.evaluate_every=1" for stage in ("coarse", "fine")]
DESCEND = ["train", "planted", "--preset", "paper", *(f"--set={option}" for option in (*_PHASES, *_EVERY))]


def records(run: Path) -> list[dict]:
    """Records of epochs, without what changes with the time of day."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]


@pytest.fixture(scope="module")
def descended(tmp_path_factory) -> Path:
    """A run by gradient of two processes."""
    out = tmp_path_factory.mktemp("descended") / "run"
    answers = ended(started(2, ["-m", "c2f_dgl", *DESCEND, "--out", str(out)]))
    assert [code for code, _, _ in answers] == [0, 0], answers
    return out


def test_ranks_that_share_batches_descend_as_one_process_does(tmp_path, descended):
    ((code, _, said),) = ended(started(1, ["-m", "c2f_dgl", *DESCEND, "--out", str(tmp_path / "run")]))
    assert code == 0, said
    ours, theirs = records(descended), records(tmp_path / "run")
    assert [record["epoch"] for record in ours] == [record["epoch"] for record in theirs] == [0, 1, 2, 3, 4] * 2
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), rel=1e-4)
        assert mine["valid"] == pytest.approx(other["valid"], abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3])
def test_a_run_whose_rank_was_killed_goes_on_with_another_number_of_ranks(tmp_path, descended, n):
    command = ["-m", "c2f_dgl", *DESCEND, "--out", str(tmp_path / "run")]
    processes = started(2, command)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 8:  # in the fine stage
        assert processes[0].poll() is None
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGKILL)
    assert [code for code, _, _ in ended(processes)] == [2, -signal.SIGKILL]
    before = records(tmp_path / "run")
    answers = ended(started(n, [*command, "--resume"]))
    assert [code for code, _, _ in answers] == [0] * n, answers
    ours, theirs = records(tmp_path / "run"), records(descended)
    assert ours[: len(before)] == before == theirs[: len(before)]
    assert len(ours) == len(theirs) == 10
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["valid"] == pytest.approx(other["valid"], abs=2e-3)


def test_torchrun_starts_them(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*torchrun, "-m", "c2f_dgl", "train", "planted", "--preset", "quick", "--set", "coarse.m=24"]
    done = subprocess.run([*command, "--out", str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("chosen on validation: coarse") == 1
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_rank_that_is_killed_ends_the_others_with_one_line(tmp_path):
    processes = started(3, ["-m", "c2f_dgl", *TRAIN, "--out", str(tmp_path / "run")])
    assert processes[0].stderr is not None
    for line in processes[0].stderr:  # the search follows
        if line.startswith("planted: "):
            break
    processes[1].send_signal(signal.SIGKILL)
    answers = ended(processes)
    assert [code for code, _, _ in answers] == [2, -signal.SIGKILL, 2], answers
    for rank in (0, 2):
        (line,) = answers[rank][2]
        assert line.startswith(f"c2f-dgl: rank {rank} of 3: another rank has ended, or does not answer (expected what")
    assert not (tmp_path / "run").exists()


def test_a_rank_that_does_not_come_is_waited_for_and_no_longer(tmp_path):
    command = ["-m", "c2f_dgl", *TRAIN, "--out", str(tmp_path / "run")]
    for missing, there in ((1, range(1)), (0, range(1, 2))):
        ((code, _, said),) = ended(started(2, command, there, seconds=5))
        assert code == 2 and len(said) == 1, said
        assert f"rank {1 - missing} of 2: not all of them came within 5 s" in said[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (["train", "none.csv"], "none.csv: no such file or folder"),
        ([*TRAIN, "--seed", "7"], "the data of rank 1 are not those of rank 0"),
        ([*TRAIN, "--set", "coarse.power=1"], "the options of rank 1 are not those of rank 0"),
    ],
    ids=["no data", "other data", "other options"],
)
def test_a_rank_that_cannot_go_on_says_why_and_ends_the_others(tmp_path, second, words):
    first, other = (["-m", "c2f_dgl", *way, "--out", str(tmp_path / "run")] for way in (TRAIN, second))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment |= {"PYTHONPATH": str(ROOT), ranks.SECONDS: "120"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [
        subprocess.Popen([sys.executable, *command], env=environment | {"RANK": str(rank)}, **pipes)
        for rank, command in enumerate((first, other))
    ]
    answers = ended(processes)
    assert [code for code, _, _ in answers] == [2, 2], answers
    assert all(len(said) == 1 for _, _, said in answers), answers
    assert words in answers[1][2][0]
    assert not (tmp_path / "run").exists()


def test_what_several_processes_do_not_share_is_refused(tmp_path, monkeypatch):
    split = load_dataset("planted")
    monkeypatch.setattr(ranks, "_size", 2)
    with pytest.raises(InputError, match="a GPU is not shared"):
        train_run(split, tmp_path / "run", load_config("quick"), device="cuda")
    monkeypatch.setattr(ranks, "_size", 10_000)
    with pytest.raises(InputError, match="fewer users validate than processes train"):
        train_run(split, tmp_path / "other", load_config("quick"))


def test_a_wrong_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE is 'two'"), ranks.joined():
        pass


def test_users_that_a_rank_has_none_of_are_no_trouble(monkeypatch):
    split = load_dataset("planted")
    from c2f_dgl.evaluation.ranking import most_popular

    users, whole = evaluate_per_user(most_popular(split.train), split.train, split.test)
    monkeypatch.setattr(ranks, "_size", 3000)
    parts = []
    monkeypatch.setattr(ranks, "gathered", lambda part, dim=0: part)
    for rank in range(0, 3000, 61):
        monkeypatch.setattr(ranks, "_rank", rank)
        mine = ranks.share(len(users))
        _, metrics = evaluate_per_user(most_popular(split.train), split.train, split.test)
        parts.append((mine, metrics["ndcg@20"]))
    assert {len(values) for _, values in parts} == {0, 1}
    assert all(np.array_equal(values, whole["ndcg@20"][mine]) for mine, values in parts)
