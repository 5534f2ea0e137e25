"""Cards of the known data sets, and where their files are; nothing of pandas or scipy is imported here."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import platformdirs

from c2f_dgl.errors import InputError

REPOSITORY_SAMPLE = Path(__file__).parents[2] / "data" / "planted"

# Pinned: the commits in which the files' checksums were read.
_GITHUB = "https://raw.githubusercontent.com"
_LIGHTGCN = f"{_GITHUB}/gusye1234/LightGCN-PyTorch/947ca2b3b1d2d3545b114145710cb06c4e57b3d2/data"
_LEGCF = f"{_GITHUB}/xurong-liang/LEGCF/316844b760899c9ccec4a0ab06a06fe2cf042bb4/data"
_SASREC = f"{_GITHUB}/kang205/SASRec/e3738967fddab206d6eeb4fda433e7a7034dd8b1/data"
_RECBOLE = f"{_GITHUB}/RUCAIBox/RecBole/7b02be5ec80a88310f2d04a27a82adfcbb5dc211/dataset"
_GROUPLENS = "https://files.grouplens.org/datasets/movielens"


class RemoteFile(NamedTuple):
    """A file of a data set: its name here, where it is public, and what is known of the download."""

    filename: str
    url: str
    # As ALGORITHM:HEX, of hashlib, or git for the id that the file has in a repository.
    checksum: str | None = None
    member: str | None = None  # the file within, where the download is a zip archive


@dataclass(frozen=True)
class Card:
    """What is known of a data set."""

    name: str
    title: str
    source: str  # where the data come from, and whom to cite
    form: str  # the format of its files
    files: tuple[RemoteFile, ...]  # empty for the built-in sample; one is a log that is not split yet
    # Over all files of interactions together; checked whenever the data set is loaded.
    n_users: int
    n_items: int
    n_interactions: int | None  # None where it is not known
    pairs_sha256: str | None = None  # `pairs_sha256` of these files, where known; also checked
    notes: str = ""  # terms of use and oddities
    columns: tuple[str, ...] | None = None  # names of the columns, where the files are logs without a header


def _lightgcn_files(base: str, train: str, test: str) -> tuple[RemoteFile, ...]:
    """Files of LightGCN's form, with the ids that git has for them."""
    return tuple(
        RemoteFile(f"{part}.txt", f"{base}/{part}.txt", f"git:{blob}")
        for part, blob in (("train", train), ("test", test))
    )


def _movielens(size: str, checksum: str, n_users: int, n_items: int, n_interactions: int) -> Card:
    url = f"{_GROUPLENS}/ml-{size}.zip"
    return Card(
        name=f"ml-{size}",
        title=f"MovieLens {size.upper()} ratings",
        source="GroupLens: Harper, Konstan, ACM TiiS 5 (4), 2015",
        form="comma-separated userId, movieId, rating, timestamp; not split",
        files=(RemoteFile("ratings.csv", url, checksum, f"ml-{size}/ratings.csv"),),
        n_users=n_users,
        n_items=n_items,
        n_interactions=n_interactions,
        notes="GroupLens's terms: research use; every rating counts, --set data.min_rating=4 keeps the liked",
    )


