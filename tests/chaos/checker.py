"""The verdict on a history: what was lost, came twice, out of order, or out of nowhere.

In the style of OpenMessaging-chaos: clients only note what they do and see; what that means is
decided afterwards, so that a history can be looked at again. `python -m tests.chaos.checker FILE`.

Kinds of queues, and what is wrong in them:

    classic  at least once: a message that was said to be stored and never came is lost; one that comes
             again after its acknowledgement is on disk is a duplicate
    loose    the same, but a crash or a full disk may take messages
    group    of a stream: at least once, and after a crash from its last position on
    replay   of a stream, once from its beginning to its end: each message once
    compact  the same of a compacted stream: of each key the last, and nothing that came before it
    values   the same in no order, as of retained messages

First deliveries from one sender, of one ordering key, come in its order, in all others: keys do not wait for
each other.

A dead letter is there instead of its message: who drains all queues at the end gets one of both, once. A
sync that failed may have doubled it: the disk has said that it does not know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from tests.chaos.history import Event, read


class Verdict:
    """What is wrong, a line each; and how much there was."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.duplicated: list[str] = []
        self.reordered: list[str] = []
        self.phantom: list[str] = []
        self.sent = self.stored = self.received = self.repeated = self.crashes = 0

    @property
    def faults(self) -> list[str]:
        """All that is wrong."""
        found = []
        for kind in ("lost", "duplicated", "reordered", "phantom"):
            found += [f"{kind}: {line}" for line in getattr(self, kind)]
        return found

    def __str__(self) -> str:
        counts = f"{self.sent} sent, {self.stored} stored, {self.received} received"
        more = f"{self.repeated} of them again, {self.crashes} crashes"
        return "\n".join([*self.faults[:50], f"{counts}, {more}: {len(self.faults)} faults"])


class _Queue:
    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.received: dict[str, int] = {}
        self.acked: set[str] = set()
        self.newest: dict[tuple[str, str], int] = {}  # sender and key -> number of its last first delivery
        self.order: list[str] = []


class Checker:
    """Takes events one by one."""

    def __init__(self, plan: Event) -> None:
        self.verdict = Verdict()
        self._queues = {name: _Queue(name, kind) for name, kind in plan["queues"].items()}
        self._sent: dict[str, Event] = {}
        self._order: list[str] = []
        self._stored: set[str] = set()
        self._ended = False
        self._left: dict[
            tuple[str, str], int
        ] = {}  # (queue, message) -> which letter the drain got, 0: itself
        self._draining = self._unsure = False

    def take(self, event: Event) -> None:
        """Take the next."""
        take = self._TAKE.get(event["op"])  # the others say nothing that could be wrong
        if take is not None:
            take(self, event)

    def finish(self) -> Verdict:
        """Return the verdict."""
        assert self._ended, "the history has no end: nothing can be said about what is missing"
        for queue in self._queues.values():
            if queue.kind in ("compact", "values"):
                self._check_compact(queue)
            elif queue.kind != "loose":
                self._check_lost(queue)
        return self.verdict

    def _send(self, event: Event) -> None:
        self.verdict.sent += 1
        self._sent[event["id"]] = event
        self._order.append(event["id"])

    def _note_stored(self, event: Event) -> None:
        self.verdict.stored += 1
        self._stored.add(event["id"])

    def _receive(self, event: Event) -> None:
        queue, name = self._queues[event["queue"]], event["id"]
        sent = self._sent.get(name)
        where = f"{name} in {queue.name}"
        self.verdict.received += 1
        if sent is None or queue.name not in sent["to"]:
            self.verdict.phantom.append(f"{where}: was never sent there")
            return
        if event["text"] != sent["text"]:
            self.verdict.phantom.append(f"{where}: its body is another")
        seen = queue.received.get(name, 0)
        queue.received[name] = seen + 1
        queue.order.append(name)
        if seen:
            self.verdict.repeated += 1
            if queue.kind in ("replay", "compact", "values"):
                self.verdict.duplicated.append(f"{where}: twice in one reading")
        if self._draining and queue.kind == "classic":
            self._check_single(queue, name, event.get("letter", 0), where)
        if name in queue.acked and not event.get("letter"):
            self.verdict.duplicated.append(f"{where}: after its acknowledgement was on disk")
        if not seen and queue.kind != "values":
            self._check_order(queue, sent, where)

    def _check_single(self, queue: _Queue, name: str, letter: int, where: str) -> None:
        """Nothing fails while all is drained: each message, or its letter, comes once."""
        before = self._left.setdefault((queue.name, name), letter)
        if before != letter and not self._unsure:
            self.verdict.duplicated.append(f"{where}: there is more than one of it and its dead letter")

    def _drain(self, event: Event) -> None:
        self._draining = True

    def _not_sure(self, event: Event) -> None:
        self._unsure = True

    def _check_order(self, queue: _Queue, sent: Event, where: str) -> None:
        line = (sent["by"], sent["key"])
        newest = queue.newest.get(line, -1)
        if sent["n"] < newest:
            self.verdict.reordered.append(f"{where}: after number {newest} of {sent['by']}")
        queue.newest[line] = max(newest, sent["n"])

    def _acked(self, event: Event) -> None:
        queue = self._queues[event["queue"]]
        if queue.kind in ("classic", "loose"):
            queue.acked.add(event["id"])

    def _crash(self, event: Event) -> None:
        self.verdict.crashes += 1

    def _end(self, event: Event) -> None:
        self._ended = True

    def _check_lost(self, queue: _Queue) -> None:
        for name in self._order:
            if name in self._stored and queue.name in self._sent[name]["to"] and name not in queue.received:
                self.verdict.lost.append(f"{name} in {queue.name}: was stored and never came")

    def _check_compact(self, queue: _Queue) -> None:
        """What is there of a key is the last that was stored, or was sent later and nobody knows of."""
        last: dict[str, int] = {}
        for number, name in enumerate(self._order):
            if name in self._stored and queue.name in self._sent[name]["to"]:
                last[self._sent[name]["key"]] = number
        places = {name: number for number, name in enumerate(self._order)}
        keys: dict[str, str] = {}
        for name in queue.order:
            key = self._sent[name]["key"]
            if key in keys:
                self.verdict.duplicated.append(f"{name} in {queue.name}: {keys[key]} has the same key")
            keys[key] = name
            if places[name] < last.get(key, -1):
                self.verdict.lost.append(f"{self._order[last[key]]} in {queue.name}: {name} is there instead")
        for key, number in last.items():
            if key not in keys:
                self.verdict.lost.append(
                    f"{self._order[number]} in {queue.name}: nothing is there of its key"
                )

    _TAKE: ClassVar[dict[str, Callable[[Checker, Event], None]]] = {
        "send": _send,
        "stored": _note_stored,
        "receive": _receive,
        "acked": _acked,
        "crash": _crash,
        "drain": _drain,
        "unsure": _not_sure,
        "end": _end,
    }


def check(events: Iterable[Event]) -> Verdict:
    """Return the verdict on a history."""
    rest = iter(events)
    checker = Checker(next(rest))
    for event in rest:
        checker.take(event)
    return checker.finish()


if __name__ == "__main__":
    found = check(read(Path(sys.argv[1])))
    print(found)
    sys.exit(bool(found.faults))
