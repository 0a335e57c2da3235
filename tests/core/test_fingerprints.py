"""Millions of fingerprints in a window: against a dictionary, and at their limits."""

from __future__ import annotations

import random

import pytest

from gateway.core import fingerprints
from gateway.core.fingerprints import Fingerprints


def test_it_is_a_dictionary_that_forgets() -> None:
    chance = random.Random(5)
    prints, model = Fingerprints(10_000, 1 << 40), {}
    now_ms, position = 1_000_000, 100
    for _ in range(20_000):
        now_ms += chance.choice((0, 0, 0, 1, 7))
        word = chance.randrange(3000)
        known = model.get(word)
        lives = known is not None and now_ms - known[1] < 10_000
        over = known is None or now_ms - known[1] >= 10_000 + 10
        found = prints.find(word, word ^ 1, now_ms)
        if lives:
            assert known is not None
            assert found == known[0]
        elif over:
            assert not found
        if not found:
            position += chance.randrange(1, 90)
            prints.add(word, word ^ 1, position, now_ms)
            model[word] = (position, now_ms)
    assert len(prints) < 3000 * 5


def test_what_collides_is_told_apart() -> None:
    prints = Fingerprints(1000, 1 << 40)
    for high in range(1, 300):
        prints.add(high, 7, 1000 + high, 50)
    assert [prints.find(high, 7, 50) for high in range(1, 300)] == [1000 + high for high in range(1, 300)]
    assert prints.find(300, 7, 50) == 0


def test_what_is_forgotten_hides_nothing() -> None:
    prints = Fingerprints(1000, 1 << 40)
    for high in (1, 2, 3):
        prints.add(high, 7, 10 + high, 50)
    prints.forget(2, 7)
    prints.forget(9, 9)
    assert [prints.find(high, 7, 50) for high in (1, 2, 3)] == [11, 0, 13]
    prints.add(2, 7, 20, 60)
    assert prints.find(2, 7, 60) == 20


def test_all_of_it_goes_in_the_end() -> None:
    prints = Fingerprints(1000, 1 << 40)
    for number in range(5000):
        prints.add(number, number, 10 + number, number)
    assert prints.find(4999, 4999, 5998) == 10 + 4999
    assert prints.bytes > 0
    prints.expire(6001)
    assert (len(prints), prints.bytes, prints.marks) == (0, 0, [])


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "SLOTS_MAX", 1 << 10)
    prints = Fingerprints(1000, 2000)
    for number in range(5000):
        prints.add(number, number, 10 + number, 5)
    assert 2000 <= len(prints) <= 2000 + (1 << 10)
    assert prints.find(0, 0, 5) == 0
    assert prints.find(4999, 4999, 5) == 10 + 4999


def test_one_takes_little_memory() -> None:
    prints = Fingerprints(1000, 1 << 40)
    for number in range(100_000):
        prints.add(number * 7919, number * 104_729, 10 + number, 5)
    assert prints.bytes / len(prints) < 110
