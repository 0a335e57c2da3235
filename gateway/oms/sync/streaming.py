"""Blocking streams."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from ..fields import Seconds
from ..message import Message
from ..streaming import Stream
from ..streaming import StreamingConsumer as AsyncStreamingConsumer
from ..streaming import StreamingIterator as AsyncStreamingIterator
from .service import BlockingClient
from .thread import THREAD


class StreamingConsumer(BlockingClient):
    """Opens iterators over streams: see `gateway.oms.StreamingConsumer`."""

    _inner: AsyncStreamingConsumer

    def seek_to_beginning(self, stream: Stream) -> StreamingIterator:
        """Return an iterator before the oldest message that there is."""
        return StreamingIterator(THREAD.call(self._inner.seek_to_beginning(stream)))

    def seek_to_end(self, stream: Stream) -> StreamingIterator:
        """Return an iterator behind the newest."""
        return StreamingIterator(THREAD.call(self._inner.seek_to_end(stream)))

    def seek(self, stream: Stream, position: int | datetime) -> StreamingIterator:
        """Return an iterator before a position, or a time."""
        return StreamingIterator(THREAD.call(self._inner.seek(stream, position)))


class StreamingIterator:
    """A place between two messages of a stream. Iterating goes on to the end that there is now."""

    def __init__(self, inner: AsyncStreamingIterator) -> None:
        self._inner = inner

    @property
    def next_position(self) -> int:
        """Where it is."""
        return self._inner.next_position

    @property
    def previous_position(self) -> int:
        """The position before."""
        return self._inner.previous_position

    def has_next(self) -> bool:
        """Tell whether there is a message for `next` now."""
        return THREAD.call(self._inner.has_next())

    def next(self, timeout: Seconds | None = 0) -> Message | None:
        """Return the next message; None at the end, after waiting so long."""
        return THREAD.call(self._inner.next(timeout))

    def has_previous(self) -> bool:
        """Tell whether there is a message for `previous`."""
        return THREAD.call(self._inner.has_previous())

    def previous(self) -> Message | None:
        """Return the message before; None at the beginning."""
        return THREAD.call(self._inner.previous())

    def __iter__(self) -> Iterator[Message]:
        while (message := self.next()) is not None:
            yield message
