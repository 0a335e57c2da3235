"""Enhanced authentication: CONNECT, AUTH, CONNACK, and AUTH again (section 4.12)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.api import AuthenticationFailed, Authenticator, Credentials, Exchange, Principal
from gateway.config import load
from gateway.protocols.mqtt import Mqtt
from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.encoder import encode_auth, encode_connect
from gateway.protocols.mqtt.packets import (
    AUTH,
    CONNACK,
    DISCONNECT,
    V5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
)
from gateway.protocols.mqtt.reasons import Reason
from gateway.testing import FakeClient, TestGateway

METHOD = "RIDDLE"


class Riddle(Exchange):
    """Says `name?`, then `and?` as often as the answer is `more`; an answer of `wrong` is refused."""

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        if data == b"hello":
            return b"name?", None
        if data == b"more":
            return b"and?", None
        if data == b"wrong":
            raise AuthenticationFailed("that is not the answer")
        return b"welcome", Principal(data.decode())


class Riddles(Authenticator):
    def exchange(self, credentials: Credentials) -> Exchange | None:
        return Riddle() if credentials.method == METHOD else None


class Client:
    """One client and its decoder."""

    def __init__(self, gateway: TestGateway, protocol: Mqtt) -> None:
        self._fake = FakeClient(gateway, protocol)
        self._decoder = Decoder(V5, server=False)

    def send(self, data: bytes) -> list[Packet]:
        return self._decoder.feed(self._fake.send(data))

    def connect(self, method: str | None = METHOD, data: bytes = b"hello") -> list[Packet]:
        properties: Properties = {}
        if method is not None:
            properties = {"authentication_method": method, "authentication_data": data}
        return self.send(encode_connect(Connect(V5, "c", True, 0, None, None, None, properties)))

    def auth(self, reason: int, data: bytes, method: str = METHOD) -> list[Packet]:
        properties: Properties = {"authentication_method": method, "authentication_data": data}
        return self.send(encode_auth(reason, properties))

    def hang_up(self) -> None:
        self._fake.hang_up()

    @property
    def closed(self) -> bool:
        return self._fake.transport.closed


@pytest.fixture
def gateway() -> Iterator[TestGateway]:
    gateway = TestGateway(authenticators=(Riddles(),))
    yield gateway
    assert gateway.errors == []
    gateway.close()


@pytest.fixture
def client(gateway: TestGateway) -> Client:
    protocol = Mqtt(load(None, (), True, None))
    protocol.start(gateway)
    return Client(gateway, protocol)


def _auth(packets: list[Packet]) -> Auth:
    (packet,) = packets
    assert isinstance(packet, Auth), packet
    return packet


def _refusal(packets: list[Packet]) -> int:
    (packet,) = packets
    assert isinstance(packet, Connack | Disconnect), packet
    return packet.reason


def _log_in(client: Client, name: bytes = b"ada") -> None:
    client.connect()
    (packet,) = client.auth(Reason.CONTINUE_AUTHENTICATION, name)
    assert packet.type == CONNACK


def test_steps_until_the_client_is_known(client: Client) -> None:
    asked = _auth(client.connect())
    assert asked.reason == Reason.CONTINUE_AUTHENTICATION
    assert asked.properties == {"authentication_method": METHOD, "authentication_data": b"name?"}
    asked = _auth(client.auth(Reason.CONTINUE_AUTHENTICATION, b"more"))
    assert asked.properties["authentication_data"] == b"and?"
    (connack,) = client.auth(Reason.CONTINUE_AUTHENTICATION, b"ada")
    assert isinstance(connack, Connack)
    assert connack.reason == 0
    assert connack.properties["authentication_method"] == METHOD  # [MQTT-4.12.0-5]
    assert connack.properties["authentication_data"] == b"welcome"


def test_a_method_nobody_knows_is_refused(client: Client) -> None:
    assert _refusal(client.connect("GUESS")) == Reason.BAD_AUTHENTICATION_METHOD
    assert client.closed


def test_a_wrong_answer_is_refused(client: Client) -> None:
    client.connect()
    refused = client.auth(Reason.CONTINUE_AUTHENTICATION, b"wrong")
    assert _refusal(refused) == Reason.BAD_USER_NAME_OR_PASSWORD
    assert client.closed


def test_an_exchange_without_end_is_refused(client: Client) -> None:
    answers = client.connect()
    rounds = 0
    while answers[0].type == AUTH:
        answers = client.auth(Reason.CONTINUE_AUTHENTICATION, b"more")
        rounds += 1
        assert rounds < 100
    assert _refusal(answers) == Reason.BAD_USER_NAME_OR_PASSWORD


def test_another_method_halfway_is_an_error(client: Client) -> None:
    client.connect()
    assert _refusal(client.auth(Reason.CONTINUE_AUTHENTICATION, b"ada", "GUESS")) == Reason.PROTOCOL_ERROR


def test_hanging_up_halfway_leaves_nothing_behind(client: Client, gateway: TestGateway) -> None:
    client.connect()
    client.hang_up()
    gateway.settle()
    assert gateway.broker.catalog.queues == {}


def test_a_session_is_renewed(client: Client) -> None:
    _log_in(client)
    asked = _auth(client.auth(Reason.REAUTHENTICATE, b"hello"))
    assert asked.reason == Reason.CONTINUE_AUTHENTICATION
    done = _auth(client.auth(Reason.CONTINUE_AUTHENTICATION, b"ada"))
    assert done.reason == Reason.SUCCESS
    assert done.properties == {"authentication_method": METHOD, "authentication_data": b"welcome"}
    assert _auth(client.auth(Reason.REAUTHENTICATE, b"hello")).reason == Reason.CONTINUE_AUTHENTICATION


@pytest.mark.parametrize("answer", [b"wrong", b"mallory"])
def test_a_failed_renewal_ends_the_connection(client: Client, answer: bytes) -> None:
    _log_in(client)
    client.auth(Reason.REAUTHENTICATE, b"hello")
    assert _refusal(client.auth(Reason.CONTINUE_AUTHENTICATION, answer)) == Reason.NOT_AUTHORIZED
    assert client.closed


def test_renewal_with_another_method_is_an_error(client: Client) -> None:
    _log_in(client)
    assert _refusal(client.auth(Reason.REAUTHENTICATE, b"hello", "GUESS")) == Reason.PROTOCOL_ERROR


def test_an_answer_nobody_asked_for_is_an_error(client: Client) -> None:
    _log_in(client)
    assert _refusal(client.auth(Reason.CONTINUE_AUTHENTICATION, b"ada")) == Reason.PROTOCOL_ERROR


def test_renewal_without_a_method_in_connect_is_an_error(client: Client) -> None:
    (connack,) = client.connect(method=None)
    assert connack.type == CONNACK
    (packet,) = client.auth(Reason.REAUTHENTICATE, b"hello")
    assert packet.type == DISCONNECT
    assert _refusal([packet]) == Reason.PROTOCOL_ERROR  # [MQTT-4.12.1-1]
