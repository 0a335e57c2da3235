"""What the core needs of a storage engine, at the level of messages, queues and keys.

An engine keeps one log of records. `append` stores a message once, whatever the fan-out,
with the ids of the queues it was routed to; `delivered` and `settle` are journal entries;
`put` and `delete` change a key-value store. All of these only add to the current turn's
batch: `flush` hands the batch to the operating system in one write, and `when_durable`
calls back once a position has reached the disk.

Everything is called from the event loop's thread and must not wait for the disk, except
`open` and `close`. Positions are positive, grow with every append, and are never reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from .message import Message, Origin, Outcome

SUPERSEDED: Final = 8  # journal outcome of a message that a later one of its key, or topic, has replaced
SETTLED_BY_DROP: Final = 16  # of a dropped message: 16 + DropCause


class Stored(NamedTuple):
    """An unsettled message of a queue."""

    offset: int  # its number in the queue
    position: int
    message: Message | None  # None: it cannot be read any more
    size: int  # of the body, bytes
    attempts: int  # deliveries journalled so far
    tag: int  # of the last delivery
    stored_at_ms: int


class Extent(NamedTuple):
    """How far a queue's unsettled messages reach."""

    first: int  # offset of the oldest; `next` if there is none
    next: int  # the offset that the next message will get
    messages: int
    size: int  # of the bodies, bytes


class Event(NamedTuple):
    """What the journal says about a message and one of its queues.

    `kind` is delivered, returned, settled, passed (a stream's group has come by it), trimmed
    (by retention), purged or queue deleted. `time_ms` is 0 where it was not written down.
    """

    position: int  # of the record: events are in this order
    kind: str
    queue_id: int
    time_ms: int
    consumer: Origin | None = None
    group: str = ""
    outcome: int = 0  # as in `StorageEngine.settle`


class Trace(NamedTuple):
    """A message that was stored, and what became of it."""

    position: int
    message: Message
    stored_at_ms: int
    queue_ids: tuple[int, ...]
    events: list[Event]


class Recovery(NamedTuple):
    """What `open` found besides messages and keys: the cursors of streams' groups, and remarks.

    `cursors[(queue_id, group)]` is the offset below which everything is settled. `remarks` are
    one line each, for people: what was cut off, what was damaged, and where.
    """

    cursors: dict[tuple[int, str], int]
    remarks: list[str]


