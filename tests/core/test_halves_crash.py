"""Transactions over crashes: a log cut off anywhere, a disk that refuses, and a plain model beside it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.errors import Conflict, GatewayError, NotFound, NotStored
from gateway.core.half import HALF_QUEUE_ID, State
from gateway.storage.commitlog import CommitLog
from gateway.storage.commitlog.record import HEADER, HEADER_BYTES
from tests.core.half_world import NOW_MS, World
from tests.storage.commitlog.faulty_files import FaultyFiles

QUEUES = ("orders", "bills", "both")


def _world(path: Path, files: FaultyFiles | None = None) -> World:
    world = World(CommitLog(path, files=files))
    world.queue("orders", "orders")
    world.queue("bills", "bills")
    world.queue("both", "orders", "bills")
    return world


def _seen(world: World) -> dict[str, list[bytes]]:
    return {name: world.bodies(name) for name in QUEUES}


class Model:
    """What every producer said, in order, and so what must be in the queues."""

    def __init__(self) -> None:
        self.open: dict[str, list[tuple[str, bytes]]] = {}
        self.ended: dict[str, State] = {}
        self.queues: dict[str, list[bytes]] = {name: [] for name in QUEUES}

    def commit(self, id: str) -> None:
        """All of it goes to its queues."""
        for topic, body in self.open.pop(id):
            for name in (topic, "both"):
                self.queues[name].append(body)
        self.ended[id] = State.COMMITTED

    def roll_back(self, id: str) -> None:
        """None of it does."""
        del self.open[id]
        self.ended[id] = State.ROLLED_BACK

    def state(self) -> tuple[object, ...]:
        """Return a copy of everything."""
        return (
            {id: list(messages) for id, messages in self.open.items()},
            dict(self.ended),
            {name: list(bodies) for name, bodies in self.queues.items()},
        )


def _state(world: World) -> tuple[object, ...]:
    """Return the same of a gateway."""
    table = world.broker.halves
    return (
        {each.id: [(m.topic, m.body) for m in table.messages(each)] for each in table.all(State.OPEN)},
        {each.id: each.state for each in table.all() if each.state is not State.OPEN},
        _seen(world),
    )


def _steps(chance: random.Random, world: World, model: Model, numbers: range) -> Iterator[None]:
    """Do what producers do, a step each, in gateway and model."""
    alice = world.producer()
    for number in numbers:
        open_ids = list(model.open)
        what = chance.random()
        if what < 0.55 or not open_ids:
            id = chance.choice(open_ids) if open_ids and chance.random() < 0.6 else f"t{number}"
            topic, body = chance.choice(("orders", "bills")), b"%d" % number + b"." * chance.randrange(200)
            alice.half(id, topic, body)
            model.open.setdefault(id, []).append((topic, body))
        elif what < 0.8:
            id = chance.choice(open_ids)
            alice.commit(id)
            model.commit(id)
        else:
            id = chance.choice(open_ids)
            alice.roll_back(id)
            model.roll_back(id)
        yield


@pytest.mark.parametrize("seed", range(3))
def test_any_history_survives_restarts(seed: int, tmp_path: Path) -> None:
    chance, model = random.Random(seed), Model()
    world = _world(tmp_path)
    for life in range(4):
        for _ in _steps(chance, world, model, range(30 * life, 30 * life + 30)):
            if chance.random() < 0.3:
                world.turn()
            assert _state(world) == model.state()
        world.turn()
        assert world.balanced()
        world.broker.engine.close()
        world = _world(tmp_path)
        assert _state(world) == model.state()
    world.broker.engine.close()


@pytest.mark.parametrize("seed", range(2))
def test_cut_off_anywhere_it_is_all_or_nothing(seed: int, tmp_path: Path) -> None:
    """Whatever part of the log is left, the state is one that there was, and outcomes stay."""
    chance, model = random.Random(seed), Model()
    world = _world(tmp_path / "log")
    world.turn()
    (segment,) = (tmp_path / "log" / "log").glob("*.seg")
    states = [model.state()]
    ends = [segment.stat().st_size]
    for _ in _steps(chance, world, model, range(12)):
        world.turn()
        states.append(model.state())
        ends.append(segment.stat().st_size)
    content = segment.read_bytes()
    world.broker.engine.close()
    for cut in _cuts(content, ends[0]):
        copy = tmp_path / f"cut-{cut}"
        (copy / "log").mkdir(parents=True)
        (copy / "log" / segment.name).write_bytes(content[:cut])
        again = _world(copy)
        reached = max(number for number, end in enumerate(ends) if end <= cut)
        found = _state(again)
        # A step that begins a transaction is two records: the first alone is one without messages.
        assert _without_empty(found) in (states[reached], *states[reached + 1 : reached + 2]), cut
        _same_again(again)
        again.broker.engine.close()
        shutil.rmtree(copy)


def _cuts(content: bytes, start: int) -> list[int]:
    """Return where every record ends, and a place in its header and one in the middle of it."""
    found = [start]
    while start < len(content):
        length = HEADER.unpack_from(content, start)[1]
        found += [start + 5, start + HEADER_BYTES + length // 2, start + HEADER_BYTES + length]
        start = found[-1]
    assert found[-1] == len(content)
    return found


def _without_empty(state: tuple[object, ...]) -> tuple[object, ...]:
    open_ones = state[0]
    assert isinstance(open_ones, dict)
    return ({id: messages for id, messages in open_ones.items() if messages}, *state[1:])


def _same_again(world: World) -> None:
    """What ended stays as it is; what is open can still go either way."""
    alice = world.producer()
    for each in list(world.broker.halves.all()):
        before = _seen(world)
        if each.state is State.COMMITTED:
            alice.commit(each.id)
            with pytest.raises(Conflict):
                alice.roll_back(each.id)
        elif each.state is State.ROLLED_BACK:
            alice.roll_back(each.id)
            with pytest.raises(Conflict):
                alice.commit(each.id)
        else:
            count = each.messages
            alice.commit(each.id)
            assert len(world.bodies("both")) == len(before["both"]) + count
            continue
        assert _seen(world) == before
    assert world.turn()


@pytest.mark.parametrize("commit", [True, False])
def test_a_disk_that_refuses_an_end_leaves_it_open(tmp_path: Path, commit: bool) -> None:
    files = FaultyFiles()
    world = _world(tmp_path, files)
    alice, got = world.producer(), world.consume(world.queue("both"))
    alice.half("t", "orders", b"one")
    alice.half("t", "bills", b"two")
    assert world.turn()
    files.room = 100
    for _ in range(2):
        with pytest.raises(NotStored):
            alice.commit("t") if commit else alice.roll_back("t")
    assert not world.turn()
    assert (got, _seen(world)["orders"]) == ([], [])
    assert [each.state for each in world.broker.halves.all()] == [State.OPEN]
    files.room = None
    world.turn()
    alice.commit("t")
    world.turn()
    assert [message.body for message in got] == [b"one", b"two"]
    assert world.balanced()
    world.broker.engine.close()


def test_a_disk_that_refuses_messages_has_none_of_them(tmp_path: Path) -> None:
    files = FaultyFiles()
    world = _world(tmp_path, files)
    alice = world.producer()
    alice.half("t", "orders", b"kept")
    assert world.turn()
    files.room = 10
    alice.half("t", "orders", b"lost")
    alice.half("new", "orders", b"lost, too")
    with pytest.raises(NotStored):
        alice.commit("t")
    assert not world.turn()
    files.room = None
    world.turn()
    with pytest.raises(NotFound):
        alice.commit("new")
    alice.half("t", "bills", b"later")
    alice.commit("t")
    world.turn()
    expected = {"orders": [b"kept"], "bills": [b"later"], "both": [b"kept", b"later"]}
    assert _seen(world) == expected
    assert world.broker.halves._bytes == 0
    world.broker.engine.close()
    world = _world(tmp_path)
    assert _seen(world) == expected
    world.broker.engine.close()


def test_a_commit_is_on_file_before_anybody_has_it(tmp_path: Path) -> None:
    world = _world(tmp_path)
    alice = world.producer()
    got = world.consume(world.queue("orders"))
    alice.half("t", "orders", b"looked for")
    world.turn()
    (segment,) = (tmp_path / "log").glob("*.seg")
    before = segment.read_bytes().count(b"looked for")
    alice.commit("t")
    assert got == []
    assert segment.read_bytes().count(b"looked for") == before + 1
    world.turn()
    assert len(got) == 1
    world.broker.engine.close()


def test_the_schedule_is_kept_on_file(tmp_path: Path) -> None:
    world = _world(tmp_path)
    world.producer().half("t", "orders", b"x")
    world.later(40_000)
    world.broker.engine.close()
    world.start(CommitLog(tmp_path))
    (found,) = world.broker.halves.all()
    assert (found.checks, found.next_check_ms - NOW_MS) == (2, 66_000)
    world.broker.halves.end(found, True, "operator")
    world.turn()
    world.broker.engine.close()
    world.start(CommitLog(tmp_path))
    assert list(world.broker.engine.scan("half/")) == []
    world.broker.engine.close()


def test_damage_leaves_only_the_way_back(tmp_path: Path) -> None:
    world = _world(tmp_path)
    alice = world.producer()
    alice.half("t", "orders", b"first of it")
    alice.half("t", "orders", b"in the middle")
    alice.half("t", "orders", b"last of it")
    world.turn()
    (segment,) = (tmp_path / "log").glob("*.seg")
    world.broker.engine.close()
    shutil.rmtree(tmp_path / "index")
    content = segment.read_bytes()
    at = content.index(b"in the middle")
    segment.write_bytes(content[:at] + b"IN" + content[at + 2 :])
    world = _world(tmp_path)
    assert any("damaged" in remark for remark in world.remarks)
    alice = world.producer()
    with pytest.raises(Conflict, match="cannot be read"):
        alice.commit("t")
    world.later(600_000)  # what is left of it is kept for people
    assert world.bodies("$dead/$half") == [b"first of it", b"last of it"]
    assert world.bodies("orders") == []
    world.broker.engine.close()


def test_segments_that_only_halves_need_stay(tmp_path: Path) -> None:
    world = World(CommitLog(tmp_path, segment_bytes=2000, kept_ms=0))
    world.queue("orders", "orders")
    alice = world.producer()
    world.broker.halves.check_back.first_ms = 3_600_000
    for number in range(5):
        alice.half("t", "orders", b"%d" % number * 100)
        for _ in range(20):
            alice.send("orders", b"x" * 100)
        world.broker.queues.purge(world.queue("orders"))
        world.turn()
    world.later(30_000)
    alice.commit("t")
    world.turn()
    assert world.bodies("orders") == [b"%d" % number * 100 for number in range(5)]
    assert world.broker.engine.extent(HALF_QUEUE_ID).messages == 1
    world.broker.engine.close()


def test_a_gateway_error_is_all_that_is_raised(tmp_path: Path) -> None:
    """Whatever is published to $transaction/..., the answer is a position or a refusal."""
    chance, world = random.Random(7), _world(tmp_path)
    alice = world.producer()
    words = ["$transaction", "t", "publish", "commit", "rollback", "begin", "", "+", "#", "a", "\0", "orders"]
    answered = 0
    for _ in range(2000):
        topic = "$transaction/" + "/".join(chance.choices(words, k=chance.randrange(5)))
        try:
            answered += alice.send(topic, chance.choice([b"", b"{}", b"x", b'{"immunity": 1}'])) > 0
        except GatewayError:
            pass
    assert answered > 10
    assert world.turn()
    world.broker.engine.close()
