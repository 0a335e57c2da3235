"""The test kit for authors of protocols: an in-process gateway, fake sockets, and a contract.

Subclass `ProtocolContract` in a pytest module, say how your protocol logs in, publishes and
subscribes, and it is put through what every protocol must stand: bytes whole, one by one and
cut anywhere; noise; a refused login; a consumer that stops reading; either side closing midway.

    class TestLine(ProtocolContract):
        def make(self): return LineProtocol()
        def publish(self, topic, body): return b"PUB %s %s\\n" % (topic.encode(), body)
        ...
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .api import Address, Authenticator, Exchange, Flushable, SharedKey, TlsMaterial
from .core.access import Action, Authority, Authorizer, Certificate, Credentials, Principal, Ruling
from .core.broker import Broker
from .core.clock import Clock
from .core.errors import AuthenticationFailed, GatewayError, NotStored
from .core.message import Message, Origin
from .core.quota import Limiter
from .core.scheduler import Scheduler
from .core.session import Session
from .selectors import LANGUAGES
from .storage.memory import MemoryEngine

IDLE_ROUNDS = 20  # turns of the loop after which a protocol that has nothing to wait for is idle
NOISE_ROUNDS = 50
CONGESTED_MESSAGES = 3000
CONGESTED_BODY = b"x" * 1000
HELD_BYTES_MAX = 1 << 20  # what a client that does not read may make a connection write


class FakeTransport:
    """A socket that records. Implements `gateway.api.Transport`."""

    def __init__(self, peer: str = "test:1", certificate: Certificate | None = None) -> None:
        self.peer = peer
        self.certificate = certificate
        self.secure = certificate is not None
        self.written = bytearray()
        self.closed = False
        self.reading = True
        self.is_established = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def established(self) -> None:
        self.is_established = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class _Allow:
    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        return Ruling(True, "test")


class TestGateway:
    """A gateway in memory, driven by hand. Implements `gateway.api.Gateway`."""

    __test__ = False  # for pytest: this is no test class

    def __init__(
        self,
        let_in: bool = True,
        authorizers: tuple[Authorizer, ...] = (_Allow(),),
        authenticators: tuple[Authenticator, ...] = (),
        limiters: tuple[Limiter, ...] = (),
    ) -> None:
        self.config: Any = None
        self.clock = Clock(1_700_000_000_000, 1000)
        self.broker = Broker(MemoryEngine(), self.clock)
        for language, compiler in LANGUAGES.items():
            self.broker.selectors.add(language, compiler)
        self.broker.restore(lambda: None)
        self.protocols: Mapping[str, Any] = {}
        self.loop = asyncio.new_event_loop()
        self._let_in = let_in
        self.authority = Authority(authorizers, limiters)
        self.http_parts: list[Any] = []
        self.on_reload: list[Callable[[], None]] = []
        self.series: list[Any] = []
        self._authenticators = authenticators
        self._tasks: list[asyncio.Task[None]] = []
        self.errors: list[BaseException] = []
        self._dirty: dict[Flushable, None] = {}
        self.refused_logins: list[tuple[Credentials, str]] = []
        self.tls = TlsMaterial()

    @property
    def scheduler(self) -> Scheduler:
        """The broker's timers."""
        return self.broker.scheduler

    def begin_turn(self) -> None:
        """Turns are ended by `settle`."""

    def flush_later(self, socket: Flushable) -> None:
        self._dirty[socket] = None

    async def authenticate(self, credentials: Credentials) -> Principal:
        if not self._let_in:
            raise AuthenticationFailed("the test lets nobody in")
        return Principal(credentials.username or "", admin=True)

    async def connect(self, credentials: Credentials) -> Session:
        return self.open_session(await self.authenticate(credentials), credentials)

    def begin_exchange(self, credentials: Credentials) -> Exchange | None:
        exchanges = (authenticator.exchange(credentials) for authenticator in self._authenticators)
        return next((exchange for exchange in exchanges if exchange is not None), None)

    @property
    def methods(self) -> tuple[str, ...]:
        """What the authenticators know."""
        return tuple(method for authenticator in self._authenticators for method in authenticator.methods)

    def users(self) -> list[tuple[str, bool]]:
        """Whom the authenticators know."""
        return [found for authenticator in self._authenticators for found in authenticator.users()]

    def principal(self, name: str) -> Principal | None:
        found = (authenticator.principal(name) for authenticator in self._authenticators)
        return next((principal for principal in found if principal is not None), None)

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        keys = (authenticator.shared_key(kind, identity) for authenticator in self._authenticators)
        return next((key for key in keys if key is not None), None)

    def login_refused(self, credentials: Credentials, why: str) -> None:
        self.refused_logins.append((credentials, why))

    def tls_material(self, door: str) -> TlsMaterial:
        return self.tls

    def open_session(self, principal: Principal, credentials: Credentials) -> Session:
        origin = Origin(credentials.protocol, principal.name, credentials.client_id, credentials.peer)
        return Session(self.broker, principal, origin, self.authority)

    def rules_changed(self) -> None:
        self.authority.reconsider()
        while self.authority.review(1):
            pass

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        self.broker.engine.when_durable(position, call)

    async def durable(self, position: int) -> None:
        stored: list[bool] = []
        self.when_durable(position, stored.append)
        if stored != [True]:
            raise NotStored("the test's engine did not store it")

    def task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(coroutine)
        self._tasks.append(task)

    async def listen(
        self, address: Address, factory: Callable[[], asyncio.BaseProtocol]
    ) -> asyncio.AbstractServer:
        raise OSError("the test gateway opens no sockets")

    def connections(self) -> int:
        return 0

    def settle(self) -> None:
        """Run tasks and dispatches until nothing moves any more."""
        for _ in range(IDLE_ROUNDS):
            self.loop.run_until_complete(asyncio.sleep(0))
            self.broker.dispatch()
            dirty, self._dirty = self._dirty, {}
            for socket in dirty:
                socket.flush()
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.remove(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.errors.append(error)

    def close(self) -> None:
        """Cancel what still runs."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self.loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self.loop.close()


class FakeClient:
    """One client of a protocol under test: feed bytes, look at what came back."""

    def __init__(self, gateway: TestGateway, protocol: Any) -> None:
        self._gateway = gateway
        self.transport = FakeTransport()
        self.connection = protocol.connect(self.transport, gateway)
        self.refused: GatewayError | None = None
        self._gone = False

    def send(self, data: bytes) -> bytes:
        """Feed bytes; return what was written since the last call."""
        if not self.transport.closed and not self._gone:
            try:
                self.connection.receive(data)
            except GatewayError as error:  # the listener closes the connection for these
                self.refused = error
                self.transport.close()
        return self.received()

    def received(self) -> bytes:
        """Return what was written since the last call."""
        self._gateway.settle()
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return data

    def hang_up(self) -> None:
        """The socket is gone."""
        if not self._gone:
            self._gone = True
            self.connection.closed(None)
            self._gateway.settle()


class ProtocolContract:
    """What every protocol must stand. Override the first five methods."""

    def make(self) -> Any:
        """Return a new protocol object."""
        raise NotImplementedError

    def login(self) -> bytes:
        """Return what a client sends first; nothing if there is no login."""
        return b""

    def publish(self, topic: str, body: bytes) -> bytes:
        """Return what a client sends to publish."""
        raise NotImplementedError

    def subscribe(self, topic: str) -> bytes:
        """Return what a client sends to subscribe."""
        raise NotImplementedError

    def delivered(self, topic: str, body: bytes) -> bytes:
        """Return what a subscriber gets."""
        raise NotImplementedError

    @contextmanager
    def gateway(self, let_in: bool = True) -> Iterator[tuple[TestGateway, Any]]:
        """Run a gateway with the protocol; fail if a task of it failed by anything but a refusal."""
        gateway = TestGateway(let_in)
        protocol = self.make()
        protocol.start(gateway)
        try:
            yield gateway, protocol
            gateway.settle()
            bugs = [error for error in gateway.errors if not isinstance(error, GatewayError)]
            assert not bugs, f"the protocol failed with {bugs!r}"
        finally:
            gateway.close()

    def test_a_message_arrives(self) -> None:
        """Published by one client, received by another."""
        with self.gateway() as (gateway, protocol):
            subscriber, publisher = FakeClient(gateway, protocol), FakeClient(gateway, protocol)
            subscriber.send(self.login() + self.subscribe("a/b"))
            publisher.send(self.login() + self.publish("a/b", b"hello"))
            assert self.delivered("a/b", b"hello") in subscriber.received()

    def test_bytes_may_come_in_any_pieces(self) -> None:
        """Whole, one by one, and cut at every place: the same effect."""
        stream = self.login() + self.subscribe("t") + self.publish("t", b"one") + self.publish("t", b"two")
        expected = [self.delivered("t", b"one"), self.delivered("t", b"two")]
        pieces = [[stream], [bytes((byte,)) for byte in stream]]
        pieces += [[stream[:cut], stream[cut:]] for cut in range(1, len(stream))]
        for chunks in pieces:
            with self.gateway() as (gateway, protocol):
                client = FakeClient(gateway, protocol)
                answers = b"".join(client.send(chunk) for chunk in chunks) + client.received()
                assert all(piece in answers for piece in expected), f"lost when cut as {chunks!r}"

    def test_noise_closes_or_is_answered(self) -> None:
        """Random bytes, at first and after login, raise nothing but refusals."""
        noise = random.Random(20_261_120)
        for _ in range(NOISE_ROUNDS):
            with self.gateway() as (gateway, protocol):
                client = FakeClient(gateway, protocol)
                if noise.random() < 0.5:
                    client.send(self.login())
                client.send(noise.randbytes(noise.randrange(1, 400)))
                client.hang_up()

    def test_a_refused_login_publishes_nothing(self) -> None:
        """Whoever is not let in can do nothing, and takes no message with him."""
        with self.gateway(let_in=False) as (gateway, protocol):
            client = FakeClient(gateway, protocol)
            client.send(self.login() + self.publish("secret", b"no"))
            client.send(self.subscribe("secret"))
            gateway.settle()
            assert gateway.broker.metrics.published == 0
            assert gateway.broker.router.bindings == 0

    def test_a_client_that_does_not_read_is_held(self) -> None:
        """A congested subscriber gets no more than its window; others go on."""
        with self.gateway() as (gateway, protocol):
            slow, publisher = FakeClient(gateway, protocol), FakeClient(gateway, protocol)
            slow.send(self.login() + self.subscribe("t"))
            publisher.send(self.login())
            slow.connection.congested(True)
            for _ in range(CONGESTED_MESSAGES):
                gateway.broker.publish(Message("t", CONGESTED_BODY, 0))
            gateway.settle()
            assert len(slow.transport.written) <= HELD_BYTES_MAX
            slow.transport.written.clear()
            slow.connection.congested(False)
            assert self.delivered("t", CONGESTED_BODY) in slow.received()

    def test_a_client_may_go_at_any_time(self) -> None:
        """Cut off after every byte: nothing is left behind."""
        stream = self.login() + self.subscribe("t") + self.publish("t", b"x")
        for cut in range(len(stream) + 1):
            with self.gateway() as (gateway, protocol):
                client = FakeClient(gateway, protocol)
                client.send(stream[:cut])
                client.hang_up()
                assert gateway.broker.router.bindings == len(
                    [name for name in gateway.broker.catalog.queues if not name.startswith("$")]
                ), f"a subscription outlives its client, cut at {cut}"
                gateway.broker.publish(Message("t", b"later", 0))
                gateway.settle()

    def test_the_gateway_may_close_at_any_time(self) -> None:
        """`drain` ends a connection in whatever state."""
        stream = self.login() + self.subscribe("t")
        for cut in range(len(stream) + 1):
            with self.gateway() as (gateway, protocol):
                client = FakeClient(gateway, protocol)
                client.send(stream[:cut])
                client.connection.drain()
                gateway.settle()
                assert client.transport.closed
                client.hang_up()


__all__ = ["FakeClient", "FakeTransport", "ProtocolContract", "TestGateway"]
