"""Where servers are: as an access point's URL has it, as the protocol has it, and as gRPC dials it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from gateway.rocketmq.numbers import AddressScheme
from gateway.rocketmq.schema import Address, Endpoints

_PREFIXES: Final[dict[int, str]] = {
    AddressScheme.IPv4: "ipv4:",
    AddressScheme.IPv6: "ipv6:",
    AddressScheme.DOMAIN_NAME: "dns:",
}


class Endpoint(NamedTuple):
    """Addresses of one server: equal ones are the same server, whatever order they came in."""

    scheme: int
    addresses: tuple[tuple[str, int], ...]

    @property
    def target(self) -> str:
        """What gRPC dials."""
        return _PREFIXES.get(self.scheme, "dns:") + str(self)

    def __str__(self) -> str:
        return ",".join(
            f"[{host}]:{port}" if self.scheme == AddressScheme.IPv6 else f"{host}:{port}"
            for host, port in self.addresses
        )

    def message(self) -> Any:
        """Return it as the protocol's message."""
        addresses = [Address(host=host, port=port) for host, port in self.addresses]
        return Endpoints(scheme=self.scheme, addresses=addresses)


def scheme_of(host: str) -> AddressScheme:
    """Return what an address is."""
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        return AddressScheme.DOMAIN_NAME
    return AddressScheme.IPv6 if version == 6 else AddressScheme.IPv4


def from_message(endpoints: Any) -> Endpoint:
    """Return what a server says of itself or of another; a scheme it leaves out is seen by its address."""
    addresses = tuple(sorted({(one.host.strip("[]"), one.port) for one in endpoints.addresses}))
    scheme = endpoints.scheme or (scheme_of(addresses[0][0]) if addresses else 0)
    return Endpoint(scheme, addresses)


def from_hosts(hosts: Iterable[tuple[str, int]]) -> list[Endpoint]:
    """Return the servers of a URL: addresses of one kind are one server's; each name is one of its own."""
    by_scheme: dict[int, set[tuple[str, int]]] = {}
    names = []
    for host, port in hosts:
        scheme = scheme_of(host)
        if scheme == AddressScheme.DOMAIN_NAME:
            names.append(Endpoint(scheme, ((host, port),)))
        else:
            by_scheme.setdefault(scheme, set()).add((host.strip("[]"), port))
    return [Endpoint(scheme, tuple(sorted(found))) for scheme, found in by_scheme.items()] + names
