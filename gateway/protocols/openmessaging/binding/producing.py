"""Producing: one message, whose body is the request's, or many, a line of JSON each."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.api import NO_SUBSCRIBERS, GatewayError, HttpAnswer, InvalidValue, TooLarge
from gateway.core.message import Message, wants_later
from gateway.http_fields import write_text
from gateway.http_oms import FIELD_PREFIX, Told

from .call import Call, json, read_line
from .refusals import problem_of, refusal

LINES_MAX: Final = 10_000  # of a batch; if it is all or nothing, all of it in one turn, some 0.2 s
LINES_PER_TURN: Final = 250  # of one that is not: some 5 ms, then others have their turn


async def produce(call: Call) -> HttpAnswer:
    """Publish the body; with a transaction's id, when that is committed."""
    told, body = call.brought()
    message = call.message(told, body)
    transaction = told.fields.get("transactionId")
    if transaction:
        position = call.gateway.broker.halves.add(call.session, str(transaction), message)
        await call.stored(position)
        return sent(call, {**_said(message), "transactionId": transaction})
    said, position = _publish(call, message)
    await call.stored(position)
    return sent(call, said)


def sent(call: Call, said: dict[str, Any]) -> HttpAnswer:
    """Return the answer to a producer: JSON, and what a message has headers for in headers."""
    fields = {
        "messageId": said["messageId"],
        "storeTimestamp": call.gateway.clock.wall_ms,
        "transactionId": said.get("transactionId"),
    }
    headers = [(FIELD_PREFIX + name, write_text(str(value))) for name, value in fields.items() if value]
    return json(said, headers=headers)


def _said(message: Message) -> dict[str, Any]:
    return {"messageId": message.properties.message_id, "destination": message.topic}


def _publish(call: Call, message: Message) -> tuple[dict[str, Any], int]:
    """Publish a message; return what is said of it, and the position to wait for."""
    session, found = call.session, _said(message)
    published = session.publish_once(message)
    position = published.position
    found["messageId"] = published.message_id or found["messageId"]  # of a duplicate, the first one's
    found |= {"duplicate": published.duplicate, "subscribers": position != NO_SUBSCRIBERS}
    return found | _schedule(call, message, position), position


def _schedule(call: Call, message: Message, position: int) -> dict[str, str]:
    """Return the id by which a message that waits for its time is found at `/v1/schedules`."""
    waits = wants_later(message.properties) and call.gateway.broker.schedules.waits(position)
    return {"schedule": str(position)} if waits else {}


async def produce_batch(call: Call) -> HttpAnswer:
    """Publish each line of the body; `x-oms-atomic: true`: all or none of them."""
    lines = [line for line in call.body().split(b"\n") if line.strip()]
    if len(lines) > LINES_MAX:
        raise TooLarge(f"a batch has at most {LINES_MAX} messages; send it in parts")
    if not lines:
        raise InvalidValue("the body is empty: a message a line, as JSON, is expected")
    if call.flag("x-oms-atomic"):
        return await _together(call, lines)
    return await _one_by_one(call, lines)


def _read(call: Call, usual: Told, line: bytes) -> Message:
    """Return the message of a line; what it does not say is as the request's own headers say."""
    told, body = read_line(line)
    return call.message(Told({**usual.fields, **told.fields}, told.properties), body)


async def _together(call: Call, lines: list[bytes]) -> HttpAnswer:
    usual = call.told()
    messages = [_read(call, usual, line) for line in lines]
    positions = call.session.transact([(message, None) for message in messages], [], at_once=True)
    await call.stored(max(positions, default=0))
    results = [
        _said(message) | _schedule(call, message, position)
        for message, position in zip(messages, positions, strict=True)
    ]
    return json({"accepted": len(messages), "results": results})


async def _one_by_one(call: Call, lines: list[bytes]) -> HttpAnswer:
    usual, highest = call.told(), 0
    results: list[dict[str, Any]] = []
    first: GatewayError | None = None
    accepted = 0
    for number, line in enumerate(lines):
        if number and number % LINES_PER_TURN == 0:
            await asyncio.sleep(0)
            call.gateway.begin_turn()
        try:
            said, position = _publish(call, _read(call, usual, line))
        except GatewayError as error:
            first = first or error
            results.append(problem_of(error))
            continue
        accepted += 1
        highest = max(highest, position)
        results.append(said)
    await call.stored(highest)
    if first is not None and not accepted:
        return refusal(first, results)
    return json({"accepted": accepted, "results": results})
