"""Hundreds of rounds of a broker that crashes on a disk that fails; a failing one prints its seed.

GATEWAY_TEST_ROUNDS=5000 make test ARGS=tests/chaos      thousands
GATEWAY_TEST_SEED=1234 make test ARGS=tests/chaos        one, again; its history is kept
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from gateway.storage import entries
from gateway.storage.commitlog import checkpoints, space
from tests.chaos.checker import check
from tests.chaos.world import World, engine_syncer

ROUNDS = int(os.environ.get("GATEWAY_TEST_ROUNDS", "300"))
PARTS = 4  # tests, that run side by side
SEED = os.environ.get("GATEWAY_TEST_SEED")
FIRST = int(SEED) if SEED else random.randrange(1 << 40)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens often: checkpoints, blocks, segments that are emptied."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 4000)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    for name, value in {"BLOCK_ENTRIES": 4, "BLOCK_WORDS": 8, "TAIL_WORDS_MAX": 16}.items():
        monkeypatch.setattr(entries, name, value)
    monkeypatch.setattr(space, "MOVE_SHARE_MAX", 2)
    monkeypatch.setattr(*engine_syncer)


def _round(seed: int, tmp_path: Path) -> None:
    world = World(seed, tmp_path / str(seed))
    try:
        history = world.run(crashes=world.chance.randrange(1, 6))
    except BaseException as error:
        error.add_note(f"GATEWAY_TEST_SEED={seed}")
        raise
    verdict = check(history.events)
    if verdict.faults or SEED:
        path = history.write(tmp_path / f"{seed}.ndjson")
        assert not verdict.faults, f"GATEWAY_TEST_SEED={seed}, history {path}\n{verdict}"


@pytest.mark.parametrize("seed", [82619602286, 376975258187, 180665497501, 1002021])
def test_rounds_that_have_found_something(tmp_path: Path, seed: int) -> None:
    """A record that had a good copy was taken for lost; a segment that was full was written to again; what
    a failed write had left, and could not be cut off, came back as the segment after it was lost; a consumer
    that acknowledged what it got in a turn that failed settled the message that was stored there next.
    """
    _round(seed, tmp_path)


@pytest.mark.parametrize("part", range(1 if SEED else PARTS))
def test_nothing_that_was_promised_is_broken(tmp_path: Path, part: int) -> None:
    for number in range(1 if SEED else ROUNDS // PARTS):
        _round(FIRST + PARTS * number + part, tmp_path)
