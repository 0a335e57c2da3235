"""Group commit: one thread that syncs, and whoever waits for it.

While one sync runs, later turns write on; the next sync serves them all together. The thread
touches nothing but file descriptors and its own few fields under a lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from .segment import Segment

LAZY_SECONDS: Final = 0.1  # how long what nobody waits for may stay unsynced


class Failure(NamedTuple):
    """A sync that failed: what was written from `first` up to `end` may never be on disk."""

    first: int
    end: int
    segment: Segment | None  # None: the checkpoint after one that failed could not be written, either
    reason: str


class Syncer:
    """Makes what was written durable, in a thread of its own."""

    def __init__(self, notify: Callable[[], None], synced: int) -> None:
        self.notify = notify
        self._changed = threading.Condition()
        self._segments: list[Segment] = []  # written to since the last sync, oldest first
        self._target = 0
        self._urgent = False
        self._stopping = False
        self._idle = True
        self.synced = synced  # everything before this position is on disk
        self.failures: list[Failure] = []  # kept, for who asks later; each costs a segment: they are few
        self.broken = False  # a sync has failed: only a checkpoint can make up for the keys that were in it
        self._job: Callable[[], bool] | None = None
        self._makes_up = False
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log-sync", daemon=True)
        self._thread.start()

    @property
    def proven(self) -> int:
        """Everything before this position is on disk, without exception; 0 if nobody knows."""
        synced = self.synced  # first: `broken` is set before it
        return 0 if self.broken else synced

    def wrote(self, segment: Segment, position: int, urgent: bool) -> None:
        """A turn has written up to `position`; `urgent` if somebody waits for it."""
        with self._changed:
            if not self._segments or self._segments[-1] is not segment:
                self._segments.append(segment)
            self._target = position
            self._urgent = self._urgent or urgent
            if urgent or self._idle:
                self._changed.notify()

    def hurry(self) -> None:
        """Somebody waits for what was written earlier."""
        with self._changed:
            if self._segments:
                self._urgent = True
                self._changed.notify()

    def lost(self, position: int) -> bool:
        """Tell whether a position below `synced` is among what could not be synced."""
        return any(failure.first <= position < failure.end for failure in self.failures)

    def after_next(self, job: Callable[[], bool], makes_up: bool) -> None:
        """Run a job in the thread once everything written so far is on disk; never if that fails.

        It writes a checkpoint, and tells whether it could; `makes_up`: it was begun after a failure.
        """
        with self._changed:
            self._job, self._makes_up = job, makes_up
            self._urgent = True
            self._changed.notify()

    def stop(self) -> None:
        """Sync what is left and end the thread. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                while not self._segments and self._job is None and not self._stopping:
                    self._changed.wait()
                self._idle = False
                if not self._segments and self._job is None:
                    return
                if not self._urgent and not self._stopping:
                    self._wait_lazily()
            self._step()

    def _step(self) -> None:
        """Sync what has been written so far, and do the job that waits for it."""
        with self._changed:
            segments, self._segments = self._segments, []
            target, self._urgent = self._target, False
            job, self._job = self._job, None
            makes_up = self._makes_up
        failed = self._sync(segments, target)
        if failed is None and not self.broken:
            self._reached(target)
            if job is not None:
                job()
        elif failed is not None:
            self.broken = True
            self._reached(target, failed)
        elif job is not None and makes_up:
            self.broken = not job()
            what = "no checkpoint could be written after a sync that failed"
            self._reached(target, Failure(self.synced, target, None, what) if self.broken else None)

    def _reached(self, target: int, failed: Failure | None = None) -> None:
        if failed is not None:
            self.failures.append(failed)  # before `synced`: who sees the one must see the other
        self.synced = target
        self.notify()

    def _wait_lazily(self) -> None:
        deadline = time.monotonic() + LAZY_SECONDS
        while not self._urgent and not self._stopping and (left := deadline - time.monotonic()) > 0:
            self._changed.wait(left)

    def _sync(self, segments: list[Segment], target: int) -> Failure | None:
        """Sync files; return what went wrong."""
        failed: Failure | None = None
        for segment in segments:
            try:
                segment.sync()
            except OSError as error:
                # Never retried: after a failed sync the kernel may have dropped the pages.
                reason = f"{segment.path}: {error.strerror or error}"
                failed = Failure(self.synced, target, segment, reason)
        return failed
