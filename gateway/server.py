"""Build, recover, listen, drain, stop: the imperative shell around one broker.

No protocol, engine or authenticator is named here: they come through the plugin manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, cast

import msgspec
import structlog

from . import plugins
from .admission import Admission
from .api import (
    Address,
    Authenticator,
    ConnectionProtocol,
    DatagramProtocol,
    Exchange,
    Flushable,
    HttpPart,
    Protocol,
    Series,
    ServerProtocol,
    SharedKey,
    TlsMaterial,
)
from .audit import Audit
from .config import Config, ConfigError
from .core.access import Authority, Credentials, Principal
from .core.broker import Broker
from .core.clock import Clock
from .core.errors import GatewayError, NotStored, StorageError
from .core.message import Origin
from .core.scheduler import Scheduler
from .core.session import Session
from .door_api import Repeating
from .doors import address_of, check_doors, tls_doors
from .listeners import ConnectionLimits, Door, SocketTransport, open_listener
from .sysinfo import SysInfo
from .tls_transport import TlsListener
from .turn import Turn

log = structlog.get_logger("gateway")

DRAIN_SECONDS_MAX = 5.0  # how long clients may take to leave; SIGTERM must end within 10 s
HANDSHAKE_CHECK_MS = 500  # how late a slow handshake may be noticed
METERS_CHECK_MS = 60_000  # how long the use of a client that is gone is remembered at most
SESSIONS_PER_REVIEW = 200  # some milliseconds: other clients are served in between
GC_THRESHOLDS = (50_000, 20, 100)  # the hot path makes garbage, but no cycles: look for them rarely
SWITCH_INTERVAL_SECONDS = 0.001  # the thread that synced the log must get the interpreter back soon


class OpenDoor:
    """A door that is open: for the ready line, and for closing it.

    It has a listener of ours, a protocol with sockets of its own, or both.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        listener: asyncio.AbstractServer | None,
        own: ServerProtocol | DatagramProtocol | None,
    ) -> None:
        self.name = name
        self.address = address
        self.listener = listener
        self.own = own


