"""The message model: what was published, in no protocol's vocabulary.

A `Message` never changes after publish and is shared by everybody who holds it: fan-out
copies references. Properties are typed and kept as they came; a foreign door converts them
when it reads them. A protocol that can forward its own bytes untouched leaves them in
`wire` (a whole packet) or `Properties.native` (an encoded property block), tagged with its
format; nobody else looks at them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Final

#: Times have a zone.
HeaderScalar = bool | int | float | str | bytes | datetime | Decimal | None
HeaderValue = HeaderScalar | list["HeaderValue"] | dict[str, "HeaderValue"]
Headers = tuple[tuple[str, HeaderValue], ...]

#: Format of a native encoding -> what finds the headers in it. A protocol registers its own, so that
#: headers stay as they were received until a foreign door wants them.
HEADER_READERS: Final[dict[str, Callable[[bytes], Headers]]] = {}


class Qos(IntEnum):
    """Delivery guarantees. Compare by name, never with a protocol's own number."""

    AT_MOST_ONCE = 0
    AT_LEAST_ONCE = 1
    EXACTLY_ONCE = 2


class Outcome(IntEnum):
    """How a consumer settles a delivery."""

    ACK = 1
    RETRY = 2  # later, not my fault: does not consume an attempt
    REQUEUE = 3  # it failed: once more, to whoever has room; consumes an attempt
    REJECT = 4  # never again: to the dead letters


def host_of(peer: str) -> str:
    """Return the address in `host:port`, `[v6]:port`, `host` or `unix`."""
    if peer.startswith("["):
        return peer[1:].partition("]")[0]
    return peer.partition(":")[0] if peer.count(":") == 1 else peer


class Origin:
    """Who published, from where: one object per session, shared by all its messages."""

    __slots__ = ("client_id", "peer", "principal", "protocol")

    def __init__(self, protocol: str, principal: str = "", client_id: str = "", peer: str = "") -> None:
        self.protocol = protocol
        self.principal = principal
        self.client_id = client_id
        self.peer = peer

    def __repr__(self) -> str:
        return f"Origin({self.protocol!r}, {self.principal!r}, {self.client_id!r}, {self.peer!r})"

    def same_client(self, other: Origin) -> bool:
        """Tell whether both are the same client, also across a restart."""
        if self is other:
            return True
        # Without a client id nobody can be known again: two such are strangers.
        return bool(self.client_id) and self.client_id == other.client_id and self.protocol == other.protocol


NOWHERE = Origin("gateway")


#: What a message can say about itself: every attribute of `Properties` but its native encoding.
PROPERTY_NAMES: Final = (
    "content_type",
    "content_encoding",
    "correlation",
    "reply_to",
    "message_id",
    "idempotency_key",
    "timestamp_ms",
    "priority",
    "key",
    "tag",
    "keys",
    "deliver_at_ms",
    "traceparent",
    "text",
    "headers",
)


