"""Health, metrics, the overview, and the pages."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.api import Series
from gateway.protocols.http import metrics
from gateway.protocols.http.problems import KINDS
from tests.protocols.http.http_support import Running


async def samples(running: Running) -> dict[tuple[str, str], float]:
    answer = await running.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_health(running: Running) -> None:
    answer = await running.client.get("/health", auth=("whoever", "wrong"))
    assert (answer.status_code, answer.json()["status"]) == (200, "ok"), "load balancers do not log in"


async def test_metrics_tell_what_happened(running: Running) -> None:
    running.broker.catalog.declare("q")
    await running.client.post("/v1/queues/q/messages", content=b"four")
    await running.client.post("/v1/topics/nobody", content=b"x")
    found = await samples(running)
    assert found["gateway_messages_published_total", ""] == 2
    assert found["gateway_message_copies_dropped_total", "no_subscriber"] == 1
    assert found["gateway_queue_depth", "q"] == 1
    assert found["gateway_queue_bytes", "q"] == 4
    assert found["gateway_http_requests_total", ""] >= 2


async def test_others_add_series_of_their_own(running: Running) -> None:
    counts = [3.0]
    running.gateway.series.append(
        lambda: [
            Series("gateway_pushes", "Pushes", [(("a",), counts[0]), (("b",), 1)], ("hook",), counter=True),
            Series("gateway_hooks", "Hooks", [((), 2)]),
        ]
    )
    found = await samples(running)
    assert found["gateway_pushes_total", "a"] == 3
    assert found["gateway_pushes_total", "b"] == 1
    assert found["gateway_hooks", ""] == 2
    counts[0] = 4
    assert (await samples(running))["gateway_pushes_total", "a"] == 4


async def test_the_number_of_series_is_bounded(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRIC_QUEUES_MAX", 2)
    for number in range(5):
        running.broker.catalog.declare(f"q{number}")
        for _ in range(number):
            await running.client.post(f"/v1/queues/q{number}/messages", content=b"x")
    found = await samples(running)
    depths = {label: value for (name, label), value in found.items() if name == "gateway_queue_depth"}
    assert depths == {"q4": 4, "q3": 3, "(others)": 3, "(sessions)": 0, "(schedules)": 0}


async def test_the_overview_is_for_managers(running: Running) -> None:
    await running.client.post("/v1/topics/t", content=b"x")
    found = (await running.client.get("/v1/admin/overview")).json()
    assert found["messages"]["published"] == 1
    assert found["messages"]["dropped"]["no_subscriber"] == 1
    assert (await running.client.get("/v1/admin/overview", auth=("guest", "pass"))).status_code == 403


async def test_the_pages_need_nothing_from_elsewhere(running: Running) -> None:
    for path in ("/", "/docs"):
        page = await running.client.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|@import|<script""", page.text)
    for kind in KINDS:
        assert f'id="{kind}"' in page.text, "a problem's type leads there"
    document = (await running.client.get("/openapi.json")).json()
    for path in document["paths"]:
        assert path.replace("{", "").split("}")[0] in page.text.replace("{", "")


async def test_unknown_routes_and_methods_are_problems(running: Running) -> None:
    missing = await running.client.get("/v2/topics")
    assert (missing.status_code, missing.json()["type"]) == (404, "/docs#no-such-route")
    wrong = await running.client.patch("/v1/topics/t")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/docs#method-not-allowed")
    assert wrong.headers["allow"] == "DELETE, GET, POST"
    head = await running.client.head("/v1/subscribe?filter=a")
    assert head.status_code == 405
