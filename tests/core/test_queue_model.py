"""A classic queue, driven through the broker, against a list."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.clock import Clock
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import QueueFull
from gateway.core.message import Message, Outcome
from gateway.core.metrics import DropCause
from gateway.core.policy import DROP_HEAD, REJECT, QueuePolicy
from gateway.core.router import Binding
from gateway.core.sweeper import SWEEP_INTERVAL_MS
from gateway.storage.memory import MemoryEngine

START_MS = 1_700_000_000_000


class Entry:
    """A message as the model knows it."""

    def __init__(self, offset: int, body: bytes, put_ms: int) -> None:
        self.offset, self.body, self.put_ms, self.attempts = offset, body, put_ms, 0


class Model:
    """What a queue is, said plainly."""

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.now_ms = START_MS
        self.waiting: list[Entry] = []
        self.held: dict[int, Entry] = {}
        self.timers: list[tuple[int, int, Entry | None]] = [(START_MS + SWEEP_INTERVAL_MS, 0, None)]
        self.sequence = 0
        self.offset = 0
        self.dropped: Counter[DropCause] = Counter()
        self.delivered = 0

    def full(self) -> bool:
        return bool(self.policy.max_length) and len(self.waiting) >= self.policy.max_length

    def put(self, body: bytes) -> bool:
        if self.full() and self.policy.overflow == REJECT:
            self.dropped[DropCause.QUEUE_FULL] += 1
            return False
        while self.full():
            self.waiting.pop(0)
            self.dropped[DropCause.QUEUE_FULL] += 1
        self.waiting.append(Entry(self.offset, body, self.now_ms))
        self.offset += 1
        return True

    def expired(self, entry: Entry) -> bool:
        return bool(self.policy.ttl_ms) and entry.put_ms + self.policy.ttl_ms <= self.now_ms

    def take(self, room: int) -> list[Entry]:
        taken: list[Entry] = []
        while self.waiting and len(taken) < room:
            entry = self.waiting.pop(0)
            if self.expired(entry):
                self.dropped[DropCause.EXPIRED] += 1
                continue
            entry.attempts += 1
            self.held[entry.offset] = entry
            taken.append(entry)
        return taken

    def settle(self, offset: int, outcome: Outcome) -> None:
        entry = self.held.pop(offset)
        if outcome is Outcome.ACK:
            self.delivered += 1
        elif outcome is Outcome.REJECT:
            self.dropped[DropCause.REJECTED] += 1
        elif outcome is Outcome.RETRY:
            self.sequence += 1
            self.timers.append((self.now_ms + self.policy.retry_delay_ms, self.sequence, entry))
        else:
            self.give_back(entry)

    def give_back(self, entry: Entry) -> None:
        if self.policy.delivery_limit and entry.attempts >= self.policy.delivery_limit:
            self.dropped[DropCause.DELIVERY_LIMIT] += 1
            return
        self.waiting.append(entry)
        self.waiting.sort(key=lambda one: one.offset)

    def wait(self, milliseconds: int) -> None:
        self.now_ms += milliseconds
        while due := [timer for timer in self.timers if timer[0] <= self.now_ms]:
            timer = min(due, key=lambda one: one[:2])
            self.timers.remove(timer)
            if timer[2] is not None:
                timer[2].attempts -= 1  # RETRY does not count
                self.give_back(timer[2])
                continue
            while self.waiting and self.expired(self.waiting[0]):
                self.waiting.pop(0)
                self.dropped[DropCause.EXPIRED] += 1
            self.sequence += 1
            self.timers.append((self.now_ms + SWEEP_INTERVAL_MS, self.sequence, None))

    def purge(self) -> None:
        self.dropped[DropCause.PURGED] += len(self.waiting)
        self.waiting.clear()


class Real:
    """The same queue in a broker, with consumers that note what they get."""

    def __init__(self, policy: QueuePolicy, durable: bool) -> None:
        self.clock = Clock(START_MS, 5000)
        self.broker = Broker(MemoryEngine(), self.clock)
        self.broker.restore(lambda: None)
        queue, _ = self.broker.catalog.declare("q", "classic", policy, durable, False)
        assert isinstance(queue, ClassicQueue)
        queue.memory_messages_max = 2  # further bodies are read from the engine
        self.queue = queue
        self.broker.catalog.bind(queue, Binding("t", queue))
        self.consumers: list[Consumer] = []
        self.held: list[Delivery] = []
        self.fresh: list[Delivery] = []

    def attach(self, window: int) -> None:
        self.consumers.append(Consumer("c", window, self.fresh.extend))
        self.broker.queues.attach(self.queue.group, self.consumers[-1])

    def dispatch(self) -> list[Delivery]:
        self.fresh.clear()
        while self.broker.dispatch():
            pass
        self.held += self.fresh
        return list(self.fresh)


def _settle(model: Model, real: Real, index: int, outcome: Outcome) -> None:
    if not real.held:
        return
    delivery = real.held.pop(index % len(real.held))
    assert real.broker.settlement.settle(delivery, outcome)
    assert not real.broker.settlement.settle(delivery, outcome), "settled once"
    model.settle(delivery.offset, outcome)


def _detach(model: Model, real: Real, index: int) -> None:
    if not real.consumers:
        return
    consumer = real.consumers.pop(index % len(real.consumers))
    mine = [delivery for delivery in real.held if delivery.consumer is consumer]
    real.broker.queues.detach(consumer)
    real.held = [delivery for delivery in real.held if delivery not in mine]
    for delivery in mine:
        model.settle(delivery.offset, Outcome.REQUEUE)


def _dispatch(model: Model, real: Real) -> None:
    room = sum(consumer.window - consumer.unsettled for consumer in real.consumers)
    got = real.dispatch()
    expected = model.take(room) if real.consumers else []
    assert sorted((d.offset, d.message.body, d.attempt) for d in got) == [
        (entry.offset, entry.body, entry.attempts) for entry in expected
    ]
    for consumer in real.consumers:
        offsets = [delivery.offset for delivery in got if delivery.consumer is consumer]
        assert offsets == sorted(offsets), "each consumer gets its share in order"
        assert consumer.unsettled <= consumer.window


def _publish(model: Model, real: Real, body: bytes) -> None:
    try:
        real.broker.publish(Message("t", body, 1))
    except QueueFull:
        assert not model.put(body)
    else:
        assert model.put(body)


def _step(model: Model, real: Real, step: tuple[Any, ...]) -> None:
    match step:
        case ("publish", body):
            _publish(model, real, body)
        case ("attach", window):
            real.attach(window)
        case ("detach", index):
            _detach(model, real, index)
        case ("settle", index, outcome):
            _settle(model, real, index, outcome)
        case ("wait", milliseconds):
            real.clock.set(real.clock.now_ms + milliseconds, real.clock.monotonic_ms + milliseconds)
            real.broker.scheduler.run_due()
            model.wait(milliseconds)
        case ("purge",):
            real.broker.queues.purge(real.queue)
            model.purge()
    _dispatch(model, real)


def _check(model: Model, real: Real) -> None:
    queue, metrics = real.queue, real.broker.metrics
    seen = [(offset, message.body, attempts) for offset, message, attempts in queue.browse(0, 1000)]
    assert seen == [(entry.offset, entry.body, entry.attempts) for entry in model.waiting]
    assert queue.length() == len(model.waiting)
    assert queue.bytes_waiting == sum(len(entry.body) for entry in model.waiting)
    assert metrics.delivered == model.delivered
    assert Counter({cause: metrics.dropped[cause] for cause in DropCause}) == model.dropped
    assert metrics.copies == metrics.delivered + sum(metrics.dropped) + real.broker.waiting()


POLICIES = st.builds(
    QueuePolicy,
    ttl_ms=st.sampled_from([0, 0, 1500]),
    max_length=st.sampled_from([0, 3]),
    overflow=st.sampled_from([DROP_HEAD, REJECT]),
    delivery_limit=st.sampled_from([0, 2]),
    retry_delay_ms=st.sampled_from([200, 1700]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.binary(max_size=3)),
        st.tuples(st.just("publish"), st.binary(max_size=3)),
        st.tuples(st.just("attach"), st.integers(1, 3)),
        st.tuples(st.just("detach"), st.integers(0, 9)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.sampled_from(Outcome)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.just(Outcome.ACK)),
        st.tuples(st.just("wait"), st.sampled_from([100, 900, 2100])),
        st.tuples(st.just("purge")),
    ),
    max_size=50,
)


@pytest.mark.parametrize("durable", [False, True])
@settings(max_examples=400)
@given(policy=POLICIES, steps=STEPS)
def test_a_queue_does_what_a_list_would(durable: bool, policy: QueuePolicy, steps: list[Any]) -> None:
    model, real = Model(policy), Real(policy, durable)
    for step in steps:
        _step(model, real, step)
        _check(model, real)
