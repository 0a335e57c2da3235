"""What the suite's tests have in common."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.oms import Feature, Message, MessagingAccessPoint, OMSUnsupportedError, Producer, PullConsumer

SECONDS = 10.0  # until what should come has come; a busy machine may need them
QUIET = 0.2  # in which what should not come does not

Test = Callable[..., Awaitable[None]]


def needs(*features: Feature) -> Callable[[Test], Test]:
    """Have a test run where a driver has these; where it lacks one, it must say so by its error."""

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        async def run(access_point: MessagingAccessPoint, **arguments: Any) -> None:
            if any(feature in access_point.driver.unsupported for feature in features):
                with pytest.raises(OMSUnsupportedError):
                    await test(access_point, **arguments)
            else:
                await test(access_point, **arguments)

        return run

    return decorate


@asynccontextmanager
async def clients(
    access_point: MessagingAccessPoint, queue: str, **attributes: Any
) -> AsyncIterator[tuple[Producer, PullConsumer]]:
    """Yield a producer, and a pull consumer that is bound to a queue."""
    async with access_point.create_pull_consumer(**attributes) as consumer:
        await consumer.bind_queue(queue)
        async with access_point.create_producer() as producer:
            yield producer, consumer


async def take(consumer: PullConsumer, count: int) -> list[Message]:
    """Receive so many messages and acknowledge them."""
    found: list[Message] = []
    while len(found) < count:
        message = await consumer.receive(SECONDS)
        assert message is not None, f"{len(found)} of {count} messages came"
        if message.receipt is not None:
            await consumer.ack(message.receipt)
        found.append(message)
    return found


async def one(consumer: PullConsumer) -> Message:
    """Receive a message; it is not acknowledged."""
    message = await consumer.receive(SECONDS)
    assert message is not None, "no message came"
    return message


async def nothing(consumer: PullConsumer) -> None:
    """See that nothing comes."""
    message = await consumer.receive(QUIET)
    assert message is None, f"{message} came"


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came to be"
        await asyncio.sleep(0.005)


def data(messages: list[Message]) -> list[bytes]:
    """Return what messages carry."""
    return [message.data for message in messages]
