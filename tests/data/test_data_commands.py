"""``c2f-dgl data``, and the writers behind it."""

from __future__ import annotations

import filecmp
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from c2f_dgl.cli.data import app
from c2f_dgl.data.cards import CARDS
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.readers import read_lightgcn
from c2f_dgl.data.writers import write_lightgcn
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import replacing_folder

SAMPLE = Path(__file__).parents[2] / "data" / "planted"


def run(*arguments: object) -> str:
    """Run a data command; what it prints, or what it raises."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_list_and_describe(tmp_path):
    listed = run("list", "--data-dir", tmp_path)
    assert all(name in listed for name in CARDS)
    assert "1,027,370" in listed
    described = run("describe", "lastfm", "--data-dir", tmp_path)
    for said in ("1,880", "4,489", "52,668", "HetRec", "https://", "not yet: c2f-dgl data fetch lastfm", str(tmp_path)):
        assert said in described
    assert "not yet" not in run("describe", "planted")
    with pytest.raises(InputError, match="did you mean 'lastfm'"):
        run("describe", "last-fm")


def test_fetch_of_the_sample_needs_no_network():
    assert str(SAMPLE.resolve()) in run("fetch", "planted")


def test_planted_writes_the_sample_by_default(tmp_path):
    run("planted", "--out", tmp_path / "out")
    assert filecmp.cmpfiles(SAMPLE, tmp_path / "out", ["train.txt", "test.txt", "labels.tsv"], shallow=False)[1:] == (
        [],
        [],
    )


@pytest.mark.parametrize("ids", [["7", "9", "12"], ["ann", "bob", 'c "x"'], ["01", "é", "NA"], ["ann", " ann", "b "]])
def test_split_writes_a_folder_that_loads_as_the_same_split(tmp_path, ids):
    log = tmp_path / "log.tsv"
    quoted = ['"' + name.replace('"', '""') + '"' for name in ids]
    log.write_text("who\twhat\twhen\n" + "".join(f"{u}\t{i}\t{i}\n" for u in quoted for i in range(3, 12)), "utf-8")
    printed = run(
        *("split", log, "--out", tmp_path / "out", "--how", "leave-last", "--timestamp", "when"),
        *("--user", "who", "--item", "what"),
    )
    loaded = load_dataset(tmp_path / "out")
    assert (loaded.train.nnz, loaded.valid.nnz, loaded.test.nnz) == (21, 3, 3)
    assert loaded.item_ids[loaded.test.indices].tolist() == [11, 11, 11]
    assert sorted(map(str, loaded.user_ids)) == sorted(ids)
    assert "3 users, 9 items, 27 interactions (21 train, 3 valid, 3 test" in printed


def test_split_takes_the_data_options_of_train(tmp_path):
    log = tmp_path / "log.csv.gz"
    log.write_bytes(gzip.compress("".join(f"u{n % 3},i{n},{n % 2 - 1},{n}\n" for n in range(18)).encode()))
    columns = ("--set", "data.user=0", "--set", "data.item=1", "--set", "data.timestamp=3")
    printed = run("split", log, "--out", tmp_path / "out", "--how", "leave-last", *columns)
    assert printed.startswith("log: 3 users, 18 items") and load_dataset(tmp_path / "out").test.nnz == 3
    printed = run("split", log, "--out", tmp_path / "liked", *columns, "--rating", "2", "--min-rating", "0")
    assert "9 of 18 rows below rating 0 dropped" in printed
    with pytest.raises(InputError, match=r"--set: coarse.m=3 does not say how to read .expected data.user, data.item"):
        run("split", log, "--out", tmp_path / "not", "--set", "coarse.m=3")


def test_split_seed_and_fractions(tmp_path):
    prints = []
    for run_number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(run_number)
        run("split", SAMPLE / "train.txt", "--out", out, "--seed", seed, "--test", 0.5, "--valid", 0)
        assert not (out / "valid.tsv").exists()
        prints.append((out / "test.tsv").read_text())
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("left_out", ["valid", "test"])
def test_a_folder_without_one_held_out_part_loads(tmp_path, left_out):
    out = tmp_path / "out"
    run("split", SAMPLE / "train.txt", "--out", out, f"--{left_out}", 0)
    loaded = load_dataset(out)
    assert loaded.valid.nnz and (loaded.test.nnz == 0) == (left_out == "test")
    assert ("valid drawn from test" in loaded.summary()) == (left_out == "valid")


def test_refusals_write_nothing(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item\na,b\na\n")
    with pytest.raises(InputError, match="line 3: the item is missing"):
        run("split", log, "--out", tmp_path / "out")
    log.write_text("user,item\na,b\n")
    with pytest.raises(InputError, match="needs timestamps"):
        run("split", log, "--out", tmp_path / "out", "--how", "temporal")
    with pytest.raises(InputError, match="cannot fill"):
        run("planted", "--out", tmp_path / "out", "--coarse", 5000)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    with pytest.raises(InputError, match="is there already"):
        run("split", log, "--out", tmp_path)


def test_a_new_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "out") as whole:
        (whole / "half").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), replacing_folder(tmp_path / "file" / "out"):
        pass
    (tmp_path / "empty").mkdir()
    with replacing_folder(tmp_path / "empty") as whole:
        (whole / "all").touch(mode=0o600)  # as some libraries make their files
    (made,) = (tmp_path / "empty").iterdir()
    (tmp_path / "plain").touch()
    assert made.name == "all" and made.stat().st_mode == (tmp_path / "plain").stat().st_mode


@settings(max_examples=200)
@given(dense=st.integers(0, 999).map(lambda seed: np.random.default_rng(seed).random((7, 15)) < 0.2).filter(np.any))
def test_lightgcn_round_trip(tmp_path_factory, dense):
    path = tmp_path_factory.mktemp("lightgcn") / "train.txt"
    write_lightgcn(csr_matrix(dense), path)
    expected = [" ".join(map(str, [user, *np.flatnonzero(row)])) for user, row in enumerate(dense)]
    assert path.read_text().splitlines() == expected
    back = read_lightgcn(path)
    assert back.n_users == 7
    assert np.array_equal(back.to_csr().toarray() > 0, dense[:, back.item_ids])
