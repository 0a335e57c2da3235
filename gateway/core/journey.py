"""What became of one message: the log's record of it joined with the journal.

For each queue it was routed to: by which subscriptions, every time it was handed to somebody
and what they said, and where that leaves it.
"""

from __future__ import annotations

from typing import NamedTuple

from . import deadletter
from .catalog import Catalog
from .engine import SETTLED_BY_DROP, SUPERSEDED, Event, StorageEngine, Trace
from .half import HALF_NAME, HALF_QUEUE_ID
from .message import Message, Outcome
from .metrics import DropCause
from .queue import Queue
from .retained import RETAINED_QUEUE_ID
from .topic import QUEUE_PREFIX, matches

RETAINED_NAME = "$retained"
LETTERS_MAX = 100  # dead letters of one message that a journey tells of


class Stay(NamedTuple):
    """A message's stay in one queue. `name` is "" if the queue has been deleted since."""

    queue_id: int
    name: str
    kind: str
    subscriptions: list[str]  # that match its topic now
    state: str
    attempts: int
    events: list[Event]


class Letter(NamedTuple):
    """A dead letter that was made of it."""

    position: int
    topic: str
    queue: str
    cause: str


class Journey(NamedTuple):
    """One message, from being accepted to the end, or to now."""

    trace: Trace
    stays: list[Stay]
    letters: list[Letter]


def journey(engine: StorageEngine, catalog: Catalog, position: int) -> Journey:
    """Tell the story of the message at a position. Raise NotFound if the log has let it go."""
    trace = engine.history(position)
    names = {queue.queue_id: queue for queue in catalog.queues.values() if queue.queue_id in trace.queue_ids}
    stays = [_stay(trace, queue_id, names.get(queue_id), catalog) for queue_id in trace.queue_ids]
    letters = []
    for at in engine.find(f"@{position}", LETTERS_MAX):
        found = engine.history(at).message
        header = found.properties.header
        letters.append(Letter(at, found.topic, str(header(deadletter.QUEUE)), str(header(deadletter.CAUSE))))
    return Journey(trace, stays, letters)


def outcome_name(outcome: int) -> str:
    """Return an event's outcome as people read it: ack, retry, requeue, reject, or why it was dropped."""
    if outcome >= SETTLED_BY_DROP:
        return DropCause(outcome - SETTLED_BY_DROP).name.lower()
    if outcome == SUPERSEDED:
        return "superseded"
    return Outcome(outcome).name.lower() if outcome else ""


def _stay(trace: Trace, queue_id: int, queue: Queue | None, catalog: Catalog) -> Stay:
    events = [event for event in trace.events if event.queue_id == queue_id]
    attempts = sum(event.kind == "delivered" for event in events)
    if queue_id == RETAINED_QUEUE_ID:
        ended = any(event.kind == "settled" for event in events)
        return Stay(queue_id, RETAINED_NAME, "retained", [], "replaced" if ended else "kept", 0, events)
    if queue_id == HALF_QUEUE_ID:
        ended = any(event.kind == "settled" for event in events)
        return Stay(queue_id, HALF_NAME, "transaction", [], "ended" if ended else "open", 0, events)
    if queue is None:
        return Stay(queue_id, "", "", [], "queue deleted", attempts, events)
    state = _state_in_stream(events) if queue.kind == "stream" else _state(events)
    by = _subscriptions(queue, trace.message, catalog)
    return Stay(queue_id, queue.name, queue.kind, by, state, attempts, events)


def _state(events: list[Event]) -> str:
    """Return where the last events of a classic queue leave a message."""
    state = "waiting"
    for event in events:
        if event.kind == "settled":
            # What was settled stays settled; attempts of others may still have been under way.
            return (
                "acknowledged" if event.outcome == Outcome.ACK else f"dropped: {outcome_name(event.outcome)}"
            )
        state = {"delivered": "delivered", "returned": "waiting"}.get(event.kind, event.kind)
    return state


def _state_in_stream(events: list[Event]) -> str:
    kinds = {event.kind for event in events}
    if any(event.outcome == SUPERSEDED for event in events):
        return "superseded"
    return "trimmed" if "trimmed" in kinds else "purged" if "purged" in kinds else "kept"


def _subscriptions(queue: Queue, message: Message, catalog: Catalog) -> list[str]:
    found = [each for each in catalog.bindings.get(queue.name, {}) if matches(each, message.topic)]
    own = QUEUE_PREFIX + queue.name
    return [own, *found] if message.topic == own else found
