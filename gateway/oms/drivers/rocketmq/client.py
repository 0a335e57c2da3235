"""One client as RocketMQ's servers know it: id, settings that both sides agree on, signs of life, routes."""

from __future__ import annotations

import asyncio
import logging
import platform
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from gateway.oms.driver import ClientOptions
from gateway.oms.errors import OMSError, OMSTimeoutError
from gateway.rocketmq.names import escape
from gateway.rocketmq.numbers import ClientType, Language
from gateway.rocketmq.payload import put_ms, to_ms
from gateway.rocketmq.schema import CLASSES, Resource, Settings
from gateway.version import __version__

from . import ids
from .endpoints import Endpoint
from .options import Account
from .routes import Route, Routes
from .statuses import check
from .telemetry import Link
from .wire import Wire, Wires

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 10.0  # as official clients: a server forgets who is silent for two minutes
UNANSWERED_MAX: Final = 2  # heartbeats
ROUTE_BEATS: Final = 3  # heartbeats from one look at the routes to the next, as official clients
FAREWELL_SECONDS: Final = 1.0  # for a server that is not there any more
#: Of one request within an operation, so that a second server can be asked.
REQUEST_SECONDS_MAX: Final = 3.0

_HOST: Final = socket.gethostname()
_PLATFORM: Final = platform.platform()


class Site:
    """What all clients of an access point share: where it is, who they are, the channels."""

    def __init__(self, servers: list[Endpoint], wires: Wires, account: Account) -> None:
        self.servers = servers
        self.wires = wires
        self.account = account


class Role:
    """What a client is for."""

    def describe(self, settings: Any) -> None:
        """Complete the settings that servers are told."""

    def asked(self, wire: Wire, command: Any) -> None:
        """A server asks what has become of a transaction."""


