"""One request over real sockets: what is an answer, what is none, and which connections are used again."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.outgoing import client as client_module
from gateway.outgoing.client import Client
from gateway.outgoing.destinations import Destinations
from gateway.outgoing.exchange import ANSWER_BYTES_MAX, EXCERPT_BYTES, Answer, PushFailed
from gateway.outgoing.target import parse
from tests.certificates import Pki

SECONDS = 5.0
HEAD = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Endpoint:
    """A server that does with each connection what a script says."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Endpoint:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/"
        self.client = Client(Destinations("x.allow", [self.url]))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.client.close()
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._script(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def request(self, reader: asyncio.StreamReader) -> None:
        """Read one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head + await reader.readexactly(4))

    async def post(self, seconds: float = SECONDS) -> Answer:
        return await self.client.post(parse(self.url), HEAD, b"body", seconds)


def answering(*answers: bytes, then: str = "wait") -> Endpoint:
    """Return an endpoint that gives these answers on each connection; `then` it waits, or closes it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await endpoint.request(reader)
            writer.write(answer)
            await writer.drain()
        if then == "wait":
            await reader.read()

    endpoint = Endpoint(script)
    return endpoint


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, Answer(200, "", b"ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204)),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", Answer(304)),
        (b"HTTP/1.1 429 x\r\nRETRY-After:  7 \r\ncontent-length: 0\r\n\r\n", Answer(429, "7")),
        (b"HTTP/1.1 301 x\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n", Answer(301)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: <a>\r\n\r\n" + OK, Answer(200, "", b"ok")),
        (b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Answer(200, "", b"ok")),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08",
            Answer(200, "", b"\x1f\x8b\x08"),
        ),
        (
            b"HTTP/1.1 500 x\r\ncontent-length: 9000\r\n\r\n" + b"x" * 9000,
            Answer(500, "", b"x" * EXCERPT_BYTES, False),
        ),
    ],
)
async def test_answers(answer: bytes, expected: Answer) -> None:
    async with answering(answer, OK) as endpoint:
        assert await endpoint.post() == expected
        assert await endpoint.post() == Answer(200, "", b"ok")
        assert endpoint.connections == 1, "the connection is used again"
    assert endpoint.requests == [HEAD + b"body"] * 2


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_a_body_may_end_with_the_connection(size: int) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * size, then="close") as endpoint:
        assert await endpoint.post() == Answer(200, "", b"x" * size)
        assert await endpoint.post() == Answer(200, "", b"x" * size)
    assert endpoint.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 101 x\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 4 * ANSWER_BYTES_MAX,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
    ],
)
async def test_what_is_no_answer(answer: bytes) -> None:
    async with answering(answer, then="close") as endpoint:
        with pytest.raises(PushFailed):
            await endpoint.post()
    assert endpoint.connections == 1, "it was not tried again"


async def test_a_status_counts_whatever_comes_after_it() -> None:
    async with answering(
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\nbegin", then="close"
    ) as endpoint:
        assert await endpoint.post() == Answer(200, "", b"begin", False)
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\nbegin") as endpoint:
        assert await endpoint.post(seconds=0.2) == Answer(200, "", b"begin", False)
    huge = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * (4 * ANSWER_BYTES_MAX)
    async with answering(huge) as endpoint:
        assert await endpoint.post() == Answer(200, "", b"x" * EXCERPT_BYTES, False)
        assert await endpoint.post() == Answer(200, "", b"x" * EXCERPT_BYTES, False)
        assert endpoint.connections == 2, "nobody waits for the rest"


async def test_no_answer_in_time() -> None:
    async with answering(b"") as endpoint:
        began = time.monotonic()
        with pytest.raises(PushFailed, match=r"no answer within 0\.2 seconds"):
            await endpoint.post(seconds=0.2)
        assert time.monotonic() - began < SECONDS


