"""Security contexts of OSCORE (RFC 8613, 3), and the one row of numbers that all of them take theirs from.

A context is made of a user's key when a request names it, and is kept once a request has proven to be
made with that key. It is in memory alone: after a start, or when it was forgotten, the first request is
answered by a challenge (Echo; RFC 8613, B.1.2), and what was recorded before does not pass.

What must outlive us is which numbers were used, as a nonce must never come twice with a key
(RFC 8613, 7.2.1). So there is one row of numbers for all contexts, ahead of which a whole block is
noted on disk (B.1.1): a context that was forgotten, a user who is deleted and comes again, two devices
with one key, none of them needs to be remembered for it.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from gateway.api import Gateway
from gateway.core.access import Principal

from ..answers import Refused
from ..numbers import UNAUTHORIZED
from .oscore_codec import ID_BYTES_MAX, OWN_ID, Header, Keys, new_window, number_bytes

if TYPE_CHECKING:
    from .oscore import OscoreLink

KIND: Final = "oscore"
CONTEXTS_MAX: Final = 20_000  # in memory, some 3 kB each; the one longest unheard of is forgotten
CONTEXTS_OF_KEY_MAX: Final = 256  # who has a key may name as many devices, and crowds out no one else's
LINKS_MAX: Final = 8  # addresses that one device is heard from: the last ones
CHALLENGE_BYTES: Final = 8  # RFC 9175, 5 asks for 64 bits where others might guess
CHALLENGE_KEY_BYTES: Final = 16

NUMBERS_KEY: Final = "coap/oscore/numbers"  # in the engine: all below it may have been used
NUMBERS_BLOCK: Final = 4096  # are noted as used at once: one small write for so many notifications
NUMBERS_END: Final = 1 << 40  # RFC 8613, 7.2.1: partial IVs have 5 bytes
NUMBERS_WAITING_MAX: Final = 10_000  # notifications that wait for the disk: a bit more than 2 blocks
RETRY_MS: Final = 1000  # after the disk would not take the note
# Numbers also follow the clock, so that a data directory that is lost, or put back from a backup, is no
# harm: 512 a second from 2023 on last until 2091.
CLOCK_EPOCH_MS: Final = 1_672_531_200_000
CLOCK_RATE: Final = 512
# Where nothing outlives a stop, the clock alone keeps them apart: nobody may be ahead of it by more than
# a start takes.
CLOCK_AHEAD: Final = CLOCK_RATE // 4
CLOCK_WAIT_MS: Final = 10  # some five numbers

Take = Callable[[bytes], None]


def by_clock(wall_ms: int) -> int:
    """Return the number that belongs to a time (Unix, ms)."""
    return max(0, wall_ms - CLOCK_EPOCH_MS) * CLOCK_RATE // 1000


class Numbers:
    """Hands out numbers none of which was ever handed out before."""

    __slots__ = ("_asking", "_gateway", "_kept", "_limit", "_next", "_waiting", "scheduler")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.scheduler = gateway.scheduler
        config = gateway.config
        self._kept = config is None or config.storage.engine != "memory"
        noted = int.from_bytes(gateway.broker.engine.get(NUMBERS_KEY) or b"", "big")
        self._next = max(noted, by_clock(gateway.clock.wall_ms))
        self._limit = self._next
        self._asking = False
        self._waiting: deque[Take] = deque()

    def take(self, call: Take) -> bool:
        """Call with a partial IV, now or when the disk has noted it; False: there is none.

        In the order asked, as what is sent later counts as newer. Those who wait while numbers end get b"".
        """
        if self._next < self._limit and not self._waiting:
            call(self._one())
        elif len(self._waiting) >= NUMBERS_WAITING_MAX or self._next >= NUMBERS_END:
            return False
        else:
            self._waiting.append(call)
        if not self._asking and self._limit - self._next < NUMBERS_BLOCK // 2:
            self._ask()
        return True

    def _one(self) -> bytes:
        number = self._next
        assert number < self._limit
        self._next = number + 1
        return number_bytes(number)

    def _ask(self) -> None:
        """Have the next block noted."""
        self._asking = False
        goal = min(max(self._next, self._limit) + NUMBERS_BLOCK, NUMBERS_END)
        if not self._kept:
            goal = min(goal, by_clock(self._gateway.clock.wall_ms) + CLOCK_AHEAD)
        if goal > self._limit:
            self._asking = True
            engine = self._gateway.broker.engine
            engine.put(NUMBERS_KEY, goal.to_bytes(6, "big"))
            self._gateway.when_durable(engine.position(), lambda stored: self._noted(goal, stored))
        elif self._next >= NUMBERS_END:
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                call(b"")
        elif self._waiting:
            self._asking = True
            self.scheduler.after(CLOCK_WAIT_MS, self._ask)

    def _noted(self, goal: int, stored: bool) -> None:
        self._asking = False
        if not stored:
            self._asking = True
            self.scheduler.after(RETRY_MS, self._ask)
            return
        self._limit = goal
        while self._waiting and self._next < self._limit:
            self._waiting.popleft()(self._one())
        if self._waiting:
            self._ask()


class Context:
    """One device's security context: a user's key, and which of the user's devices."""

    __slots__ = ("_challenge", "device", "identity", "key", "keys", "links", "name", "principal", "window")

    def __init__(self, name: tuple[bytes | None, bytes], identity: bytes, key: bytes) -> None:
        """Raise ImportError if the library is not there."""
        self.name = name
        self.device = f"oscore:{'' if name[0] is None else '+'}{name[1].hex()}"  # among its user's
        self.identity = identity
        self.key = key
        self.principal: Principal | None = None
        self.keys = Keys(key, name[1], name[0])
        self.window: Any = new_window()
        self._challenge = os.urandom(CHALLENGE_KEY_BYTES)
        self.links: dict[object, OscoreLink] = {}  # by the link it came by, the one heard of last at the end

    def echo(self, peer: str) -> bytes:
        """Return what the device has to repeat at an address; nobody was told it before us."""
        return blake2b(peer.encode(), key=self._challenge, digest_size=CHALLENGE_BYTES).digest()


