"""The run folder's small files: what is swept, and what is said of damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from scipy.sparse import csr_matrix

from c2f_dgl.api import load_run, train
from c2f_dgl.config.load import load_config
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.io.progress import Reporter
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.training.checkpoint import load_meta
from c2f_dgl.training.folder import TRAINED_AGAIN, RunFolder
from c2f_dgl.training.run import Run
from tests.command import c2f

# Of 0.5.0.
OLDER = f"what training wrote; {TRAINED_AGAIN}"
OLD_CHECKPOINT = save({"x": torch.zeros(1)}, {"c2f_dgl": '{"format": 1}'})


def test_what_a_killed_process_left_aside_is_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / ".model.c2f.x1.part" / "new").mkdir(parents=True)
    (tmp_path / ".summary.json.x2.part").write_text("{")
    (tmp_path / "summary.json").write_text("{}")
    folder.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    folder.reopen()
    assert folder.summary() is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("summary.json", b"", "is not valid JSON"),
        ("summary.json", b"{[", "is not valid JSON"),
        ("summary.json", b"3", "holds no JSON object"),
        ("summary.json", b"{}", "names no stages"),
        ("environment.json", b"[]", "holds no JSON object"),
        ("metrics.jsonl", b"\xff\xfe", "is not UTF-8 text"),
        ("metrics.jsonl", b'{"epoch": 0}\n3\n', "line 2: holds no record"),
        ("metrics.jsonl", b'{"epoch": 0}\n{"epo\n{"epoch": 2}\n', "line 2: is not valid JSON"),
        ("config.yaml", b"\xff\xfe", "is not UTF-8 text"),
        ("config.yaml", b"coarse:\n  cutoffs: [0.2]\n", f"unknown option 'coarse.cutoffs' (expected {OLDER})"),
        ("checkpoints/last.safetensors", b"", "not a readable checkpoint"),
        ("checkpoints/last.safetensors", OLD_CHECKPOINT, f"checkpoint format 1 (expected format 2; {TRAINED_AGAIN})"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / name).write_bytes(content)
    folder = RunFolder(tmp_path)
    read = {
        "checkpoints/last.safetensors": lambda: load_meta(folder.last),
        "summary.json": folder.summary,
        "environment.json": folder.environment,
        "metrics.jsonl": folder.records,
        "config.yaml": folder.config,
    }
    with pytest.raises(InputError) as caught:
        read[name]()
    assert str(caught.value).startswith(str(tmp_path / name)) and said in str(caught.value)


def test_an_old_run_and_an_old_artifact_are_told_what_to_do_before_the_data_are_read(tmp_path: Path) -> None:
    run, artifact = tmp_path / "run", tmp_path / "artifact"
    for path, content in ((run / "config.yaml", "coarse:\n  cutoffs: [0.2]\n"), (artifact / "manifest.json", "{}")):
        path.parent.mkdir()
        path.write_text(content)
    resumed = ("train", "planted", "--out", run, "--resume")
    for command in (resumed, ("evaluate", run), ("evaluate", artifact), ("recommend", artifact, "--history", "1")):
        done = c2f(*command)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert ("c2f-dgl train DATASET --out NEW" if run in command else "c2f-dgl export RUN") in done.stderr


def test_a_last_record_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n{"epo')
    assert RunFolder(tmp_path).records() == [{"epoch": 0}]


def test_two_cannot_train_in_one_folder(tmp_path: Path) -> None:
    one, other = RunFolder(tmp_path), RunFolder(tmp_path)
    with one.locked():
        with pytest.raises(InputError, match="another process trains here"), other.locked():
            pass
        (tmp_path / ".last.safetensors.x.part").write_text("being written")
        config = load_config("paper", SMALL)
        with pytest.raises(InputError, match="another process trains here"):
            Run(config, tiny(), torch.device("cpu"), folder=other).train(["coarse"])
        with pytest.raises(InputError, match="another process trains here"):
            other.discard()
        assert (tmp_path / ".last.safetensors.x.part").exists()
    with other.locked():
        pass


def tiny() -> Split:
    """Ten users who have all but three of eight items each, and two more to be found."""
    held = np.stack([np.roll(np.arange(8) < 3, user) for user in range(10)])
    first, second = held & (held.cumsum(axis=1) == 1), held & (held.cumsum(axis=1) == 2)
    return Split("tiny", *(csr_matrix(part, dtype=np.float32) for part in (~held, first, second)), *IDS)


IDS = np.arange(10), np.arange(8)
SMALL = ["coarse.m=2", "coarse.t=1", "model.d=4", "fine.m=2", "fine.t=1", "fine.components=2"]


def test_a_run_that_never_starts_leaves_nothing(tmp_path: Path) -> None:
    """So that the command put right is not refused."""
    config = load_config("paper", [*SMALL, "coarse.training.fixed_epochs=1", "coarse.training.updating_epochs=0"])
    with pytest.raises(InputError, match="5 items left to draw as negatives"):
        train(tiny(), tmp_path / "run", config, stage="coarse", reporter=Reporter(quiet=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_was_killed_as_it_began_is_begun_again(resume: bool, tmp_path: Path) -> None:
    run, config = tmp_path / "run", load_config("lightgcn", ["model.d=4", "table.fixed_epochs=1", "table.negatives=1"])
    run.mkdir()
    (run / ".config.yaml.0f0f.part").write_text("mod")
    train(tiny(), run, config, resume=resume, reporter=Reporter(quiet=True))
    folder = RunFolder(run)
    assert [record["epoch"] for record in folder.records()] == [0, 1] and folder.summary() is not None
    assert not list(run.rglob("*.part")) and folder.environment()["versions"]
    # Killed a moment later, the configuration is there and nothing else.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    train(tiny(), tmp_path / "other", config, resume=True, reporter=Reporter(quiet=True))
    assert RunFolder(tmp_path / "other").environment() == folder.environment()


def test_a_model_below_the_most_popular_items_is_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    split, few = load_dataset("planted"), ["model.d=16", "table.fixed_epochs=3"]
    for lr, said in (("1e-9", True), ("0.02", False)):
        caplog.clear()
        train(split, tmp_path / lr, load_config("lightgcn", [*few, f"table.lr={lr}"]), reporter=Reporter(quiet=True))
        assert ("below the most popular items" in caplog.text) == said


def test_a_finer_stage_waits_until_the_one_above_is_over(tmp_path: Path) -> None:
    epochs = ["coarse.training.fixed_epochs=3", "coarse.training.updating_epochs=0", "fine.training.fixed_epochs=1"]
    negatives = ["coarse.training.negatives=1", "fine.training.negatives=1", "fine.training.updating_epochs=0"]
    config, run = load_config("paper", [*SMALL, *epochs, *negatives]), tmp_path / "run"

    class Stopping(Reporter):
        def end_epoch(self, record: dict) -> None:
            if record["epoch"] == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), run, config, reporter=Stopping(quiet=True))
    quiet = Reporter(quiet=True)
    with pytest.raises(InputError, match="stage fine needs coarse, which is not over"):
        train(tiny(), run, config, stage="fine", reporter=quiet)
    train(tiny(), run, config, stage="coarse", resume=True, reporter=quiet)
    summary = train(tiny(), run, config, stage="fine", reporter=quiet)
    assert [record["epoch"] for record in RunFolder(run).records()] == [0, 1, 2, 3, 0, 1]
    assert list(summary["stages"]) == ["coarse", "fine"]


def test_a_state_that_is_loaded_is_what_the_model_ranks_by(tmp_path: Path) -> None:
    """With its assignments, from which graph and basis follow."""
    split = load_dataset("planted")
    train(split, tmp_path / "run", load_config("fast", ["finer={}", "coarse.m=40", "coarse.training.fixed_epochs=0"]))
    one, other = (load_run(tmp_path / "run", split=split)[0] for _ in range(2))
    tier = one.embedding.tiers[0]
    tier.assign(Assignment(tier.indices.flip(0), tier.weights.flip(0), tier.size))
    one.relink()
    users = torch.arange(5)
    assert not torch.allclose(one.scorer().scores(users), other.scorer().scores(users))
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one.scorer().scores(users), other.scorer().scores(users))


def test_a_configuration_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="str is no RunConfig"):
        train(load_dataset("planted"), tmp_path / "run", "fast")  # type: ignore[arg-type]
