"""Syncs that failed, and what is left to be done about them.

What a failed sync was to make durable is given up, never synced again: its publishers are told so,
its segment is not written to any more, and a checkpoint makes up for the keys and the journal in
it. Until that is written nothing counts as stored.
"""

from __future__ import annotations

import logging

from .segment import Segment
from .segments import Segments
from .sync import Failure, Syncer

log = logging.getLogger("gateway.storage")


class Failures:
    """`segment` is to be left; `make_up` asks for a checkpoint."""

    __slots__ = ("_known", "make_up", "segment")

    def __init__(self) -> None:
        self._known = 0
        self.segment: Segment | None = None
        self.make_up = False

    def take(self, syncer: Syncer) -> list[Failure]:
        """Return the failures of files that are new, and say so in the log."""
        found = []
        for failure in syncer.failures[self._known :]:
            self._known += 1
            log.error("the log could not be synced, publishers are told so: %s", failure.reason)
            if failure.segment is not None:
                found.append(failure)
                self.segment = failure.segment
                self.make_up = True
        return found

    def leaves(self, segments: Segments) -> bool:
        """Tell whether the segment that is written to is the one to be left."""
        if self.segment is not None and (segments.next is not None or segments.last is not self.segment):
            self.segment = None  # that has come about by itself
        return self.segment is not None
