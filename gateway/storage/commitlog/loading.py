"""From places in a queue to messages: what is still in the batch, and what is on file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gateway.core.engine import Stored
from gateway.core.errors import NotFound, StorageError
from gateway.core.message import Message
from gateway.storage.block import Place

from . import record
from .reader import Reader
from .segment import Damage
from .segments import Segments

LOAD_BYTES: Final = 1 << 20  # bodies that one look into a queue brings into memory

log = logging.getLogger("gateway.storage")


def load(
    places: list[Place],
    tried: Mapping[int, int],
    pending: Mapping[int, Message],
    now_ms: int,
    segments: Segments,
    reader: Reader,
) -> list[Stored]:
    """Return the messages at some places, the first of them at least.

    `tried` knows attempts and tags, `pending` what this turn has stored. What cannot be read is
    there without its message, and reported.
    """
    found: list[Stored] = []
    left = LOAD_BYTES
    for offset, position, size in places:
        message = pending.get(position)
        stored_at_ms = now_ms
        if message is None:
            try:
                payload = segments.payload(position, reader)
                message, stored_at_ms = record.decode_message(payload), record.stored_at_ms(payload)
            except (Damage, OSError) as error:
                log.error("a waiting message cannot be read and is given up: %s", error)
        attempt = tried.get(position, 0)
        tag = attempt & 0xFFFFFFFF
        found.append(Stored(offset, position, message, size, attempt >> 32, tag, stored_at_ms))
        left -= size
        if left < 0:
            break
    return found


def due_times(
    places: list[Place], pending: Mapping[int, Message], segments: Segments, reader: Reader
) -> tuple[list[int], list[int]]:
    """Return when the messages at some places are to be delivered, and their positions.

    What cannot be read is due at once, so that somebody finds out.
    """
    dues: list[int] = []
    positions: list[int] = []
    for _, position, _ in places:
        message = pending.get(position)
        due_ms = 0
        if message is not None:
            due_ms = message.properties.deliver_at_ms or 0
        else:
            try:
                due_ms = record.deliver_at_ms(segments.payload(position, reader))
            except (Damage, OSError) as error:
                log.error("a waiting message cannot be read: %s", error)
        dues.append(due_ms)
        positions.append(position)
    return dues, positions


def message_payload(segments: Segments, position: int) -> bytes:
    """Return the payload of the message at a position. Raise NotFound."""
    try:
        payload = segments.payload(position)
    except (Damage, OSError) as error:
        raise NotFound(f"no message at position {position}: {error}") from error
    if payload[0] != record.MESSAGE:
        raise NotFound(f"no message at position {position}")
    return payload


def messages_after(segments: Segments, position: int) -> Iterator[tuple[int, Message]]:
    """Yield (position, message) of the messages with properties above a position. Raise StorageError."""
    for segment in segments:
        if segment.base + segment.end <= position:
            continue
        try:
            for offset, payload in segment.records(position - segment.base, segment.end):
                found = segment.base + offset
                if payload[0] == record.MESSAGE and found > position and record.raw_properties(payload):
                    yield found, record.decode_message(payload)
        except OSError as error:
            raise StorageError(f"{segment.path}: {error.strerror}") from error


def offset_at(at: Callable[[int], list[Stored]], low: int, high: int, time_ms: int) -> int:
    """Return the first offset, from `low` up to `high`, of what was stored at a time (Unix ms) or later.

    `at` returns the first message from an offset on.
    """
    while low < high:
        middle = (low + high) // 2
        found = at(middle)
        if found and found[0].stored_at_ms < time_ms:
            low = found[0].offset + 1
        else:
            high = middle
    return low
