"""The catalogue and `load_dataset`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from c2f_dgl.config.load import load_config
from c2f_dgl.data.cards import CARDS, Card, RemoteFile, dataset_folder, is_here
from c2f_dgl.data.catalogue import load_dataset, load_split, pairs_sha256
from c2f_dgl.data.fetch import _verify
from c2f_dgl.data.readers import read_lightgcn
from c2f_dgl.errors import InputError

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"

TRAIN = "0 0 1 2\n1 1 2\n2 0\n"
TEST = "0 3 4\n1 0\n2 4 1 3\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data folder with a given split of three users and five items, called ``tiny``."""
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    (tiny / "train.txt").write_text(TRAIN)
    (tiny / "test.txt").write_text(TEST)
    return tiny


@pytest.fixture
def tiny_card(monkeypatch, folder) -> Card:
    """A card that describes `folder`."""
    files = (RemoteFile("train.txt", "http://localhost/train.txt"), RemoteFile("test.txt", "http://localhost/test.txt"))
    parts = [read_lightgcn(folder / file.filename) for file in files]
    card = Card("tiny", "t", "s", "LightGCN text", files, 3, 5, 12, pairs_sha256(*parts))
    monkeypatch.setitem(CARDS, "tiny", card)
    return card


def test_the_papers_counts_are_on_the_cards():
    sizes = {name: (card.n_users, card.n_items, card.n_interactions) for name, card in CARDS.items()}
    assert sizes["gowalla"] == (29_858, 40_981, 1_027_370)
    assert sizes["yelp2020"] == (71_135, 45_063, 1_782_999)
    assert sizes["amazon-book"] == (52_643, 91_599, 2_984_108)


def test_a_folder_is_a_given_split(folder):
    split = load_dataset(folder, seed=3)
    assert split.name == "tiny"
    assert (split.train.nnz, split.valid.nnz, split.test.nnz) == (6, 3, 3)
    assert split.fingerprint == load_dataset(str(folder), split="given", seed=3).fingerprint
    (folder / "valid.tsv").write_text("user\titem\n0\t3\n")
    with_valid = load_dataset(folder)
    assert (with_valid.train.nnz, with_valid.valid.nnz, with_valid.test.nnz) == (6, 1, 5)


def test_the_protocol_is_passed_on(folder):
    (folder / "train.txt").write_text(TRAIN.replace("2 0", "2 0 2"))
    split = load_split(load_config("quick", [f"data.source={folder}", "data.protocol=full-test"]))
    assert split.valid_from_train and (split.train.nnz + split.valid.nnz, split.test.nnz) == (7, 6)


def test_a_named_data_set_is_checked_against_its_card(folder, tiny_card, monkeypatch):
    def load():
        return load_dataset("tiny", data_dir=folder.parent)

    assert load().name == "tiny"
    # The order of lines and of items within a line is no part of a data set.
    (folder / "train.txt").write_text("2 0\n1 2 1\n0 2 1 0\n")
    assert load().train.nnz == 6
    (folder / "train.txt").write_text("0 0 1 2\n1 1 0\n2 2\n")
    with pytest.raises(InputError, match="the pairs are not those of tiny"):
        load()
    (folder / "train.txt").write_text("0 0 1 2\n1 1 2\n")
    with pytest.raises(InputError, match=r"11 interactions where tiny has 12 .expected the files of its card"):
        load()
    monkeypatch.setitem(CARDS, "tiny", replace(tiny_card, n_users=4))
    with pytest.raises(InputError, match="3 users where tiny has 4"):
        load()


def test_a_card_of_one_file_is_a_log_that_is_split_and_checked(tmp_path, monkeypatch):
    (tmp_path / "logged").mkdir()
    lines = [f"u{n % 5},i{n % 7},{n % 5 + 1},{n}\n" for n in range(35)]
    (tmp_path / "logged" / "ratings.csv").write_text("".join(lines))
    files = (RemoteFile("ratings.csv", "http://localhost/ratings.csv"),)
    card = Card("logged", "t", "s", "log", files, 5, 7, 35, columns=("user", "item", "rating", "timestamp"))
    monkeypatch.setitem(CARDS, "logged", card)
    split = load_dataset("logged", seed=3, data_dir=tmp_path)
    assert split.name == "logged" and split.train.nnz + split.valid.nnz + split.test.nnz == 35
    assert load_dataset("logged", split="leave-last", data_dir=tmp_path).test.nnz == 5
    assert load_dataset("logged", min_rating=4, data_dir=tmp_path).train.nnz < split.train.nnz
    (tmp_path / "logged" / "ratings.csv").write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match=r"34 interactions where logged has 35"):
        load_dataset("logged", data_dir=tmp_path)
    monkeypatch.setitem(CARDS, "logged", replace(card, n_interactions=None))  # which is then not checked
    assert load_dataset("logged", data_dir=tmp_path).n_users == 5


