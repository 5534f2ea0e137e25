from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.config.load import dump_config, load_config, options, parse_config, preset_names, read_config
from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import most_values, resolve_sizes
from c2f_dgl.errors import InputError


@pytest.mark.parametrize("preset", preset_names())
def test_presets_survive_being_written_and_read(preset: str, tmp_path) -> None:
    config = load_config(preset)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert read_config(tmp_path / "config.yaml") == config
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_presets_of_the_paper_have_its_settings() -> None:
    paper, published = load_config("paper"), load_config("published")
    for config in (paper, published):
        assert config.coarse is not None
        assert (config.coarse.m, config.coarse.t, config.model.d, config.model.layers) == (300, 2, 128, 3)
        assert config.finer["fine"].m == 100
        assert config.coarse.training.lr == 1e-3 and config.finer["fine"].training.lr == 3e-3
        assert config.coarse.training.negatives == 5 and config.coarse.training.l2 == 5e-4
    assert paper.model.activation == "none" and not paper.model.biases
    assert published.model.activation == "tanh" and published.model.biases and published.model.gate_layers
    assert published.finer["fine"].softmax and published.select == "ndcg@5"


def test_overrides_reach_every_level() -> None:
    config = load_config(
        "paper",
        [
            "seed=7",
            "coarse.training.lr=0.5",
            "fine.gate=0.25",
            "model.layer_weights=[0, 0, 1, 2]",
            "fine.threshold=null",
        ],
    )
    assert config.seed == 7 and config.finer["fine"].gate == 0.25 and config.finer["fine"].threshold is None
    assert config.coarse is not None and config.coarse.training.lr == 0.5
    assert config.model.layer_weights == (0, 0, 1, 2)


def test_a_third_tier_can_be_added_by_option() -> None:
    config = load_config("paper", ["finer.finest={m: 10, t: 2, components: 4}"])
    assert list(config.finer) == ["fine", "finest"]


def test_a_tier_needs_a_name_and_a_file_of_options_a_mapping(tmp_path) -> None:
    with pytest.raises(InputError, match="identifier"):
        parse_config({"finer": {"user": {}}}, "here")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="mapping"):
        load_config(str(tmp_path / "list.yaml"))


def test_every_option_is_described() -> None:
    rows = list(options())
    assert len(rows) == len({key for key, _, _ in rows}) > 40
    assert all(description for _, _, description in rows)


@given(
    st.integers(1, 100_000),
    st.integers(1, 100_000),
    st.sampled_from([8, 64, 256]),
    st.integers(1, 2),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([0.5, 128 / 48, 10.0]),
)
def test_sizes_fill_the_budget_and_never_exceed_it(
    n_users: int, n_items: int, d: int, t: int, t_user: int | None, budget: float
) -> None:
    tree = {
        "model": {"d": d, "budget": budget},
        "coarse": {"m": None, "t": t, "t_user": t_user},
        "finer": {"fine": {"m": None, "t": 2, "components": 8}},
    }
    config = parse_config(tree, "here")
    allowed = budget * (n_users + n_items)
    sharing = n_items if t_user == 0 else n_users + n_items
    if sharing < max(t, t_user or 0):
        with pytest.raises(InputError):
            resolve_sizes(config, n_users, n_items)
        return
    try:
        sized = resolve_sizes(config, n_users, n_items)
    except InputError:
        smallest = resolve_sizes(
            config.model_copy(update={"coarse": config.coarse.model_copy(update={"m": max(t, t_user or 0)})}),
            n_users,
            n_items,
        )
        assert most_values(smallest, n_users, n_items) > allowed - 1
        return
    assert sized.coarse is not None and sized.coarse.m is not None
    assert most_values(sized, n_users, n_items) <= allowed
    if sized.coarse.m == sharing:  # there are no more nodes to share atoms
        return
    more = sized.coarse.model_copy(update={"m": sized.coarse.m + 1})
    bigger = resolve_sizes(config.model_copy(update={"coarse": more}), n_users, n_items)
    assert most_values(bigger, n_users, n_items) > allowed - 1


