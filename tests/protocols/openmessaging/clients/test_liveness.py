"""Who is still there, with a clock by hand: idle clients, broken streams, clients that come back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api import AuthenticationFailed, QuotaExceeded
from gateway.protocols.openmessaging.call import Call
from gateway.protocols.openmessaging.clients.client import LINES_MAX, Client
from gateway.protocols.openmessaging.clients.line import COMMANDS_MAX, Line
from gateway.protocols.openmessaging.clients.logins import BROKEN_MS, SWEEP_MS, Logins
from gateway.protocols.openmessaging.errors import Refused
from gateway.protocols.openmessaging.refusals import INTERVAL_MS, Refusals
from gateway.protocols.openmessaging.refusals import LINES_MAX as LOG_LINES_MAX
from gateway.rocketmq.numbers import Code
from gateway.testing import TestGateway

IDLE_SECONDS = 120
IDLE_MS = IDLE_SECONDS * 1000


class Context:
    """gRPC's, as far as logins ask it."""

    def __init__(self, client_id: str = "c@1", peer: str = "ipv4:192.0.2.1:4711", **metadata: str) -> None:
        self._peer = peer
        self._metadata = {"x-mq-client-id": client_id} | {
            name.replace("_", "-"): value for name, value in metadata.items()
        }

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return tuple(self._metadata.items())

    def auth_context(self) -> Any:
        return {}


@pytest.fixture
def gateway() -> Iterator[TestGateway]:
    found = TestGateway()
    found.config = SimpleNamespace(limits=SimpleNamespace(connections_max=100))
    yield found
    found.close()


@pytest.fixture
def logins(gateway: TestGateway) -> Logins:
    return Logins(gateway, IDLE_SECONDS)


def enter(logins: Logins, **more: Any) -> Client:
    return asyncio.run(logins.enter(Context(**more)))  # type: ignore[arg-type]


def wait(gateway: TestGateway, ms: int) -> None:
    clock = gateway.clock
    clock.set(clock.wall_ms + ms, clock.monotonic_ms + ms)
    gateway.scheduler.run_due()


def known(logins: Logins, **more: Any) -> Client | None:
    return logins.known(Context(**more))  # type: ignore[arg-type]


def test_a_client_is_found_by_all_that_it_says(logins: Logins) -> None:
    client = enter(logins)
    assert known(logins) is client
    assert known(logins, peer="ipv4:192.0.2.1:4712") is client  # another connection of its process
    for other in (
        {"client_id": "c@2"},
        {"peer": "ipv4:192.0.2.2:4711"},
        {"peer": "ipv6:%5B2001:db8::1%5D:4711"},
        {"x_mq_namespace": "ns"},
        {"authorization": "MQv2-HMAC-SHA1 Credential=ann, ..."},
    ):
        assert known(logins, **other) is None
    assert logins.named("c@1") == [client]
    assert client.session.origin.peer == "192.0.2.1:4711"


def test_who_is_silent_is_gone(gateway: TestGateway, logins: Logins) -> None:
    gone: list[Client] = []
    logins.on_gone.append(gone.append)
    client = enter(logins)
    wait(gateway, IDLE_MS)
    assert known(logins) is client  # its heartbeat
    wait(gateway, IDLE_MS)
    assert not gone
    wait(gateway, SWEEP_MS)
    assert gone == [client]
    assert client.session.ended
    assert (known(logins), logins.named("c@1"), len(logins)) == (None, [], 0)


def test_who_waits_for_messages_is_there(gateway: TestGateway, logins: Logins) -> None:
    client = enter(logins)
    client.calls = 1
    wait(gateway, 10 * IDLE_MS)
    wait(gateway, SWEEP_MS)
    assert len(logins) == 1
    client.calls = 0
    wait(gateway, SWEEP_MS)
    assert len(logins) == 0


def test_whose_stream_breaks_is_gone_soon(gateway: TestGateway, logins: Logins) -> None:
    client, line = enter(logins), Line()
    client.take(line)
    wait(gateway, BROKEN_MS + SWEEP_MS)
    assert len(logins) == 1  # it has a stream, and may be silent
    logins.hung_up(client.key, line)
    wait(gateway, SWEEP_MS)
    assert len(logins) == 0


def test_a_new_stream_mends_a_broken_one(gateway: TestGateway, logins: Logins) -> None:
    client, line = enter(logins), Line()
    client.take(line)
    logins.hung_up(client.key, line)
    client.take(Line())
    wait(gateway, BROKEN_MS + SWEEP_MS)
    assert len(logins) == 1


