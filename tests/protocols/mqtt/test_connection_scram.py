"""SCRAM-SHA-256 in MQTT 5's enhanced authentication, with a client nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from scramp import ScramClient

from gateway.auth.scram import METHOD, ScramLogins, make_verifier
from gateway.auth.users import User
from gateway.config import load
from gateway.protocols.mqtt import Mqtt
from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.encoder import encode_auth, encode_connect
from gateway.protocols.mqtt.packets import V5, Auth, Connack, Connect, Packet, Properties
from gateway.protocols.mqtt.reasons import Reason
from gateway.testing import FakeClient, TestGateway

USERS = {"ann": User("ann", scram=make_verifier("pw", 4096))}


class Client:
    def __init__(self, gateway: TestGateway) -> None:
        protocol = Mqtt(load(None, (), True, None))
        protocol.start(gateway)
        self.fake = FakeClient(gateway, protocol)
        self._decoder = Decoder(V5, server=False)

    def send(self, data: bytes) -> Packet:
        (packet,) = self._decoder.feed(self.fake.send(data))
        return packet

    def connect(self, data: str, username: str | None = None) -> Packet:
        properties: Properties = {"authentication_method": METHOD, "authentication_data": data.encode()}
        return self.send(encode_connect(Connect(V5, "c", True, username=username, properties=properties)))

    def auth(self, data: str, reason: int = Reason.CONTINUE_AUTHENTICATION) -> Packet:
        properties: Properties = {"authentication_method": METHOD, "authentication_data": data.encode()}
        return self.send(encode_auth(reason, properties))


@pytest.fixture
def gateway() -> Iterator[TestGateway]:
    made = TestGateway(authenticators=(ScramLogins(USERS.get, iterations=4096),))
    yield made
    made.settle()
    assert made.errors == []
    made.close()


def peer(name: str, password: str) -> Any:
    return ScramClient(["SCRAM-SHA-256"], name, password)


def data_of(packet: Packet) -> str:
    assert isinstance(packet, Auth | Connack)
    return cast(bytes, packet.properties["authentication_data"]).decode()


def test_login_and_login_again(gateway: TestGateway) -> None:
    client, scram = Client(gateway), peer("ann", "pw")
    scram.set_server_first(data_of(client.connect(scram.get_client_first())))
    connack = client.auth(scram.get_client_final())
    assert isinstance(connack, Connack)
    assert connack.reason == 0
    scram.set_server_final(data_of(connack))  # v= proves that the gateway knows the verifier
    again = peer("ann", "pw")
    asked = client.auth(again.get_client_first(), Reason.REAUTHENTICATE)
    again.set_server_first(data_of(asked))
    done = client.auth(again.get_client_final())
    assert isinstance(done, Auth)
    assert done.reason == Reason.SUCCESS
    again.set_server_final(data_of(done))


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", "pw")])
def test_refused(gateway: TestGateway, name: str, password: str) -> None:
    client, scram = Client(gateway), peer(name, password)
    scram.set_server_first(data_of(client.connect(scram.get_client_first())))
    connack = client.auth(scram.get_client_final())
    assert isinstance(connack, Connack)
    assert connack.reason == Reason.BAD_USER_NAME_OR_PASSWORD


def test_the_user_name_in_connect_must_be_the_same(gateway: TestGateway) -> None:
    packet = Client(gateway).connect(peer("ann", "pw").get_client_first(), "root")
    assert isinstance(packet, Connack)
    assert packet.reason == Reason.BAD_USER_NAME_OR_PASSWORD
