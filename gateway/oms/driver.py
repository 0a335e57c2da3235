"""What a driver implements: the whole of the interface between the API and a transport.

The API classes (`Producer`, `PushConsumer`, ...) do what is the same everywhere: lifecycles, checks of
messages, interceptors, dispatch to listeners, retries by raising, receipts, the order of a key, what is
unsupported. A driver moves messages. It is a `Driver` under a name in the entry-point group
`gateway.oms.drivers`, with the classes below behind its `open_*` methods; an access point has one.

Rules for all of it:

- Everything is called on one event loop, the one `Driver.start` was called on. What is `async` may be awaited
  by several tasks at a time; what is not must return at once.
- Every `async` method may be cancelled, and must then leave nothing half done that the application paid for.
- Times are seconds (`float`), except fields of messages and attributes, which are milliseconds.
- Failures are `OMSError`s and nothing else, with the code that fits: what the transport raises is translated
  in the driver, in one table. A server that is not there is `SERVICE_UNAVAILABLE`; a request without an
  answer within `ClientOptions.operation_timeout` is an `OMSTimeoutError`, raised by the driver.
- Names of queues are the application's: `ns://queue`, or `queue` in the namespace of the access point.
  `split_queue` takes them apart. What a message's `header.destination` says on receipt is the name by which
  the consumer had bound the queue.
- `fields` has what is the same in every mapping of headers: priorities, times of delivery and expiry.
- What a driver lacks is in `unsupported`, by `Feature` with a reason in one sentence; the API raises
  OMSUnsupportedError before it calls the driver. What turns out only when it is tried (an older server), the
  driver raises itself. Nothing unsupported is ever ignored.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from .errors import OMSUnsupportedError
from .key_value import KeyValue, Value
from .message import Message, MessageReceipt
from .uri import AccessPointURI
from .version import SPEC_VERSION

ENTRY_POINTS = "gateway.oms.drivers"


class Feature(Enum):
    """What a driver may lack. What is not here every driver has: send, receive, acknowledge."""

    TRANSACTIONS = "transactions"
    CHECK_BACK = "check-back"  # the server asks about transactions that were left open
    DELAY = "delays"
    RECALL = "recall"
    EXPIRY = "expiry"
    PRIORITY = "priorities"
    ORDER = "message keys"
    TAG_SELECTORS = "selectors by tag"
    SQL_SELECTORS = "selectors by SQL"
    RETRY_LATER = "nack with a delay"
    EXTEND = "extending receipts"
    BROADCAST = "broadcasting consumers"
    STREAMS = "streaming consumers"
    NAMESPACES = "namespaces"
    QUEUES = "creating queues"
    LIST_QUEUES = "listing queues"
    QUEUE_ATTRIBUTES = "queue attributes"
    FILTERS = "filters of queues"
    ROUTINGS = "routings"
    UPDATE_MESSAGE = "updating messages"


class SelectorType(Enum):
    """The languages of selectors."""

    SQL = "SQL92"
    TAG = "TAG"


@dataclass(frozen=True, slots=True)
class MessageSelector:
    """What a consumer wants of a queue: a selector by SQL92, or by tags (`a || b`, `*`)."""

    expression: str
    type: SelectorType = SelectorType.SQL

    @classmethod
    def by_sql(cls, expression: str) -> MessageSelector:
        """Select by SQL92, over properties and tag."""
        return cls(expression, SelectorType.SQL)

    @classmethod
    def by_tag(cls, expression: str) -> MessageSelector:
        """Select by tag: one, or several with `||`."""
        return cls(expression, SelectorType.TAG)


class TransactionStatus(Enum):
    """What a producer says of a transaction it is asked about."""

    COMMIT = "commit"
    ROLLBACK = "rollback"
    UNKNOWN = "unknown"


#: Asks the application about a transaction that was left open; never raises. The message has its
#: `message_id` and its `transaction_id`.
Check = Callable[[Message], Awaitable[TransactionStatus]]


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What a client of an access point is made with."""

    client_id: str  # PRODUCER_ID, or one made up: unique in this access point
    group: str  # of a consumer: CONSUMER_ID or `oms.default`; of a broadcasting one, one of its own. Else ""
    broadcast: bool  # the group is of this client alone, begins now and goes with it
    operation_timeout: float  # seconds
    invisible: float  # seconds until what a consumer does not acknowledge comes again
    push: bool  # what it received stays its until it is settled: the driver renews what runs out
    attributes: KeyValue  # the access point's and the client's own together, names in upper case


