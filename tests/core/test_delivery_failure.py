"""A protocol that fails while it is delivered to harms nobody but its own client."""

from __future__ import annotations

import pytest

from gateway.core.access import Action, Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.delivery import Delivery
from gateway.core.message import Message, Origin, Outcome
from gateway.core.metrics import DropCause
from gateway.core.receiver import Item
from gateway.core.session import Session
from gateway.storage.memory import MemoryEngine


class Allow:
    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(True)


def _broker() -> tuple[Broker, list[str]]:
    broker = Broker(MemoryEngine(), Clock(1_700_000_000_000, 1000))
    broker.restore(lambda: None)
    bugs: list[str] = []
    broker.on_bug = lambda what, error: bugs.append(f"{what}: {error}")
    return broker, bugs


def _session(broker: Broker, client_id: str) -> Session:
    return Session(
        broker, Principal("p", admin=True), Origin("test", "p", client_id, "peer"), Authority([Allow()]), ()
    )


def _fail(batch: list[Item] | list[Delivery]) -> None:
    raise RuntimeError("no")


def _balanced(broker: Broker) -> bool:
    metrics = broker.metrics
    return metrics.copies == (metrics.delivered + metrics.streamed + sum(metrics.dropped) + broker.waiting())


@pytest.mark.parametrize("order", [("bad", "good"), ("good", "bad")])
def test_other_receivers_get_their_messages(order: tuple[str, str]) -> None:
    broker, bugs = _broker()
    got: list[bytes] = []
    for name in order:
        session = _session(broker, name)
        session.receive(_fail if name == "bad" else lambda batch: got.extend(m.body for m, _ in batch))
        session.subscribe("t")
    for body in (b"1", b"2"):
        broker.publish(Message("t", body, 0))
    broker.dispatch()
    assert got == [b"1", b"2"]
    assert bugs == ["delivery to bad: no"]
    assert broker.metrics.dropped[DropCause.DELIVERY_FAILED] == 2
    broker.publish(Message("t", b"3", 0))
    broker.dispatch()
    assert got == [b"1", b"2", b"3"]
    assert len(bugs) == 1
    assert broker.metrics.dropped[DropCause.SUBSCRIBER_OFFLINE] == 1
    assert _balanced(broker)


def test_what_a_failing_consumer_held_goes_to_another() -> None:
    broker, bugs = _broker()
    bad, good = _session(broker, "bad"), _session(broker, "good")
    queue, _ = broker.catalog.declare("q", "classic")
    bad.consume("q", _fail, 10)
    for body in (b"1", b"2"):
        broker.enqueue(queue, Message("q", body, 1), None)
    broker.dispatch()
    assert bugs == ["delivery to bad: no"]
    assert queue.depth(queue.group) == 2  # type: ignore[attr-defined]
    got: list[bytes] = []

    def take(batch: list[Delivery]) -> None:
        got.extend(delivery.message.body for delivery in batch)
        for delivery in batch:
            good.settle(delivery, Outcome.ACK)

    good.consume("q", take, 10)
    broker.dispatch()
    assert got == [b"1", b"2"]
    assert len(bugs) == 1
    assert _balanced(broker)


def test_a_mistake_is_not_hidden_where_nobody_logs_it() -> None:
    broker, _ = _broker()
    broker = Broker(MemoryEngine(), Clock(1_700_000_000_000, 1000))
    broker.restore(lambda: None)
    session = _session(broker, "bad")
    session.receive(_fail)
    session.subscribe("t")
    broker.publish(Message("t", b"", 0))
    with pytest.raises(RuntimeError, match="no"):
        broker.dispatch()
