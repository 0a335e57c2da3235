"""One observation (RFC 7641): its notifications, one after the other, and their pace.

Messages are events, and none is left out while the client keeps up: a notification goes out at once,
unless one that must be acknowledged is on its way; what comes meanwhile waits, up to a limit, and the
oldest go first (the newest is the state that every observer must reach in the end, 1.3).

Now and then a notification is confirmable whatever was asked for, so that a client that is gone is
noticed (4.5), and so that nobody is sent more than it takes: after `UNCONFIRMED_MAX` that were not, and
when the last one was long ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.api import Gateway
from gateway.core.message import Message
from gateway.core.metrics import DropCause

from ..answers import Refused, answer_to
from ..blockwise import Blockwise
from ..codec import Option, Options
from ..exchange import Link, Response, unheard
from ..numbers import GET, LOCATION_PATH, OBSERVE, uint_bytes
from .representation import represent

UNCONFIRMED_MAX: Final = 8  # notifications between two that are acknowledged: a window of NSTART's spirit
DAY_MS: Final = 86_400_000
CONFIRM_MS: Final = 60_000  # when the last acknowledgement is older, the next is asked for
WAITING_MAX: Final = 1000  # messages for a client that does not keep up; references, not copies
SEQUENCE_MASK: Final = 0xFFFFFF  # 24 bits (RFC 7641, 2)
SEQUENCE_SHIFT: Final = 3  # it begins at the time in 8 ms: later ones begin higher, also after a restart


class Surroundings:
    """What observations need of those who keep them."""

    __slots__ = ("_gateway", "blockwise")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.blockwise: Blockwise | None = None

    @property
    def now_ms(self) -> int:
        return self._gateway.clock.wall_ms

    def represent(self, options: Options, message: Message) -> Response:
        """Return a message as the representation that a GET with these options gets. Raise Refused."""
        return represent(options, message, self._gateway.clock.now_ms, validate=False)

    def cut(self, link: Link, options: Options, response: Response) -> Response:
        """Return the first block of a notification that is too large for one message."""
        return self.blockwise.cut(link, GET, options, response) if self.blockwise else response

    def later(self, call: Callable[[], None]) -> None:
        """Call when whoever calls now has returned."""
        self._gateway.scheduler.after(0, call)

    def lost(self, count: int) -> None:
        """So many messages were dropped, as their client did not keep up."""
        self._gateway.broker.metrics.drop(DropCause.SLOW_SUBSCRIBER, count)

    def ended(self, observation: Observation) -> None:
        """The client refused a notification, or did not acknowledge it."""
        raise NotImplementedError


class Observation:
    """What a client observes by one token over one link."""

    __slots__ = (
        "check_ms",
        "confirmed_ms",
        "filter",
        "flying",
        "id",
        "link",
        "named",
        "options",
        "qos",
        "sequence",
        "surroundings",
        "token",
        "unconfirmed",
        "waiting",
    )

    def __init__(
        self,
        surroundings: Surroundings,
        id: int,
        link: Link,
        token: bytes,
        topic_filter: str,
        options: Options,
        qos: int,
    ) -> None:
        self.surroundings = surroundings
        self.id = id  # as subscriptions know it (`Binding.ids`)
        self.link = link
        self.token = token
        self.filter = topic_filter
        self.options = options  # of the request that began it: further blocks are fetched by the same
        self.named = "+" in topic_filter or "#" in topic_filter  # a notification says its topic
        self.qos = qos
        self.check_ms = DAY_MS  # at the latest, a notification is confirmable after so long (4.5)
        self.sequence = surroundings.now_ms >> SEQUENCE_SHIFT & SEQUENCE_MASK
        self.confirmed_ms = surroundings.now_ms  # the registration itself has shown that the client is there
        self.unconfirmed = 0
        self.flying: Message | None = None  # what has to arrive before the next may go
        self.waiting: deque[Message] | None = None

    def moved(self, link: Link) -> None:
        """The client has come by another link: from now on notifications go there."""
        self.link.drop_pending(self.token)
        self.link.held -= 1
        self.link = link
        link.held += 1
        self.waiting = self.pending()
        self.flying = None
        self.confirmed_ms = self.surroundings.now_ms

    def pending(self) -> deque[Message] | None:
        """Return what the client has not acknowledged, or was not sent; None if there is nothing."""
        if self.flying is None:
            return self.waiting
        found = self.waiting or deque()
        found.appendleft(self.flying)
        return found

    def close(self) -> None:
        """No more notifications."""
        self.link.drop_pending(self.token)
        self.link.held -= 1
        self.waiting = None

    # -- notifications ------------------------------------------------------------------------

    def first(self, response: Response) -> Response:
        """Return the answer to the registration: the state there is, and that it is observed."""
        response.options = [self._observe(), *response.options]
        return response

    def offer(self, message: Message) -> None:
        """Notify of a message, or keep it until the client has acknowledged what it was sent before."""
        if self.flying is None:
            self._send(message)
            return
        waiting = self.waiting
        if waiting is None:
            waiting = self.waiting = deque()
        elif len(waiting) >= WAITING_MAX:
            waiting.popleft()
            self.surroundings.lost(1)
        waiting.append(message)

    def _send(self, message: Message) -> None:
        confirmable = self.due() or (self.qos > 0 and message.qos > 0)
        if confirmable or self.link.reliable:
            self.flying = message
        else:
            self.unconfirmed += 1
        self.notify(message, confirmable, self._sent)

    def due(self) -> bool:
        """Tell whether the client has to show that it is there."""
        if self.unconfirmed >= UNCONFIRMED_MAX:
            return True
        return self.surroundings.now_ms - self.confirmed_ms >= min(CONFIRM_MS, self.check_ms)

    def notify(self, message: Message, confirmable: bool, done: Callable[[bool], None]) -> None:
        """Send a notification of a message."""
        options = self.options
        try:
            response = self.surroundings.represent(options, message)
        except Refused as error:  # the first of another format than the client accepts (RFC 7641, 4.2)
            self.fail(answer_to(error))
            self.surroundings.later(partial(done, False))
            return
        found = [self._observe(), *response.options]
        if self.named:
            found += [(LOCATION_PATH, level.encode()) for level in ("ps", *message.topic.split("/"))]
        response.options = found
        if len(response.payload) > self.link.size_max or options.block2 >= 0:
            response = self.surroundings.cut(self.link, options, response)
        self.link.notify(self.token, response, confirmable, done)

    def fail(self, response: Response) -> None:
        """Tell the client by an error that it observes no more (RFC 7641, 3.2 and 4.2); then `close`."""
        self.link.notify(self.token, response, False, unheard)

    def _sent(self, arrived: bool) -> None:
        if not arrived:
            self.surroundings.ended(self)
            return
        self.flying = None
        self.unconfirmed = 0
        self.confirmed_ms = self.surroundings.now_ms
        self.resume()

    def resume(self) -> None:
        """Send what waits."""
        waiting = self.waiting
        while waiting and self.flying is None:
            self._send(waiting.popleft())

    def _observe(self) -> Option:
        self.sequence = self.sequence + 1 & SEQUENCE_MASK
        return (OBSERVE, uint_bytes(self.sequence))
