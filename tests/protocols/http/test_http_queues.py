"""Queues over HTTP: declared, looked at, emptied, deleted."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocols.http import deliveries, queues
from tests.protocols.http.http_support import Running


async def put(running: Running, target: str, **wanted: Any) -> tuple[int, Any]:
    answer = await running.client.put(f"/v1/queues/{target}", json=wanted)
    return (answer.status_code, answer.json())


async def test_created_then_the_same_then_a_conflict(running: Running) -> None:
    status, shown = await put(running, "jobs", bindings=["jobs/#"], policy={"delivery_limit": 3})
    assert status == 201
    assert (shown["name"], shown["kind"], shown["durable"], shown["auto_delete"]) == (
        "jobs",
        "classic",
        True,
        False,
    )
    assert shown["bindings"] == ["jobs/#"]
    assert shown["policy"]["delivery_limit"] == 3
    assert (await put(running, "jobs", bindings=["jobs/#"], policy={"delivery_limit": 3}))[0] == 200
    assert (await put(running, "jobs"))[0] == 200, "what is not said is as it is"
    for difference, named in (
        ({"kind": "stream"}, "classic"),
        ({"durable": False}, "durable"),
        ({"auto_delete": True}, "auto_delete"),
        ({"policy": {"delivery_limit": 4}}, "delivery_limit is 3, not 4"),
    ):
        status, problem = await put(running, "jobs", **difference)
        assert (status, problem["type"]) == (409, "/docs#conflict")
        assert named in problem["detail"]
    status, shown = await put(running, "jobs?update=true", policy={"delivery_limit": 4}, bindings=["more"])
    assert (status, shown["policy"]["delivery_limit"], shown["bindings"]) == (200, 4, ["jobs/#", "more"])


async def test_a_name_may_have_slashes_and_any_unicode(running: Running) -> None:
    assert (await put(running, "a%2Fb%20%C3%A9"))[1]["name"] == "a/b é"
    assert (await running.client.get("/v1/queues/a%2Fb%20%C3%A9")).json()["name"] == "a/b é"
    answer = await running.client.delete("/v1/queues/a%2Fb%20%C3%A9")
    assert answer.status_code == 204
    assert "a/b é" not in running.broker.catalog.queues


@pytest.mark.parametrize(
    ("target", "body", "status", "named"),
    [
        ("$x", {}, 403, "begin with $"),
        ("a%2B", {}, 400, "wildcard"),
        ("q", {"kind": "heap"}, 422, "kind"),
        ("q", {"durable": "yes"}, 422, "durable"),
        ("q", {"nope": 1}, 422, "nope"),
        ("q", {"policy": {"nope": 1}}, 422, "nope"),
        ("q", {"policy": {"ttl_ms": -1}}, 422, "ttl_ms"),
        ("q", {"bindings": ["a/#/b"]}, 400, "#"),
        ("q", {"bindings": ["secret/#"]}, 403, "secret/#"),
        ("q", {"bindings": ["$queue/other"]}, 403, "$queue/other"),
        ("secret", {}, 403, "secret"),
    ],
)
async def test_refusals(running: Running, target: str, body: dict[str, Any], status: int, named: str) -> None:
    found, problem = await put(running, target, **body)
    assert found == status
    assert named in problem["detail"]
    assert not running.broker.catalog.queues


async def test_bodies_have_a_limit_and_must_be_json(running: Running) -> None:
    client = running.client
    large = await client.put("/v1/queues/q", content=b'{"bindings":["' + b"x" * (1 << 20) + b'"]}')
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")
    broken = await client.put("/v1/queues/q", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.headers["content-type"]) == (422, "application/problem+json")


async def test_bindings_can_be_removed(running: Running) -> None:
    await put(running, "q", bindings=["a", "b"])
    answer = await running.client.delete("/v1/queues/q/bindings?filter=a")
    assert answer.status_code == 204
    assert (await running.client.get("/v1/queues/q")).json()["bindings"] == ["b"]
    assert (await running.client.delete("/v1/queues/q/bindings?filter=a")).status_code == 404


async def test_looking_changes_nothing(running: Running) -> None:
    await put(running, "q")
    for body in (b"0", b"1", b"\xff"):
        await running.client.post("/v1/queues/q/messages", content=body)
    before = (await running.client.get("/v1/queues/q")).json()
    assert (before["depth"], before["bytes"], before["unsettled"], before["consumers"]) == (3, 3, 0, 0)
    page = (await running.client.get("/v1/queues/q/browse?limit=2")).json()
    assert [(m["offset"], m["body"], m["attempts"]) for m in page["messages"]] == [(0, "0", 0), (1, "1", 0)]
    rest = (await running.client.get(f"/v1/queues/q/browse?limit=2&start={page['next']}")).json()
    assert [m["body_base64"] for m in rest["messages"]] == ["/w=="]
    assert rest["next"] is None
    assert (await running.client.get("/v1/queues/q")).json() == before


async def test_a_page_of_a_browse_is_bounded_in_bytes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "RECEIVE_BYTES_MAX", 1000)
    monkeypatch.setattr(deliveries, "RECEIVE_BYTES_MAX", 1000)
    await put(running, "q")
    sizes = [10, 400, 700, 5000, 1]
    for size in sizes:
        await running.client.post("/v1/queues/q/messages", content=b"x" * size)
    pages, start = [], 0
    while start is not None:
        page = (await running.client.get(f"/v1/queues/q/browse?start={start}")).json()
        pages.append([len(message["body"]) for message in page["messages"]])
        start = page["next"]
    assert [size for page in pages for size in page] == sizes
    assert all(len(page) == 1 or sum(page) <= 1000 for page in pages)


async def test_purge_and_delete(running: Running) -> None:
    await put(running, "q")
    for _ in range(3):
        await running.client.post("/v1/queues/q/messages", content=b"x")
    assert (await running.client.post("/v1/queues/q/purge")).json() == {"purged": 3}
    assert (await running.client.get("/v1/queues/q")).json()["depth"] == 0
    assert (await running.client.delete("/v1/queues/q", auth=("guest", "pass"))).status_code == 403
    assert (await running.client.delete("/v1/queues/q")).status_code == 204
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/purge"),
        ("GET", "/browse"),
        ("POST", "/receive"),
    ):
        answer = await running.client.request(method, f"/v1/queues/q{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/docs#not-found"), path


async def test_listing_in_pages(running: Running) -> None:
    for name in ("b2", "a", "b1", "b3"):
        await put(running, name)
    running.broker.catalog.declare("secret")
    first = (await running.client.get("/v1/queues?prefix=b&limit=2")).json()
    assert ([q["name"] for q in first["queues"]], first["next"]) == (["b1", "b2"], "b2")
    rest = (await running.client.get(f"/v1/queues?prefix=b&limit=2&after={first['next']}")).json()
    assert ([q["name"] for q in rest["queues"]], rest["next"]) == (["b3"], None)
    everything = (await running.client.get("/v1/queues")).json()
    assert [q["name"] for q in everything["queues"]] == ["a", "b1", "b2", "b3"]


async def test_a_streams_groups_can_be_moved(running: Running) -> None:
    await put(running, "s", kind="stream", policy={"max_length": 3})
    for number in range(5):
        await running.client.post("/v1/queues/s/messages", content=str(number).encode())
    shown = (await running.client.get("/v1/queues/s")).json()
    assert (shown["first_offset"], shown["next_offset"], shown["depth"]) == (2, 5, 3)
    for offset, cursor in (("earliest", 2), (4, 4), ("latest", 5), (0, 2), (99, 5)):
        answer = await running.client.post("/v1/queues/s/groups/g/seek", json={"offset": offset})
        assert (answer.json()["cursor"], answer.json()["lag"]) == (cursor, 5 - cursor)
    for time, cursor in (
        ("2000-01-01T00:00:00Z", 2),
        ("2000-01-01T01:00:00+02:00", 2),
        ("9000-01-01T00:00:00Z", 5),
    ):
        answer = await running.client.post("/v1/queues/s/groups/g/seek", json={"offset": time})
        assert answer.json()["cursor"] == cursor
    unclear = ({"offset": "2000-01-01T00:00:00"}, {"offset": "2000-13-01T00:00:00Z"}, {"offset": "9" * 50})
    for wanted in ({"offset": "soon"}, {"offset": -1}, {}, {"offset": 1.5}, *unclear):
        assert (await running.client.post("/v1/queues/s/groups/g/seek", json=wanted)).status_code == 422
    await put(running, "q")
    assert (await running.client.post("/v1/queues/q/groups/g/seek", json={"offset": 0})).status_code == 409
    assert (await running.client.post("/v1/queues/s/groups/$x/seek", json={"offset": 0})).status_code == 422
    everywhere = (await running.client.get("/v1/queues/s")).json()["groups"]
    assert [(g["name"], g["cursor"]) for g in everywhere] == [("g", 5)]


async def test_nothing_is_created_that_is_not_stored(running: Running) -> None:
    running.gateway.engine.full = True
    status, problem = await put(running, "q")
    assert (status, problem["type"]) == (507, "/docs#not-stored")