@dataclass(slots=True)  # not frozen: that costs a microsecond each
class SendResult:
    """What became of a message that was sent. `handle` is the driver's, for `recall`."""

    message_id: str
    transaction_id: str | None = None
    partition: int | None = None
    offset: int | None = None
    handle: Any = None


class Sender(ABC):
    """A producer's way out."""

    @abstractmethod
    def send(self, message: Message) -> asyncio.Future[SendResult]:
        """Send one message that was checked; return at once.

        The future is done when the provider has stored the message (with qos AT_MOST_ONCE: when it is handed
        over). Its exception is an OMSError. Cancelling it changes nothing. The message must not be looked at
        after the return: a driver whose sending goes on later takes what it needs now, or copies. May raise
        OMSError instead of failing the future. A coroutine is sent by `asyncio.ensure_future`.
        """

    async def send_batch(self, messages: Sequence[Message]) -> list[SendResult]:
        """Send messages together; return their results in order.

        Raise OMSBatchError if only some were sent; another OMSError if none was. The default sends one by
        one.
        """
        sent = [_caught(self.send, message) for message in messages]
        results = await asyncio.gather(*sent, return_exceptions=True)
        return batch_results(results)

    async def send_oneway(self, messages: Sequence[Message]) -> None:
        """Hand messages over and return, without waiting for an answer.

        Returning later than at once is how a driver that cannot keep up holds the producer back. What fails
        is lost, as the caller has asked for.
        """
        for message in messages:
            _caught(self.send, message).add_done_callback(_look_away)

    async def prepare(self, message: Message) -> SendResult:
        """Store a half message that nobody sees; the result has its `transaction_id`.

        Only called of a sender that was opened with a `check`.
        """
        raise NotImplementedError

    async def end(self, prepared: SendResult, status: TransactionStatus) -> None:
        """Commit or roll back what `prepare` returned. Raise OMSTransactionError if it has ended otherwise.

        The same end twice is fine where the provider remembers.
        """
        raise NotImplementedError

    async def recall(self, sent: SendResult) -> None:
        """Take a delayed message back.

        Raise OMSError with DESTINATION_NOT_FOUND if it is not waiting any more.
        """
        raise NotImplementedError

    async def close(self) -> None:  # noqa: B027 - nothing to do is fine
        """Give up what it holds; what was sent and not answered may fail."""


