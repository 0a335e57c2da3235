"""Where requests may lead: nowhere, but below the URLs that the configuration allows.

Against requests that somebody has us make inside our own network (server-side request forgery): a name is
resolved by us, every address it has is looked at, and the connection is made to an address that was
looked at, not to the name once more. Redirects are not followed, and no proxy is asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from ..api import InvalidValue, NotAuthorized
from .target import Target, parse

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

ADDRESSES_MAX: Final = 8  # of one name that are tried; more are a mistake, and would take too long
#: IPv6 addresses that stand for the IPv4 address in their last 32 bits.
_EMBEDDING: Final = (
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible (RFC 4291, 2.5.5.1)
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
)
_PRIVATE: Final = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # NAT64 into networks of one's own (RFC 8215)
    ipaddress.IPv6Network("fec0::/10"),  # site-local: deprecated (RFC 3879), routed nevertheless
)


class Destinations:
    """What the setting `name` allows. In development mode: anything on this machine, besides."""

    def __init__(
        self, name: str, allow: Sequence[str], allow_private: bool = False, dev: bool = False
    ) -> None:
        """Raise InvalidValue for a prefix that is none."""
        self._name = name
        self._prefixes = [_prefix(url) for url in allow]
        self._allow_private = allow_private
        self._dev = dev

    def check(self, url: str) -> Target:
        """Return where a URL leads. Raise InvalidValue or NotAuthorized."""
        target = parse(url)
        if self._allowed(target) or (self._dev and _says_loopback(target)):
            return target
        raise NotAuthorized(
            f"{self._name} in the configuration has nothing that {target.scheme}://{target.authority}/... is "
            "below; an operator can add it"
        )

    def _allowed(self, target: Target) -> bool:
        return any(target.begins_with(prefix) for prefix in self._prefixes)

    async def resolve(self, target: Target) -> list[str]:
        """Return the addresses to connect to. Raise NotAuthorized if one is private, OSError for none."""
        if target.literal:
            found = [target.host]
        else:
            infos = await asyncio.get_running_loop().getaddrinfo(
                target.host, target.port, type=socket.SOCK_STREAM
            )
            found = list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in infos))
        self.check_addresses(target, found)
        return found[:ADDRESSES_MAX]

    def check_addresses(self, target: Target, found: Sequence[str]) -> None:
        """Raise NotAuthorized unless all these addresses may be connected to."""
        for text in found:
            address = ipaddress.ip_address(text)
            if is_public(address):
                continue
            if self._allowed(target):
                if target.literal or self._allow_private:  # the prefix names the address itself
                    continue
            elif self._dev and address.is_loopback:
                continue
            raise NotAuthorized(
                f"{target.host} has the address {text}, which is not public; an operator can allow that, or "
                "a URL with the address instead of the name"
            )


def _prefix(url: str) -> Target:
    target = parse(url)
    if "?" in target.path:
        raise InvalidValue(f"url: {url!r}: what is allowed is the beginning of a path; leave the query out")
    return target


def _says_loopback(target: Target) -> bool:
    return ipaddress.ip_address(target.host).is_loopback if target.literal else target.host == "localhost"


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the Internet's, and not within another that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and any(address in network for network in _EMBEDDING):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if any(address in network for network in _PRIVATE):
            return False
    return address.is_global and not address.is_multicast
