"""The spectral start of a run: a codebook solved for, and the few scalars around it chosen on validation.

`start` says what is chosen in which order, `solution` solves for one cutoff and one weighting of relations, `variants`
scores many ways to rank with one solution at once, `walks` are the two orders in which values of a scalar are tried.
What is solved and why is in `c2f_dgl.tiers.spectral`.
"""

from c2f_dgl.training.spectral.start import SpectralStart, spectral_start

__all__ = ["SpectralStart", "spectral_start"]
