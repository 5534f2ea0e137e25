"""The forms that logs come in: how they are told apart, what is guessed of their columns, and what is said of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from c2f_dgl.config.load import load_config
from c2f_dgl.data.catalogue import load_dataset, load_split
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.readers import read_interactions, read_leading
from c2f_dgl.errors import InputError
from tests.data.forms import BARE, FORMS, ITEMS, PACKERS, PAIRS, RATINGS, USERS, N, table, text


def pairs(inter: Interactions) -> set[tuple]:
    return set(zip(inter.user_ids[inter.users].tolist(), inter.item_ids[inter.items].tolist(), strict=True))


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("name", FORMS)
def test_a_log_of_any_form_is_read_without_options(tmp_path: Path, name: str, packed: str) -> None:
    path = tmp_path / (name + packed)
    path.write_bytes(PACKERS[packed](FORMS[name]))
    assert pairs(read_interactions(path)) == PAIRS
    liked = read_interactions(path, min_rating=3, timed=True)
    assert pairs(liked) == set(zip(USERS[RATINGS >= 3].tolist(), ITEMS[RATINGS >= 3].tolist(), strict=True))
    assert liked.timestamps is not None and (name == "books.csv" or liked.timestamps.min() > 10**9)
    split = load_dataset(path, split="leave-last")
    assert split.name == name.partition(".")[0] and split.test.nnz == 12
    assert "ratings in column" in split.summary() and "(1 to 5) not used" in split.summary()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy.inter", "columns guessed: data.user=user_id, data.item=item_id, data.timestamp=timestamp"),
        ("ratings.dat", "columns guessed: data.user=0, data.item=1, data.timestamp=3 (no header)"),
        ("books.csv", "columns guessed: data.user=User-ID, data.item=ISBN, data.timestamp=Date"),
        ("old.json", "columns guessed: data.user=reviewerID, data.item=asin, data.timestamp=unixReviewTime"),
        ("new.jsonl", "columns guessed: data.user=user_id, data.item=parent_asin"),
        ("floats.csv", None),
    ],
)
def test_what_is_guessed_is_said_in_the_form_that_sets_it(tmp_path: Path, name: str, said: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    inter = read_interactions(path, timed=True)
    guessed = [note for note in inter.notes if "guessed" in note]
    assert guessed == ([] if said is None else [said.removesuffix(", data.timestamp=timestamp")])
    if said is not None:
        overrides = [part for part in said.removesuffix(" (no header)").split() if part.startswith("data.")]
        config = load_config(overrides=[override.rstrip(",") for override in overrides] + [f"data.source={path}"])
        split = load_split(config)
        assert "guessed" not in split.summary() and split.n_users == 12


def test_ratings_that_tell_dislike_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    frame = table("user", "item").assign(rating=np.arange(N) % 3 - 1)
    path.write_bytes(text(frame))
    summary = load_dataset(path).summary()
    assert "ratings in column rating (-1 to 1) not used, every row counts, the 40 rated 0 or less too" in summary
    assert "--set data.min_rating=" in summary
    liked = load_dataset(path, min_rating=1)
    assert liked.train.nnz + liked.valid.nnz + liked.test.nnz == 20 and "not used" not in liked.summary()
    path.write_bytes(text(frame.assign(rating="good")))
    assert "ratings in column rating not used" in load_dataset(path).summary()


def test_a_table_without_header_is_read_by_place(tmp_path: Path) -> None:
    path = tmp_path / "plays.tsv"
    path.write_text('ann\t\t"q1\t37\nbob\tx\tname "q\t4\n\tx\tq\t4\n\n"cy\tx\tq\t1,000\nbob\ty\tq\t2\n')
    inter = read_interactions(path, user=0, item="1")
    assert pairs(inter) == {("bob", "x"), ("bob", "y"), ('"cy', "x")}
    assert inter.notes == ("2 rows without user or item left out",)
    with pytest.raises(InputError, match=r"plays\.tsv, line 5: rating '1,000' is not a number"):
        read_interactions(path, user=0, item=1, rating=3, min_rating=2)
    with pytest.raises(InputError, match=r"no column 'ann' for the user .expected one of '0', '1', '2', '3', by --set"):
        read_interactions(path, user="ann", item=1)
    with pytest.raises(InputError, match="no column '4' for the item"):
        read_interactions(path, user=0, item=4)
    path.write_bytes(FORMS["u.data"])
    swapped = read_interactions(path, user=1, item=0)
    assert pairs(swapped) == {(item, user) for user, item in PAIRS}
    assert pairs(read_interactions(path, user=2, item=0, min_rating=5, rating="timestamp")) == {
        (rating, user) for user, rating in zip(USERS.tolist(), RATINGS.tolist(), strict=True)
    }
    path.write_bytes(FORMS["ratings.csv"])  # has a header all the same
    assert pairs(read_interactions(path, user=0, item=1)) == PAIRS


def test_latin_1_and_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    path.write_bytes('user;titre;Book-Rating\nRené;Œuvres;"3,5"\nZoé;été;"4,5"\n'.replace("Œ", "O").encode("latin-1"))
    inter = read_interactions(path, item="titre", min_rating=4)
    assert pairs(inter) == {("Zoé", "été")}
    assert inter.notes[0] == "not UTF-8, read as Latin-1"
    path.write_text("1;2;3,5\n1;3;4,5\n")
    assert pairs(read_interactions(path, min_rating=4)) == {(1, 3)}
    path.write_text('user,item,rating\n1,2,"3,500"\n')
    with pytest.raises(InputError, match="rating '3,500' is not a number"):
        read_interactions(path, min_rating=4)
    path.write_text("1;2;0,5\n2;3;0,25\n")
    weights, origin = read_leading(path, ["source", "destination", "weight"])
    assert weights["weight"].tolist() == ["0,5", "0,25"] and origin.decimal == ","


def test_ids_written_as_floats_are_whole_numbers_where_all_are(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item\n3.0,1.0\n12.0,1.5\n")
    inter = read_interactions(path)
    assert inter.user_ids.tolist() == [3, 12] and inter.item_ids.tolist() == ["1.0", "1.5"]
    path.write_text("user,item\n-3.0,1.0\n")
    with pytest.raises(InputError, match="line 2: user id -3 is negative"):
        read_interactions(path)


def test_folders_of_one_log(tmp_path: Path) -> None:
    toy = tmp_path / "toy"
    toy.mkdir()
    with pytest.raises(InputError, match=r"no train file .expected one of .*, or a folder of one log"):
        load_dataset(toy)
    with pytest.raises(InputError, match="toy: this is a directory"):
        read_interactions(toy)
    for name, content in (("toy.inter", FORMS["toy.inter"]), ("toy.item", b"item_id:token\n1\n"), ("toy.user", b"")):
        (toy / name).write_bytes(content)
    assert (load_dataset(toy).name, load_dataset(toy).n_users) == ("toy", 12)
    with pytest.raises(InputError, match="a single file is no given split"):
        load_dataset(toy, split="given")
    parts = tmp_path / "parts"
    parts.mkdir()
    whole = table("userId", "itemId", "rating", "timestamp")
    whole[:20].astype({"userId": "int32"}).to_parquet(parts / "part-0.parquet")
    whole[20:].to_parquet(parts / "part-1.parquet")
    (parts / "_SUCCESS").touch()
    assert pairs(read_interactions(parts)) == PAIRS
    split = load_dataset(parts, split="temporal")
    assert split.name == "parts" and "data.timestamp" not in split.summary()
    (parts / "part-2.parquet").write_bytes((parts / "part-1.parquet").read_bytes()[:-10])
    with pytest.raises(InputError, match=r"part-2\.parquet: not Parquet, or damaged"):
        load_dataset(parts)


def test_parts_of_a_given_split_may_be_compressed_and_notes_are_said_once(tmp_path: Path) -> None:
    for part, frame in (("train", BARE[:50]), ("valid", BARE[50:55]), ("test", BARE[55:])):
        (tmp_path / f"{part}.csv.gz").write_bytes(gzip.compress(text(frame.rename(columns={"a": "uid", "b": "iid"}))))
    split = load_dataset(tmp_path)
    assert (split.train.nnz, split.valid.nnz, split.test.nnz) == (50, 5, 5)
    assert split.summary().count("guessed") == 1
    assert "train, valid, test: columns guessed: data.user=uid, data.item=iid" in split.summary()


def test_columns_of_parquet_that_hold_no_single_values(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame = table("user", "item").assign(rating=[[1, 2]] * N, when=[b"2024-01-01"] * N)
    frame.to_parquet(path)
    assert read_interactions(path, timestamp="when").timestamps is not None
    with pytest.raises(InputError, match="no column 'rating' for the rating"):
        read_interactions(path, rating="rating", min_rating=1)
    frame.assign(user=[b"\xff"] * N).to_parquet(path)
    with pytest.raises(InputError, match="not Parquet, or damaged: Invalid UTF8"):
        read_interactions(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"user": 1, "item": 2}\n{"user": 1, "item"\n', r"log\.jsonl: not JSON lines, or damaged: JSON parse error"),
        ('{"user": 1, "item": 2}\n{"user": 1, "item": "x"}\n', r"Column\(/item\) changed from number to string"),
        ('{"user": 1, "item": 2}\n{"user": 1}\n', r"row 1: the item is missing"),
        ('{"user": 1, "thing": 2}\n', r"no column 'item' for the item .expected one of 'user', 'thing'"),
        ('[{"user": 1, "item": 2}]\n', r"the first line holds no object"),
        (json.dumps({"user": 1, "item": 2}).encode("utf-16"), r"log\.jsonl: not JSON lines, or damaged"),
    ],
)
def test_json_lines_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_interactions(path)
