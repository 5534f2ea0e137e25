"""The studies. A new variant is one more `Variant`: a name, options, and the question it answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.studies.significance import Direction
from c2f_dgl.config.load import load_config
from c2f_dgl.config.schema import RunConfig

# The paper's sizes (m^c = 300, m^r = 100, d = 128) on every data set, so that its d^r and t^r keep their meaning. The
# rate is not its own, 1e-3, with which LastFM, of 26 steps an epoch, learns next to nothing in 20 epochs; on Gowalla,
# of 495, validation is higher with 2e-2 as well, before S is updated and after. No phase stops early: variants get
# equal steps.
LENGTHS = (
    "coarse.training.lr=0.02 coarse.training.fixed_epochs=5 coarse.training.updating_epochs=35 "
    "coarse.training.patience=1000 "
    "fine.training.fixed_epochs=5 fine.training.updating_epochs=15 fine.training.patience=1000"
)


@dataclass(frozen=True)
class Variant:
    """One configuration of a study, and the yes-or-no question about it (none about what is only a control)."""

    name: str
    options: str = ""  # ``key=value`` as for ``--set``, with blanks between
    asks: str = ""
    controls: tuple[str, ...] = ()  # variants of the study it is compared with; a yes needs a yes against each
    yes_if: Direction = "higher"  # which difference in accuracy to the controls is a yes
    preset: str = "paper"
    at: tuple[str, float] | None = None  # a sweep and the place there: a point of a curve, not a row of a forest plot


@dataclass(frozen=True)
class Study:
    """Variants that answer questions of one kind, controls first; `options` are all variants', before their own."""

    name: str
    title: str
    about: str
    variants: tuple[Variant, ...]
    options: str = LENGTHS

    def config(self, variant: Variant, data: str, seed: int) -> RunConfig:
        """The configuration of a run; sizes that are null are not yet resolved."""
        overrides = [*f"{self.options} {variant.options}".split(), f"data.source={data}", f"seed={seed}"]
        return load_config(variant.preset, overrides)


# Sec. 4.4 has half of E^r non-zero at its best threshold, which is 3 there: the median of |E^r| at the start.
HALF = "fine.threshold=null"
COARSE = "finer={}"

_EMPTY = "fine.threshold=1000"
_worse = partial(Variant, controls=("whole",), yes_if="lower")

ABLATION = Study(
    "ablation",
    "Ablations (Sec. 4.3)",
    "The fine stage without one of its parts, after the same coarse stage. The control is the paper's stage with the "
    "threshold at the median of |E^r| at the start, so that half of E^r is non-zero, as Sec. 4.4 has it at its best; "
    "`printed` is the same with λ = 3. The paper's Fig. 4 has all four cases worse than the whole.",
    (
        Variant("whole", HALF),
        _worse("coarse", COARSE, "Is the coarse stage alone worse than with the fine stage?"),
        _worse("case-a", f"{HALF} fine.start=normal", "A: is a random start of E^r worse?"),
        _worse("case-b", f"{HALF} fine.start=rows", "B: are chosen rows without SparsePCA worse?"),
        _worse("case-c", "fine.threshold=0", "C: is no soft threshold worse?"),
        _worse("case-d", f"{HALF} fine.bridge=false", "D: is S^r matched without the entities' bridge worse?"),
        _worse("printed", "", "Is λ = 3, as printed, worse than the median?"),
        _worse("empty", _EMPTY, "Is a fine codebook without one value (λ = 1000) worse than one that is half full?"),
    ),
)

_PURSUED = f"{COARSE} coarse.update=pursuit"
_SCALED = f"{_PURSUED} model.item_scale=0.15"

ASSIGNMENT = Study(
    "assignment",
    "Matching pursuit, and items scaled by degree",
    "One coarse tier at the paper's sizes: S updated as Eq. 11 has it, by matching pursuit with re-fit, and with one "
    "scalar more, item embeddings scaled by degree^0.15.",
    (
        Variant("pinv", COARSE),
        Variant("pursuit", _PURSUED, "Does matching pursuit beat the pseudo-inverse?", ("pinv",)),
        Variant("scaled", _SCALED, "Does scaling items by degree^0.15 add to pursuit?", ("pursuit",)),
    ),
)

