"""The catalogue's data sets, and folders of one's own, as a `dgl.data` dataset."""

from __future__ import annotations

from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.data.cards import CARDS, default_data_dir, is_here, source_folder
from c2f_dgl.data.catalogue import How, load_dataset
from c2f_dgl.data.dgl_graphs import to_heterograph
from c2f_dgl.data.fetch import fetch
from c2f_dgl.data.relations import read_side
from c2f_dgl.dgl_import import dgl


class InteractionDataset(dgl.data.DGLDataset):
    r"""Interactions, and what a schema adds to them, as one heterograph.

    Parameters
    ----------
    name : str
        A name from the catalogue (``c2f-dgl data list``), which is fetched if it is not there, or a path.
    schema : GraphConfig, optional
        Further relations and node types, in files beside the data. Default: users and items alone.
    split : {"auto", "given", "random", "leave-last", "temporal"}
        How interactions are split; ``"auto"`` is as they come or at random. The attribute is the `Split`.
    seed : int
        Of the split.
    raw_dir : str, optional
        Folder of named data sets. Default: ``$C2F_DGL_DATA``, or the user's data folder.
    transform : callable, optional
        Applied to the graph at every access.

    Examples
    --------
    >>> dataset = InteractionDataset("planted")
    >>> g = dataset[0]
    >>> g.num_nodes("user"), g.num_nodes("item")
    (1000, 800)
    >>> g.edges["interacts"].data["train_mask"].sum()
    tensor(22363)
    """

    def __init__(
        self,
        name: str,
        schema: GraphConfig | None = None,
        split: How = "auto",
        seed: int = 2024,
        raw_dir: str | None = None,
        transform=None,
    ) -> None:
        self.schema = schema or GraphConfig()
        self._how, self._seed = split, seed
        super().__init__(name=name, raw_dir=str(raw_dir or default_data_dir()), transform=transform)

    def _download(self) -> None:
        """Fetch a data set of the catalogue that is not there. DGL's own would make a folder for any."""
        card = CARDS.get(self.name)
        if card is not None and not is_here(card, self.raw_dir):
            fetch(card, self.raw_dir)

    def process(self) -> None:
        split = load_dataset(self.name, split=self._how, seed=self._seed, data_dir=self.raw_dir)
        self.split = read_side(split, self.schema, source_folder(self.name, self.raw_dir))
        self._graph = to_heterograph(self.split, self.schema)

    def __getitem__(self, idx: int) -> dgl.DGLGraph:
        if idx != 0:
            raise IndexError("this dataset has one graph")
        return self._graph if self._transform is None else self._transform(self._graph)

    def __len__(self) -> int:
        return 1
