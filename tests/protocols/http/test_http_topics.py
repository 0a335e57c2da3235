"""Values of topics, and which topics there are."""

from __future__ import annotations

import pytest

from gateway.protocols.http.topics import matches
from tests.protocols.http.http_support import Running


async def test_the_last_value_then_the_retained_one(running: Running) -> None:
    client = running.client
    missing = await client.get("/v1/topics/a")
    assert (missing.status_code, missing.json()["type"]) == (404, "/docs#not-found")
    await client.post(
        "/v1/topics/a", content=b"last", headers={"Content-Type": "text/plain", "X-Property-x": "y"}
    )
    value = await client.get("/v1/topics/a")
    assert (value.content, value.headers["x-retained"]) == (b"last", "false")
    assert (value.headers["content-type"], value.headers["x-property-x"]) == ("text/plain", "y")
    await client.post("/v1/topics/a?retain=true", content=b"kept")
    await client.post("/v1/topics/a", content=b"later")
    value = await client.get("/v1/topics/a")
    assert (value.content, value.headers["x-retained"]) == (b"kept", "true")


async def test_a_published_page_cannot_act_as_ours(running: Running) -> None:
    page = b"<script>alert(1)</script>"
    await running.client.post("/v1/topics/a", content=page, headers={"Content-Type": "text/html"})
    value = await running.client.get("/v1/topics/a")
    assert value.headers["content-security-policy"] == "sandbox"
    assert value.headers["x-content-type-options"] == "nosniff"


async def test_what_has_not_changed_is_not_sent(running: Running) -> None:
    client = running.client
    await client.post("/v1/topics/a?retain=true", content=b"1")
    tag = (await client.get("/v1/topics/a")).headers["etag"]
    assert tag.startswith('"'), "strong"
    unchanged = await client.get("/v1/topics/a", headers={"If-None-Match": f'"x", {tag}'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    await client.post("/v1/topics/a?retain=true", content=b"1")
    changed = await client.get("/v1/topics/a", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.content) == (200, b"1"), "published again is another message"


async def test_head_is_get_without_the_body(running: Running) -> None:
    await running.client.post("/v1/topics/a", content=b"four")
    head = await running.client.head("/v1/topics/a")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "4")
    assert (await running.client.get("/v1/topics/a")).content == b"four"


async def test_conditions() -> None:
    assert matches('W/"a"', '"a"')
    assert matches("*", '"a"')
    assert not matches('"b"', '"a"')
    assert not matches("", '"a"')


async def test_clearing_a_retained_value(running: Running) -> None:
    client = running.client
    assert (await client.delete("/v1/topics/a")).status_code == 404
    await client.post("/v1/topics/a?retain=true", content=b"1")
    assert (await client.delete("/v1/topics/a")).status_code == 204
    assert running.broker.retained.get("a") is None
    assert (await client.get("/v1/topics/a")).status_code == 404, "the message that cleared it is no value"
    assert (await client.delete("/v1/topics/a", auth=("guest", "pass"))).status_code == 403


async def test_expired_values_are_gone(running: Running) -> None:
    await running.client.post("/v1/topics/a?ttl=10&retain=true", content=b"1")
    await running.client.post("/v1/topics/b?ttl=10", content=b"1")
    clock = running.gateway.clock
    for topic in ("a", "b"):
        assert (await running.client.get(f"/v1/topics/{topic}")).status_code == 200
        for message in (running.broker.retained.get(topic), running.broker.router.routes[topic].last):
            if message is not None:
                message.expires_at_ms = clock.now_ms - 1
        assert (await running.client.get(f"/v1/topics/{topic}")).status_code == 404


async def test_reading_needs_the_right_to_subscribe(running: Running) -> None:
    await running.client.post("/v1/topics/secret/x", content=b"1", auth=("boss", "pass"))
    assert (await running.client.get("/v1/topics/secret/x")).status_code == 403
    assert (await running.client.get("/v1/topics/secret/x", auth=("boss", "pass"))).status_code == 200


@pytest.mark.parametrize("path", ["", "a/%2B", "a/%00", "a/%ff"])
async def test_what_is_no_topic_is_said_to_be_none(running: Running, path: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await running.client.request(method, f"/v1/topics/{path}")
        assert (answer.status_code, answer.json()["type"]) == (400, "/docs#invalid-topic")


async def test_a_queue_is_no_topic(running: Running) -> None:
    running.broker.catalog.declare("q")
    await running.client.post("/v1/queues/q/messages", content=b"1")
    answer = await running.client.get("/v1/topics/$queue/q")
    assert answer.status_code == 404
    assert "browse" in answer.json()["detail"]


async def test_listing_in_pages(running: Running) -> None:
    client = running.client
    for name in ("b/1", "b/2", "a", "b/3", "secret/x"):
        await client.post(f"/v1/topics/{name}", content=b"1", auth=("boss", "pass"))
    await client.post("/v1/topics/b/2?retain=true", content=b"1")
    running.broker.catalog.declare("q")
    await client.post("/v1/queues/q/messages", content=b"1")
    everything = (await client.get("/v1/topics")).json()
    assert [t["topic"] for t in everything["topics"]] == ["a", "b/1", "b/2", "b/3"]
    assert everything["next"] is None
    first = (await client.get("/v1/topics?prefix=b/&limit=2")).json()
    assert first == {
        "topics": [{"topic": "b/1", "retained": False}, {"topic": "b/2", "retained": True}],
        "next": "b/2",
    }
    rest = (await client.get(f"/v1/topics?prefix=b/&limit=2&after={first['next']}")).json()
    assert [t["topic"] for t in rest["topics"]] == ["b/3"]
    assert rest["next"] is None
    assert (await client.get("/v1/topics?limit=0")).status_code == 422
    assert (await client.get("/v1/topics?limit=100000")).status_code == 422
