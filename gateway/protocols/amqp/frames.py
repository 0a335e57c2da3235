"""Frames: bytes to events and back. Sans-I/O; what happens for every message is done by hand.

    type(1) channel(2) size(4) payload(size) 0xCE

A `Decoder` takes whatever a read brought and returns events, tuples that begin with their kind:

    (PUBLISH, channel, arguments, properties, body)    basic.publish with its content
    (ACK, channel, tag, multiple)                      basic.ack
    (METHOD, channel, payload)                         any other, not looked into
    (HEARTBEAT, 0)

`arguments` are those of basic.publish from the exchange on, `properties` the flags and list of
the content header: both as received.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from .errors import AmqpFault, Reply, SyntaxFault

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
FRAME_MIN: Final = 4096  # what every peer must take [4.2.3]
FRAME_EXTRA: Final = 8  # header and end

METHOD: Final = 1
PUBLISH: Final = 2
ACK: Final = 3
HEARTBEAT: Final = 8

_HEADER_FRAME: Final = 2
_BODY_FRAME: Final = 3
_END: Final = 0xCE

_HEAD: Final = Struct(">BHI")
_PUBLISH: Final = b"\x00\x3c\x00\x28"  # basic.publish
_ACK: Final = b"\x00\x3c\x00\x50"
_CLOSE_OK: Final = b"\x00\x14\x00\x29"  # channel.close-ok
HELD_BODIES_MAX: Final = 8  # of the largest size, begun on several channels of one connection
_CONTENT: Final = Struct(">HHQ")  # class, weight, body size
_TAG: Final = Struct(">QB")
_BASIC: Final = 60

HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

Event = tuple[Any, ...]


class _Partial:
    """A publish whose content is not complete."""

    __slots__ = ("arguments", "chunks", "left", "properties")

    def __init__(self, arguments: bytes) -> None:
        self.arguments = arguments
        self.properties: bytes | None = None  # None: its header has not come yet
        self.chunks: list[bytes] = []
        self.left = 0


class Decoder:
    """One connection's bytes. After an error it takes no more: `error` says why."""

    __slots__ = ("_buffer", "_closed", "_held", "_partial", "body_max", "channels_max", "error", "frame_max")

    def __init__(self, body_max: int) -> None:
        self._buffer = b""
        self._partial: dict[int, _Partial] = {}
        self._closed: set[int] = set()  # channels whose contents nobody wants, until the client knows
        self._held = 0  # bytes of contents that are not complete
        self.frame_max = FRAME_MIN  # until the tuning is over
        self.channels_max = 0  # the same
        self.body_max = body_max
        self.error: AmqpFault | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes; return the events that are complete."""
        if self.error is not None:
            return []
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        events: list[Event] = []
        try:
            at = self._parse(data, events)
        except AmqpFault as error:
            self.error = error
            return events
        if at < len(data):
            self._buffer = data[at:] if at else data
        return events

    def _parse(self, data: bytes, events: list[Event]) -> int:
        at, length = 0, len(data)
        head = _HEAD.unpack_from
        size_max = self.frame_max - FRAME_EXTRA
        partial = self._partial
        while at + 8 <= length:
            kind, channel, size = head(data, at)
            if size > size_max:
                raise AmqpFault(
                    Reply.FRAME_ERROR,
                    f"a frame of {size + FRAME_EXTRA} bytes; at most {self.frame_max}",
                )
            begin = at + 7
            end = begin + size
            if end >= length:
                break
            if data[end] != _END:
                raise AmqpFault(Reply.FRAME_ERROR, "a frame does not end with 0xCE")
            at = end + 1
            if kind == METHOD:
                if channel in partial:
                    raise AmqpFault(Reply.UNEXPECTED_FRAME, "a method in the middle of a content")
                index = data[begin : begin + 4]
                if index == _PUBLISH:
                    if size < 9:
                        raise SyntaxFault("basic.publish ends before its fields")
                    if channel > self.channels_max:
                        raise AmqpFault(Reply.CHANNEL_ERROR, "expected 'channel.open'")
                    if channel not in self._closed:
                        partial[channel] = _Partial(data[begin + 6 : end])
                elif index == _ACK and size == 13:
                    tag, multiple = _TAG.unpack_from(data, begin + 4)
                    events.append((ACK, channel, tag, multiple & 1))
                else:
                    if channel in self._closed and index == _CLOSE_OK:
                        self._closed.discard(channel)  # what comes next may be of a new channel
                    events.append((METHOD, channel, data[begin:end]))
            elif kind == _BODY_FRAME:
                self._body(channel, data[begin:end], events)
            elif kind == _HEADER_FRAME:
                self._header(channel, data, begin, end, events)
            elif kind == HEARTBEAT:
                if channel:
                    raise AmqpFault(Reply.FRAME_ERROR, "a heartbeat on a channel")
                events.append((HEARTBEAT, 0))
            else:
                raise AmqpFault(Reply.FRAME_ERROR, f"there are no frames of type {kind}")
        return at

    def _header(self, channel: int, data: bytes, begin: int, end: int, events: list[Event]) -> None:
        partial = self._partial.get(channel)
        if channel in self._closed:
            return
        if partial is None or partial.properties is not None:
            raise AmqpFault(Reply.UNEXPECTED_FRAME, "a content header without its method")
        if end - begin < 14:
            raise SyntaxFault("a content header ends before its fields")
        kind, _, size = _CONTENT.unpack_from(data, begin)
        if kind != _BASIC:
            raise AmqpFault(Reply.FRAME_ERROR, f"a content header of class {kind} after a method of class 60")
        properties = data[begin + 12 : end]
        if not size:
            del self._partial[channel]
            events.append((PUBLISH, channel, partial.arguments, properties, b""))
            return
        if size > self.body_max:
            # Not read any further: what it would take is not there. The channel alone would have to be
            # given all of it first.
            raise AmqpFault(
                Reply.FRAME_ERROR,
                f"a body of {size} bytes; at most {self.body_max} (limits.body_bytes_max)",
            )
        partial.properties = properties
        partial.left = size

    def _body(self, channel: int, chunk: bytes, events: list[Event]) -> None:
        partial = self._partial.get(channel)
        if channel in self._closed:
            return
        if partial is None or partial.properties is None:
            raise AmqpFault(Reply.UNEXPECTED_FRAME, "a content body without its header")
        size = len(chunk)
        if size < partial.left:
            if size:
                partial.left -= size
                partial.chunks.append(chunk)
                self._held += size
                if self._held > self.body_max * HELD_BODIES_MAX:
                    raise AmqpFault(Reply.RESOURCE_ERROR, "too much content has been begun and not finished")
            return
        if size > partial.left:
            raise AmqpFault(Reply.FRAME_ERROR, "a content body is longer than its header says")
        del self._partial[channel]
        if partial.chunks:
            self._held -= sum(map(len, partial.chunks))
            partial.chunks.append(chunk)
            chunk = b"".join(partial.chunks)
        events.append((PUBLISH, channel, partial.arguments, partial.properties, chunk))

    def ignore(self, channel: int) -> None:
        """We have closed a channel: contents that the client has sent before it knows are passed over."""
        self._drop(channel)
        self._closed.add(channel)

    def heed(self, channel: int) -> None:
        """The client knows: the channel's number may be used again."""
        self._drop(channel)
        self._closed.discard(channel)

    def _drop(self, channel: int) -> None:
        partial = self._partial.pop(channel, None)
        if partial is not None:
            self._held -= sum(map(len, partial.chunks))


