"""Finding messages again: by id, key, time; and their history, also after restarts and without trails."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.engine import Event
from gateway.core.errors import NotFound
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.storage.commitlog import CommitLog
from tests.storage.commitlog.logs import NOW_MS, ORIGIN

SEGMENT_BYTES = 2000
EATER = Origin("mqtt", "u", "eater", "10.0.0.1:99")
STREAM, QUEUE, OTHER = 4, 2, 3

Told = tuple[str, int, int]  # kind, queue, outcome


class Story:
    """A log with some hundred messages, and what became of each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ids: dict[str, int] = {}
        self.keys: dict[str, list[int]] = {}
        self.times: dict[int, int] = {}
        self.told: dict[int, list[Told]] = {}
        self.log = self.open()

    def open(self) -> CommitLog:
        self.log = CommitLog(self.directory, segment_bytes=SEGMENT_BYTES)
        self.log.open(lambda: None)
        return self.log

    def write(self, count: int, seed: int) -> None:
        chance = random.Random(seed)
        waiting: list[int] = [p for p, told in self.told.items() if not told]
        for n in range(count):
            now_ms = NOW_MS + 10 * len(self.times)
            name, keys = (
                f"id-{seed}-{n}",
                tuple(f"k{chance.randrange(5)}" for _ in range(chance.randrange(3))),
            )
            body = chance.randbytes(chance.randrange(80))
            made = Message("t", body, 1, properties=Properties(message_id=name, keys=keys), origin=ORIGIN)
            position = self.log.append(made, (QUEUE, OTHER), now_ms)
            self.ids[name] = position
            for key in set(keys):
                self.keys.setdefault(key, []).append(position)
            self.times[position] = now_ms
            self.told[position] = []
            waiting.append(position)
            if chance.random() < 0.5:
                chosen = chance.sample(waiting, min(len(waiting), 3))
                self.log.delivered(QUEUE, chosen, [0] * len(chosen), EATER, "", now_ms)
                for one in chosen:
                    self.told[one].append(("delivered", QUEUE, 0))
                self.log.settle(QUEUE, chosen[1:], Outcome.ACK, now_ms)
                for one in chosen[1:]:
                    self.told[one].append(("settled", QUEUE, Outcome.ACK))
                    waiting.remove(one)
                self.log.returned(QUEUE, chosen[0], Outcome.RETRY, now_ms)
                self.told[chosen[0]].append(("returned", QUEUE, Outcome.RETRY))
            if chance.random() < 0.3:
                self.log.flush()
        self.log.flush()

    def check(self) -> None:
        for name, position in self.ids.items():
            assert self.log.find(name, 10) == [position]
        for key, positions in self.keys.items():
            assert self.log.find(key, 10_000) == positions[::-1]
            assert self.log.find(key, 2) == positions[::-1][:2]
        assert self.log.find("nobody", 10) == []
        for position, told in self.told.items():
            trace = self.log.history(position)
            assert (trace.stored_at_ms, trace.queue_ids) == (self.times[position], (QUEUE, OTHER))
            assert [(e.kind, e.queue_id, e.outcome) for e in trace.events] == told
            assert all(e.consumer is None or e.consumer.client_id == "eater" for e in trace.events)
        start, end = NOW_MS + 300, NOW_MS + 900
        wanted = [p for p, at in self.times.items() if start <= at < end]
        assert self.log.stored_between(start, end, 0, 10_000) == (wanted, 0)
        found, after = self.log.stored_between(start, end, 0, 10)
        assert (found, after) == (wanted[:10], wanted[9])
        assert self.log.stored_between(start, end, after, 10)[0] == wanted[10:20]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    made = Story(tmp_path / "data")
    made.write(150, 1)
    assert len(made.log._segments) > 5
    return made


def _clean(story: Story) -> None:
    story.log.close()


def _deleted(story: Story) -> None:
    story.log.close()
    for path in (story.directory / "index").glob("*.trail"):
        path.unlink()


def _damaged(story: Story) -> None:
    story.log.close()
    for path in (story.directory / "index").glob("*.trail"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))


def _without_index(story: Story) -> None:
    story.log.close()
    for path in (story.directory / "index").iterdir():
        path.unlink()


def _nothing(story: Story) -> None:
    """The log goes on as it is."""


@pytest.mark.parametrize("how", [_nothing, _clean, _deleted, _damaged, _without_index])
def test_everything_is_found_by_id_key_time_and_position(story: Story, how: Callable[[Story], None]) -> None:
    story.check()
    how(story)
    if how is not _nothing:
        story.open()
    story.check()
    story.write(50, 2)
    story.check()
    story.log.close()
    story.open()
    story.check()
    story.log.close()


def test_a_preparation_makes_what_is_missing(story: Story) -> None:
    _deleted(story)
    log = story.open()
    prepare = log.prepare_search()
    assert prepare is not None
    prepare()
    assert log.prepare_search() is None
    story.check()
    log.close()


def _kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.group) for event in events]


def test_streams_purges_and_deleted_queues(tmp_path: Path) -> None:
    log = CommitLog(tmp_path, segment_bytes=400)
    log.open(lambda: None)
    positions = [log.append(Message("t", b"x", 1, origin=ORIGIN), (QUEUE, STREAM), NOW_MS) for _ in range(6)]
    log.delivered(STREAM, positions[:4], [0] * 4, EATER, "g", NOW_MS + 1)
    log.cursor(STREAM, "g", 2, NOW_MS + 2)
    log.flush()
    log.cursor(STREAM, "g", 4, NOW_MS + 3)
    log.flush()
    log.purge(QUEUE, [positions[1]])
    log.flush()
    later = log.append(Message("t", b"x", 1, origin=ORIGIN), (QUEUE,), NOW_MS)
    log.drop_queue(QUEUE)
    log.flush()
    of = {p: [e for e in log.history(p).events if e.queue_id == STREAM] for p in positions}
    assert _kinds(of[positions[0]])[:2] == [("delivered", "g"), ("passed", "g")]
    assert of[positions[0]][1].time_ms == NOW_MS + 2
    assert next(e.time_ms for e in of[positions[3]] if e.kind == "passed") == NOW_MS + 3
    assert of[positions[5]] == []
    of = {p: [e for e in log.history(p).events if e.queue_id == QUEUE] for p in [*positions, later]}
    assert _kinds(of[positions[0]]) == [("purged", ""), ("queue deleted", "")]
    assert _kinds(of[positions[1]]) == [("queue deleted", "")]
    assert _kinds(of[later]) == [("queue deleted", "")]
    log.trim(STREAM, 3)
    log.flush()
    assert [e.kind for e in log.history(positions[0]).events if e.queue_id == STREAM][-1] == "trimmed"
    with pytest.raises(NotFound):
        log.history(later + 1)
    log.close()
