"""The event loop behind the blocking calls: one thread for all access points of a process, as long as one
runs.

One loop, because access points of one URL share what they are connected to only on one loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from ..errors import OMSError, ResponseStatus

T = TypeVar("T")

WORKERS_MAX: Final = 64  # listeners and checkers at a time, of all consumers: threads that may block


class LoopThread:
    """A loop that runs while somebody uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._workers: ThreadPoolExecutor | None = None

    def enter(self) -> None:
        """Use it; started if it does not run."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                loop = self._loop = asyncio.new_event_loop()
                self._workers = ThreadPoolExecutor(WORKERS_MAX, "gateway-oms-listener")
                self._thread = threading.Thread(target=_run, args=(loop,), name="gateway-oms", daemon=True)
                self._thread.start()

    def leave(self) -> None:
        """Use it no more; stopped if nobody does."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            loop, thread, workers = self._loop, self._thread, self._workers
            self._loop = self._thread = self._workers = None
        assert loop is not None
        assert thread is not None
        assert workers is not None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        workers.shutdown(wait=False)

    @property
    def running(self) -> bool:
        """Whether there is a loop."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop. Raise OMSError if it does not run."""
        if self._loop is None:
            raise OMSError("the access point is not started", ResponseStatus.SERVICE_UNAVAILABLE)
        return self._loop

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have a coroutine run; return its future, for any thread."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self.loop)
        except BaseException:
            work.close()
            raise

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for its end.

        Raise OMSError on the loop's own thread, which would wait for ever.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise OMSError(
                "a blocking call on the event loop's thread: interceptors must not",
                ResponseStatus.BAD_REQUEST,
            )
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # interrupted: nobody waits any more
            raise

    async def in_worker(self, call: Any, *arguments: Any) -> Any:
        """Call something that may block, on the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, call, *arguments)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())


#: Everybody's.
THREAD: Final = LoopThread()
