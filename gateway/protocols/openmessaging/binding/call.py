"""A request: what its path names, what its headers ask for, and the message it brings."""

from __future__ import annotations

import itertools
import secrets
from typing import Any, Final

import msgspec

from gateway.api import (
    Delivery,
    Gateway,
    HttpAnswer,
    HttpRequest,
    InvalidValue,
    NotAuthorized,
    Selector,
    TooLarge,
)
from gateway.core.message import Message
from gateway.core.selector import USUAL_LANGUAGE
from gateway.core.topic import QUEUE_PREFIX
from gateway.http_fields import read_text
from gateway.http_oms import (
    VERSION,
    VERSION_FIELD,
    Shown,
    Told,
    check_version,
    from_json,
    read_head,
    to_json,
    to_message,
    topic_of,
    write_head,
)

NUMBER_DIGITS_MAX: Final = 15
GROUP_DEFAULT: Final = "oms.default"  # of whoever names none: all of these are one group
GROUP_CHARACTERS_MAX: Final = 255
STRUCTURED: Final = "application/openmessaging+json"  # of a body that is a whole message
RECEIPT: Final = "x-oms-receipt"
_FLAGS: Final = {"true": True, "false": False}

_encode = msgspec.json.Encoder().encode


class Ids:
    """Makes message ids: unique, also across restarts; not secret."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def new(self) -> str:
        """Return another one."""
        return f"{self._prefix}-{next(self._count):x}"


class Call:
    """One request. Raise a GatewayError for a version that is not spoken here, or none."""

    def __init__(self, gateway: Gateway, ids: Ids, request: HttpRequest, parts: dict[str, str]) -> None:
        self.gateway = gateway
        self.request = request
        self.session = request.session
        self.parts = parts
        self.headers = dict(request.headers)
        self._ids = ids
        check_version(self.headers.get(VERSION_FIELD))
        gateway.begin_turn()

    # -- what is asked for ----------------------------------------------------------------------------

    def text(self, name: str, default: str = "") -> str:
        """Return what a header says, percent-decoded. Raise InvalidValue."""
        found = self.headers.get(name.lower())
        try:
            return default if found is None else read_text(found)
        except ValueError as error:
            raise InvalidValue(f"{name}: percent-encoded UTF-8 is expected") from error

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return the whole number that a header has. Raise InvalidValue."""
        text = self.text(name, str(default))
        fits = text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX
        if not fits or not least <= int(text) <= most:
            raise InvalidValue(f"{name} is {text[:40]!r}; {least} to {most} is expected")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return whether a header says true; it says false if it is not there. Raise InvalidValue."""
        text = self.text(name, "false").lower()
        if text not in _FLAGS:
            raise InvalidValue(f"{name} is {text[:40]!r}; true or false is expected")
        return _FLAGS[text]

    def selector(self) -> Selector | None:
        """Return which messages are wanted. Raise InvalidSelector."""
        text = self.text("x-oms-selector")
        language = self.text("x-oms-selectorLanguage", USUAL_LANGUAGE)
        return self.gateway.broker.selectors.find(text, language) if text else None

    def source(self) -> tuple[str, str]:
        """Return the queue to consume, and the group that a stream among these is read as."""
        group = self.text("x-oms-consumerId", GROUP_DEFAULT)
        if not 0 < len(group) <= GROUP_CHARACTERS_MAX or group.startswith("$") or set(group) & set("/+#\0"):
            raise InvalidValue(
                "x-oms-consumerId: a name without /, + and # is expected, not beginning with $"
            )
        topic = topic_of(self.text("x-oms-source"))
        if not topic:
            raise InvalidValue("x-oms-source is missing: say which queue is meant")
        if not topic.startswith(QUEUE_PREFIX):
            return f"$share/{group}/{topic}", ""
        name = topic[len(QUEUE_PREFIX) :]
        queue = self.gateway.broker.catalog.get(name)
        return name, group if queue.kind == "stream" else ""

    def body(self) -> bytes:
        """Return the body of a message. Raise TooLarge."""
        body = self.request.body
        most: int = self.gateway.config.limits.body_bytes_max
        if len(body) > most:
            raise TooLarge(f"the body has {len(body)} bytes; {most} are allowed")
        return body

    def told(self) -> Told:
        """Return what the headers say of a message. Raise InvalidValue."""
        return read_head(self.request.headers)

    def brought(self) -> tuple[Told, bytes]:
        """Return the message that the request is: in headers and body, or all of it as JSON."""
        told, body = self.told(), self.body()
        if _media_type(self.headers.get("content-type", "")) != STRUCTURED:
            return told, body
        found, body = read_line(body)
        return Told({**told.fields, **found.fields}, found.properties), body

    def message(self, told: Told, body: bytes) -> Message:
        """Return a message to be published. Raise a GatewayError."""
        message = to_message(told, body, self.session.origin, self.gateway.clock)
        if not message.properties.message_id:
            message.properties.message_id = self._ids.new()
        if message.topic.startswith(QUEUE_PREFIX):
            name = message.topic[len(QUEUE_PREFIX) :]
            self.gateway.broker.catalog.get(name)  # `$queue/` of nothing would only drop it
            if name.startswith("$"):
                raise NotAuthorized(f"queue {name!r} is the gateway's own; publish to a topic instead")
        return message

    # -- answers --------------------------------------------------------------------------------------

    def show(self, delivery: Delivery) -> Shown:
        """Return a delivery, to be written."""
        place = delivery.position or delivery.offset
        message_id = f"msg_{delivery.message.timestamp_ms:x}_{place:x}"  # a webhook calls it so, too
        shown_ms = self.gateway.clock.shown
        return Shown(delivery.message, message_id, delivery.attempt, delivery.offset, shown_ms)

    def shown(self, shown: Shown, receipt: str = "") -> HttpAnswer:
        """Return a message as the answer: in headers and body, or all of it as JSON if that is asked for."""
        if _media_type(self.headers.get("accept", "")) == STRUCTURED:
            found = to_json(shown)
            body = _encode({**found, "receipt": receipt} if receipt else found)
            return HttpAnswer(200, body, STRUCTURED, [(VERSION_FIELD, VERSION)])
        kind, headers = write_head(shown)
        named = [(RECEIPT, receipt)] if receipt else []
        return HttpAnswer(200, shown.message.body, kind, [*headers, *named])

    async def stored(self, position: int) -> None:
        """Wait until a position is on disk. Raise NotStored."""
        if position > 0:
            await self.gateway.durable(position)


def read_line(line: bytes) -> tuple[Told, bytes]:
    """Return a message as JSON has it, and its body. Raise InvalidValue."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue(f"{error}; a message as a JSON object is expected") from error
    return from_json(found)


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def json(found: Any, status: int = 200, headers: list[tuple[str, str]] | None = None) -> HttpAnswer:
    """Return an answer in JSON."""
    return HttpAnswer(status, _encode(found), headers=[(VERSION_FIELD, VERSION), *(headers or ())])


def nothing() -> HttpAnswer:
    """Return an answer without a body."""
    return HttpAnswer(204, content_type="", headers=[(VERSION_FIELD, VERSION)])
