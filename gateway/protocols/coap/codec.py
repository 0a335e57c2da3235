"""CoAP messages as bytes and back (RFC 7252, 3): sans-I/O, for datagrams; the options for every transport.

Devices say the same options again and again, so those of a message are found as one run of bytes
(`Packet.block`), and `OptionsCache` remembers what such a run means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .numbers import (
    ACCEPT,
    BLOCK1,
    BLOCK2,
    CONTENT_FORMAT,
    ECHO,
    EMPTY,
    ETAG,
    HOP_LIMIT,
    IF_MATCH,
    IF_NONE_MATCH,
    NO_RESPONSE,
    OBSERVE,
    OPTIONS,
    OSCORE,
    PROXY_SCHEME,
    PROXY_URI,
    REQUEST_TAG,
    SIZE1,
    SIZE2,
    URI_HOST,
    URI_PATH,
    URI_QUERY,
    uint,
)

TOKEN_BYTES_MAX: Final = 8  # RFC 7252, 3; longer ones (RFC 8974) are refused as 9 to 15 are there
PAYLOAD_MARKER: Final = 0xFF
CACHED_MAX: Final = 4096  # runs of options that are remembered
CACHED_BYTES_MAX: Final = 256  # of one run: what is longer is no habit

Option = tuple[int, bytes]


class Malformed(Exception):
    """Bytes that are no CoAP message. `kind` and `mid` are what an answer (RST) needs; kind -1: nothing."""

    def __init__(self, text: str, kind: int = -1, mid: int = 0) -> None:
        super().__init__(text)
        self.kind = kind
        self.mid = mid


class Packet:
    """One message. `block` is its options' bytes, not looked at yet but for their lengths."""

    __slots__ = ("block", "code", "kind", "mid", "payload", "token")

    def __init__(self, kind: int, code: int, mid: int, token: bytes, block: bytes, payload: bytes) -> None:
        self.kind = kind
        self.code = code
        self.mid = mid
        self.token = token
        self.block = block
        self.payload = payload


class Options:
    """What a run of options says. Shared by all messages that have the same bytes: not to be changed.

    Numbers are -1, and values None, where there is none. `critical` is the first critical option that
    nobody here understands, 0 if there is none. `all` are (number, value) as received.
    """

    __slots__ = (
        "accept",
        "all",
        "block1",
        "block2",
        "content_format",
        "critical",
        "echo",
        "etags",
        "hop_limit",
        "host",
        "if_match",
        "if_none_match",
        "login",
        "meaning",
        "no_response",
        "observe",
        "oscore",
        "path",
        "proxy",
        "query",
        "request_tags",
        "size1",
        "size2",
    )

    def __init__(self) -> None:
        self.all: tuple[Option, ...] = ()
        self.path: tuple[str, ...] = ()
        self.query: tuple[str, ...] = ()
        self.etags: tuple[bytes, ...] = ()
        self.if_match: tuple[bytes, ...] = ()
        self.if_none_match = False
        self.content_format = -1
        self.accept = -1
        self.observe = -1
        self.block1 = -1  # as on the wire: number << 4 | more << 3 | size exponent (RFC 7959, 2.2)
        self.block2 = -1
        self.size1 = -1
        self.size2 = -1
        self.no_response = -1
        self.hop_limit = -1
        self.host: str | None = None
        self.echo: bytes | None = None
        self.oscore: bytes | None = None
        self.request_tags: tuple[bytes, ...] = ()
        self.proxy = False
        self.critical = 0
        self.login: tuple[str, str, str, str] | None = None  # what the query says of it (see clients)
        self.meaning: object = None  # what the resource that was asked made of it, to be found again


# -- datagrams --------------------------------------------------------------------------------


def decode(data: bytes) -> Packet:
    """Return the message in a datagram. Raise Malformed."""
    if len(data) < 4:
        raise Malformed(f"{len(data)} bytes are no message")
    first = data[0]
    if first >> 6 != 1:
        raise Malformed(f"version {first >> 6}")  # is silently ignored (RFC 7252, 3)
    kind, length = first >> 4 & 3, first & 15
    code, mid = data[1], data[2] << 8 | data[3]
    if code == EMPTY:
        if len(data) > 4:
            raise Malformed("an empty message with something in it", kind, mid)
        return Packet(kind, code, mid, b"", b"", b"")
    start = 4 + length
    if length > TOKEN_BYTES_MAX or start > len(data):
        raise Malformed(f"a token of {length} bytes", kind, mid)
    end = options_end(data, start)
    if end < 0:
        raise Malformed("options that do not end with the message", kind, mid)
    if end == len(data):
        return Packet(kind, code, mid, data[4:start], data[start:], b"")
    if end + 1 == len(data):
        raise Malformed("a payload marker without payload", kind, mid)
    return Packet(kind, code, mid, data[4:start], data[start:end], data[end + 1 :])