class Server:
    """One running gateway; implements `gateway.api.Gateway`."""

    def __init__(self, config: Config, extra_plugins: Iterable[object] = ()) -> None:
        self.config = config
        self._manager = plugins.plugin_manager(config.plugins.disabled, extra_plugins)
        plugins.call_hook(self._manager, "gateway_configured", config=config)
        self.protocols: Mapping[str, Protocol] = plugins.named(
            plugins.collect(self._manager, "gateway_protocols", config=config), "protocol"
        )
        self.tls = check_doors(config, self.protocols)
        #: What `reload` calls, in this order. What is wrong with a file is logged, not raised.
        self.on_reload: list[Callable[[], None]] = [self.tls.reload]
        interceptors = plugins.collect(self._manager, "gateway_interceptors", config=config)
        self._intercept = tuple(interceptor.on_publish for interceptor in interceptors)
        self.clock = Clock()
        engine = plugins.engine_factory(self._manager, config.storage.engine)(config)
        self.broker = Broker(engine, self.clock, config.limits.topics_cached_max)
        self.broker.on_bug = _log_bug
        for language, compiler in plugins.mapped(
            self._manager, "gateway_selectors", "selector language"
        ).items():
            self.broker.selectors.add(language, compiler)
        self.broker.router.rules = list(config.storage.durability.items())
        self.broker.dedup.configure(
            round(config.dedup.key_seconds * 1000),
            {name: round(seconds * 1000) for name, seconds in config.dedup.message_ids.items()},
            {
                found.name: found.repeats_ms
                for found in self.protocols.values()
                if isinstance(found, Repeating)
            },
        )
        self.broker.session_subscriptions_max = config.limits.session_subscriptions_max
        kept = config.dead_letters
        self.broker.letters.limit(kept.length_max, kept.bytes_max, kept.days)
        self.broker.catalog.memory_messages_max = config.limits.queue_memory_messages_max
        self.limits = ConnectionLimits(
            config.limits.connections_max,
            config.limits.handshake_seconds_max,
            config.limits.connection_buffer_bytes_max,
        )
        self.audit = self._audit()
        self.authority = Authority(
            plugins.collect(self._manager, "gateway_authorizers", config=config),
            plugins.collect(self._manager, "gateway_limiters", config=config),
            self.audit,
        )
        self._authenticators: list[Authenticator] = plugins.collect(
            self._manager, "gateway_authenticators", config=config
        )
        self.admission = Admission(self._authenticators, self.clock, self.login_refused)
        self.http_parts: list[HttpPart] = []
        self.series: list[Callable[[], Iterable[Series]]] = []
        self.doors: list[OpenDoor] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: Turn | None = None
        self._recovered = False
        self._clock_offset_ms = 0
        self.limits.elsewhere = self._connections_elsewhere
        self.sysinfo = SysInfo(self.broker, self.connections)

    # -- gateway.api.Gateway ------------------------------------------------------------------

    @property
    def scheduler(self) -> Scheduler:
        """The broker's timers."""
        return self.broker.scheduler

    @property
    def turn(self) -> Turn:
        """The turn of the running gateway."""
        assert self._turn is not None, "the gateway is not started"
        return self._turn

    def begin_turn(self) -> None:
        self.turn.begin()

    def flush_later(self, socket: Flushable) -> None:
        self.turn.dirty(socket)

    async def authenticate(self, credentials: Credentials) -> Principal:
        return await self.admission.admit(credentials)

    async def connect(self, credentials: Credentials) -> Session:
        principal = await self.admission.admit(credentials)
        self.begin_turn()
        return self.open_session(principal, credentials)

    def begin_exchange(self, credentials: Credentials) -> Exchange | None:
        return self.admission.exchange(credentials)

    @property
    def methods(self) -> tuple[str, ...]:
        known = (method for authenticator in self._authenticators for method in authenticator.methods)
        return tuple(dict.fromkeys(known))

    def users(self) -> list[tuple[str, bool]]:
        return [found for authenticator in self._authenticators for found in authenticator.users()]

    def principal(self, name: str) -> Principal | None:
        for authenticator in self._authenticators:
            found: Principal | None = authenticator.principal(name)
            if found is not None:
                return found
        return None

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        for authenticator in self._authenticators:
            found: SharedKey | None = authenticator.shared_key(kind, identity)
            if found is not None:
                return found
        return None

    def open_session(self, principal: Principal, credentials: Credentials) -> Session:
        origin = Origin(credentials.protocol, principal.name, credentials.client_id, credentials.peer)
        return Session(self.broker, principal, origin, self.authority, self._intercept)

    def rules_changed(self) -> None:
        self.authority.reconsider()
        self._review()

    def _review(self) -> None:
        """Have sessions give up what they may not have any more, some in each turn."""
        self.begin_turn()
        if self.authority.review(SESSIONS_PER_REVIEW):
            self.scheduler.after(0, self._review)

    def _audit(self) -> Audit:
        kept = self.config.storage.engine != "memory"
        return Audit(
            self.broker,
            self.config.data_directory if kept else None,
            lambda fault: log.error("the audit log cannot be written", reason=fault),
        )

    def login_refused(self, credentials: Credentials, why: str) -> None:
        counts, door = self.authority.logins_refused, credentials.protocol
        counts[door] = counts.get(door, 0) + 1
        self.audit.login_refused(credentials, why)

    def tls_material(self, door: str) -> TlsMaterial:
        return self.tls[door].material

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        self.turn.begin()
        self.broker.engine.when_durable(position, call)

    async def durable(self, position: int) -> None:
        if position <= 0:
            return
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(stored: bool) -> None:
            if not future.done():
                future.set_result(stored)

        self.when_durable(position, done)
        if not await future:
            raise NotStored("the message could not be written to disk; try again later")

    def task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def listen(
        self, address: Address, factory: Callable[[], asyncio.BaseProtocol]
    ) -> asyncio.AbstractServer:
        if address.tls:
            door = self.tls[address.tls]
            factory = TlsListener(
                door, factory, self.limits, self.turn, lambda: self.clock.monotonic_ms
            ).connection
        return await open_listener(asyncio.get_running_loop(), address, factory)

    def connections(self) -> int:
        return self.limits.count()

    def _connections_elsewhere(self) -> int:
        return sum(protocol.connections() for protocol in self._servers())

    def _servers(self) -> Iterable[ServerProtocol | DatagramProtocol]:
        """Return every protocol that has sockets of its own; it may have two doors."""
        return dict.fromkeys(door.own for door in self.doors if door.own is not None)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, GatewayError):
            log.info("refused", reason=error.detail)
        else:
            log.error("bug: a task failed", exc_info=error)

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Recover the log and open every door. Raise StorageError, ConfigError or OSError."""
        turn = self._turn = Turn(asyncio.get_running_loop(), self.broker)
        self.broker.ready.wake = turn.begin
        turn.begin()
        for remark in self.broker.restore(turn.notify):
            log.warning("recovery", remark=remark)
        self._recovered = True
        self._open_audit()
        plugins.call_hook(self._manager, "gateway_recovered", gateway=self)
        for parts in plugins.call_hook(self._manager, "gateway_http_parts", gateway=self):
            self.http_parts += parts[1]
        self.http_parts += [part for part in self.protocols.values() if isinstance(part, HttpPart)]
        for protocol in self.protocols.values():
            if isinstance(protocol, ConnectionProtocol):
                protocol.start(self)
        self._check_handshakes()
        self._forget_idle_meters()
        self.sysinfo.start()
        self.tls.say_remarks()
        self.tls.watch(self.scheduler)
        for name, protocol, address in self._addresses():
            try:
                await self._open(name, protocol, address)
            except OSError as error:
                reason = error.strerror or error
                raise ConfigError([f"listeners.{name}: cannot listen on {address}: {reason}"]) from error
        plugins.call_hook(self._manager, "gateway_started", gateway=self)

    def _open_audit(self) -> None:
        try:
            self.audit.open()
        except OSError as error:
            raise StorageError(f"the audit log cannot be written: {error}") from error

    def _addresses(self) -> list[tuple[str, Protocol, Any]]:
        """Return (door, protocol, address) of every door that is to be opened."""
        found: list[tuple[str, Protocol, Any]] = []
        for name, protocol in self.protocols.items():
            address = address_of(self.config, name, protocol)
            if address is not None:
                found.append((name, protocol, address))
        for door, name in tls_doors(self.protocols).items():
            address = self.config.address(door, "")
            if address is not None:
                found.append((door, self.protocols[name], msgspec.structs.replace(address, tls=door)))
        return found

    async def _open(self, name: str, protocol: Protocol, address: Any) -> None:
        if isinstance(protocol, ServerProtocol):
            await protocol.serve(address, self)
            self.doors.append(OpenDoor(name, address, None, protocol))
            return
        own = protocol if isinstance(protocol, DatagramProtocol) and not address.path else None
        listener = None
        if not (address.tls and self.tls[address.tls].bare):  # what has no certificate has no TLS
            proxy_from = self._proxy_rule() if name in self.config.network.proxy_protocol else None
            door = Door(protocol, self, self.turn, self.limits, proxy_from)
            listener = await self.listen(address, lambda: SocketTransport(door))
        self.doors.append(OpenDoor(name, address, listener, own))
        if own is not None:
            if listener is not None and not address.port:  # "any": both are to be at one address
                address = msgspec.structs.replace(address, port=_port_of(listener))
            await own.listen_datagrams(address, self)

    def _proxy_rule(self) -> Callable[[str], bool]:
        networks = [ipaddress.ip_network(text, strict=False) for text in self.config.network.proxy_from]

        def trusted(peer: str) -> bool:
            host = peer.rpartition(":")[0].strip("[]")
            return peer == "unix" or any(ipaddress.ip_address(host) in network for network in networks)

        return trusted

    def _check_handshakes(self) -> None:
        self.limits.expire(self.clock.monotonic_ms)
        self._note_clock()
        self.scheduler.after(HANDSHAKE_CHECK_MS, self._check_handshakes)

    def _forget_idle_meters(self) -> None:
        self.authority.quotas.forget_idle(self.clock.monotonic_ms)
        self.scheduler.after(METERS_CHECK_MS, self._forget_idle_meters)

    def _note_clock(self) -> None:
        """Say that the wall clock has jumped."""
        offset_ms = self.clock.offset_ms
        if offset_ms != self._clock_offset_ms:
            jump = (offset_ms - self._clock_offset_ms) / 1000
            self._clock_offset_ms = offset_ms
            log.warning("the wall clock has jumped; messages go by the time as it was", seconds=round(jump))

    def reload(self) -> None:
        """Read again what was read from files: certificates. Nobody's connection ends."""
        if self._turn is None:
            return  # not started: nothing was read that could be old
        self.begin_turn()
        for call in self.on_reload:
            try:
                call()
            except Exception:
                log.exception("bug: while reloading")

    async def stop(self) -> None:
        """Close the doors, say goodbye, end every session, close the log."""
        for door in self.doors:
            if door.listener is not None:
                door.listener.close()
        if not self._recovered:  # a fault at start: there is nothing to say goodbye to
            return
        self.begin_turn()
        for transport in list(self.limits.open):
            transport.drain()
        stops = (protocol.stop() for protocol in self._servers())
        failed = [
            error for error in await asyncio.gather(*stops, return_exceptions=True) if error is not None
        ]
        await self._wait_for_clients()
        failed += plugins.tell(self._manager, "gateway_stopping", gateway=self)
        for error in failed:
            log.error("bug: a plugin failed", exc_info=error)  # the log must be closed all the same
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)
        self.broker.dedup.stop()
        self.turn.stop()
        self.audit.close()
        self.broker.engine.close()

    async def _wait_for_clients(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.limits.none_open.wait(), DRAIN_SECONDS_MAX)
        for transport in list(self.limits.open):
            transport.abort()
        await asyncio.sleep(0)


def _port_of(listener: asyncio.AbstractServer) -> int:
    sockets: Any = cast(Any, listener).sockets  # of the loops' own servers, which all have them
    return int(sockets[0].getsockname()[1])


def _log_bug(what: str, error: Exception) -> None:
    log.error("bug: " + what, exc_info=error)


def tune_interpreter() -> None:
    """Arrange for low latency: everything made so far is permanent, and threads switch quickly.

    For a process that is a gateway and nothing else.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop where there is one, else asyncio's own (several times slower)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
