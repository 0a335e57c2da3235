"""Nobody has us make requests inside our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from gateway.api import InvalidValue, NotAuthorized
from gateway.outgoing.destinations import ADDRESSES_MAX, Destinations, is_public

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",  # metadata of clouds
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:a00:1::",
]
PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]


@pytest.mark.parametrize("text", PRIVATE)
def test_private(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def resolver(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name resolve to these."""

    async def getaddrinfo(*args: Any, **options: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 443)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def resolve(destinations: Destinations, url: str) -> list[str]:
    async def run() -> list[str]:
        return await destinations.resolve(destinations.check(url))

    return asyncio.run(run())


@pytest.mark.parametrize("private", PRIVATE)
def test_a_name_that_resolves_to_a_private_address_is_refused(
    private: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    destinations = Destinations("x.allow", ["https://hooks.example/"])
    resolver(monkeypatch, private)
    with pytest.raises(NotAuthorized, match="not public"):
        resolve(destinations, "https://hooks.example/x")
    resolver(monkeypatch, "1.1.1.1", private)  # one is enough: who knows which is taken
    with pytest.raises(NotAuthorized, match="not public"):
        resolve(destinations, "https://hooks.example/x")
    assert resolve(
        Destinations("x.allow", ["https://hooks.example/"], allow_private=True), "https://hooks.example/x"
    )


def test_a_public_name_is_resolved_and_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    destinations = Destinations("x.allow", ["https://hooks.example/"])
    resolver(monkeypatch, *(f"1.1.1.{number}" for number in range(1, 100)), "1.1.1.1")
    assert resolve(destinations, "https://hooks.example/x") == [
        f"1.1.1.{n}" for n in range(1, ADDRESSES_MAX + 1)
    ]
    resolver(monkeypatch)
    with pytest.raises(OSError, match="not known"):
        resolve(destinations, "https://hooks.example/x")


@pytest.mark.parametrize("private", ["127.0.0.1", "10.1.2.3", "[::1]", "169.254.169.254"])
def test_an_address_is_allowed_only_by_itself(private: str) -> None:
    url = f"http://{private}:9000/x"
    assert resolve(Destinations("x.allow", [f"http://{private}:9000/"]), url) == [private.strip("[]")]
    for others in ([], ["https://hooks.example/"], [f"https://{private}:9000/"], [f"http://{private}/"]):
        with pytest.raises(NotAuthorized):
            Destinations("x.allow", others, allow_private=True).check(url)


@pytest.mark.parametrize("url", ["http://localhost:9000/", "http://rebound.example:9000/"])
def test_a_name_for_this_machine_is_not_its_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, "127.0.0.1")
    with pytest.raises(NotAuthorized, match="not public"):
        resolve(Destinations("x.allow", [url, "http://127.0.0.1:9000/"]), url)


def test_nothing_is_allowed_by_default() -> None:
    for url in ("https://example.com/", "http://127.0.0.1/", "https://1.1.1.1/", "http://localhost/"):
        with pytest.raises(NotAuthorized, match=r"x\.allow"):
            Destinations("x.allow", []).check(url)


def test_http_has_to_be_allowed() -> None:
    with pytest.raises(NotAuthorized):
        Destinations("x.allow", ["https://h.example/"]).check("http://h.example/")
    assert Destinations("x.allow", ["http://h.example/"]).check("http://h.example/").port == 80


def test_development_has_this_machine_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    destinations = Destinations("x.allow", [], dev=True)
    resolver(monkeypatch, "127.0.0.1", "::1")
    for url in ("http://127.0.0.1:9/", "http://localhost:9/x", "https://[::1]/", "http://127.9.9.9/"):
        assert resolve(destinations, url)
    for url in ("http://10.0.0.1/", "https://example.com/", "http://localhost.example/", "http://0.0.0.0/"):
        with pytest.raises(NotAuthorized):
            destinations.check(url)
    resolver(monkeypatch, "10.0.0.1")
    with pytest.raises(NotAuthorized, match="not public"):
        resolve(destinations, "http://localhost:9/")


@pytest.mark.parametrize(
    "url", ["", "example.com", "https://h/?a", "https://h/#a", "https://u@h/", "https://*.h/"]
)
def test_a_prefix_that_is_none_is_found_at_once(url: str) -> None:
    with pytest.raises(InvalidValue, match="url"):
        Destinations("x.allow", [url])
