"""Requests of every kind to the service, and what a model in this process answers them with."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import urlencode

import numpy as np

from c2f_dgl.serving import ServingModel, UserHistories

Case = tuple[tuple[str, str, str], dict[str, Any]]


def cases(model: ServingModel, users: UserHistories, n: int = 400) -> list[Case]:
    """Requests (method, target, body) of every kind, and what each is answered with."""
    rng, made = np.random.default_rng(0), list[Case]()
    for number in range(n):
        history = rng.choice(model.items.ids, rng.integers(60), replace=False).tolist()
        user, item, k = int(rng.choice(users.ids.ids)), int(rng.choice(model.items.ids)), int(rng.integers(1, 50))
        some = rng.choice(model.items.ids, 200, replace=False).tolist() if number % 4 == 0 else None
        rank = {"k": k, "exclude_seen": bool(number % 2)}
        theirs, explain, near = (
            model.items.ids[users.of([user]).columns].tolist(),
            {"item": item, "k": k},
            "similarities",
        )
        wanted = {"unknown": [], **_ranked(model.recommend(history, **rank, candidates=some))}
        made += [
            (("POST", "/recommend", json.dumps({"history": history, "candidates": some, **rank})), wanted),
            (("POST", "/explain", json.dumps({"history": history, **explain})), _terms(model, history, item, k)),
            (("GET", f"/recommend?{urlencode({'user': user, **rank})}", ""), _ranked(model.recommend(theirs, **rank))),
            (("GET", f"/explain?{urlencode({'user': user, **explain})}", ""), _terms(model, theirs, item, k)),
            (("GET", f"/similar?{urlencode(explain)}", ""), _ranked(model.similar_items(item, k), near)),
        ]
    return made


def _ranked(found: tuple[np.ndarray, np.ndarray], name: str = "scores") -> dict[str, Any]:
    return {"items": found[0].tolist(), name: found[1].tolist()}


def _terms(model: ServingModel, history: list[int], item: int, k: int) -> dict[str, Any]:
    found = model.explain(history, item)
    terms = zip(found.ids[:k].tolist(), found.contributions[:k].tolist(), strict=True)
    return {"score": found.score, "parts": [dict(zip(("item", "contribution"), term, strict=True)) for term in terms]}


def same(found: Any, wanted: Any) -> bool:
    """Whether everything wanted is there, numbers to nine digits."""
    if isinstance(wanted, dict):
        return all(same(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9) if isinstance(wanted, float) else found == wanted