class Backup(Protocol):
    """A consistent copy of everything, as files of a data directory, for whoever reads it in time."""

    @property
    def files(self) -> Sequence[tuple[str, int]]:
        """Names, relative and with slashes, and sizes in bytes."""

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return bytes of a file, fewer only at its end; in any thread. Raise StorageError."""

    def close(self) -> None:
        """It was read, or nobody wants it any more. Idempotent."""


class StorageEngine(Protocol):
    """A place to keep messages, journal and metadata."""

    def open(self, notify: Callable[[], None]) -> Recovery:
        """Open or create, recover, and return what is there. Raise StorageError if impossible.

        `notify` may be called from any thread, to have `completed` called soon on the loop.
        """

    # -- messages and journal

    def append(self, message: Message, queue_ids: Sequence[int], now_ms: int, sync: bool = True) -> int:
        """Add a message for these queues, stored now (Unix ms); return its position.

        Without `sync`, whoever waits for it waits until it is written, not until the disk has it.
        """

    def transact(
        self,
        messages: Sequence[tuple[Message, Sequence[int]]],
        settled: Sequence[tuple[int, Sequence[int]]],
        now_ms: int,
        at_once: bool = False,
        outcome: int = Outcome.ACK,
        cursors: Sequence[tuple[int, str, int]] = (),
    ) -> list[int]:
        """Add messages for queues, and settle positions of queues: all of it, or nothing, ever.

        Return the messages' positions. What is settled is waiting until the batch is written,
        and goes on waiting if it cannot be; `outcome` is as for `settle`. `cursors` are of streams'
        groups, as (queue id, group, offset). Somebody waits for it, so it is synced.

        With `at_once` the batch is written before this returns: nobody sees what a full disk takes
        back. Raise NotStored if it could not be: then nothing of this has happened, and `flush` tells
        what else of the turn is lost.
        """

    def delivered(
        self,
        queue_id: int,
        positions: Sequence[int],
        tags: Sequence[int],
        consumer: Origin,
        group: str,
        now_ms: int,
    ) -> None:
        """Journal that messages were handed to a consumer; `group` names a stream's group."""

    def settle(self, queue_id: int, positions: Sequence[int], outcome: int, now_ms: int) -> None:
        """Journal that a queue is done with messages.

        `outcome` is an `Outcome`, 8 for replaced by a newer one, or 16 + `DropCause`.
        """

    def returned(self, queue_id: int, position: int, outcome: int, now_ms: int) -> None:
        """Journal that a message came back unsettled (`Outcome.RETRY` or `REQUEUE`)."""

    def cursor(self, queue_id: int, group: str, offset: int, now_ms: int) -> None:
        """Journal how far a group of a stream has settled everything; -1: the group is gone."""

    def trim(self, queue_id: int, offset: int) -> None:
        """Journal that a stream keeps nothing below an offset."""

    def purge(self, queue_id: int, keep: Sequence[int]) -> None:
        """Journal that a queue has dropped everything but these positions, which consumers hold."""

    def drop_queue(self, queue_id: int) -> None:
        """Forget everything of a queue. Its id is never used again."""

    # -- looking

    def read(self, position: int) -> Message:
        """Return the message at a position, flushed or not. Raise NotFound if it is gone."""

    def after(self, queue_id: int, position: int, count: int) -> list[Stored]:
        """Return a queue's first unsettled messages above a position: at most `count`, at least one
        if there is one, in order. May stop earlier at a size of its choice."""

    def at(self, queue_id: int, offset: int, count: int) -> list[Stored]:
        """The same from an offset on."""

    def due_times(self, queue_id: int, position: int, count: int) -> tuple[list[int], list[int]]:
        """Return of a queue's first unsettled messages above a position, at most `count`, in order: when
        each is to be delivered (`Properties.deliver_at_ms`, 0: it does not say), and its position."""

    def extent(self, queue_id: int, after: int = 0) -> Extent:
        """Return how far a queue's unsettled messages above a position reach."""

    def offset_at(self, queue_id: int, time_ms: int) -> int:
        """Return the offset of the first unsettled message stored at a time or later."""

    def backup(self) -> Backup | None:
        """Begin a copy of everything as of now; None if this engine has nothing to copy.

        Raise Conflict if one is running, or StorageError.
        """

    def prepare_search(self) -> Callable[[], None] | None:
        """Return work that makes the next three calls quick, to be done in a thread; None if they are."""

    def find(self, term: str, limit: int) -> list[int]:
        """Return positions of messages whose id, or one of whose keys, this is, newest first.

        `@<position>` finds the dead letters made of the message at that position.
        """

    def stored_between(self, from_ms: int, to_ms: int, after: int, limit: int) -> tuple[list[int], int]:
        """Return positions of messages stored from a time on, up to another (Unix ms), oldest first,
        above the position `after`; and where to go on (0: there are no more)."""

    def messages_after(self, position: int) -> Iterator[tuple[int, Message]]:
        """Yield (position, message) of what is stored above a position and has properties, settled or not:
        read from one end to the other, at a start."""

    def history(self, position: int) -> Trace:
        """Return a message, settled or not, and what became of it. Raise NotFound if it is gone."""

    # -- keys

    def put(self, key: str, value: bytes) -> None:
        """Set a key."""

    def delete(self, key: str) -> None:
        """Remove a key; one that does not exist is fine."""

    def get(self, key: str) -> bytes | None:
        """Return a key's value, or None."""

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield (key, value) of every key with the prefix, in key order, as of the call."""

    # -- writing

    def flush(self) -> None:
        """Write the batch with one call. Raise NotStored if it could not be written: the batch
        is then forgotten (callbacks waiting for it are called with False), and
        `failed_from()` tells the first position that was lost."""

    def failed_from(self) -> int:
        """Return the first position lost by the last failed flush."""

    def position(self) -> int:
        """Return the highest position handed out, key-value changes included: waiting for it
        waits for everything so far."""

    def stored(self, position: int) -> bool | None:
        """Tell whether a position is on disk: None for not yet, False for never."""

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        """Call with True once everything up to `position` is on disk (or written, if nothing of it was
        to be synced), with False if it never will be. May call at once."""

    def completed(self) -> None:
        """Run the callbacks that have become due. Called on the loop after `notify`."""

    def sweep(self, now_ms: int) -> None:
        """Do some of the work that can wait, such as freeing space. Called about once a second."""

    def close(self) -> None:
        """Flush, sync and release. Idempotent."""


def stored_at(engine: StorageEngine, queue_id: int, position: int) -> Stored | None:
    """Return a queue's unsettled message at a position, None if it has none there."""
    found = engine.after(queue_id, position - 1, 1)
    return found[0] if found and found[0].position == position else None
