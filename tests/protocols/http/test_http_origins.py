"""Pages of other origins: what a browser may be made to do, and what not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.protocols.http.http_support import Running, close_door, open_door

EVIL = {"Origin": "https://evil.example"}


async def test_a_foreign_page_changes_nothing(running: Running) -> None:
    answer = await running.client.post("/v1/topics/t", content=b"x", headers=EVIL)
    assert (answer.status_code, answer.json()["type"]) == (403, "/docs#foreign-origin")
    assert "t" not in running.broker.router.routes
    assert (await running.client.delete("/v1/queues/q", headers=EVIL)).status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{running.ws_url}/v1/ws", origin=Origin("https://evil.example")):
            raise AssertionError("a foreign page")
    assert refused.value.response.status_code == 403


async def test_a_foreign_page_reads_nothing(running: Running) -> None:
    answer = await running.client.get("/health", headers=EVIL)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    asked = await running.client.options("/v1/topics/t", headers=EVIL)
    assert (asked.status_code, "access-control-allow-origin" in asked.headers) == (204, False)


async def test_our_own_pages_need_no_permission(running: Running) -> None:
    answer = await running.client.post("/v1/topics/t", content=b"x", headers={"Origin": running.url})
    assert answer.status_code == 200


async def test_pages_that_are_named_may(config: SimpleNamespace) -> None:
    config.http["origins"] = ["https://app.example"]
    running = await open_door(config)
    good = {"Origin": "https://app.example"}
    answer = await running.client.post("/v1/topics/t", content=b"x", headers=good)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    asked = await running.client.options("/v1/topics/t", headers=good)
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert {"authorization", "x-api-key"} <= set(asked.headers["access-control-allow-headers"].split(", "))
    refused = await running.client.post("/v1/topics/a/+", content=b"x", headers=good)
    assert refused.headers["access-control-allow-origin"] == "https://app.example", (
        "or the page could not read why"
    )
    assert (await running.client.post("/v1/topics/t", content=b"x", headers=EVIL)).status_code == 403
    async with connect(f"{running.ws_url}/v1/ws", origin=Origin("https://app.example")):
        pass
    await close_door(running)


async def test_any_page_may_but_without_the_visitors_login(config: SimpleNamespace) -> None:
    config.http["origins"] = ["*"]
    running = await open_door(config)
    answer = await running.client.post("/v1/topics/t", content=b"x", headers=EVIL)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    await close_door(running)
