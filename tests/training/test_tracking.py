"""Trackers get what the run folder holds: asked of each library's own files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from c2f_dgl.errors import InputError
from c2f_dgl.training.folder import RunFolder
from c2f_dgl.training.tracking import tracking
from tests.command import c2f

# Two stages with epochs of each, soon done.
OPTIONS = [
    "coarse.m=8",
    "model.d=8",
    "fine.m=8",
    "fine.components=8",
    *(f"{tier}.training.fixed_epochs=2" for tier in ("coarse", "fine")),
    *(f"{tier}.training.updating_epochs=0" for tier in ("coarse", "fine")),
    *(f"{tier}.training.epoch_size=0.1" for tier in ("coarse", "fine")),
]

Logged = tuple[dict[str, list[tuple[int, float]]], dict[str, Any], str]


def of_tensorboard(run: Path) -> Logged:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    text = lambda tag: events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()
    import yaml

    return scalars, yaml.safe_load(text("options").removeprefix("```yaml\n").removesuffix("```")), text("chosen")


def of_mlflow(run: Path) -> Logged:
    from mlflow import MlflowClient

    client = MlflowClient()
    last, *_ = client.search_runs(["0"], order_by=["attributes.start_time DESC"])
    assert last.info.run_name == run.name and last.info.status == "FINISHED"
    scalars = {
        name: [(point.step, point.value) for point in client.get_metric_history(last.info.run_id, name)]
        for name in last.data.metrics
    }
    return scalars, last.data.params, last.data.tags["chosen"]


def wandb_records(path: Path) -> Iterator[bytes]:
    """Records of an offline run, which is a log of LevelDB: blocks of 32 KiB, records cut where a block ends."""
    blob, at, parts = path.read_bytes(), 7, list[bytes]()
    while at < len(blob):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", blob, at)
        parts.append(blob[at + 7 : at + 7 + size])
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def of_wandb(run: Path) -> Logged:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # ends its process, which writes the file behind what is called
    scalars, options, chosen = dict[str, list[tuple[int, float]]](), dict[str, Any](), ""
    last = max(Path("wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    named = lambda items: {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    for record in map(Record.FromString, wandb_records(last)):
        values = named(record.history.item)
        for key in values.keys() - {"epoch"}:
            scalars.setdefault(key, []).append((values["epoch"], values[key]))
        options |= named(record.run.config.update) | named(record.config.update)
        chosen = named(record.summary.update).get("chosen", chosen)
    return {key: points for key, points in scalars.items() if key[0] != "_"}, options, chosen


@pytest.mark.parametrize(
    ("name", "logged"), [("tensorboard", of_tensorboard), ("mlflow", of_mlflow), ("wandb", of_wandb)]
)
def test_a_tracker_has_what_the_folder_has(
    name: str, logged: Callable[[Path], Logged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    sets = [word for option in OPTIONS for word in ("--set", option)]
    command = ["train", "planted", "--out", "run", "--preset", "paper", *sets, "--track", name]
    done = c2f(*command, "--stage", "coarse")
    assert done.returncode == 0, done.stderr
    assert {tag.split("/")[0] for tag in logged(Path("run"))[0]} == {"coarse"}
    # A run that is gone on with is logged whole.
    assert c2f(*command, "--resume").returncode == 0
    scalars, options, chosen = logged(Path("run"))
    folder = RunFolder("run")
    records, summary = folder.records(), folder.summary()
    assert summary is not None and len(records) == 6
    for stage in ("coarse", "fine"):
        for key in ("loss", "valid", "seconds"):
            of_stage = [record for record in records if record["stage"] == stage and key in record]
            tag = f"{stage}/{key}/ndcg_20" if key == "valid" else f"{stage}/{key}"
            wanted = [(r["epoch"], r[key]["ndcg@20"] if key == "valid" else r[key]) for r in of_stage]
            assert len(wanted) > 1
            assert [step for step, _ in scalars[tag]] == [epoch for epoch, _ in wanted]
            assert [value for _, value in scalars[tag]] == pytest.approx([value for _, value in wanted], rel=1e-6)
        best = summary["stages"][stage]
        tag = f"{stage}/best/test/recall_20"
        assert scalars[tag] == [(best["epoch"], pytest.approx(best["test"]["recall@20"], rel=1e-6))]
    assert chosen == summary["chosen"]
    assert options["run"] == str(tmp_path / "run")
    lr = options["coarse.training.lr"] if name == "mlflow" else options["coarse"]["training"]["lr"]
    assert float(lr) == folder.config().coarse.training.lr


def test_what_a_tracker_refuses_is_one_line_and_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-store://x")
    done = c2f("train", "planted", "--out", "run", "--preset", "quick", "--track", "mlflow")
    assert done.returncode == 2 and "c2f-dgl: --track mlflow: " in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr and not Path("run").exists()
    # One that fails later ends the training, which goes on from there.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def refused(*_: object, **__: object) -> None:
        raise mlflow.MlflowException("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "log_metrics", refused)
        done = c2f("train", "planted", "--out", "run", "--preset", "quick", "--track", "mlflow")
    assert done.returncode == 2 and "--track mlflow: the disk is full (expected" in done.stderr
    last, *_ = mlflow.MlflowClient().search_runs(["0"])
    assert last.info.status == "FAILED" and mlflow.active_run() is None
    assert c2f("train", "planted", "--out", "run", "--preset", "quick", "--resume").returncode == 0


def test_a_folder_of_the_librarys_name_is_not_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    with (
        pytest.raises(InputError, match=r"--track wandb: wandb is not installed .*c2f_dgl\[wandb\]"),
        tracking("wandb", tmp_path / "run"),
    ):
        raise AssertionError("nothing is trained")


def test_without_a_tracker_there_is_no_callback(tmp_path: Path) -> None:
    with tracking(None, tmp_path) as callbacks:
        assert callbacks == []
