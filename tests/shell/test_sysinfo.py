"""Statistics under `$sys/`: what they say, when they come, and that they do not count themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.access import Credentials, Principal
from gateway.core.errors import NotAuthorized
from gateway.core.message import Message
from gateway.core.metrics import DropCause
from gateway.core.receiver import Item
from gateway.core.session import Session
from gateway.sysinfo import INTERVAL_MS, SysInfo
from gateway.testing import TestGateway
from gateway.version import __version__

USER = Principal("user", admin=True)


@pytest.fixture
def gateway() -> Iterator[TestGateway]:
    made = TestGateway()
    yield made
    made.close()


def started(gateway: TestGateway, clients: int = 0) -> SysInfo:
    info = SysInfo(gateway.broker, lambda: clients)
    info.start()
    return info


def said(gateway: TestGateway, name: str) -> str:
    """Return the retained value of a statistic."""
    found = gateway.broker.retained.get("$sys/broker/" + name)
    assert found is not None, f"nothing under {name}"
    return found.body.decode()


def watch(gateway: TestGateway, topic_filter: str) -> tuple[Session, list[tuple[str, str]]]:
    session = gateway.open_session(USER, Credentials("test"))
    seen: list[tuple[str, str]] = []

    def deliver(batch: list[Item]) -> None:
        seen.extend((message.topic, message.body.decode()) for message, _ in batch)

    session.receive(deliver)
    session.subscribe(topic_filter)
    return session, seen


def pass_time(gateway: TestGateway, ms: int) -> None:
    """Let time pass and do what became due."""
    gateway.clock.set(gateway.clock.now_ms + ms, gateway.clock.monotonic_ms + ms)
    gateway.scheduler.run_due()
    gateway.broker.dispatch()


def test_every_statistic_is_there_from_the_start_retained_and_as_text(gateway: TestGateway) -> None:
    info = started(gateway)
    for name in info.values():
        kept = gateway.broker.retained.get("$sys/" + name)
        assert kept is not None
        assert kept.retain
        assert kept.body == kept.body.strip() != b""
        assert kept.timestamp_ms == gateway.clock.now_ms
    assert said(gateway, "version") == f"gateway {__version__}"
    assert said(gateway, "uptime") == "0"
    assert int(said(gateway, "memory/maximum")) > 1 << 20


def test_the_numbers_are_those_of_the_broker(gateway: TestGateway) -> None:
    broker = gateway.broker
    session, _ = watch(gateway, "a/+")
    broker.catalog.declare("jobs")
    for n in range(3):
        broker.publish(Message(f"a/{n}", b"x", 0))
    broker.publish(Message("kept", b"x", 0, True))
    broker.dispatch()
    broker.metrics.drop(DropCause.EXPIRED, 2)
    broker.metrics.drop(DropCause.NOT_STORED, 5)
    started(gateway, clients=7)
    expected = {
        "clients/connected": "7",
        "subscriptions/count": "2",  # the session's, and the queue's to its own address
        "retained/count": "1",
        "queues/count": "1",
        "messages/published": "4",
        "messages/delivered": "4",  # three to the session, one to the retained store
        "messages/redelivered": "0",
        "messages/dropped/expired": "2",
        "messages/dropped/not-stored": "5",
    }
    assert {name: said(gateway, name) for name in expected} == expected
    assert int(said(gateway, "messages/dropped")) == sum(broker.metrics.dropped) >= 7
    session.close()


def test_every_cause_of_a_drop_has_a_topic_of_its_own(gateway: TestGateway) -> None:
    names = {name for name in started(gateway).values() if name.startswith("broker/messages/dropped/")}
    assert {name.rpartition("/")[2] for name in names} == {
        cause.name.lower().replace("_", "-") for cause in DropCause
    }


def test_they_come_again_at_every_interval_and_not_before(gateway: TestGateway) -> None:
    started(gateway)
    session, seen = watch(gateway, "$sys/broker/uptime")
    pass_time(gateway, INTERVAL_MS - 1)
    assert seen == []
    pass_time(gateway, 1)
    assert seen == [("$sys/broker/uptime", str(INTERVAL_MS // 1000))]
    pass_time(gateway, INTERVAL_MS)
    assert [value for _, value in seen] == ["10", "20"]
    assert said(gateway, "uptime") == "20"
    session.close()


@pytest.mark.parametrize(
    ("topic_filter", "reached"),
    [("#", False), ("+/broker/uptime", False), ("$sys/#", True), ("$sys/+/uptime", True)],
)
def test_they_reach_only_who_asks_for_them_by_name(
    gateway: TestGateway, topic_filter: str, reached: bool
) -> None:
    session, seen = watch(gateway, topic_filter)
    started(gateway)
    gateway.broker.dispatch()
    assert ("$sys/broker/uptime" in dict(seen)) is reached
    assert bool(seen) is reached
    session.close()


def test_they_are_neither_logged_nor_counted(gateway: TestGateway) -> None:
    broker = gateway.broker
    session, seen = watch(gateway, "$sys/#")
    before = broker.engine.position()
    started(gateway)
    for _ in range(3):
        pass_time(gateway, INTERVAL_MS)
    assert len(seen) > 40
    assert broker.engine.position() == before
    assert broker.metrics.published == 0
    assert said(gateway, "messages/published") == "0"
    session.close()


@pytest.mark.parametrize("topic", ["$sys/broker/version", "$sys/mine"])
def test_clients_cannot_write_statistics(gateway: TestGateway, topic: str) -> None:
    started(gateway)
    session = gateway.open_session(USER, Credentials("test"))
    with pytest.raises(NotAuthorized):
        session.publish(Message(topic, b"forged", 0, True))
    assert said(gateway, "version") == f"gateway {__version__}"
    session.close()
