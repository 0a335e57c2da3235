"""Selectors over HTTP: parameters, fields of the WebSocket, bindings of queues."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocols.http.http_support import Running
from tests.protocols.http.test_http_events import subscribed
from tests.protocols.http.test_http_queues import put
from tests.protocols.http.test_http_ws import opened


async def publish(running: Running, *numbers: int, target: str = "topics/a/b", query: str = "") -> None:
    path = f"/v1/{target}" + ("/messages" if target.startswith("queues") else "") + query
    for number in numbers:
        headers = {"X-Property-n": f"json:{number}", "X-Tag": f"t{number}"}
        answer = await running.client.post(path, content=b"%d" % number, headers=headers)
        assert answer.status_code == 200, answer.text


async def received(running: Running, queue: str, **params: str) -> list[int]:
    answer = await running.client.post(f"/v1/queues/{queue}/receive", params={"max": "100", **params})
    assert answer.status_code == 200, answer.text
    got = answer.json()["deliveries"]
    for delivery in got:
        await running.client.post(f"/v1/deliveries/{delivery['id']}/ack")
    return [int(delivery["body"]) for delivery in got]


async def test_events_of_what_is_asked_for(running: Running) -> None:
    await publish(running, 1, target="topics/a/1", query="?retain=true")
    await publish(running, 6, target="topics/a/6", query="?retain=true")
    query = "filter=a/%23&filter=a/b&selector=n%20%3E%205"
    async with subscribed(running, query) as events:
        await publish(running, 2, 7)
        assert [(await events.next())[1]["body"] for _ in range(2)] == ["6", "7"]
        last = events.last_id
    await publish(running, 3, 8)
    async with subscribed(running, query, last) as events:
        assert (await events.next())[1]["body"] == "8"
        last = events.last_id
    async with subscribed(
        running, "filter=a/%23&filter=a/b&selector=n%20%3E%206&retained=false", last
    ) as events:
        name, _ = await events.next()
        assert name == "gap", "that is another subscription"


async def test_events_of_a_stream(running: Running) -> None:
    await put(running, "s", kind="stream")
    await publish(running, 1, 6, 2, 7, target="queues/s")
    selected = "stream=s&selector=n%20%3E%205"
    async with subscribed(running, f"{selected}&offset=earliest") as events:
        assert [(await events.next())[1]["body"] for _ in range(2)] == ["6", "7"]
    async with subscribed(running, selected, "1") as events:
        assert (await events.next())[1]["body"] == "7"
    async with subscribed(running, f"{selected}&group=g&offset=earliest") as events:
        assert (await events.next())[1]["body"] == "6"
        for other in ("stream=s&group=g", "stream=s&group=g&selector=n%3C5"):
            answer = await running.client.get(f"/v1/subscribe?{other}")
            assert (answer.status_code, answer.json()["type"]) == (409, "/docs#conflict")
            assert "has the sql selector 'n > 5', not" in answer.json()["detail"]
        shown = (await running.client.get("/v1/queues/s")).json()["groups"]
        assert [(group["name"], group["selector"], group["selector_language"]) for group in shown] == [
            ("g", "n > 5", "sql")
        ]


async def test_a_websocket_s_subscriptions_and_consumers(running: Running) -> None:
    await put(running, "s", kind="stream", bindings=["a/#"])
    async with opened(running) as client:
        for qos, topic_filter in ((0, "a/b"), (1, "a/+")):
            answer = await client.ask(op="subscribe", filter=topic_filter, qos=qos, selector=f"n = {qos}")
            assert answer["op"] == "subscribed"
        answer = await client.ask(
            op="consume", queue="s", group="g", selector="t2 || t3", selector_language="tags"
        )
        assert answer["op"] == "consuming"
        await publish(running, 0, 1, 2)
        got = [await client.read() for _ in range(3)]
        assert sorted((message["op"], message["body"]) for message in got) == [
            ("delivery", "2"),
            ("message", "0"),
            ("message", "1"),
        ]
        answer = await client.ask(op="subscribe", filter="a/b", selector="n >")
        assert (answer["op"], answer["problem"]["column"]) == ("error", 4)
        answer = await client.ask(op="consume", queue="s", group="g2", selector_language="tags")
        assert "no selector" in answer["problem"]["detail"]
    async with opened(running) as client:
        answer = await client.ask(op="consume", queue="s", group="g")
        assert answer["problem"]["type"] == "/docs#conflict"


async def test_bindings_of_queues(running: Running) -> None:
    wanted: list[Any] = ["b", {"filter": "a/#", "selector": "n > 5"}]
    status, shown = await put(running, "q", bindings=wanted)
    assert status == 201
    picky = {"filter": "a/#", "selector": "n > 5", "selector_language": "sql"}
    assert shown["bindings"] == [picky, "b"]
    await publish(running, 1, 6)
    assert await received(running, "q") == [6]
    assert (await put(running, "q", bindings=shown["bindings"]))[0] == 200, "what is shown can be put"
    for other, words in (
        ("a/#", "the binding of queue 'q' to 'a/#' has the sql selector 'n > 5', not no selector"),
        ({"filter": "a/#", "selector": "t1", "selector_language": "tags"}, "not the tags selector 't1'"),
    ):
        status, problem = await put(running, "q", bindings=[other])
        assert (status, problem["type"]) == (409, "/docs#conflict")
        assert words in problem["detail"]
        assert "?update=true" in problem["detail"]
    status, shown = await put(running, "q?update=true", bindings=[other])
    assert (status, shown["bindings"][0]["selector"]) == (200, "t1")
    await publish(running, 1, 6)
    assert await received(running, "q") == [1]
    assert (await put(running, "q?update=true", bindings=["a/#"]))[1]["bindings"] == ["a/#", "b"]
    assert (await running.client.delete("/v1/queues/q/bindings?filter=a/%23")).status_code == 204


async def test_a_shared_subscription_is_made_with_its_selector(running: Running) -> None:
    bindings = [{"filter": "a/#", "selector": "n > 5"}]
    status, _ = await put(running, "%24share%2Fg%2Fa%2F%23", bindings=bindings)
    assert status == 201
    assert (await put(running, "%24share%2Fg%2Fa%2F%23"))[0] == 200, "as it is"
    await publish(running, 1, 6)
    assert await received(running, "%24share%2Fg%2Fa%2F%23", selector="n > 5") == [6]
    answer = await running.client.post("/v1/queues/%24share%2Fg%2Fa%2F%23/receive")
    assert answer.status_code == 409


async def test_receiving_from_a_stream(running: Running) -> None:
    await put(running, "s", kind="stream")
    await running.client.post("/v1/queues/s/groups/g/seek", json={"offset": 0})
    await publish(running, 1, 6, 2, 7, target="queues/s")
    assert await received(running, "s", group="g", selector="n > 5") == [6, 7]
    answer = await running.client.post("/v1/queues/s/receive?group=g")
    assert answer.status_code == 409
    assert "use another group, or move this one (seek)" in answer.json()["detail"]
    await running.client.post("/v1/queues/s/groups/g/seek", json={"offset": 0})
    assert await received(running, "s", group="g", selector="n < 5") == [1, 2]


@pytest.mark.parametrize(
    ("query", "words", "column"),
    [
        ("selector=n%20%3E", "column 4: it ends where a name or value is expected", 4),
        ("selector=", "column 1", 1),
        ("selector=n&selector_language=xpath", "known: sql, tags", None),
        ("selector_language=sql", "no selector", None),
        ("selector=a%20%7C%20b&selector_language=tags", "separated by ||", 3),
    ],
)
async def test_what_cannot_be_understood_is_a_problem(
    running: Running, query: str, words: str, column: int | None
) -> None:
    await put(running, "s", kind="stream")
    for method, path in (
        ("GET", "/v1/subscribe?filter=a&"),
        ("GET", "/v1/subscribe?stream=s&"),
        ("POST", "/v1/queues/s/receive?group=g&"),
    ):
        answer = await running.client.request(method, path + query)
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (422, "/docs#invalid-parameter")
        assert words in problem["detail"]
        assert problem.get("column") == column
    assert running.broker.catalog.get("s").groups() == []


@pytest.mark.parametrize(
    ("binding", "status", "words"),
    [
        ({"filter": "a", "selector": "n >"}, 422, "column 4"),
        ({"filter": "a", "selector": 5}, 422, "selector"),
        ({"filter": "", "selector": "n > 5"}, 422, "filter"),
        ({"selector": "n > 5"}, 422, "filter"),
        ({"filter": "a", "nope": 1}, 422, "nope"),
        ({"filter": "a", "selector_language": "tags"}, 422, "no selector"),
        ({"filter": "a/#/b", "selector": "n > 5"}, 400, "#"),
        ({"filter": "secret/#", "selector": "n > 5"}, 403, "secret"),
    ],
)
async def test_a_binding_that_makes_no_sense_makes_no_queue(
    running: Running, binding: dict[str, Any], status: int, words: str
) -> None:
    found, problem = await put(running, "q", bindings=[binding])
    assert found == status
    assert words in problem["detail"]
    assert not running.broker.catalog.queues


async def test_a_classic_queue_is_not_received_from_with_a_selector(running: Running) -> None:
    await put(running, "q")
    answer = await running.client.post("/v1/queues/q/receive?selector=n%3E5")
    assert answer.status_code == 409
    assert "have the selector on its binding" in answer.json()["detail"]