_CARDS = (
    Card(
        name="gowalla",
        title="Gowalla check-ins, 10-core",
        source="SNAP loc-Gowalla: Cho, Myers, Leskovec, KDD 2011; split: He et al., LightGCN, SIGIR 2020",
        form="LightGCN text",
        # Copies of train.txt differ in the order of items within a line, so that the pairs are checked, too.
        files=_lightgcn_files(
            f"{_LIGHTGCN}/gowalla",
            train="a27782bd7a1d4d0744148dc0460ea94da74763f2",
            test="9ed5af4b5d21511f33740b4e22e3852f45671800",
        ),
        n_users=29_858,
        n_items=40_981,
        n_interactions=1_027_370,
        pairs_sha256="418ecef0867d8ca4d5e889c592d4b427da774000e5def9cf2c0c2ec29ad81135",
        notes="research use, as SNAP offers it",
    ),
    Card(
        name="yelp2020",
        title="Yelp reviews of 2020",
        source="Yelp Open Dataset; split: Liang et al., LEGCF, SIGIR 2024",
        form="LightGCN text",
        files=_lightgcn_files(
            f"{_LEGCF}/yelp2020",
            train="392633dd8c6e99d4b64eb0da0d0f5efacf66e95a",
            test="2627c3b7c189a6e59bb4e7f538ad3dd6cbf454c8",
        ),
        n_users=71_135,
        n_items=45_063,
        n_interactions=1_782_999,
        notes="Yelp's dataset terms: academic use",
    ),
    Card(
        name="yelp2018",
        title="Yelp reviews of 2018, 10-core",
        source="Yelp Open Dataset; split: He et al., LightGCN, SIGIR 2020",
        form="LightGCN text",
        files=_lightgcn_files(
            f"{_LIGHTGCN}/yelp2018",
            train="cda12361055ba448ae4bd1070f6000c16dea8f22",
            test="30dfbc3437b27b74cb2970b435a5ec93ad9f2468",
        ),
        n_users=31_668,
        n_items=38_048,
        n_interactions=1_561_406,
        notes="Yelp's dataset terms: academic use",
    ),
    Card(
        name="amazon-book",
        title="Amazon book reviews, 10-core",
        source="Amazon reviews: He, McAuley, WWW 2016; split: He et al., LightGCN, SIGIR 2020",
        form="LightGCN text",
        files=_lightgcn_files(
            f"{_LIGHTGCN}/amazon-book",
            train="6ef55159c5f1fd7f6d86eb9ff290d0cc2854ac99",
            test="09e5da4e0bf46c751c4ba0f4375e414fd13512cd",
        ),
        n_users=52_643,
        n_items=91_599,
        n_interactions=2_984_108,
        notes="research use, as the authors offer it",
    ),
    Card(
        name="amazon-electronics",
        title="Amazon ratings of electronics, all until 2014",
        source="Amazon reviews: McAuley, Targett, Shi, van den Hengel, SIGIR 2015; offered by SNAP",
        form="comma-separated user, item, rating, timestamp; not split",
        files=(
            RemoteFile(
                "ratings.csv",
                "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ratings_Electronics.csv",
            ),
        ),
        n_users=4_201_696,
        n_items=476_002,
        n_interactions=7_824_482,
        notes="research use, as the authors offer it; every rating counts, --set data.min_rating=4 keeps the liked",
        columns=("user", "item", "rating", "timestamp"),
    ),
    _movielens("20m", "md5:cd245b17a1ae2cc31bb14903e1204af3", 138_493, 26_744, 20_000_263),
    _movielens("32m", "md5:d472be332d4daa821edc399621853b57", 200_948, 84_432, 32_000_204),
    Card(
        name="steam",
        title="Steam reviews, 5-core",
        source="Steam reviews: Kang, McAuley, SASRec, ICDM 2018",
        form="blank-separated user, item; not split",
        files=(RemoteFile("log.txt", f"{_SASREC}/Steam.txt", "git:a0e80e7ae37ef2cf9410daf23c3e28ea6f6c31b7"),),
        n_users=334_730,
        n_items=13_047,
        n_interactions=None,
        notes="research use, as the authors offer it; in order of time, without times",
    ),
    Card(
        name="lastfm",
        title="Last.fm listening counts (HetRec 2011)",
        source="HetRec 2011: Cantador, Brusilovsky, Kuflik, RecSys 2011; split as shipped with LightGCN-PyTorch",
        form="tab-separated user, artist, count",
        files=(
            RemoteFile(
                "train.tsv",
                f"{_LIGHTGCN}/lastfm/data1.txt",
                "sha256:c82af3228cbbda2f55a39244de09ed93292894f1d0d9f1908ebb57e27598fded",
            ),
            RemoteFile(
                "test.tsv",
                f"{_LIGHTGCN}/lastfm/test1.txt",
                "sha256:de4417c0e6123284ce59a0934bcf5288ec1ec8774a18a1eef453c9952dfa48f9",
            ),
        ),
        n_users=1_880,
        n_items=4_489,
        n_interactions=52_668,
        pairs_sha256="8d6c096609bd99ec75b268187dbe7379588904ae25c0a5b2bf879d86857b59e7",
        notes="non-commercial use; the 12 of its 1,892 users who listened to nothing are not in the files",
        columns=("user", "item", "count"),
    ),
    Card(
        name="ml-100k",
        title="MovieLens 100K: ratings of films, 1997 to 1998",
        source="GroupLens: Harper, Konstan, ACM TiiS 2015; in the files of RecBole",
        form="RecBole's .inter, a log; titles of the films in .item",
        files=(
            RemoteFile(
                "ml-100k.inter",
                f"{_RECBOLE}/ml-100k/ml-100k.inter",
                "sha256:4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            ),
            RemoteFile(
                "ml-100k.item",
                f"{_RECBOLE}/ml-100k/ml-100k.item",
                "sha256:51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            ),
        ),
        n_users=943,
        n_items=1_682,
        n_interactions=100_000,
        pairs_sha256="42d5ef4c2adaa55140fe076e63040dcb30c960ee73e2def2664814dcce2fb7f8",
        notes="research use, as GroupLens offers it: not to be passed on, not for money",
    ),
    Card(
        name="planted",
        title="Built-in sample with known communities",
        source="generated by this package (c2f-dgl data planted makes any size)",
        form="LightGCN text, labels.tsv",
        files=(),
        n_users=1_000,
        n_items=800,
        n_interactions=27_996,
        pairs_sha256="bea33cabbd8ee29bcec9359cc78bfb83ce6ed1eed8b2729a45cedba8ca59b80e",
        notes="no terms; 6 coarse communities of 4 fine ones each",
    ),
)
CARDS: dict[str, Card] = {card.name: card for card in _CARDS}


def find_card(name: str) -> Card:
    """The card of a data set; for an unknown name the error suggests the nearest."""
    if name in CARDS:
        return CARDS[name]
    near = difflib.get_close_matches(name.lower(), CARDS, n=1)
    problem = f"unknown dataset {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    raise InputError(problem, expected=f"a path that exists, or one of {', '.join(CARDS)}")


def default_data_dir() -> Path:
    """The folder that data sets are fetched to: ``$C2F_DGL_DATA``, else the user's data folder."""
    return Path(os.environ.get("C2F_DGL_DATA") or platformdirs.user_data_dir("c2f_dgl", appauthor=False))


def dataset_folder(card: Card, data_dir: str | Path | None = None) -> Path:
    """Where the files of `card` are, or would be once fetched."""
    if not card.files and (REPOSITORY_SAMPLE / "train.txt").is_file():
        return REPOSITORY_SAMPLE
    return (default_data_dir() if data_dir is None else Path(data_dir)) / card.name


def source_folder(name_or_path: str | Path, data_dir: str | Path | None = None) -> Path:
    """Where files that belong to a data set stand: in its folder, or beside its one file."""
    _, path = find_source(name_or_path, data_dir)
    return path if path.is_dir() else path.parent


def is_here(card: Card, data_dir: str | Path | None = None) -> bool:
    """Whether every file of `card` is there; the built-in sample, which is made where it is not, always counts."""
    folder = dataset_folder(card, data_dir)
    return all(os.path.isfile(folder / file.filename) for file in card.files)


def find_source(name_or_path: str | Path, data_dir: str | Path | None = None) -> tuple[Card | None, Path]:
    """The card of a named data set, None for a path, and where its files are; refused where there is nothing.

    A data set of one file is at that file, which is a log.
    """
    if isinstance(name_or_path, str) and name_or_path in CARDS:
        card = CARDS[name_or_path]
        folder = dataset_folder(card, data_dir)
        if not is_here(card, data_dir):
            option = "" if data_dir is None else f" --data-dir {data_dir}"
            expected = f"a run of: c2f-dgl data fetch {card.name}{option}"
            raise InputError(f"{card.name} has not been fetched", where=folder, expected=expected)
        return card, folder / card.files[0].filename if len(card.files) == 1 else folder
    path = Path(name_or_path)
    if not os.path.exists(path):  # not pathlib's, which raises where a folder may not be entered
        if os.sep in str(name_or_path) or path.suffix:
            raise InputError("no such file or folder", where=path, expected="interactions, or a dataset's name")
        find_card(str(name_or_path))
    return None, path
