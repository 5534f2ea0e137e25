"""The commands as people type them: what they print, what they refuse, what they leave behind."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.serving import ServingModel, UserHistories
from tests.command import c2f

SMALL = (
    *("coarse.m=16", "fine.m=6", "fine.t=2", "fine.components=8", "model.d=8", "model.layers=3"),
    *(f"{stage}.training.{option}=1" for stage in ("coarse", "fine") for option in ("fixed_epochs", "evaluate_every")),
    "fine.training.updating_epochs=1",
)
SET = [part for option in SMALL for part in ("--set", option)]


def train(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return c2f("train", "planted", "--out", out, *SET, *arguments)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Work this small gains nothing from threads, and on a busy machine they wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    done = train(out)
    assert done.returncode == 0, done.stderr
    assert "planted: 1,000 users" in done.stderr
    assert "coarse" in done.stdout and "fine" in done.stdout
    return out


def test_the_run_folder_explains_and_repeats_itself(run: Path, tmp_path: Path) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    checkpoints = {f"checkpoints/{name}.safetensors" for name in ("coarse", "fine", "last")}
    assert names == {".lock", "config.yaml", "environment.json", "metrics.jsonl", "summary.json"} | checkpoints
    assert json.loads((run / "environment.json").read_text())["versions"]["torch"]
    again = tmp_path / "again"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["source"] == "planted"
    done = c2f("train", "planted", "--out", again, "--preset", run / "config.yaml")
    assert done.returncode == 0, done.stderr
    stages = [json.loads((folder / "summary.json").read_text())["stages"] for folder in (run, again)]
    assert stages[0]["fine"]["test"] == stages[1]["fine"]["test"]


def test_evaluate_json_is_one_object_with_all_figures(run: Path) -> None:
    done = c2f("evaluate", run, "--split", "valid", "--json")
    figures = json.loads(done.stdout)
    assert set(figures) == {f"{m}@{k}" for m in ("ndcg", "recall") for k in (5, 10, 20, 50)} | {"parameters"}
    summary = json.loads((run / "summary.json").read_text())
    assert figures["ndcg@20"] == pytest.approx(summary["stages"][summary["chosen"]]["valid"]["ndcg@20"], abs=1e-6)
    parts = dict(figures["parameters"])
    assert parts.pop("total") == sum(parts.values())
    other = json.loads(c2f("evaluate", run, "--stage", "coarse", "--json").stdout)
    assert other["ndcg@20"] == pytest.approx(summary["stages"]["coarse"]["test"]["ndcg@20"], abs=1e-6)


def test_evaluate_takes_metrics_and_cutoffs(run: Path) -> None:
    done = c2f("evaluate", run, "--metrics", "mrr,hit", "--cutoffs", "1,7", "--json")
    figures = json.loads(done.stdout)
    assert set(figures) == {"mrr@1", "mrr@7", "hit@1", "hit@7", "parameters"}
    assert figures["mrr@1"] == figures["hit@1"] <= figures["mrr@7"] <= figures["hit@7"]
    assert "hit" in c2f("evaluate", run, "--metrics", "hit").stdout
    more = json.loads(c2f("evaluate", run, "--metrics", "coverage,auc", "--cutoffs", "3", "--json").stdout)
    assert 0 < more["coverage@3"] <= 1 and 0.5 < more["auc"] < 1
    for wrong, expected in (("--metrics=auk", "no metric 'auk'"), ("--cutoffs=5,x", "'5,x' are no lengths")):
        done = c2f("evaluate", run, wrong)
        assert done.returncode == 2 and expected in done.stderr


def test_evaluate_by_groups(run: Path, tmp_path: Path) -> None:
    whole = json.loads(c2f("evaluate", run, "--cutoffs", "20", "--json").stdout)["ndcg@20"]
    slices = json.loads(c2f("evaluate", run, "--by", "activity", "--cutoffs", "20", "--json").stdout)["slices"]
    assert sum(part["users"] for part in slices) == 1000
    assert sum(part["users"] * part["ndcg@20"][0] for part in slices) / 1000 == pytest.approx(whole)
    assert "95 % intervals" in c2f("evaluate", run, "--by", "popularity", "--metrics", "recall").stdout
    (tmp_path / "group.csv").write_text("user,group\n3,of one\n")
    done = c2f("evaluate", run, "--by", f"users={tmp_path / 'group.csv'}", "--json")
    (one,) = json.loads(done.stdout)["slices"]
    assert one["name"] == "of one" and one["users"] == 1 and one["ndcg@20"][1:] == [None, None]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_items_of_all_users_are_written_to_a_file(run: Path, tmp_path: Path, suffix: str) -> None:
    model, users, out = tmp_path / "model.c2f", tmp_path / "users.c2f", tmp_path / f"items.{suffix}"
    assert c2f("export", run, "--out", model, "--users", users).returncode == 0
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    for source in ((run,), (model, "--users", users)):
        done = c2f("recommend", *source, "--all", "-k", "3", "--out", out)
        assert done.returncode == 0, done.stderr
        rows = read(out)
        assert rows.columns.tolist() == ["user", "rank", "item", "score"]
        assert rows.groupby("user").size().eq(3).all() and rows["user"].nunique() == 1000
        found = json.loads(c2f("recommend", *source, "--user", "7", "-k", "3", "--json").stdout)["7"]
        assert rows[rows["user"] == 7]["item"].tolist() == [entry["item"] for entry in found]
    done = c2f("recommend", run, "--user", "3", "--user", "7", "--out", out)
    assert read(out)["user"].unique().tolist() == [3, 7]


def test_candidates_and_exclusions_come_from_files(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, users = tmp_path / "model.c2f", tmp_path / "users.c2f"
    assert c2f("export", run, "--out", model, "--users", users).returncode == 0
    shelf, sold = tmp_path / "shelf.csv", tmp_path / "sold.txt"
    shelf.write_text("item,title\n" + "".join(f"{item},x\n" for item in range(100, 200)))
    for source in ((run,), (model, "--users", users)):
        command = ("recommend", *source, "--user", "3", "-k", "800", "--json")
        ranked = lambda *options, command=command: [
            entry["item"] for entry in json.loads(c2f(*command, *options).stdout)["3"]
        ]
        everything = ranked()
        among = ranked("--candidates", shelf)
        assert among == [item for item in everything if 100 <= item < 200] and len(among) > 50
        sold.write_text("".join(f"{item}\n" for item in [*among[:5], 10**6]))
        assert ranked("--candidates", shelf, "--exclude", sold) == among[5:]
        assert ranked("--exclude", sold) == [item for item in everything if item not in among[:5]]
    assert "1 of 6 items are unknown, and left out" in caplog.text
    sold.write_text("-5\n-6\n")
    done = c2f("recommend", run, "--user", "3", "--candidates", sold)
    assert done.returncode == 2 and "names no item that is known" in done.stderr
    done = c2f("recommend", run, "--user", "3", "--candidates", shelf, "--exclude", shelf)
    assert done.returncode == 2 and "no item is left" in done.stderr


def test_a_file_of_items_is_refused_before_work(run: Path, tmp_path: Path) -> None:
    for options, expected in (
        (("--all",), "where to? (expected --out FILE)"),
        (("--all", "--out", tmp_path / "items.xlsx"), "ends in .csv or .parquet"),
        (("--all", "--user", "3", "--out", tmp_path / "items.csv"), "for whom?"),
    ):
        done = c2f("recommend", run, *options)
        assert done.returncode == 2 and expected in done.stderr
    assert not list(tmp_path.iterdir())


def test_evaluate_can_hide_what_validates(run: Path) -> None:
    as_trained, hidden = (
        json.loads(c2f("evaluate", run, "--json", "--mask", mask).stdout) for mask in ("train", "train+valid")
    )
    assert hidden["ndcg@20"] > as_trained["ndcg@20"]  # fewer wrong candidates
    for wrong in (("--mask", "test"), ("--split", "valid", "--mask", "train+valid")):
        assert c2f("evaluate", run, *wrong).returncode == 2


def test_recommend_gives_unseen_items_under_their_own_ids(run: Path) -> None:
    found = json.loads(c2f("recommend", run, "--user", "3", "--user", "7", "-k", "5", "--json").stdout)
    seen: dict[str, set[str]] = {"3": set(), "7": set()}
    for part in ("train", "test"):  # validation is drawn from test
        for line in (Path(__file__).parents[2] / "data" / "planted" / f"{part}.txt").read_text().splitlines():
            seen.setdefault(line.split()[0], set()).update(line.split()[1:])
    for user in ("3", "7"):
        items = [entry["item"] for entry in found[user]]
        assert len(items) == len(set(items)) == 5
        assert not {str(item) for item in items} & seen[user]
        scores = [entry["score"] for entry in found[user]]
        assert scores == sorted(scores, reverse=True)
    assert "user 3" in c2f("recommend", run, "--user", "3").stdout


def test_a_run_whose_data_was_moved_is_told_where_they_are(tmp_path: Path) -> None:
    rows = [f"u{user},i{(user * k + k) % 40}" for user in range(60) for k in range(1, 9)]
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    log, moved, out = tmp_path / "log.csv", tmp_path / "moved.csv", tmp_path / "run"
    command = ("--out", out, *SET, "--set", "coarse.m=6", "--set", "fine.m=4", "--set", "fine.t=2")
    assert c2f("train", log, *command).returncode == 0
    log.rename(moved)
    lost = c2f("recommend", out, "--user", "u1", "--json")
    assert (
        lost.returncode == 2 and "log.csv: the run's data is not there any more (expected it, or --data" in lost.stderr
    )
    found = c2f("recommend", out, "--user", "u1", "--json", "--data", moved)
    assert len(json.loads(found.stdout)["u1"]) == 10
    assert json.loads(c2f("evaluate", out, "--json", "--data", moved).stdout)["ndcg@20"] > 0
    assert c2f("train", moved, *command, "--resume").returncode == 0
    (tmp_path / "other.csv").write_text("user,item\n" + "\n".join(rows[8:]) + "\n")
    other = c2f("recommend", out, "--user", "u1", "--data", tmp_path / "other.csv")
    assert other.returncode == 2 and "was trained on other data" in other.stderr


def test_a_model_file_goes_through_every_command(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, users = tmp_path / "model.c2f", tmp_path / "users.c2f"
    done = c2f("export", run, "--out", model, "--users", users, "--bytes", "30kB")
    assert done.returncode == 0, done.stderr
    for words in ("codebooks", "users", "valid N@20", "test R@20"):
        assert words in done.stdout
    figures = json.loads(c2f("evaluate", model, "--data", "planted", "--json").stdout)
    assert set(figures) == {f"{m}@{k}" for m in ("ndcg", "recall") for k in (5, 10, 20, 50)} | {"bytes"}
    assert figures["bytes"] == model.stat().st_size <= 30_000
    details = ServingModel.load(model).details
    assert details["test"]["ndcg@20"] == pytest.approx(figures["ndcg@20"])
    assert set(details) == {"data", "config", "created_with", "valid", "test"}
    whole = json.loads(c2f("evaluate", run, "--json").stdout)["ndcg@20"]
    assert figures["ndcg@20"] > 0.8 * whole
    assert f"{figures['bytes']:,} bytes" in c2f("evaluate", model, "--data", "planted").stdout

    found = json.loads(c2f("recommend", model, "--history", "7", "8", "9", "-k", "5", "--json").stdout)
    served = ServingModel.load(model)
    assert [entry["item"] for entry in found["history"]] == served.recommend([7, 8, 9], 5)[0].tolist()
    of_users = json.loads(
        c2f("recommend", model, "--users", users, "--user", "3", "--user", "7", "-k", "5", "--json").stdout
    )
    had = UserHistories.load(users, served.items).of([3, 7])
    np.testing.assert_array_equal(
        [[entry["item"] for entry in of_users[user]] for user in ("3", "7")], served.recommend_rows(had, 5)[0]
    )
    data = load_dataset("planted")
    assert set(had.take(np.array([0])).columns) == set(
        served.items.find(data.item_ids[(data.train + data.valid + data.test)[3].indices])
    )
    assert "user 3" in c2f("recommend", model, "--users", users, "--user", "3").stdout
    done = c2f("recommend", model, "--history", "7", "nobody")
    assert done.returncode == 0 and "1 of 2 items of histories are unknown, and left out: 'nobody'" in caplog.text

    least = json.loads(c2f("export", run, "--out", tmp_path / "least.c2f", "--json").stdout)
    assert least["exact"] and least["after"]["valid"]["ndcg@20"] >= 0.98 * least["before"]["valid"]["ndcg@20"]
    onnx = json.loads(c2f("export", run, "--out", tmp_path / "x.onnx", "--format", "onnx", "--json").stdout)
    assert onnx["bytes"]["file"] == (tmp_path / "x.onnx").stat().st_size
    page, titles = tmp_path / "page", tmp_path / "items.tsv"
    titles.write_text("item\ttitle\n7\tSeven & <co>\n9\tNine\nnobody\tx\n")
    sizes = json.loads(c2f("export", model, "--format", "web", "--out", page, "--titles", titles, "--json").stdout)
    assert sizes["bytes"] == {file.name: file.stat().st_size for file in page.iterdir()}
    titled = ServingModel.load(page / "model.c2f")
    assert titled.titles is not None and sorted(titled.titles)[-2:] == ["Nine", "Seven & <co>"]
    assert titled.titles[titled.items.rows([7])[0]] == "Seven & <co>"
    of_run = json.loads(
        c2f("export", run, "--format", "web", "--bytes", "30kB", "--out", tmp_path / "other", "--json").stdout
    )
    assert (tmp_path / "other" / "model.c2f").read_bytes() == model.read_bytes()
    assert of_run["bytes"]["index.html"] == (tmp_path / "other" / "index.html").stat().st_size
    (tmp_path / "none.tsv").write_text("item\ttitle\nx\ty\n")
    for arguments, words in (
        (("export", run, "--out", model), "is there already"),
        (("export", model, "--format", "web", "--out", page), "is there already"),
        (("export", model, "--out", tmp_path / "y"), "is a model file already"),
        (("export", model, "--format", "web", "--out", tmp_path / "y", "--bytes", "9kB"), "is a model file already"),
        (
            ("export", model, "--format", "web", "--out", tmp_path / "y", "--titles", tmp_path / "none.tsv"),
            "none.tsv: has no title of any item",
        ),
        (("export", run, "--out", tmp_path / "y", "--titles", tmp_path / "lost.tsv"), "lost.tsv: no such file"),
        (("export", model, "--out", tmp_path / "y", "--cold", tmp_path / "lost.csv"), "lost.csv: no such file"),
        (
            ("export", run, "--out", tmp_path / "y", "--titles", titles, "--format", "onnx"),
            "--titles: onnx holds no titles",
        ),
        (("export", users, "--format", "web", "--out", tmp_path / "y"), "is no c2f_dgl model file"),
        (("export", run, "--out", tmp_path / "y", "--bytes", "5kB"), "bytes are left for codes of 800 items"),
        (("evaluate", model), "--data DATASET to evaluate on"),
        (("evaluate", run, "--set", "seed=1"), "--set: a run has its own options"),
        (("recommend", model, "--user", "3"), "--history ITEM..., or --users FILE with --user ID or --all"),
        (("recommend", model), "--history ITEM..."),
        (("recommend", run), "--user ID"),
        (("recommend", model, "--users", model, "--user", "3"), "is no c2f_dgl users file"),
        (("recommend", model, "--users", users, "--user", "nobody"), "no user 'nobody'"),
    ):
        done = c2f(*arguments)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "y").exists()


def test_ids_and_paths_are_printed_as_they_are(tmp_path: Path) -> None:
    """Brackets and colons would be markup elsewhere; a long id is folded, not cut."""
    items = ["a:heart:b", "x[/y]", "[bold]c[/bold]", " lead", *(f"i{n}" for n in range(10))]
    items += [f"https://shop.example/{'x' * 120}/{n}" for n in (1, 2)]
    log, out = tmp_path / "log.csv", tmp_path / "[red]run"
    rows = [f"[bold]u[/bold]{u},{items[(u * k + k) % 16]}" for u in range(30) for k in range(1, 9)]
    log.write_text("user,item\n" + "\n".join(rows) + "\n", "utf-8")
    done = c2f("train", log, "--out", out, "--preset", "lightgcn", "--set", "table.fixed_epochs=1")
    assert done.returncode == 0 and "[red]run" in done.stdout, done.stderr
    done = c2f("recommend", out, "--user", "[bold]u[/bold]3", "-k", 16, "--include-seen")
    assert "user [bold]u[/bold]3" in done.stdout
    assert all(item in done.stdout for item in items[:3]), done.stdout
    assert "…" not in done.stdout and done.stdout.count("x") >= 2 * 120


def test_options_shows_what_a_preset_has() -> None:
    for preset, start in (("fast", "spectral"), ("paper", "xavier")):
        lines = c2f("options", "--preset", preset).stdout.splitlines()
        (line,) = (line for line in lines if line.startswith("│ coarse.start "))
        assert start in line.split("│")[2]
    lines = c2f("options", "--preset", "lightgcn").stdout.splitlines()
    assert [line.split("│")[2].strip() for line in lines if line.startswith(("│ coarse.m ", "│ fine.m "))] == ["–", "–"]


def test_info(run: Path) -> None:
    assert re.search(
        r"chosen on validation: \w+\nwith d \d+, user_exponent 0\S*, item_exponent \S+, item_scale \S+",
        c2f("info", run).stdout,
    )
    assert json.loads(c2f("info", run, "--json").stdout)["epochs"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "coarse.t=17"], ["t = 17", "m = 16"]),
        (["--set", "fine.components=9"], ["components = 9", "d = 8"]),
        (["--set", "fine.gate=1.5"], ["gate", "less than or equal to 1"]),
        (["--set", "coarse.clusters=3"], ["coarse.clusters", "unknown option"]),
        (["--set", "coarse.m=many"], ["coarse.m", "integer"]),
        (["--set", "coarse.m"], ["--set", "key=value"]),
        (["--set", "coarse.training.lr=0"], ["lr", "greater than 0"]),
        (["--set", "coarse.training.lr=.inf"], ["lr", "finite"]),
        (["--preset", "swift"], ["swift", "paper"]),
        (["--stage", "medium"], ["--stage", "coarse"]),
        (["--device", "tpu"], ["--device", "cuda"]),
        (["--set", "model.layer_weights=[1,2]"], ["layer_weights", "layers + 1"]),
        (["--set", "model.activation=tanh", "--set", "model.engine=collapsed"], ["collapsed", "activation"]),
        (["--set", "coarse=null"], ["finer", "coarse"]),
    ],
)
def test_impossible_options_are_refused_before_anything_runs(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = train(tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "run").exists()


def test_unknown_names_are_refused(run: Path, tmp_path: Path) -> None:
    for arguments, word in [
        (["train", "gowala", "--out", tmp_path / "x"], "gowalla"),
        (["evaluate", tmp_path], "config.yaml"),
        (["evaluate", run, "--split", "train"], "'valid', 'test'"),
        (["evaluate", run, "--stage", "finest"], "fine"),
        (["recommend", run, "--user", "nobody"], "nobody"),
    ]:
        done = c2f(*arguments)
        assert done.returncode == 2 and word in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "x").exists()


def test_a_run_is_not_overwritten_nor_resumed_with_other_options(run: Path, tmp_path: Path) -> None:
    assert "--resume" in train(run).stderr
    assert "other options" in train(run, "--resume", "--set", "coarse.m=17").stderr
    (tmp_path / "file").write_text("mine")
    done = train(tmp_path)
    assert done.returncode == 2 and "not empty" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_a_loss_that_explodes_is_one_line(tmp_path: Path) -> None:
    epochs = ("--set", "coarse.training.fixed_epochs=3", "--set", "coarse.training.patience=3")
    done = train(tmp_path / "run", "--stage", "coarse", "--set", "coarse.training.lr=1e30", *epochs)
    assert done.returncode == 2 and "learning rate" in done.stderr.splitlines()[-1], done.stderr


def test_a_split_without_validation_is_refused_before_training(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item\n" + "".join(f"u{i},i{j}\n" for i in range(4) for j in range(3) if i != j))
    done = c2f("train", log, "--out", tmp_path / "run", "--set", "data.valid=0", "--set", "data.test=0.5")
    assert done.returncode == 2 and "no valid interactions" in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_stages_can_be_trained_one_at_a_time(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train(out, "--stage", "fine")
    assert done.returncode == 2 and "stage fine needs coarse trained first" in done.stderr
    out = tmp_path / "other"
    assert train(out, "--stage", "coarse").returncode == 0
    assert list(json.loads((out / "summary.json").read_text())["stages"]) == ["coarse"]
    assert train(out, "--stage", "fine").returncode == 0
    together = json.loads((run / "summary.json").read_text())["stages"]
    assert json.loads((out / "summary.json").read_text())["stages"]["fine"]["test"] == together["fine"]["test"]


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run"
    (damaged / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "summary.json"):
        (damaged / name).write_bytes((run / name).read_bytes())
    whole = (run / "checkpoints" / "fine.safetensors").read_bytes()
    for name in ("fine", "coarse"):
        (damaged / "checkpoints" / f"{name}.safetensors").write_bytes(whole[: len(whole) // 2])
    done = c2f("evaluate", damaged)
    assert done.returncode == 2 and "not a readable checkpoint" in done.stderr


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    out = tmp_path / "run"
    limit = 3000  # above config.yaml, below a checkpoint
    command = [sys.executable, "-m", "c2f_dgl", "train", "planted", "--out", str(out), *SET]
    limited = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == [], "a run that never came to an epoch is taken away"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = train(tmp_path / "run")
    assert done.returncode == 2 and "cannot write" in done.stderr


def test_a_path_that_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    for arguments in (("train", "planted", "--out", tmp_path / ("a" * 300)), ("info", tmp_path / ("a" * 300))):
        done = c2f(*arguments)
        assert done.returncode == 2 and "File name too long" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_file_in_the_way_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = train(tmp_path / "file" / "run")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize("preset", ["paper", "published"])
def test_the_papers_presets_train_on_the_sample(tmp_path: Path, preset: str) -> None:
    out = tmp_path / "run"
    # SparsePCA's scores of a codebook trained for one epoch lie below the paper's threshold of 3.
    done = train(out, "--preset", preset, "--set", "fine.threshold=0.01", "--set", "coarse.training.batch_size=40000")
    assert done.returncode == 0, done.stderr
    stages = json.loads((out / "summary.json").read_text())["stages"]
    assert set(stages) == {"coarse", "fine"}
    assert ("biases" in stages["fine"]["parameters"]) == (preset == "published")


def test_a_full_table_trains_as_lightgcn(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ("--set", "model.d=8", "--set", "table.fixed_epochs=1")
    done = c2f("train", "planted", "--out", out, "--preset", "lightgcn", *settings)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "summary.json").read_text())["stages"]["table"]["parameters"]["total"] == 1800 * 8


def test_every_option_of_the_schema_is_in_the_help_with_its_symbol() -> None:
    text = " ".join(c2f("train", "--help").stdout.split())
    for symbol in ("m^c", "t^c", "m^r", "t^r", "d^r", "w_cr", "w*", "lambda", "alpha", "f:", "L:", "training.lr"):
        assert symbol in text, symbol