class Client:
    """A producer's or a consumer's client."""

    def __init__(self, site: Site, kind: ClientType, namespace: str, options: ClientOptions) -> None:
        self.site = site
        self.kind = kind
        self.id = ids.client_id()
        self.timeout = options.operation_timeout
        self.group = (
            Resource(resource_namespace=namespace, name=escape(options.group)) if options.group else None
        )
        #: What the server said last of how it wants it.
        self.told = Settings()
        self.routes = Routes(self._ask_route)
        self._namespace = namespace
        self._role = Role()
        self._links: dict[Endpoint, Link] = {}
        self._opening = asyncio.Lock()
        self._tending: asyncio.Task[None] | None = None

    async def start(self, role: Role) -> None:
        """Introduce itself to the access point. Raise OMSError if that fails with each of its servers."""
        self._role = role
        failed: OMSError | None = None
        for endpoint in self.site.servers:
            try:
                await self._link(endpoint)
                break
            except OMSError as error:
                failed = error
        else:
            assert failed is not None, "a URL has a host"
            raise failed
        self._tending = asyncio.create_task(self._tend(), name=f"heartbeat of {self.id}")

    async def close(self) -> None:
        """Take leave: what it holds goes to others."""
        if self._tending is not None:
            self._tending.cancel()
            with suppress(asyncio.CancelledError):
                await self._tending
        links, self._links = list(self._links.values()), {}
        request = CLASSES["NotifyClientTerminationRequest"](group=self.group)
        await asyncio.gather(*(self._leave(link.wire, request) for link in links))
        await asyncio.gather(*(link.close() for link in links))

    async def _leave(self, wire: Wire, request: Any) -> None:
        try:
            await wire.call("NotifyClientTermination", request, self.metadata(), FAREWELL_SECONDS)
        except OMSError as error:
            _log.info("%s", error.reason)

    async def _beat(self, link: Link, request: Any) -> None:
        """Say that it is there. A server that says nothing, and does not hang up either, is dialled anew."""
        try:
            reply = await link.wire.call("Heartbeat", request, self.metadata(), REQUEST_SECONDS_MAX)
            link.unanswered = 0
            check(reply.status, "Heartbeat")
        except OMSTimeoutError as error:
            link.unanswered += 1
            _log.info("%s", error.reason)
            if link.unanswered >= UNANSWERED_MAX:
                link.unanswered = 0
                await link.wire.renew()
        except OMSError as error:
            _log.info("%s", error.reason)

    async def _tend(self) -> None:
        beats = 0
        request = CLASSES["HeartbeatRequest"](client_type=self.kind, group=self.group)
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await asyncio.gather(*(self._beat(link, request) for link in self._links.values()))
            beats += 1
            if beats % ROUTE_BEATS == 0:
                await self._follow_routes()

    async def _follow_routes(self) -> None:
        """Know the servers that there are now, and forget those that are gone."""
        await self.routes.refresh()
        wanted = set(self.site.servers)
        for route in self.routes.known():
            wanted.update(route.endpoints)
            with suppress(OMSError):  # the next message to that server finds out
                await self.meet(route)
        for endpoint in self._links.keys() - wanted:
            await self._links.pop(endpoint).close()

    # -- where things are

    async def _ask_route(self, topic: Any) -> list[Any]:
        failed: OMSError | None = None
        for endpoint in self.site.servers:
            request = CLASSES["QueryRouteRequest"](topic=topic, endpoints=endpoint.message())
            try:
                return list((await self.call(endpoint, "QueryRoute", request)).message_queues)
            except OMSError as error:
                failed = error
        assert failed is not None, "a URL has a host"
        raise failed

    async def meet(self, route: Route) -> None:
        """Introduce itself to the servers of a topic. Raise OMSError."""
        for endpoint in route.endpoints:
            if endpoint not in self._links:
                await self._link(endpoint)

    async def say_settings(self) -> None:
        """Tell the servers what has changed. Raise OMSError."""
        await asyncio.gather(*(link.say(self.timeout) for link in self._links.values()))

    async def _link(self, endpoint: Endpoint) -> None:
        async with self._opening:
            if endpoint not in self._links:
                link = Link(self, self.site.wires.to(endpoint))
                await link.open(self.timeout)
                self._links[endpoint] = link

    # -- requests

    async def call(self, endpoint: Endpoint, name: str, request: Any, seconds: float | None = None) -> Any:
        """Return the reply to a request, its status checked. Raise OMSError."""
        reply = await self.ask(endpoint, name, request, seconds)
        check(reply.status, name)
        return reply

    async def ask(self, endpoint: Endpoint, name: str, request: Any, seconds: float | None = None) -> Any:
        """Return the reply to a request, whatever its status. Raise OMSError."""
        wire = self.site.wires.to(endpoint)
        return await wire.call(name, request, self.metadata(), seconds or self.timeout)

    def stream(self, endpoint: Endpoint, name: str, request: Any, seconds: float) -> AsyncIterator[Any]:
        """Yield the replies to a request. Raise OMSError."""
        return self.site.wires.to(endpoint).stream(name, request, self.metadata(), seconds)

    def metadata(self) -> list[tuple[str, str]]:
        """Return what goes with each request."""
        return [
            ("x-mq-language", Language.PYTHON.name),
            ("x-mq-protocol", "GRPC_V2"),
            ("x-mq-client-version", __version__),
            ("x-mq-client-id", self.id),
            ("x-mq-namespace", self._namespace if self._namespace.isascii() else ""),  # resources say it, too
            ("x-mq-request-id", str(uuid.uuid4())),
            *self.site.account.headers(),
        ]

    # -- settings

    def settings(self) -> Any:
        """Return what servers are told."""
        made = Settings(client_type=self.kind)
        made.access_point.CopyFrom(self.site.servers[0].message())
        put_ms(made.request_timeout, round(self.timeout * 1000))
        made.user_agent.language = Language.PYTHON
        made.user_agent.version = __version__
        made.user_agent.platform = _PLATFORM
        made.user_agent.hostname = _HOST
        self._role.describe(made)
        return made

    def take_settings(self, settings: Any) -> None:
        """A server says how it wants it."""
        self.told = settings

    def take_orphan(self, wire: Wire, command: Any) -> None:
        """A server asks about a transaction."""
        self._role.asked(wire, command)

    def pause(self, attempt: int) -> float:
        """Return the seconds that the server wants between an attempt (the first is 1) and the next."""
        policy = self.told.backoff_policy
        if policy.WhichOneof("strategy") == "customized_backoff" and policy.customized_backoff.next:
            pauses = policy.customized_backoff.next
            return to_ms(pauses[min(attempt, len(pauses)) - 1]) / 1000
        backoff = policy.exponential_backoff
        longest = to_ms(backoff.max) / 1000
        pause: float = to_ms(backoff.initial) / 1000 * (backoff.multiplier or 1) ** min(attempt - 1, 64)
        return min(pause, longest) if longest else pause
