"""Every option of a run, typed, with the paper's symbol and what it refuses.

`ModelConfig` says what H(0) is and how it is propagated, a `CoarseConfig` or `FineConfig` per tier how that starts and
is updated, and its `TrainingConfig` how it is trained.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from c2f_dgl.config.graph import GraphConfig, Options

Metric = Literal["ndcg@5", "ndcg@10", "ndcg@20", "ndcg@50", "recall@5", "recall@10", "recall@20", "recall@50"]


class TrainingConfig(Options):
    """How one stage is trained: loss, optimiser, phases and early stop (Alg. 1 and 2)."""

    lr: float = Field(1e-3, gt=0, description="Adam's learning rate")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate over the stage's epochs: constant, or a cosine down to 2 % of lr"
    )
    loss: Literal["bpr", "softmax"] = Field(
        "bpr", description="bpr: Eq. 9; softmax: cross-entropy of each positive against `negatives` sampled items"
    )
    batch_size: int = Field(8192, ge=1, description="triplets (u, i+, i-) a step; or, negatives shared, positives")
    negatives: int = Field(5, ge=1, description="distinct unseen items i- drawn for each positive")
    shared_negatives: bool = Field(False, description="draw `negatives` items once for a batch instead, seen or not")
    epoch_size: float = Field(1.0, gt=0, description="positives drawn an epoch, times the training interactions")
    l2: float = Field(5e-4, ge=0, description="lambda of Eq. 9, on the input embeddings of the batch, a mean")
    clip: float = Field(3.0, gt=0, description="gradients are clipped to +-clip by value")
    fixed_epochs: int = Field(900, ge=0, description="most epochs of phase 1, S fixed")
    updating_epochs: int = Field(900, ge=0, description="most epochs of phase 2, S updated")
    update_every: int = Field(1, ge=1, description="f: epochs between assignment updates in phase 2")
    evaluate_every: int = Field(5, ge=1, description="epochs between validations")
    patience: int = Field(5, ge=1, description="validations without improvement that end a phase")


class CoarseConfig(Options):
    """The first tier: meta-embeddings that compose users and items (Sec. 3.1)."""

    m: int | None = Field(300, ge=1, description="m^c: coarse meta-embeddings; null: what model.budget leaves")
    t: int = Field(2, ge=1, description="t^c: coarse meta-embeddings an entity is composed of")
    t_user: int | None = Field(
        None, ge=0, description="t^c of users where it differs; 0: users are composed by propagation from items alone"
    )
    grouping: Literal["metis", "kmeans", "random"] = Field(
        "metis",
        description="what S^c is anchored in: METIS parts, spherical k-means on singular vectors, or random groups",
    )
    anchor_weight: float = Field(0.5, ge=0, le=1, description="w*: weight of the own group at the start")
    start: Literal["xavier", "normal", "spectral"] = Field(
        "xavier",
        description="E^c at the start: Xavier uniform, N(0, 1), or solved for from the graph's spectrum as E = W T, "
        "T lower triangular",
    )
    power: float | None = Field(
        1.0, ge=0, description="power of singular values that weighs directions of a spectral start; null: chosen"
    )
    search_seconds: float | None = Field(
        None, gt=0, description="seconds after which a spectral start tries nothing more; null: no limit"
    )
    search_work: float | None = Field(
        None, ge=0, description="2^35 multiplications for further solves and starts of the search; null: no limit"
    )
    update: Literal["pinv", "pursuit"] = Field(
        "pinv", description="how S^c is updated: pinv (Eq. 11) or matching pursuit with re-fit"
    )
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _possible(self) -> CoarseConfig:
        for name, t in (("t", self.t), ("t_user", self.t_user or 0)):
            if self.m is not None and t > self.m:
                raise ValueError(f"{name} = {t} is larger than m = {self.m}: an entity has at most m meta-embeddings")
        return self


class FineConfig(Options):
    """A tier that refines the one above it (Sec. 3.2, 3.3)."""

    m: int | None = Field(
        100, ge=1, description="m^r: number of fine meta-embeddings; null: a tenth of the tier above, at least t"
    )
    t: int = Field(4, ge=1, description="t^r: fine meta-embeddings that refine a coarse one")
    gate: float = Field(0.2, ge=0, le=1, description="w_cr: weight of the fine tier in the coarse one (Eq. 17)")
    threshold: float | None = Field(1.0, ge=0, description="lambda of Eq. 16; null: the median of |E^r| at the start")
    anchor_weight: float = Field(0.5, ge=0, le=1, description="w*: weight of the own METIS part at the start")
    start: Literal["sparse_pca", "rows", "normal"] = Field(
        "sparse_pca", description="E^r at the start: SparsePCA of chosen coarse rows (Eq. 15), those rows, or N(0, 1)"
    )
    components: int | None = Field(80, ge=1, description="d^r: width of SparsePCA's codes; null: half of d, at most 64")
    start_scale: float = Field(1.0, gt=0, description="factor on E^r at the start")
    alpha: float = Field(1.0, ge=0, description="alpha of SparsePCA's L1 penalty (Eq. 15)")
    padding: Literal["trailing", "scattered"] = Field(
        "trailing", description="where the d^r codes go: first, or at random columns (published code)"
    )
    bridge: bool = Field(
        True, description="S^r matched through the entities (Eq. 23); false: the tier above in this one's atoms alone"
    )
    softmax: bool = Field(False, description="softmax over each row of S^r before the top-t^r (published code)")
    freeze_coarser: bool = Field(
        True, description="the tiers above keep their codebooks (Alg. 2); false: they are trained along with this one"
    )
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _possible(self) -> FineConfig:
        if self.m is not None and self.t > self.m:
            raise ValueError(f"t = {self.t} is larger than m = {self.m}: a row of S^r has at most m^r entries")
        return self


class ModelConfig(Options):
    """H(0) and its propagation (Eq. 3-8, 12-22)."""

    d: int | None = Field(128, ge=1, description="d: embedding size, of a spectral start the most; null: coarse.m")
    budget: float = Field(128 / 48, gt=0, description="learned values per entity that coarse.m = null may use")
    layers: int = Field(3, ge=0, description="L: propagation layers")
    layer_weights: tuple[float, ...] | Literal["lowpass"] | None = Field(
        None, description="weight of each of the L+1 layers in H; null: their mean (Eq. 6); lowpass: a Chebyshev filter"
    )
    prenormalise: bool = Field(False, description="normalise A before S is added, and A' again (published code)")
    link_scale: float = Field(1.0, ge=0, description="factor on S where it enters the graph (not where it composes)")
    entity_input: Literal["unrefined", "refined"] = Field(
        "unrefined", description="entities composed from E^c (Eq. 19) or from the refined E^c (Eq. 18)"
    )
    activation: Literal["none", "tanh"] = Field("none", description="on the input embeddings (published code: tanh)")
    gate_layers: bool = Field(False, description="mix the fine tier in again after every layer (published code)")
    biases: bool = Field(False, description="a learned bias per user and item (published code), counted")
    user_exponent: float | None = Field(
        0.5, ge=-1, le=2, description="a: users pass on, and receive, with weight degree^-a; null: chosen on validation"
    )
    item_exponent: float | None = Field(
        0.5, ge=-1, le=2, description="b: items pass on, and receive, with weight degree^-b; null: chosen on validation"
    )
    item_scale: float | None = Field(
        0.0, description="item embeddings are scaled by (degree + 1)^item_scale; null: chosen on validation"
    )
    filter_neighbours: int | None = Field(
        0,
        ge=0,
        description="neighbours of an item in a graph filter of the scores; 0: none; null: 2^24 / items, 100 at least",
    )
    filter_weight: float | None = Field(
        0.0, ge=0, le=1, description="weight of the filter against the embeddings; null: chosen, with its exponents"
    )
    filter_ridge: float | None = Field(
        0.0,
        ge=0,
        description="ridge of a regression that weighs an item's neighbours; 0: none; null: chosen where all pairs fit",
    )
    engine: Literal["auto", "collapsed", "message_passing"] = Field("auto", description="how H is computed")
    kernel: Literal["auto", "dgl", "csr", "bfloat16"] = Field("auto", description="kernel of the sparse products")
    memory_budget: float | None = Field(
        None, gt=0, description="GiB for the collapsed basis: where it would take more, in half precision or on disk"
    )

    @property
    def chosen_scalars(self) -> int:
        """How many scalars a spectral start chooses: they count as learned."""
        given = (self.user_exponent, self.item_exponent, self.item_scale)
        of_filter = 5 + (self.filter_ridge is None) if self.filter_neighbours != 0 and self.filter_weight is None else 0
        chosen = sum(value is None for value in given) + of_filter
        return chosen + (self.layers + 1) * (self.layer_weights == "lowpass")

    @model_validator(mode="after")
    def _possible(self) -> ModelConfig:
        if isinstance(self.layer_weights, tuple) and len(self.layer_weights) != self.layers + 1:
            raise ValueError(f"layer_weights has {len(self.layer_weights)} entries: expected layers + 1")
        if self.layer_weights == "lowpass" and self.layers % 2 == 0:
            raise ValueError(f"layers = {self.layers}: lowpass weights need an odd number of layers")
        if self.engine == "collapsed" and self.activation != "none":
            raise ValueError("engine collapsed needs activation none: H must be linear in the codebooks")
        if (self.filter_neighbours == 0) != (self.filter_weight == 0):
            raise ValueError("a filter needs both filter_neighbours and filter_weight")
        return self


class DataConfig(Options):
    """Which data, and how it is read and split."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # columns may be given by their place

    source: str | None = Field(None, description="a catalogue name or a path; set from DATASET by the command line")
    split: Literal["auto", "given", "random", "leave-last", "temporal"] = Field(
        "auto", description="auto: the files' own split where there is one, else random"
    )
    protocol: Literal["paper", "full-test"] = Field(
        "paper",
        description="what validates where no file does: a third of a user's test items (paper), or a tenth of the "
        "training items, so that all test items test",
    )
    seed: int | None = Field(None, ge=0, lt=2**32, description="seed of the split; null: the run's seed")
    valid: float | None = Field(None, description="validation fraction of random and temporal splits")
    test: float | None = Field(None, description="test fraction of random and temporal splits")
    user: str | None = Field(None, description="name or place (from 0) of a log's user column; null: a known name")
    item: str | None = Field(None, description="name or place of the item column")
    rating: str | None = Field(None, description="name or place of the rating column, for min_rating")
    min_rating: float | None = Field(None, description="rows with a lower rating are left out")
    timestamp: str | None = Field(None, description="name or place of the time column, for splits by time")


