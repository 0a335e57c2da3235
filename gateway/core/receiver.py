"""Live receivers: whoever is connected now and takes what may be lost.

Publishing appends to the inbox; a pump hands the whole inbox over in one call. A peer that
does not read makes its receiver congested: the inbox then fills up to its limits and what
comes after is dropped and counted, while everybody else goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .message import Message, Origin

if TYPE_CHECKING:
    from .router import Binding

INBOX_MESSAGES_MAX = 10_000  # a second of a fast publisher: a pause in reading, not a dead peer
INBOX_BYTES_MAX = 4 << 20  # bodies are shared between receivers, so this bounds the worst case only

#: What a receiver gets: the message, and the (merged) subscription that matched.
Item = tuple[Message, "Binding"]


class Receiver:
    """An inbox. `open` is False while its client is away: messages are dropped then."""

    __slots__ = (
        "bytes",
        "bytes_max",
        "congested",
        "deliver",
        "inbox",
        "messages_max",
        "open",
        "origin",
        "pumping",
    )

    def __init__(
        self,
        origin: Origin,
        deliver: Callable[[list[Item]], None],
        messages_max: int = INBOX_MESSAGES_MAX,
        bytes_max: int = INBOX_BYTES_MAX,
    ) -> None:
        self.origin = origin
        self.deliver = deliver
        self.inbox: list[Item] = []
        self.bytes = 0  # only counted while congested: otherwise the inbox lives for one turn
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.congested = False
        self.open = True
        self.pumping = 0  # messages handed over last: what is lost if that fails

    def hold(self, message: Message, binding: Binding) -> bool:
        """Take a message while congested; False if it is over a limit."""
        self.bytes += len(message.body)
        if len(self.inbox) >= self.messages_max or self.bytes > self.bytes_max:
            self.bytes -= len(message.body)
            return False
        self.inbox.append((message, binding))
        return True

    def pump(self) -> int:
        """Hand over the whole inbox; return how many messages that was."""
        inbox = self.inbox
        if self.congested or not inbox:
            return 0
        self.inbox = []
        self.bytes = 0
        self.pumping = count = len(inbox)
        self.deliver(inbox)
        return count

    def close(self) -> int:
        """Stop taking messages; return how many were never handed over."""
        count = len(self.inbox)
        self.open = False
        self.inbox = []
        self.bytes = 0
        self.deliver = _nowhere  # routes may know this receiver for a while, but not its client
        return count


def _nowhere(batch: list[Item]) -> None:
    """Take what a closed receiver would have been handed: it is not open, so nothing comes."""
