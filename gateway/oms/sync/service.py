"""What starts and stops: blocking, around the async object that does it."""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from ..client import Client
from ..key_value import KeyValue
from ..lifecycle import ServiceLifecycle, ServiceState
from ..message import QueueMetaData
from .thread import THREAD


class Service:
    """Base class: starts and stops, and is a context manager."""

    def __init__(self, inner: ServiceLifecycle) -> None:
        self._inner = inner

    @property
    def state(self) -> ServiceState:
        """Where it is in its life."""
        return self._inner.state

    def start(self) -> None:
        """Begin, or begin again."""
        if self._inner.state is not ServiceState.STARTED:
            THREAD.enter()
            try:
                THREAD.call(self._inner.start())
            except BaseException:
                THREAD.leave()
                raise

    def stop(self) -> None:
        """End; it may be started again."""
        if self._inner.state is ServiceState.STARTED:
            try:
                THREAD.call(self._inner.stop())
            finally:
                THREAD.leave()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class BlockingClient(Service):
    """Base class of producers and consumers."""

    _inner: Client

    @property
    def attributes(self) -> KeyValue:
        """The attributes in effect."""
        return self._inner.attributes

    def queue_metadata(self, queue: str) -> list[QueueMetaData]:
        """Return the partitions of a queue."""
        return THREAD.call(self._inner.queue_metadata(queue))


def call_or_run(work: Coroutine[Any, Any, None]) -> None:
    """Run what does not wait before the start: on the loop, or, as long as there is none, here."""
    if THREAD.running:
        THREAD.call(work)
        return
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("what is done before the start does not wait")
