"""The application's answers are the model's, and whatever is sent it answers with a status below 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from c2f_dgl.service import Limits, Precomputed, create_app
from c2f_dgl.serving import Learned, ServingModel
from tests.serving.made import made, seen_of

LIMITS = Limits(k=15, users=4, history=6, candidates=5, id_length=20, body=2000)


@pytest.fixture(scope="module", params=["integers", "text", "precomputed"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[ServingModel, TestClient]]:
    model = made(t_user=2, text=request.param == "text")
    lists = Precomputed.of(model, 5) if request.param == "precomputed" else None
    with TestClient(create_app(model, LIMITS, precomputed=lists)) as client:
        yield model, client


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(made(), LIMITS)) as client:
        yield client


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[bool, TestClient]]:
    """Of a model that is propagated (False), and of one of final embeddings (True)."""
    model = made()
    table = {"user": model.embeddings.users, "item": model.embeddings.items}
    final = ServingModel(Learned((), (1.0,), table), model.interactions, model.users.ids, model.items.ids)
    with TestClient(create_app(model, LIMITS)) as one, TestClient(create_app(final, LIMITS)) as other:
        yield {False: one, True: other}


def found(response: Any) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def same(ids: list[Any], scores: list[float], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    n = int((wanted[1] > -np.inf).sum())
    assert ids == wanted[0][:n].tolist()
    np.testing.assert_allclose(scores, wanted[1][:n], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 5, 6, 15])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommend_one(served: tuple[ServingModel, TestClient], k: int, exclude_seen: bool) -> None:
    model, client = served
    for user in model.users.ids.tolist():
        query = {"user": user, "k": k, "exclude_seen": exclude_seen}
        answer = found(client.get("/recommend", params=query))
        assert answer["user"] == user
        same(answer["items"], answer["scores"], model.recommend(user, k, exclude_seen=exclude_seen))


def test_recommend_many_among_candidates(served: tuple[ServingModel, TestClient]) -> None:
    model, client = served
    users = model.users.ids[[3, 0, 3]].tolist()
    for candidates in (None, model.items.ids[[4, 2, 9]].tolist()):
        body = {"users": users, "k": 15, "exclude_seen": False, "candidates": candidates}
        answers = found(client.post("/recommend", json=body))["recommendations"]
        items, scores = model.recommend(users, 15, exclude_seen=False, candidates=candidates)
        assert [answer["user"] for answer in answers] == users
        for answer, *wanted in zip(answers, items, scores, strict=True):
            same(answer["items"], answer["scores"], (wanted[0], wanted[1]))


def test_lists_end_where_no_item_is_left(served: tuple[ServingModel, TestClient]) -> None:
    model, client = served
    row = int(np.argmax(model.interactions.counts))
    left = model.n_items - len(seen_of(model, row))
    user = model.users.ids[row].item()
    candidates = model.items.ids[[*seen_of(model, row)][:3]].tolist()
    answer = found(client.post("/recommend", json={"users": [user], "candidates": candidates}))
    assert answer["recommendations"] == [{"user": user, "items": [], "scores": []}]
    assert len(found(client.get("/recommend", params={"user": user, "k": 15}))["items"]) == min(15, left)


def test_fold_in(served: tuple[ServingModel, TestClient]) -> None:
    model, client = served
    for rows, exclude_seen in (([1, 4, 7], True), ([1, 4, 7], False), ([2], True)):
        history = model.items.ids[rows].tolist()
        answer = found(client.post("/fold-in", json={"items": history, "k": 4, "exclude_seen": exclude_seen}))
        items, scores = model.recommend_history([history], 4, exclude_seen=exclude_seen)
        same(answer["items"], answer["scores"], (items[0], scores[0]))


def test_similar(served: tuple[ServingModel, TestClient]) -> None:
    model, client = served
    item, user = model.items.ids[5], model.users.ids[2]
    answer = found(client.get("/similar/items", params={"item": item, "k": 7}))
    assert answer["item"] == item
    same(answer["items"], answer["similarities"], model.similar_items(item, 7))
    answer = found(client.get("/similar/users", params={"user": user, "k": 7}))
    assert answer["user"] == user
    same(answer["users"], answer["similarities"], model.similar_users(user, 7))


@pytest.mark.parametrize("k", [2, 15])
def test_explain_adds_up(served: tuple[ServingModel, TestClient], k: int) -> None:
    model, client = served
    user, item = model.users.ids[2].item(), model.items.ids[5]
    answer = found(client.get("/explain", params={"user": user, "item": item, "k": k}))
    wanted = model.explain(user, item)
    assert answer["score"] == pytest.approx(float(model.score(user, item)), rel=1e-5)
    assert sum(part["contribution"] for part in answer["parts"]) + answer["rest"] == pytest.approx(wanted.score)
    assert [part["id"] for part in answer["parts"]] == wanted.ids[:k].tolist()
    assert [part["kind"] for part in answer["parts"]] == wanted.kinds[:k].tolist()
    assert answer["parts"][0]["nodes"]["fine"] == wanted.to_frame()["fine"].map(list)[0]
    nodes = wanted.groups_frame("coarse")[:k]
    assert [part["node"] for part in answer["tiers"]["coarse"]] == nodes["node"].tolist()
    assert [part["contribution"] for part in answer["tiers"]["coarse"]] == pytest.approx(nodes["contribution"].tolist())


def test_health_says_when_it_stops() -> None:
    model = made()
    app = create_app(model, precomputed=Precomputed.of(model, 3))
    with TestClient(app) as client:
        wanted = {"status": "ok", "data": "made", "users": 30, "items": 20, "precomputed": 3}
        assert found(client.get("/health")) == wanted
        app.state.stopping = True
        response = client.get("/health")
        assert (response.status_code, response.json()["status"]) == (503, "stopping")
        assert client.get("/recommend", params={"user": 3}).status_code == 200


def test_metrics_count_by_route_and_status() -> None:
    with TestClient(create_app(made(), LIMITS)) as client:
        for user in (0, 1, 999):
            client.get("/recommend", params={"user": user})
        client.get("/no-such-place/1")
        client.get("/no-such-place/2")
        client.get("/recommend", params={"user": 0, "k": 0})
        response = client.get("/metrics")
    families = list(text_string_to_metric_families(response.text))
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }
    count = {
        (dict(labels)["endpoint"], dict(labels)["status"]): value
        for (name, *labels), value in samples.items()
        if name == "c2f_dgl_requests_total"
    }
    assert count == {
        ("/recommend", "200"): 2,
        ("/recommend", "404"): 1,
        ("/recommend", "422"): 1,
        ("other", "404"): 2,
    }
    assert samples["c2f_dgl_request_seconds_count", ("endpoint", "/recommend")] == 4
    assert samples["c2f_dgl_request_seconds_bucket", ("endpoint", "/recommend"), ("le", "+Inf")] == 4
    assert samples["c2f_dgl_requests_in_flight",] == 1
    assert samples["c2f_dgl_batch_queries_sum",] == 2
    assert samples["c2f_dgl_users",] == 30
    assert samples["c2f_dgl_model_info", ("data", "made"), ("fingerprint", "")] == 1


def test_openapi_describes_every_route(client: TestClient) -> None:
    described = found(client.get("/openapi.json"))
    assert described["openapi"].startswith("3.")
    assert set(described["paths"]) == {
        "/recommend",
        "/fold-in",
        "/similar/items",
        "/similar/users",
        "/explain",
        "/health",
        "/metrics",
    }
    k = next(one for one in described["paths"]["/recommend"]["get"]["parameters"] if one["name"] == "k")
    assert (k["schema"]["minimum"], k["schema"]["maximum"], k["schema"]["default"]) == (1, LIMITS.k, 10)
    # Every reference leads somewhere.
    text = json.dumps(described)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]
    assert "text/html" in client.get("/docs").headers["content-type"]


def test_a_list_looked_up_is_what_the_route_answers() -> None:
    """With `exclude_seen` said, the route answers."""
    for text in (False, True):
        model = made(text=text)
        with TestClient(create_app(model, LIMITS, precomputed=Precomputed.of(model, 5))) as client:
            for user in model.users.ids.tolist():
                short, long = (
                    client.get("/recommend", params={"user": user, "k": 4, **more})
                    for more in ({}, {"exclude_seen": True})
                )
                assert short.json() == long.json()
                assert short.content == long.content
                assert dict(short.headers) == dict(long.headers)


ODD_QUERIES = [
    "",
    "user=3&k=",
    "user=3&user=4",
    "user=3&k=2&k=3",
    "user=3&k=%31",
    "user=%33&k=+2",
    "user=3;k=2",
    "user=3&k=2&other=1",
    "user=3&k=00000002",
    "user=3&k=%C2%B2",
    "user=%ff",
    "user=3%00",
    "user=&k=2",
    "user=3&exclude_seen=false",
    "k=2",
    "user=3&k=1e1",
    "user=3&k=2.0",
    "user=3&k=1_0",
    "user=03",
    "user=+3",
    "&user=3&&k=2&",
    "user=3&=x",
    "user=3&k",
]


@pytest.mark.parametrize("query", [*ODD_QUERIES, "x" * 3000])
def test_an_odd_query_is_answered_alike_with_lists(query: str) -> None:
    model = made()
    answers = []
    for lists in (None, Precomputed.of(model, 20)):
        with TestClient(create_app(model, LIMITS, precomputed=lists)) as client:
            response = client.get(f"/recommend?{query}")
            answers.append((response.status_code, response.json().get("detail"), response.json().get("items")))
    assert answers[0] == answers[1]


BAD_QUERIES = [
    ("/recommend", {}, 422, "user"),
    ("/recommend", {"user": ""}, 422, "user"),
    ("/recommend", {"user": "0\0"}, 422, "user"),
    ("/recommend", {"user": "x" * 21}, 422, "user"),
    ("/recommend", {"user": "999"}, 404, "no user '999'"),
    ("/recommend", {"user": "-1"}, 404, "no user '-1'"),
    ("/recommend", {"user": "007"}, 404, "no user '007'"),
    ("/recommend", {"user": "9" * 19}, 404, "no user"),
    ("/recommend", {"user": "٣"}, 404, "no user"),
    ("/recommend", {"user": "3", "k": "0"}, 422, "k: "),
    ("/recommend", {"user": "3", "k": "16"}, 422, "k: "),
    ("/recommend", {"user": "3", "k": "ten"}, 422, "k: "),
    ("/recommend", {"user": "3", "exclude_seen": "perhaps"}, 422, "exclude_seen: "),
    ("/similar/items", {"item": "1"}, 404, "no item '1'"),
    ("/similar/users", {"user": "77"}, 404, "no user '77'"),
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
    ("/recommend", {"users": []}, 422, "users: "),
    ("/recommend", {"users": [0] * 5}, 422, "users: "),
    ("/recommend", {"users": 3}, 422, "users: "),
    ("/recommend", {"users": [True]}, 422, "users.0"),
    ("/recommend", {"users": [1.5]}, 422, "users.0"),
    ("/recommend", {"users": [None]}, 422, "users.0"),
    ("/recommend", {"users": [0, "one", 10**30]}, 404, "no user 'one'"),
    ("/recommend", {"users": [10**30]}, 404, "no user 1000"),
    ("/recommend", {"users": [0], "k": "3"}, 422, "k: "),
    ("/recommend", {"users": [0], "k": 16}, 422, "k: "),
    ("/recommend", {"users": [0], "candidates": []}, 422, "candidates: "),
    ("/recommend", {"users": [0], "candidates": [100] * 6}, 422, "candidates: "),
    ("/recommend", {"users": [0], "candidates": [1]}, 404, "no item 1"),
    ("/recommend", {"users": [0], "kk": 3}, 422, "kk: "),
    ("/fold-in", {"items": [100] * 7}, 422, "items: "),
    ("/fold-in", {"items": [100, "a\0"]}, 422, "items.1"),
    ("/fold-in", {"items": [100, 5]}, 404, "no item 5"),
    ("/fold-in", {}, 422, "items: "),
    ("/fold-in", {"items": []}, 422, "items: "),
    ("/fold-in", [1], 422, "body: "),
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
        (b'{"items": [' + b"1" * 1900 + b"]}", 404),
        (b'{"items": ["\\ud800"]}', 422),
        (b'{"items": [NaN]}', 422),
        (b'{"\\ud800": 1, "items": []}', 422),
        (b"[" * 1999, 400),
        (b" " * 2001, 413),
    ],
)
def test_bytes_that_are_no_request(client: TestClient, content: bytes, status: int) -> None:
    response = client.post("/fold-in", content=content, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert isinstance(response.json()["detail"], str)


def test_a_body_that_does_not_say_its_size_is_limited_too(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"items": ['
        for _ in range(30):
            yield b" " * 100
        yield b"]}"

    response = client.post("/fold-in", content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert "at most 2,000 bytes" in response.json()["detail"]


IDS = st.one_of(st.integers(), st.integers(0, 130), st.text(max_size=25), st.booleans(), st.floats(), st.none())


@pytest.mark.parametrize("final", [False, True], ids=["propagated", "final"])
@given(IDS, IDS, st.one_of(st.integers(), st.integers(-1, 17), st.text(max_size=3)), st.lists(IDS, max_size=8))
def test_no_input_is_an_error_of_the_server(
    clients: dict[bool, TestClient], final: bool, user: Any, item: Any, k: Any, some: list[Any]
) -> None:
    # TestClient raises what the application does not handle.
    client, query = clients[final], {"user": user, "item": item, "k": k}
    paths = ("/recommend", "/similar/items", "/similar/users", "/explain")
    responses = [client.get(path, params=query) for path in paths]
    for path, body in (
        ("/recommend", {"users": some, "candidates": some, "k": k}),
        ("/fold-in", {"items": some, "k": k}),
    ):
        responses.append(client.post(path, content=json.dumps(body), headers={"content-type": "application/json"}))
    for response in responses:
        assert response.status_code in (200, 404, 413, 422), response.text
        assert response.status_code == 200 or isinstance(response.json()["detail"], str)


def test_nobody_is_folded_into_final_embeddings(clients: dict[bool, TestClient]) -> None:
    response = clients[True].post("/fold-in", json={"items": [101]})
    assert response.status_code == 422
    assert "not propagated" in response.json()["detail"]


@given(
    st.integers(0, 29),
    st.integers(100, 119),
    st.integers(1, 15),
    st.lists(st.integers(100, 119), min_size=1, max_size=6),
)
def test_every_known_id_and_k_is_served(client: TestClient, user: int, item: int, k: int, history: list[int]) -> None:
    model = made()
    answer = found(client.get("/explain", params={"user": user, "item": item, "k": k}))
    np.testing.assert_allclose(answer["score"], model.score(user, item), rtol=1e-5, atol=1e-6)
    answer = found(client.get("/recommend", params={"user": user, "k": k}))
    same(answer["items"], answer["scores"], model.recommend(user, k))
    answer = found(client.post("/fold-in", json={"items": history, "k": k}))
    _, scores = model.recommend_history([history], k)
    np.testing.assert_allclose(answer["scores"], scores[0][scores[0] > -np.inf], rtol=1e-4, atol=1e-5)
