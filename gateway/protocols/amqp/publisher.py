"""From basic.publish to messages, and the confirms they are owed.

What a client publishes again and again looks the same: an exchange, a key, a property list. Each
is understood once and found by its bytes afterwards. Confirms leave in order; one that waits for
the disk holds back those after it, and all that a read of the socket owes is one confirm.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from gateway.api import NO_SUBSCRIBERS
from gateway.core.errors import GatewayError, NotAuthorized, NotStored, QueueFull, QuotaExceeded
from gateway.core.message import Message, Properties
from gateway.core.router import Route

from . import names
from .delays import DELAY, DELAY_BYTES, delay_of
from .errors import AmqpFault, Reply, fault_of
from .exchanges import Exchange
from .frames import encode_confirm, encode_content
from .letters import read_address
from .methods import encode_method, make
from .properties import PERSISTENT, Basic, decode_list, encode_list
from .rights import check_copies
from .tables import Table, decode_table, encode_table
from .translate import EXPIRATION_MS_MAX, PARKED, to_properties

if TYPE_CHECKING:
    from .channel import Channel
    from .vhost import Vhost

TARGETS_MAX: Final = 20_000  # exchanges with a key; some 20 MB
KNOWN_MAX: Final = 64  # property lists of a target that repeat; where each is another, none does
OWED_MAX: Final = 65_536  # confirms that may wait for the disk: then the client outruns it, and is not read

DELIVER_AT: Final = PARKED["deliver_at_ms"]
DIRECT_REPLY: Final = "amq.rabbitmq.reply-to"
DIRECT_REPLY_BYTES: Final = DIRECT_REPLY.encode()

_MANDATORY: Final = 1
_IMMEDIATE: Final = 2


class Known:
    """A property list, understood."""

    __slots__ = ("copies", "direct_reply", "expiration_ms", "properties", "qos", "user_id")

    def __init__(self, properties: Properties, basic: Basic) -> None:
        self.properties = properties
        self.qos = 1 if basic.delivery_mode == PERSISTENT else 0
        self.expiration_ms = -1 if basic.expiration is None else _expiration(basic.expiration)
        self.user_id = basic.user_id
        self.copies: list[str] = []  # more routing keys: CC and BCC
        self.direct_reply = basic.reply_to == DIRECT_REPLY_BYTES


def _expiration(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 10 or int(raw) > EXPIRATION_MS_MAX:
        text = f"invalid expiration '{raw.decode('utf-8', 'replace')}': a whole number of milliseconds"
        raise AmqpFault(Reply.PRECONDITION_FAILED, text)
    return int(raw)


class Target:
    """An exchange and a key, understood."""

    __slots__ = (
        "address",
        "exchange",
        "key",
        "known",
        "mandatory",
        "route",
        "topic",
        "vhost",
    )

    def __init__(self, vhost: Vhost, arguments: bytes) -> None:
        self.vhost = vhost
        self.address = arguments[:-1]
        try:
            exchange, self.key = read_address(arguments[:-1])
        except IndexError:
            raise AmqpFault(Reply.SYNTAX_ERROR, "basic.publish ends before its fields") from None
        if len(shortstrs(exchange, self.key)) != len(self.address):
            raise AmqpFault(Reply.SYNTAX_ERROR, "basic.publish is longer than its fields, or no UTF-8")
        flags = arguments[-1]
        if flags & _IMMEDIATE:
            raise AmqpFault(Reply.NOT_IMPLEMENTED, "immediate=true")
        self.mandatory = flags & _MANDATORY != 0
        self.exchange: Exchange = vhost.exchange(exchange)
        if self.exchange.internal:
            text = f"cannot publish to internal exchange '{exchange}' in vhost '{vhost.name}'"
            raise AmqpFault(Reply.ACCESS_REFUSED, text)
        self.topic = names.to_topic(vhost.name, exchange, self.key)
        self.route: Route | None = None
        self.known: dict[bytes, Known] = {}

    def understand(self, raw: bytes) -> Known:
        """Return what a property list means here. Raise AmqpFault."""
        known = self.known.get(raw)
        if known is None:
            known = _understand(self.vhost.name, self.address, raw)
            if len(self.known) >= KNOWN_MAX:
                self.known.clear()
            self.known[raw] = known
        return known

    def find(self, message: Message, copies: list[str]) -> Route:
        """Return the way of a message, remembered if the next one's is the same."""
        vhost, exchange = self.vhost, self.exchange
        if not exchange.name and not copies:
            route = vhost.broker.router.route(self.topic)
        elif copies:
            return vhost.way(exchange, self.topic, [self.key, *copies], message)
        else:
            fixed = vhost.fixed_route(exchange, self.topic, [self.key])
            if fixed is None:
                return vhost.route(exchange, self.topic, [self.key], message)
            route = fixed
        self.route = route
        return route


def shortstrs(exchange: str, key: str) -> bytes:
    """Return what the address would be; of the same length only if it was read without loss."""
    return bytes(2) + exchange.encode() + key.encode()


def _understand(vhost: str, address: bytes, raw: bytes) -> Known:
    basic = decode_list(raw)
    table: Table | None = None
    if basic.headers is not None and (b"CC" in basic.headers or DELAY_BYTES in basic.headers):
        table = decode_table(basic.headers)[0]
    copies: list[str] = []
    delay_ms = 0
    if table is not None:
        copies = [*_copies(table, "CC"), *_copies(table, "BCC")]
        delay_ms = delay_of(table)
        if "BCC" in table and not delay_ms:  # nobody sees it; what waits needs it when it is due
            _check_copies_of_later(table)
            del table["BCC"]
            basic.headers = encode_table(table)
            raw = encode_list(basic)
    known = Known(to_properties(vhost, address, raw, basic), basic)
    known.copies = copies
    known.properties.delay_ms = delay_ms
    return known


