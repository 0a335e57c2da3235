"""Lost and duplicated messages: was each that was stored dequeued, and no more than once?

- lost: enqueued with SUCCESS, and never dequeued;
- duplicate: dequeued more than once;
- unexpected: dequeued, but never asked to be enqueued, or refused (FAILURE).

A dequeue is UNKNOWN when a client has the message and its acknowledgement was not answered: that message may
come again, and is not lost. One whose enqueuing is UNKNOWN may come or not, once; openchaos counts such a
message that came as a duplicate, which makes every broker that was killed look like one that doubles.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ..history import DEQUEUE, ENQUEUE, Entry, Outcome, Request, Response
from .verdict import Verdict


def check_queue(history: Sequence[Entry]) -> Verdict:
    """Return what became of messages."""
    values: dict[tuple[str, Outcome], Counter[str]] = defaultdict(Counter)
    extras: dict[str, str | None] = {}
    invoked = 0
    for entry in history:
        if isinstance(entry, Request):
            invoked += entry.op == ENQUEUE
        elif isinstance(entry, Response) and entry.value is not None:
            values[entry.op, entry.outcome][entry.value] += 1
            if entry.op == ENQUEUE:
                extras[entry.value] = entry.extra
    return _verdict(values, extras, invoked)


def _verdict(
    values: Mapping[tuple[str, Outcome], Counter[str]], extras: Mapping[str, str | None], invoked: int
) -> Verdict:
    stored, unknown = values[ENQUEUE, Outcome.SUCCESS], values[ENQUEUE, Outcome.UNKNOWN]
    dequeued, handed_out = values[DEQUEUE, Outcome.SUCCESS], values[DEQUEUE, Outcome.UNKNOWN]
    came = dequeued.keys() | handed_out.keys()
    lost = {value: f"info = {extras[value]}" for value in stored if value not in came}
    duplicates = {value: f"duplicate count = {n - 1}" for value, n in dequeued.items() if n > 1}
    unexpected = [value for value in dequeued if value not in stored and value not in unknown]
    at_most_once = not duplicates and not unexpected
    fields = {
        "enqueueInvokeCount": invoked,
        "enqueueSuccessCount": stored.total(),
        "dequeueSuccessCount": dequeued.total(),
        "lostMessageCount": len(lost),
        "lostMessages": lost,
        "duplicateMessageCount": sum(n - 1 for n in dequeued.values()),
        "duplicateMessages": duplicates,
        "unexpectedMessageCount": len(unexpected),
        "unexpectedMessages": unexpected,
        "unknownDequeuedCount": len(unknown.keys() & came),
        "atMostOnce": at_most_once,
        "atLeastOnce": not lost,
        "exactlyOnce": at_most_once and not lost,
    }
    faults = [f"lost: {value} ({info})" for value, info in lost.items()]
    faults += [f"duplicate: {value} ({info})" for value, info in duplicates.items()]
    faults += [f"unexpected: {value} was never stored" for value in unexpected]
    return Verdict("QueueTestResult", fields, faults)
