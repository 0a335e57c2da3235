"""The OpenAPI document says what the door does: generated requests get documented answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.protocols.http.http_support import Running, close_door, open_door

EXAMPLES = 40  # a route: the whole module stays within half a minute

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class DoorThread:
    """A door that runs in a loop of its own, for a client that does not know asyncio."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.running: Running = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    async def _open(self) -> Running:
        running = await open_door()
        for name, kind in (("q", "classic"), ("s", "stream")):
            running.broker.catalog.declare(name, kind)
        return running

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(close_door(self.running), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(scope="module")
def door() -> Iterator[DoorThread]:
    thread = DoorThread()
    yield thread
    thread.stop()


def operations(door: DoorThread) -> Iterator[Any]:
    """Yield what can be tried.

    An event stream has no end, NDJSON is unknown to the generator, memory has nothing to back up, and
    nobody answers requests.
    """
    document = schemathesis.openapi.from_url(f"{door.running.url}/openapi.json")
    chosen = document.exclude(path="/v1/subscribe").exclude(path="/v1/topics/{topic}/batch")
    chosen = chosen.exclude(path="/v1/admin/backup").exclude(path_regex="/request$")
    for found in chosen.get_all_operations():
        assert isinstance(found, Ok), found
        yield found.ok()


def test_generated_requests_get_documented_answers(door: DoorThread) -> None:
    load_all_checks()
    tried = set()
    for operation in operations(door):
        strategies = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]

        @given(case=st.one_of(strategies))
        @settings(
            max_examples=EXAMPLES,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def answers(case: Any) -> None:
            if case.query and "wait" in case.query:
                case.query["wait"] = 0  # nobody has a minute for each
            case.call_and_validate(checks=CHECKS, timeout=20)

        answers()
        tried.add(f"{operation.method} {operation.path}")
    assert len(tried) >= 20


def test_the_ways_to_log_in_are_described(door: DoorThread) -> None:
    document = schemathesis.openapi.from_url(f"{door.running.url}/openapi.json").raw_schema
    schemes = document["components"]["securitySchemes"]
    assert {name: (way["type"], way.get("scheme")) for name, way in schemes.items()} == {
        "basic": ("http", "basic"),
        "bearer": ("http", "bearer"),
        "apiKey": ("apiKey", None),
    }
    assert document["security"] == [{"basic": []}, {"bearer": []}, {"apiKey": []}, {}]
