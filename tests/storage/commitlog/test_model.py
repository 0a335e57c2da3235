"""The commit log against a plain model: random work, restarts, power losses and full disks."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.engine import Recovery
from gateway.core.errors import NotStored
from gateway.core.message import Message, Outcome
from gateway.storage import entries
from gateway.storage.commitlog import CommitLog, checkpoints, space
from tests.storage.commitlog.faulty_files import FaultyFiles
from tests.storage.commitlog.logs import NOW_MS, ORIGIN, waiting

QUEUES = st.sets(st.integers(2, 5), min_size=1, max_size=3).map(lambda ids: tuple(sorted(ids)))
KEYS = st.sampled_from(["a", "b", "c/1", "c/2"])


class Books:
    """What the log holds, certainly or maybe.

    Each entry maps to what it may be after a crash; once everything is durable, to one thing.
    `None` in a set of possibilities is "not there".
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], set[int | None]] = {}  # (queue, position): attempts
        self.keys: dict[str, set[bytes | None]] = {}
        self.cursors: dict[tuple[int, str], set[int | None]] = {}
        self.bodies: dict[int, bytes] = {}
        self.now_entries: dict[tuple[int, int], int] = {}
        self.now_keys: dict[str, bytes] = {}
        self.now_cursors: dict[tuple[int, str], int] = {}

    def everything_is_durable(self) -> None:
        self.entries = {key: {value} for key, value in self.now_entries.items()}
        self.keys = {key: {value} for key, value in self.now_keys.items()}
        self.cursors = {key: {value} for key, value in self.now_cursors.items()}

    def changed(self) -> None:
        """What is now true may be what is found."""
        for key in {*self.entries, *self.now_entries}:
            self.entries.setdefault(key, {None}).add(self.now_entries.get(key))
        for name in {*self.keys, *self.now_keys}:
            self.keys.setdefault(name, {None}).add(self.now_keys.get(name))
        for cursor in {*self.cursors, *self.now_cursors}:
            self.cursors.setdefault(cursor, {None}).add(self.now_cursors.get(cursor))

    def drop_queue(self, queue_id: int) -> None:
        self.now_entries = {k: v for k, v in self.now_entries.items() if k[0] != queue_id}
        self.now_cursors = {k: v for k, v in self.now_cursors.items() if k[0] != queue_id}

    def forget_from(self, position: int) -> None:
        self.now_entries = {k: v for k, v in self.now_entries.items() if k[1] < position}
        self.entries = {k: v for k, v in self.entries.items() if k[1] < position}
        self.bodies = {p: body for p, body in self.bodies.items() if p < position}

    def compare(self, log: CommitLog, found: Recovery) -> None:
        """Check what recovery found, and take it for true."""
        known = {queue_id for queue_id, _ in self.entries}
        entries = {(q, e.position): e.attempts for q in known for e in waiting(log, q)}
        for key in {*self.entries, *entries}:
            assert entries.get(key) in self.entries.get(key, {None}), f"entry {key}"
        keys = dict(log.scan(""))
        for name in {*self.keys, *keys}:
            assert keys.get(name) in self.keys.get(name, {None}), f"key {name}"
        for cursor in {*self.cursors, *found.cursors}:
            assert found.cursors.get(cursor) in self.cursors.get(cursor, {None}), f"cursor {cursor}"
        for _, position in entries:
            assert log.read(position).body == self.bodies[position]
        self.now_entries, self.now_keys, self.now_cursors = entries, keys, dict(found.cursors)
        self.everything_is_durable()


