"""What a client over TCP or WebSocket is sent: at its pace, and no longer than it takes (RFC 8323).

TCP takes everything that is written and keeps it until the client reads. So what is written at once is
bounded here: a notification waits, as the response it refers to and not as bytes, until the client has
room; whoever sent it is told so (`done`) no sooner, and has no more than one on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.api import Transport

from ..codec import Option
from ..exchange import Link, Response
from ..numbers import INTERNAL_SERVER_ERROR
from .stream_codec import BASE_BYTES_MAX, encode_frame, encode_message

#: What is written before the socket had its turn, of notifications, and of answers: as much as one read
#: brings, or one message that is larger.
WRITTEN_BYTES_MAX: Final = 256 * 1024
#: What of a message its header, token and options may need; RFC 7252, 4.6 counts with as much.
OVERHEAD_BYTES: Final = 128
#: The least Max-Message-Size that is taken: a header, a token and a block of 16 bytes with its options.
MESSAGE_BYTES_MIN: Final = 64


class Notice:
    """A notification that is not done."""

    __slots__ = ("done", "response", "token")

    def __init__(self, token: bytes, response: Response, done: Callable[[bool], None]) -> None:
        self.token = token
        self.response = response
        self.done = done


class StreamLink(Link):
    """One client over TCP, TLS or WebSocket. `bert`: it takes blocks of several KiB (RFC 8323, 6)."""

    __slots__ = (
        "_encode",
        "_sent",
        "_telling",
        "_transport",
        "_waiting",
        "_wake",
        "block_wise",
        "closed",
        "congested",
        "message_bytes_max",
        "noticed",
    )

    def __init__(self, transport: Transport, whole_messages: bool, wake: Callable[[], None]) -> None:
        secure = transport.secure
        super().__init__(transport.peer, secure, reliable=True, size_max=BASE_BYTES_MAX - OVERHEAD_BYTES)
        if secure:
            self.certificate = transport.certificate
        self.block_wise = False  # the client knows blocks (RFC 8323, 5.3.2)
        self.message_bytes_max = BASE_BYTES_MAX  # that the client takes (5.3.1)
        self.closed = False
        self.congested = False
        self.noticed = 0  # bytes of notifications since the last turn
        self._transport = transport
        self._encode = encode_message if whole_messages else encode_frame
        self._wake = wake  # asks for `turn` soon, and not now
        self._waiting: list[Notice] = []  # not written: the client has no room
        self._sent: list[Notice] = []  # written, and nobody told
        self._telling: list[Notice] = []  # those that are being told

    @property
    def open(self) -> bool:
        return not self.closed

    def agree(self, message_bytes_max: int, block_wise: bool) -> None:
        """Take what a CSM says; what it does not say stays as it was (RFC 8323, 5.3)."""
        self.message_bytes_max = message_bytes_max
        self.block_wise = block_wise
        self.size_max = max(message_bytes_max - OVERHEAD_BYTES, message_bytes_max // 2)
        self.bert = block_wise and message_bytes_max > BASE_BYTES_MAX

    def send(self, code: int, token: bytes, options: Sequence[Option], payload: bytes) -> int:
        """Write a message; of an answer that the client does not take, why. Return its bytes."""
        data = self._encode(code, token, options, payload)
        if len(data) > self.message_bytes_max:
            text = b"the answer is longer than your Max-Message-Size; ask for it in blocks"
            fits = self.message_bytes_max >= OVERHEAD_BYTES
            data = self._encode(INTERNAL_SERVER_ERROR, token, (), text if fits else b"")
        self._transport.write(data)
        return len(data)

    # -- notifications ------------------------------------------------------------------------

    def notify(
        self, token: bytes, response: Response, confirmable: bool, done: Callable[[bool], None]
    ) -> None:
        notice = Notice(token, response, done)
        if self._waiting or self.closed or self._full():
            self._waiting.append(notice)
        else:
            self._write(notice)
        self._wake()

    def _full(self) -> bool:
        return self.congested or self.noticed >= WRITTEN_BYTES_MAX

    def _write(self, notice: Notice) -> None:
        response = notice.response
        self.noticed += self.send(response.code, notice.token, response.options, response.payload)
        self._sent.append(notice)

    def drop_pending(self, token: bytes) -> None:
        self._waiting = [notice for notice in self._waiting if notice.token != token]
        for notices in (self._sent, self._telling):
            for notice in notices:
                if notice.token == token:
                    notice.done = _unheard

    def turn(self) -> None:
        """The socket has had its turn: tell of what it took, write what waits, if the client reads."""
        if self.closed:
            self.fail()
            return
        self.noticed = 0
        if self.congested:
            return
        self._telling, self._sent = self._sent, []
        self._tell(True)
        count = 0
        waiting = self._waiting
        while count < len(waiting) and not self._full():
            self._write(waiting[count])
            count += 1
        del waiting[:count]
        if self._sent or (waiting and not self.congested):
            self._wake()

    def fail(self) -> None:
        """Nothing is sent any more: tell whoever waits."""
        self.closed = True
        self._telling = [*self._sent, *self._waiting]
        self._sent, self._waiting = [], []
        self._tell(False)

    def _tell(self, sent: bool) -> None:
        for notice in self._telling:
            notice.done(sent)
        self._telling = []

    def forget(self) -> None:
        """The connection is gone, and everybody knows: leave no cycle behind."""
        self._wake = _nothing


def _nothing() -> None:
    """Nobody is there any more."""


def _unheard(sent: bool) -> None:
    """Nobody wants to know any more."""
