"""Other systems behind one interface: same graph, propagation, loss, sampler, trainer, early stop and evaluation.

How to add one
--------------
A system is one module here, with a tuple ``SYSTEMS``, and one line in `registry`. The module's docstring has the
source, the equations and every deviation. See ``full.py`` for the least there is and ``qr.py`` for a family.

1. **Settings.** A frozen pydantic class with the hyper-parameters: subclass `GradientSettings` (layers, lr, l2,
   batch_size, negatives, epochs, evaluate_every, patience) or `Settings`. Every field has a default, a constraint and a
   description.

2. **Embedding.** A `c2f_dgl.embedding.ComputedTable(layout)` whose ``table()`` gives all N x d input embeddings, users
   first, differentiable in its parameters. Override ``entity_rows(rows)`` where rows are cheaper than the table (it is
   what the L2 term penalises), and ``count_values()`` (a dict of learned values per part) and ``count_bytes()`` where
   what is stored is not simply every parameter: a pruned table counts its non-zeros and
   ``c2f_dgl.embedding.stored_bytes(matrix)``; helpers that are thrown away after training (controllers, policies,
   thresholds folded into the table) count nothing. State that a phase fixes (masks, sizes) is a registered buffer, so
   that it is part of the state that is kept. A model that is linear in one small codebook may be a
   `c2f_dgl.tiers.tiered.TieredEmbedding` instead and runs on the collapsed engine.

3. **train(context) -> Fitted.** `Context` has ``split``, ``graph``, ``values`` (the budget), ``settings``, ``seed``,
   ``rng(phase)``, ``generator(phase)``, ``device``, ``reporter``, ``deadline`` and ``share_of_time(share)``. Sizes
   follow from ``context.values``. The pieces, in `fitting`:

   - ``layout_of(context)``: users, then items.
   - ``build_model(context, embedding, n_layers)``: a `Recommender` (``model.embedding``, ``model.engine``,
     ``model.readout``, ``model.scorer()``).
   - ``train_phase(context, model, settings.training(), "phase", objective=..., parameters=..., after_step=...,
     after_epoch=..., keep="best" | "last", deadline=...)``: the package's trainer, in place, left in the best state on
     validation. ``objective(model, batch)`` replaces the loss of a step (the usual one is
     `c2f_dgl.training.loss.batch_loss(model, batch, "bpr", l2)`; add terms to it, or draw a mask first; within
     ``model.embedding.computed_once()`` it computes the table once, not twice);
     ``parameters`` are those its Adam updates; ``after_step()`` runs after each step (a second optimiser's update, an
     agent's); ``after_epoch(n)`` after each epoch, True ends the phase. Returns the phase's JSON-able record, to which
     more may be added (sizes, sparsity).
   - ``fit(context, embedding)``: all of it, for a system of one phase.
   - ``fitted(model, phases)``: the result, counted from the embedding.

   A system with a search has `searching.SearchSettings` and ``SEARCH_SPACE``, and runs the search by
   ``search_phase(context, model, "phase", share=0.5, objective=..., ...)``, which leaves the model in its last state.

   Search on ``split.train`` and ``split.valid`` only; never touch ``split.test``. With a deadline, give each phase its
   share: ``deadline=context.share_of_time(0.5)``.

4. **SYSTEMS.** ``System(name, title, source, defaults, train, space, budgeted=True)``; ``space`` is what ``--tune``
   draws from: `GRADIENT_SPACE` (lr, l2), with the system's own knobs added: ``{**GRADIENT_SPACE, "gamma": (...)}``.

5. **Tests** in ``tests/baselines/test_<module>.py``: the mechanism, and one training on ``planted`` above most-popular
   with the fixture ``planted_context`` of ``tests/baselines/conftest.py``.
"""