def test_files_that_do_not_change_have_a_checksum_of_a_known_kind():
    kinds = {name: [(file.checksum or "").partition(":")[::2] for file in card.files] for name, card in CARDS.items()}
    assert [name for name, sums in kinds.items() if any(not digest for _, digest in sums)] == ["amazon-electronics"]
    lengths = {"git": 40, "md5": 32, "sha256": 64, "": 0}
    for kind, digest in (each for sums in kinds.values() for each in sums):
        assert len(digest) == lengths[kind] and set(digest) <= set("0123456789abcdef")


@pytest.mark.skipif(not REAL.is_dir(), reason="the public data sets are not at hand")
@pytest.mark.parametrize("name", ["gowalla", "lastfm"])
def test_the_files_at_hand_pass_the_checksums_of_their_cards(name):
    # Gowalla's training file is here in another order of the items within a line.
    for file in CARDS[name].files[name == "gowalla" :]:
        _verify(REAL / name / file.filename, file)


def test_a_path_object_is_never_a_name(tiny_card, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "train.txt").write_text("0 0 1\n")
    assert load_dataset(Path("tiny")).train.nnz == load_dataset("./tiny").train.nnz == 2
    with pytest.raises(InputError, match="where tiny has"):
        load_dataset("tiny", data_dir=folder.parent)


def test_duplicates_in_the_files_count_for_the_card(folder, tiny_card, monkeypatch):
    (folder / "train.txt").write_text(TRAIN + "2 0\n")
    monkeypatch.setitem(CARDS, "tiny", replace(tiny_card, n_interactions=13))
    assert "train: 1 duplicate pair merged" in load_dataset("tiny", data_dir=folder.parent).summary()


def test_a_named_log_is_checked_against_its_card(tmp_path, monkeypatch):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "log.inter").write_text(
        "user_id:token\titem_id:token\trating:float\n" + "".join(f"{n % 3}\t{n}\t{n % 5}\n" for n in range(30))
    )
    files = (RemoteFile("log.inter", "http://localhost/log.inter"),)
    card = Card("log", "t", "s", "RecBole", files, 3, 30, 30)
    for changed, problem in (({}, None), ({"n_items": 29}, "30 items where"), ({"pairs_sha256": "0"}, "the pairs are")):
        monkeypatch.setitem(CARDS, "log", replace(card, **changed))
        if problem is None:
            assert load_dataset("log", data_dir=tmp_path).name == "log"
            continue
        with pytest.raises(InputError, match=f"{problem} .*fetch log"):
            load_dataset("log", data_dir=tmp_path)
        assert load_dataset("log", data_dir=tmp_path, min_rating=2).train.nnz  # not what the card counts


def test_what_is_not_fetched_says_how_to_fetch(tmp_path):
    with pytest.raises(InputError, match=f"gowalla has not been fetched .*c2f-dgl data fetch gowalla.* {tmp_path}"):
        load_dataset("gowalla", data_dir=tmp_path)


def test_the_data_folder_is_that_of_the_environment(folder, tiny_card, monkeypatch):
    monkeypatch.setenv("C2F_DGL_DATA", str(folder.parent))
    assert dataset_folder(tiny_card) == folder
    assert is_here(tiny_card)
    assert load_dataset("tiny").n_items == 5
    (folder / "test.txt").unlink()
    assert not is_here(tiny_card)


@pytest.mark.parametrize(
    ("name", "near"), [("golla", "gowalla"), ("Yelp2018", "yelp2018"), ("amazon_book", "amazon-book")]
)
def test_an_unknown_name_gets_the_nearest(name, near):
    with pytest.raises(InputError, match=f"unknown dataset '{name}'; did you mean '{near}'"):
        load_dataset(name)


def test_what_does_not_exist_or_fit_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"unknown dataset 'zzz' .expected a path that exists, or one of gowalla"):
        load_dataset("zzz")
    with pytest.raises(InputError, match=r"log\.csv: no such file or folder"):
        load_dataset(tmp_path / "log.csv")
    with pytest.raises(InputError, match="this is split already; no random split"):
        load_dataset(folder, split="random")
    with pytest.raises(InputError, match="this is split already; no fractions"):
        load_dataset(folder, test=0.2)
    with pytest.raises(InputError, match="a single file is no given split"):
        load_dataset(folder / "train.txt", split="given")
    with pytest.raises(InputError, match="unknown split 'by-moon'"):
        load_dataset(folder / "train.txt", split="by-moon")
    (folder / "test.txt").unlink()
    with pytest.raises(InputError, match=r"no test file .expected one of test\.txt, test\.tsv"):
        load_dataset(folder)
    (folder / "train.txt").unlink()
    with pytest.raises(InputError, match="no train file"):
        load_dataset(folder)


