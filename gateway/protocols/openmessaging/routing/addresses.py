"""Where clients are told to find the gateway."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from gateway.api import Address
from gateway.rocketmq.numbers import AddressScheme, Code
from gateway.rocketmq.schema import Endpoints

from ..errors import Refused

ADDRESSES_MAX: Final = 32  # that a client may say it knows us by
SCHEMES: Final = {4: AddressScheme.IPv4, 6: AddressScheme.IPv6}


class Addresses:
    """What is told to clients that came by TLS, and to the others."""

    def __init__(self, settings: Any) -> None:
        self._advertised = {False: _split(settings.advertise), True: _split(settings.advertise_tls)}
        self._doors: dict[bool, Address] = {}

    def opened(self, address: Address) -> None:
        """A door is open."""
        self._doors[bool(address.tls)] = address

    def tell(self, dialled: Any, secure: bool) -> Any:
        """Return the endpoints for a client that says it has `dialled` some. Raise Refused."""
        configured = self._advertised[secure]
        if configured is not None:
            return _endpoints(*configured)
        if dialled.addresses:
            return _checked(dialled)
        door = self._doors.get(secure)
        if door is None or door.path or _everywhere(door.host):
            text = "the access point is missing, and openmessaging.advertise does not say one"
            raise Refused(Code.ILLEGAL_ACCESS_POINT, text)
        return _endpoints(door.host, door.port)


def _checked(dialled: Any) -> Any:
    """Return what a client says, the same each time. Raise Refused if nobody could dial it."""
    if len(dialled.addresses) > ADDRESSES_MAX:
        raise Refused(Code.ILLEGAL_ACCESS_POINT, f"an access point has {ADDRESSES_MAX} addresses at most")
    for address in dialled.addresses:
        if not address.host or not 0 < address.port <= 65_535:
            text = f"{address.host!r} port {address.port}: no address that could be dialled"
            raise Refused(Code.ILLEGAL_ACCESS_POINT, text)
    found = Endpoints()
    found.CopyFrom(dialled)
    if not found.scheme:
        found.scheme = _scheme(dialled.addresses[0].host)
    return found


def _endpoints(host: str, port: int) -> Any:
    found = Endpoints(scheme=_scheme(host))
    # Clients put host, a colon and the port together.
    found.addresses.add(host=f"[{host}]" if ":" in host else host, port=port)
    return found


def _scheme(host: str) -> AddressScheme:
    try:
        return SCHEMES[ipaddress.ip_address(host.strip("[]")).version]
    except ValueError:
        return AddressScheme.DOMAIN_NAME


def _split(text: str) -> tuple[str, int] | None:
    """Return host and port of a setting that was found good."""
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if text else None


def _everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
