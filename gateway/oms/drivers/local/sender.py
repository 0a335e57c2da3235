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

from ...driver import Check, ClientOptions, Sender, SendResult, TransactionStatus
from ...errors import OMSDestinationError, OMSError, OMSTransactionError, ResponseStatus
from ...fields import BORN_HOST
from ...keys import ExtensionKeys
from ...message import Message, QoS
from .errors import translated, translating
from .translate import TRANSACTION, from_core, to_core

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
        self._loop = asyncio.get_running_loop()
        self._session = driver.session(options)
        self._origin = self._session.origin
        self._topics: dict[tuple[str, str], str] = {}
        self._prefix = secrets.token_hex(8).upper()
        self._count = 0
        self._waiting: list[_Waiting] = []
        self.client_id = options.client_id
        self.check = check
        self._immunity_ms = options.attributes.get_int(ExtensionKeys.CHECK_DELAY)
        if check is not None:
            self._region.senders.append(self)

    def send(self, message: Message) -> asyncio.Future[SendResult]:
        self._gateway.begin_turn()
        header = message.header
        core = to_core(message, self._topic(header.destination), self._origin, self._next_id())
        later = core.properties.delay_ms
        try:
            if header.qos == QoS.EXACTLY_ONCE and header.message_id:
                position = self._publish_once(core, header.message_id)
            else:
                position = self._session.publish(core)
        except GatewayError as error:
            raise translated(error) from error
        if position < 0:
            raise OMSDestinationError(
                f"nobody receives from {header.destination!r}: create the queue, or bind a consumer first"
            )
        result = SendResult(core.properties.message_id or "", handle=position if later else None)
        future = self._loop.create_future()
        if not position or header.qos == QoS.AT_MOST_ONCE:
            future.set_result(result)
            return future
        waiting = self._waiting
        if not waiting:
            self._loop.call_soon(self._wait)
        waiting.append((future, result, position))
        return future

    def _publish_once(self, core: CoreMessage, message_id: str) -> int:
        """Publish what its producer has given an id: the second of one id is answered as the first."""
        core.properties.message_id = core.properties.idempotency_key = message_id
        return self._session.publish_once(core).position

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count:08X}"

    def _topic(self, destination: str) -> str:
        key = (self._driver.namespace, destination)
        topic = self._topics.get(key)
        if topic is None:
            if len(self._topics) >= TOPICS_CACHED_MAX:
                self._topics.clear()
            topic = self._topics[key] = self._driver.place(destination).topic
        elif key[0] or "://" in destination:
            self._driver.check_namespace(destination)
        return topic

    def _wait(self) -> None:
        """Have everything sent in this round of the loop told when the last of it is stored."""
        waiting, self._waiting = self._waiting, []

        def stored(everything: bool) -> None:
            for future, result, position in waiting:
                if future.done():
                    continue
                if everything or self._gateway.broker.engine.stored(position):
                    future.set_result(result)
                else:
                    future.set_exception(translated(NotStored("the message could not be written to disk")))

        self._gateway.when_durable(waiting[-1][2], stored)

    async def send_oneway(self, messages: Sequence[Message]) -> None:
        for number, message in enumerate(messages, 1):
            try:
                self.send(message).add_done_callback(_look_away)
            except OMSError:
                pass  # nobody is told
            if number % ONEWAY_PER_TURN == 0:
                await asyncio.sleep(0)
        self._oneway += len(messages)
        if self._oneway >= ONEWAY_PER_TURN:
            self._oneway = 0
            await asyncio.sleep(0)

    _oneway = 0

    # -- transactions and delays ----------------------------------------------------------------

    async def prepare(self, message: Message) -> SendResult:
        self._gateway.begin_turn()
        id = secrets.token_hex(16)
        message.extension_header.transaction_id = id
        topic = self._topic(message.header.destination)
        half = to_core(message, f"$transaction/{id}/publish/{topic}", self._origin, self._next_id())
        with translating():
            if self._immunity_ms:
                self._tell(id, "begin", json.dumps({"immunity": self._immunity_ms / 1000}).encode())
            await self._gateway.durable(self._session.publish(half))
        return SendResult(half.properties.message_id or "", id)

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
        asked = from_core(message, message.topic, 0, None)
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


def _look_away(sent: asyncio.Future[SendResult]) -> None:
    if not sent.cancelled():
        sent.exception()


__all__ = ["BORN_HOST", "PROTOCOL", "TRANSACTION", "LocalSender"]
