"""What tests of the commit log share."""

from __future__ import annotations

from gateway.core.engine import Stored
from gateway.core.message import Origin
from gateway.storage.commitlog import CommitLog

ORIGIN = Origin("test", "", "client", "")
NOW_MS = 1_700_000_000_000


def waiting(log: CommitLog, queue_id: int = 2) -> list[Stored]:
    """Return all that a queue has not settled."""
    found: list[Stored] = []
    position = 0
    while some := log.after(queue_id, position, 1000):
        found += some
        position = some[-1].position
    return found


def bodies(log: CommitLog, queue_id: int = 2) -> list[bytes]:
    """Return the bodies of what a queue has not settled."""
    return [entry.message.body for entry in waiting(log, queue_id) if entry.message is not None]