_LONGER = f"{COARSE} coarse.training.updating_epochs=55"
_REFINED, _JOINT = f"{HALF} model.entity_input=refined", "fine.freeze_coarser=false"
_SMALL = f"{_REFINED} fine.start_scale=0.01"
_pays = partial(Variant, controls=("longer", "wider"))

FINE_TIER = Study(
    "fine-tier",
    "A fine tier that earns its place",
    "The fine stage against controls that give the coarse tier the same: as many more epochs (`longer`; its batches "
    "are smaller, so four times the steps) and as many more values (`wider`). `joint` trains E^c along with E^r.",
    (
        Variant("coarse", COARSE),
        Variant("longer", _LONGER),
        # As many values as the fine stage adds, 5 m^c and half of 100 x 80: 43 more rows of 128 in E^c.
        Variant("wider", f"{COARSE} coarse.m=343"),
        _pays("fine", HALF, "Does the fine stage of the equations pay (Eq. 19)?"),
        _pays("refined", _REFINED, "Does it pay with refined entities (Eq. 18)?"),
        _pays("gate-0.2", f"{_REFINED} fine.gate=0.2", "Does it pay at w_cr = 0.2, refined?"),
        _pays("gate-0.8", f"{_REFINED} fine.gate=0.8", "Does it pay at w_cr = 0.8, refined?"),
        _pays("joint", f"{_REFINED} {_JOINT}", "Does it pay where E^c is trained along, refined?"),
        _pays("joint-fast", f"{_REFINED} {_JOINT} fine.training.lr=0.02", "And at the coarse stage's rate, 2e-2?"),
        _pays("refined-small", _SMALL, "Does it pay where E^r starts a hundredth as large, refined?"),
        _pays("joint-small", f"{_SMALL} {_JOINT}", "And with E^c trained along?"),
    ),
)

# The paper's values on Gowalla at (300, 128, 2): 2 N + 300 x 128 = 2.54 N. m follows from the data.
_BUDGET = f"{_SCALED} coarse.m=null model.budget=2.542"


def _shaped(d: int, t: int, asks: str, *controls: str) -> Variant:
    return Variant(f"d{d}-t{t}", f"{_BUDGET} model.d={d} coarse.t={t}", asks, controls)


CORNER = Study(
    "corner",
    "The split of the budget",
    "One coarse tier, the same count of learned values (2.54 per entity, the paper's on Gowalla with m = 300, d = 128, "
    "t = 2, to which m follows from the data), spent on more meta-embeddings, more dimensions or more entries of S; "
    "S updated by matching pursuit, items scaled by degree^0.15.",
    (
        _shaped(128, 2, ""),
        _shaped(64, 2, "Do twice the atoms at half the width (d = 64, t = 2) beat d = 128, t = 2?", "d128-t2"),
        _shaped(128, 1, "Does one entry less an entity, spent on atoms (d = 128, t = 1), beat t = 2?", "d128-t2"),
        _shaped(64, 1, "Do both together (d = 64, t = 1) beat each alone?", "d64-t2", "d128-t1"),
    ),
)

_of_base = partial(Variant, controls=("base",))


def _sweep(symbol: str, key: str, values: list[float], usual: str) -> list[Variant]:
    stem = key.rpartition(".")[2]
    options = f"{HALF} {key}" if key != "fine.threshold" else key  # unless the threshold is what is swept
    asks = f"Is {symbol} = {{:g}} better than {usual}?"
    return [_of_base(f"{stem}-{x:g}", f"{options}={x:g}", asks.format(x), at=(symbol, x)) for x in values]


