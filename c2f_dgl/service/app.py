"""The web application: routes from HTTP to a `ServingModel`."""

# Annotations are evaluated where they stand, for they hold the limits: no `from __future__ import annotations` here.

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints

from c2f_dgl.errors import InputError
from c2f_dgl.service import queries
from c2f_dgl.service.batching import Batcher, Gate, OverloadedError
from c2f_dgl.service.limits import BodyLimit, Limits
from c2f_dgl.service.lookup import LookUp
from c2f_dgl.service.metrics import Measured, Metrics
from c2f_dgl.service.queries import FoldIn, Neighbours, Precomputed, Ranked, Ranking, UnknownError, known_rows
from c2f_dgl.service.replies import (
    ExplanationReply,
    Health,
    NodePart,
    Part,
    Problem,
    Recommendation,
    Recommendations,
    SimilarItems,
    SimilarUsers,
    UserRecommendation,
)
from c2f_dgl.serving import Explanation, ServingModel

_MOST_BATCHED = 64
_DESCRIPTION = "Recommendations, neighbours and explanations. Ids are those of the training data."


def create_app(model: ServingModel, limits: Limits | None = None, *, precomputed: Precomputed | None = None) -> FastAPI:
    """A web application that serves a model.

    Parameters
    ----------
    model : ServingModel
    limits : Limits, optional
    precomputed : Precomputed, optional
        Lists to look up: what they answer is not computed.

    Returns
    -------
    FastAPI
        While ``app.state.stopping`` is true it answers as ever, but asks clients to close their connections, and
        ``/health`` is 503.
    """
    limits = limits or Limits()
    metrics = Metrics(model)
    # One thread computes: two would read the items twice, and BLAS has threads of its own.
    executor = ThreadPoolExecutor(1, thread_name_prefix="ranking")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        executor.shutdown()

    problems: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (404, 408, 413, 422, 503)}
    app = FastAPI(
        title="c2f_dgl", description=_DESCRIPTION, lifespan=lifespan, responses=problems, docs_url=None, redoc_url=None
    )
    app.state.stopping = False
    app.add_middleware(BodyLimit, most=limits.body, seconds=limits.read_timeout)
    app.add_exception_handler(RequestValidationError, _unusable)
    app.add_exception_handler(UnknownError, _unknown)
    app.add_exception_handler(OverloadedError, _overloaded)
    app.add_exception_handler(InputError, _impossible)
    _add_ranking(app, model, limits, executor, metrics, precomputed)
    _add_state(app, model, metrics, precomputed)
    _add_documentation(app)
    if precomputed is not None:
        route = next(one for one in app.routes if getattr(one, "name", None) == "recommend")
        app.add_middleware(LookUp, model=model, precomputed=precomputed, limits=limits, route=route)
    app.add_middleware(Measured, metrics=metrics)
    return app


