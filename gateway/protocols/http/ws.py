"""`/v1/ws`: publish, subscribe, consume and settle over one WebSocket, in JSON.

One JSON object a message, both ways. A request has an `op` and may have an `id`, which its
answer repeats. Requests are handled in order by plain calls; an answer that must wait for
the disk comes when it is due and holds up nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ...api import NO_SUBSCRIBERS, Consumer, Delivery, GatewayError, NotFound, Session
from ...core.deadletter import REASON_MAX
from ...core.message import Outcome
from ...core.policy import QueuePolicy
from ...core.receiver import Item
from .answers import Receive, Scope, Send
from .context import Context, cutter, not_stored
from .convert import JsonMessage, to_mapping, to_message
from .limits import (
    CLOSE_SECONDS_MAX,
    DELAY_SECONDS_MAX,
    WS_CONSUMERS_MAX,
    WS_OWN_QUEUE_BYTES_MAX,
    WS_OWN_QUEUE_MESSAGES_MAX,
    WS_PENDING_BYTES_MAX,
    WS_PUBLISHES_WAITING_MAX,
    WS_SUBSCRIPTIONS_MAX,
    WS_WINDOW_DEFAULT,
    WS_WINDOW_MAX,
)
from .problems import Problem, Refused, problem_of
from .publish import may_repeat, publish_once, schedule_of

GOING_AWAY, UNSUPPORTED, POLICY_VIOLATION = 1001, 1003, 1008  # close codes (RFC 6455, 7.4.1)
OUTCOMES = {"retry": Outcome.RETRY, "requeue": Outcome.REQUEUE, "reject": Outcome.REJECT}

_encode = msgspec.json.Encoder().encode


class Request(JsonMessage, forbid_unknown_fields=True):
    """Any request; which fields it may have depends on `op`, and those of others are ignored."""

    op: str = ""
    id: str | int | None = None
    filter: str | None = None
    retained: bool = True
    queue: str | None = None
    group: str = ""
    selector: str | None = None
    selector_language: str | None = None
    window: int = WS_WINDOW_DEFAULT
    delivery: int | None = None
    outcome: Literal["retry", "requeue", "reject"] = "requeue"
    reason: str = ""


_decoder = msgspec.json.Decoder(Request)


class Socket:
    """One WebSocket client."""

    def __init__(self, context: Context, session: Session) -> None:
        self._context = context
        self._session = session
        self._receiver = session.receive(self._on_messages, context.limits.receiver_messages_max)
        self._storing = 0  # publishes that wait for the disk
        self._waiting_for_room: list[Consumer] = []
        self._own: Consumer | None = None  # of the session's own queue, once there is a QoS 1 subscription
        self._consumers: dict[tuple[str, str], Consumer] = {}  # by queue and group
        self._held: dict[int, Delivery] = {}
        self._last = 0  # number of the latest delivery
        self._out: list[bytes] = []
        self._pending = 0  # bytes of it
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended = asyncio.Event()
        self._code = 1000
        session.owner = self

    def end(self, error: GatewayError) -> None:
        """What the client may do has changed, or its login has ended."""
        self._problem(None, problem_of(error))
        self._code = POLICY_VIOLATION
        self.finish()

    # -- out ----------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._pending += len(data)
        if self._pending > WS_PENDING_BYTES_MAX:
            self._room.clear()
        self._wake.set()

    def _make_room(self) -> None:
        if self._pending <= WS_PENDING_BYTES_MAX and self._storing < WS_PUBLISHES_WAITING_MAX:
            self._room.set()

    def _answer(self, request: Request | None, op: str, **fields: Any) -> None:
        found: dict[str, Any] = {"op": op}
        if request is not None and request.id is not None:
            found["id"] = request.id
        found.update(fields)
        self._write(_encode(found))

    def _problem(self, request: Request | None, problem: Problem) -> None:
        self._answer(request, "error", problem=problem.to_mapping())

    def _on_messages(self, batch: list[Item]) -> None:
        encoder = self._context.encoder
        for message, binding in batch:
            self._write(b'{"op":"message",' + encoder.encode(message, binding.retained)[1:])
        self._receiver.congested = True  # until these are sent: what comes meanwhile stays in the inbox

    def _on_deliveries(self, queue: str, group: str, batch: list[Delivery]) -> None:
        self._hold_back(batch)
        for delivery in batch:
            self._last += 1
            self._held[self._last] = delivery
            found: dict[str, Any] = {"op": "delivery", "delivery": self._last, "queue": queue}
            if group:
                found["group"] = group
                found["offset"] = delivery.offset
            found["attempt"] = delivery.attempt
            found.update(to_mapping(delivery.message, False))
            self._write(_encode(found))

    def _on_own(self, batch: list[Delivery]) -> None:
        self._hold_back(batch)
        for delivery in batch:
            self._last += 1
            self._held[self._last] = delivery
            retained = delivery.binding is not None and delivery.binding.retained
            found: dict[str, Any] = {"op": "message", "delivery": self._last, "attempt": delivery.attempt}
            found.update(to_mapping(delivery.message, retained))
            self._write(_encode(found))

    def _hold_back(self, batch: list[Delivery]) -> None:
        """Take no more for this consumer until the batch is sent."""
        consumer = batch[0].consumer
        assert consumer is not None
        consumer.congested = True
        self._waiting_for_room.append(consumer)

    def _relieve(self) -> None:
        """What was queued is sent: let more come."""
        broker = self._context.gateway.broker
        self._context.gateway.begin_turn()
        if self._receiver.congested:
            broker.relieve(self._receiver)
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for consumer in waiting:
            broker.queues.resume(consumer)

    async def _send_all(self, send: Send) -> None:
        try:
            while not self._ended.is_set() or self._out:
                await self._wake.wait()
                self._wake.clear()
                out, self._out = self._out, []
                for data in out:
                    await send({"type": "websocket.send", "text": data.decode()})
                    self._pending -= len(data)
                self._make_room()
                if out and not self._ended.is_set():
                    self._relieve()
            await send({"type": "websocket.close", "code": self._code})
        except OSError:
            self.finish()

    # -- in -----------------------------------------------------------------------------------

    async def _read_all(self, receive: Receive) -> None:
        try:
            while not self._ended.is_set():
                await self._room.wait()
                event = await receive()
                if event["type"] != "websocket.receive":
                    break
                text: str | None = event.get("text")
                if text is None:
                    self._code = UNSUPPORTED
                    break
                self._take(text)
        finally:
            self.finish()

    def _take(self, text: str) -> None:
        self._context.gateway.begin_turn()
        request: Request | None = None
        try:
            request = _decoder.decode(text)
            handle = OPERATIONS.get(request.op)
            if handle is None:
                known = ", ".join(OPERATIONS)
                raise Refused("malformed", f"op is {request.op[:40]!r}; known: {known}")
            handle(self, request)
        except GatewayError as error:
            self._problem(request, problem_of(error))
        except (msgspec.MsgspecError, RecursionError) as error:
            self._problem(request, Problem("malformed", f"{error}; one JSON object a message is expected"))

    def _ping(self, request: Request) -> None:
        self._answer(request, "pong")

    def _subscribe(self, request: Request) -> None:
        topic_filter = _required(request.filter, "filter")
        session = self._session
        if len(session.subscriptions) >= WS_SUBSCRIPTIONS_MAX:
            raise Refused("quota-exceeded", f"a WebSocket has at most {WS_SUBSCRIPTIONS_MAX} subscriptions")
        _check_qos(request.qos)
        if request.qos and self._own is None:
            policy = QueuePolicy(max_length=WS_OWN_QUEUE_MESSAGES_MAX, max_bytes=WS_OWN_QUEUE_BYTES_MAX)
            session.own_queue(f"http-{secrets.token_hex(8)}", False, policy)
            self._own = session.consume_own(self._on_own, min(max(request.window, 1), WS_WINDOW_MAX))
        selector = self._context.selector(request.selector, request.selector_language)
        binding, replaced = session.subscribe(topic_filter, min(request.qos, 1), selector=selector)
        self._answer(request, "subscribed", filter=topic_filter, qos=min(request.qos, 1), replaced=replaced)
        if request.retained:
            session.send_retained(session.retained(topic_filter), binding)

    def _unsubscribe(self, request: Request) -> None:
        topic_filter = _required(request.filter, "filter")
        if not self._session.unsubscribe(topic_filter):
            raise NotFound(f"there is no subscription {topic_filter!r} on this WebSocket")
        self._answer(request, "unsubscribed", filter=topic_filter)

    def _publish(self, request: Request) -> None:
        topic = _required(request.topic, "topic")
        context, session = self._context, self._session
        message_id = request.message_id if request.message_id is not None else context.new_id()
        message = to_message(request, topic, message_id, session.origin, context.gateway.clock)
        duplicate = False
        if may_repeat(session, message):
            position, message_id, duplicate, taken = publish_once(session, message, message_id)
        else:
            position = session.publish(message)
            taken = position != NO_SUBSCRIBERS
        schedule = schedule_of(session, message, position)
        waits = {} if schedule is None else {"schedule": schedule}

        def stored(success: bool) -> None:
            self._storing -= 1
            self._make_room()
            if self._ended.is_set():
                return
            if success:
                self._answer(
                    request,
                    "published",
                    message_id=message_id,
                    topic=topic,
                    duplicate=duplicate,
                    subscribers=taken,
                    **waits,
                )
                return
            self._problem(request, problem_of(not_stored()))

        self._storing += 1
        if self._storing >= WS_PUBLISHES_WAITING_MAX:
            self._room.clear()
        if position > 0:
            context.gateway.when_durable(position, stored)
        else:
            stored(True)

    def _consume(self, request: Request) -> None:
        name, group = _required(request.queue, "queue"), request.group
        if not 0 < request.window <= WS_WINDOW_MAX:
            raise Refused(
                "invalid-parameter", f"window is {request.window}; 1 to {WS_WINDOW_MAX} is expected"
            )
        if (name, group) in self._consumers:
            raise Refused("conflict", f"this WebSocket consumes {name!r} already; cancel that first")
        if len(self._consumers) >= WS_CONSUMERS_MAX:
            raise Refused("quota-exceeded", f"a WebSocket consumes at most {WS_CONSUMERS_MAX} queues")

        def deliver(batch: list[Delivery]) -> None:
            self._on_deliveries(name, group, batch)

        selector = self._context.selector(request.selector, request.selector_language)
        self._consumers[name, group] = self._session.consume(
            name, deliver, request.window, group, 0, selector
        )
        self._answer(request, "consuming", queue=name, window=request.window)

    def _cancel(self, request: Request) -> None:
        name = _required(request.queue, "queue")
        consumer = self._consumers.pop((name, request.group), None)
        if consumer is None:
            raise NotFound(f"this WebSocket does not consume {name!r}")
        self._held = {number: held for number, held in self._held.items() if held.consumer is not consumer}
        self._session.cancel(consumer)
        self._answer(request, "cancelled", queue=name)

    def _ack(self, request: Request) -> None:
        self._settle(request, Outcome.ACK)

    def _nack(self, request: Request) -> None:
        delay = request.delay
        if delay is not None and not 0 <= delay <= DELAY_SECONDS_MAX:
            raise Refused(
                "invalid-parameter", f"delay is {delay}; 0 to {DELAY_SECONDS_MAX:.0f} s is expected"
            )
        if len(request.reason) > REASON_MAX:
            raise Refused("invalid-parameter", f"reason: at most {REASON_MAX} characters are possible")
        self._settle(request, OUTCOMES[request.outcome], None if delay is None else int(delay * 1000))

    def _extend(self, request: Request) -> None:
        if request.delivery is None:
            raise Refused("malformed", "delivery is missing: the number that the delivery came with")
        delivery = self._held.get(request.delivery)
        overdue = self._context.gateway.broker.settlement.overdue
        if delivery is None or not overdue.extend(delivery):
            raise NotFound(f"delivery {request.delivery}: not here, settled already, or taken back")
        self._answer(request, "extended", delivery=request.delivery)

    def _settle(self, request: Request, outcome: Outcome, delay_ms: int | None = None) -> None:
        if request.delivery is None:
            raise Refused("malformed", "delivery is missing: the number that the delivery came with")
        delivery = self._held.pop(request.delivery, None)
        if delivery is None or not self._session.settle(delivery, outcome, delay_ms, request.reason):
            raise NotFound(f"delivery {request.delivery}: not here, settled already, or its queue is gone")
        self._answer(request, "settled", delivery=request.delivery)

    # -- life ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """Send what is queued, then close."""
        self._ended.set()
        self._wake.set()

    def stop(self) -> None:
        """The gateway stops."""
        self._code = GOING_AWAY
        self.finish()

    async def run(self, receive: Receive, send: Send, cut: Callable[[], None]) -> None:
        """Serve the client until either side ends."""
        sender = asyncio.create_task(self._send_all(send))
        reader = asyncio.create_task(self._read_all(receive))
        try:
            await self._ended.wait()
            await asyncio.wait_for(sender, CLOSE_SECONDS_MAX)
        except TimeoutError:
            cut()
        finally:
            self._ended.set()
            reader.cancel()
            sender.cancel()
            self._context.gateway.begin_turn()
            self._session.close()


def _required(value: str | None, name: str) -> str:
    if value is None:
        raise Refused("malformed", f"{name} is missing")
    return value


def _check_qos(qos: int) -> None:
    if qos not in (0, 1, 2):
        raise Refused("invalid-parameter", f"qos is {qos}; 0, 1 or 2 is expected")


OPERATIONS: dict[str, Callable[[Socket, Request], None]] = {
    "ping": Socket._ping,
    "subscribe": Socket._subscribe,
    "unsubscribe": Socket._unsubscribe,
    "publish": Socket._publish,
    "consume": Socket._consume,
    "cancel": Socket._cancel,
    "ack": Socket._ack,
    "nack": Socket._nack,
    "extend": Socket._extend,
}


async def serve_socket(context: Context, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one client. Raise AuthenticationFailed before the handshake is answered."""
    session = await context.sessions.own(scope)
    await receive()  # websocket.connect
    try:
        await send({"type": "websocket.accept"})
    except OSError:
        session.close()
        return
    socket = Socket(context, session)
    context.lasting.add(socket)
    try:
        await socket.run(receive, send, cutter(scope))
    finally:
        context.lasting.discard(socket)