def test_a_folder_that_may_not_be_listed_is_refused(folder, monkeypatch):
    def refuse(_self):
        raise PermissionError(13, "Permission denied")

    # A folder's mode would not stop root, whom tests may run as.
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match="tiny: cannot read: Permission denied"):
        load_dataset(folder)


def test_a_single_log_is_split_as_asked(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item,t\n" + "".join(f"{user},{item},{item}\n" for user in "ab" for item in range(10)))
    split = load_dataset(log, valid=0.2, test=0.3)
    assert split.name == "log"
    assert split.test.getnnz(axis=1).tolist() == [3, 3] and split.valid.getnnz(axis=1).tolist() == [2, 2]
    last = load_dataset(log, split="leave-last", timestamp="t")
    assert last.test.indices.tolist() == [9, 9] and last.valid.indices.tolist() == [8, 8]
    early = load_dataset(log, split="temporal", timestamp="t", test=0.4)
    assert np.unique(early.test.indices).tolist() == [6, 7, 8, 9] and np.unique(early.valid.indices).tolist() == [5]
    with pytest.raises(InputError, match="leave-last takes no fractions"):
        load_dataset(log, split="leave-last", timestamp="t", test=0.1)
    with pytest.raises(InputError, match="needs timestamps"):
        load_dataset(log, split="temporal")


def test_the_built_in_sample_is_generated_where_the_repository_is_not(tmp_path, monkeypatch):
    from_repository = load_dataset("planted")
    monkeypatch.setattr("c2f_dgl.data.cards.REPOSITORY_SAMPLE", tmp_path / "nowhere")
    generated = load_dataset("planted", data_dir=tmp_path)
    assert (tmp_path / "planted" / "labels.tsv").is_file()
    assert generated.fingerprint == from_repository.fingerprint


@pytest.mark.skipif(not (REAL / "gowalla").is_dir(), reason="the real Gowalla files are not beside the repository")
def test_real_gowalla_is_what_its_card_says():
    split = load_dataset("gowalla", data_dir=REAL)
    assert (split.n_users, split.n_items) == (29_858, 40_981)
    assert split.train.nnz == 810_128
    assert split.valid.nnz + split.test.nnz == 217_242
    held_out = split.valid.getnnz(axis=1) + split.test.getnnz(axis=1)
    assert np.array_equal(split.valid.getnnz(axis=1), np.ceil(held_out / 3))
    assert np.array_equal(split.item_ids, np.arange(40_981))


@pytest.mark.parametrize(("name", "from_train"), [("tmall", True), ("electronics", False), ("ml-1m", False)])
def test_real_files_load_under_both_protocols(name, from_train):
    if not (REAL / name).is_dir():
        pytest.skip(f"the real {name} files are not beside the repository")
    for protocol, drawn in (("paper", from_train), ("full-test", True)):
        split = load_dataset(REAL / name, protocol=protocol)
        assert split.valid_from_train == drawn
        assert split.train.getnnz(axis=1).min() > 0 and split.test.nnz > 0
        if drawn:
            assert split.valid.nnz == pytest.approx(0.1 * (split.train.nnz + split.valid.nnz), rel=0.02)


@pytest.mark.skipif(not (REAL / "lastfm").is_dir(), reason="the real Last.fm files are not beside the repository")
def test_real_lastfm_is_what_its_card_says():
    split = load_dataset("lastfm", data_dir=REAL)
    assert (split.train.nnz, split.valid.nnz + split.test.nnz) == (42_135, 10_533)
    summary = split.summary()
    assert "2 users without training items" in summary
    assert "13 items seen only in what is held out" in summary
    assert "user ids have gaps (1,880 ids from 1 to 1892)" in summary


@pytest.mark.skipif(not (REAL / "ml-100k").is_dir(), reason="the real MovieLens files are not beside the repository")
def test_real_movielens_is_what_its_card_says():
    split = load_dataset("ml-100k", data_dir=REAL)
    assert (split.n_users, split.n_items) == (943, 1_682)
    assert split.train.nnz + split.valid.nnz + split.test.nnz == 100_000
    for file in CARDS["ml-100k"].files:
        digest = hashlib.sha256((REAL / "ml-100k" / file.filename).read_bytes()).hexdigest()
        assert file.checksum == f"sha256:{digest}"
