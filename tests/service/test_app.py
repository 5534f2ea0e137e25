"""The application's answers are the model's, and whatever is sent it answers with a status below 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.service import create_app
from c2f_dgl.serving import ServingModel, UserHistories
from tests.serving.coded import coded


def users_of(model: ServingModel) -> UserHistories:
    rng = np.random.default_rng(1)
    pairs = rng.integers(0, 30, 90), model.items.ids[rng.integers(0, model.n_items, 90)]
    return UserHistories.none(model.items).added(pairs)


@pytest.fixture(scope="module", params=["integers", "text", "table"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[ServingModel, UserHistories, TestClient]]:
    model = coded(text=request.param == "text", structure="table" if request.param == "table" else "mixed")
    users = users_of(model)
    with TestClient(create_app(model, users)) as client:
        yield model, users, client


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(coded(), users_of(coded()))) as client:
        yield client


def found(response: Any) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def same(answer: Any, wanted: tuple[np.ndarray, np.ndarray], scores: str = "scores") -> None:
    assert answer["items"] == wanted[0].tolist()
    np.testing.assert_allclose(answer[scores], wanted[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 6, 20])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommend(served: tuple[ServingModel, UserHistories, TestClient], k: int, exclude_seen: bool) -> None:
    model, users, client = served
    options = {"k": k, "exclude_seen": exclude_seen}
    for user in users.ids.ids.tolist():
        history = model.items.ids[users.of([user]).columns].tolist()
        wanted = model.recommend(history, **options)
        same(found(client.get("/recommend", params={"user": user, **options})), wanted)
        same(found(client.post("/recommend", json={"history": history, **options})), wanted)
    assert len(found(client.post("/recommend", json={"history": [], "k": 7}))["items"]) == 7


def test_recommend_among_candidates_and_past_what_is_unknown(
    served: tuple[ServingModel, UserHistories, TestClient],
) -> None:
    model, _, client = served
    history, candidates = model.items.ids[[3, 1, 3]].tolist(), model.items.ids[[4, 2, 9, 1]].tolist()
    unknown = ["nobody knows", 999, 2**64 - 1, -(10**1900)]
    body = {"history": [*history, *unknown], "candidates": candidates}
    answer = found(client.post("/recommend", json=body))
    same(answer, model.recommend(history, candidates=candidates))
    assert answer["unknown"] == unknown and len(answer["items"]) == 3
    answer = found(client.post("/recommend", json={"history": history, "candidates": history}))
    assert answer == {"items": [], "scores": [], "unknown": []}


def test_similar_and_explain(served: tuple[ServingModel, UserHistories, TestClient]) -> None:
    model, users, client = served
    item, user = model.items.ids[5], int(users.ids.ids[2])
    same(found(client.get("/similar", params={"item": item, "k": 7})), model.similar_items(item, 7), "similarities")
    history = model.items.ids[users.of([user]).columns].tolist()
    wanted = model.explain(history, item)
    for k in (1, 20):
        answers = [
            found(client.get("/explain", params={"user": user, "item": item, "k": k})),
            found(client.post("/explain", json={"history": history, "item": model.items.ids[[5]].tolist()[0], "k": k})),
        ]
        for answer in answers:
            assert answer["score"] == pytest.approx(wanted.score)
            assert sum(part["contribution"] for part in answer["parts"]) + answer["rest"] == pytest.approx(wanted.score)
            assert [part["item"] for part in answer["parts"]] == wanted.ids[:k].tolist()
            part = answer["parts"][0]
            assert sum(part["levels"]) + part["neighbour"] == pytest.approx(part["contribution"])


def test_nobody_else_hears_of_a_bad_request() -> None:
    with TestClient(create_app(coded())) as client, ThreadPoolExecutor(8) as pool:
        bodies = [{"history": [100, 101], **({"candidates": [1]} if n % 3 == 0 else {})} for n in range(60)]
        statuses = list(pool.map(lambda body: client.post("/recommend", json=body).status_code, bodies))
    assert statuses == [404 if n % 3 == 0 else 200 for n in range(60)]


def test_without_users_only_histories_are_served() -> None:
    with TestClient(create_app(coded())) as client:
        assert found(client.get("/health")) == {"status": "ok", "data": "made", "items": 20, "users": 0}
        response = client.get("/recommend", params={"user": 3})
        assert response.status_code == 404 and "--users FILE" in response.json()["detail"]


def test_openapi_describes_every_route(client: TestClient) -> None:
    described = found(client.get("/openapi.json"))
    assert set(described["paths"]) == {"/recommend", "/similar", "/explain", "/health"}
    k = next(one for one in described["paths"]["/recommend"]["get"]["parameters"] if one["name"] == "k")
    assert (k["schema"]["minimum"], k["schema"]["maximum"], k["schema"]["default"]) == (1, 1000, 10)
    # Every reference leads somewhere.
    text = json.dumps(described)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]
    assert "text/html" in client.get("/docs").headers["content-type"]


@pytest.mark.parametrize(("path", "allowed"), [("/recommend", "GET, POST"), ("/similar", "GET")])
def test_another_method_is_told_which_there_are(client: TestClient, path: str, allowed: str) -> None:
    response = client.delete(path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json() == {"detail": "method not allowed"}


BAD_QUERIES = [
    ("/recommend", {}, 422, "user"),
    ("/recommend", {"user": ""}, 422, "user"),
    ("/recommend", {"user": "x" * 257}, 422, "user"),
    ("/recommend", {"user": "999"}, 404, "no user '999'"),
    ("/recommend", {"user": "-1"}, 404, "no user '-1'"),
    ("/recommend", {"user": "007"}, 404, "no user '007'"),
    ("/recommend", {"user": "9" * 19}, 404, "no user"),
    ("/recommend", {"user": "0\0"}, 404, "no user"),
    ("/recommend", {"user": "٣"}, 404, "no user"),
    ("/recommend", {"user": "3", "k": "0"}, 422, "k: "),
    ("/recommend", {"user": "3", "k": "1001"}, 422, "k: "),
    ("/recommend", {"user": "3", "k": "ten"}, 422, "k: "),
    ("/recommend", {"user": "3", "exclude_seen": "perhaps"}, 422, "exclude_seen: "),
    ("/similar", {"item": "1"}, 404, "no item '1'"),
    ("/explain", {"user": "1", "item": "1"}, 404, "no item '1'"),
    ("/explain", {"user": "1"}, 422, "item: "),
]


@pytest.mark.parametrize(("path", "query", "status", "problem"), BAD_QUERIES)
def test_a_bad_query_is_said_in_one_line(
    client: TestClient, path: str, query: dict[str, str], status: int, problem: str
) -> None:
    response = client.get(path, params=query)
    assert response.status_code == status
    assert response.json()["detail"].startswith(problem) and "\n" not in response.json()["detail"]


BAD_BODIES = [
    ("/recommend", {}, 422, "history: "),
    ("/recommend", {"history": 3}, 422, "history: "),
    ("/recommend", {"history": "abc"}, 422, "history: "),
    ("/recommend", {"history": [True]}, 422, "history.0"),
    ("/recommend", {"history": [1.5]}, 422, "history.0"),
    ("/recommend", {"history": [None]}, 422, "history.0"),
    ("/recommend", {"history": [100] * 10_001}, 422, "history: "),
    ("/recommend", {"history": [100], "k": "3"}, 422, "k: "),
    ("/recommend", {"history": [100], "k": 1001}, 422, "k: "),
    ("/recommend", {"history": [100], "candidates": []}, 422, "candidates: "),
    ("/recommend", {"history": [100], "candidates": [1]}, 404, "no item 1"),
    ("/recommend", {"history": [100], "kk": 3}, 422, "kk: "),
    ("/explain", {"history": [100], "item": 5}, 404, "no item 5"),
    ("/explain", {"history": [100], "item": 2**64 + 100}, 404, "no item 18446744073709551716"),
    ("/explain", {"history": [100]}, 422, "item: "),
    ("/recommend", [1], 422, "body: "),
]


@pytest.mark.parametrize(("path", "body", "status", "problem"), BAD_BODIES)
def test_a_bad_body_is_said_in_one_line(client: TestClient, path: str, body: Any, status: int, problem: str) -> None:
    response = client.post(path, json=body)
    assert response.status_code == status
    assert response.json()["detail"].startswith(problem) and "\n" not in response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b'{"history": [' + b"1" * 5000 + b"]}", 400),
        (b'{"history": ["\\ud800"]}', 422),
        (b'{"history": [NaN]}', 422),
        (b'{"\\ud800": 1, "history": []}', 422),
        (b"[" * 100_000, 400),
    ],
)
def test_bytes_that_are_no_request(client: TestClient, content: bytes, status: int) -> None:
    response = client.post("/recommend", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, type(response.json()["detail"])) == (status, str)


IDS = st.one_of(st.integers(), st.integers(0, 130), st.text(max_size=25), st.booleans(), st.floats(), st.none())


@given(IDS, IDS, st.one_of(st.integers(), st.integers(-1, 17), st.text(max_size=3)), st.lists(IDS, max_size=8))
def test_no_input_is_an_error_of_the_server(client: TestClient, user: Any, item: Any, k: Any, some: list[Any]) -> None:
    # TestClient raises what the application does not handle.
    query = {"user": user, "item": item, "k": k}
    responses = [client.get(path, params=query) for path in ("/recommend", "/similar", "/explain")]
    for path, body in (
        ("/recommend", {"history": some, "candidates": some, "k": k}),
        ("/recommend", {"history": some}),
        ("/explain", {"history": some, "item": item, "k": k}),
    ):
        responses.append(client.post(path, content=json.dumps(body), headers={"content-type": "application/json"}))
    for response in responses:
        assert response.status_code in (200, 404, 422), response.text
        assert response.status_code == 200 or isinstance(response.json()["detail"], str)
