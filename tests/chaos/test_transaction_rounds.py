"""Rounds of producers of transactions on a disk that fails, with crashes: all of it or nothing, and for ever.

A message may be seen only if its producer has said commit; if any message of a transaction is seen, all
are. Who was told "committed" or "rolled back" is never told otherwise, whatever the machine died of.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.errors import GatewayError, NotStored, StorageError
from gateway.core.half import Half, State
from gateway.core.message import Message
from gateway.core.queue import Queue
from gateway.storage.commitlog import CommitLog, checkpoints
from tests.chaos.disk import Crash, Disk
from tests.chaos.test_rounds import FIRST, SEED
from tests.chaos.world import StepSyncer, engine_syncer
from tests.core.half_world import World

ROUNDS = 40
TOPICS = ("orders", "bills")
TURNS = 40


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 4000)
    monkeypatch.setattr(checkpoints, "SIZE_FACTOR", 0)
    monkeypatch.setattr(*engine_syncer)


class Round:
    """What producers did, were told, and what consumers saw, over some lives of one gateway."""

    def __init__(self, seed: int, root: Path) -> None:
        self.chance = random.Random(seed)
        self.root, self.life = root, 0
        self.number = 0
        self.added: dict[str, set[bytes]] = {}  # what was published, by transaction; lost, perhaps
        self.stored: dict[str, set[bytes]] = {}  # what its producer was told is stored
        self.asked: dict[str, set[State]] = {}  # what producers have said
        self.asks: dict[str, int] = {}
        self.told: dict[str, State] = {}  # what they were told is so, on disk
        self.failing = False  # syncs may have: then an end that nobody was told of can be half forgotten
        self.seen: dict[bytes, int] = {}
        self.got: list[list[Message]] = []
        self.world = World()
        (root / "graves").mkdir(parents=True)

    def run(self) -> None:
        """Live and die, then look at everything."""
        for _ in range(self.chance.randrange(1, 5)):
            self._live()
        self._start(faults=False)
        self._check()
        self.world.broker.engine.close()

    def _start(self, faults: bool) -> None:
        self.disk = Disk(self.chance, self.root / "graves")
        if faults:
            self.disk.crash_in = self.chance.randrange(20, 300)
        log = CommitLog(self.root / str(self.life), segment_bytes=3000, files=self.disk, kept_ms=500)
        self.log = log
        self.world = World(log, self.world.wall_ms)
        self.queues = [self.world.queue(topic, topic) for topic in TOPICS]
        if faults:
            self.disk.fail = self.chance.choice([0.0, 0.0, 0.02, 0.1])
            self.failing |= self.disk.fail > 0
        if not faults or self.chance.random() < 0.5:
            for queue in self.queues:
                self._consume(queue)

    def _consume(self, queue: Queue) -> None:
        got = self.world.consume(queue)
        self.got.append(got)

    def _live(self) -> None:
        self.got = []
        power = self.chance.random() < 0.6
        try:
            self._start(faults=True)
            for _ in range(TURNS):
                self._turn()
        except (Crash, StorageError):
            pass
        self._note_seen()
        self.disk.dead = True
        before, self.life = self.root / str(self.life), self.life + 1
        self.disk.survive(before, self.root / str(self.life), power)
        self.disk.close_all()
        if finder := getattr(self.log, "_finder", None):
            finder.close()
        shutil.rmtree(before)

    def _note_seen(self) -> None:
        for got in self.got:
            for message in got:
                self.seen[message.body] = self.seen.get(message.body, 0) + 1
            got.clear()

    def _turn(self) -> None:
        for _ in range(self.chance.randrange(4)):
            self._act()
        world = self.world
        world.wall_ms, world.up_ms = world.wall_ms + 200, world.up_ms + 200
        world.broker.clock.set(world.wall_ms, world.up_ms)
        world.broker.scheduler.run_due()
        world.turn()
        if self.chance.random() < 0.6:
            syncer = self.log._syncer
            assert isinstance(syncer, StepSyncer)
            syncer.step()
        self.log.completed()

    def _act(self) -> None:
        chance, alice = self.chance, self.world.producer()
        open_ones = [half.id for half in self.world.broker.halves.all(State.OPEN)]
        try:
            if not open_ones or chance.random() < 0.6:
                id = chance.choice(open_ones) if open_ones and chance.random() < 0.7 else f"t{self._next()}"
                body = b"%d" % self._next() + b"." * chance.randrange(300)
                self.added.setdefault(id, set()).add(body)
                position = alice.half(id, chance.choice(TOPICS), body)
                self._when(position, lambda: self.stored.setdefault(id, set()).add(body))
                return
            self._end(chance.choice(list(self.asked) if self.asked and chance.random() < 0.2 else open_ones))
        except NotStored:
            pass

    def _end(self, id: str) -> None:
        state = self.chance.choice([State.COMMITTED, State.COMMITTED, State.ROLLED_BACK])
        alice = self.world.producer()
        self.asked.setdefault(id, set()).add(state)
        self.asks[id] = self.asks.get(id, 0) + 1
        try:
            position = alice.commit(id) if state is State.COMMITTED else alice.roll_back(id)
        except NotStored:
            raise
        except GatewayError:
            assert self.told.get(id) is not state, f"{id}: once told {state}, now refused"
            return

        def told() -> None:
            assert self.told.get(id, state) is state, f"{id}: told {self.told[id]}, now {state}"
            self.told[id] = state

        self._when(position, told)

    def _when(self, position: int, call: Callable[[], None]) -> None:
        self.log.when_durable(position, lambda stored: call() if stored else None)

    def _next(self) -> int:
        self.number += 1
        return self.number

    # -- the end ----------------------------------------------------------------------------------

    def _check(self) -> None:
        world = self.world
        for _ in range(5):
            world.turn()
        self._note_seen()
        known = {half.id: half for half in world.broker.halves.all()}
        for id, bodies in self.added.items():
            seen = {body for body in bodies if body in self.seen}
            committed = State.COMMITTED in self.asked.get(id, ())
            assert committed or not seen, f"{id}: seen without a commit"
            half = known.get(id)
            if self.told.get(id) is State.COMMITTED and not (self.failing and self.asks[id] > 1):
                # A first answer that a failing sync took, and a crash before it could be written anew: the
                # end may be there without all of the messages, as any message that was not stored.
                assert self.stored.get(id, set()) <= seen, f"{id}: part of it is not there"
            if id in self.told:
                assert half is not None, f"{id}: its outcome is forgotten"
                assert half.state is self.told[id], f"{id}: {half.state}, but told {self.told[id]}"
            elif self.stored.get(id) and not (self.failing and id in self.asked):
                assert half is not None, f"{id}: lost"
            if half is not None and half.state is State.OPEN:
                self._check_open(half)
        assert world.balanced()

    def _check_open(self, half: Half) -> None:
        """What is left open can be ended; all of it, or if the disk has lost some of it, none."""
        alice = self.world.producer()
        if half.damaged:
            alice.roll_back(half.id)
            return
        count = half.messages
        assert count >= len(self.stored.get(half.id, ())), f"{half.id}: what was stored is lost"
        alice.commit(half.id)
        self.world.turn()
        assert sum(len(got) for got in self.got) == count
        self._note_seen()


@pytest.mark.parametrize("part", range(1 if SEED else 2))
def test_transactions_are_whole_whatever_happens(tmp_path: Path, part: int) -> None:
    for number in range(1 if SEED else ROUNDS // 2):
        seed = FIRST + 2 * number + part
        try:
            Round(seed, tmp_path / str(seed)).run()
        except BaseException as error:
            error.add_note(f"GATEWAY_TEST_SEED={seed}")
            raise
