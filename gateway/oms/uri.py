"""Access point URLs: `oms:<driver>://[account@]host[:port][,host[:port]...]/<region>[:<namespace>]`.

The specification has had three forms: with a namespace behind the region (0.2), without one (since 0.3),
and `openmessaging:<driver>://hosts/<namespace>` (0.1). All three are read. What makes a URL illegal is
told by code 10001. A host without a port has 80, the specification's default; drivers that have one of
their own ask `has_port`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .errors import OMSError, ResponseStatus

PORT_DEFAULT: Final = 80  # the specification's
PREFIXES: Final = ("oms:", "openmessaging:")
_URL = re.compile(r"(oms|openmessaging):([^:/?#@]+)://(?:([^@/]*)@)?(.+)/([^/]+)", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@,]+)(?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host of an access point."""

    host: str
    port: int = PORT_DEFAULT
    has_port: bool = True

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.has_port else self.host


@dataclass(frozen=True, slots=True)
class AccessPointURI:
    """A URL in its parts. `namespace` and `account` are "" where there is none."""

    driver: str
    hosts: tuple[Endpoint, ...]
    region: str
    namespace: str = ""
    account: str = ""

    @classmethod
    def parse(cls, url: str) -> AccessPointURI:
        """Return the parts. Raise OMSError with URL_ILLEGAL."""
        found = _URL.fullmatch(url.strip())
        if found is None:
            raise _illegal(url, "it is not oms:<driver>://[account@]host[:port][,host...]/<region>")
        scheme, driver, account, hosts, place = found.groups()
        if scheme == "openmessaging":
            region, namespace = "", place
        else:
            region, colon, namespace = place.partition(":")
            if not region or (colon and not namespace):
                raise _illegal(url, f"{place!r} is not <region>[:<namespace>]")
        endpoints = tuple(_endpoint(url, host.strip()) for host in hosts.split(","))
        return cls(driver, endpoints, region, namespace, account or "")

    @property
    def access_points(self) -> str:
        """The hosts, as the attribute ACCESS_POINTS has them."""
        return ",".join(str(host) for host in self.hosts)

    def __str__(self) -> str:
        account = f"{self.account}@" if self.account else ""
        if not self.region:
            return f"openmessaging:{self.driver}://{account}{self.access_points}/{self.namespace}"
        namespace = f":{self.namespace}" if self.namespace else ""
        return f"oms:{self.driver}://{account}{self.access_points}/{self.region}{namespace}"


def _endpoint(url: str, text: str) -> Endpoint:
    found = _HOST.fullmatch(text)
    if found is None:
        raise _illegal(url, f"{text!r} is not host[:port]")
    host, port = found.groups()
    if port is None:
        return Endpoint(host, has_port=False)
    if not 0 < int(port) < 65_536:
        raise _illegal(url, f"there is no port {port}")
    return Endpoint(host, int(port))


def _illegal(url: str, why: str) -> OMSError:
    return OMSError(f"{url!r} is no access point: {why}", ResponseStatus.URL_ILLEGAL)
