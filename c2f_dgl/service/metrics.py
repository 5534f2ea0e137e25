"""Figures of a service in Prometheus form."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from c2f_dgl.serving import ServingModel

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service in a registry of their own.

    Parameters
    ----------
    model : ServingModel
        Described by ``c2f_dgl_model_info``, ``c2f_dgl_users`` and ``c2f_dgl_items``.
    """

    def __init__(self, model: ServingModel) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("c2f_dgl_requests", "Requests answered.", ["endpoint", "status"], registry=registry)
        self.seconds = Histogram(
            "c2f_dgl_request_seconds", "Time to answer.", ["endpoint"], buckets=_SECONDS, registry=registry
        )
        self.in_flight = Gauge("c2f_dgl_requests_in_flight", "Requests not answered yet.", registry=registry)
        self.batch = Histogram("c2f_dgl_batch_queries", "Queries computed together.", buckets=_SIZES, registry=registry)
        self._kept: dict[tuple[str, int], tuple[Any, Any]] = {}
        details = {name: str(model.details.get(name, "")) for name in ("data", "fingerprint")}
        Info("c2f_dgl_model", "The model served.", registry=registry).info(details)
        Gauge("c2f_dgl_users", "Users of the model.", registry=registry).set(model.n_users)
        Gauge("c2f_dgl_items", "Items of the model.", registry=registry).set(model.n_items)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = endpoint, status
        if key not in self._kept:  # there are few routes and statuses, and `labels` takes longer than counting
            self._kept[key] = self.requests.labels(endpoint, str(status)), self.seconds.labels(endpoint)
        requests, times = self._kept[key]
        requests.inc()
        times.observe(seconds)


class Measured:
    """ASGI middleware that counts and times requests by route, not by path: there are few routes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        metrics = self.metrics
        metrics.in_flight.inc()
        try:
            await self.app(scope, receive, watched)
        finally:
            metrics.in_flight.dec()
            endpoint = getattr(scope.get("route"), "path", "other")
            metrics.answered(endpoint, status, time.perf_counter() - started)
