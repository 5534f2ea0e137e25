"""Studies as commands: they resume, record failures, and their page says what the records say."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import measure
from benchmarks.studies import figures, report
from benchmarks.studies.catalogue import STUDIES, Study, Variant
from benchmarks.studies.run import PARTS, plan, read_records, sweep
from c2f_dgl.bench.worker import write_tensors

TINY = " ".join(
    [
        "coarse.m=10 fine.m=4 fine.t=2 fine.components=3 model.d=6",
        *(
            f"{stage}.training.{key}"
            for stage in ("coarse", "fine")
            for key in ("fixed_epochs=1", "updating_epochs=1", "evaluate_every=1", "epoch_size=0.2")
        ),
    ]
)
STUDY = Study(
    "made",
    "A made study",
    "Of three variants.",
    (
        Variant("alone", "finer={}"),
        Variant("refined", "fine.threshold=null", "Does it pay?", ("alone",)),
        Variant("broken", "fine.threshold=0 fine.training.lr=1e30", "Does it break?", ("alone",)),
    ),
    TINY,
)


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where records are written, and read from."""
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    return tmp_path


def go() -> tuple[int, str]:
    with redirect_stdout(io.StringIO()) as said:
        failed = sweep([STUDY], ["planted"], [2024])
    return failed, said.getvalue()


@pytest.fixture(scope="module")
def swept_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "RESULTS", tmp_path_factory.mktemp("results"))
        return measure.RESULTS, *go()


@pytest.fixture
def swept(swept_once: tuple[Path, int, str], results: Path) -> tuple[int, str]:
    shutil.copytree(swept_once[0], results, dirs_exist_ok=True)
    return swept_once[1:]


def record(variant: str) -> dict:
    return measure.read("studies/made/planted", f"{variant}-2024")


def test_records_hold_figures_sizes_and_what_made_them(swept: tuple[int, str]) -> None:
    refined = record("refined")
    assert refined["status"] == "done" and refined["stage"] == "fine" and refined["config"]["coarse"]["m"] == 10
    assert refined["bytes"]["values"] == 4 * (10 + 4) * 6
    assert refined["bytes"]["indices"] == refined["bytes"]["weights"] == 4 * (1800 * 2 + 10 * 2)
    assert refined["environment"]["versions"]["torch"]
    assert refined["end"]["epoch"] == 2
    per_user = read_records("made", "planted", "refined")[0]["per_user"]
    for part in ("valid", "test"):
        for metric in ("ndcg@20", "recall@20"):
            figure = refined["stages"]["fine"][part][metric]
            assert np.nanmean(per_user[f"{part}.{metric}"]) == pytest.approx(figure, abs=3e-4)


def test_a_failed_run_is_recorded_and_the_rest_go_on(swept: tuple[int, str]) -> None:
    failed, said = swept
    assert failed == 1
    broken = record("broken")
    assert broken["status"] == "failed" and "the loss is" in broken["reason"]
    assert "failed" in said
    page = report.page([STUDY])
    assert "failed: InputError" in page and "Does it pay?" in page and "Does it break?" not in page


def test_a_second_call_goes_on_where_the_first_stopped(swept: tuple[int, str], results: Path) -> None:
    folder = results / "studies" / "made" / "planted"
    kept, lost = record("alone"), record("refined")
    (folder / "refined-2024.json").unlink()
    before = (folder / "alone-2024.json").stat().st_mtime_ns
    failed, _ = go()
    assert failed == 1  # tried again
    assert (folder / "alone-2024.json").stat().st_mtime_ns == before
    assert record("alone") == kept
    again = record("refined")
    assert again["stages"]["fine"]["test"] == lost["stages"]["fine"]["test"] and again["end"] == lost["end"]


def test_a_changed_configuration_is_run_again(swept: tuple[int, str]) -> None:
    (job, *_) = plan([STUDY], ["planted"], [2024])
    assert job.is_done()
    (other, *_) = plan([replace(STUDY, options=f"{TINY} coarse.m=11")], ["planted"], [2024])
    assert not other.is_done()


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_valid_configurations_and_controls_that_exist(name: str) -> None:
    variants = {variant.name: variant for variant in STUDIES[name].variants}
    assert [job.variant for job in plan([STUDIES[name]], ["planted"], [1])] == list(variants)
    assert len(variants) == len(STUDIES[name].variants)
    for variant in variants.values():
        assert variants.keys() >= set(variant.controls) and bool(variant.asks) == bool(variant.controls)


def write_record(variant: str, seed: int, per_user: np.ndarray) -> None:
    figures_of = {"ndcg@20": float(per_user.mean()), "recall@20": 0.5}
    stage = {"valid": figures_of, "test": figures_of, "epoch": 1, "parameters": {"total": 10}}
    made = {
        "study": "made",
        "variant": variant,
        "data": "planted",
        "seed": seed,
        "status": "done",
        "stage": "coarse",
        "stages": {"coarse": stage},
        "end": {"valid": figures_of},
        "bytes": {"indices": 1, "weights": 1, "values": 2, "file": 9},
        "fingerprint": str(seed),
        "config": {"variant": variant},
    }
    where = measure.keep("studies/made/planted", f"{variant}-{seed}", made)
    measured = {f"{part}.{metric}": per_user.astype(np.float16) for part in PARTS for metric in figures_of}
    write_tensors(where.with_suffix(".safetensors"), measured)


@pytest.mark.parametrize(("gain", "answer"), [(0.05, "yes"), (-0.05, "no"), (0.0, "no")])
def test_the_page_answers_from_the_records(gain: float, answer: str) -> None:
    rng = np.random.default_rng(0)
    for seed in (1, 2):
        base = rng.uniform(0.2, 0.8, 400)
        noise = rng.normal(0, 0.02, 400) * (gain != 0)
        write_record("alone", seed, base)
        write_record("refined", seed, base + gain + noise)
    (one,) = report.findings(STUDY)
    assert report.answers(STUDY, [one]) == {"refined": {"planted": (answer, 2)}}
    (compared,) = one.comparisons
    assert compared.n_seeds == 2 and compared.test.mean == pytest.approx(gain, abs=3e-3)
    page = report.page([STUDY])
    assert f"| Does it pay? | {'**yes**' if answer == 'yes' else answer} |" in page


def test_figures_are_the_same_for_the_same_points_and_stale_for_others(tmp_path: Path) -> None:
    points = [
        {"data": "planted", "label": "a", "at": None, "percent": 1.0, "low": 0.5, "high": 1.5},
        *(
            {"data": "planted", "label": str(x), "at": ("t^r", x), "percent": float(x), "low": 0.0, "high": 9.0}
            for x in (2, 3)
        ),
    ]
    paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        figures.draw(path, points, "A title")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert figures.is_current(paths[0], points)
    assert not figures.is_current(paths[0], points[:2])
    assert not figures.is_current(tmp_path / "none.svg", points)
