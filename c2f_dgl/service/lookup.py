"""The short way to a precomputed list: no routing, and no validation of what is known to be right."""

from __future__ import annotations

from urllib.parse import parse_qsl

from pydantic import TypeAdapter
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from c2f_dgl.service.limits import Limits
from c2f_dgl.service.queries import Precomputed, Ranking, UnknownError, known_rows
from c2f_dgl.service.replies import UserRecommendation
from c2f_dgl.serving import ServingModel

_REPLIES = TypeAdapter(UserRecommendation)


class LookUp:
    """ASGI middleware: answers ``GET /recommend?user=&k=`` from precomputed lists as its route would.

    Whatever is not plainly such a request goes on to the route, which refuses what cannot be answered.

    Parameters
    ----------
    app : ASGI application
    model : ServingModel
    precomputed : Precomputed
    limits : Limits
    route : BaseRoute
        Of ``GET /recommend``, under which requests are counted.
    """

    def __init__(
        self, app: ASGIApp, model: ServingModel, precomputed: Precomputed, limits: Limits, route: BaseRoute
    ) -> None:
        self.app, self.model, self.precomputed, self.limits, self.route = app, model, precomputed, limits, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = scope["type"] == "http" and scope["path"] == "/recommend" and scope["method"] == "GET"
        body = self._answer(scope["query_string"]) if plain else None
        if body is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = self.route
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, query: bytes) -> bytes | None:
        """The body of the response, None where the route has to look."""
        if len(query) > 1024:
            return None
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        given = dict(pairs)
        user, k = given.get("user", ""), given.get("k", "10")
        if len(given) < len(pairs) or not given.keys() <= {"user", "k"} or not 0 < len(user) <= self.limits.id_length:
            return None
        if not (k.isascii() and k.isdigit() and len(k) < 10 and 1 <= int(k) <= self.limits.k) or "\0" in user:
            return None
        try:
            row = int(known_rows(self.model.users, [user])[0])
        except UnknownError:
            return None
        found = self.precomputed.look_up(self.model, Ranking(row, int(k), True))
        if found is None:
            return None
        user_id = self.model.users.ids[[row]].tolist()[0]
        reply = UserRecommendation.model_construct(user=user_id, items=found.ids, scores=found.scores)
        return _REPLIES.dump_json(reply)