class Contexts:
    """Those that have proven themselves."""

    __slots__ = ("_gateway", "_known", "_of_identity", "on_gone")

    def __init__(self, gateway: Gateway, on_gone: Callable[[OscoreLink], None]) -> None:
        self._gateway = gateway
        self.on_gone = on_gone
        self._known: OrderedDict[tuple[bytes | None, bytes], Context] = OrderedDict()
        self._of_identity: dict[bytes, list[Context]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, header: Header) -> Context:
        """Return the context that a request names; not kept if it is new. Raise Refused, or ImportError.

        The user is whom the kid context names, or the kid if there is none (a sender id has 7 bytes at
        the most, which few names fit). The key is asked for each time: an administrator may change it.
        """
        name = (header.kid_context, header.kid)
        identity = header.kid if header.kid_context is None else header.kid_context
        known = self._known.get(name)
        shared = None
        if len(header.kid) <= ID_BYTES_MAX and header.kid != OWN_ID:
            shared = self._gateway.shared_key(KIND, identity)
        if known is not None and (shared is None or shared.key != known.key):
            self._forget(known)
            known = None
        if shared is None:
            raise Refused(UNAUTHORIZED, "Security context not found")
        if known is None:
            known = Context(name, identity, shared.key)
        if known.principal is None or not _same(known.principal, shared.principal):
            self._leave(known)  # its sessions are another's now
            known.principal = shared.principal
        return known

    def keep(self, context: Context) -> None:
        """A request was made with this context's key: it is the latest."""
        name = context.name
        if name in self._known:
            self._known.move_to_end(name)
            return
        of_identity = self._of_identity.setdefault(context.identity, [])
        if len(of_identity) >= CONTEXTS_OF_KEY_MAX:
            self._forget(of_identity[0])
        elif len(self._known) >= CONTEXTS_MAX:
            self._forget(next(iter(self._known.values())))
        self._known[name] = context
        self._of_identity.setdefault(context.identity, []).append(context)

    def _forget(self, context: Context) -> None:
        del self._known[context.name]
        of_identity = self._of_identity[context.identity]
        of_identity.remove(context)
        if not of_identity:
            del self._of_identity[context.identity]
        self._leave(context)

    def _leave(self, context: Context) -> None:
        links = list(context.links.values())
        context.links.clear()
        for link in links:
            self.on_gone(link)


def _same(one: Principal, other: Principal) -> bool:
    return (one.name, one.admin, one.groups) == (other.name, other.admin, other.groups)
