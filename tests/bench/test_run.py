"""Jobs: what is planned, gone on with, tuned, contained and compared; workers are made up."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from c2f_dgl.baselines import registry
from c2f_dgl.baselines.registry import SYSTEMS, select_systems
from c2f_dgl.bench import run, table, worker
from c2f_dgl.bench.run import Bench, Job, best_settings, draw_settings, run_bench
from c2f_dgl.cli.bench import check_systems
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.significance import over_users
from c2f_dgl.io.files import locked

# Ends itself for EASE, hangs for GF-CF, fails for NGCF on its second seed; figures follow from the settings.
WORKER = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
out, job = Path(sys.argv[1]), json.loads(sys.argv[2])
with (out / "log").open("a") as log:
    log.write(f"{job['system']} {job['seed']} {job['trial']}\\n")
if job["system"] == "anchor-ease":
    os.kill(os.getpid(), signal.SIGKILL)
if job["system"] == "anchor-gfcf":
    time.sleep(60)
folder, number = ("runs", job["seed"]) if job["trial"] is None else ("tuning", job["trial"])
path = out / folder / f"{job['system']}-{number}.json"
path.parent.mkdir(exist_ok=True)
if job["system"] == "dgl-ngcf" and job["seed"] == 6:
    path.write_text(json.dumps({"status": "failed", "job": job, "error": "ValueError: made up"}))
    sys.exit(1)
k, shrink = (job["settings"].get(name, usual) for name, usual in (("k", 200), ("shrink", 20)))
figure = 0.2 if job["system"] == "c2f-fast" else k / 2000 + (shrink - 20) / 10000
users = np.random.default_rng(job["seed"]).normal(figure, 0.05, 50).astype(np.float32)
users[:5] = np.nan
metrics = {f"{m}@{k}": figure + 0.01 * (job["seed"] - 5) for m in ("ndcg", "recall") for k in (5, 10, 20, 50)}
record = {"status": "done", "job": job, "values": {"total": 7}, "bytes": 28, "seconds": 1.5, "peak_bytes": 2**20,
          "phases": [{"stopped_by_time": job["system"] == "anchor-knn"}],
          "valid": metrics, "test": metrics}
save_file({"ndcg@20": users}, path.with_suffix(".safetensors"))
path.write_text(json.dumps(record))
"""


@pytest.fixture(autouse=True)
def made_up_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_WORKER", (sys.executable, "-c", WORKER))
    monkeypatch.setattr(run, "_GRACE_SECONDS", 2.0)


def a_bench(**changes: Any) -> Bench:
    return replace(Bench("planted", "planted", "abc", 1800, 4800, 0.001, 0, 5, "cpu"), **changes)


def go(bench: Bench, out: Path, names: str, seeds: int = 1) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    run_bench(bench, select_systems(names), seeds, out, lambda job, record: records.append(record))
    return records


def log(out: Path) -> list[str]:
    return (out / "log").read_text().splitlines()


def test_a_crash_and_a_hang_are_rows_and_the_rest_goes_on(tmp_path: Path) -> None:
    records = go(a_bench(), tmp_path, "anchor-ease,anchor-gfcf,anchor-knn")
    assert [record["status"] for record in records] == ["failed", "failed", "done"]
    assert "SIGKILL" in records[0]["error"]
    assert "stopped after" in records[1]["error"]
    rows = {row.name: row for row in table.collect(a_bench(), tmp_path, "c2f-fast")}
    assert rows["anchor-ease"].seeds == [] and rows["anchor-ease"].values is None
    text = table.as_markdown(table.Results(a_bench(), "command", "c2f-fast", list(rows.values())))
    assert "| EASE^R † | failed: seed 5: the process was ended by SIGKILL" in text
    head, *lines = [line for line in text.partition("##")[0].splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {head.count("|")}


def test_what_is_done_is_not_run_again_what_failed_is(tmp_path: Path) -> None:
    go(a_bench(), tmp_path, "anchor-knn,anchor-ease")
    go(a_bench(), tmp_path, "anchor-knn,anchor-ease", seeds=2)
    assert log(tmp_path) == [
        "anchor-knn 5 None",
        "anchor-ease 5 None",
        "anchor-ease 5 None",
        "anchor-knn 6 None",
        "anchor-ease 6 None",
    ]


def test_a_bench_of_before_there_were_data_options_is_gone_on_with(tmp_path: Path) -> None:
    go(a_bench(), tmp_path, "anchor-knn")
    for path in (tmp_path / "bench.json", tmp_path / "runs" / "anchor-knn-5.json"):
        tree = json.loads(path.read_text())
        del tree.get("job", tree)["reading"]
        path.write_text(json.dumps(tree))
    go(a_bench(), tmp_path, "anchor-knn")
    assert len(log(tmp_path)) == 1
    go(a_bench(reading={"user": "who"}), tmp_path / "other", "anchor-knn")
    job = json.loads((tmp_path / "other" / "runs" / "anchor-knn-5.json").read_text())["job"]
    assert job["reading"] == {"user": "who"}


@pytest.mark.parametrize("change", [{"values": 1}, {"minutes": 9.0}, {"fingerprint": "x"}, {"tune": 3}])
def test_a_folder_holds_one_bench(tmp_path: Path, change: dict[str, Any]) -> None:
    a_bench().begin(tmp_path)
    with pytest.raises(InputError, match=f"with {next(iter(change))}"):
        a_bench(**change).begin(tmp_path)


def test_settings_for_all_reach_those_that_have_them_and_tuning_goes_over_them(tmp_path: Path) -> None:
    bench = a_bench(tune=2, settings={"k": 7, "epochs": 3})
    go(bench, tmp_path, "anchor-knn,full-64,anchor-popular")
    jobs = {path.name: json.loads(path.read_text())["job"] for path in tmp_path.rglob("*-*.json")}
    assert jobs["anchor-knn-0.json"]["settings"]["k"] == 7
    assert jobs["anchor-knn-1.json"]["settings"]["k"] != 7
    assert jobs["full-64-5.json"]["settings"]["epochs"] == jobs["full-64-1.json"]["settings"]["epochs"] == 3
    assert jobs["anchor-popular-5.json"]["settings"] == {}


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        a_bench().begin(tmp_path)


def test_a_bench_that_was_killed_as_it_began_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".bench.json.0f0f.part").write_text("{")
    a_bench().begin(tmp_path)
    assert json.loads((tmp_path / "bench.json").read_text())["name"] == a_bench().name