async def test_nobody_listens() -> None:
    async with answering(OK) as endpoint:
        url = endpoint.url
    client = Client(Destinations("x.allow", [url]))
    with pytest.raises(PushFailed, match="refused"):
        await client.post(parse(url), HEAD, b"body", SECONDS)


async def test_a_connection_that_was_closed_while_it_was_kept_is_no_failure() -> None:
    async with answering(OK, then="close") as endpoint:
        for _ in range(3):
            assert (await endpoint.post()).status == 200
    assert endpoint.connections == 3


async def test_a_connection_that_is_closed_by_the_next_request_is_made_anew_once() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if endpoint.connections == 1:
            await endpoint.request(reader)
            writer.write(OK)
        await endpoint.request(reader)  # and no answer to this one

    endpoint = Endpoint(script)
    async with endpoint:
        assert (await endpoint.post()).status == 200
        with pytest.raises(PushFailed, match="without an answer"):
            await endpoint.post()
    assert endpoint.connections == 2
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", OK + OK]
)
async def test_a_connection_that_is_not_clean_is_not_used_again(answer: bytes) -> None:
    async with answering(answer, OK) as endpoint:
        assert (await endpoint.post()).status == 200
        assert (await endpoint.post()).status == 200
    assert endpoint.connections == 2


async def test_a_connection_is_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "IDLE_SECONDS_MAX", 0.01)
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await endpoint.request(reader)
        writer.write(OK)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.set()

    endpoint = Endpoint(script)
    async with endpoint:
        await endpoint.post()
        await asyncio.wait_for(closed.wait(), SECONDS)


async def test_a_request_that_is_given_up_closes_its_connection() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await endpoint.request(reader)
        begun.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    endpoint = Endpoint(script)
    async with endpoint:
        task = asyncio.create_task(endpoint.post())
        await asyncio.wait_for(begun.wait(), SECONDS)
        task.cancel()
        await asyncio.wait_for(ended.wait(), SECONDS)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_tls_is_verified(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.path("server.pem"), pki.path("server-key.pem"))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await endpoint.request(reader)
        writer.write(OK)
        await reader.read()

    endpoint = Endpoint(script, context)
    async with endpoint:
        with pytest.raises(PushFailed, match="TLS"):
            await endpoint.post()
        knowing = Client(Destinations("x.allow", [endpoint.url]), str(pki.path("ca.pem")))
        answer = await knowing.post(parse(endpoint.url), HEAD, b"body", SECONDS)
        assert answer == Answer(200, "", b"ok")
        knowing.close()


async def test_a_certificate_is_for_a_name(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.path("server.pem"), pki.path("server-key.pem"))
    async with Endpoint(_nothing, context) as endpoint:
        url = endpoint.url.replace("127.0.0.1", "127.0.0.2")
        server = await asyncio.start_server(_nothing, "127.0.0.2", parse(url).port, ssl=context)
        client = Client(Destinations("x.allow", [url]), str(pki.path("ca.pem")))
        with pytest.raises(PushFailed, match="TLS"):
            await client.post(parse(url), HEAD, b"body", SECONDS)
        server.close()


async def _nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_private_address_is_not_even_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(OK) as endpoint:
        url = endpoint.url.replace("127.0.0.1", "localhost")
        client = Client(Destinations("x.allow", [url]))
        with pytest.raises(PushFailed, match="not public"):
            await client.post(parse(url), HEAD, b"body", SECONDS)
        assert endpoint.connections == 0
        allowed = Client(Destinations("x.allow", [url], allow_private=True))
        assert (await allowed.post(parse(url), HEAD, b"body", SECONDS)).status == 200
        allowed.close()


async def test_a_name_that_does_not_exist() -> None:
    url = "http://nowhere.invalid/"
    with pytest.raises(PushFailed, match=r"nowhere\.invalid cannot be resolved"):
        await Client(Destinations("x.allow", [url])).post(parse(url), HEAD, b"body", SECONDS)
