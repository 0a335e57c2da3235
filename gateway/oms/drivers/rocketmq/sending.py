"""A producer: messages by lanes, more tries where that may help, recall, transactions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple
from zlib import crc32

from gateway.oms.driver import Check, ClientOptions, Sender, SendResult, TransactionStatus, batch_results
from gateway.oms.errors import (
    OMSDestinationError,
    OMSError,
    OMSMessageFormatError,
    OMSTimeoutError,
    ResponseStatus,
)
from gateway.oms.keys import ExtensionKeys
from gateway.oms.message import Message
from gateway.rocketmq.numbers import Code, Encoding, MessageType, TransactionResolution, TransactionSource
from gateway.rocketmq.payload import put_ms
from gateway.rocketmq.schema import CLASSES

from .client import REQUEST_SECONDS_MAX, Client, Role
from .endpoints import Endpoint
from .lanes import Lane, Sent
from .routes import Queue, Route
from .statuses import check, is_passing, of_status
from .topics import Topics
from .translate import TRANSACTION, from_wire, to_wire
from .wire import Wire

_log = logging.getLogger(__name__)

ATTEMPTS_DEFAULT: Final = 3  # if the server does not say
GONE_SECONDS: Final = 0.1  # between tries while a server is not there
TOPICS_MAX: Final = 1024  # that servers are told of: of more, those used first are told again
LANES_MAX: Final = 1024  # idle ones are forgotten beyond: each message key has one
#: What RocketMQ's broker takes only one at a time: it would forget the delay.
_ALONE: Final = frozenset((MessageType.DELAY, MessageType.TRANSACTION, MessageType.PRIORITY))
_RESOLUTIONS: Final = {
    TransactionStatus.COMMIT: TransactionResolution.COMMIT,
    TransactionStatus.ROLLBACK: TransactionResolution.ROLLBACK,
}


class Handle(NamedTuple):
    """Where a message went: what it takes to recall it, or to end its transaction."""

    topic: Any
    endpoint: Endpoint
    recall: str
    trace: str
    transaction: str = ""


_Key = tuple[str, str, int, str, int]


class RocketSender(Role, Sender):
    """A producer's client, and the topics that it has sent to."""

    def __init__(self, client: Client, topics: Topics, check: Check | None, options: ClientOptions) -> None:
        self._client = client
        self._topics = topics
        self._check = check
        self._check_delay_ms = options.attributes.get_int(ExtensionKeys.CHECK_DELAY)
        self._lanes: dict[_Key, Lane] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._introduced: dict[tuple[str, str], Any] = {}  # topics that servers know this sends to
        self._next: Any = None  # the one that they are being told of
        self._introducing = asyncio.Lock()

    def describe(self, settings: Any) -> None:
        """Say what this sends to."""
        settings.publishing.topics.extend(self._introduced.values())
        if self._next is not None:
            settings.publishing.topics.append(self._next)

    # -- sending

    def send(self, message: Message) -> asyncio.Future[SendResult]:
        """See the base."""
        return self._put(self._made(message))

    async def send_batch(self, messages: Sequence[Message]) -> list[SendResult]:
        """See the base."""
        made = [self._made(message) for message in messages]
        sent = [self._put(each) for each in made]
        return batch_results(await asyncio.gather(*sent, return_exceptions=True))

    async def send_oneway(self, messages: Sequence[Message]) -> None:
        """See the base."""
        for message in messages:
            made = self._made(message)
            lane = self._lane(made)
            await lane.room()
            lane.put(made).add_done_callback(_look_away)

    def _made(self, message: Message, half: bool = False) -> Any:
        made = to_wire(message, self._topics.resource(message.header.destination), half)
        limit = self._client.told.publishing.max_body_size
        if limit and len(made.body) > limit:
            raise OMSMessageFormatError(
                f"{len(made.body)} bytes are more than the server's {limit}", ResponseStatus.BODY_TOO_LARGE
            )
        return made

    def _put(self, made: Any) -> asyncio.Future[SendResult]:
        return self._lane(made).put(made)

    def _lane(self, made: Any) -> Lane:
        system = made.system_properties
        kind, group, encoding = system.message_type, system.message_group, system.body_encoding
        key = (made.topic.resource_namespace, made.topic.name, kind, group, encoding)
        found = self._lanes.get(key)
        if found is None:
            if len(self._lanes) >= LANES_MAX:
                self._lanes = {known: lane for known, lane in self._lanes.items() if not lane.idle}
            # a broker believes a request's first message that its body is compressed, or not
            batches = kind not in _ALONE and encoding == Encoding.IDENTITY
            found = self._lanes[key] = Lane(self._send, in_order=bool(group), batches=batches)
        return found

    async def _send(self, made: Sequence[Any]) -> Sent:
        """Send messages that may share a request; more than once, if that may help."""
        failures: list[OMSError] = []
        try:
            async with asyncio.timeout(self._client.timeout):
                return await self._try(made, failures)
        except TimeoutError:
            error: OMSError = OMSTimeoutError(f"not sent within {self._client.timeout:g} s")
        except OMSError as refused:
            error = refused
        return [failures[-1] if failures else error] * len(made)

    async def _try(self, made: Sequence[Any], failures: list[OMSError]) -> Sent:
        first = made[0]
        request = CLASSES["SendMessageRequest"](messages=made)
        attempts = self._client.told.backoff_policy.max_attempts or ATTEMPTS_DEFAULT
        seconds = min(self._client.timeout, REQUEST_SECONDS_MAX)
        attempt = 1
        while True:
            try:
                route = await self._route(first.topic)
                queue = self._choose(route, first.system_properties.message_group)
                reply = await self._client.ask(queue.endpoint, "SendMessage", request, seconds)
                if reply.status.code != Code.MULTIPLE_RESULTS:
                    check(reply.status, f"sending to {first.topic.name}")
                return _results(reply, made, queue)
            except OMSError as error:
                gone = error.code == ResponseStatus.SERVICE_UNAVAILABLE
                if not is_passing(error) or (attempt >= attempts and not gone):
                    raise
                failures.append(error)
                _log.info("attempt %d: %s", attempt, error.reason)
            # a server that is not there is waited for, as long as the operation may take
            await asyncio.sleep(max(self._client.pause(attempt), GONE_SECONDS if gone else 0.0))
            attempt += 1

    async def _route(self, topic: Any) -> Route:
        """Return where a topic is; its servers know by then that this sends to it."""
        route = await self._client.routes.of(topic)
        key = (topic.resource_namespace, topic.name)
        if key not in self._introduced:
            async with self._introducing:
                if key not in self._introduced:
                    await self._introduce(key, topic, route)
        return route

    async def _introduce(self, key: tuple[str, str], topic: Any, route: Route) -> None:
        if len(self._introduced) >= TOPICS_MAX:
            del self._introduced[next(iter(self._introduced))]
        self._next = topic
        try:
            await self._client.meet(route)
            await self._client.say_settings()
        finally:
            self._next = None
        self._introduced[key] = topic

    def _choose(self, route: Route, group: str) -> Queue:
        """Return a queue: of a message group always the same one, else one after the other."""
        if group:
            return route.to_write(crc32(group.encode()))
        self._turn += 1
        return route.to_write(self._turn)

    # -- recall, transactions

    async def recall(self, sent: SendResult) -> None:
        """See the base."""
        handle = sent.handle
        if not isinstance(handle, Handle) or not handle.recall:
            raise OMSDestinationError(f"message {sent.message_id} was not sent with a delay")
        request = CLASSES["RecallMessageRequest"](topic=handle.topic, recall_handle=handle.recall)
        await self._client.call(handle.endpoint, "RecallMessage", request)

    async def prepare(self, message: Message) -> SendResult:
        """See the base."""
        made = self._made(message, half=True)
        if self._check_delay_ms:
            put_ms(made.system_properties.orphaned_transaction_recovery_duration, self._check_delay_ms)
        prepared = await self._put(made)
        handle = prepared.handle._replace(transaction=prepared.transaction_id or "")
        # the one that the consumer sees, too
        return replace(prepared, transaction_id=made.user_properties[TRANSACTION], handle=handle)

    async def end(self, prepared: SendResult, status: TransactionStatus) -> None:
        """See the base."""
        handle = prepared.handle
        assert isinstance(handle, Handle), "what was prepared has a handle"
        await self._end(handle, prepared.message_id, status)

    async def _end(
        self,
        handle: Handle,
        message_id: str,
        status: TransactionStatus,
        source: TransactionSource = TransactionSource.SOURCE_CLIENT,
    ) -> None:
        request = CLASSES["EndTransactionRequest"](
            topic=handle.topic,
            message_id=message_id,
            transaction_id=handle.transaction,
            resolution=_RESOLUTIONS[status],
            source=source,
            trace_context=handle.trace,
        )
        await self._client.call(handle.endpoint, "EndTransaction", request)

    def asked(self, wire: Wire, command: Any) -> None:
        """A server asks what has become of a transaction."""
        if self._check is not None:
            task = asyncio.create_task(self._answer(self._check, wire, command))
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    async def _answer(self, ask: Check, wire: Wire, command: Any) -> None:
        found = command.message
        try:
            message = from_wire(found, self._topics.queue_of(found.topic))
            extension = message.extension_header
            extension.transaction_id = extension.transaction_id or command.transaction_id
            status = await ask(message)
            if status is not TransactionStatus.UNKNOWN:  # else it asks again
                trace = found.system_properties.trace_context
                handle = Handle(found.topic, wire.endpoint, "", trace, command.transaction_id)
                source = TransactionSource.SOURCE_SERVER_CHECK
                await self._end(handle, message.header.message_id, status, source)
        except OMSError as error:
            _log.warning("the question about transaction %s: %s", command.transaction_id, error.reason)

    async def close(self) -> None:
        """See the base. What was handed over is sent, if the server still answers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._client.timeout):
                await asyncio.gather(*(lane.finish() for lane in self._lanes.values()))
        for task in list(self._checks):
            task.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        lanes, self._lanes = list(self._lanes.values()), {}
        await asyncio.gather(*(lane.close() for lane in lanes))
        await self._client.close()


def _results(reply: Any, made: Sequence[Any], queue: Queue) -> list[SendResult | OMSError]:
    """Return what became of each message. RocketMQ's own proxy has one entry for a request of many."""
    entries = list(reply.entries)
    if len(entries) != len(made):
        entries = [CLASSES["SendResultEntry"](status=reply.status) for _ in made]
    results: list[SendResult | OMSError] = []
    for entry, one in zip(entries, made, strict=True):
        if entry.status.code != Code.OK:
            results.append(of_status(entry.status, f"sending to {one.topic.name}"))
            continue
        handle = Handle(one.topic, queue.endpoint, entry.recall_handle, one.system_properties.trace_context)
        results.append(
            SendResult(
                entry.message_id or one.system_properties.message_id,
                entry.transaction_id or None,
                queue.message.id,
                entry.offset,
                handle,
            )
        )
    return results


def _look_away(sent: asyncio.Future[SendResult]) -> None:
    if not sent.cancelled():
        sent.exception()
