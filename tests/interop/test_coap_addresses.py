"""Answers come from the address that was asked, by IPv4 and IPv6 (RFC 7252, 5.3.1)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from gateway.protocols.coap.numbers import POST
from tests.coap_client import CoapClient
from tests.process import GatewayProcess, free_port

CONFIG = """
[anonymous]
publish = ["#"]
subscribe = ["#"]
[users.somebody]
password = "{password}"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 as loopback")
@pytest.mark.parametrize(
    ("listen", "asked"), [("0.0.0.0", ["127.0.0.1", "127.0.0.5"]), ("[::1]", ["::1"]), ("[::]", ["::1"])]
)
def test_the_address_that_was_asked_answers(
    make_gateway: Callable[..., GatewayProcess], tmp_path: Path, listen: str, asked: list[str]
) -> None:
    port = free_port()
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(password=PasswordHasher().hash("secret")))
    make_gateway(f"listeners.coap={listen}:{port}", dev=False, config=config).start()
    for host in asked:
        with CoapClient(port, host) as client:  # a connected socket: it takes nothing from elsewhere
            first = client.observe("ps/a")
            assert first.code == "2.05", first
            assert client.request(POST, "ps/a", b"x").code in ("2.01", "2.04")
            assert client.receive(first.token).payload == b"x"