class Receiver(ABC):
    """A consumer's way in, for pull and push consumers alike."""

    @abstractmethod
    async def bind(self, queue: str, selector: MessageSelector | None) -> None:
        """Have `receive` take from a queue, too: for the group of the options. Another selector replaces one.

        Raise OMSDestinationError if there is no such queue and the provider does not make it.
        """

    @abstractmethod
    async def unbind(self, queue: str) -> None:
        """Take from it no more. What was received may still be settled."""

    @abstractmethod
    async def receive(self, messages_max: int, timeout: float) -> list[Message]:
        """Return at least one message and at most so many as soon as there are any; [] after `timeout`.

        0 is: only what is there. Cancelled, it must have what it took given back, or keep it for the next
        call. Messages have a `receipt` with their queue, `delivery_count` (1: for the first time), and data
        decompressed. A push consumer calls it in one task, a pull consumer's users in any number.
        """

    @abstractmethod
    async def acknowledge(self, receipts: Sequence[MessageReceipt]) -> None:
        """Settle deliveries for good, and return when that is so.

        Raise OMSError with BAD_PARAMETER if a receipt was settled before or has run out; the others are
        settled all the same.
        """

    @abstractmethod
    async def nack(self, receipt: MessageReceipt, delay: float | None) -> None:
        """Give a delivery back as failed: an attempt more. It comes again after `delay`, None: when the queue
        says. Raise as `acknowledge`.
        """

    async def extend(self, receipt: MessageReceipt, seconds: float) -> MessageReceipt:
        """Keep a delivery for so many seconds from now; return what settles it from now on.

        Raise the same.
        """
        raise NotImplementedError

    async def failed(self, message: Message, delay: float | None) -> float | None:
        """A listener raised. Give the message back and return None; or return the seconds after which this
        consumer is to try again itself, `delivery_count` one more, while what has the same key waits.

        `delay` is RETRY_DELAY, None: when the queue says. The default gives it back.
        """
        assert message.receipt is not None
        await self.nack(message.receipt, delay)
        return None

    async def close(self) -> None:  # noqa: B027 - nothing to do is fine
        """Stop receiving; what was handed out and is not settled goes back when the provider finds out."""


class StreamReader(ABC):
    """Positioned reading. A stream is a partition of a queue; a position is an offset in it."""

    @abstractmethod
    async def bounds(self, queue: str, partition: int) -> tuple[int, int]:
        """Return (the first position that there is, the one that the next message will have)."""

    @abstractmethod
    async def read(self, queue: str, partition: int, position: int, messages_max: int) -> list[Message]:
        """Return messages from a position on, in order, `offset` set: the first is at it or behind it.

        Only what is there: [] at the end. Positions may be missing (expired, compacted). None has a receipt.
        """

    async def wait(self, queue: str, partition: int, position: int, timeout: float) -> None:
        """Return when there may be something at a position, or after `timeout`."""
        await asyncio.sleep(min(timeout, 0.05))

    async def position_of(self, queue: str, partition: int, timestamp_ms: int) -> int:
        """Return the position of the first message stored at a time or later."""
        raise NotImplementedError

    async def close(self) -> None:  # noqa: B027 - nothing to do is fine
        """Give up what it holds."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Copies what comes into one queue to another, if the expression (SQL92; "" is all) matches."""

    source: str
    destination: str
    expression: str = ""


class Resources:
    """The resource manager's way: only what `Driver.unsupported` does not name need be there.

    Raise OMSDestinationError: DESTINATION_NOT_FOUND, NAMESPACE_NOT_FOUND, DESTINATION_EXISTS,
    NAMESPACE_EXISTS. `namespace` is "" for the one without a name.
    """

    async def create_namespace(self, namespace: str) -> None:
        """Make a namespace."""
        raise NotImplementedError

    async def delete_namespace(self, namespace: str) -> None:
        """Delete a namespace with all its queues and routings."""
        raise NotImplementedError

    async def list_namespaces(self) -> list[str]:
        """Return all namespaces that have a name, in order."""
        raise NotImplementedError

    async def create_queue(self, queue: str, attributes: Mapping[str, Value]) -> None:
        """Make a queue: from now on it keeps messages for group `oms.default`."""
        raise NotImplementedError

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue with what it holds for all groups."""
        raise NotImplementedError

    async def list_queues(self, namespace: str) -> list[str]:
        """Return the queues of a namespace, without it, in order."""
        raise NotImplementedError

    async def queue_attributes(self, queue: str) -> dict[str, Value]:
        """Return what is set of a queue."""
        raise NotImplementedError

    async def set_queue_attributes(self, queue: str, attributes: Mapping[str, Value]) -> None:
        """Change what is set of a queue; what is not named stays."""
        raise NotImplementedError

    async def filter(self, queue: str, expression: str) -> None:
        """Have a queue take only what an SQL expression matches; "" is everything."""
        raise NotImplementedError

    async def create_routing(self, routing: Routing) -> None:
        """Have a routing, in place of one with the same source and destination."""
        raise NotImplementedError

    async def delete_routing(self, source: str, destination: str) -> None:
        """Have it no more. Raise OMSDestinationError if there is none."""
        raise NotImplementedError

    async def list_routings(self) -> list[Routing]:
        """Return all of the access point's namespace."""
        raise NotImplementedError

    async def list_streams(self, queue: str) -> list[int]:
        """Return the partitions of a queue that can be streamed."""
        raise NotImplementedError

    async def update_message(self, queue: str, message_id: str, headers: Mapping[str, Value]) -> None:
        """Change headers of a message that waits."""
        raise NotImplementedError


