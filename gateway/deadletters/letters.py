"""Letters of a queue: found, told, mended. A letter is known by its position in the log."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gateway.core import deadletter
from gateway.core.broker import Broker
from gateway.core.classic import ClassicQueue
from gateway.core.engine import stored_at
from gateway.core.errors import InvalidValue, NotFound
from gateway.core.message import HeaderValue, Message, Properties
from gateway.core.selector import Predicate
from gateway.core.topic import DEAD_PREFIX
from gateway.core.values import from_json, to_json

READ_TOGETHER: Final = 200  # letters: a look into the log that holds nobody up
SCANNED_MAX: Final = 5000  # letters that one request looks at, to find those that are wanted

#: What a selector can say of a letter besides all that it can say of a message.
FIELDS: Final = {
    "cause": deadletter.CAUSE,
    "queue": deadletter.QUEUE,
    "group": deadletter.GROUP,
    "original_topic": deadletter.TOPIC,
    "attempts": deadletter.ATTEMPTS,
    "reason": deadletter.REASON,
    "consumer": deadletter.CONSUMER,
    "consumer_protocol": deadletter.PROTOCOL,
    "deaths": deadletter.DEATHS,
}
EDITABLE: Final = ("content_type", "key", "tag")


class Letter(NamedTuple):
    """One, as it waits."""

    position: int
    message: Message
    stored_at_ms: int


class Page(NamedTuple):
    """Some of them, and where to go on: 0 if there are no more."""

    letters: list[Letter]
    next: int


def queues(broker: Broker) -> Iterator[ClassicQueue]:
    """Yield the queues of dead letters, by name."""
    for name in sorted(broker.catalog.queues):
        queue = broker.catalog.queues[name]
        if name.startswith(DEAD_PREFIX) and isinstance(queue, ClassicQueue):
            yield queue


def queue_of(broker: Broker, name: str) -> ClassicQueue:
    """Return where the letters of a queue are, or the queue of letters of that name. Raise NotFound."""
    found = broker.catalog.queues.get(deadletter.home(name) or name)
    if not isinstance(found, ClassicQueue) or not found.durable:
        raise NotFound(f"{name!r} has no dead letters; GET /v1/dead-letters lists the queues that have")
    return found


def page(broker: Broker, queue: ClassicQueue, after: int, limit: int, wanted: Predicate | None) -> Page:
    """Return letters above a position that are wanted: at most `limit`, fewer if most are not."""
    letters: list[Letter] = []
    scanned = 0
    while scanned < SCANNED_MAX and len(letters) < limit:
        found = broker.engine.after(queue.queue_id, after, READ_TOGETHER)
        if not found:
            return Page(letters, 0)
        for entry in found:
            after = entry.position
            scanned += 1
            if entry.message is None:
                continue
            letter = Letter(entry.position, entry.message, entry.stored_at_ms)
            if wanted is None or wanted(as_seen(letter, broker.clock.now_ms)):
                letters.append(letter)
                if len(letters) >= limit:
                    break
    return Page(letters, after)


def find(broker: Broker, queue: ClassicQueue, position: int) -> Letter:
    """Return the letter at a position. Raise NotFound."""
    found = stored_at(broker.engine, queue.queue_id, position)
    if found is None or found.message is None:
        raise NotFound(f"there is no letter {position} in {queue.name!r}: it was settled, or never was")
    return Letter(position, found.message, found.stored_at_ms)


def as_seen(letter: Letter, now_ms: int) -> Message:
    """Return a letter as selectors see it: with its story under short names, and its age in seconds."""
    message = letter.message
    story = {name: message.properties.header(header) for name, header in FIELDS.items()}
    story["age"] = max(0, now_ms - letter.stored_at_ms) / 1000
    return message.with_topic(message.topic, message.properties.with_headers(tuple(story.items())))


def shown(letter: Letter, body: bool) -> dict[str, Any]:
    """Return what people read of a letter."""
    message, made = letter.message, letter.message.properties
    found: dict[str, Any] = {"position": letter.position, "stored_at": letter.stored_at_ms}
    found["bytes"] = len(message.body)
    for name in ("message_id", *EDITABLE):
        if (value := getattr(made, name)) is not None:
            found[name] = value
    found["story"] = {
        name.removeprefix("dead-letter-"): to_json(value)
        for name, value in made.headers
        if name in deadletter.STORY
    }
    found["headers"] = {n: to_json(value) for n, value in made.headers if n not in deadletter.STORY}
    if body:
        try:
            found["body"] = message.body.decode()
        except UnicodeDecodeError:
            found["body_base64"] = base64.b64encode(message.body).decode()
    return found


def edited(letter: Letter, fields: Mapping[str, Any]) -> Message:
    """Return a letter with another body, headers (null: none) or properties. Raise InvalidValue."""
    message = letter.message
    properties = message.properties.copy()
    for name in EDITABLE:
        if name in fields:
            value = fields[name]
            if value is not None and not isinstance(value, str):
                raise InvalidValue(f"{name}: a text or null is expected")
            setattr(properties, name, value)
    if "headers" in fields:
        _edit_headers(properties, fields["headers"])
    body = _body(fields)
    if body is not None:
        properties.text = "body" in fields
    changed = message.with_topic(message.topic, properties)
    changed.body = message.body if body is None else body
    return changed


def _edit_headers(properties: Properties, wanted: Any) -> None:
    if not isinstance(wanted, dict):
        raise InvalidValue("headers: an object of names and values is expected")
    for name in wanted:
        if name in deadletter.STORY:
            raise InvalidValue(f"headers: {name!r} is what happened, which cannot be changed")
    new: dict[str, HeaderValue] = {name: from_json(value) for name, value in wanted.items()}
    kept = tuple(header for header in properties.headers if header[0] not in new)
    properties.headers = kept + tuple((name, value) for name, value in new.items() if value is not None)


def _body(fields: Mapping[str, Any]) -> bytes | None:
    text, encoded = fields.get("body"), fields.get("body_base64")
    if text is not None and encoded is not None:
        raise InvalidValue("body and body_base64: one of both is possible")
    try:
        if text is not None:
            return str.encode(text)
        return None if encoded is None else base64.b64decode(encoded, validate=True)
    except (TypeError, UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise InvalidValue(f"body: a text, or base64 in body_base64, is expected: {error}") from error
