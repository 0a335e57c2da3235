"""The server: doors that open and close, clients that are let go, faults that name what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway import server as server_module
from gateway.api import Authenticator, Stream, StreamProtocol
from gateway.config import ConfigError, load
from gateway.core.access import Credentials, Principal
from gateway.core.errors import AuthenticationFailed, NotAuthorized, NotStored, StorageError
from gateway.core.message import Message
from gateway.hookspecs import hookimpl
from gateway.plugins import PluginError
from gateway.server import Server
from gateway.storage.memory import MemoryEngine
from tests.certificates import Pki
from tests.process import free_port

DISABLED = "plugins.disabled=['mqtt', 'amqp', 'coap', 'http', 'openmessaging']"


class Echo(StreamProtocol):
    """Answers what it gets; `stays` makes it ignore that it should go."""

    name = "echo"

    def __init__(self, stays: bool = False) -> None:
        self.stays, self.started = stays, 0

    def start(self, gateway: Any) -> None:
        self.started += 1

    def connect(self, transport: Any, gateway: Any) -> Any:
        connection = super().connect(transport, gateway)
        if self.stays:
            connection.drain = lambda: None  # type: ignore[method-assign]
        return connection

    async def handle(self, stream: Stream, gateway: Any) -> None:
        stream.established()
        while data := await stream.read():
            if data == b"crash":
                raise RuntimeError("a bug of the protocol")
            stream.write(data)


class Kit:
    """A plugin with the protocol, an engine that notes what it is asked, and what a test adds."""

    def __init__(self, echo: Echo | None = None, authenticators: tuple[Authenticator, ...] = ()) -> None:
        self.echo = echo or Echo()
        self.engine = NotingEngine()
        self._authenticators = authenticators
        self.more: list[Any] = []  # protocols

    @hookimpl
    def gateway_protocols(self) -> list[Any]:
        return [self.echo, *self.more]

    @hookimpl
    def gateway_storage_engines(self) -> dict[str, Callable[[Any], MemoryEngine]]:
        return {"noting": lambda config: self.engine}

    @hookimpl
    def gateway_authenticators(self) -> list[Authenticator]:
        return list(self._authenticators)


class NotingEngine(MemoryEngine):
    """Notes how it ends; `stored` is what it says of every position."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.stored = True

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        call(self.stored)

    def close(self) -> None:
        self.events.append("close")


def make(tmp_path: Path, *sets: str, kit: Kit | None = None, dev: bool = True) -> Server:
    kit = kit or Kit()
    settings = [DISABLED, "storage.engine=noting", f"listeners.echo=127.0.0.1:{free_port()}", *sets]
    if has_line():
        settings.append("listeners.line=")
    source = None
    if not dev:
        source = tmp_path / "gateway.toml"
        source.write_text("[anonymous]\npublish = ['#']\nsubscribe = ['#']\n")
    return Server(load(source, settings, dev, tmp_path / "data"), [kit])


def has_line() -> bool:
    """Tell whether the plugin with the fixed port is installed beside us."""
    from importlib.util import find_spec

    return find_spec("gateway_line") is not None


