"""A producer of the local driver: publishes at once, and tells when the log has it.

All futures of one round of the event loop wait for one position of the log, so that a hundred thousand
sends a second cost one callback for each write.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.api import Conflict, GatewayError, NotFound, NotStored
from gateway.api import Message as CoreMessage

from ...driver import Check, ClientOptions, Sender, SendResult, TransactionStatus, batch_results
from ...errors import OMSDestinationError, OMSError, OMSTransactionError, ResponseStatus
from ...keys import ExtensionKeys
from ...message import Message, QoS
from .errors import translated, translating
from .translate import from_core, to_core

if TYPE_CHECKING:
    from . import LocalDriver

ONEWAY_PER_TURN: Final = 512  # messages handed over before others have their turn
TOPICS_CACHED_MAX: Final = 10_000
PROTOCOL: Final = "oms"

_Waiting = tuple[asyncio.Future[SendResult], SendResult, int]


class LocalSender(Sender):
    """One producer, with a session of its own."""

    def __init__(self, driver: LocalDriver, options: ClientOptions, check: Check | None) -> None:
        self._driver = driver
        self._region = driver.region
        self._gateway = driver.region.gateway
        self._clock = self._gateway.clock
        self._loop = asyncio.get_running_loop()
        self._session = driver.session(options)
        self._origin = self._session.origin
        self._topics: dict[str, tuple[str, str]] = {}  # by destination: the topic, and its namespace
        self._namespace = driver.namespace
        self._prefix = secrets.token_hex(8).upper()
        self._count = 0
        self._waiting: list[_Waiting] = []
        self._oneway = 0  # messages since others had their turn
        self.client_id = options.client_id
        self.check = check
        self._immunity_ms = options.attributes.get_int(ExtensionKeys.CHECK_DELAY)
        if check is not None:
            self._region.senders.append(self)

    def send(self, message: Message) -> asyncio.Future[SendResult]:
        result, position = self._publish(message)
        future = self._loop.create_future()
        if not position or message.header.qos == QoS.AT_MOST_ONCE:
            future.set_result(result)
            return future
        waiting = self._waiting
        if not waiting:
            self._loop.call_soon(self._wait)
        waiting.append((future, result, position))
        return future

    def _publish(self, message: Message) -> tuple[SendResult, int]:
        """Publish; return the result, and the position to wait for (0: none). Raise OMSError."""
        self._gateway.begin_turn()
        header = message.header
        self._count += 1
        message_id = f"{self._prefix}{self._count:08X}"
        topic = self._topic(header.destination)
        core = to_core(message, topic, self._origin, message_id, self._clock.offset_ms)
        later = core.properties.delay_ms
        try:
            if header.qos == QoS.EXACTLY_ONCE and header.message_id:
                message_id = core.properties.message_id = header.message_id
                position = self._publish_once(core)
            else:
                position = self._session.publish(core)
        except GatewayError as error:
            raise translated(error) from error
        if position < 0:
            raise OMSDestinationError(
                f"nobody receives from {header.destination!r}: create the queue, or bind a consumer first"
            )
        return SendResult(message_id, None, None, None, position if later else None), position

    def _publish_once(self, core: CoreMessage) -> int:
        """Publish what its producer has given an id: the second of one id is answered as the first."""
        core.properties.idempotency_key = core.properties.message_id
        return self._session.publish_once(core).position

    def _topic(self, destination: str) -> str:
        driver = self._driver
        if driver.namespace != self._namespace:
            self._namespace = driver.namespace
            self._topics.clear()
        known = self._topics.get(destination)
        if known is None:
            if len(self._topics) >= TOPICS_CACHED_MAX:
                self._topics.clear()
            topic, namespace = driver.place(destination).topic, driver.split_queue(destination)[0]
            self._topics[destination] = (topic, namespace)
            return topic
        topic, namespace = known
        if namespace and namespace not in self._region.registry.namespaces:
            driver.check_namespace(destination)
        return topic

    def _wait(self) -> None:
        """Have everything sent in this round of the loop told when the last of it is stored."""
        waiting, self._waiting = self._waiting, []

        def stored(everything: bool) -> None:
            for future, result, position in waiting:
                if future.done():
                    continue
                if everything or self._is_stored(position):
                    future.set_result(result)
                else:
                    future.set_exception(_not_stored())

        self._gateway.when_durable(waiting[-1][2], stored)

    def _is_stored(self, position: int) -> bool:
        return not position or self._gateway.broker.engine.stored(position) is True

    async def send_batch(self, messages: Sequence[Message]) -> list[SendResult]:
        results: list[SendResult | OMSError] = []
        positions: list[int] = []
        for message in messages:
            try:
                result, position = self._publish(message)
            except OMSError as error:
                results.append(error)
                positions.append(0)
            else:
                results.append(result)
                positions.append(position)
        last = max(positions)
        if last:
            try:
                await self._gateway.durable(last)
            except NotStored:
                for number, position in enumerate(positions):
                    if not self._is_stored(position):
                        results[number] = _not_stored()
        return batch_results(results)

    async def send_oneway(self, messages: Sequence[Message]) -> None:
        for message in messages:
            try:
                self._publish(message)
            except OMSError:
                pass  # nobody is told
            self._oneway += 1
            if self._oneway >= ONEWAY_PER_TURN:
                self._oneway = 0
                await asyncio.sleep(0)

    # -- transactions and delays ----------------------------------------------------------------

    async def prepare(self, message: Message) -> SendResult:
        self._gateway.begin_turn()
        id = secrets.token_hex(16)
        message.extension_header.transaction_id = id
        topic = self._topic(message.header.destination)
        self._count += 1
        message_id = f"{self._prefix}{self._count:08X}"
        half = to_core(
            message,
            f"$transaction/{id}/publish/{topic}",
            self._origin,
            message_id,
            self._clock.offset_ms,
        )
        with translating():
            if self._immunity_ms:
                self._tell(id, "begin", json.dumps({"immunity": self._immunity_ms / 1000}).encode())
            await self._gateway.durable(self._session.publish(half))
        return SendResult(message_id, id)

    async def end(self, prepared: SendResult, status: TransactionStatus) -> None:
        assert prepared.transaction_id is not None
        self._gateway.begin_turn()
        try:
            position = self._tell(prepared.transaction_id, status.value)
        except (Conflict, NotFound) as error:
            raise OMSTransactionError(error.detail) from error
        except GatewayError as error:
            raise translated(error) from error
        with translating():
            await self._gateway.durable(position)

    def _tell(self, id: str, verb: str, body: bytes = b"") -> int:
        return self._session.publish(CoreMessage(f"$transaction/{id}/{verb}", body, origin=self._origin))

    async def ask(self, id: str, message: CoreMessage) -> None:
        """Ask the application about a transaction that it left open, and do as it says."""
        assert self.check is not None
        asked = from_core(message, message.topic, 0, None, self._clock.offset_ms)
        asked.extension_header.transaction_id = asked.extension_header.transaction_id or id
        asked.header.destination = self._driver.name_of(message.topic)
        status = await self.check(asked)
        if status is TransactionStatus.UNKNOWN or self._session.ended:
            return
        self._gateway.begin_turn()
        try:
            self._tell(id, status.value)
        except GatewayError:
            pass  # it has ended meanwhile, or cannot be ended now: then it is asked about again

    async def recall(self, sent: SendResult) -> None:
        if not isinstance(sent.handle, int):
            raise OMSError("only what was sent with a delay can be recalled", ResponseStatus.BAD_PARAMETER)
        self._gateway.begin_turn()
        with translating():
            self._gateway.broker.schedules.cancel(sent.handle)
            await self._gateway.durable(self._gateway.broker.engine.position())

    async def close(self) -> None:
        if self.check is not None:
            self._region.senders.remove(self)
        self._gateway.begin_turn()
        self._session.close()


def _not_stored() -> OMSError:
    return OMSError("the message could not be written to disk", ResponseStatus.STORAGE_ERROR)
