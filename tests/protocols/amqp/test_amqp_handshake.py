"""How an AMQP connection begins: mechanisms that are offered, and exchanges in secure and secure-ok."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pamqp import commands, frame
from scramp import ScramClient

from gateway.api import AuthenticationFailed, Authenticator, Credentials, Exchange, Principal
from gateway.auth.scram import ScramLogins, make_verifier
from gateway.auth.users import User
from gateway.config import load
from gateway.core.session import Session
from gateway.protocols.amqp import Amqp
from gateway.testing import FakeClient, TestGateway

HEADER = b"AMQP\x00\x00\x09\x01"
CAPABILITIES = {"capabilities": {"authentication_failure_close": True}}
USERS = {
    "ann": User("ann", scram=make_verifier("pw", 4096)),
    "gone": User("gone", scram=make_verifier("pw", 4096), disabled=True),
}


class Riddle(Exchange):
    """Asks until the answer is a name; has a last word if that is `ada`."""

    async def step(self, data: bytes) -> tuple[bytes, Principal | None]:
        if data in (b"", b"more"):
            return b"name?", None
        if data == b"wrong":
            raise AuthenticationFailed("that is not the answer")
        return b"welcome" if data == b"ada" else b"", Principal(data.decode())


class Riddles(Authenticator):
    methods = ("RIDDLE", "No SASL name")

    def exchange(self, credentials: Credentials) -> Exchange | None:
        return Riddle() if credentials.method == "RIDDLE" else None


class Gateway(TestGateway):
    """Whose logins by password may turn out to be somebody else's."""

    def __init__(self) -> None:
        super().__init__(authenticators=(ScramLogins(USERS.get), Riddles()))
        self.sessions: list[Session] = []

    async def connect(self, credentials: Credentials) -> Session:
        self.sessions.append(self.open_session(await self.authenticate(credentials), credentials))
        return self.sessions[-1]

    async def authenticate(self, credentials: Credentials) -> Principal:
        return Principal((credentials.password or b"").decode() or "ann")


class Client:
    """Methods on channel 0."""

    def __init__(self, gateway: TestGateway, protocol: Amqp) -> None:
        self.fake = FakeClient(gateway, protocol)
        self._data = b""
        (self.start,) = self.feed(HEADER)
        assert isinstance(self.start, commands.Connection.Start)

    def feed(self, data: bytes) -> list[Any]:
        self._data += self.fake.send(data)
        found = []
        while len(self._data) >= 8 and len(self._data) >= (
            size := struct.unpack(">I", self._data[3:7])[0] + 8
        ):
            found.append(frame.unmarshal(self._data[:size])[2])
            self._data = self._data[size:]
        return found

    def send(self, *methods: Any) -> list[Any]:
        return self.feed(b"".join(frame.marshal(method, 0) for method in methods))

    def begin(self, mechanism: str, response: str = "", properties: Any = CAPABILITIES) -> list[Any]:
        return self.send(commands.Connection.StartOk(properties, mechanism, response, "en_US"))

    def respond(self, response: str) -> list[Any]:
        return self.send(commands.Connection.SecureOk(response))


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.settle()
    assert made.errors == []
    made.close()


@pytest.fixture
def protocol(gateway: Gateway) -> Amqp:
    made = Amqp(load(None, (), True, None))
    made.start(gateway)
    return made


@pytest.fixture
def client(gateway: Gateway, protocol: Amqp) -> Client:
    return Client(gateway, protocol)


def only(found: list[Any], kind: Any) -> Any:
    assert [type(one) for one in found] == [kind], found
    return found[0]


def refused(found: list[Any]) -> str:
    close = only(found, commands.Connection.Close)
    assert close.reply_code == 403
    return str(close.reply_text)


def text(challenge: bytes | str) -> str:
    return challenge.decode() if isinstance(challenge, bytes) else challenge


def scram(client: Client, name: str, password: str, delayed: bool = False) -> list[Any]:
    """Log in with a client nobody here wrote; return what comes instead of, or after, the last word."""
    peer = ScramClient(["SCRAM-SHA-256"], name, password)
    first = peer.get_client_first()
    if delayed:
        asked = only(client.begin("SCRAM-SHA-256"), commands.Connection.Secure)
        assert text(asked.challenge) == ""
        answer = client.respond(first)
    else:
        answer = client.begin("SCRAM-SHA-256", first)
    peer.set_server_first(text(only(answer, commands.Connection.Secure).challenge))
    last = client.respond(peer.get_client_final())
    if not isinstance(last[0], commands.Connection.Secure):
        return last
    peer.set_server_final(text(last[0].challenge))
    return client.respond("")


def test_only_what_somebody_knows_is_offered(client: Client) -> None:
    assert client.start.mechanisms.split() == ["PLAIN", "AMQPLAIN", "SCRAM-SHA-256", "RIDDLE"]


def test_without_exchanges_only_passwords_are_offered() -> None:
    gateway = TestGateway()
    protocol = Amqp(load(None, (), True, None))
    protocol.start(gateway)
    assert Client(gateway, protocol).start.mechanisms == "PLAIN AMQPLAIN"
    gateway.close()


