"""A message as OpenMessaging has it: header, extension header, user properties, and data nobody looks at.

Times are Unix milliseconds and end in what they are in the specification; None is "not said".
What is optional is made when it is first asked for, so that a message that says little costs little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from .key_value import KeyValue, Value

VERSION: Final = "1.0.0"  # of the schema, in every message
PRIORITY_MIN: Final = 1
PRIORITY_DEFAULT: Final = 5
PRIORITY_MAX: Final = 10


class QoS(IntEnum):
    """Guarantees by the specification's numbers, which are not MQTT's: compare by name."""

    AT_LEAST_ONCE = 0
    AT_MOST_ONCE = 1
    EXACTLY_ONCE = 2


class Durability(IntEnum):
    """Whether a message outlives the broker, by the pre-alpha specification's numbers."""

    PERSISTENT = 0
    NON_PERSISTENT = 1


@dataclass(slots=True)
class Header:
    """What every message says. All but `destination` is set by sending or by the provider."""

    destination: str = ""
    message_id: str = ""  # the provider's; ignored on send
    born_timestamp: int = 0
    born_host: str = ""
    qos: int = QoS.AT_LEAST_ONCE
    compression: str = ""  # "gzip": sent compressed; who receives gets plain data
    priority: int | None = None  # 1 lowest, 10 highest; out of range is ignored
    durability: int = Durability.PERSISTENT
    delivery_count: int = 0  # 1 when it is delivered for the first time


@dataclass(slots=True)
class ExtensionHeader:
    """What a message may say besides."""

    message_key: str | None = None  # of one key one at a time, in order; no search key
    correlation_id: str | None = None
    delay_time: int | None = None  # ms after born_timestamp
    expire_time: int | None = None  # absolute; if it is earlier than born_timestamp it is ignored
    trace_id: str | None = None
    transaction_id: str | None = None
    partition: int | None = None
    offset: int | None = None  # the provider's, where there are offsets
    store_timestamp: int | None = None
    store_host: str | None = None
    tag: str | None = None  # ours, of OpenMessaging 2: what tag selectors look at
    search_keys: tuple[str, ...] = ()  # the same: keys to find a message by


class MessageReceipt:
    """What acknowledges a delivery; opaque. `handle` is the driver's business, `queue` where it came from."""

    __slots__ = ("handle", "queue")

    def __init__(self, handle: Any, queue: str = "") -> None:
        self.handle = handle
        self.queue = queue

    def __repr__(self) -> str:
        return f"MessageReceipt({self.handle!r}, {self.queue!r})"


@dataclass(frozen=True, slots=True)
class QueueMetaData:
    """One partition of a queue: a stream."""

    queue_name: str
    partition_id: int = 0


class Message:
    """One message. `receipt` is there when it was received and wants an acknowledgement."""

    __slots__ = ("_extension", "_properties", "data", "header", "receipt")

    def __init__(
        self,
        destination: str = "",
        data: bytes = b"",
        *,
        header: Header | None = None,
        extension_header: ExtensionHeader | None = None,
        properties: Mapping[str, Value] | None = None,
        receipt: MessageReceipt | None = None,
    ) -> None:
        self.header = Header(destination) if header is None else header
        self.data = data
        self.receipt = receipt
        self._extension = extension_header
        self._properties: KeyValue | None = None if properties is None else KeyValue(properties)

    @property
    def extension_header(self) -> ExtensionHeader:
        """The extension header; an empty one if there was none."""
        found = self._extension
        if found is None:
            found = self._extension = ExtensionHeader()
        return found

    @property
    def has_extension(self) -> bool:
        """Whether there is an extension header: asking for that costs nothing."""
        return self._extension is not None

    @property
    def properties(self) -> KeyValue:
        """The user's properties; empty ones if there were none."""
        found = self._properties
        if found is None:
            found = self._properties = KeyValue()
        return found

    @property
    def has_properties(self) -> bool:
        """Whether there are properties."""
        return bool(self._properties)

    @property
    def text(self) -> str:
        """The data as UTF-8 text. Raise UnicodeDecodeError if it is none."""
        return self.data.decode()

    def to_json(self) -> str:
        """Return the message by the specification's schema, as JSON text."""
        from .message_json import dump

        return dump(self)

    @staticmethod
    def from_json(text: str | bytes) -> Message:
        """Return the message of a JSON text. Raise OMSMessageFormatError."""
        from .message_json import load

        return load(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (
            (self.header, self.data) == (other.header, other.data)
            and (self._extension or ExtensionHeader()) == (other._extension or ExtensionHeader())
            and dict(self._properties or {}) == dict(other._properties or {})
        )

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        header = self.header
        return f"Message({header.destination!r}, {self.data[:40]!r}, message_id={header.message_id!r})"


class MessageFactory:
    """Makes messages: producers and access points are such."""

    def create_message(self, queue: str, body: bytes | str, **fields: Any) -> Message:
        """Return a message to a queue; text as UTF-8.

        `fields` are fields of the header and the extension header by name, and `properties`. Raise
        OMSMessageFormatError for another name.
        """
        message = Message(queue, body.encode() if isinstance(body, str) else body)
        if fields:
            from .fields import set_fields

            set_fields(message, fields)
        return message