def _check_copies_of_later(table: Table) -> None:
    if DELIVER_AT in table:
        text = f"headers 'BCC' and '{DELIVER_AT}' exclude each other; '{DELAY}' goes with both"
        raise AmqpFault(Reply.PRECONDITION_FAILED, text)


def _copies(table: Table, name: str) -> list[str]:
    value = table.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        text = f"invalid header '{name}': an array of routing keys is expected"
        raise AmqpFault(Reply.PRECONDITION_FAILED, text)
    return value


class Publisher:
    """A channel's publishing half."""

    __slots__ = (
        "_channel",
        "_connection",
        "_first",
        "_owed",
        "_paused",
        "_position",
        "_refused",
        "_waiting",
        "confirming",
        "sequence",
    )

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._connection = channel.connection
        self.confirming = False
        self.sequence = 0  # of the last publish, once confirming
        self._first = 0  # of this read
        self._position = 0  # the log position that this read's publishes wait for
        self._refused: list[int] = []  # of this read
        self._owed: deque[tuple[int, int, int, list[int]]] = deque()  # position, last number, count, refused
        self._waiting = 0
        self._paused = False

    def publish(self, arguments: bytes, raw: bytes, body: bytes) -> None:
        """Take one message. Raise AmqpFault for what ends the channel."""
        connection = self._connection
        target = connection.targets.get(arguments)
        if target is None:
            target = connection.understand(arguments)
        known = target.known.get(raw)
        if known is None:
            known = target.understand(raw)
        if known.direct_reply:
            known = target.understand(self._with_reply_queue(raw))
        clock = connection.clock
        message = Message(
            target.topic,
            body,
            known.qos,
            False,
            known.properties,
            connection.session.origin,
            clock.wall_ms,
            clock.now_ms + known.expiration_ms if known.expiration_ms >= 0 else 0,
        )
        if self.confirming:
            self.sequence += 1
        route = target.route
        if route is None or route.version != connection.router.version or known.copies:
            if known.copies:
                check_copies(connection.session, target.exchange, known.copies)
            route = target.find(message, known.copies)
        if known.user_id is not None:
            self._check_user(known.user_id)
        if self._channel.transaction is not None:
            self._channel.transaction.publish(target, message, known.copies, raw)
            return
        try:
            if known.properties.idempotency_key is not None:
                position = connection.session.publish_once(message, route).position
            else:
                position = connection.session.publish(message, route)
        except NotAuthorized as error:
            raise fault_of(error) from error
        except (QueueFull, NotStored, QuotaExceeded):
            self._refused.append(self.sequence)
            return
        except GatewayError as error:
            raise fault_of(error) from error
        if position > self._position:
            self._position = position
        elif position == NO_SUBSCRIBERS and target.mandatory:
            self.give_back(target, raw, body)

    def _with_reply_queue(self, raw: bytes) -> bytes:
        """Return a property list with the name that answers have to be sent to."""
        if not self._channel.reply_queue:
            raise AmqpFault(Reply.PRECONDITION_FAILED, "fast reply consumer does not exist")
        basic = decode_list(raw)
        basic.reply_to = self._channel.reply_queue.encode()
        return encode_list(basic)

    def _check_user(self, user_id: bytes) -> None:
        name = self._connection.session.principal.name
        wanted = user_id.decode("utf-8", "replace")
        if wanted != name:
            text = f"user_id property set to '{wanted}' but authenticated user was '{name}'"
            raise AmqpFault(Reply.PRECONDITION_FAILED, text)

    def give_back(self, target: Target, raw: bytes, body: bytes) -> None:
        """Return a message that nobody takes."""
        exchange = target.exchange.name
        method: Any = make(
            commands.Basic.Return, int(Reply.NO_ROUTE), Reply.NO_ROUTE.name, exchange, target.key
        )
        frame_max = self._connection.frame_max
        number = self._channel.number
        self._connection.send(encode_content(number, encode_method(method), raw, body, frame_max))

    # -- confirms -------------------------------------------------------------------------------

    def end_of_read(self) -> None:
        """Everything in this read is published: confirm it, or have that wait for the disk."""
        position, self._position = self._position, 0
        if not self.confirming or self.sequence == self._first:
            self._refused.clear()
            return
        refused, self._refused = self._refused, []
        count, self._first = self.sequence - self._first, self.sequence
        owed = self._owed
        if position <= 0 and not owed:
            self._confirm(self.sequence, count, refused, True)
            return
        if owed and position < owed[-1][0]:
            position = owed[-1][0]  # not before what came before
        owed.append((position, self.sequence, count, refused))
        self._waiting += count
        if self._waiting > OWED_MAX and not self._paused:
            self._paused = True
            self._connection.hold_back(True)
        self._connection.gateway.when_durable(position, self._released)

    def _released(self, stored: bool) -> None:
        """The oldest batch is on disk, or never will be."""
        if not self._owed:
            return  # the channel is closed
        _, last, count, refused = self._owed.popleft()
        self._waiting -= count
        if self._paused and self._waiting <= OWED_MAX // 2:
            self._paused = False
            self._connection.hold_back(False)
        self._confirm(last, count, refused, stored)

    def _confirm(self, last: int, count: int, refused: list[int], stored: bool) -> None:
        number, send = self._channel.number, self._connection.send
        if not stored:
            self._connection.amqp.blocking.failed()
        if stored:
            for sequence in refused:
                send(encode_confirm(number, sequence, False, False))
            if len(refused) == count:
                return
        send(encode_confirm(number, last, count > 1, stored))

    def close(self) -> None:
        """The channel is gone: nobody waits any more."""
        self._owed.clear()
        if self._paused:
            self._paused = False
            self._connection.hold_back(False)