def _add_ranking(
    app: FastAPI,
    model: ServingModel,
    limits: Limits,
    executor: ThreadPoolExecutor,
    metrics: Metrics,
    precomputed: Precomputed | None,
) -> None:
    K = Annotated[int, Query(ge=1, le=limits.k, description="How many.")]
    # An artifact's ids are stored with NUL between them, so no id holds one.
    text = StringConstraints(min_length=1, max_length=limits.id_length, pattern=r"^[^\x00]*$")
    QueryId = Annotated[str, text]
    BodyId = StrictInt | Annotated[str, text]

    class Body(BaseModel):
        model_config = ConfigDict(extra="forbid")
        k: Annotated[StrictInt, Field(ge=1, le=limits.k)] = 10
        exclude_seen: StrictBool = True

    class RecommendBody(Body):
        users: Annotated[list[BodyId], Field(min_length=1, max_length=limits.users)]
        candidates: Annotated[list[BodyId] | None, Field(min_length=1, max_length=limits.candidates)] = None

    class FoldInBody(Body):
        items: Annotated[list[BodyId], Field(min_length=1, max_length=limits.history)]

    gate = Gate(limits.waiting, limits.timeout)

    def batched(answer: Callable[..., list[Ranked]]) -> Batcher[Any, Ranked]:
        return Batcher(executor, partial(answer, model), _MOST_BATCHED, metrics.batch.observe)

    recommending, folding = batched(queries.recommend), batched(queries.fold_in)
    near_items, near_users = batched(queries.similar_items), batched(queries.similar_users)

    async def computed(call: Callable[..., Any], *given: Any) -> Any:
        return await gate(lambda: asyncio.get_running_loop().run_in_executor(executor, call, *given))

    @app.get("/recommend")
    async def recommend(user: QueryId, k: K = 10, exclude_seen: bool = True) -> UserRecommendation:
        """The k best items of a user."""
        query = Ranking(int(known_rows(model.users, [user])[0]), k, exclude_seen)
        found = None if precomputed is None else precomputed.look_up(model, query)
        if found is None:
            found = await gate(lambda: recommending.ask(query))
        return UserRecommendation(user=_id(model.users.ids, query.row), items=found.ids, scores=found.scores)

    @app.post("/recommend")
    async def recommend_many(body: RecommendBody) -> Recommendations:
        """The k best items of several users, of all items or of candidates."""
        ask = partial(queries.recommend_many, model, body.users, body.k, body.exclude_seen, body.candidates)
        users, found = await computed(ask)
        return Recommendations(
            recommendations=[
                UserRecommendation(user=user, items=one.ids, scores=one.scores)
                for user, one in zip(users, found, strict=True)
            ]
        )

    @app.post("/fold-in")
    async def fold_in(body: FoldInBody) -> Recommendation:
        """The k best items for someone known only by these items; nothing is kept."""
        query = FoldIn(known_rows(model.items, body.items), body.k, body.exclude_seen)
        found = await gate(lambda: folding.ask(query))
        return Recommendation(items=found.ids, scores=found.scores)

    @app.get("/similar/items")
    async def similar_items(item: QueryId, k: K = 10) -> SimilarItems:
        """The k items nearest to an item."""
        query = Neighbours(int(known_rows(model.items, [item])[0]), k)
        found = await gate(lambda: near_items.ask(query))
        return SimilarItems(item=_id(model.items.ids, query.row), items=found.ids, similarities=found.scores)

    @app.get("/similar/users")
    async def similar_users(user: QueryId, k: K = 10) -> SimilarUsers:
        """The k users nearest to a user."""
        query = Neighbours(int(known_rows(model.users, [user])[0]), k)
        found = await gate(lambda: near_users.ask(query))
        return SimilarUsers(user=_id(model.users.ids, query.row), users=found.ids, similarities=found.scores)

    @app.get("/explain")
    async def explain(user: QueryId, item: QueryId, k: K = 10) -> ExplanationReply:
        """Through which items and meta-embeddings a user's score of an item comes."""
        u, i = int(known_rows(model.users, [user])[0]), int(known_rows(model.items, [item])[0])
        found = await computed(model.explain, model.users.ids[u], model.items.ids[i])
        return _explained(found, k)


def _add_state(app: FastAPI, model: ServingModel, metrics: Metrics, precomputed: Precomputed | None) -> None:
    @app.get("/health")
    async def health(response: Response) -> Health:
        """Whether the service takes requests: 503 once it stops."""
        stopping = app.state.stopping
        response.status_code = 503 if stopping else 200
        return Health(
            status="stopping" if stopping else "ok",
            data=str(model.details.get("data", "")),
            users=model.n_users,
            items=model.n_items,
            precomputed=0 if precomputed is None else precomputed.rows.shape[1],
        )

    @app.get("/metrics", response_class=Response)
    async def figures() -> Response:
        """Counts and times in Prometheus form."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_documentation(app: FastAPI) -> None:
    """The page at ``/docs``, with Swagger UI from here and not, as FastAPI's own, from a public host."""
    app.mount("/docs/files", StaticFiles(packages=[("fastapi_offline", "static")]))

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/files/swagger-ui-bundle.js",
            swagger_css_url="docs/files/swagger-ui.css",
            swagger_favicon_url="data:,",
        )


def _explained(found: Explanation, k: int) -> ExplanationReply:
    parts = [
        Part(
            kind=found.kinds[n],
            id=_plain(found.ids[n]),
            contribution=float(found.contributions[n]),
            nodes={tier: [node for node in nodes[n].tolist() if node >= 0] for tier, nodes in found.nodes.items()},
        )
        for n in range(min(k, len(found.contributions)))
    ]
    tiers = {}
    for tier, group in found.groups.items():
        largest = np.argsort(-np.abs(group), kind="stable")[:k]
        tiers[tier] = [NodePart(node=int(node), contribution=float(group[node])) for node in largest if group[node]]
    return ExplanationReply(
        user=_plain(found.user),
        item=_plain(found.item),
        score=found.score,
        parts=parts,
        rest=float(found.contributions[len(parts) :].sum()),
        tiers=tiers,
    )


def _id(ids: np.ndarray, row: int) -> Any:
    return _plain(ids[row])


def _plain(value: Any) -> Any:
    """A Python int for one of numpy's."""
    return int(value) if isinstance(value, np.integer) else value


# One line each, and nothing of the input that may not be text; the first problem says enough.


def _unusable(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"detail": "the body is not valid JSON"}, 422)
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return JSONResponse({"detail": f"{_printable(place)}: {first['msg'][0].lower()}{first['msg'][1:]}"}, 422)


def _impossible(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": _printable(str(error))}, 422)


def _unknown(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": _printable(str(error))}, 404)


def _overloaded(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "1"})


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()[:200]
