"""What a study is: named variants of a configuration, each with the question it answers and its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from c2f_dgl.config.load import load_config
from c2f_dgl.config.schema import RunConfig

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Variant:
    """One configuration of a study.

    Parameters
    ----------
    name : str
        Letters, digits, dots and hyphens: also the stem of its files.
    overrides : tuple of str
        ``key=value`` as for ``--set``, after those of the study.
    asks : str
        A yes-or-no question about this variant against its controls; empty for what is only a control.
    controls : tuple of str
        Variants of the same study it is compared with; a yes needs a yes against each.
    yes_if : {"higher", "lower"}
        Which difference in accuracy to the controls is a yes.
    preset : str
    at : (str, float), optional
        Sweep it belongs to and its place there: a point of a curve instead of a row of a forest plot.
    """

    name: str
    overrides: tuple[str, ...] = ()
    asks: str = ""
    controls: tuple[str, ...] = ()
    yes_if: Direction = "higher"
    preset: str = "paper"
    at: tuple[str, float] | None = None


@dataclass(frozen=True)
class Study:
    """Variants that answer questions of one kind, on the same data and seeds.

    Parameters
    ----------
    name, title, about : str
        Of the command, of the section in docs/found.md, and its first paragraph.
    variants : tuple of Variant
        Controls first: they are run first.
    lengths : tuple of str
        Overrides of all variants, e.g. lengths of training. They come before a variant's own.
    """

    name: str
    title: str
    about: str
    variants: tuple[Variant, ...]
    lengths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"study {self.name}: two variants have the same name")
        for variant in self.variants:
            if missing := set(variant.controls) - set(names):
                raise ValueError(f"study {self.name}: {variant.name} has no control called {', '.join(missing)}")
            if bool(variant.asks) != bool(variant.controls):
                raise ValueError(f"study {self.name}: {variant.name} needs both a question and a control, or neither")

    def config(self, variant: Variant, data: str, seed: int) -> RunConfig:
        """The configuration of a run; sizes that are null are not yet resolved."""
        overrides = [*self.lengths, *variant.overrides, f"data.source={data}", f"seed={seed}"]
        return load_config(variant.preset, overrides)


@dataclass(frozen=True)
class Job:
    """One variant of a study on one data set with one seed."""

    study: str
    variant: Variant
    data: str
    seed: int
    config: RunConfig
