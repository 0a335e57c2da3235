"""Clients of the matrix at the MQTT door: paho over TCP, TLS and WebSockets; raw packets for SCRAM."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

from scramp import ScramClient
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from gateway.protocols.mqtt.decoder import Decoder
from gateway.protocols.mqtt.encoder import encode_auth, encode_connect, encode_publish, encode_subscribe
from gateway.protocols.mqtt.packets import Auth, Connack, Connect, Packet, Puback, Suback, SubscribeOption
from tests.interop.access_cases import HOST, SECONDS, Answer, Login, LoginRefused, queue, topic
from tests.interop.access_house import House
from tests.interop.paho_client import V5, V311, PahoClient

SCRAM = "SCRAM-SHA-256"


class PahoLink:
    """paho-mqtt, which says with what reason each packet was answered."""

    def __init__(self, house: House, tls: bool, login: Login, version: int, web: bool) -> None:
        name = f"{login.name}-{version}-{tls}-{web}"
        made = PahoClient(name, version, transport="websockets" if web else "tcp")
        self._paho = made
        client = made.client
        if web:
            client.ws_set_options(path="/mqtt")
        if tls:
            client.tls_set_context(house.context(login.certificate))
        if login.username is not None:
            client.username_pw_set(login.username, login.secret)
        client.on_subscribe = lambda _c, _d, mid, reasons, more: made._note(
            made._granted, mid, (reasons[0].value, _why(more))
        )
        client.on_publish = lambda _c, _d, mid, reason, more: made._note(
            made._published, mid, (reason.value, _why(more))
        )
        port = house.port("http" if web else "mqtt", tls)
        client.connect(HOST, port, 60, bind_address=login.host, **made._connect)
        client.loop_start()
        _, reason, more = made.connected.get(timeout=SECONDS)
        if reason.is_failure:
            made.close()
            raise LoginRefused(reason.value, _why(more))

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        info = self._paho.client.publish(topic(login, "publish", case), body, 1)
        return Answer(*self._paho._wait(self._paho._published, info.mid))

    def subscribe(self, login: str, case: str) -> Answer:
        return self._subscribe(topic(login, "subscribe", case))

    def consume(self, login: str, case: str) -> Answer:
        return self._subscribe(f"$queue/{queue(login, 'consume', case)}")

    def _subscribe(self, name: str) -> Answer:
        _, mid = self._paho.client.subscribe(name, 1)
        return Answer(*self._paho._wait(self._paho._granted, mid))

    def close(self) -> None:
        self._paho.close()


def _why(properties: Any) -> str:
    return str(getattr(properties, "ReasonString", ""))


class ScramLink:
    """MQTT 5 by hand: paho does not know enhanced authentication."""

    def __init__(self, house: House, tls: bool, login: Login, version: int, web: bool) -> None:
        assert version == V5
        raw = house.dial("http" if web else "mqtt", tls, login, wrapped=not web)
        self._pipe: _Plain | _Web = _Web(house, raw, tls, login) if web else _Plain(raw)
        self._decoder = Decoder(V5, server=False)
        self._inbox: list[Packet] = []
        peer = ScramClient([SCRAM], login.username, login.secret)
        asked: Any = {"authentication_method": SCRAM, "authentication_data": _first(peer)}
        found = self._ask(encode_connect(Connect(V5, "scram", True, properties=asked)))
        if isinstance(found, Auth):
            data: Any = found.properties["authentication_data"]
            peer.set_server_first(data.decode())
            asked["authentication_data"] = peer.get_client_final().encode()
            found = self._ask(encode_auth(0x18, asked))
        assert isinstance(found, Connack)
        if found.reason:
            self.close()
            raise LoginRefused(found.reason, str(found.properties.get("reason_string", "")))
        proof: Any = found.properties["authentication_data"]
        peer.set_server_final(proof.decode())

    def _ask(self, packet: bytes) -> Packet:
        self._pipe.send(packet)
        while True:
            found = [packet for packet in self._inbox if isinstance(packet, Auth | Connack | Puback | Suback)]
            if found:
                self._inbox.clear()
                return found[0]
            self._inbox += self._decoder.feed(self._pipe.receive())

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        name = topic(login, "publish", case).encode()
        found = self._ask(encode_publish(V5, name, body.encode(), 1, False, False, 1))
        assert isinstance(found, Puback)
        return Answer(found.reason, str(found.properties.get("reason_string", "")))

    def subscribe(self, login: str, case: str) -> Answer:
        return self._subscribe(topic(login, "subscribe", case))

    def consume(self, login: str, case: str) -> Answer:
        return self._subscribe(f"$queue/{queue(login, 'consume', case)}")

    def _subscribe(self, name: str) -> Answer:
        found = self._ask(encode_subscribe(V5, 1, [SubscribeOption(name, 1)]))
        assert isinstance(found, Suback)
        return Answer(found.reasons[0], str(found.properties.get("reason_string", "")))

    def close(self) -> None:
        self._pipe.close()


def _first(peer: ScramClient) -> bytes:
    return str(peer.get_client_first()).encode()


class _Plain:
    """A socket, with or without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.send = sock.sendall
        self.close = sock.close

    def receive(self) -> bytes:
        data = self._sock.recv(1 << 16)
        assert data, "the connection was closed without a word"
        return data


class _Web:
    """A WebSocket."""

    def __init__(self, house: House, sock: socket.socket, tls: bool, login: Login) -> None:
        options: dict[str, Any] = {"ssl": house.context(login.certificate), "server_hostname": HOST}
        scheme = "wss" if tls else "ws"
        opened = connect(
            f"{scheme}://{HOST}/mqtt",
            sock=sock,
            subprotocols=[Subprotocol("mqtt")],
            open_timeout=SECONDS,
            close_timeout=SECONDS,
            **(options if tls else {}),
        )
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(opened)
        self.send = self._socket.send
        self.close = self._stack.close

    def receive(self) -> bytes:
        data = self._socket.recv(SECONDS)
        assert isinstance(data, bytes)
        return data


def mqtt_link(house: House, tls: bool, login: Login, version: int, web: bool = False) -> PahoLink | ScramLink:
    """Log in."""
    return (ScramLink if login.scram else PahoLink)(house, tls, login, version, web)


__all__ = ["V5", "V311", "mqtt_link"]
