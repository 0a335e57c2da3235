"""CoAP messages over TCP, TLS and WebSocket (RFC 8323, 3.2 and 4.2): sans-I/O, bytes in, packets out.

There is no type and no message id, as there is nothing to acknowledge. Over TCP a length comes first; a
WebSocket message is one CoAP message, whose length is said to be 0. A message that is too long is refused
by its first bytes, before the rest is kept; so is anything that comes before the peer's CSM.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from ..codec import TOKEN_BYTES_MAX, Malformed, Option, Packet, encode_options, options_end
from ..numbers import ABORT, CON, CSM, EMPTY, code_name

#: Of a message until the peer has read our CSM, and of any signalling message: what everybody must take
#: (RFC 8323, 5.3.1), and no option of signalling needs more.
BASE_BYTES_MAX: Final = 1152

#: Len -> (bytes of the extended length, what is added to it); RFC 8323, 3.2.
_EXTENDED: Final = {13: (1, 13), 14: (2, 269), 15: (4, 65805)}
#: What may be the first message: a CSM (3.3), nothing at all (3.4), and goodbye.
_FIRST: Final = frozenset({CSM, EMPTY, ABORT})


class Decoder:
    """What both ways of framing have in common. After `error` is set nothing more is found."""

    __slots__ = ("_begun", "_size_max", "error")

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._begun = False  # the peer's CSM has come
        self.error: Malformed | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        raise NotImplementedError

    def next(self) -> Packet | None:
        """Return the next message, None if there is no whole one (or never will be: see `error`)."""
        raise NotImplementedError

    def _admit(self, code: int, size: int) -> bool:
        """Tell whether a message may come, by its code and its length with everything."""
        if not self._begun:
            if code not in _FIRST:
                self.error = Malformed(f"the first message must be a CSM (7.01), not {code_name(code)}")
                return False
            self._begun = code == CSM
        size_max = self._size_max if code >> 5 != 7 and code != EMPTY else BASE_BYTES_MAX
        if size > size_max:
            self.error = Malformed(f"a message of {size} bytes; {size_max} at most are taken")
            return False
        return True

    def _packet(self, code: int, token: bytes, body: bytes) -> Packet | None:
        """Return the message whose options and payload are `body`."""
        end = options_end(body, 0) if body else 0
        if end == len(body):
            return Packet(CON, code, 0, token, body, b"")
        if end < 0:
            self.error = Malformed("options that do not end with the message")
            return None
        if end + 1 == len(body):
            self.error = Malformed("a payload marker without payload")
            return None
        return Packet(CON, code, 0, token, body[:end], body[end + 1 :])


class FrameDecoder(Decoder):
    """Messages in a stream of bytes that may be cut anywhere."""

    __slots__ = ("_at", "_data", "_held", "_need")

    def __init__(self, size_max: int) -> None:
        super().__init__(size_max)
        self._data = b""
        self._at = 0  # where the next message begins in `_data`
        self._held = bytearray()  # the beginning of a message whose end has not come
        self._need = 0  # bytes of `_held` without which there is no use in looking at it again

    def feed(self, data: bytes) -> None:
        if self.error is not None:
            return
        held = self._held
        if held:
            held += data
            if len(held) < self._need:
                return
            data = bytes(held)
            self._held = bytearray()
        elif self._at < len(self._data):
            data = self._data[self._at :] + data
        self._data, self._at = data, 0

    def next(self) -> Packet | None:
        data, at = self._data, self._at
        have = len(data) - at
        if have <= 0 or self.error is not None:
            return None
        length, token_length = data[at] >> 4, data[at] & 15
        if token_length > TOKEN_BYTES_MAX:  # RFC 7252, 3: 9 to 15 are a format error
            self.error = Malformed(f"a token of {token_length} bytes")
            return None
        head = 2
        if length >= 13:
            more, added = _EXTENDED[length]
            head += more
            length = int.from_bytes(data[at + 1 : at + 1 + more], "big") + added
        if have < head:
            self._hold(head)
            return None
        size = head + token_length + length
        code = data[at + head - 1]
        if not self._admit(code, size):
            return None
        if have < size:
            self._hold(size)
            return None
        start = at + head + token_length
        self._at = end = at + size
        return self._packet(code, data[at + head : start], data[start:end])

    def _hold(self, need: int) -> None:
        """Keep what is left until `need` bytes are there: not to be copied again with each read."""
        self._held += self._data[self._at :]
        self._need = need
        self._data, self._at = b"", 0


class MessageDecoder(Decoder):
    """Messages that come whole: those of a WebSocket."""

    __slots__ = ("_waiting",)

    def __init__(self, size_max: int) -> None:
        super().__init__(size_max)
        self._waiting: deque[bytes] = deque()

    def feed(self, data: bytes) -> None:
        if self.error is None:
            self._waiting.append(data)

    def next(self) -> Packet | None:
        if not self._waiting or self.error is not None:
            return None
        data = self._waiting.popleft()
        if len(data) < 2:
            self.error = Malformed(f"{len(data)} bytes are no message")
            return None
        length, token_length = data[0] >> 4, data[0] & 15
        if length:  # RFC 8323, 4.2
            self.error = Malformed(f"Len is {length}; over WebSocket it must be 0")
            return None
        start = 2 + token_length
        if token_length > TOKEN_BYTES_MAX or start > len(data):
            self.error = Malformed(f"a token of {token_length} bytes")
            return None
        if not self._admit(data[1], len(data)):
            return None
        return self._packet(data[1], data[2:start], data[start:])


def encode_frame(code: int, token: bytes, options: Sequence[Option], payload: bytes) -> bytes:
    """Return a message as it goes over TCP."""
    block = encode_options(options) if options else b""
    length = len(block) + len(payload) + 1 if payload else len(block)
    if length < 13:
        head = bytes((length << 4 | len(token), code))
    elif length < 269:
        head = bytes((0xD0 | len(token), length - 13, code))
    elif length < 65805:
        head = b"%c%b%c" % (0xE0 | len(token), (length - 269).to_bytes(2, "big"), code)
    else:
        head = b"%c%b%c" % (0xF0 | len(token), (length - 65805).to_bytes(4, "big"), code)
    if payload:
        return b"%b%b%b\xff%b" % (head, token, block, payload)
    return head + token + block


def encode_message(code: int, token: bytes, options: Sequence[Option], payload: bytes) -> bytes:
    """Return a message as it goes in one WebSocket message."""
    head = bytes((len(token), code))
    block = encode_options(options) if options else b""
    if payload:
        return b"%b%b%b\xff%b" % (head, token, block, payload)
    return head + token + block
