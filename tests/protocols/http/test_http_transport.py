"""Writes are collected: one a connection and iteration, never more than a limit in between."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.protocols.http.transport import PENDING_BYTES_MAX, CollectingTransport, Flusher


class Socket(asyncio.Transport):
    """What is underneath: it records."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ended = ""

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def get_write_buffer_size(self) -> int:
        return 5


async def test_one_write_an_iteration() -> None:
    flusher = Flusher(asyncio.get_running_loop())
    sockets = [Socket(), Socket()]
    first, second = (CollectingTransport(socket, flusher) for socket in sockets)
    first.write(b"a")
    second.write(b"1")
    first.write(b"b")
    assert sockets[0].writes == []
    assert first.get_write_buffer_size() == 7
    await asyncio.sleep(0)
    assert [socket.writes for socket in sockets] == [[b"ab"], [b"1"]]
    first.write(b"c")
    await asyncio.sleep(0)
    assert sockets[0].writes == [b"ab", b"c"]


async def test_much_goes_out_at_once() -> None:
    socket = Socket()
    transport = CollectingTransport(socket, Flusher(asyncio.get_running_loop()))
    transport.write(b"x" * PENDING_BYTES_MAX)
    assert not socket.writes
    transport.write(b"y")
    assert [len(data) for data in socket.writes] == [PENDING_BYTES_MAX + 1]
    await asyncio.sleep(0)
    assert len(socket.writes) == 1


async def test_closing_sends_what_is_left_and_aborting_does_not() -> None:
    for end, written in (("close", [b"last"]), ("abort", [])):
        socket = Socket()
        transport = CollectingTransport(socket, Flusher(asyncio.get_running_loop()))
        transport.write(b"last")
        getattr(transport, end)()
        await asyncio.sleep(0)
        assert socket.writes == written
        assert socket.ended.startswith(end)
