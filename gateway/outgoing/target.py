"""URLs that requests go to, taken apart strictly: whoever writes one may mean to mislead.

What different programs read differently (user info, backslashes, numbers as hosts, dot segments) is
refused, so that what was checked is what is connected to.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from ..api import InvalidValue

URL_MAX: Final = 2048  # characters; what servers take (RFC 9110, 4.1, asks for 8,000 of them)
SCHEMES: Final = {"https": 443, "http": 80}
_VISIBLE: Final = re.compile(r"[!-~]+")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
HOST_MAX: Final = 253  # characters (RFC 1035, 2.3.4)


class Target(NamedTuple):
    """A URL: where to connect to, and what to ask for there."""

    scheme: str
    host: str  # lower case; an IPv6 address without brackets
    port: int
    path: str  # with the query
    literal: bool  # the host is an address

    @property
    def origin(self) -> tuple[str, str, int]:
        """What one connection can serve."""
        return (self.scheme, self.host, self.port)

    @property
    def authority(self) -> str:
        """The Host header (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == SCHEMES[self.scheme] else f"{host}:{self.port}"

    def begins_with(self, prefix: Target) -> bool:
        """Tell whether another URL, without a query, is this one or above it."""
        if self.origin != prefix.origin:
            return False
        path, folder = self.path.partition("?")[0], prefix.path.removesuffix("/")
        return path == folder or path.startswith(folder + "/")


def parse(url: str) -> Target:
    """Take a URL apart. Raise InvalidValue saying what is wrong with it."""
    if len(url) > URL_MAX:
        raise InvalidValue(f"url: at most {URL_MAX} characters are expected")
    shown = "what was given" if "@" in url else repr(url.partition("?")[0])  # it may be secret
    if not _VISIBLE.fullmatch(url) or "\\" in url or "#" in url:
        raise InvalidValue(f"url: {shown}: printable ASCII without spaces, backslashes and # is expected")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidValue(f"url: {shown}: {error}") from error
    if parts.scheme not in SCHEMES:
        raise InvalidValue(f"url: {shown}: https://HOST/... is expected")
    if "@" in parts.netloc:
        raise InvalidValue("url: no user or password is allowed in it; use `authorization`")
    if port == 0 or parts.netloc.endswith(":"):
        raise InvalidValue(f"url: {shown}: the port must be a number from 1 to 65535")
    host, literal = _host(parts, shown)
    path = parts.path or "/"
    if {".", ".."} & set(re.split(r"[/\\]", unquote(path))):
        raise InvalidValue(f"url: {shown}: its path must not have . or .. as a part")
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, host, port or SCHEMES[parts.scheme], path + query, literal)


def _host(parts: SplitResult, shown: str) -> tuple[str, bool]:
    """Return (host, whether it is an address). Raise InvalidValue."""
    host = (parts.hostname or "").removesuffix(".")
    try:
        if parts.netloc.startswith("["):
            if "%" in host:
                raise ValueError("a zone has no place in a URL")
            return ipaddress.IPv6Address(host).compressed, True
        labels = host.split(".")
        if _NUMBER.fullmatch(labels[-1]):  # the resolver would take 127.1 and 0x7f000001 for addresses
            return str(ipaddress.IPv4Address(host)), True
    except ValueError as error:
        raise InvalidValue(f"url: {shown}: {error}") from error
    if len(host) > HOST_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidValue(f"url: {shown}: {host!r} is no host; write international names as xn--...")
    return host, False