def test_tuning_tries_the_defaults_first_and_runs_the_best(tmp_path: Path) -> None:
    bench = a_bench(tune=3)
    go(bench, tmp_path, "anchor-knn,anchor-popular,dgl-lightgcn")
    tried = [json.loads(path.read_text())["job"] for path in sorted((tmp_path / "tuning").glob("anchor-knn*.json"))]
    assert [job["trial"] for job in tried] == [0, 1, 2]
    points = [(job["settings"]["k"], job["settings"]["shrink"]) for job in tried]
    assert points[0] == (200, 20) and len(set(points)) == 3
    best = max(points, key=lambda point: point[0] / 2000 + point[1] / 10000)
    assert best != points[0], "the defaults would win whatever was tried"
    chosen = best_settings(bench, "anchor-knn", tmp_path)
    assert (chosen.get("k", 200), chosen.get("shrink", 20)) == best
    (row,) = (row for row in table.collect(bench, tmp_path, "c2f-fast") if row.name == "anchor-knn")
    assert (row.settings["k"], row.settings["shrink"]) == best and len(row.trials) == 3
    # As many for each; what has nothing to tune is not tried.
    lines = log(tmp_path)
    assert sum(line.startswith("dgl-lightgcn") and "None" not in line for line in lines) == 3
    assert [line for line in lines if line.startswith("anchor-popular")] == ["anchor-popular 5 None"]


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=lambda system: system.name)
def test_every_point_of_every_space_is_a_setting(system) -> None:
    points = list(draw_settings(system, 5))
    assert points[0] == {}
    assert len(points) == len({json.dumps(point, sort_keys=True) for point in points})
    for point in points[:40]:
        type(system.defaults).model_validate({**system.defaults.model_dump(), **point})
    assert points == list(draw_settings(system, 5))


def test_rows_have_means_spreads_and_paired_differences(tmp_path: Path) -> None:
    bench = a_bench()
    go(bench, tmp_path, "c2f-fast,anchor-knn,dgl-ngcf", seeds=2)
    rows = {row.name: row for row in table.collect(bench, tmp_path, "c2f-fast")}
    knn = rows["anchor-knn"]
    assert knn.test["ndcg@20"] == pytest.approx(0.105)
    assert knn.spread["recall@5"] == pytest.approx(0.01 / 2**0.5)
    users = {
        name: [load_file(tmp_path / "runs" / f"{name}-{seed}.safetensors")["ndcg@20"] for seed in (5, 6)]
        for name in ("anchor-knn", "c2f-fast")
    }
    expected = over_users(users["anchor-knn"], users["c2f-fast"])
    assert knn.against is not None
    assert knn.against.percent == pytest.approx(100 * expected.mean / 0.205)
    assert rows["c2f-fast"].against is None
    # NGCF failed on the second seed: compared on the first, and the row says so.
    assert rows["dgl-ngcf"].seeds == [5] and rows["dgl-ngcf"].errors == ["seed 6: ValueError: made up"]
    assert rows["dgl-ngcf"].against is not None
    results = table.Results(bench, "c2f-dgl bench", "c2f-fast", list(rows.values()))
    (tmp_path / "results.json").write_text(table.as_json(results))
    assert table.read_results(tmp_path / "results.json") == results
    assert "0.1050 ± 0.0071" in table.table(results)
    assert f"{rows['dgl-ngcf'].title} † (1) |" in table.table(results) and table.table(results).count(" (1) ") == 1
    assert "(n): over n of them" in table.table(results)
    assert "over n of them" not in table.table(replace(results, rows=[knn]))
    assert [row.cut_short for row in results.rows] == [False, True, False]
    assert table.table(results).count("1.5 ‡") == 1
    assert "paper" not in table.table(results)
    assert "paper N@20" in table.table(replace(results, rows=[replace(knn, paper={"ndcg@20": 0.0412})]))
    lines = list(csv.DictReader(io.StringIO(table.as_csv(results.rows))))
    assert float(lines[1]["ndcg@20"]) == pytest.approx(0.105)
    assert [line["system"] for line in lines] == [row.name for row in results.rows]


