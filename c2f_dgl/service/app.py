"""The web application: routes from HTTP to a `ServingModel`.

Limits of connections, of bodies and of slow clients, encryption and counting are a reverse proxy's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from c2f_dgl.errors import InputError
from c2f_dgl.service.batching import Batcher, OverloadedError
from c2f_dgl.serving import Csr, Explanation, ServingModel, UserHistories

MOST_K, MOST_ITEMS = 1000, 10_000

# Paths of what workers serve, in the environment.
MODEL, USERS = "C2F_DGL_MODEL", "C2F_DGL_USERS"

Text = Annotated[str, Field(min_length=1, max_length=256)]
Id = StrictInt | Text
K = Annotated[int, Query(ge=1, le=MOST_K)]


class History(BaseModel):
    """Someone known only by these items; nothing is kept."""

    model_config = ConfigDict(extra="forbid")
    history: Annotated[list[Id], Field(max_length=MOST_ITEMS)]
    k: Annotated[StrictInt, Field(ge=1, le=MOST_K)] = 10


class Asked(History):
    """A history, and which items are to be ranked for it."""

    exclude_seen: StrictBool = True
    candidates: Annotated[list[Id], Field(min_length=1, max_length=MOST_ITEMS)] | None = None


class Explained(History):
    """A history, and which item's score is to be explained by it."""

    item: Id


class Ranked(BaseModel):
    """Best first, fewer than k where no more are left; items of the history that are unknown."""

    items: list[int | str]
    scores: list[float]
    unknown: list[int | str] = []


class Similar(BaseModel):
    """Nearest first, by cosine."""

    items: list[int | str]
    similarities: list[float]


class Part(BaseModel):
    """What an item of the history adds, and what of it through each meta-embedding, the coarse first."""

    item: int | str
    contribution: float
    levels: list[float]
    neighbour: float


class Explaining(BaseModel):
    """The k largest terms of the score; with `rest` they add up to it."""

    item: int | str
    score: float
    parts: list[Part]
    rest: float


class Health(BaseModel):
    """What is served."""

    status: str
    data: str
    items: int
    users: int


class Problem(BaseModel):
    """One line: what is wrong, and what was expected."""

    detail: str


class UnknownError(LookupError):
    """An id that is not known."""


@dataclass(frozen=True)
class _Query:
    """The k best items for a history of rows."""

    history: np.ndarray
    k: int
    exclude_seen: bool
    candidates: tuple[int | str, ...] | None = None


def create_app(model: ServingModel, users: UserHistories | None = None) -> FastAPI:
    """A web application that serves a model, and users by id where their histories are given."""
    problems: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (400, 404, 405, 422, 503)}
    description = "Recommendations from histories, and why. Ids are those of the data."
    app = FastAPIOffline(title="c2f_dgl", description=description, responses=problems, redoc_url=None)
    ranking: Batcher[_Query, dict[str, Any]] = Batcher(partial(_ranked, model))
    for kind, response in _PROBLEMS.items():
        app.add_exception_handler(kind, response)

    @app.get("/recommend", response_model=Ranked)
    async def recommend_user(user: Text, k: K = 10, exclude_seen: bool = True) -> JSONResponse:
        """The k best items of a user whose history the service holds."""
        return JSONResponse(await ranking.ask(_Query(_history_of(users, user), k, exclude_seen)))

    @app.post("/recommend", response_model=Ranked)
    async def recommend(body: Asked) -> JSONResponse:
        """The k best items for a history, of all items or of candidates."""
        rows, unknown = _rows(model, body.history)
        candidates = None if body.candidates is None else tuple(body.candidates)
        _known(model, candidates or ())  # refused here, where it concerns nobody else of a batch
        answer = await ranking.ask(_Query(rows, body.k, body.exclude_seen, candidates))
        return JSONResponse({**answer, "unknown": unknown})

    @app.get("/similar", response_model=Similar)
    def similar(item: Text, k: K = 10) -> JSONResponse:
        """The k items nearest to an item."""
        items, similarities = model.similar_items(model.items.ids[_row(model, item)], k)
        return JSONResponse({"items": items.tolist(), "similarities": similarities.tolist()})

    @app.get("/explain", response_model=Explaining)
    def explain_user(user: Text, item: Text, k: K = 10) -> JSONResponse:
        """Through which items of a user's history the score of an item comes."""
        return JSONResponse(_explained(model.explain_rows(_history_of(users, user), _row(model, item)), k))

    @app.post("/explain", response_model=Explaining)
    def explain(body: Explained) -> JSONResponse:
        """Through which items of a history the score of an item comes."""
        rows, _ = _rows(model, body.history)
        return JSONResponse(_explained(model.explain_rows(rows, _row(model, body.item)), body.k))

    @app.get("/health", response_model=Health)
    async def health() -> JSONResponse:
        """Whether the service takes requests, and what is served."""
        counts = {"items": model.n_items, "users": 0 if users is None else len(users)}
        return JSONResponse({"status": "ok", "data": str(model.details.get("data", "")), **counts})

    return app