def test_a_stream_outlives_an_idle_session(gateway: TestGateway, logins: Logins) -> None:
    async def run() -> None:
        context: Any = Context()
        client, line = await logins.enter(context), Line()
        client.take(line)
        wait(gateway, IDLE_MS + SWEEP_MS)
        assert len(logins) == 0
        assert line.put("nobody")  # it is open
        again = await logins.enter(context)  # a heartbeat, a minute later
        assert again is not client
        assert again.tell("a command")
        assert [await line.next(), await line.next()] == ["nobody", "a command"]
        wait(gateway, IDLE_MS + SWEEP_MS)
        third = await logins.speaks(Call(again, context))  # or it speaks by that stream
        assert third.tell("another")
        assert await line.next() == "another"
        logins.hung_up(third.key, line)
        assert not third.tell("into the void")

    asyncio.run(run())


def test_a_stream_that_breaks_while_nobody_is_there_is_forgotten(
    gateway: TestGateway, logins: Logins
) -> None:
    client, line = enter(logins), Line()
    client.take(line)
    wait(gateway, IDLE_MS + SWEEP_MS)
    logins.hung_up(client.key, line)
    assert enter(logins).lines == []


def test_who_may_not_go_on_is_told_why(logins: Logins) -> None:
    async def run() -> None:
        context: Any = Context()
        client, line = await logins.enter(context), Line()
        client.take(line)
        client.session.end(AuthenticationFailed("the login has expired"))
        with pytest.raises(AuthenticationFailed, match="expired"):
            await line.next()
        assert logins.known(context) is None

    asyncio.run(run())


def test_a_stop_ends_all_and_lets_nobody_in(logins: Logins, gateway: TestGateway) -> None:
    async def run() -> None:
        context: Any = Context()
        lines = [Line(), Line()]
        (await logins.enter(context)).take(lines[0])
        wait(gateway, IDLE_MS + SWEEP_MS)
        (await logins.enter(Context(client_id="c@2"))).take(lines[1])  # type: ignore[arg-type]
        logins.stop()
        assert [await line.next() for line in lines] == [None, None]
        with pytest.raises(Refused):
            await logins.enter(context)

    asyncio.run(run())


def test_there_is_room_for_so_many(gateway: TestGateway, logins: Logins) -> None:
    gateway.config.limits.connections_max = 0
    with pytest.raises(QuotaExceeded):
        enter(logins)


def test_a_client_has_few_streams(logins: Logins) -> None:
    client, lines = enter(logins), [Line() for _ in range(LINES_MAX + 1)]
    for line in lines:
        client.take(line)
    assert client.lines == lines[1:]
    assert not lines[0].put("a command")


def test_a_line_of_who_does_not_read_has_an_end() -> None:
    line = Line()
    assert all(line.put(number) for number in range(COMMANDS_MAX))
    assert not line.put("more")
    line.close(ValueError("why"))
    line.close()

    async def run() -> None:
        assert [await line.next() for _ in range(COMMANDS_MAX)] == list(range(COMMANDS_MAX))
        with pytest.raises(ValueError, match="why"):
            await line.next()

    asyncio.run(run())


def test_a_line_waits_for_commands() -> None:
    async def run() -> None:
        line = Line()
        waiting = asyncio.ensure_future(line.next())
        await asyncio.sleep(0)
        line.put("one")
        line.put("two")
        assert [await waiting, await line.next()] == ["one", "two"]
        waiting = asyncio.ensure_future(line.next())
        await asyncio.sleep(0)
        line.close()
        assert await waiting is None

    asyncio.run(run())


def test_the_log_names_who_is_refused_and_stays_readable(
    gateway: TestGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []
    log = SimpleNamespace(info=lambda event, **fields: lines.append(fields))
    monkeypatch.setattr("gateway.protocols.openmessaging.refusals.log", log)
    refusals = Refusals(gateway.clock)

    def note(client_id: str, code: Code = Code.FORBIDDEN) -> None:
        context: Any = Context(client_id, x_mq_language="JAVA", x_mq_client_version="5.0.7")
        refusals.note("SendMessage", context, code, "x" * 10_000)

    wait(gateway, INTERVAL_MS)
    note("a@1")
    note("a@1")
    note("a@1", Code.MESSAGE_NOT_FOUND)  # an empty answer to a long poll
    [line] = lines
    assert len(line["reason"]) < 1000
    assert (line["client"], line["peer"]) == ("a@1", "ipv4:192.0.2.1:4711")
    assert (line["rpc"], line["code"], line["agent"]) == ("SendMessage", "FORBIDDEN 40300", "JAVA 5.0.7")
    for number in range(LOG_LINES_MAX + 50):
        note(f"b@{number}")
    assert len(lines) == LOG_LINES_MAX
    wait(gateway, INTERVAL_MS)
    note("a@1")
    assert lines[LOG_LINES_MAX]["others"] == 51
    assert lines[-1]["client"] == "a@1"
    assert refusals.counts == {Code.FORBIDDEN: LOG_LINES_MAX + 53}