@contextlib.asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def client(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    [address] = [door.address for door in server.doors if door.name == "echo"]
    return await asyncio.wait_for(asyncio.open_connection(address.host, address.port), 10)


async def ask(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes) -> bytes:
    pair[1].write(data)
    return await asyncio.wait_for(pair[0].readexactly(len(data)), 10)


async def leave(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    pair[1].close()
    with contextlib.suppress(ConnectionError):
        await pair[1].wait_closed()


async def test_a_started_server_serves_at_its_doors_and_a_stopped_one_does_not(tmp_path: Path) -> None:
    kit = Kit()
    server = make(tmp_path, kit=kit)
    async with running(server):
        assert [door.name for door in server.doors] == ["echo"]
        assert kit.echo.started == 1
        one = await client(server)
        assert await ask(one, b"hello") == b"hello"
        assert server.connections() == 1
        assert server.broker.retained.get("$sys/broker/version") is not None
        await leave(one)
    with pytest.raises(ConnectionRefusedError):
        await client(server)
    assert kit.engine.events == ["close"]


async def test_clients_are_said_goodbye_before_the_log_is_closed(tmp_path: Path) -> None:
    kit = Kit()
    server = make(tmp_path, kit=kit)
    await server.start()
    pairs = [await client(server) for _ in range(5)]
    for pair in pairs:
        await ask(pair, b"x")
    await server.stop()
    for pair in pairs:
        assert await asyncio.wait_for(pair[0].read(), 10) == b""
        await leave(pair)
    assert server.connections() == 0
    assert kit.engine.events == ["close"]


async def test_a_client_that_does_not_go_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "DRAIN_SECONDS_MAX", 0.05)
    kit = Kit(Echo(stays=True))
    server = make(tmp_path, kit=kit)
    await server.start()
    pair = await client(server)
    await ask(pair, b"x")
    await server.stop()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(pair[0].read(), 10) == b""
    await leave(pair)
    assert server.connections() == 0
    assert kit.engine.events == ["close"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


async def test_a_port_in_use_is_a_fault_that_names_door_and_address(tmp_path: Path, taken: int) -> None:
    kit = Kit()
    server = make(tmp_path, f"listeners.echo=127.0.0.1:{taken}", kit=kit)
    with pytest.raises(ConfigError) as refused:
        await server.start()
    assert len(refused.value.faults) == 1
    assert refused.value.faults[0].startswith(f"listeners.echo: cannot listen on 127.0.0.1:{taken}: ")
    assert "in use" in refused.value.faults[0]
    await server.stop()
    assert kit.engine.events == ["close"]


class _Stubborn:
    """A server of its own that fails when it is to stop."""

    name = "stubborn"
    address = "127.0.0.1:0"

    async def serve(self, address: Any, gateway: Any) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Fail."""
        raise RuntimeError("it will not stop")

    def connections(self) -> int:
        """Nobody is there."""
        return 0


async def test_a_protocol_that_fails_to_stop_does_not_keep_the_log_open(tmp_path: Path) -> None:
    kit = Kit()
    kit.more = [_Stubborn()]
    server = make(tmp_path, kit=kit)
    await server.start()
    with capture_logs() as logs:
        await server.stop()
    assert [str(line["exc_info"]) for line in logs] == ["it will not stop"]
    assert kit.engine.events == ["close"]


FAULTS = {
    "a door nobody knows": ("listeners.nosuch=127.0.0.1:1", "listeners.nosuch: unknown door"),
    "an engine nobody has": ("storage.engine=nosuch", "storage.engine: 'nosuch' is not installed"),
    "a plugin nobody has": ("plugins.disabled=['nosuch']", "plugins.disabled: 'nosuch' is not installed"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_setting_that_nothing_installed_meets_is_a_fault(case: str, tmp_path: Path) -> None:
    setting, complaint = FAULTS[case]
    with pytest.raises((ConfigError, StorageError, PluginError), match=complaint):
        make(tmp_path, setting)


async def test_stop_after_a_start_that_failed_early_does_nothing(tmp_path: Path) -> None:
    kit = Kit()
    server = make(tmp_path, kit=kit)
    await server.stop()
    assert kit.engine.events == []


async def test_a_task_that_fails_is_a_logged_bug_and_the_gateway_goes_on(tmp_path: Path) -> None:
    async with running(make(tmp_path)) as server:
        good, bad = await client(server), await client(server)
        with capture_logs() as logs:
            bad[1].write(b"crash")
            assert await asyncio.wait_for(bad[0].read(), 10) == b""
        assert [line["event"] for line in logs] == ["bug: a task failed"]
        assert await ask(good, b"still here") == b"still here"
        await leave(good)
        await leave(bad)


class Vouches(Authenticator):
    """Vouches for one name, refuses another at once, and notes who was asked."""

    def __init__(self, label: str, asked: list[str], name: str = "", refuses: str = "") -> None:
        self._label, self._asked, self._name, self._refuses = label, asked, name, refuses

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        self._asked.append(self._label)
        if credentials.username == self._refuses:
            raise AuthenticationFailed("not you")
        return Principal(self._label) if credentials.username == self._name else None


@pytest.mark.parametrize(
    ("username", "who", "asked"),
    [("a", "first", ["first"]), ("b", "second", ["first", "second"]), ("x", "", ["first"])],
)
async def test_authenticators_are_asked_in_order_until_one_vouches_or_refuses(
    tmp_path: Path, username: str, who: str, asked: list[str]
) -> None:
    seen: list[str] = []
    vouching = (Vouches("first", seen, "a", refuses="x"), Vouches("second", seen, "b"))
    disabled = "plugins.disabled=['mqtt', 'amqp', 'coap', 'http', 'auth']"
    server = make(tmp_path, disabled, kit=Kit(authenticators=vouching))
    async with running(server):
        connecting: Awaitable[Any] = server.connect(Credentials("test", username=username))
        if who:
            assert (await connecting).principal.name == who
        else:
            with pytest.raises(AuthenticationFailed, match="not you"):
                await connecting
    assert seen == asked


async def test_nobody_vouching_and_nobody_allowing_are_refusals(tmp_path: Path) -> None:
    server = make(tmp_path, "plugins.disabled=['mqtt', 'amqp', 'coap', 'http', 'auth']")
    async with running(server):
        with pytest.raises(AuthenticationFailed, match="nobody vouches"):
            await server.connect(Credentials("test"))
        session = server.open_session(Principal("ann", admin=True), Credentials("test"))
        with pytest.raises(NotAuthorized):
            session.publish(Message("a", b"x", 0))
        session.close()


async def test_the_configuration_can_let_anonymous_clients_in_but_not_manage(tmp_path: Path) -> None:
    async with running(make(tmp_path, dev=False)) as server:
        session = await server.connect(Credentials("test", "unix"))
        assert session.principal.anonymous
        session.publish(Message("a", b"x", 0))
        with pytest.raises(AuthenticationFailed):
            await server.connect(Credentials("test", username="ann", password=b"guess"))
        session.close()


@pytest.mark.parametrize("stored", [True, False])
async def test_waiting_for_the_disk_ends_with_what_the_disk_says(tmp_path: Path, stored: bool) -> None:
    kit = Kit()
    async with running(make(tmp_path, kit=kit)) as server:
        kit.engine.stored = stored
        await server.durable(0)
        await server.durable(-1)
        if stored:
            await server.durable(1)
        else:
            with pytest.raises(NotStored):
                await server.durable(1)


# -- TLS and reloading ---------------------------------------------------------------------------


async def test_a_plugin_has_a_tls_door_without_its_doing(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    port = free_port()
    server = make(tmp_path, f"listeners.echos=127.0.0.1:{port}", *pki.sets())
    async with running(server):
        assert [door.name for door in server.doors] == ["echo", "echos"]
        one = await asyncio.open_connection(
            "127.0.0.1", port, ssl=pki.context(alpn="echo"), server_hostname="localhost"
        )
        assert one[1].get_extra_info("ssl_object").selected_alpn_protocol() == "echo"
        assert await ask(one, b"hello") == b"hello"
        assert server.connections() == 1
        await leave(one)


async def test_reloading_calls_everybody_even_if_one_fails(tmp_path: Path) -> None:
    server = make(tmp_path)
    called: list[str] = []

    def fails() -> None:
        raise RuntimeError("a bug")

    server.on_reload += [fails, lambda: called.append("rules")]
    server.reload()
    assert called == []  # not started: nothing was read that could be old
    async with running(server):
        with capture_logs() as logs:
            server.reload()
        assert called == ["rules"]
        assert [entry["event"] for entry in logs] == ["bug: while reloading"]
