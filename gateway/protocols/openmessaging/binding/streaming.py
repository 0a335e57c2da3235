"""Positioned reading: messages of a queue's stream from a position on, which takes nothing from anybody.

The stream of a queue is the one of its topic's name, as for RocketMQ's offsets, made when it is first asked
for.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

import msgspec

from gateway.api import Action, Conflict, Delivery, HttpAnswer, NotFound, queue_resource
from gateway.core.policy import QueuePolicy
from gateway.core.replay import start_offset
from gateway.core.router import Binding
from gateway.core.stream import StreamQueue
from gateway.core.topic import QUEUE_PREFIX, check_topic
from gateway.http_oms import VERSION, VERSION_FIELD, Shown, to_json, topic_of

from .call import Call
from .pulling import BYTES_MAX, MAX, NDJSON, WAIT_MS_MAX

HOUR_MS: Final = 3_600_000
COUNT: Final = 32
FIRST, END, NEXT = "x-oms-firstPosition", "x-oms-endPosition", "x-oms-nextPosition"
READER: Final = "$oms-"  # begins the name of a group of one request, which nobody remembers


async def read(call: Call) -> HttpAnswer:
    """Answer with a line of JSON for each message, and where the stream begins, ends, and goes on."""
    stream = await _stream(call)
    most = call.number("x-oms-max", COUNT, 1, MAX)
    wait_ms = call.number("x-oms-waitMills", 0, 0, WAIT_MS_MAX)
    text = call.text("x-oms-position", "earliest")
    position = start_offset(stream, call.gateway.clock, text, "x-oms-position")
    if wait_ms and position >= stream.next_offset:
        await _wait(call, stream, position, wait_ms / 1000)
        call.gateway.begin_turn()
    lines: list[bytes] = []
    size, reached = 0, position
    now_ms, shown_ms = call.gateway.clock.now_ms, call.gateway.clock.shown
    for offset, message, _ in stream.browse(position, most):
        size += len(message.body)
        if lines and size > BYTES_MAX:
            break
        reached = offset + 1
        if not 0 < message.expires_at_ms <= now_ms:
            shown = Shown(message, f"msg_{message.timestamp_ms:x}_{offset:x}", 0, offset, shown_ms)
            lines.append(msgspec.json.encode(to_json(shown)) + b"\n")
    headers = [(VERSION_FIELD, VERSION), (FIRST, str(stream.first_offset)), (END, str(stream.next_offset))]
    headers.append((NEXT, str(reached)))
    if not lines:
        return HttpAnswer(204, content_type="", headers=headers)
    return HttpAnswer(200, b"".join(lines), NDJSON, headers)


async def _stream(call: Call) -> StreamQueue:
    """Return the stream that is meant. Raise a GatewayError."""
    call.source()  # it names a queue that can be
    topic = topic_of(call.text("x-oms-source"))
    name = topic.removeprefix(QUEUE_PREFIX)
    call.session.check_consume(name)
    queue = call.gateway.broker.catalog.queues.get(name)
    if queue is None:
        queue = await _made(call, topic)
    if not isinstance(queue, StreamQueue):
        raise Conflict(f"queue {name!r} is {queue.kind}; only a stream has positions")
    return queue


async def _made(call: Call, topic: str) -> StreamQueue:
    settings = call.gateway.config.openmessaging
    if not settings.auto_create:
        raise NotFound(f"there is no stream {topic!r}; declare one")
    session, catalog = call.session, call.gateway.broker.catalog
    check_topic(topic)
    session.check(Action.SUBSCRIBE, topic)
    session.check_queues()
    policy = QueuePolicy(max_age_ms=round(settings.retention_hours * HOUR_MS))
    queue, _ = catalog.declare(topic, "stream", policy, creator=session.origin)
    catalog.bind(queue, Binding(topic, queue))
    await call.stored(call.gateway.broker.engine.position())
    assert isinstance(queue, StreamQueue)
    return queue


async def _wait(call: Call, stream: StreamQueue, position: int, seconds: float) -> None:
    """Return when there may be something at a position, or no point in waiting."""
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(batch: list[Delivery] | None = None) -> None:
        if not woken.done():
            woken.set_result(None)

    session, broker = call.session, call.gateway.broker
    group = stream.group(READER + secrets.token_hex(8), position)
    consumer = session.consume_shared(stream, wake, 1, group.name, queue_resource(stream.name))
    consumer.gone = wake
    over = asyncio.ensure_future(call.request.over())
    try:
        await asyncio.wait((woken, over), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        over.cancel()
        call.gateway.begin_turn()
        consumer.gone = None
        session.cancel(consumer)
        if broker.catalog.queues.get(stream.name) is stream:
            broker.catalog.remove_group(stream, group)
