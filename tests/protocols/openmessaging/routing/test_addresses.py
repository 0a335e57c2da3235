"""Where clients are sent: the configuration's word, their own, the door's; in this order."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("google.protobuf")

from gateway.protocols.openmessaging.errors import Refused
from gateway.protocols.openmessaging.routing.addresses import Addresses
from gateway.rocketmq.numbers import AddressScheme, Code
from gateway.rocketmq.schema import Endpoints
from gateway.settings import Address, OpenMessaging

NOTHING = Endpoints()
DIALLED = Endpoints(scheme=AddressScheme.DOMAIN_NAME, addresses=[{"host": "nat.example", "port": 9}])


def told(addresses: Addresses, dialled: Any, secure: bool = False) -> tuple[int, str, int]:
    found = addresses.tell(dialled, secure)
    [address] = found.addresses
    return found.scheme, address.host, address.port


def opened(*listen: str, tls: str = "", **settings: str) -> Addresses:
    found = Addresses(OpenMessaging(**settings))
    for text in listen:
        address = Address.parse(text)
        found.opened(Address(address.kind, address.host, address.port, address.path, tls))
    return found


@pytest.mark.parametrize(
    ("advertised", "scheme", "host"),
    [
        ("192.0.2.1:8081", AddressScheme.IPv4, "192.0.2.1"),
        ("[2001:db8::1]:8081", AddressScheme.IPv6, "[2001:db8::1]"),
        ("broker.example:8081", AddressScheme.DOMAIN_NAME, "broker.example"),
    ],
)
def test_what_is_advertised_counts_most(advertised: str, scheme: int, host: str) -> None:
    addresses = opened("127.0.0.1:1", advertise=advertised)
    assert told(addresses, DIALLED) == told(addresses, NOTHING) == (scheme, host, 8081)
    assert told(addresses, DIALLED, True)[1] == "nat.example"  # by TLS another one is told


def test_then_what_the_client_has_dialled() -> None:
    assert told(opened("127.0.0.1:1"), DIALLED) == (AddressScheme.DOMAIN_NAME, "nat.example", 9)


def test_then_the_doors_own() -> None:
    assert told(opened("127.0.0.1:1"), NOTHING) == (AddressScheme.IPv4, "127.0.0.1", 1)
    assert told(opened("[::1]:1"), NOTHING) == (AddressScheme.IPv6, "[::1]", 1)
    assert told(opened("localhost:1"), NOTHING) == (AddressScheme.DOMAIN_NAME, "localhost", 1)
    assert told(opened("127.0.0.1:2", tls="openmessagings"), NOTHING, True)[2] == 2


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "unix:/run/x.sock"])
def test_nobody_is_sent_where_nobody_listens(listen: str) -> None:
    with pytest.raises(Refused, match=r"openmessaging\.advertise") as caught:
        told(opened(listen), NOTHING)
    assert caught.value.code is Code.ILLEGAL_ACCESS_POINT
    assert told(opened(listen), DIALLED)[1] == "nat.example"
    with pytest.raises(Refused):
        told(opened("127.0.0.1:1"), NOTHING, True)  # there is no TLS door


def test_the_same_each_time() -> None:
    addresses = opened("127.0.0.1:1")
    texts = {addresses.tell(DIALLED, False).SerializeToString() for _ in range(3)}
    assert texts == {DIALLED.SerializeToString()}