def options_end(data: bytes, at: int) -> int:
    """Return where the options end that begin at `at`: at the payload marker or the end; -1 if malformed."""
    end = len(data)
    while at < end:
        byte = data[at]
        if byte == PAYLOAD_MARKER:
            return at
        delta, length = byte >> 4, byte & 15
        at += 1 + length
        if delta == 13:
            at += 1
        elif delta == 14:
            at += 2
        elif delta == 15:
            return -1
        if length >= 13:
            if length == 15:
                return -1
            # The extended length follows the extended delta.
            extra = at - length
            if length == 13:
                if extra >= end:
                    return -1
                at = extra + 1 + data[extra] + 13
            else:
                if extra + 1 >= end:
                    return -1
                at = extra + 2 + (data[extra] << 8 | data[extra + 1]) + 269
    return at if at == end else -1


def encode(kind: int, code: int, mid: int, token: bytes, options: Sequence[Option], payload: bytes) -> bytes:
    """Return a message as a datagram."""
    head = bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 255))
    block = encode_options(options) if options else b""
    if payload:
        return b"%b%b%b\xff%b" % (head, token, block, payload)
    return head + token + block


def empty(kind: int, mid: int) -> bytes:
    """Return an empty ACK or RST."""
    return bytes((0x40 | kind << 4, EMPTY, mid >> 8, mid & 255))


# -- options ----------------------------------------------------------------------------------


def encode_options(options: Sequence[Option]) -> bytes:
    """Return options as bytes, in the order of their numbers, those of one number in the order given."""
    parts: list[bytes] = []
    last = 0
    for number, value in sorted(options, key=_number):
        delta, length = number - last, len(value)
        last = number
        nibble, extended = _extended(delta)
        size, more = _extended(length)
        parts.append(bytes((nibble << 4 | size,)) + extended + more + value)
    return b"".join(parts)


def _number(option: Option) -> int:
    return option[0]


def _extended(number: int) -> tuple[int, bytes]:
    if number < 13:
        return number, b""
    if number < 269:
        return 13, bytes((number - 13,))
    return 14, (number - 269).to_bytes(2, "big")


def split_options(block: bytes) -> list[Option]:
    """Return (number, value) of a run of options that `options_end` found well-formed."""
    found: list[Option] = []
    at = number = 0
    while at < len(block):
        delta, length = block[at] >> 4, block[at] & 15
        at += 1
        if delta == 13:
            delta = block[at] + 13
            at += 1
        elif delta == 14:
            delta = (block[at] << 8 | block[at + 1]) + 269
            at += 2
        if length == 13:
            length = block[at] + 13
            at += 1
        elif length == 14:
            length = (block[at] << 8 | block[at + 1]) + 269
            at += 2
        number += delta
        found.append((number, block[at : at + length]))
        at += length
    return found


#: Option -> attribute of `Options`, for those that are one number.
_NUMBERS: Final = {
    CONTENT_FORMAT: "content_format",
    ACCEPT: "accept",
    OBSERVE: "observe",
    BLOCK1: "block1",
    BLOCK2: "block2",
    SIZE1: "size1",
    SIZE2: "size2",
    NO_RESPONSE: "no_response",
    HOP_LIMIT: "hop_limit",
}
#: Option -> attribute, for those that are there several times; text where it is UTF-8.
_LISTS: Final = {ETAG: "etags", IF_MATCH: "if_match", REQUEST_TAG: "request_tags"}
_TEXTS: Final = {URI_PATH: "path", URI_QUERY: "query"}
_VALUES: Final = {ECHO: "echo", OSCORE: "oscore"}


def read_options(block: bytes) -> Options:
    """Return what a run of options says. Raise Malformed if a text is no UTF-8."""
    found = Options()
    pairs = split_options(block)
    found.all = tuple(pairs)
    lists: dict[str, list[bytes]] = {}
    texts: dict[str, list[str]] = {}
    seen: set[int] = set()
    for number, value in pairs:
        known = OPTIONS.get(number)
        least, most, repeats = known or (0, -1, True)
        if not least <= len(value) <= most or (number in seen and not repeats):
            if number & 1 and not found.critical:
                found.critical = number
            continue
        seen.add(number)
        if number in _NUMBERS:
            setattr(found, _NUMBERS[number], uint(value))
        elif number in _TEXTS:
            texts.setdefault(_TEXTS[number], []).append(_text(value))
        elif number in _LISTS:
            lists.setdefault(_LISTS[number], []).append(value)
        else:
            _set_other(found, number, value)
    for name, values in lists.items():
        setattr(found, name, tuple(values))
    for name, words in texts.items():
        setattr(found, name, tuple(words))
    return found


def _set_other(found: Options, number: int, value: bytes) -> None:
    if number in _VALUES:
        setattr(found, _VALUES[number], value)
    elif number == URI_HOST:
        found.host = _text(value)
    elif number == IF_NONE_MATCH:
        found.if_none_match = True
    elif number in (PROXY_URI, PROXY_SCHEME):
        found.proxy = True


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed("an option that must be UTF-8 is not") from None


class OptionsCache:
    """Finds what a run of options says, remembering those that come again."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Options] = {}

    def read(self, block: bytes) -> Options:
        """Return what `block` says. Raise Malformed."""
        found = self._known.get(block)
        if found is None:
            found = read_options(block)
            # An Echo, a block number or a partial IV is never said again.
            once = found.echo is not None or found.block1 >= 0 or found.oscore is not None
            if len(block) <= CACHED_BYTES_MAX and not once:
                if len(self._known) >= CACHED_MAX:
                    self._known.clear()
                self._known[block] = found
        return found
