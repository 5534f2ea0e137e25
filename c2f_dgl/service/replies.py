"""Bodies of responses."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

Id = int | str


class Recommendation(BaseModel):
    """Best first; fewer than k where no more are left."""

    items: list[Id]
    scores: list[float]


class UserRecommendation(Recommendation):
    user: Id


class Recommendations(BaseModel):
    """In the order of the users that were asked for."""

    recommendations: list[UserRecommendation]


class SimilarItems(BaseModel):
    """Nearest first, by cosine."""

    item: Id
    items: list[Id]
    similarities: list[float]


class SimilarUsers(BaseModel):
    """Nearest first, by cosine."""

    user: Id
    users: list[Id]
    similarities: list[float]


class Part(BaseModel):
    """A term of the score: a history item, a meta-embedding, the user's input, a bias, rounding, filter or mean."""

    kind: str
    id: Id | None
    contribution: float
    nodes: dict[str, list[int]]


class NodePart(BaseModel):
    """What comes through one meta-embedding."""

    node: int
    contribution: float


class ExplanationReply(BaseModel):
    """The k largest terms of the score, and of each tier's; with `rest` the parts add up to the score."""

    user: Id
    item: Id
    score: float
    parts: list[Part]
    rest: float
    tiers: dict[str, list[NodePart]]


class Health(BaseModel):
    status: Literal["ok", "stopping"]
    data: str
    users: int
    items: int
    precomputed: int


class Problem(BaseModel):
    """One line: what is wrong, and what was expected."""

    detail: str
