"""Push consumers over a driver by hand: what a real one does rarely."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.oms import ListenerContext, Message, OMSError, QoS, push
from tests.oms.conformance.helpers import until
from tests.oms.fake import access_point


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "RETRY_SECONDS", (0.001,))


async def test_a_provider_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    point, driver = access_point()
    got: list[str] = []
    driver.failures = [OMSError("away", 1503), OMSError("away", 1503)]
    async with point.create_push_consumer() as consumer:
        await consumer.bind_queue("q", lambda message, context: got.append(message.text))
        driver.arrive("x")
        await until(lambda: got == ["x"])
        await until(lambda: driver.acknowledged == ["x"])
    assert sum("away" in record.message for record in caplog.records) == 2


async def test_a_driver_may_have_it_tried_again_here() -> None:
    point, driver = access_point()
    driver.tries = 3
    seen: list[tuple[str, int]] = []

    def listener(message: Message, context: ListenerContext) -> None:
        seen.append((message.text, message.header.delivery_count))
        if message.text == "bad":
            raise LookupError

    async with point.create_push_consumer(retry_delay=7) as consumer:
        await consumer.bind_queue("q", listener)
        driver.arrive("bad", "behind", key="k")
        driver.arrive("beside", key="other")
        await until(lambda: len(seen) == 5)
        await until(lambda: len(driver.acknowledged) == 2)
    assert [entry for entry in seen if entry[0] != "beside"] == [
        ("bad", 1),
        ("bad", 2),
        ("bad", 3),
        ("behind", 1),
    ]
    assert seen.index(("beside", 1)) < seen.index(("bad", 2)), "another key does not wait"
    assert driver.given_back == [("bad", 0.007)]
    assert sorted(driver.acknowledged) == ["behind", "beside"]


async def test_what_cannot_be_settled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    point, driver = access_point()
    driver.late = True
    seen: list[str] = []

    def listener(message: Message, context: ListenerContext) -> None:
        seen.append(message.text)
        if message.text == "bad":
            raise LookupError

    async with point.create_push_consumer() as consumer:
        await consumer.bind_queue("q", listener)
        await consumer.bind_queue("b", _raise, batch=True)
        driver.arrive("good", "bad")
        driver.arrive("one", "two", queue="b")
        driver.arrive("last", qos=QoS.AT_MOST_ONCE)
        await until(lambda: "last" in seen)
        await until(lambda: sum("too late" in record.message for record in caplog.records) >= 5)


def _raise(batch: list[Message], context: ListenerContext) -> None:
    raise LookupError


async def test_at_most_once_is_settled_before_the_listener() -> None:
    point, driver = access_point()
    settled: list[list[str]] = []
    async with point.create_push_consumer() as consumer:
        await consumer.bind_queue("q", lambda message, context: settled.append(list(driver.acknowledged)))
        driver.arrive("x", qos=QoS.AT_MOST_ONCE)
        await until(lambda: settled)
    assert settled == [["x"]]


async def test_who_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "STOP_SECONDS", 0.01)
    point, driver = access_point()
    began, ended = asyncio.Event(), []

    async def listener(message: Message, context: ListenerContext) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(message.text)

    async with point.create_push_consumer() as consumer:
        await consumer.bind_queue("q", listener)
        driver.arrive("x", "y", key="k")
        await began.wait()
    assert ended == ["x"], "what was behind it never began"
    assert driver.acknowledged == []


async def test_an_acknowledgement_after_the_stop_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    point, driver = access_point()
    held: list[ListenerContext] = []
    async with point.create_push_consumer() as consumer:
        await consumer.bind_queue("q", lambda message, context: held.append(context), manual_ack=True)
        driver.arrive("x")
        await until(lambda: held)
    caplog.set_level(logging.WARNING)
    held[0].ack()
    await until(lambda: any("after the stop" in record.message for record in caplog.records))
    assert driver.acknowledged == []
