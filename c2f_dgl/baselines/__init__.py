"""Other systems behind one interface: same graph, propagation, loss, sampler, trainer, early stop and evaluation.

How to add one
--------------
A system is one module here, with a tuple ``SYSTEMS``, and its name in `registry`. The module's docstring has the
source, the equations and every deviation. See ``full.py`` for the least there is and ``qr.py`` for a family.

1. **Settings.** A frozen pydantic class with the hyper-parameters: subclass `GradientSettings` or `Settings` of
   `system`. Every field has a default, a constraint and a description.

2. **Embedding.** A `c2f_dgl.tiers.embedding.ComputedTable(layout)` whose ``table()`` gives all N x d input
   embeddings, users first, differentiable in its parameters. Override ``count_values()`` (a dict of learned values
   per part) and ``count_bytes()`` where what is stored is not simply every parameter: a pruned table counts its
   non-zeros and ``c2f_dgl.tiers.embedding.stored_bytes(matrix)``; helpers that are thrown away after training
   (controllers, policies, thresholds) count nothing. State that a phase fixes (masks, sizes) is a registered buffer,
   so that it is part of the state that is kept. A model that is linear in one small codebook may be a
   `c2f_dgl.tiers.tiered.TieredEmbedding` instead and runs on the collapsed engine.

3. **train(context) -> Fitted.** From `system.Context`, with sizes that follow from ``context.values``, by the pieces
   of `fitting`: ``fit(context, embedding)`` is all of it for one phase; ``layout_of``, ``build_model``, ``train_phase``
   and ``fitted`` are its parts. A system with a search has `searching.SearchSettings` and ``SEARCH_SPACE``, and runs it
   by ``search_phase``. Search on ``split.train`` and ``split.valid`` only; never touch ``split.test``. Give each phase
   its share of the time: ``deadline=context.share_of_time(0.5)``.

4. **SYSTEMS.** ``System(name, title, source, defaults, train, space, budgeted=True)``; ``space`` is what ``--tune``
   draws from: `GRADIENT_SPACE` (lr, l2), with the system's own knobs added: ``{**GRADIENT_SPACE, "gamma": (...)}``.

5. **Tests** in ``tests/baselines/test_<module>.py``: the mechanism, and one training on ``planted`` above most-popular
   with the fixture ``planted_context`` of ``tests/baselines/conftest.py``.
"""
