"""The server around the door: limits in time and size, pipelining, Unix sockets, the end."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.api import ServerProtocol
from gateway.protocols.http import HttpDoor, gateway_protocols, server
from tests.protocols.http.http_support import FakeGateway, Running, close_door, eventually, open_door

POST = b"POST /v1/topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"


async def talk(running: Running, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    return (reader, writer)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        try:
            return await reader.read(-1)
        except ConnectionError:
            return b""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, config: SimpleNamespace) -> SimpleNamespace:
    """A configuration with short times, and a server that looks at them often."""
    monkeypatch.setattr(server, "TICK_SECONDS", 0.02)
    config.limits.handshake_seconds_max = 0.1
    config.http["body_seconds_max"] = 0.1
    return config


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"POST /v1/topics/t HTTP/1.1\r\nHost: x\r\n",),
        (b"POST /v1/topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",),
        (POST, b"POST /v1/topics/t HT"),
    ],
)
async def test_whoever_dawdles_is_cut_off(hasty: SimpleNamespace, parts: tuple[bytes, ...]) -> None:
    running = await open_door(hasty)
    reader, writer = await talk(running, *parts)
    await read_all(reader)
    writer.close()
    await eventually(lambda: not running.door._server.numbers()["connections"])  # type: ignore[union-attr]
    await close_door(running)


async def test_whoever_waits_for_an_answer_is_not(hasty: SimpleNamespace) -> None:
    running = await open_door(hasty)
    running.broker.catalog.declare("q")
    answer = await running.client.post("/v1/queues/q/receive?wait=0.5")
    assert answer.status_code == 200
    await close_door(running)


async def test_a_drip_of_header_bytes_does_not_extend_the_time(hasty: SimpleNamespace) -> None:
    running = await open_door(hasty)
    reader, writer = await talk(running, b"GET / HTTP/1.1\r\n")

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(b"a: b\r\n")
            await asyncio.sleep(0.01)

    task = asyncio.create_task(drip())
    await read_all(reader)
    task.cancel()
    writer.close()
    await close_door(running)


async def test_a_head_without_end_is_refused(running: Running) -> None:
    reader, writer = await talk(running, b"GET / HTTP/1.1\r\n")
    try:
        for _ in range(100):
            writer.write(b"x-filler: " + b"x" * 4000 + b"\r\n")
            await writer.drain()
    except ConnectionError:
        pass
    answer = await read_all(reader)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer, "the connection may be reset under the answer"
    await eventually(lambda: running.door._server.numbers()["connections"] == 0)  # type: ignore[union-attr]


async def test_too_many_headers_are_refused(running: Running) -> None:
    answer = await running.client.get("/health", headers={f"x-{number}": "y" for number in range(201)})
    assert (answer.status_code, answer.json()["type"]) == (431, "/docs#head-too-large")


async def test_what_is_not_http_is_told_so(running: Running) -> None:
    reader, writer = await talk(running, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\r\n\r\n")
    answer = await read_all(reader)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "/docs#malformed"


async def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    running.broker.catalog.declare("q")
    requests = b"".join(
        b"POST /v1/queues/q/messages HTTP/1.1\r\nHost: x\r\nX-Message-Id: %d\r\nContent-Length: 1\r\n\r\nx"
        % number
        for number in range(50)
    )
    reader, writer = await talk(running, requests)
    async with asyncio.timeout(20):
        for number in range(50):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["id"] == str(number)
    writer.close()


async def test_only_so_many_connections(config: SimpleNamespace) -> None:
    config.limits.connections_max = 2
    running = await open_door(config)
    kept = [await talk(running) for _ in range(2)]
    await eventually(lambda: running.door._server.numbers()["connections"] == 2)  # type: ignore[union-attr]
    reader, writer = await talk(running)
    assert (await read_all(reader)).startswith(b"HTTP/1.1 503 ")
    writer.close()
    for _, other in kept:
        other.close()
    await eventually(lambda: not running.door._server.numbers()["connections"])  # type: ignore[union-attr]
    assert (await running.client.get("/health")).status_code == 200
    assert running.door._server.numbers()["connections_refused"] == 1  # type: ignore[union-attr]
    await close_door(running)


async def test_requests_under_way_are_finished_at_the_end(running: Running) -> None:
    running.broker.catalog.declare("q")
    reader, writer = await talk(running, POST[:-1])
    await eventually(lambda: running.door._server.numbers()["connections"] == 1)  # type: ignore[union-attr]
    await eventually(lambda: running.door._server._state.tasks)  # type: ignore[union-attr]
    stop = asyncio.create_task(running.door.stop())
    await asyncio.sleep(0)
    writer.write(b"x")
    answer = await read_all(reader)
    assert answer.startswith(b"HTTP/1.1 200 ")
    await stop
    writer.close()
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", running.port)


async def test_whoever_does_not_finish_is_cut_off_at_the_end(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DRAIN_SECONDS_MAX", 0.05)
    reader, writer = await talk(running, POST[:-1])
    await eventually(lambda: running.door._server._state.tasks)  # type: ignore[union-attr]
    await running.door.stop()
    assert await read_all(reader) == b""
    writer.close()


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    gateway, door = FakeGateway(), HttpDoor()
    gateway.protocols = {"http": door}
    await door.serve(SimpleNamespace(host="", port=0, path=path), gateway)
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://x") as client:
        assert (await client.post("/v1/topics/t", content=b"x")).status_code == 200
    assert gateway.logins[0].peer == "unix"
    await door.stop()
    gateway.turn.stop()


async def test_a_port_in_use_is_an_os_error(running: Running) -> None:
    door = HttpDoor()
    with pytest.raises(OSError, match=r".*"):
        await door.serve(SimpleNamespace(host="127.0.0.1", port=running.port, path=""), running.gateway)
    await door.stop()


async def test_a_bug_is_a_problem_and_the_door_stays_open(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with capture_logs() as logged:
        monkeypatch.setattr(type(running.broker), "publish", broken)
        hot = await running.client.post("/v1/topics/t", content=b"x")
        monkeypatch.undo()
        monkeypatch.setattr(type(running.broker.metrics), "dropped_by_cause", broken)
        cold = await running.client.get("/v1/admin/overview")
        monkeypatch.undo()
    assert [(entry["event"], entry["path"]) for entry in logged] == [
        ("bug: a request failed", "/v1/topics/t"),
        ("bug: a request failed", "/v1/admin/overview"),
    ]
    for answer in (hot, cold):
        assert answer.status_code == 500
    assert hot.json()["type"] == "/docs#internal-error"
    assert cold.json()["type"] == "/docs#internal-error"
    assert (await running.client.post("/v1/topics/t", content=b"x")).status_code == 200


async def test_it_is_offered_as_a_plugin() -> None:
    (door,) = gateway_protocols(SimpleNamespace(plugin=lambda name: {}))
    assert isinstance(door, ServerProtocol)
    assert (door.name, door.address) == ("http", "127.0.0.1:8080")


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"orgins": []}, "orgins"),
        ({"origins": "https://x"}, "origins"),
        ({"origins": [1]}, "origins"),
        ({"body_seconds_max": 0}, "body_seconds_max"),
        ({"body_seconds_max": float("nan")}, "body_seconds_max"),
        ({"keep_alive_seconds_max": "long"}, "keep_alive_seconds_max"),
        ({"keep_alive_seconds_max": True}, "keep_alive_seconds_max"),
    ],
)
async def test_faults_in_its_table_are_named(table: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^plugins\.http\.{named}: "):
        gateway_protocols(SimpleNamespace(plugin=lambda _: table))