SENSITIVITY = Study(
    "sensitivity",
    "Sensitivity (Sec. 4.4)",
    "The paper's sweeps of d^r, λ, w_cr and t^r around a base with d^r = 80, w_cr = 0.5, t^r = 5 and the threshold at "
    "the median of |E^r|. The base is a point of three of the sweeps: there the difference is nought. Where a "
    "threshold exceeds every |E^r| the fine codebook starts at zero, gets no gradient and stays there.",
    (
        Variant("base", HALF),
        *_sweep("d^r", "fine.components", [40, 60, 80, 100, 120], "80"),
        *_sweep("λ", "fine.threshold", [0.5, 1, 3, 5, 10], "the median"),
        *_sweep("w_cr", "fine.gate", [0.1, 0.3, 0.5, 0.7, 0.9], "0.5"),
        *_sweep("t^r", "fine.t", [2, 3, 4, 5, 6], "5"),
    ),
)


def _beside(m: int) -> Variant:
    asks = f"Beside m^c = 300, is m^r = {m} better than 100?"
    return _of_base(f"plus-{m}", f"{HALF} fine.m={m}", asks, at=("m^r beside m^c = 300", m))


def _of_400(m: int) -> Variant:
    options, asks = f"{HALF} fine.m={m} coarse.m={400 - m}", f"Of 400, is m^r = {m} better than 100?"
    return _of_base(f"{m}-of-400", options, asks, at=("m^r of m^c + m^r = 400", m))


SPACE = Study(
    "space",
    "Space (Sec. 4.5)",
    "m^r varied beside a fixed m^c, and at a fixed total of meta-embeddings; values as the paper counts them, and the "
    "bytes of the checkpoint, in which an index takes four and zeros of E^r are stored. d^r is 80, the threshold the "
    "median of |E^r|. The paper's Fig. 6 has accuracy rise with m^r beside a fixed m^c.",
    (
        Variant("base", HALF),
        *(_beside(m) for m in (25, 50, 100, 200, 300)),
        *(_of_400(m) for m in (50, 100, 150, 200)),
    ),
)


def _loss(name: str, negatives: int, asks: str, *controls: str) -> Variant:
    # 1638 positives a step whatever their negatives, so all take the same steps.
    training = {"loss": name, "negatives": negatives, "batch_size": 1638 * negatives, "updating_epochs": 15}
    options = [_PURSUED, *(f"coarse.training.{key}={value}" for key, value in training.items())]
    return Variant(f"{name}-{negatives}", " ".join(options), asks, controls)


LOSS = Study(
    "loss",
    "The loss and its negatives",
    "One coarse tier with S updated by matching pursuit, trained for the same 20 epochs and the same positives a step. "
    "BPR is the mean over pairs, softmax the cross-entropy of the positive against its own negatives.",
    (
        _loss("bpr", 5, ""),
        _loss("bpr", 1, "Is BPR with 1 negative better than with 5?", "bpr-5"),
        _loss("bpr", 50, "Is BPR with 50 negatives better than with 5?", "bpr-5"),
        _loss("softmax", 5, "Is softmax over 5 negatives better than BPR with 5?", "bpr-5"),
        _loss("softmax", 50, "Is softmax over 50 negatives better than BPR with 5 and with 50?", "bpr-5", "bpr-50"),
    ),
)

_published = partial(Variant, preset="published")

SIGNIFICANCE = Study(
    "significance",
    "Significance (Table 4)",
    "Table 4 compares the model with LEGCF, its coarse stage, and prints gains of 2.8 to 7.0 % in NDCG and p-values "
    "below 0.01 on Gowalla. Here: the same comparison for `paper` as printed (λ = 3), with half of E^r kept, and for "
    "`published`, the authors' code with its tanh, gates and biases. Its tanh leaves only message passing at each "
    "step: on Gowalla a coarse stage takes hours on one core, and was not run.",
    (
        Variant("paper-coarse", COARSE),
        Variant("paper", "", "Does `paper`, as printed, beat its coarse stage?", ("paper-coarse",)),
        Variant("paper-half", HALF, "Does `paper` with half of E^r kept beat its coarse stage?", ("paper-coarse",)),
        _published("published-coarse", COARSE),
        _published(
            "published-longer",
            _LONGER,
            "Does the coarse stage of `published` gain from the fine stage's epochs?",
            ("published-coarse",),
        ),
        _published(
            "published",
            "",
            "Does `published` beat its coarse stage, and that with as many epochs?",
            ("published-coarse", "published-longer"),
        ),
    ),
)

