"""What the command line imports before a command runs: a slip is answered before torch and the like are there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from c2f_dgl.config.load import dump_config, load_config
from c2f_dgl.data import cards
from tests.command import c2f

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "dgl", "scipy", "pandas", "sklearn", "fastapi")

# RUN is a folder with the configuration of a run, NEW one that is not there.
SLIPS = [
    ("trian planted", "No such command 'trian'"),
    ("train planted --prset fast", "No such option: --prset"),
    ("train planted --out NEW --preset fst", "no preset and no file called 'fst' (expected one of best, fast"),
    ("train planted --out NEW --set coarse.clusters=3", "unknown option 'coarse.clusters'"),
    ("train planted --out NEW --set coarse.m=many", "coarse.m: "),
    ("train planted --out NEW --set coarse.m", "--set: 'coarse.m' is no option"),
    ("train gowala --out NEW", "unknown dataset 'gowala'; did you mean 'gowalla'?"),
    ("train gowalla --out NEW", "gowalla has not been fetched"),
    ("train NEW/log.csv --out NEW", "log.csv: no such file or folder"),
    ("train planted --out NEW --stage medium", "--stage: no stage 'medium'"),
    ("train planted --out NEW --device tpu", "--device: no device 'tpu'"),
    ("train planted --out RUN", "holds a run already"),
    ("train planted --out NEW --track comet", "--track: no tracker 'comet' (expected one of tensorboard, mlflow"),
    ("bench gowala --out NEW", "did you mean 'gowalla'?"),
    ("bench NEW/log.csv --out NEW", "log.csv: no such file or folder"),
    (
        "bench planted --out NEW --set lrr=1",
        "no system has 'lrr=1' (expected NAME=VALUE, NAME one of data.NAME, agent_lr",
    ),
    (
        "bench planted --out NEW --set data.usr=who",
        "--set data.usr=who: unknown option 'data.usr' (expected e.g. data.user",
    ),
    ("bench planted --out NEW --set data.source=x", "data.source is not set here (expected DATASET to say it)"),
    ("bench planted --out NEW --set data.split=rndom", "data.split: Input should be 'auto'"),
    ("bench planted --out NEW --systems qr-sun", "no system 'qr-sun' (expected e.g. qr-sum)"),
    ("bench planted --out NEW --against anchors", "no system 'anchors' (expected e.g. anchor-"),
    ("bench planted --out NEW --device tpu", "--device: no device 'tpu'"),
    ("bench planted --out RUN", "is not empty"),
    ("tune planted --out NEW --range coarse.t", "'coarse.t' is no range (expected KEY=A,B,C or KEY=LOW..HIGH"),
    ("tune planted --out NEW --range coarse.clusters=1,2", "unknown option 'coarse.clusters'"),
    ("tune planted --out NEW --range coarse.power=2..1", "2 is not below 1"),
    ("tune planted --out NEW --range coarse.t=1,some", "coarse.t: "),
    ("tune planted --out RUN", "is not empty"),
    ("tune gowala --out NEW", "did you mean 'gowalla'?"),
    ("evaluate NEW", "no run here"),
    ("evaluate RUN --stage finest", "no stage 'finest' (expected one of coarse)"),
    ("evaluate RUN --data NEW/log.csv", "log.csv: no such file or folder"),
    ("evaluate RUN --split tset", "'tset' is not one of 'valid', 'test'"),
    ("evaluate RUN --mask all", "'all' is not one of 'train', 'train+valid'"),
    ("evaluate RUN --metrics auk", "no metric 'auk' (expected ndcg, recall"),
    ("evaluate RUN --by age", "no groups 'age' (expected activity, popularity, known, users=FILE or items=FILE)"),
    ("evaluate RUN --by users=NEW.csv", "no such file"),
    ("evaluate RUN --by known --metrics auc", "auc is not of slices"),
    ("recommend NEW --user 3", "no run here"),
    ("recommend RUN --user 3 --candidates NEW.csv", "no such file"),
    ("recommend RUN --user 3 --data gowala", "did you mean 'gowalla'?"),
    ("export NEW --out NEW", "no run here"),
    ("export RUN --out RUN", "is there already"),
    ("export RUN --out NEW --bytes 1XB", "--bytes: '1XB' is no number of bytes (expected e.g. 1MB"),
    ("export RUN --out NEW --format pt", "'pt' is not one of 'model', 'onnx'"),
    ("pull me/model --out RUN", "is there already"),
    ("serve NEW", "cannot read: No such file or directory"),
    ("recommend RUN 3", "unexpected '3' (expected --history before items)"),
    ("recommend RUN --history 3", "--user ID or --all (--history is of a model file)"),
    ("report RUN NEW --out NEW.html", "no run here"),
    ("report RUN --out RUN", "is a folder"),
    ("info NEW", "no run here"),
    ("info fst --schema", "no preset and no file called 'fst'"),
    ("options --preset fst", "no preset and no file called 'fst'"),
    ("data lst", "No such command 'lst'"),
    ("data describe last-fm", "did you mean 'lastfm'?"),
    ("data fetch last-fm", "did you mean 'lastfm'?"),
    ("data split NEW/log.csv --out NEW", "log.csv: no such file"),
    ("data prepare NEW/log.csv --out NEW", "log.csv: no such file"),
    ("data split NEW/log.csv --out NEW --how rndom", "'rndom' is not one of"),
]

# LOG has columns of other names.
COLUMNS = [
    ("train LOG --out NEW", "no column 'user' for the user (expected one of 'who', 'what', by --set data.user=NAME"),
    ("train LOG --out NEW --set data.user=whom", "no column 'whom' for the user"),
    ("bench LOG --out NEW", "no column 'user' for the user (expected one of 'who', 'what', by --set data.user=NAME"),
    ("bench LOG --out NEW --set data.user=who", "no column 'item' for the item"),
    ("data split LOG --out NEW", "no column 'user' for the user"),
    ("data prepare LOG --out NEW", "no column 'user' for the user"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Exit code, standard error and what is imported by then, of one slip after the other in one process."""
    folder = tmp_path_factory.mktemp("slips")
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(dump_config(load_config("fast", ["data.source=planted"])))
    (folder / "log.tsv").write_text("who\twhat\n1\t2\n")
    places = {"RUN": str(folder / "run"), "NEW": str(folder / "new"), "LOG": str(folder / "log.tsv")}
    code = """
import json, sys
from tests.command import c2f
for arguments in json.loads(sys.argv[1]):
    done = c2f(*arguments)
    print(json.dumps([done.returncode, done.stderr, list(sys.modules)]))
"""
    slips = [slip for slip, _ in SLIPS + COLUMNS]
    commands = [re.sub("RUN|NEW|LOG", lambda place: places[place[0]], slip).split(" ") for slip in slips]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"run", "log.tsv"}
    return dict(zip(slips, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize(("slip", "words"), SLIPS, ids=[slip for slip, _ in SLIPS])
def test_a_slip_is_answered_before_anything_heavy_is_imported(answers: dict[str, list], slip: str, words: str) -> None:
    code, said, imported = answers[slip]
    assert code == 2
    assert not set(HEAVY) & set(imported)
    assert words in " ".join(said.split()), said
    assert len(said.splitlines()) == 1, said


@pytest.mark.parametrize(("slip", "words"), COLUMNS, ids=[slip for slip, _ in COLUMNS])
def test_a_wrong_column_is_told_before_torch_is_imported(answers: dict[str, list], slip: str, words: str) -> None:
    code, said, imported = answers[slip]
    assert code == 2 and words in said and len(said.splitlines()) == 1, said
    assert not {"torch", "dgl", "sklearn"} & set(imported)


def test_a_gpu_that_is_not_there_is_told_before_data_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "log.csv").write_text("who,what\n")
    for command in ("train", "bench"):
        done = c2f(command, tmp_path / "log.csv", "--out", tmp_path / "out", "--device", "cuda")
        assert done.returncode == 2 and "--device cuda: torch sees no GPU" in done.stderr


def test_help_waits_for_no_library() -> None:
    cases = [
        (["--help"], ["train", "serve", "data", "bench"], (*HEAVY, "numpy", "pydantic")),
        # Typer itself imports pydantic for the options of a command.
        (["serve", "--help"], ["--users"], (*HEAVY, "numpy")),
        (["bench", "--help"], ["--systems"], (*HEAVY, "numpy")),
        (["train", "--help"], ["coarse.anchor_weight: "], (*HEAVY, "numpy")),
    ]
    for arguments, words, absent in cases:
        code = f"""
import sys
for name in {absent!r}:
    sys.modules[name] = None
from c2f_dgl.cli.main import main
main()
"""
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words)


def test_the_package_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "c2f_dgl", "data", "fetch", "planted"], capture_output=True, text=True)
    assert done.returncode == 0 and str(cards.REPOSITORY_SAMPLE) in done.stdout, done.stderr
