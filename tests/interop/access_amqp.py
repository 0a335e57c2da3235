"""Clients of the matrix at the AMQP door: pika; raw frames for SCRAM, and to see how a login is refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pika
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pika.exceptions import ChannelClosedByBroker
from scramp import ScramClient

from tests.access.guarded import AMQP_HEADER, CAPABILITIES, Amqp
from tests.interop.access_cases import HOST, SECONDS, Answer, Login, LoginRefused, queue, topic
from tests.interop.access_house import House

SCRAM = "SCRAM-SHA-256"
EXCHANGE = "amq.topic"  # whose topics are those of MQTT
ACK, OK = "basic.ack", "ok"


def routing_key(name: str) -> str:
    """Return a topic as AMQP has it."""
    return name.replace("/", ".")


class PikaLink:
    """pika. A refusal ends the channel: each question has one of its own."""

    def __init__(self, house: House, tls: bool, login: Login) -> None:
        context = house.context(login.certificate) if tls else None
        who: Any = pika.PlainCredentials(login.username or "", login.secret)
        if login.certificate:
            who = pika.credentials.ExternalCredentials()
        parameters = pika.ConnectionParameters(
            HOST,
            house.port("amqp", tls),
            credentials=who,
            ssl_options=pika.SSLOptions(context, HOST) if context else None,
            socket_timeout=SECONDS,
            blocked_connection_timeout=SECONDS,
        )
        self._connection = pika.BlockingConnection(parameters)
        self._mark = f"{tls}"

    def _ask(self, call: Callable[[Any], object], yes: str = OK) -> Answer:
        channel = self._connection.channel()
        try:
            call(channel)
        except ChannelClosedByBroker as error:
            return Answer(error.reply_code, error.reply_text)
        channel.close()
        return Answer(yes)

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        def call(channel: Any) -> None:
            channel.confirm_delivery()
            channel.basic_publish(EXCHANGE, routing_key(topic(login, "publish", case)), body.encode())

        return self._ask(call, ACK)

    def subscribe(self, login: str, case: str) -> Answer:
        def call(channel: Any) -> None:
            mine = f"tool-{login}-{case}-{self._mark}"
            channel.queue_declare(mine, exclusive=True)
            channel.queue_bind(mine, EXCHANGE, routing_key(topic(login, "subscribe", case)))

        return self._ask(call)

    def consume(self, login: str, case: str) -> Answer:
        name = queue(login, "consume", case)
        return self._ask(lambda channel: channel.basic_consume(name, lambda *_: None))

    def manage(self, login: str, case: str) -> Answer:
        name = f"{queue(login, 'manage', case)}-{self._mark}"
        return self._ask(lambda channel: channel.queue_declare(name))

    def view(self, login: str, case: str) -> Answer:
        name = queue(login, "view", case)
        return self._ask(lambda channel: channel.queue_declare(name, passive=True))

    def close(self) -> None:
        self._connection.close()


class _Wire(Amqp):
    """Frames over a socket that is there already."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._data = b""
        self.seen: list[Any] = []


class RawLink:
    """The same by hand: pika does not know mechanisms of more than one step."""

    def __init__(self, house: House, tls: bool, login: Login) -> None:
        self._wire = _Wire(house.dial("amqp", tls, login))
        self._channel = 0
        self._mark = f"raw-{tls}"
        self._wire.sock.sendall(AMQP_HEADER)
        self._wire.expect(commands.Connection.Start)
        self._log_in(login)
        terms = commands.Connection.TuneOk(0, 131072, 0)
        self._wire.send(terms, commands.Connection.Open("/"), channel=0)
        self._wire.expect(commands.Connection.OpenOk)

    def _log_in(self, login: Login) -> None:
        peer = ScramClient([SCRAM], login.username, login.secret) if login.scram else None
        mechanism, response = "PLAIN", f"\0{login.username}\0{login.secret}"
        if peer is not None:
            mechanism, response = SCRAM, peer.get_client_first()
        elif login.certificate:
            mechanism, response = "EXTERNAL", ""
        properties: Any = {"capabilities": CAPABILITIES}
        found = self._say(commands.Connection.StartOk(properties, mechanism, response, "en_US"))
        if peer is not None and isinstance(found, commands.Connection.Secure):
            peer.set_server_first(found.challenge)
            found = self._say(commands.Connection.SecureOk(peer.get_client_final()))
            if isinstance(found, commands.Connection.Secure):
                peer.set_server_final(found.challenge)
                found = self._say(commands.Connection.SecureOk(""))
        if isinstance(found, commands.Connection.Close):
            raise LoginRefused(found.reply_code, found.reply_text)
        assert isinstance(found, commands.Connection.Tune), found

    def _say(self, method: Any) -> Any:
        self._wire.send(method, channel=0)
        return self._wire.receive()

    def _open(self) -> int:
        self._channel += 1
        self._wire.open_channel(self._channel)
        return self._channel

    def _ask(self, *methods: Any) -> Answer:
        """Call methods in turn, each for its answer, on a channel of their own."""
        number = self._open()
        for method in methods:
            self._wire.send(method, channel=number)
            found = self._wire.receive()
            if isinstance(found, commands.Channel.Close):
                return Answer(found.reply_code, found.reply_text)
        return Answer(OK)

    def publish(self, login: str, case: str, body: str = "") -> Answer:
        name = routing_key(topic(login, "publish", case))
        content = ContentHeader(0, len(body), commands.Basic.Properties())
        published = commands.Basic.Publish(exchange=EXCHANGE, routing_key=name)
        number = self._open()
        self._wire.send(
            commands.Confirm.Select(), published, content, ContentBody(body.encode()), channel=number
        )
        self._wire.expect(commands.Confirm.SelectOk)
        found = self._wire.receive()
        if isinstance(found, commands.Channel.Close):
            return Answer(found.reply_code, found.reply_text)
        return Answer(ACK if isinstance(found, commands.Basic.Ack) else found)

    def subscribe(self, login: str, case: str) -> Answer:
        mine = f"tool-{login}-{case}-{self._mark}"
        name = routing_key(topic(login, "subscribe", case))
        return self._ask(
            commands.Queue.Declare(queue=mine, exclusive=True),
            commands.Queue.Bind(queue=mine, exchange=EXCHANGE, routing_key=name),
        )

    def consume(self, login: str, case: str) -> Answer:
        return self._ask(commands.Basic.Consume(queue=queue(login, "consume", case)))

    def manage(self, login: str, case: str) -> Answer:
        return self._ask(commands.Queue.Declare(queue=f"{queue(login, 'manage', case)}-{self._mark}"))

    def view(self, login: str, case: str) -> Answer:
        return self._ask(commands.Queue.Declare(queue=queue(login, "view", case), passive=True))

    def close(self) -> None:
        self._wire.close()


def amqp_link(house: House, tls: bool, login: Login) -> PikaLink | RawLink:
    """Log in; somebody from elsewhere is up to no good, and looks at each frame."""
    return (RawLink if login.scram or login.host != HOST else PikaLink)(house, tls, login)