_adds = partial(Variant, controls=("printed",))
_BFLOAT16 = "Does `published` lose where features are propagated in bfloat16?"

HABITS = Study(
    "habits",
    "What the published code does beside the equations",
    "`paper` as printed with one habit of the authors' code more, each alone, and `published`, which has all of them, "
    "with features propagated in bfloat16.",
    (
        Variant("printed"),
        _adds("tanh", "model.activation=tanh", "Does tanh on the input embeddings add to the equations as printed?"),
        _adds("biases", "model.biases=true", "Does a bias per user and item?"),
        _adds("normal", "coarse.start=normal", "Does a start of E^c from N(0, 1)?"),
        _adds("twice", "model.prenormalise=true", "Does A normalised before S is added, and again after?"),
        _adds("gated", "model.gate_layers=true", "Does the gate mixed in again after every layer?"),
        _adds("softmax", "fine.softmax=true", "Does a softmax before the top-t^r of S^r?"),
        _adds("scattered", "fine.padding=scattered", "Do SparsePCA's codes at random columns?"),
        _published("published"),
        _published("bfloat16", "model.kernel=bfloat16", _BFLOAT16, ("published",), "lower"),
    ),
)

_ALONE = f"{COARSE} coarse.training.fixed_epochs=0"  # a start and nothing else
_SOFTMAX = f"{COARSE} coarse.training.loss=softmax coarse.training.negatives"
_SHARED = f"{_SOFTMAX}=2000 coarse.training.shared_negatives=true coarse.training.batch_size=4096"
_OWN = f"{_SOFTMAX}=100 coarse.training.batch_size=102400"
_gains = partial(Variant, controls=("start",), preset="fast")
_loses = partial(_gains, yes_if="lower")


def _budgeted(n: float) -> Variant:
    asks = f"Are {n:g} values per entity better than 2.67?"
    return _gains(f"budget-{n:g}", f"{_ALONE} model.budget={n:g}", asks, at=("values per entity", n))


SPECTRAL = Study(
    "spectral",
    "The spectral start and what surrounds it",
    "Our preset `fast` without its fine tier: a codebook solved for as E = W T, T lower triangular; `best` adds a "
    "linear graph filter to its scores. All within the same budget of learned values, but for the sweep of the budget.",
    (
        Variant("start", _ALONE, preset="fast"),
        _gains("trained", COARSE, "Does an epoch of BPR after the start pay?"),
        _gains("softmax-shared", _SHARED, "Does an epoch of softmax with 2,000 shared negatives pay?"),
        _gains("softmax-own", _OWN, "Does an epoch of softmax with 100 unseen negatives for each positive pay?"),
        _gains("filter", _ALONE, "Does a linear graph filter beside the embeddings pay?", preset="best"),
        _gains(
            "kmeans", f"{_ALONE} coarse.grouping=kmeans", "Are items better grouped by spherical k-means than by METIS?"
        ),
        _loses("random", f"{_ALONE} coarse.grouping=random", "Are items worse grouped at random than by METIS?"),
        _loses(
            "links", f"{_ALONE} model.link_scale=0.01", "Do meta nodes that weigh more against neighbours (0.01) hurt?"
        ),
        _loses("layers-3", f"{_ALONE} model.layers=3", "Are 3 layers worse than 9?"),
        _loses("layers-5", f"{_ALONE} model.layers=5", "Are 5 layers worse than 9?"),
        _loses("unscaled", f"{_ALONE} model.item_scale=0", "Are scores without the item scale worse?"),
        _gains("two-atoms", f"{_ALONE} coarse.t=2", "Do two atoms an item (t = 2) beat one?"),
        _gains("user-atoms", f"{_ALONE} coarse.t_user=1", "Do users gain from atoms of their own?"),
        *(_budgeted(n) for n in (1, 1.5, 2, 4, 8, 14)),
    ),
    options="",
)

# The most important first: the order of `all` and of the page.
STUDIES = {
    study.name: study
    for study in (SPECTRAL, ABLATION, FINE_TIER, CORNER, ASSIGNMENT, SENSITIVITY, HABITS, SIGNIFICANCE, SPACE, LOSS)
}
