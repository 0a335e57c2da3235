"""What keeps the door from being used against others, and one client from taking it from all.

An address over UDP is what a datagram says of itself. Until its owner has shown that it gets what it
is sent, by the Echo option (RFC 9175, 2), it gets little more than it sends: an attacker who writes a
victim's address on requests gains nothing. Acknowledgements are no such proof: their 16 bits can be guessed.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from secrets import token_bytes
from typing import Final

from gateway.core.clock import Clock

from ..codec import Options
from ..exchange import Response
from ..numbers import (
    ECHO,
    MAX_AGE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    uint_bytes,
)

#: A response may have so many times the bytes of its request, to any address (as RFC 9000, 8.1).
AMPLIFICATION_MAX: Final = 3
#: Nobody floods a victim with answers this small, and errors, confirmations and most readings fit.
SMALL_BYTES: Final = 152
ECHO_SECONDS_MAX: Final = 300  # a client that asks again after EXCHANGE_LIFETIME still does so in time
ECHO_TIME_BYTES: Final = 4
ECHO_MAC_BYTES: Final = 8
UNCOUNTED: Final = 1 << 30  # datagrams, where there is no limit
HOSTS_MAX: Final = 65_536  # addresses whose requests are counted: about 16 MB; the first ones are forgotten
BURST_SECONDS: Final = 1.0  # of its rate, an address may send at once
RETRY_SECONDS: Final = 1  # a bucket that was empty is full then

#: Where requests take something, and the query by which a publish does: a response that is withheld
#: because it is too large would be lost. These are challenged before they are done.
TAKING_PATH: Final = ("queues", "receive")  # with the queue's name between them
TAKING_QUERY: Final = "ttd="

_CHALLENGE: Final = b"repeat this with the Echo option, or come by coaps or TCP"


class Bucket:
    """How many datagrams an address may still send before somebody looks at the time."""

    __slots__ = ("filled_ms", "left", "trusted")

    def __init__(self, left: int, now_ms: int, trusted: bool) -> None:
        self.left = left
        self.filled_ms = now_ms
        self.trusted = trusted


NO_BUCKET: Final = Bucket(UNCOUNTED, 0, True)  # of who has shown in a handshake who it is


class Guard:
    """Of one door: who has shown an address to be theirs, and how much each address has sent."""

    __slots__ = ("_burst", "_clock", "_hosts", "_networks", "_rate", "_secret")

    def __init__(self, clock: Clock, trusted_networks: Sequence[str], requests_per_second_max: int) -> None:
        """`trusted_networks` as "10.0.0.0/8"; a rate of 0: any. Raise ValueError for what is no network."""
        self._clock = clock
        self._secret = token_bytes(32)  # of this run: what was echoed before a restart is asked for again
        self._networks = [ip_network(text, strict=False) for text in trusted_networks]
        self._rate = requests_per_second_max
        self._burst = int(requests_per_second_max * BURST_SECONDS)
        self._hosts: OrderedDict[str, Bucket] = OrderedDict()

    # -- whose an address is --------------------------------------------------------------------

    def trusts(self, host: str) -> bool:
        """Tell whether an address is in a network from which nobody can send with others' addresses."""
        address = ip_address(host.partition("%")[0])
        mapped = address.ipv4_mapped if address.version == 6 else None
        return any((mapped or address) in network for network in self._networks)

    def echo(self, peer: str) -> bytes:
        """Return what an address and port have to repeat. Nothing is remembered for it."""
        time = (self._clock.monotonic_ms // 1000).to_bytes(8, "big")[-ECHO_TIME_BYTES:]
        return time + self._mac(time, peer)

    def is_echo(self, value: bytes, peer: str) -> bool:
        """Tell whether a value is one that this address and port were told, not too long ago."""
        time, mac = value[:ECHO_TIME_BYTES], value[ECHO_TIME_BYTES:]
        if not hmac.compare_digest(mac, self._mac(time, peer)):
            return False
        age = self._clock.monotonic_ms // 1000 - int.from_bytes(time, "big")
        return age & 0xFFFFFFFF <= ECHO_SECONDS_MAX

    def _mac(self, time: bytes, peer: str) -> bytes:
        return hmac.digest(self._secret, time + peer.encode(), sha256)[:ECHO_MAC_BYTES]

    def challenge(self, peer: str) -> Response:
        """Return the answer to what an address may ask only after it has shown to be its sender's."""
        return Response(UNAUTHORIZED, _CHALLENGE, ((ECHO, self.echo(peer)),))

    # -- how much an address sends --------------------------------------------------------------

    def bucket(self, host: str) -> Bucket:
        """Return the bucket of an address, its ports together. Take one from `left` for each datagram."""
        found = self._hosts.get(host)
        if found is None:
            if len(self._hosts) >= HOSTS_MAX:
                self._hosts.popitem(last=False)
            found = Bucket(self._burst or UNCOUNTED, self._clock.monotonic_ms, self.trusts(host))
            self._hosts[host] = found
        return found

    def refill(self, bucket: Bucket) -> bool:
        """Fill an empty bucket by the time that has passed. Return False if it is still empty."""
        if not self._rate:
            bucket.left = UNCOUNTED
            return True
        now_ms = self._clock.monotonic_ms
        more = min(self._burst, (now_ms - bucket.filled_ms) * self._rate // 1000)
        if more <= 0:
            bucket.left = 0
            return False
        bucket.left, bucket.filled_ms = more - 1, now_ms
        return True

    def __len__(self) -> int:
        return len(self._hosts)


def too_large_for_stranger(response_bytes: int, request_bytes: int) -> bool:
    """Tell whether a response is too large for an address that has not been shown to be its sender's."""
    return response_bytes > SMALL_BYTES and response_bytes > AMPLIFICATION_MAX * request_bytes


def too_many() -> Response:
    """Return the answer to a confirmable request too many (RFC 8516): no larger than what it answers."""
    return Response(TOO_MANY_REQUESTS, b"", ((MAX_AGE, uint_bytes(RETRY_SECONDS)),))


def needs_proof(options: Options) -> bool:
    """Tell whether a request is done only for who has shown an address to be theirs.

    Observations are, as each notification answers it again, and what takes something from a queue.
    """
    path = options.path
    if options.observe == 0 or (len(path) == 3 and path[::2] == TAKING_PATH):
        return True
    return any(item.startswith(TAKING_QUERY) for item in options.query)


def suppressed(no_response: int, code: int) -> bool:
    """Tell whether a client does not want to know a response of this code (RFC 7967, 2.1); -1: not said."""
    return no_response > 0 and bool(no_response >> (code >> 5) - 1 & 1)
