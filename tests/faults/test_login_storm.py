"""A hundred users log in at once: all of them get in, and nobody else stands still meanwhile."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.api import AuthenticationFailed, Credentials, Principal
from gateway.auth import passwords as module
from gateway.auth.hashes import hash_password
from gateway.auth.passwords import Passwords
from gateway.auth.users import User
from gateway.protocols.mqtt.encoder import encode_connect
from gateway.protocols.mqtt.packets import V311, Connect, Puback
from tests.mqtt_client import MqttClient
from tests.process import GatewayProcess

USERS = 100
PASSWORD = "correct horse"
ACCEPTED = b"\x20\x02\x00\x00"  # CONNACK of 3.1.1, no session
#: What a verification takes is not multiplied by who waits: two at a time, 19 MiB each.
GROWTH_BYTES_MAX = 160 << 20
SECONDS_MAX = 120  # for all of them: 22 ms of one core each, on a machine that others use

Make = Callable[..., GatewayProcess]


@pytest.fixture
def gateway(make_gateway: Make, tmp_path: Path) -> GatewayProcess:
    """A gateway with users whose passwords are the same, so that the test hashes one."""
    stored = hash_password(PASSWORD)
    names = ["publisher", *(f"user{number}" for number in range(USERS))]
    config = tmp_path / "gateway.toml"
    tables = [f"[users.{name}]\npassword = '{stored}'\npublish = ['t/#']\n" for name in names]
    config.write_text("\n".join(tables))
    return make_gateway(dev=False, config=config).start()


class Publisher(threading.Thread):
    """Publishes with QoS 1, one after the other; notes when each was acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._client = MqttClient(port, "publisher", username="publisher", password=PASSWORD.encode())
        assert self._client.connack.reason == 0
        self._enough = threading.Event()
        self.acknowledged: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._enough.is_set():
                number = len(self.acknowledged) % 60_000 + 1
                self._client.publish("t/x", b"x", packet_id=number)
                self._acknowledge(number)
        except BaseException as error:
            self.error = error

    def _acknowledge(self, number: int) -> None:
        found = self._client.expect(Puback, SECONDS_MAX)
        assert found.packet_id == number
        self.acknowledged.append(time.monotonic())

    def finish(self) -> None:
        """Stop after the next acknowledgement."""
        self._enough.set()
        self.join(SECONDS_MAX)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


@contextmanager
def sockets(port: int) -> Iterator[list[socket.socket]]:
    """Connect as many clients as there are users."""
    opened: list[socket.socket] = []
    try:
        for _ in range(USERS):
            opened.append(socket.create_connection(("127.0.0.1", port), 10))
        yield opened
    finally:
        for sock in opened:
            sock.close()


def log_in(clients: list[socket.socket]) -> tuple[list[bytes], float, float]:
    """Send every CONNECT, then read every CONNACK; return them, and when the first and the last came."""
    login = {"password": PASSWORD.encode()}
    for number, sock in enumerate(clients):
        name = f"user{number}"
        sock.sendall(encode_connect(Connect(V311, name, True, username=name, **login)))
    answers: list[bytes] = []
    times: list[float] = []
    deadline = time.monotonic() + SECONDS_MAX
    with selectors.DefaultSelector() as waiting:
        for sock in clients:
            waiting.register(sock, selectors.EVENT_READ)
        while len(answers) < len(clients):
            assert time.monotonic() < deadline, f"{len(answers)} of {len(clients)} logins were answered"
            for key, _ in waiting.select(1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                answers.append(sock.recv(100))
                times.append(time.monotonic())
                waiting.unregister(sock)
    return answers, times[0], times[-1]


def test_others_go_on_while_all_log_in_at_once(gateway: GatewayProcess) -> None:
    publisher = Publisher(gateway.mqtt_port)
    publisher.start()
    before = gateway.rss_bytes()
    with sockets(gateway.mqtt_port) as clients:
        answers, first, last = log_in(clients)
        grown = gateway.rss_bytes() - before
    publisher.finish()
    assert answers == [ACCEPTED] * USERS
    assert [moment for moment in publisher.acknowledged if first < moment < last], "nothing went on"
    assert grown < GROWTH_BYTES_MAX


# -- more than may wait --------------------------------------------------------------------------------


def test_logins_beyond_those_that_may_wait_are_refused_at_once_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 20)
    gate = threading.Event()

    def verify(stored: str, password: bytes) -> bool:
        assert gate.wait(SECONDS_MAX)
        return password == PASSWORD.encode()

    monkeypatch.setattr(module, "verify", verify)
    people = {f"user{number}": User(f"user{number}", "$argon2id$") for number in range(USERS)}
    logins = Passwords(people.get)

    async def storm() -> list[object]:
        found = [asyncio.ensure_future(logins.authenticate(_credentials(name))) for name in people]
        refused = await asyncio.wait_for(_first(found, USERS - 20), SECONDS_MAX)
        assert all(isinstance(task.exception(), AuthenticationFailed) for task in refused)
        gate.set()
        return await asyncio.gather(*found, return_exceptions=True)

    try:
        results = asyncio.run(storm())
    finally:
        gate.set()
    assert [result.name for result in results if isinstance(result, Principal)] == list(people)[:20]
    told = {result.detail for result in results if isinstance(result, AuthenticationFailed)}
    assert told == {"too many clients log in at once; try again in a moment"}
    assert isinstance(asyncio.run(logins.authenticate(_credentials(f"user{USERS - 1}"))), Principal)


def _credentials(name: str) -> Credentials:
    return Credentials("mqtt", "127.0.0.1:1", name, name, PASSWORD.encode())


async def _first(
    tasks: list[asyncio.Future[Principal | None]], count: int
) -> set[asyncio.Future[Principal | None]]:
    """Return the first that are done, so many of them."""
    done: set[asyncio.Future[Principal | None]] = set()
    waiting = set(tasks)
    while len(done) < count:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    return done