class LogMachine(RuleBasedStateMachine):
    """One log, its files, and the books about it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="gateway-log-"))
        self.life = 0
        self.books = Books()
        self.next_queue = 6
        self.renamed = {q: q for q in range(2, 6)}  # ids of dropped queues are never used again
        self._open()

    def _open(self) -> Recovery:
        self.files = FaultyFiles()
        here = self.root / str(self.life)
        self.log = CommitLog(here, segment_bytes=400, files=self.files, kept_ms=0)
        return self.log.open(lambda: None)

    def teardown(self) -> None:
        self.files.room, self.files.truncate_fails = None, False
        self.log.close()
        shutil.rmtree(self.root)

    def _durably(self, flush: Callable[[], None]) -> bool:
        said: list[bool] = []
        self.log.when_durable(self.log.position(), said.append)
        flush()
        deadline = time.monotonic() + 20
        while not said:
            assert time.monotonic() < deadline, "never became durable"
            self.log.completed()
        return said[0]

    @rule(queues=QUEUES, size=st.sampled_from([0, 1, 60, 399, 1500]))
    def append(self, queues: tuple[int, ...], size: int) -> None:
        body = random.Random(len(self.books.bodies)).randbytes(size)
        ids = tuple(self.renamed[q] for q in queues)
        position = self.log.append(Message("t/opic", body, 1, origin=ORIGIN), ids, NOW_MS)
        for queue_id in ids:
            self.books.entries.pop((queue_id, position), None)  # a position whose record never was durable
            self.books.now_entries[(queue_id, position)] = 0
        self.books.bodies[position] = body
        self.books.changed()

    def _choose(self, number: int) -> tuple[int, int] | None:
        """Return one of the entries. What is drawn may not depend on them: how much of a
        crashed log survives is up to the sync thread, and hypothesis wants to repeat itself."""
        entries = sorted(self.books.now_entries)
        return entries[number % len(entries)] if entries else None

    @rule(numbers=st.lists(st.integers(0, 1000), min_size=1, max_size=5))
    def settle(self, numbers: list[int]) -> None:
        for number in numbers:
            if entry := self._choose(number):
                self.log.settle(entry[0], [entry[1]], 1, NOW_MS)
                del self.books.now_entries[entry]
        self.books.changed()

    @rule(number=st.integers(0, 1000), tag=st.integers(0, (1 << 32) - 1))
    def deliver(self, number: int, tag: int) -> None:
        if entry := self._choose(number):
            self.log.delivered(entry[0], [entry[1]], [tag], ORIGIN, "", NOW_MS)
            self.books.now_entries[entry] += 1
            self.books.changed()

    @rule(queue=st.integers(2, 5), group=st.sampled_from(["g", "h"]), offset=st.integers(0, 1 << 50))
    def cursor(self, queue: int, group: str, offset: int) -> None:
        self.log.cursor(self.renamed[queue], group, offset, NOW_MS)
        self.books.now_cursors[(self.renamed[queue], group)] = offset
        self.books.changed()

    @rule(number=st.integers(0, 1000))
    def give_back(self, number: int) -> None:
        """Without having cost an attempt."""
        if entry := self._choose(number):
            self.log.returned(*entry, Outcome.RETRY, NOW_MS)
            self.books.now_entries[entry] = max(0, self.books.now_entries[entry] - 1)
            self.books.changed()

    @rule(queue=st.integers(2, 5), share=st.floats(0, 1))
    def trim(self, queue: int, share: float) -> None:
        """Let the oldest go, as a stream's retention does."""
        queue_id = self.renamed[queue]
        mine = sorted(position for q, position in self.books.now_entries if q == queue_id)
        offsets = [entry.offset for entry in waiting(self.log, queue_id)]
        assert len(offsets) == len(mine)
        count = int(len(mine) * share)
        self.log.trim(queue_id, offsets[count] if count < len(mine) else self.log.extent(queue_id).next)
        for position in mine[:count]:
            del self.books.now_entries[(queue_id, position)]
        self.books.changed()

    @rule(queue=st.integers(2, 5), number=st.integers(0, 1000))
    def purge(self, queue: int, number: int) -> None:
        """Drop all but one, which a consumer holds."""
        queue_id = self.renamed[queue]
        mine = sorted(position for q, position in self.books.now_entries if q == queue_id)
        held = [mine[number % len(mine)]] if mine else []
        self.log.purge(queue_id, held)
        for position in mine:
            if position not in held:
                del self.books.now_entries[(queue_id, position)]
        self.books.changed()

    @rule()
    def sweep(self) -> None:
        """Free what is settled, move what keeps a segment."""
        self.log.sweep(NOW_MS + 1)

    @rule(key=KEYS, value=st.binary(max_size=40))
    def put(self, key: str, value: bytes) -> None:
        self.log.put(key, value)
        self.books.now_keys[key] = value
        self.books.changed()

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.log.delete(key)
        self.books.now_keys.pop(key, None)
        self.books.changed()

    @rule(queue=st.integers(2, 5))
    def drop_queue(self, queue: int) -> None:
        self.log.drop_queue(self.renamed[queue])
        self.books.drop_queue(self.renamed[queue])
        self.books.changed()
        self.renamed[queue], self.next_queue = self.next_queue, self.next_queue + 1

    @rule()
    def flush(self) -> None:
        self.log.flush()

    @rule()
    def wait_durable(self) -> None:
        assert self._durably(self.log.flush)
        self.books.everything_is_durable()

    @rule(room=st.sampled_from([0, 1, 20, 300, 2000]), truncate_fails=st.booleans())
    def fill_disk(self, room: int, truncate_fails: bool) -> None:
        """The turn fails, or just fits; when there is room again, the next one works."""
        failed: list[int] = []

        def flush() -> None:
            try:
                self.log.flush()
            except NotStored:
                failed.append(self.log.failed_from())

        self.files.room, self.files.truncate_fails = room, truncate_fails
        self.append((2,), 30)
        stored = self._durably(flush)
        self.files.room, self.files.truncate_fails = None, False
        assert stored is not bool(failed)
        if failed:
            self.books.forget_from(failed[0])
            self.put("a", b"there is room again")
            assert self._durably(self.log.flush)
        self.books.everything_is_durable()

    @rule()
    def restart(self) -> None:
        self.log.close()
        self.books.everything_is_durable()
        found = self._open()
        assert found.remarks == []
        self.books.compare(self.log, found)

    @rule(seed=st.integers(0, 1 << 32))
    def lose_power(self, seed: int) -> None:
        before, self.life = self.root / str(self.life), self.life + 1
        self.files.power_loss(before, self.root / str(self.life), random.Random(seed))
        self.log.close()
        shutil.rmtree(before)
        found = self._open()
        self.books.compare(self.log, found)

    @invariant()
    def everything_can_be_read(self) -> None:
        for queue_id in {q for q, _ in self.books.now_entries}:
            mine = {p: self.books.bodies[p] for q, p in self.books.now_entries if q == queue_id}
            found = waiting(self.log, queue_id)
            assert {e.position: e.message.body for e in found if e.message is not None} == mine
            assert self.log.extent(queue_id)[2:] == (len(mine), sum(map(len, mine.values())))
        assert dict(self.log.scan("")) == self.books.now_keys


@pytest.fixture(autouse=True)
def many_checkpoints_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 300)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    for name, value in {"BLOCK_ENTRIES": 3, "BLOCK_WORDS": 6, "TAIL_WORDS_MAX": 12}.items():
        monkeypatch.setattr(entries, name, value)
    monkeypatch.setattr(space, "MOVE_SHARE_MAX", 2)


LogMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("GATEWAY_TEST_EXAMPLES", "60")),
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLog = LogMachine.TestCase