class RunConfig(Options):
    """A whole run: the model, its tiers from coarse to fine, and how it is judged."""

    seed: int = Field(2024, ge=0, lt=2**32, description="seed of the split, of the start and of the training")
    select: Metric = Field("ndcg@20", description="validation metric that stops phases and chooses checkpoints")
    data: DataConfig = DataConfig()
    graph: GraphConfig = GraphConfig()
    model: ModelConfig = ModelConfig()
    coarse: CoarseConfig | None = Field(CoarseConfig(), description="the first tier; null: a full table (LightGCN)")
    finer: dict[str, FineConfig] = Field(
        {"fine": FineConfig()}, description="tiers below the first, by name, each refining the one before"
    )
    table: TrainingConfig = Field(TrainingConfig(), description="training of the full table where coarse is null")

    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        if self.coarse is None and self.finer:
            raise ValueError("finer tiers need a first one: coarse is null")
        for name, tier in self.finer.items():
            # Users and items have these names wherever their types' names are not known.
            taken = {*self.graph.roles.entities, "coarse", "table", "user", "item"}
            if name in taken or not name.isidentifier():
                raise ValueError(f"{name!r} cannot name a tier: expected a new identifier such as 'fine'")
            if self.model.layers == 0 and self.model.entity_input == "unrefined":
                raise ValueError(f"{name} would have no effect: with layers = 0 only refined entities see a finer tier")
            if tier.components is not None and self.model.d is not None and tier.components > self.model.d:
                raise ValueError(f"{name}.components = {tier.components} is larger than d = {self.model.d}")
        spectral = self.coarse is not None and self.coarse.start == "spectral"
        if spectral and (self.model.layer_weights != "lowpass" or self.model.activation != "none"):
            raise ValueError("coarse.start spectral needs model.layer_weights lowpass and model.activation none")
        if not spectral and self.model.chosen_scalars:
            raise ValueError(
                "model.layer_weights lowpass and null exponents, item_scale or filter_weight need coarse.start spectral"
            )
        if self.coarse is not None and spectral and self.coarse.training.updating_epochs > 0:
            raise ValueError("coarse.start spectral needs coarse.training.updating_epochs 0: W holds for one S^c")
        self._check_graph(spectral)
        if self.coarse is None and self.model.d is None:
            raise ValueError("model.d null needs coarse meta-embeddings to be as many as")
        if self.coarse is None and self.model.engine == "collapsed":
            raise ValueError("engine collapsed needs tiers: a full table's basis would be N x N")
        return self

    def _check_graph(self, spectral: bool) -> None:
        """What node types and relations ask of the model."""
        taken = {"coarse", "table"}.intersection(self.graph.roles.entities)
        if taken:
            raise ValueError(f"graph.nodes: {min(taken)!r} names a tier: expected another name")
        for name, relation in self.graph.relations.items():
            if relation.importance is None and not spectral:
                raise ValueError(f"graph.relations.{name}.importance null needs coarse.start spectral, or learned")
            if relation.importance == "learned" and spectral:
                raise ValueError(f"graph.relations.{name}.importance learned: coarse.start spectral chooses it: null")
            if relation.importance == "learned" and self.model.engine == "collapsed":
                raise ValueError(f"graph.relations.{name}.importance learned needs message passing, not collapsed")
        for name, node in self.graph.nodes.items():
            if self.coarse is None and (node.features is not None or node.width is not None or node.codebook == "own"):
                raise ValueError(f"graph.nodes.{name}: features and own codebooks need tiers: coarse is null")
