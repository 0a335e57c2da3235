"""Which calls need no login: those whose header was found good a moment ago."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.message import host_of
from gateway.protocols.openmessaging.clients.logins import GOOD_MS, Logins
from gateway.rocketmq.signature import METHOD, SIGNED_HEADER
from gateway.testing import TestGateway

DATE = "20261122T010203Z"


def header(key: str, digit: str = "0") -> str:
    return f"{METHOD} Credential={key}, SignedHeaders={SIGNED_HEADER}, Signature={digit * 40}"


class Context:
    """What gRPC would say of a call."""

    def __init__(self, authorization: str = "", host: str = "10.0.0.1", id: str = "c", port: int = 1) -> None:
        self._peer = f"ipv4:{host}:{port}"
        self._metadata = {"x-mq-client-id": id, "authorization": authorization, SIGNED_HEADER: DATE}

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return tuple(self._metadata.items())

    def auth_context(self) -> Mapping[str, Any]:
        return {}


@pytest.fixture
def gateway() -> Any:
    found = TestGateway()
    found.config = SimpleNamespace(limits=SimpleNamespace(connections_max=100))
    yield found
    found.close()


def entered(gateway: TestGateway, logins: Logins, context: Any) -> Any:
    return gateway.loop.run_until_complete(logins.enter(context))


def test_the_same_header_is_known_by_any_of_the_clients_connections(gateway: TestGateway) -> None:
    logins = Logins(gateway, 120)
    client = entered(gateway, logins, Context(header("ann")))
    assert host_of(client.session.origin.peer) == "10.0.0.1"
    assert logins.known(Context(header("ann"), port=2)) is client  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        Context(header("ann", "1")),
        Context(header("bob")),
        Context(),
        Context(header("ann"), host="10.0.0.2"),
        Context(header("ann"), id="d"),
    ],
    ids=["another signature", "another key", "none", "from elsewhere", "another client"],
)
def test_what_differs_has_to_log_in(other: Any, gateway: TestGateway) -> None:
    logins = Logins(gateway, 120)
    entered(gateway, logins, Context(header("ann")))
    assert logins.known(other) is None


def test_a_header_is_looked_at_again_after_a_while(gateway: TestGateway) -> None:
    logins = Logins(gateway, 120)
    context: Any = Context(header("ann"))
    client = entered(gateway, logins, context)
    clock = gateway.clock
    clock.set(clock.wall_ms + GOOD_MS, clock.monotonic_ms + GOOD_MS)
    assert logins.known(context) is client
    clock.set(clock.wall_ms + 1, clock.monotonic_ms + 1)
    assert logins.known(context) is None
    assert entered(gateway, logins, context) is client
    assert logins.known(context) is client