def app_of_environment() -> FastAPI:
    """`create_app` of the files that C2F_DGL_MODEL and C2F_DGL_USERS name, for a process that does nothing else."""
    sys.setswitchinterval(5e-4)  # ranking and the event loop hand the interpreter to each other every few products
    model, users = ServingModel.load(os.environ[MODEL]), os.environ.get(USERS)
    return create_app(model, UserHistories.load(users, model.items) if users else None)


def _ranked(model: ServingModel, queries: Sequence[_Query]) -> list[dict[str, Any]]:
    """Answers of queries: those that ask for the same kind of items are ranked together."""
    answers: list[dict[str, Any]] = [{}] * len(queries)
    groups: dict[tuple[bool, tuple[int | str, ...] | None], list[int]] = {}
    for number, query in enumerate(queries):
        groups.setdefault((query.exclude_seen, query.candidates), []).append(number)
    for (exclude_seen, candidates), numbers in groups.items():
        group = [queries[number] for number in numbers]
        columns = np.concatenate([query.history for query in group])
        histories = Csr.from_counts(np.array([len(query.history) for query in group]), columns, model.n_items)
        k = max(query.k for query in group)
        items, scores = model.recommend_rows(histories, k, exclude_seen=exclude_seen, candidates=candidates)
        # A longer list begins with the shorter one.
        for row, (number, query) in enumerate(zip(numbers, group, strict=True)):
            n = int((scores[row, : query.k] > -np.inf).sum())
            answers[number] = {"items": items[row, :n].tolist(), "scores": scores[row, :n].tolist()}
    return answers


def _rows(model: ServingModel, history: list[Any]) -> tuple[np.ndarray, list[Any]]:
    """Rows of the items of a history, each once, and those that are unknown."""
    rows = model.items.find(history)
    unknown = [item for item, row in zip(history, rows.tolist(), strict=True) if row < 0]
    distinct = rows[np.sort(np.unique(rows, return_index=True)[1])]
    return distinct[distinct >= 0], unknown


def _known(model: ServingModel, items: Sequence[int | str]) -> np.ndarray:
    rows = model.items.find(items)
    if (rows < 0).any():
        raise UnknownError(f"no item {items[int(np.argmin(rows))]!r}")
    return rows


def _row(model: ServingModel, item: int | str) -> int:
    return int(_known(model, [item])[0])


def _history_of(users: UserHistories | None, user: str) -> np.ndarray:
    if users is None:
        raise UnknownError("no users are served (expected c2f-dgl serve MODEL --users FILE, or POST with a history)")
    row = users.ids.find([user])
    if row[0] < 0:
        raise UnknownError(f"no user {user!r}")
    return users.histories.take(row).columns


def _explained(explanation: Explanation, k: int) -> dict[str, Any]:
    columns = (explanation.ids, explanation.contributions, explanation.levels, explanation.neighbours)
    parts = [
        dict(zip(("item", "contribution", "levels", "neighbour"), values, strict=True))
        for values in zip(*(column[:k].tolist() for column in columns), strict=True)
    ]
    item = explanation.item if isinstance(explanation.item, str) else int(explanation.item)
    rest = float(explanation.contributions[k:].sum())
    return {"item": item, "score": explanation.score, "parts": parts, "rest": rest}


# One line each, and nothing of the input that may not be text; the first problem says enough.


def _problem(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": text.encode("utf-8", "backslashreplace").decode()[:200]}, status, headers)


def _unusable(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _problem(422, "the body is not valid JSON")
    field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return _problem(422, f"{field}: {first['msg'][0].lower()}{first['msg'][1:]}")


def _not_allowed(request: Request, _: Exception) -> JSONResponse:
    """405 with the methods of all routes of the path: starlette names those of the first alone."""
    path = request.url.path
    allowed = {method for route in request.app.routes if route.path == path for method in route.methods}
    return _problem(405, "method not allowed", {"Allow": ", ".join(sorted(allowed))})


_PROBLEMS: dict[int | type[Exception], Any] = {
    405: _not_allowed,
    RequestValidationError: _unusable,
    UnknownError: lambda _, error: _problem(404, str(error)),
    InputError: lambda _, error: _problem(422, str(error)),
    OverloadedError: lambda _, error: _problem(503, str(error), {"Retry-After": "1"}),
}
