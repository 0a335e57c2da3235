"""DTLS 1.2 for one UDP socket (RFC 6347; RFC 7252, 9): from addresses to associations.

Sans-I/O. `Dtls.receive` takes each datagram with its address; the `User` behind it sends datagrams, and
sees associations: `opened`, then `received` for what is in each record, then `closed`, once. It answers
with `Association.send`, ends one with `close`, and reads `peer`, `principal` (of a pre-shared key) and
`certificate` (that of the client, verified). An association is one client whatever becomes of its
address's other handshakes: RFC 6347, 4.2.8 has the old one live until the new one has proved itself.

What costs memory comes last: datagrams are looked at, then a ClientHello must bring back a cookie, then
there must be room. Connection IDs (RFC 9146) are not in OpenSSL: a client whose port changes must say
hello again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address
from typing import Final, Protocol

import structlog
from OpenSSL import SSL

from gateway.api import AuthenticationFailed, Credentials, Gateway, Scheduler, SharedKey, TlsMaterial

from .dtls_association import Address, Association, drain
from .dtls_context import Cookies, DtlsContext, Unusable, lib
from .dtls_records import HANDSHAKE, Record, hello_random, read_records

log = structlog.get_logger("gateway")

#: Handshakes under way, 100 KB each: who shows as many addresses as that gets 100 MB, and no more.
HANDSHAKES_MAX: Final = 1024
#: Of one host, or /64: behind an address translator a fleet comes back at once, but is not all of the room.
HANDSHAKES_PER_HOST_MAX: Final = 256
#: Whoever was silent so long makes room for the next when there is none: many have long had another port.
STALE_MS: Final = 30 * 60_000
STALE_AT_ONCE: Final = 64  # how many go then, so that not every newcomer has them looked for
LOG_INTERVAL_MS: Final = 1000  # who tries ten thousand times a second fills no disk


class User(Protocol):
    """Who is behind the encryption: a socket's other half."""

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram."""

    def opened(self, association: Association) -> None:
        """A client has finished its handshake."""

    def received(self, association: Association, data: bytes) -> None:
        """A client has sent this, in one record."""

    def closed(self, association: Association) -> None:
        """It has ended, whoever wanted that. Called once for each that was `opened`."""


class Dtls:
    """All associations of one socket. `counts` are datagrams and handshakes, by what became of them."""

    __slots__ = (
        "_coming",
        "_context",
        "_cookies",
        "_door",
        "_gateway",
        "_hosts",
        "_idle_ms",
        "_listener",
        "_logged_ms",
        "_material",
        "_unsaid",
        "_user",
        "associations",
        "counts",
    )

    def __init__(self, gateway: Gateway, door: str, user: User, idle_seconds: float) -> None:
        """Load what `[tls]` has for `door`. Raise OSError if OpenSSL does not take it."""
        self.associations: dict[Address, Association] = {}
        self.counts: dict[str, int] = {}
        self._gateway = gateway
        self._door = door
        self._user = user
        self._idle_ms = int(idle_seconds * 1000)
        self._cookies = Cookies(_clock(gateway.scheduler))
        self._material: TlsMaterial = gateway.tls_material(door)
        try:
            self._context = DtlsContext(self._material, self._cookies)
        except Unusable as error:
            raise OSError(f"DTLS cannot use what [tls] says: {error}") from error
        self._listener: SSL.Connection | None = None
        self._coming: dict[Address, Association] = {}  # handshakes under way
        self._hosts: dict[str, int] = {}  # how many of them each host has
        self._logged_ms = -LOG_INTERVAL_MS
        self._unsaid = 0  # failures since the last that was logged

    def __len__(self) -> int:
        """Return how many clients there are, handshakes under way among them."""
        return len(self.associations) + len(self._coming)

    @property
    def handshakes(self) -> int:
        """How many handshakes are under way."""
        return len(self._coming)

    def receive(self, data: bytes, address: Address) -> None:
        """Take a datagram from the network. Never raises."""
        records = read_records(data)
        if not records:
            self._count("garbage")
            return
        current, coming = self.associations.get(address), self._coming.get(address)
        random = hello_random(data, records[0])
        if random and (coming is None or coming.random != random):
            if current is not None and current.random == random:
                self._count("late")  # the ClientHello of the handshake that is over, come again
            else:
                self._hello(data[: records[0].end], address, random)
        elif current is None and coming is None:
            self._count("unknown")
        elif not self._offer(data, records, current, coming):
            self._count("unreadable")

    def confirm(self, association: Association) -> None:
        """Look whether the key that an association was made with is still its user's.

        Raise AuthenticationFailed; the client is then soon told goodbye, and shakes hands again.
        """
        if not association.identity:
            return
        found = self.find_key(association.identity)
        if found is None or found.key != association.key:
            self.scheduler.after(0, association.close)
            raise AuthenticationFailed("the key of this association is not its user's any more")
        association.principal = found.principal

    def close(self) -> None:
        """Say goodbye to all."""
        for association in list(self._coming.values()):
            self._forget(association)
            association.abandon()
        for association in list(self.associations.values()):
            association.close()

    # -- a datagram of somebody known ---------------------------------------------------------------

    def _offer(
        self, data: bytes, records: list[Record], current: Association | None, coming: Association | None
    ) -> bool:
        """Give a datagram to whom it is for; False if nobody could do anything with it.

        With a handshake under way beside an association, a record does not say whose it is; its key does.
        """
        if coming is None:
            return current is not None and current.receive(data, records)
        if current is None or not records[0].epoch:
            coming.receive(data, records)
            return True  # it is part of a handshake, or waits for its end
        if records[0].kind == HANDSHAKE:
            return coming.receive(data, records) or current.receive(data, records)
        return current.receive(data, records) or coming.receive(data, records)

    # -- ClientHello: nothing is kept of who has not shown where it is (RFC 6347, 4.2.1) ------------

    def _hello(self, hello: bytes, address: Address, random: bytes) -> None:
        listener = self._listening()
        self._cookies.about = repr(address).encode() + random
        lib.ERR_clear_error()
        listener.bio_write(hello)
        try:
            listener.DTLSv1_listen()
        except SSL.WantReadError:  # the answer to one without a cookie, or a wrong one: try again with this
            answer = drain(listener)
            self._count("asked" if answer else "garbage")
            if answer:
                self._user.send(answer, address)
            return
        except SSL.Error:
            self._listener = None
            self._count("garbage")
            return
        if not self._room(address):
            self._listener = None
            self._count("refused")
            return
        self._listener = None
        self._begin(listener, hello, address, random)

    def _listening(self) -> SSL.Connection:
        """Return the connection that answers whoever says hello, with the certificates as they are now."""
        material = self._gateway.tls_material(self._door)
        if material is not self._material:
            self._material = material  # once: what is wrong with it does not change either
            self._listener = None
            try:
                self._context = DtlsContext(material, self._cookies)
            except Unusable as error:
                log.error(
                    "DTLS: certificates not reloaded; those loaded before stay in use", reason=str(error)
                )
        if self._listener is None:
            self._listener = self._context.connection()
        return self._listener

    def _room(self, address: Address) -> bool:
        """Tell whether one more handshake may begin there."""
        if address in self._coming:
            return True  # it takes the place of the other
        full = len(self._coming) >= HANDSHAKES_MAX
        if full or self._hosts.get(_host(address), 0) >= HANDSHAKES_PER_HOST_MAX:
            return False
        connections_max: int = self._gateway.config.limits.connections_max
        if self._gateway.connections() < connections_max or address in self.associations:
            return True
        return self._make_room()

    def _make_room(self) -> bool:
        """Let go of some that have long been silent; False if there is none."""
        before_ms = self.scheduler.now_ms - STALE_MS
        stale = [one for one in self.associations.values() if one.heard_ms < before_ms]
        stale.sort(key=_heard_ms)
        for association in stale[:STALE_AT_ONCE]:
            self._count("displaced")
            association.close()
        return bool(stale)

    def _begin(self, tls: SSL.Connection, hello: bytes, address: Address, random: bytes) -> None:
        before = self._coming.get(address)
        if before is not None:
            self._forget(before)
            before.abandon()
        coming = Association(self, self._context, tls, address, random)
        self._coming[address] = coming
        host = _host(address)
        self._hosts[host] = self._hosts.get(host, 0) + 1
        limit_ms = int(self._gateway.config.limits.handshake_seconds_max * 1000)
        coming.deadline = self.scheduler.after(limit_ms, partial(self._expire, coming))
        self._count("begun")
        coming.receive(hello, read_records(hello))  # listening has read it, and keeps nothing

    def _forget(self, coming: Association) -> None:
        """A handshake is under way no more."""
        del self._coming[coming.address]
        host = _host(coming.address)
        left = self._hosts[host] - 1
        if left:
            self._hosts[host] = left
        else:
            del self._hosts[host]

    def _expire(self, coming: Association) -> None:
        self._forget(coming)
        coming.abandon()
        self._failed(coming, "it takes too long")

    def _failed(self, coming: Association, reason: str) -> None:
        """Tell of a handshake that came to nothing: at once, but in the log not too often."""
        self._count("failed")
        if coming.identity and coming.tried:
            # A Finished that cannot be decrypted is dropped like any such record (RFC 6347, 4.1.2.7).
            reason = "wrong key" if coming.principal is not None else "unknown identity"
            name = coming.identity.decode("utf-8", "replace")
            self._gateway.login_refused(
                Credentials("coap", coming.peer, username=name, method="PSK"), f"DTLS: {reason}"
            )
        now_ms = self.scheduler.now_ms
        if now_ms - self._logged_ms < LOG_INTERVAL_MS:
            self._unsaid += 1
            return
        more = {"unsaid": self._unsaid} if self._unsaid else {}
        self._logged_ms, self._unsaid = now_ms, 0
        log.info("DTLS handshake failed", door=self._door, peer=coming.peer, reason=reason, **more)

    # -- what associations call ---------------------------------------------------------------------

    @property
    def scheduler(self) -> Scheduler:
        """The gateway's timers."""
        return self._gateway.scheduler

    def find_key(self, identity: bytes) -> SharedKey | None:
        return self._gateway.shared_key("psk", identity)

    def send(self, data: bytes, address: Address) -> None:
        self._user.send(data, address)

    def established(self, association: Association) -> None:
        """RFC 6347, 4.2.8: now, and not before, what was there with this client is no more."""
        self._forget(association)
        self.scheduler.cancel(association.deadline)
        before = self.associations.get(association.address)
        self.associations[association.address] = association
        self._wait_for_silence(association, self._idle_ms)
        if before is not None:
            before.abandon()
            self._user.closed(before)
            self._count("replaced")
        self._count("opened")
        self._user.opened(association)

    def received(self, association: Association, data: bytes) -> None:
        self._user.received(association, data)

    def ended(self, association: Association, reason: str) -> None:
        address = association.address
        if self._coming.get(address) is association:
            self._forget(association)
            self._failed(association, reason or "the client left")
        elif self.associations.get(address) is association:
            del self.associations[address]
            self._count("broken" if reason else "closed")
            self._user.closed(association)

    # -- silence ------------------------------------------------------------------------------------

    def _wait_for_silence(self, association: Association, delay_ms: int) -> None:
        association.deadline = self.scheduler.after(delay_ms, partial(self._look, association))

    def _look(self, association: Association) -> None:
        """A timer that is set anew when it goes off costs nothing when a record comes."""
        left_ms = association.heard_ms + self._idle_ms - self.scheduler.now_ms
        if left_ms > 0:
            self._wait_for_silence(association, left_ms)
            return
        self._count("idle")
        association.close()

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def _host(address: Address) -> str:
    """Return the host, of IPv6 its /64: all of that is one host's."""
    host = str(address[0])
    if ":" not in host:
        return host
    number = IPv6Address(host.partition("%")[0])
    return str(number.ipv4_mapped or int(number) >> 64)


def _heard_ms(association: Association) -> int:
    return association.heard_ms


def _clock(scheduler: Scheduler) -> Callable[[], int]:
    def now_ms() -> int:
        return scheduler.now_ms

    return now_ms
