"""A message as a representation (RFC 7252, 5.5.3): its ETag, how long it lasts, and of what format it is."""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64encode
from typing import Final

from gateway.core.message import Message

from ..answers import Refused
from ..codec import Option, Options
from ..content.formats import NONE, number_of
from ..content.translate import acceptable, to_envelope
from ..exchange import Response
from ..numbers import CONTENT, CONTENT_FORMAT, ETAG, MAX_AGE, NOT_ACCEPTABLE, VALID, uint_bytes
from .publishing import envelope_format
from .targets import Target

MAX_AGE_SECONDS: Final = 60  # what CoAP assumes where nothing is said (RFC 7252, 5.10.5)


def represent(options: Options, message: Message, now_ms: int, validate: bool = True) -> Response:
    """Return a message as the answer to a GET with these options, or as a notification for one.

    2.03 if the client has it, as far as it is to `validate` that. `now_ms` is in the gateway's own time.
    Raise Refused if the client accepts another format.
    """
    tag = entity_tag(message)
    enveloped = isinstance(options.meaning, Target) and options.meaning.meta
    payload = message.body
    properties = message.properties
    if enveloped:
        kind = envelope_format(options.accept)
        tag = tag[:-1] + bytes((kind,))  # it is another representation
    else:
        kind = NONE
        if properties.content_type is not None or properties.content_encoding is not None:
            kind = number_of(properties.content_type, properties.content_encoding)
        if options.accept != NONE:
            if not acceptable(properties, options.accept):
                raise Refused(NOT_ACCEPTABLE, f"the value is not of Content-Format {options.accept}")
            if kind == NONE:
                kind = options.accept  # of which nobody said what it is, and the client takes it as that
    found: list[Option] = [(ETAG, tag), _max_age(message, now_ms)]
    if validate and tag in options.etags:
        return Response(VALID, b"", found)
    if enveloped:
        payload = to_envelope(message, kind, now_ms)
    if kind != NONE:
        found.append((CONTENT_FORMAT, uint_bytes(kind)))
    return Response(CONTENT, payload, found)


def entity_tag(message: Message) -> bytes:
    """Return the ETag of a message, 8 letters: it changes with the body, and mostly with each publish.

    An ETag may be any bytes, but there are clients that take it for text (the npm package coap).
    """
    number = (message.timestamp_ms & 0xFFFF) << 32 | zlib.crc32(message.body)
    return urlsafe_b64encode(number.to_bytes(6, "big"))


def _max_age(message: Message, now_ms: int) -> Option:
    """Return the Max-Age option of a message: as long as it lasts, a minute at most."""
    seconds = MAX_AGE_SECONDS
    if message.expires_at_ms:
        seconds = min(seconds, max(0, (message.expires_at_ms - now_ms) // 1000))
    return (MAX_AGE, uint_bytes(seconds))