class Properties:
    """What a message says about itself, typed. None or empty means absent.

    `headers` are the application's, in order, duplicates kept: (name, value); given as None they
    are in `native`. Times are Unix milliseconds. `stored` is for the storage engine: how it has
    encoded all this. `delay_ms` is a wish of the publisher's, how much later to publish, and is
    not kept; negative is a delay that its door could not read.
    """

    __slots__ = (
        "_headers",
        "by_name",
        "content_encoding",
        "content_type",
        "correlation",
        "delay_ms",
        "deliver_at_ms",
        "idempotency_key",
        "key",
        "keys",
        "message_id",
        "native",
        "native_format",
        "priority",
        "reply_to",
        "stored",
        "tag",
        "text",
        "timestamp_ms",
        "traceparent",
    )

    def __init__(
        self,
        content_type: str | None = None,
        content_encoding: str | None = None,
        correlation: bytes | None = None,
        reply_to: str | None = None,
        message_id: str | None = None,
        timestamp_ms: int | None = None,
        priority: int | None = None,
        key: str | None = None,
        tag: str | None = None,
        keys: tuple[str, ...] = (),
        deliver_at_ms: int | None = None,
        traceparent: str | None = None,
        text: bool = False,
        headers: Headers | None = (),
        idempotency_key: str | None = None,
        native: bytes | None = None,
        native_format: str = "",
    ) -> None:
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.correlation = correlation
        self.reply_to = reply_to
        self.message_id = message_id
        self.idempotency_key = idempotency_key  # it is published once under this (see core/dedup.py)
        self.timestamp_ms = timestamp_ms
        self.priority = priority
        self.key = key  # ordering key
        self.tag = tag
        self.keys = keys  # search keys
        self.deliver_at_ms = deliver_at_ms
        self.delay_ms = 0
        self.traceparent = traceparent
        self.text = text  # the publisher vouches that the body is UTF-8 text
        self._headers = headers
        self.by_name: dict[str, HeaderValue] | None = None  # headers, once `index` was called
        self.native = native
        self.native_format = native_format
        self.stored: bytes | None = None

    @property
    def headers(self) -> Headers:
        """The application's headers, read now if they never were."""
        found = self._headers
        if found is None:
            read = HEADER_READERS.get(self.native_format)
            native = self.native
            found = self._headers = read(native) if read is not None and native is not None else ()
        return found

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self._headers = headers
        self.by_name = None

    def index(self) -> dict[str, HeaderValue]:
        """Make and return `by_name`: of headers of one name the first, as for `header`."""
        found = self.by_name = dict(reversed(self.headers))
        return found

    @property
    def native_headers(self) -> bool:
        """Whether the headers are in `native`, and need not be kept elsewhere."""
        return self.native is not None and self.native_format in HEADER_READERS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Properties) and all(
            getattr(self, name) == getattr(other, name) for name in PROPERTY_NAMES
        )

    def __hash__(self) -> int:
        return hash((self.message_id, self.correlation, self.content_type))

    def __repr__(self) -> str:
        shown = ((n, getattr(self, n)) for n in PROPERTY_NAMES)
        return f"Properties({', '.join(f'{n}={v!r}' for n, v in shown if v)})"

    def copy(self) -> Properties:
        """Return a copy to be changed, without the publisher's own encoding: that would not fit it."""
        return self.with_headers(())

    def with_headers(self, extra: Headers) -> Properties:
        """Return a copy with headers appended; the publisher's own encoding no longer fits it."""
        copy = Properties()
        for name in PROPERTY_NAMES:
            setattr(copy, name, getattr(self, name))
        copy.headers = self.headers + extra
        return copy

    def due_at(self, due_ms: int, native: bool) -> Properties:
        """Return a copy for a message that waits until then; `native`: with the publisher's own encoding."""
        if not native:
            copy = self.copy()
        else:
            copy = Properties(native=self.native, native_format=self.native_format)
            for name in PROPERTY_NAMES:
                if name != "headers":
                    setattr(copy, name, getattr(self, name))
            copy._headers = self._headers
        copy.deliver_at_ms = due_ms
        return copy

    def header(self, name: str) -> HeaderValue:
        """Return the first header of that name, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


def wants_later(properties: Properties) -> bool:
    """Tell whether a message says when it is to be published."""
    return properties.delay_ms != 0 or properties.deliver_at_ms is not None


NO_PROPERTIES = Properties()


class Message:
    """One published message. Times are Unix milliseconds; `expires_at_ms` 0 is never."""

    __slots__ = (
        "body",
        "expires_at_ms",
        "origin",
        "properties",
        "qos",
        "retain",
        "timestamp_ms",
        "topic",
        "wire",
        "wire_format",
    )

    def __init__(
        self,
        topic: str,
        body: bytes,
        qos: int = 1,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        origin: Origin = NOWHERE,
        timestamp_ms: int = 0,
        expires_at_ms: int = 0,
        wire: bytes | None = None,
        wire_format: str = "",
    ) -> None:
        self.topic = topic
        self.body = body
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.origin = origin
        self.timestamp_ms = timestamp_ms
        self.expires_at_ms = expires_at_ms
        self.wire = wire
        self.wire_format = wire_format

    def __repr__(self) -> str:
        return f"Message({self.topic!r}, {self.body[:40]!r}, qos={self.qos}, retain={self.retain})"

    def changed(
        self, topic: str, properties: Properties, expires_at_ms: int, body: bytes | None = None
    ) -> Message:
        """Return a copy that differs in these; the bytes it came in are not its own."""
        return Message(
            topic,
            self.body if body is None else body,
            self.qos,
            self.retain,
            properties,
            self.origin,
            self.timestamp_ms,
            expires_at_ms,
        )

    def with_topic(self, topic: str, properties: Properties | None = None, retain: bool = False) -> Message:
        """Return a copy for another address, as dead-lettering needs it."""
        return Message(
            topic,
            self.body,
            self.qos,
            retain,
            self.properties if properties is None else properties,
            self.origin,
            self.timestamp_ms,
        )
