"""Publishing what was not published before; the duplicate is answered as the first was.

A step between a session, which has admitted the message, and the broker: here it is looked up by
what it is known by (see `dedup`), and noted once it is in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .dedup import Identity
from .delivery import Delivery
from .errors import GatewayError
from .message import Message
from .metrics import DropCause
from .router import NO_SUBSCRIBERS
from .transaction import Publish, commit, release

if TYPE_CHECKING:
    from .broker import Broker


class Published(NamedTuple):
    """What has become of a publish: the position to wait for (see `Broker.publish`), and whether this
    is a duplicate: then the position and the message id are the first one's, None if it has gone."""

    position: int
    duplicate: bool
    message_id: str | None


def publish_once(broker: Broker, message: Message, publish: Callable[[], int]) -> Published:
    """Call `publish`, unless the message was seen. What it raises was not published."""
    identities = broker.dedup.identities(message)
    if not identities:
        return Published(publish(), False, message.properties.message_id)
    first = broker.dedup.seen(identities)
    if first:
        broker.metrics.refuse(DropCause.DUPLICATE)
        return Published(first, True, _id_at(broker, first))
    broker.dedup.begin()
    position = note(broker, message, identities, publish())
    return Published(position, False, message.properties.message_id)


def note(broker: Broker, message: Message, identities: list[Identity], position: int) -> int:
    """Remember a message that was published; return the position to wait for."""
    logged = position > 0 and (message.body or not message.retain)  # what clears is not in the log
    at = position if logged else broker.engine.append(message, (), broker.clock.now_ms)
    broker.dedup.remember(identities, at)
    broker.ready.wake()
    return at if position != NO_SUBSCRIBERS else NO_SUBSCRIBERS


def commit_once(
    broker: Broker,
    publishes: Sequence[Publish | None],
    acknowledged: Sequence[Delivery],
    at_once: bool = False,
) -> list[int]:
    """Commit a transaction without what was published before, or is None; return as `commit`, 0 for these."""
    known: set[Identity] = set()
    kept = [None if one is None or _duplicate(broker, one[0], known) else one for one in publishes]
    messages = [one for one in kept if one is not None]
    if known:
        broker.dedup.begin()
    positions = commit(broker, messages, acknowledged, at_once)
    if known:
        _note_all(broker, [message for message, _ in messages], positions)
    left = iter(positions)
    return [0 if one is None else next(left) for one in kept]


def release_once(
    broker: Broker, messages: Sequence[Message], record: Message, queue_id: int, positions: Sequence[int]
) -> list[int]:
    """Do as `release`, but for what was published before."""
    known: set[Identity] = set()
    kept = [message for message in messages if not _duplicate(broker, message, known)]
    if known:
        broker.dedup.begin()
    results = release(broker, kept, record, queue_id, positions)
    if known:
        _note_all(broker, kept, results[:-1])
    return results


def _note_all(broker: Broker, messages: Sequence[Message], positions: Sequence[int]) -> None:
    for message, position in zip(messages, positions, strict=True):
        identities = broker.dedup.identities(message)
        if identities:
            note(broker, message, identities, position)


def _duplicate(broker: Broker, message: Message, known: set[Identity]) -> bool:
    """Tell whether a message of a transaction is one, and count it; if not, `known` gets its identities."""
    identities = broker.dedup.identities(message)
    if broker.dedup.seen(identities) or not known.isdisjoint(identities):
        broker.metrics.refuse(DropCause.DUPLICATE)
        return True
    known.update(identities)
    return False


def _id_at(broker: Broker, position: int) -> str | None:
    try:
        return broker.engine.read(position).properties.message_id
    except GatewayError:
        return None  # it has been consumed, and its part of the log is gone
