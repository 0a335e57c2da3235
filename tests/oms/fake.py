"""A driver by hand: queues are lists, and a test says what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from gateway.oms import Feature, Message, MessageReceipt, MessagingAccessPoint, get_access_point
from gateway.oms.driver import (
    Check,
    ClientOptions,
    Driver,
    MessageSelector,
    Receiver,
    Sender,
    SendResult,
    StreamReader,
)
from gateway.oms.errors import OMSError


class FakeSender(Sender):
    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver

    def send(self, message: Message) -> asyncio.Future[SendResult]:
        if message.data == b"raise":
            raise OMSError("at once", 1500)
        future: asyncio.Future[SendResult] = asyncio.get_running_loop().create_future()
        if message.data == b"fail":
            future.set_exception(OMSError("later", 1501))
        else:
            self.driver.sent.append(message)
            future.set_result(SendResult(f"id-{len(self.driver.sent)}"))
        return future


class FakeReceiver(Receiver):
    """Hands out what a test puts into `driver.waiting`."""

    def __init__(self, driver: FakeDriver, options: ClientOptions) -> None:
        self.driver = driver
        self.options = options

    async def bind(self, queue: str, selector: MessageSelector | None) -> None:
        if queue == "refused":
            raise OMSError("no", 1404)
        self.driver.bound.append(queue)

    async def unbind(self, queue: str) -> None:
        self.driver.bound.remove(queue)

    async def receive(self, messages_max: int, timeout: float) -> list[Message]:
        driver = self.driver
        while True:
            if driver.failures:
                raise driver.failures.pop(0)
            if driver.waiting:
                taken, driver.waiting = driver.waiting[:messages_max], driver.waiting[messages_max:]
                return taken
            await asyncio.sleep(0.001)

    async def acknowledge(self, receipts: Sequence[MessageReceipt]) -> None:
        if self.driver.late:
            raise OMSError("too late", 1418)
        self.driver.acknowledged += [receipt.handle for receipt in receipts]

    async def nack(self, receipt: MessageReceipt, delay: float | None) -> None:
        if self.driver.late:
            raise OMSError("too late", 1418)
        self.driver.given_back.append((receipt.handle, delay))

    async def failed(self, message: Message, delay: float | None) -> float | None:
        if self.driver.tries and message.header.delivery_count < self.driver.tries:
            return 0.01
        return await super().failed(message, delay)

    async def close(self) -> None:
        self.driver.closed += 1


class FakeDriver(Driver):
    """Everything that happened, and what is to happen."""

    lacks: ClassVar[dict[Feature, str]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sent: list[Message] = []
        self.waiting: list[Message] = []
        self.failures: list[OMSError] = []
        self.acknowledged: list[Any] = []
        self.given_back: list[tuple[Any, float | None]] = []
        self.bound: list[str] = []
        self.life: list[str] = []
        self.closed = 0
        self.late = False  # receipts count no more
        self.tries = 0  # attempts that the consumer makes itself

    async def start(self) -> None:
        self.life.append("start")

    async def stop(self) -> None:
        self.life.append("stop")

    async def open_sender(self, options: ClientOptions, check: Check | None) -> Sender:
        return FakeSender(self)

    async def open_receiver(self, options: ClientOptions) -> Receiver:
        return FakeReceiver(self, options)

    async def open_reader(self, options: ClientOptions) -> StreamReader:
        return FakeReader(self)

    def arrive(self, *texts: str, queue: str = "q", key: str | None = None, qos: int = 0) -> None:
        """Have messages wait."""
        for text in texts:
            message = Message(queue, text.encode(), receipt=MessageReceipt(text, queue))
            message.header.delivery_count = 1
            message.header.qos = qos
            message.extension_header.message_key = key
            self.waiting.append(message)


class FakeReader(StreamReader):
    """A stream of numbers, of which some are missing."""

    OFFSETS: ClassVar[list[int]] = [3, 4, 90, 91, 500]

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver

    async def bounds(self, queue: str, partition: int) -> tuple[int, int]:
        return 2, 600

    async def read(self, queue: str, partition: int, position: int, messages_max: int) -> list[Message]:
        found = []
        for offset in [offset for offset in self.OFFSETS if offset >= position][:messages_max]:
            message = Message(queue, b"%d" % offset)
            message.extension_header.offset = offset
            found.append(message)
        return found


class LackingDriver(FakeDriver):
    """Lacks everything that can be lacking."""

    unsupported: ClassVar[dict[Feature, str]] = dict.fromkeys(Feature, "it is a test")


def access_point(kind: type[FakeDriver] = FakeDriver) -> tuple[MessagingAccessPoint, FakeDriver]:
    """Return an access point of a fake driver, and the driver."""
    found = get_access_point("oms:fake://h/r", {"DRIVER_IMPL": f"{__name__}:{kind.__name__}"})
    assert isinstance(found.driver, FakeDriver)
    return found, found.driver
