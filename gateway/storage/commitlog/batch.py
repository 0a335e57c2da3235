"""What a turn writes: records, one after the other, and what is known of them until they are written."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from gateway.core.message import Message
from gateway.storage.index import QueueIndex

from . import record
from .record import HEADER, HEADER_BYTES

Messages = Sequence[tuple[Message, Sequence[int]]]  # with the queues they are for
Settled = Sequence[tuple[int, Sequence[int]]]  # queue, positions
Cursors = Sequence[tuple[int, str, int]]  # queue, group of a stream, offset


class Batch:
    """`pieces` go out in one write. `mark` begins every record."""

    __slots__ = ("carried", "cursors", "mark", "pending", "pieces", "references", "settled")

    def __init__(self) -> None:
        self.mark = b""
        self.pieces: list[bytes] = []
        self.pending: dict[int, Message] = {}  # by position
        self.references = 0  # of queues to the messages, not counted yet
        self.carried: list[bytes] = []  # payloads that outlive the batch's failure
        self.settled: list[tuple[int, Sequence[int]]] = []  # by transactions, not by the index yet
        self.cursors: list[tuple[int, str, int]] = []  # the same

    def __bool__(self) -> bool:
        return bool(self.pieces)

    def add(self, payload: bytes) -> None:
        """Add a record."""
        self.pieces.append(HEADER.pack(self.mark, len(payload), crc32(payload)))
        self.pieces.append(payload)

    def keep(self, payload: bytes) -> None:
        """Add a record that must not be lost should the batch fail."""
        self.add(payload)
        self.carried.append(payload)

    def add_all(self, payloads: list[bytes], at: int) -> list[int]:
        """Add the records of a group, which are lost with the batch; return where all but its head go."""
        positions: list[int] = []
        for payload in payloads:
            self.add(payload)
            positions.append(at)
            at += HEADER_BYTES + len(payload)
        return positions[1:]

    def settle(self, settled: Settled, cursors: Cursors) -> None:
        """Have the index know these once they are written."""
        self.settled += settled
        self.cursors += cursors

    def counted(self) -> int:
        """Return the references, which count elsewhere from now on."""
        count, self.references = self.references, 0
        return count

    def take(self) -> bytes:
        """Return what is to be written, and begin anew with it."""
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)

    def written(self, index: QueueIndex) -> None:
        """It has been: what transactions have settled is."""
        for queue_id, positions in self.settled:
            index.settle(queue_id, positions)
        for queue_id, name, offset in self.cursors:
            index.cursors[(queue_id, name)] = offset
        self.pending.clear()
        self.carried.clear()
        self.settled.clear()
        self.cursors.clear()

    def failed(self, first: int) -> list[bytes]:
        """It cannot be, from a position on: forget it; return what has to be written all the same."""
        self.pieces = []
        self.pending = {}
        self.settled.clear()
        self.cursors.clear()
        carried, self.carried = self.carried, []
        # What was moved is where it was.
        kept = [record.without_positions_from(p, first) for p in carried if p[0] != record.MOVED]
        return [payload for payload in kept if payload]


def group(
    messages: Messages, settled: Settled, now_ms: int, outcome: int, cursors: Cursors
) -> tuple[list[bytes], int]:
    """Return the payloads of a transaction, its head first, and the bytes that they take as records."""
    payloads = [record.encode_message(message, ids, now_ms) for message, ids in messages]
    payloads += [
        record.encode_settle(record.SETTLE, queue_id, outcome, now_ms, positions)
        for queue_id, positions in settled
    ]
    payloads += [record.encode_cursor(queue_id, name, offset, now_ms) for queue_id, name, offset in cursors]
    length = sum(HEADER_BYTES + len(payload) for payload in payloads)
    head = record.encode_group(length)
    return [head, *payloads], HEADER_BYTES + len(head) + length
