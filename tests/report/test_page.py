"""The page as a file: what it says, what it never does, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from c2f_dgl import load_run, top_items
from c2f_dgl.cli.runs import report as report_command
from c2f_dgl.config.schema import DataConfig
from c2f_dgl.errors import InputError
from c2f_dgl.io.progress import Reporter
from c2f_dgl.report import MAX_BYTES, MAX_RUNS, RunReport, collect_runs, render_page
from c2f_dgl.report.collect import references_for, sample_users
from tests.command import c2f
from tests.report.conftest import train_tiny

CSS = (resources.files("c2f_dgl.report") / "templates" / "page.css").read_text()


def collect(*runs: Path) -> list[RunReport]:
    return collect_runs(runs, Reporter(quiet=True))


def embedded(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(text)


def test_figures_are_those_of_the_run(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)
    summary = json.loads((tiny_run / "summary.json").read_text())
    page = render_page([report])
    for stage in summary["stages"].values():
        assert f"{stage['test']['ndcg@20']:.4f}" in page and f"{stage['valid']['recall@20']:.4f}" in page
        assert f"{stage['parameters']['total']:,}" in page
    assert report.chosen == summary["chosen"]
    sparsity = [record["sparsity"] for record in report.records if record["stage"] == "fine"]
    assert len(sparsity) == 5 and max(sparsity) > 0
    best = next(s for s in report.stages if s.name == "fine")
    fine = report.tiers[1]
    assert fine.sparsity == pytest.approx(sparsity[best.epoch])
    assert best.values["fine codebook"] == round((1 - fine.sparsity) * 6 * 8)
    for title in ("fine: sparsity of the codebook", "coarse: assignment churn", "fine: assignment churn"):
        assert f"<figcaption>{title}</figcaption>" in page


def test_slices_are_those_of_evaluate(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)
    page = render_page([report])
    done = c2f("evaluate", tiny_run, "--by", "popularity", "--metrics", "ndcg", "--cutoffs", "20", "--json")
    for expected, found in zip(json.loads(done.stdout)["slices"], report.slices["popularity"], strict=True):
        assert (expected["name"], expected["ndcg@20"]) == (found.name, list(found.figures["ndcg@20"]))
        mean, low, high = expected["ndcg@20"]
        assert f"{found.name}</th><td>{found.users:,}</td><td>{mean:.4f}</td><td>{low:.4f} to {high:.4f}" in page
    for title in ("Users by activity: NDCG@20", "Items by popularity: NDCG@20"):
        assert f"<figcaption>{title}</figcaption>" in page
    chart = page.partition("Items by popularity: NDCG@20</figcaption>")[2].partition("</figure>")[0]
    n = len(report.slices["popularity"])
    assert chart.count("<polyline") == n + 1 and chart.count('class="point run r0"') == n


def test_bytes_are_those_of_the_tensors(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)
    coarse = report.stages[0]
    # 1,800 entities with two weights (fp32) and two indices (int32) each, and a 16 x 8 codebook.
    assert coarse.bytes == 1800 * 2 * (4 + 4) + 16 * 8 * 4


def test_usage_and_map_count_every_row_once(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)
    coarse = report.tiers[0]
    model, split = load_run(tiny_run)
    dense = model.embedding.tiers[0].assignment.dense().numpy()
    np.testing.assert_array_equal(coarse.counts, (dense > 0).sum(axis=0))
    assert coarse.unassigned == int((dense.sum(axis=1) == 0).sum())
    strongest = np.where(dense.max(axis=1) > 0, dense.argmax(axis=1), -1)
    degree = split.train.getnnz(axis=0)
    assert [node.number for node in report.nodes] == list(range(16))
    for node in report.nodes:
        inside = np.flatnonzero(strongest[split.n_users :] == node.number)
        assert node.n_items == len(inside)
        assert node.n_users == int((strongest[: split.n_users] == node.number).sum())
        assert set(node.items) <= set(split.item_ids[inside].tolist())
        assert len(node.items) == min(30, len(inside))
        shown = [degree[np.flatnonzero(split.item_ids == item)[0]] for item in node.items]
        assert shown == sorted(shown, reverse=True)
        if len(inside):
            assert node.popularity == pytest.approx(degree[inside].mean())


def test_effective_number_of_even_and_of_single_use(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)
    tier = report.tiers[0]
    assert replace(tier, counts=np.full(8, 5)).effective == pytest.approx(8)
    assert replace(tier, counts=np.array([9, 0, 0])).effective == pytest.approx(1)


def test_users_get_what_recommend_gives_and_reasons_add_up(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)
    model, split = load_run(tiny_run)
    rows = sample_users(split.train)
    items, scores = top_items(model.scorer(), rows, 10, split.train)
    assert [user.user for user in report.users] == split.user_ids[rows].tolist()
    for i, user in enumerate(report.users):
        assert [entry.item for entry in user.recommended] == split.item_ids[items[i]].tolist()
        assert user.n_history == split.train[rows[i]].nnz
        held_out = set(split.item_ids[(split.valid + split.test)[rows[i]].indices].tolist())
        for entry, score in zip(user.recommended, scores[i], strict=True):
            parts = sum(value for _, value in entry.because) + entry.others + entry.rest
            assert parts == pytest.approx(score, abs=1e-4)
            assert entry.held_out == (entry.item in held_out)
            assert {item for item, _ in entry.because} <= set(split.item_ids[split.train[rows[i]].indices].tolist())


def test_sampled_users_are_half_drawn_half_most_active() -> None:
    train = sp.csr_matrix(np.tril(np.ones((50, 50)), -1))  # user u has u items, user 0 none
    drawn = sample_users(train, 10)
    assert len(set(drawn.tolist())) == 10 and 0 not in drawn
    assert sorted(drawn[5:].tolist()) == [45, 46, 47, 48, 49]
    np.testing.assert_array_equal(drawn, sample_users(train, 10))
    # Where there are fewer users than asked for, still half of them.
    assert sample_users(train, 200)[-24:].tolist() == list(range(49, 25, -1))
    assert sorted(sample_users(train, 200).tolist()) == list(range(1, 50))


def test_several_runs_stand_side_by_side(tiny_run: Path, other_run: Path, table_run: Path) -> None:
    reports = collect(tiny_run, other_run, table_run)
    page = render_page(reports)
    data = embedded(page)
    assert [run["name"] for run in data["runs"]] == ["one", "two", "table"]
    assert len(data["groups"]) == 1
    users = data["groups"][0]["users"]
    assert len(users) == 200 // 3 // 2 * 2
    assert all(set(run["users"]) == set(users) for run in data["runs"])
    assert "<code>seed</code>" in page and "<code>coarse</code>" in page
    assert page.count('class="map"') == 2  # a full table has no coarse nodes
    assert len(re.findall(r'<polyline class="line r1 ', page)) >= 6


def test_runs_on_other_parts_of_the_same_file_have_their_own_users(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = [f"u{u},i{(u * 7 + k) % 30},{5 if u % 2 else 1}" for u in range(60) for k in range(12)]
    log.write_text("user,item,rating\n" + "\n".join(rows) + "\n")
    all_rows = train_tiny(tmp_path / "all", log)
    rated = train_tiny(tmp_path / "rated", log, **{"data.rating": "rating", "data.min_rating": 3})
    reports = collect(all_rows, rated)
    assert {len(report.users) for report in reports} == {60, 30}
    assert all(int(str(user.user)[1:]) % 2 for user in reports[1].users)
    render_page(reports)


def test_runs_on_other_splits_of_the_same_data_are_apart(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)
    data = report.config.data.model_copy(update={"split": "random"})
    untested = [replace(stage, test={}) for stage in report.stages]
    other = replace(report, name="other", config=report.config.model_copy(update={"data": data}), stages=untested)
    again = replace(report, name="again", config=report.config.model_copy(update={"seed": 7}))
    page = render_page([other, report, again])
    assert [group["runs"] for group in embedded(page)["groups"]] == [[0], [1, 2]]
    assert f"{report.stages[0].test['ndcg@20']:.4f}" in page


def test_a_run_without_tiers_has_no_codebooks(table_run: Path) -> None:
    page = render_page(collect(table_run))
    assert 'id="results"' in page and 'id="map"' not in page and 'id="codebooks"' not in page


def test_a_run_without_a_test_part_shows_validation(tiny_run: Path) -> None:
    (found,) = collect(tiny_run)
    page = render_page([replace(found, stages=[replace(stage, test={}) for stage in found.stages])])
    assert "<dt>Validation NDCG@20</dt>" in page and "<dt>Test NDCG@20</dt>" not in page


def test_runs_of_the_same_name_are_told_apart(tiny_run: Path, tmp_path: Path) -> None:
    twin = tmp_path / "one"
    shutil.copytree(tiny_run, twin)
    assert [report.name for report in collect(tiny_run, twin)] == [str(tiny_run), str(twin)]


def test_runs_with_and_without_a_relation_stand_side_by_side(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "trust.tsv").write_text("source\tdestination\n" + "".join(f"{n}\t{n + 1}\n" for n in range(50)))
    preset = tmp_path / "social.yaml"
    relation = {"source": "user", "destination": "user", "file": str(tmp_path / "trust.tsv"), "importance": 0.5}
    preset.write_text(json.dumps({"preset": "paper", "graph": {"relations": {"trusts": relation}}}))
    social = train_tiny(tmp_path / "social", preset=str(preset))
    for runs in ((tiny_run, social), (social, tiny_run)):
        assert [report.name for report in collect(*runs)] == [run.name for run in runs]


def test_references_show_only_for_their_own_data_and_split(tiny_run: Path) -> None:
    names = {reference.name for reference in references_for(DataConfig(source="gowalla"))}
    assert {"LightGCN, d = 128", "Coarse to fine", "GF-CF", "SVD, rank 128"} <= names
    assert references_for(DataConfig(source="/data/gowalla")) == []
    assert references_for(DataConfig(source="gowalla", split="random")) == []
    assert {r.kind for r in references_for(DataConfig(source="lastfm"))} == {"measured"}
    (report,) = collect(tiny_run)
    assert "no published or reference figures" in render_page([report])
    config = report.config.model_copy(update={"data": DataConfig(source="gowalla")})
    page = render_page([replace(report, config=config)])
    assert "no published or reference figures" not in page
    assert "0.1059" in page and "0.1284" in page and "paper, Table 3" in page


def test_nothing_is_loaded_from_anywhere(tiny_run: Path) -> None:
    page = render_page(collect(tiny_run))
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert not re.findall(r"https?://|url\(|@import", page)
    assert len(page.encode()) < 500_000


def test_ids_are_never_markup(hostile_run: Path) -> None:
    page = render_page(collect(hostile_run))
    assert "onerror" in page  # the ids are there,
    assert "<img" not in page and "<i>run" not in page and "<b>&amp;" not in page  # as text
    assert page.count("</script>") == 2
    data = embedded(page)
    assert "</script><img src=x onerror=alert(1)>" in data["groups"][0]["users"][0]
    assert data["runs"][0]["name"] == "<i>run"


def test_long_ids_shorten_the_page_or_are_refused(tiny_run: Path) -> None:
    (report,) = collect(tiny_run)

    def with_ids(length: int) -> RunReport:
        users = [replace(user, history=["x" * length] * 20) for user in report.users]
        return replace(report, users=users)

    page = render_page([with_ids(1000)])
    assert len(page.encode()) <= MAX_BYTES
    assert 2 <= len(embedded(page)["groups"][0]["users"]) < 200
    with pytest.raises(InputError, match="bytes"):
        render_page([replace(with_ids(60_000), users=with_ids(60_000).users[:4])])


def test_too_many_runs_are_refused(tiny_run: Path) -> None:
    with pytest.raises(InputError, match=f"at most {MAX_RUNS}"):
        render_page(collect(tiny_run) * (MAX_RUNS + 1))


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_of_text_and_of_lines(scheme: int) -> None:
    """WCAG 2 AA: 4.5 for text, 3 for what must be seen of graphics."""
    block = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
    for background in ("page", "card"):
        for text in ("ink", "soft", "accent", "good"):
            assert contrast(colours[text], colours[background]) >= 4.5, (text, background)
    assert contrast(colours["accent-ink"], colours["accent"]) >= 4.5
    for line in [f"s{i}" for i in range(MAX_RUNS)] + ["node-edge", "soft"]:
        assert contrast(colours[line], colours["card"]) >= 3, line


def test_the_command_writes_the_page(tiny_run: Path, other_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"
    done = c2f("report", tiny_run, other_run, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "2 runs" in done.stdout
    assert out.read_text().startswith("<!doctype html>")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_what_cannot_be_reported_is_one_line_and_writes_nothing(tiny_run: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(tiny_run, unfinished)
    (unfinished / "summary.json").unlink()
    out = tmp_path / "report.html"
    for runs, words in (([unfinished], "not over"), ([tmp_path], "config.yaml"), ([tiny_run] * 7, "at most 6")):
        with pytest.raises(InputError, match=words):
            report_command(runs, out)
        assert not out.exists()
    with pytest.raises(InputError, match="is a folder"):
        report_command([tiny_run], tmp_path)
    done = c2f("report", unfinished, "--out", out)
    assert done.returncode == 2 and "not over" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_run_may_be_named_twice(tiny_run: Path) -> None:
    assert render_page(collect(tiny_run, tiny_run)).count('class="map"') == 2
