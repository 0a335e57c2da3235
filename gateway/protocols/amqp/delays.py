"""Exchanges of type `x-delayed-message`: what is published there with `x-delay` waits for its time.

It waits in a durable queue without consumers, found again after a restart; when it is due it goes
through its exchange as if it were published then. In memory each has its time and position.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.errors import NotFound, QueueFull
from gateway.core.message import Message, Properties
from gateway.core.metrics import DropCause
from gateway.core.router import Route
from gateway.core.scheduler import Timer
from gateway.core.settlement import SETTLED_BY_DROP
from gateway.core.transaction import move

from . import names
from .letters import read_address
from .properties import decode_list, encode_list
from .tables import decode_table, encode_table
from .translate import NATIVE, address_end, to_properties

if TYPE_CHECKING:
    from .vhosts import Vhosts

QUEUE: Final = "$delayed/amqp"
DELAY: Final = "x-delay"
RESTORED_TOGETHER: Final = 1000  # messages that a start reads at once
RELEASED_TOGETHER: Final = 1000  # in one turn: others have theirs


class Delays:
    """All of them, of all virtual hosts."""

    def __init__(self, broker: Broker, vhosts: Vhosts) -> None:
        self._broker = broker
        self._vhosts = vhosts
        self._due: list[tuple[int, int]] = []  # a heap: time (ms, the gateway's own), position
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._due)

    def restore(self) -> None:
        """Take over what waited before the restart."""
        found = self._broker.catalog.queues.get(QUEUE)
        if found is None:
            return
        position = 0
        while entries := self._broker.engine.after(found.queue_id, position, RESTORED_TOGETHER):
            for entry in entries:
                position = entry.position
                if entry.message is not None:
                    heappush(self._due, (entry.message.properties.deliver_at_ms or 0, position))
        self._arm()

    def hold(self, message: Message, delay_ms: int) -> int:
        """Keep a message for so long; return the position to wait for."""
        broker = self._broker
        due_ms = broker.clock.now_ms + delay_ms
        message.properties = _due_at(message.properties, due_ms)
        if message.expires_at_ms:
            message.expires_at_ms += delay_ms
        queue, _ = broker.catalog.declare(QUEUE)
        position = broker.enqueue(queue, message, None)
        heappush(self._due, (due_ms, position))
        self._arm()
        return position

    def _arm(self) -> None:
        scheduler = self._broker.scheduler
        scheduler.cancel(self._timer)
        self._timer = None
        if self._due:
            delay_ms = self._due[0][0] - self._broker.clock.now_ms
            self._timer = scheduler.after(max(0, delay_ms), self._release_due)

    def _release_due(self) -> None:
        self._timer = None
        now_ms = self._broker.clock.now_ms
        count = 0
        while self._due and self._due[0][0] <= now_ms and count < RELEASED_TOGETHER:
            self._release(*heappop(self._due))
            count += 1
        self._arm()
        self._broker.ready.wake()

    def _release(self, due_ms: int, position: int) -> None:
        """Publish one message in place of the one that waits."""
        broker = self._broker
        queue = broker.catalog.queues.get(QUEUE)
        try:
            message = broker.engine.read(position)
        except NotFound:
            return  # purged, or its turn was never stored
        if not isinstance(queue, ClassicQueue) or not queue.withdraw(len(message.body)):
            return
        broker.metrics.copies -= 1  # publishing counts it anew
        released, route = self._through_exchange(message)
        try:
            move(broker, released, route, queue.queue_id, position)
        except QueueFull:
            broker.metrics.copies += 1
            broker.metrics.drop(DropCause.QUEUE_FULL)
            outcome = SETTLED_BY_DROP + DropCause.QUEUE_FULL
            broker.engine.settle(queue.queue_id, (position,), outcome, broker.clock.now_ms)

        def written(stored: bool) -> None:
            if not stored:  # it waits in the log as before, and in the queue again
                heappush(self._due, (due_ms, position))
                self._arm()

        broker.engine.when_durable(broker.engine.position(), written)

    def _through_exchange(self, message: Message) -> tuple[Message, Route]:
        """Return a message as it is delivered, and its way; to nobody if its exchange was deleted."""
        native = message.properties.native or b"\0\0\0\0"
        end = address_end(native)
        exchange_name, key = read_address(native[:end])
        name = names.vhost_of(message.topic)
        released = Message(
            message.topic,
            message.body,
            message.qos,
            False,
            _released(name, native, end),
            message.origin,
            message.timestamp_ms,
            message.expires_at_ms,
        )
        vhost = self._vhosts.get(name)
        exchange = vhost.exchanges.get(exchange_name) if vhost is not None else None
        if vhost is None or exchange is None:
            return released, self._broker.router.through(message.topic, ("nobody",), ())
        return released, vhost.route(exchange, message.topic, [key], released)


def _due_at(made: Properties, due_ms: int) -> Properties:
    """Return a copy that says when it is due: the original belongs to all messages of its kind."""
    copy = made.with_headers(())
    copy.native, copy.native_format = made.native, NATIVE
    copy.deliver_at_ms = due_ms
    return copy


def _released(vhost: str, native: bytes, end: int) -> Properties:
    """Return the properties as they are delivered: with the delay negated, as RabbitMQ's plugin does."""
    basic = decode_list(native, end)
    if basic.headers is not None:
        table = decode_table(basic.headers)[0]
        if isinstance(table.get(DELAY), int):
            table[DELAY] = -table[DELAY]
        basic.headers = encode_table(table)
    return to_properties(vhost, native[:end], encode_list(basic), basic)