def test_a_table_tells_an_empty_text_from_none() -> None:
    assert table.markdown_table([None, "n"], [["a", 1], ["", None]], align="---:") == (
        "| | n |\n|---|---:|\n| a | 1 |\n|  | |"
    )


def test_the_papers_figures_stand_beside_ours_by_name_or_family() -> None:
    assert table.table_3("gowalla", SYSTEMS["full-64"]) == {
        "values": 4530000,
        "ndcg@10": 0.0884,
        "recall@10": 0.1088,
        "ndcg@20": 0.1041,
        "recall@20": 0.1557,
    }
    qr = [table.table_3("gowalla", SYSTEMS[name]) for name in ("qr-sum", "qr-concat")]
    assert qr[0] is not None and qr[0] == qr[1]
    assert table.table_3("lastfm", SYSTEMS["full-64"]) is None


def test_the_papers_figures_are_of_the_papers_protocol(tmp_path: Path) -> None:
    bench = a_bench(name="gowalla")
    go(bench, tmp_path, "c2f-fast")
    assert table.collect(bench, tmp_path, "c2f-fast")[0].paper is not None
    other = replace(bench, reading={"protocol": "full-test"})
    assert table.collect(other, tmp_path, "c2f-fast")[0].paper is None


def test_systems_are_named_by_name_family_or_module() -> None:
    assert select_systems("qr, full-64,qr-sum") == ["qr-sum", "qr-product", "qr-concat", "full-64"]
    assert select_systems("all") == list(SYSTEMS)
    for name, message in {
        "qr-sun": "e.g. qr-sum",
        "nowhere:SYSTEM": "No module named 'nowhere'",
        "c2f_dgl.baselines.qr:train": "expected a System",
    }.items():
        with pytest.raises(InputError, match=message):
            select_systems(name)


def test_the_names_that_are_checked_first_are_those_there_are() -> None:
    known = {name for system in SYSTEMS.values() for name in type(system.defaults).model_fields}
    families = {system.family for system in SYSTEMS.values()}
    check_systems(",".join(["all", *SYSTEMS, *families]), [f"{name}=1" for name in known])
    check_systems("all,hashed:SYSTEM", ["buckets=7"])
    with pytest.raises(InputError) as refused:
        check_systems("all", ["buckets=7"])
    assert f"one of {', '.join(['data.NAME', *sorted(known)])})" in str(refused.value)
    with pytest.raises(InputError, match="no system 'hashed'"):
        check_systems("all,hashed", [])


def test_two_systems_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KNN", SYSTEMS["anchor-knn"], raising=False)
    with pytest.raises(InputError, match="both called anchor-knn"):
        select_systems("anchor-knn,c2f_dgl.baselines.registry:KNN")


def test_a_job_of_other_settings_is_another_job(tmp_path: Path) -> None:
    go(a_bench(), tmp_path, "anchor-knn")
    job = Job(**json.loads((tmp_path / "runs" / "anchor-knn-5.json").read_text())["job"])
    run.run_job(replace(job, settings={"k": 7}), tmp_path)
    assert len(log(tmp_path)) == 2
    assert np.isclose(json.loads(job.path(tmp_path).read_text())["valid"]["ndcg@20"], 0.0035)


def test_a_failure_is_kept_as_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("planted", "anchor-knn", 5, 100, 1.0, "cpu", {})

    def fail(*_: object) -> None:
        raise RuntimeError("two lines:\n\tof a message")

    monkeypatch.setattr(worker, "run", fail)
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path), json.dumps(vars(job))])
    assert worker.main() == 1
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*.json"))
    assert record["error"] == "RuntimeError: two lines: of a message"


def test_two_cannot_run_one_bench(tmp_path: Path) -> None:
    bench = a_bench()
    bench.begin(tmp_path / "out")
    with locked(tmp_path / "out", "runs a bench"), pytest.raises(InputError, match="another process runs a bench here"):
        run_bench(bench, [], 1, tmp_path / "out", lambda job, record: None)
