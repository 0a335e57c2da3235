"""Finding messages: what is refused, and who may look. What is found: tests/interop/test_journey.py."""

from __future__ import annotations

import pytest

from tests.protocols.http.http_support import Running


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/m1/journey"])
async def test_only_who_may_manage_them_may_look(running: Running, path: str) -> None:
    running.broker.catalog.declare("q")
    await running.client.post("/v1/queues/q/messages", content=b"x", headers={"X-Message-Id": "m1"})
    refused = await running.client.get(path, auth=("guest", "pass"))
    assert (refused.status_code, "'messages'" in refused.json()["detail"]) == (403, True)
    assert (await running.client.get(path, auth=("boss", "pass"))).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/messages?from=yesterday", 422),
        ("/v1/messages?to=2026-11-21T05:00:00", 422),  # without a zone: whose five o'clock?
        ("/v1/messages?limit=0", 422),
        ("/v1/messages?after=-1", 422),
        ("/v1/messages/nobody/journey", 404),
        ("/v1/messages/@99999999/journey", 404),
        ("/v1/messages/@999999999999999999999/journey", 404),
        ("/v1/messages/@\u0663/journey", 404),
        ("/v1/messages/x/journey?limit=1000", 422),
    ],
)
async def test_what_makes_no_sense_is_refused(running: Running, path: str, status: int) -> None:
    answer = await running.client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_message_in_memory_has_its_queues(running: Running) -> None:
    running.broker.catalog.declare("q")
    await running.client.post("/v1/queues/q/messages", content=b"four", headers={"X-Message-Id": "m/1"})
    found = (await running.client.get("/v1/messages/m%2F1/journey")).json()["journeys"]
    assert [(each["id"], each["size"], each["queues"][0]["queue"]) for each in found] == [("m/1", 4, "q")]
    listed = (await running.client.get("/v1/messages", params={"key": "m/1"})).json()["messages"]
    assert [each["position"] for each in listed] == [found[0]["position"]]


@pytest.mark.parametrize("kind", ["classic", "stream"])
async def test_a_queue_is_looked_through_by_offset(running: Running, kind: str) -> None:
    queue, _ = running.broker.catalog.declare("q/1", kind)
    for n in range(5):
        await running.client.post(
            "/v1/queues/q%2F1/messages", content=b"x", headers={"X-Message-Id": f"m{n}"}
        )
    query = {"queue": "q/1", "offset": 1, "limit": 2}
    first = (await running.client.get("/v1/messages", params=query)).json()
    assert ([each["id"] for each in first["messages"]], first["next"]) == (["m1", "m2"], 3)
    rest = (
        await running.client.get("/v1/messages", params=query | {"after": first["next"], "limit": 9})
    ).json()
    assert ([each["id"] for each in rest["messages"]], rest["next"]) == (["m3", "m4"], None)
    assert queue.length() == 5
    for name, status in (("missing", 404), ("passing", 409)):
        running.broker.catalog.declare("passing", durable=False)
        answer = await running.client.get("/v1/messages", params={"queue": name})
        assert answer.status_code == status