# -- writing --------------------------------------------------------------------------------------


def encode_frame(channel: int, payload: bytes) -> bytes:
    """Return a method frame."""
    return b"".join((_HEAD.pack(METHOD, channel, len(payload)), payload, b"\xce"))


def encode_content(channel: int, method: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return a method with its content, the body in as many frames as it takes."""
    size = len(body)
    pieces = [
        _HEAD.pack(METHOD, channel, len(method)),
        method,
        b"\xce",
        _HEAD.pack(_HEADER_FRAME, channel, 12 + len(properties)),
        _CONTENT.pack(_BASIC, 0, size),
        properties,
        b"\xce",
    ]
    room = frame_max - FRAME_EXTRA
    if 0 < size <= room:
        pieces += (_HEAD.pack(_BODY_FRAME, channel, size), body, b"\xce")
    else:
        for at in range(0, size, room):
            chunk = body[at : at + room]
            pieces += (_HEAD.pack(_BODY_FRAME, channel, len(chunk)), chunk, b"\xce")
    return b"".join(pieces)


_DELIVER: Final = b"\x00\x3c\x00\x3c"
_GET_OK: Final = b"\x00\x3c\x00\x47"
_COUNT: Final = Struct(">I")


def deliver_prefix(consumer_tag: bytes) -> bytes:
    """Return how basic.deliver begins for a consumer, whose tag is a short string."""
    return _DELIVER + consumer_tag


def encode_deliver(prefix: bytes, tag: int, redelivered: bool, address: bytes) -> bytes:
    """Return a basic.deliver. `address`: exchange and routing key, as short strings."""
    return b"".join((prefix, _TAG.pack(tag, redelivered), address))


def encode_get_ok(tag: int, redelivered: bool, address: bytes, left: int) -> bytes:
    """Return a basic.get-ok; `left` messages wait in the queue."""
    return b"".join((_GET_OK, _TAG.pack(tag, redelivered), address, _COUNT.pack(left)))


_CONFIRM_ACK: Final = Struct(">BHIIQBB")
_CONFIRM_INDEX: Final = 60 << 16 | 80
_NACK_INDEX: Final = 60 << 16 | 120


def encode_confirm(channel: int, tag: int, multiple: bool, stored: bool) -> bytes:
    """Return a basic.ack, or basic.nack, for a publisher."""
    index = _CONFIRM_INDEX if stored else _NACK_INDEX
    return _CONFIRM_ACK.pack(METHOD, channel, 13, index, tag, multiple, _END)
