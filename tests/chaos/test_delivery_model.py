"""Queue, group, retries, dead letters, schedules and transactions against a plain model, with crashes.

The gateway's core on a disk that dies at any operation hypothesis likes: between two writes, in the
middle of one, by kill -9 or with the power. What is there afterwards has to be one of the states that
the model went through since what was sure to be on disk.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.core import deadletter
from gateway.core.access import Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.half import State as HalfState
from gateway.core.message import Message, Origin, Outcome, Properties
from gateway.core.policy import QueuePolicy
from gateway.core.router import Binding
from gateway.core.session import Session, group_of
from gateway.storage.commitlog import CommitLog
from tests.chaos.delivery_model import DELIVERY_LIMIT, Model
from tests.chaos.disk import Crash, Disk
from tests.chaos.world import StepSyncer, engine_syncer

START_MS = 1_700_000_000_000
BACKOFF_MS = (400, 1500)
RETRY_MS = 300
POLICY = QueuePolicy(delivery_limit=DELIVERY_LIMIT, backoff_ms=BACKOFF_MS, retry_delay_ms=RETRY_MS)
TOPIC, QUEUE, STREAM, DEAD = "jobs/a", "jobs", "log", "$dead/jobs"
WINDOW = 5
EXAMPLES = 150
LATE_MS = 50  # that a schedule may be
TRANSACTIONS = ("one", "two")
IMMUNITY_MS = 400_000_000  # nobody is asked meanwhile: that has tests of its own


class Everything:
    """Allows it."""

    def authorize(self, principal: object, origin: object, action: object, resource: str) -> Ruling | None:
        return Ruling(True)


class Machine(RuleBasedStateMachine):
    """`self.model` says what there should be."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="delivery-"))
        (self.root / "graves").mkdir()
        self.model = Model()
        self.life = 0
        self.number = 0
        self.now_ms, self.up_ms = START_MS, 1000
        self.power = False
        self.attempts: dict[str, int] = {}  # the most that were seen
        self.fuzzy: set[str] = set()  # whose attempts a crash may have forgotten
        self._start()

    def teardown(self) -> None:
        self.disk.crash_in = -1
        if not self.disk.dead:
            self.broker.engine.close()
        self.disk.close_all()
        shutil.rmtree(self.root)

    # -- a life -----------------------------------------------------------------------------------

    def _start(self) -> None:
        self.disk = Disk(random.Random(self.life), self.root / "graves")
        log = CommitLog(self.root / str(self.life), segment_bytes=4000, files=self.disk, kept_ms=500)
        self.broker = broker = Broker(log, Clock(self.now_ms, self.up_ms))
        broker.restore(lambda: None)
        for name, kind, policy in ((QUEUE, "classic", POLICY), (STREAM, "stream", QueuePolicy())):
            queue, made = broker.catalog.declare(name, kind, policy)
            queue.memory_messages_max = 3
            if made:
                broker.catalog.bind(queue, Binding("jobs/#", queue))
        principal = Principal("user")
        self.session = Session(broker, principal, Origin("test", "user", "c"), Authority([Everything()]))
        self.held: list[Delivery] = []
        for number in range(2):
            consumer = Consumer(f"c{number}", WINDOW, self._deliver, Origin("test", "user", f"c{number}"))
            broker.queues.attach(group_of(broker.catalog.get(QUEUE), ""), consumer)
        self._flush()
        self._sync()

    def _deliver(self, batch: list[Delivery]) -> None:
        for delivery in batch:
            name = delivery.message.body.decode()
            wanted = self.model.now.waiting[name] + 1
            if name in self.fuzzy:
                assert delivery.attempt <= wanted
                self.fuzzy.discard(name)
            else:
                assert delivery.attempt == wanted, f"attempt of {name}"
            self.model.now.waiting[name] = delivery.attempt
            self.attempts[name] = max(delivery.attempt, self.attempts.get(name, 0))
        self.held += batch

    def _turn(self) -> None:
        """End a turn as the shell does; after it everything is written, not yet on disk."""
        while self.broker.dispatch():
            pass
        self._flush()

    def _flush(self) -> None:
        self.broker.engine.flush()
        self.broker.flushed()

    def _sync(self) -> None:
        log = self.broker.engine
        assert isinstance(log, CommitLog)
        assert isinstance(log._syncer, StepSyncer)
        log._syncer.step()
        log.completed()

    def _do(self, operation: object, *arguments: object) -> None:
        """Do something to the gateway, and end the turn; if the machine dies of it, start again."""
        try:
            operation(*arguments)  # type: ignore[operator]
            self._turn()
        except Crash:
            self._recover()
        else:
            if not self.power:
                self.model.sure()  # kill -9 takes nothing that was written

    def _recover(self) -> None:
        before, self.life = self.root / str(self.life), self.life + 1
        self.disk.survive(before, self.root / str(self.life), self.power)
        self.disk.close_all()
        shutil.rmtree(before)
        self._look_at_what_is_left()
        self.fuzzy = set(self.model.now.waiting)
        for name in self.fuzzy:
            self.model.now.waiting[name] = self.attempts.get(name, 0)
        self.power = False
        self._start()
        self.broker.settlement.ready.wake()
        self._do(lambda: None)

    def _look_at_what_is_left(self) -> None:
        disk = Disk(random.Random(0), self.root / "graves")
        copy = self.root / "copy"
        shutil.copytree(self.root / str(self.life), copy)
        self.broker = Broker(CommitLog(copy, files=disk), Clock(self.now_ms, self.up_ms))
        self.broker.restore(lambda: None)
        places = self._places()
        self.broker.engine.close()
        shutil.rmtree(copy)
        assert self.model.fell_back(places), f"{places}\nis none of\n" + "\n".join(
            str(state.places()) for state in self.model.steps
        )

    # -- what there is ----------------------------------------------------------------------------

    def _names(self, queue: str) -> list[Message]:
        found = self.broker.catalog.queues.get(queue)
        return [] if found is None else [message for _, message, _ in found.browse(0, 10_000)]

    def _places(self) -> tuple[object, ...]:
        broker = self.broker
        queue = broker.catalog.queues.get(QUEUE)
        held = [] if queue is None else [broker.engine.read(one.position) for one in queue.held()]
        waiting = sorted(message.body.decode() for message in self._names(QUEUE) + held)
        dead = {m.body.decode(): str(m.properties.header(deadletter.CAUSE)) for m in self._names(DEAD)}
        stream = sorted(message.body.decode() for message in self._names(STREAM))
        scheduled = {
            message.body.decode(): message.properties.deliver_at_ms
            for name in broker.catalog.queues
            if name.startswith("$delayed/")
            for message in self._names(name)
        }
        half = {
            one.id: [message.body.decode() for message in broker.halves.messages(one)]
            for one in broker.halves.all(HalfState.OPEN)
        }
        return (waiting, dead, stream, scheduled, {name: found for name, found in half.items() if found})

    @invariant()
    def everything_is_where_it_should_be(self) -> None:
        assert self._places() == self.model.now.places()
        metrics = self.broker.metrics
        dropped = sum(metrics.dropped)
        assert metrics.copies == metrics.delivered + metrics.streamed + dropped + self.broker.waiting()

    # -- what happens -----------------------------------------------------------------------------

    def _message(self, delay_ms: int = 0) -> tuple[str, Message]:
        self.number += 1
        name = f"m{self.number:03}"
        properties = Properties(message_id=name)
        properties.delay_ms = delay_ms
        return name, Message(TOPIC, name.encode(), 1, False, properties, self.session.origin)

    @rule()
    def publish(self) -> None:
        name, message = self._message()
        self.model.publish(name)
        self._do(self.session.publish, message)

    @rule(delay_ms=st.sampled_from([500, 3000, 70_000, 10_000_000]))
    def schedule(self, delay_ms: int) -> None:
        name, message = self._message(delay_ms)
        self.model.schedule(name, self.now_ms + delay_ms)
        self._do(self.session.publish, message)

    @precondition(lambda self: self.model.now.scheduled)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.now.scheduled)))
        position = next(
            entry.position
            for queue_name, queue in self.broker.catalog.queues.items()
            if queue_name.startswith("$delayed/")
            for entry in self.broker.engine.after(queue.queue_id, 0, 1000)
            if entry.message is not None and entry.message.body.decode() == name
        )
        self.model.cancel(name)
        self._do(self.broker.schedules.cancel, position)

    @rule(transaction=st.sampled_from(TRANSACTIONS))
    def prepare(self, transaction: str) -> None:
        name, message = self._message()
        self.model.prepare(self._id(transaction), name)
        self._do(self.broker.halves.add, self.session, self._id(transaction), message)

    def _id(self, transaction: str) -> str:
        """An id is used once: the ended ones are remembered."""
        known = {half.id for half in self.broker.halves.all() if half.state is not HalfState.OPEN}
        number = 0
        while f"{transaction}-{number}" in known:
            number += 1
        return f"{transaction}-{number}"

    @precondition(lambda self: self.model.now.half)
    @rule(data=st.data(), commit=st.booleans())
    def resolve(self, data: st.DataObject, commit: bool) -> None:
        transaction = data.draw(st.sampled_from(sorted(self.model.now.half)))
        if commit:
            self.model.commit(transaction)
        else:
            self.model.roll_back(transaction)
        self._do(self.broker.halves.resolve, self.session, transaction, commit)

    @precondition(lambda self: self.held)
    @rule(
        index=st.integers(0, 2 * WINDOW),
        outcome=st.sampled_from([*Outcome, Outcome.ACK, Outcome.REQUEUE]),
        at_once=st.booleans(),
    )
    def settle(self, index: int, outcome: Outcome, at_once: bool) -> None:
        delivery = self.held.pop(index % len(self.held))
        name = delivery.message.body.decode()
        if outcome is Outcome.ACK:
            self.model.acknowledge(name)
        elif outcome is Outcome.REJECT:
            self.model.bury(name, "rejected")
        elif outcome is Outcome.REQUEUE:
            self.model.fail(name)
        else:
            self.model.later(name)
        self._do(self.broker.settlement.settle, delivery, outcome, 0 if at_once else None)

    @precondition(lambda self: self.model.now.dead)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Send a letter back to its queue, as the workbench does."""
        name = data.draw(st.sampled_from(sorted(self.model.now.dead)))
        catalog, engine = self.broker.catalog, self.broker.engine
        dead = catalog.get(DEAD)
        assert isinstance(dead, ClassicQueue)
        letters = engine.after(dead.queue_id, 0, 10_000)
        letter = next(one for one in letters if one.message is not None and one.message.body.decode() == name)
        assert letter.message is not None
        message = letter.message.with_topic(TOPIC, deadletter.revived(letter.message.properties))
        self.model.replay(name)
        self.attempts.pop(name, None)
        self._do(self.broker.letters.send_on, dead, letter.position, message, catalog.get(QUEUE))

    @rule(milliseconds=st.sampled_from([1, 100, 450, 2000, 61_000]))
    def wait(self, milliseconds: int) -> None:
        self.now_ms, self.up_ms = self.now_ms + milliseconds, self.up_ms + milliseconds
        self.broker.clock.set(self.now_ms, self.up_ms)
        self.model.time_is(self.now_ms)

        self._do(self._pass)

    def _pass(self) -> None:
        """Run what is due, and what that sets timers for: a bucket is read in parts."""
        for _ in range(LATE_MS):
            self.broker.scheduler.run_due()
            self._turn()
            self.up_ms += 1
            self.broker.clock.set(self.now_ms, self.up_ms)

    @rule()
    def sync(self) -> None:
        try:
            self._sync()
        except Crash:
            self._recover()
        else:
            self.model.sure()

    @rule(operations=st.integers(1, 8), power=st.booleans())
    def die_soon(self, operations: int, power: bool) -> None:
        if power and not self.power:
            self.sync()
        self.power = power
        self.disk.crash_in = operations


@pytest.mark.parametrize("part", range(2))
def test_the_model_holds(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(*engine_syncer)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],  # to shrink what crashes and starts again takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
