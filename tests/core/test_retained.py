"""Retained messages against a plain dictionary."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.message import Message
from gateway.core.retained import Retained
from gateway.core.topic import matches
from tests.core.test_router import TOPICS, filters, topics

NOW_MS = 1_700_000_000_000

#: (topic, body; empty clears, ms from now at which it expires; 0: never)
changes = st.lists(st.tuples(topics, st.sampled_from([b"", b"1", b"2"]), st.sampled_from([0, 5, 500])))


def _message(topic: str, body: bytes, expires_in_ms: int = 0) -> Message:
    return Message(topic, body, 1, True, expires_at_ms=NOW_MS + expires_in_ms if expires_in_ms else 0)


def _apply(retained: Retained, plain: dict[str, Message], all_changes: list[tuple[str, bytes, int]]) -> None:
    for topic, body, expires_in_ms in all_changes:
        message = _message(topic, body, expires_in_ms)
        replaced, _ = retained.replace(message, 1)
        assert replaced is plain.pop(topic, None)
        if body:
            plain[topic] = message


@settings(max_examples=200)
@given(all_changes=changes, topic_filter=filters, later_ms=st.sampled_from([0, 5, 500]))
def test_what_a_filter_finds(
    all_changes: list[tuple[str, bytes, int]], topic_filter: str, later_ms: int
) -> None:
    retained, plain = Retained(), dict[str, Message]()
    _apply(retained, plain, all_changes)
    now_ms = NOW_MS + later_ms
    live = {topic: m for topic, m in plain.items() if not m.expires_at_ms or m.expires_at_ms > now_ms}
    expected = [live[topic] for topic in sorted(live) if matches(topic_filter, topic)]
    assert retained.match(topic_filter, now_ms) == expected
    assert sorted(retained.expired(now_ms)) == sorted(plain.keys() - live.keys())
    assert retained.count == len(plain)
    assert all(retained.get(topic) is plain.get(topic) for topic in TOPICS)


@given(before=changes, failed=changes)
def test_a_turn_that_was_not_stored_is_undone(
    before: list[tuple[str, bytes, int]], failed: list[tuple[str, bytes, int]]
) -> None:
    retained, plain = Retained(), dict[str, Message]()
    _apply(retained, plain, before)
    retained.keep()
    _apply(retained, dict(plain), failed)
    retained.undo()
    assert {message.topic: message for message in retained.all()} == plain
    assert retained.count == len(plain)


@given(all_changes=changes)
def test_nothing_is_left_when_everything_is_cleared(all_changes: list[tuple[str, bytes, int]]) -> None:
    retained = Retained()
    _apply(retained, {}, all_changes)
    for topic in TOPICS:
        retained.clear(topic)
    assert retained.count == 0
    assert retained._root.below in (None, {})