@pytest.mark.parametrize(
    "mechanism", ["EXTERNAL", "SCRAM-SHA-1", "ANONYMOUS", "scram-sha-256", "No SASL name", ""]
)
def test_what_is_not_offered_is_an_error(client: Client, mechanism: str) -> None:
    close = only(client.begin(mechanism), commands.Connection.Close)
    assert (close.reply_code, "unknown authentication mechanism" in close.reply_text) == (503, True)


@pytest.mark.parametrize("delayed", [False, True])
def test_scram_logs_in(client: Client, protocol: Amqp, delayed: bool) -> None:
    only(scram(client, "ann", "pw", delayed), commands.Connection.Tune)
    tune = commands.Connection.TuneOk(0, 131072, 0)
    only(client.send(tune, commands.Connection.Open("/")), commands.Connection.OpenOk)
    (connection,) = protocol.connections
    assert (connection.session.principal.name, connection.mechanism) == ("ann", "SCRAM-SHA-256")
    assert connection.session.principal.method == "scram"
    client.fake.hang_up()


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("gone", "pw"), ("nobody", "pw")])
def test_scram_refuses(client: Client, name: str, password: str) -> None:
    reason = refused(scram(client, name, password))
    assert reason == "ACCESS_REFUSED - Login was refused using authentication mechanism SCRAM-SHA-256."


def test_without_the_capability_a_refusal_has_no_words(client: Client) -> None:
    client.begin("RIDDLE", properties={})
    assert client.respond("wrong") == []
    assert client.fake.transport.closed


def test_an_exchange_takes_the_steps_it_needs(client: Client) -> None:
    assert text(only(client.begin("RIDDLE"), commands.Connection.Secure).challenge) == "name?"
    only(client.respond("more"), commands.Connection.Secure)
    assert text(only(client.respond("ada"), commands.Connection.Secure).challenge) == "welcome"
    only(client.respond(""), commands.Connection.Tune)


def test_without_a_last_word_tune_follows_at_once(client: Client) -> None:
    only(client.begin("RIDDLE", "bob"), commands.Connection.Tune)


def test_whoever_answers_the_last_word_is_refused(client: Client, gateway: Gateway) -> None:
    client.begin("RIDDLE", "ada")
    refused(client.respond("thanks"))
    assert gateway.broker.catalog.queues == {}


def test_an_exchange_without_end_is_refused(client: Client) -> None:
    found = client.begin("RIDDLE")
    rounds = 0
    while isinstance(found[0], commands.Connection.Secure):
        found = client.respond("more")
        rounds += 1
        assert rounds < 100
    refused(found)


def test_a_refusal_halfway(client: Client) -> None:
    client.begin("RIDDLE")
    assert "RIDDLE" in refused(client.respond("wrong"))


@pytest.mark.parametrize(
    "method",
    [commands.Connection.TuneOk(0, 131072, 0), commands.Connection.Open("/"), commands.Channel.Open()],
)
def test_nothing_else_belongs_into_an_exchange(client: Client, method: Any) -> None:
    client.begin("RIDDLE")
    close = only(client.send(method), commands.Connection.Close)
    assert close.reply_code == 503
    client.fake.hang_up()


def test_nobody_asked(client: Client) -> None:
    close = only(client.respond("ada"), commands.Connection.Close)
    assert close.reply_code == 503


def test_two_answers_at_once_are_an_error(client: Client) -> None:
    client.begin("RIDDLE")
    found = client.send(*[commands.Connection.SecureOk("more")] * 2)
    assert any(isinstance(one, commands.Connection.Close) and one.reply_code == 503 for one in found)
    client.fake.hang_up()


def test_answers_may_come_in_any_pieces(gateway: Gateway, protocol: Amqp) -> None:
    start = frame.marshal(commands.Connection.StartOk(CAPABILITIES, "RIDDLE", "", "en_US"), 0)
    answer = frame.marshal(commands.Connection.SecureOk("bob"), 0)
    client = Client(gateway, protocol)
    found = [one for byte in start + answer for one in client.feed(bytes((byte,)))]
    assert [type(one) for one in found] == [commands.Connection.Secure, commands.Connection.Tune]


@pytest.mark.parametrize("mechanism", ["RIDDLE", "SCRAM-SHA-256"])
def test_hanging_up_halfway_leaves_nothing_behind(client: Client, gateway: Gateway, mechanism: str) -> None:
    client.begin(mechanism)
    client.fake.hang_up()
    gateway.settle()
    assert (gateway._tasks, gateway.errors) == ([], [])


def opened(client: Client) -> None:
    only(client.begin("PLAIN", "\0ann\0"), commands.Connection.Tune)
    tune = commands.Connection.TuneOk(0, 131072, 0)
    only(client.send(tune, commands.Connection.Open("/")), commands.Connection.OpenOk)


def test_a_new_secret_renews_who_the_client_is_and_makes_it_nobody_else(
    client: Client, gateway: Gateway
) -> None:
    opened(client)
    only(client.send(commands.Connection.UpdateSecret("ann", "for fun")), commands.Connection.UpdateSecretOk)
    close = only(client.send(commands.Connection.UpdateSecret("bob", "for fun")), commands.Connection.Close)
    assert (close.reply_code, "somebody else's" in close.reply_text) == (530, True)
    assert gateway.sessions[0].principal.name == "ann"