def test_a_spectral_start_has_fewer_atoms_where_their_basis_would_be_large() -> None:
    fast = load_config("fast")
    assert resolve_sizes(fast, 500_000, 100_000).coarse.m == 512
    assert resolve_sizes(fast, 5_000_000, 1_000_000).coarse.m == 89  # 4 GiB / (8 bytes x 6 million)
    assert resolve_sizes(fast, 2**31, 1).coarse.m == 1


@pytest.mark.parametrize(("n_items", "neighbours"), [(50, 50), (4_096, 4_096), (40_960, 409), (1_000_000, 100)])
def test_a_filter_has_as_many_neighbours_as_memory_allows(n_items: int, neighbours: int) -> None:
    assert resolve_sizes(load_config("fast"), 1_000, n_items).model.filter_neighbours == neighbours
    given = load_config("fast", ["model.filter_neighbours=7"])
    assert resolve_sizes(given, 1_000, n_items).model.filter_neighbours == 7


def test_given_sizes_are_left_alone() -> None:
    config = RunConfig()
    assert resolve_sizes(config, 200, 200) == config


def test_there_are_no_more_atoms_than_nodes_that_share_them() -> None:
    with pytest.raises(InputError, match=r"coarse\.m: 301 meta-embeddings for 300 nodes"):
        resolve_sizes(load_config("paper", ["coarse.m=301"]), 200, 100)
    with pytest.raises(InputError, match="101 meta-embeddings for 100 nodes"):  # users are not composed of atoms
        resolve_sizes(load_config("fast", ["coarse.m=101"]), 200, 100)
    assert resolve_sizes(load_config("fast", ["model.budget=1000"]), 200, 100).coarse.m == 100


def test_a_preset_can_change_another(tmp_path) -> None:
    best, fast = load_config("best"), load_config("fast")
    assert best.model.filter_ridge is None and fast.model.filter_ridge == 0
    assert best.model_copy(update={"model": fast.model, "coarse": fast.coarse}) == fast
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: best\ncoarse: {training: {lr: 0.5}}\n")
    config = load_config(str(mine))
    assert config.coarse is not None and config.coarse.training.lr == 0.5
    assert config.model == best.model
    mine.write_text(f"preset: {mine}\n")
    with pytest.raises(InputError, match="cannot be what this one changes"):
        load_config(str(mine))


def test_a_preset_without_tiers_keeps_those_of_the_schema(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("model: {layers: 2}\n")
    assert list(load_config(str(mine)).finer) == list(load_config(str(mine), ["seed=3"]).finer) == ["fine"]
    assert load_config(str(mine), ["fine.t=3"]).finer["fine"].t == 3
    with pytest.raises(InputError, match="finer"):
        load_config(str(mine), ["finer=3", "fine.t=2"])


@pytest.mark.parametrize(
    ("preset", "options", "words"),
    [
        ("paper", ["coarse.tt=3"], r"coarse\.tt.*coarse\.t"),
        ("paper", ["coarse.m=[1"], "not valid YAML"),
        ("paper", ["model.layers=0"], "no effect"),
        ("lightgcn", ["coarse.m=5"], r"--set coarse.m=5: the preset has no coarse"),
        ("fast", ["coarse.training.updating_epochs=1"], "W holds for one"),
        ("fast", ["model.filter_neighbours=0"], "both filter_neighbours and filter_weight"),
        ("fast", ["model.filter_weight=0.0"], "both filter_neighbours and filter_weight"),
        ("fast", ["coarse.start=xavier"], "need coarse.start spectral"),
        ("fast", ["coarse.m=3", "coarse.t_user=5"], "t_user = 5 is larger than m = 3"),
        ("fast", ["model.user_exponent=3"], "less than or equal to 2"),
        ("fast", ["coarse.power=-1"], "greater than or equal to 0"),
        ("fast", [f"seed={2**32}"], "seed"),
        ("fast", ["seed=2020-13-45"], "not valid YAML"),
        ("a" * 300, [], "no preset and no file"),
    ],
)
def test_impossible_options_say_why(preset: str, options: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_config(preset, options)


def test_a_tier_has_the_same_name_in_a_file_as_in_an_override(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("preset: fast\nfine:\n  m: 5\n")
    assert load_config(str(tmp_path / "mine.yaml")) == load_config("fast", ["fine.m=5"])


def test_seeds_are_what_every_library_takes() -> None:
    assert load_config("fast", [f"seed={2**32 - 1}"]).seed == 2**32 - 1
