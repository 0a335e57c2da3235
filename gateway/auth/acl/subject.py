"""Whom a decision is about, as rules see it: the names it goes by, its door and its address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from ...api import Origin, Principal
from ...core.message import host_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LOOPBACK: Final = ipaddress.ip_address("127.0.0.1")  # what a Unix socket counts as


class Subject:
    """One client, at one door, from one address."""

    __slots__ = ("address", "door", "identities", "principal", "values")

    def __init__(self, principal: Principal, origin: Origin) -> None:
        self.principal = principal
        self.door = origin.protocol
        self.address = address_of(origin.peer)
        certificate = principal.certificate
        self.values = {
            "clientid": origin.client_id,
            "username": principal.name,
            "cert.cn": certificate.common_name if certificate is not None else "",
            "cert.subject": certificate.subject if certificate is not None else "",
        }
        self.identities = tuple(_identities(principal, origin))

    def is_called(self, subject: str) -> bool:
        """Tell whether a rule's subject (`user:alice`, `client:dev-*`, `everyone`) is this client."""
        kind, _, name = subject.partition(":")
        prefix = name[:-1] if name.endswith("*") else None
        return any(
            kind == known_kind and (name == known or (prefix is not None and known.startswith(prefix)))
            for known_kind, known in self.identities
        )

    @property
    def local(self) -> bool:
        """Whether it is on this machine, as far as its socket tells."""
        return self.address is not None and self.address.is_loopback


def _identities(principal: Principal, origin: Origin) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of everything a rule may call this client."""
    if principal.name and not principal.anonymous:
        yield "user", principal.name
    for group in principal.groups:
        yield "group", group
    if origin.client_id:
        yield "client", origin.client_id
    if principal.certificate is not None:
        yield "certificate", principal.certificate.subject
    yield ("anonymous" if principal.anonymous else "authenticated"), ""
    yield "everyone", ""


def address_of(peer: str) -> Address | None:
    """Return the address in `host:port`, `[v6]:port`, `host` or `unix`; None if there is none."""
    if peer == "unix":
        return LOOPBACK
    try:
        address = ipaddress.ip_address(host_of(peer).partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
