"""Other systems behind one interface: same graph, propagation, loss, sampler, trainer, early stop and evaluation.

A system is one module with a tuple ``SYSTEMS`` of `system.System`, named in `registry`; its docstring has the source,
the equations and every deviation. ``full.py`` is the least there is, ``qr.py`` a family, docs/baselines.md an example.

- Settings: a frozen pydantic class (`system.GradientSettings`, `system.SearchSettings` for a search, or
  `system.Settings`); every field has a default, a constraint and a description.
- An embedding: a `c2f_dgl.tiers.embedding.ComputedTable`, or a `c2f_dgl.tiers.tiered.TieredEmbedding`, which runs on
  the collapsed engine. What is thrown away after training (controllers, policies, thresholds) counts no values; what a
  phase fixes (masks, sizes) is a registered buffer, and so part of the state that is kept.
- ``train(context) -> Fitted``, from the pieces of `fitting`: ``fit`` is all of it for one phase, ``search_phase`` and
  ``retrain`` are for a search, on ``split.train`` and ``split.valid`` only. ``context.within(0.5)`` gives a phase half
  of the time that is left.
"""
