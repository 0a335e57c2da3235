"""Order: the messages of a sharding key come, for the first time, in the order in which they were stored.

What comes again may come late; what is lost is the queue checker's. A key has one sender, so the order of its
responses is the order in which they were stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..history import DEQUEUE, ENQUEUE, Entry, Outcome, Response
from .verdict import Verdict


def check_order(history: Sequence[Entry]) -> Verdict:
    """Return which keys are out of order."""
    sent: defaultdict[str, dict[str, int]] = defaultdict(dict)  # key -> value -> its place
    came: defaultdict[str, list[str]] = defaultdict(list)
    for entry in history:
        if not isinstance(entry, Response) or entry.outcome is not Outcome.SUCCESS:
            continue
        if entry.key is None or entry.value is None:
            continue
        if entry.op == ENQUEUE:
            sent[entry.key].setdefault(entry.value, len(sent[entry.key]))
        elif entry.op == DEQUEUE:
            came[entry.key].append(entry.value)
    wrong = {key: value for key in sent if (value := _out_of_order(sent[key], came[key])) is not None}
    first = next(iter(wrong), None)
    fields = {
        "order": not wrong,
        "shardingKeyCount": len(sent),
        "wrongShardingKey": first,
        "wrongStartValue": None if first is None else wrong[first],
        "wrongShardingKeys": wrong,
    }
    return Verdict(
        "OrderTestResult", fields, [f"order: {key} from {value} on" for key, value in wrong.items()]
    )


def _out_of_order(places: dict[str, int], came: list[str]) -> str | None:
    """Return the first value that comes after one that was stored later."""
    newest = -1
    for value in dict.fromkeys(came):
        place = places.get(value)
        if place is None:
            continue  # nobody knows whether or when it was stored
        if place < newest:
            return value
        newest = place
    return None
