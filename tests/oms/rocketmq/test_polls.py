"""Long polls: who gets what, what is kept, and what goes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("grpc")

from gateway.oms import Message, OMSError
from gateway.oms.drivers.rocketmq.polls import Polls, Source


class Server:
    """Messages that wait, and polls that wait for them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.given_back: list[bytes] = []
        self.polls = 0
        self.most = 0
        self.error: OMSError | None = None
        self.come = asyncio.Event()
        self.returned = asyncio.Event()

    async def ask(self, messages_max: int, seconds: float) -> list[Message]:
        self.polls += 1
        self.most = max(self.most, self.polls)
        try:
            if not self.messages and seconds and self.error is None:
                try:
                    await asyncio.wait_for(self.come.wait(), seconds)
                except TimeoutError:
                    return []
            if self.error is not None:
                raise self.error
            found = self.messages[:messages_max]
            del self.messages[:messages_max]
            if not self.messages:
                self.come.clear()
            return found
        finally:
            self.polls -= 1

    async def give_back(self, messages: list[Message]) -> None:
        self.given_back += [message.data for message in messages]
        self.returned.set()

    def put(self, *bodies: bytes) -> None:
        self.messages += [Message("q", body) for body in bodies]
        self.come.set()


@pytest.fixture
async def server() -> Server:
    return Server()


def polls_of(server: Server, kept_seconds: float | None = 60.0, queues: int = 1) -> Polls:
    polls = Polls(server.give_back, kept_seconds)
    for number in range(queues):
        polls.keep("q" * (number + 1), {0: Source(server.ask)})
    return polls


async def data(polls: Polls, messages_max: int = 1, seconds: float = 5.0) -> list[bytes]:
    return [message.data for message in await polls.receive(messages_max, seconds)]


async def test_what_is_there_and_what_comes(server: Server) -> None:
    polls = polls_of(server)
    assert await data(polls, seconds=0) == []
    server.put(b"1", b"2", b"3")
    assert await data(polls, 2) == [b"1", b"2"]
    waiting = asyncio.ensure_future(data(polls, 5))
    assert await waiting == [b"3"]
    assert await data(polls, seconds=0.05) == []
    await polls.close()


async def test_callers_have_a_poll_each_and_no_more(server: Server) -> None:
    polls = polls_of(server)
    waiting = [asyncio.ensure_future(data(polls)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert server.most == 3
    server.put(b"1", b"2", b"3")
    found = await asyncio.gather(*waiting)
    assert sorted(one for batch in found for one in batch) == [b"1", b"2", b"3"]
    await polls.close()


async def test_what_comes_when_nobody_waits_is_for_the_next(server: Server) -> None:
    polls = polls_of(server)
    waiting = asyncio.ensure_future(data(polls))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    server.put(b"1")
    await asyncio.sleep(0.01)
    assert await data(polls, seconds=0) == [b"1"]
    assert server.given_back == []
    await polls.close()


async def test_what_nobody_comes_for_goes_back(server: Server) -> None:
    polls = polls_of(server, kept_seconds=0.01)
    polls.put([Message("q", b"1")])
    await asyncio.wait_for(server.returned.wait(), 10)
    assert server.given_back == [b"1"]
    assert await data(polls, seconds=0) == []
    await polls.close()


async def test_removing_and_closing_gives_back(server: Server) -> None:
    polls = polls_of(server, queues=2)
    polls.put([Message("q", b"1"), Message("qq", b"2")])
    await polls.remove("q")
    assert server.given_back == [b"1"]
    await polls.close()
    assert server.given_back == [b"1", b"2"]


async def test_a_failure_is_told_to_who_waits_alone(server: Server) -> None:
    polls = polls_of(server)
    server.error = OMSError("no")
    with pytest.raises(OMSError, match="no"):
        await data(polls)
    server.error = None
    assert await data(polls, seconds=0) == []
    await polls.close()


async def test_a_server_that_answers_at_once_is_not_asked_in_a_circle(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def nothing(messages_max: int, seconds: float) -> list[Message]:
        nonlocal asked
        asked += 1
        return []

    polls = Polls(server.give_back, None)
    polls.keep("q", {0: Source(nothing)})
    assert await data(polls, seconds=0.3) == []
    assert asked <= 5
    await polls.close()


async def test_places_that_stay_go_on(server: Server) -> None:
    polls = Polls(server.give_back, None)
    polls.keep("q", {1: Source(server.ask)})
    waiting: Any = asyncio.ensure_future(data(polls, 5))
    await asyncio.sleep(0.01)
    polls.keep("q", {1: Source(server.ask), 2: Source(server.ask)})
    await asyncio.sleep(0.01)
    assert server.polls == 2  # who waits has the new place asked, too
    server.put(b"1")
    assert await waiting == [b"1"]
    await polls.close()
    assert server.polls == 0