@dataclass
class Driver(ABC):
    """One access point's connection. Made by `Driver(uri, attributes)`; making it does nothing.

    Raise OMSError with BAD_PARAMETER in `__post_init__` for attributes that cannot be.
    """

    uri: AccessPointURI
    attributes: KeyValue  # names in upper case; ACCESS_POINTS, REGION, NAMESPACE, ACCOUNT_ID as in the URL
    #: The OpenMessaging version that it implements: major and minor must be the API's.
    version: ClassVar[str] = SPEC_VERSION
    #: What it lacks, and why, in one sentence.
    unsupported: ClassVar[Mapping[Feature, str]] = {}
    #: Listens to the resource manager's `switch_namespace`.
    namespace: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.namespace = self.attributes.get_string("NAMESPACE") or ""

    async def start(self) -> None:  # noqa: B027 - nothing to do is fine
        """Called before the first client of the access point starts, and again after `stop`."""

    async def stop(self) -> None:  # noqa: B027 - nothing to do is fine
        """Called when its clients have stopped."""

    @abstractmethod
    async def open_sender(self, options: ClientOptions, check: Check | None) -> Sender:
        """Return a new sender; with `check` it has transactions, and asks it about those left open."""

    @abstractmethod
    async def open_receiver(self, options: ClientOptions) -> Receiver:
        """Return a new receiver, bound to nothing yet."""

    async def open_reader(self, options: ClientOptions) -> StreamReader:
        """Return a reader of streams."""
        raise NotImplementedError

    def resources(self) -> Resources:
        """Return the resources. Methods are called while the driver is started."""
        return Resources()

    def require(self, feature: Feature) -> None:
        """Raise OMSUnsupportedError if it lacks that."""
        why = self.unsupported.get(feature)
        if why is not None:
            raise OMSUnsupportedError(f"the driver {self.uri.driver!r} has no {feature.value}: {why}")

    def split_queue(self, queue: str) -> tuple[str, str]:
        """Return (namespace, queue): of `ns://queue` its own, of `queue` the access point's."""
        namespace, separator, name = queue.partition("://")
        return (namespace, name) if separator else (self.namespace, queue)


def batch_results(results: Sequence[SendResult | BaseException]) -> list[SendResult]:
    """Return the results of a batch's messages if all were sent, else raise as `Sender.send_batch` has to."""
    from .errors import OMSBatchError, OMSError

    sent = [result for result in results if isinstance(result, SendResult)]
    if len(sent) == len(results):
        return sent
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, OMSError):
            raise result
    failures = [result for result in results if isinstance(result, OMSError)]
    raise OMSBatchError(results) if sent else failures[0]


def _caught(
    send: Callable[[Message], asyncio.Future[SendResult]], message: Message
) -> asyncio.Future[SendResult]:
    try:
        return send(message)
    except Exception as error:
        failed: asyncio.Future[SendResult] = asyncio.get_running_loop().create_future()
        failed.set_exception(error)
        return failed


def _look_away(sent: asyncio.Future[SendResult]) -> None:
    if not sent.cancelled():
        sent.exception()
