"""A small gateway for the HTTP door alone: a real broker and turn, memory for an engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
from hypothesis import strategies as st

from gateway.api import Address
from gateway.core.access import Action, Authority, Credentials, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import AuthenticationFailed, NotStored
from gateway.core.message import Message, Origin, Outcome
from gateway.core.session import Session
from gateway.listeners import open_listener
from gateway.protocols.http import HttpDoor
from gateway.protocols.http.limits import Limits
from gateway.selectors import LANGUAGES
from gateway.storage.memory import MemoryEngine
from gateway.turn import Turn

DEADLINE_SECONDS = 10


class FailingEngine(MemoryEngine):
    """Memory whose disk can be full: then what was appended since the last flush is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self._flushed = 0
        self._failed_from = 0
        self._waiting: list[tuple[int, Callable[[bool], None]]] = []

    def transact(
        self,
        messages: Sequence[tuple[Message, Sequence[int]]],
        settled: Sequence[tuple[int, Sequence[int]]],
        now_ms: int,
        at_once: bool = False,
        outcome: int = Outcome.ACK,
        cursors: Sequence[tuple[int, str, int]] = (),
    ) -> list[int]:
        if at_once and self.full:
            raise NotStored("no space left")
        return super().transact(messages, settled, now_ms, at_once, outcome, cursors)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        lost = self.full and self.position() > self._flushed
        if lost:
            self._failed_from = self._flushed + 1
            self.forget_from(self._failed_from)
        self._flushed = self.position()
        for _, call in waiting:
            call(not lost)
        if lost:
            raise NotStored("no space left")

    def failed_from(self) -> int:
        return self._failed_from

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        if position <= self._flushed:
            call(True)
        else:
            self._waiting.append((position, call))


class Rules:
    """Everybody may do everything, but with `secret/...` only the boss, and guests only read."""

    def authorize(self, principal: Principal, origin: Origin, action: Action, resource: str) -> Ruling | None:
        if resource.removeprefix("$queue/").startswith("secret"):
            return Ruling(principal.name == "boss")
        guest = principal.name == "guest"
        return Ruling(not guest or (action is Action.SUBSCRIBE) or (action is Action.CONSUME))


class FakeGateway:
    """Implements gateway.api.Gateway."""

    def __init__(self, config: Any = None) -> None:
        self.config = config
        self.clock = Clock()
        self.engine = FailingEngine()
        self.broker = Broker(self.engine, self.clock)
        for language, compiler in LANGUAGES.items():
            self.broker.selectors.add(language, compiler)
        self.scheduler = self.broker.scheduler
        self.protocols: Mapping[str, Any] = {}
        self.http_parts: list[Any] = []
        self.series: list[Any] = []
        self.authority = Authority([Rules()])
        self.turn = Turn(asyncio.get_running_loop(), self.broker)
        self.broker.ready.wake = self.turn.begin
        self.turn.begin()
        self.broker.restore(self.turn.notify)
        self.door: HttpDoor | None = None
        self.logins: list[Credentials] = []
        self.sessions: list[Session] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def begin_turn(self) -> None:
        self.turn.begin()

    async def connect(self, credentials: Credentials) -> Session:
        self.logins.append(credentials)
        await asyncio.sleep(0)  # as a password's hash would
        if credentials.token is not None:
            return self.open_session(self.bearer(credentials.token), credentials)
        if credentials.username is not None and credentials.password != b"pass":
            raise AuthenticationFailed("wrong user name or password")
        return self.open_session(Principal(credentials.username or "anonymous"), credentials)

    def bearer(self, token: str) -> Principal:
        """Know tokens of the form NAME.SECONDS, which end so much later; of 0 never."""
        name, dot, seconds = token.partition(".")
        if not dot:
            raise AuthenticationFailed("the token is not valid")
        ends_ms = self.clock.wall_ms + int(float(seconds) * 1000) if float(seconds) else 0
        return Principal(name, method="token", expires_at_ms=ends_ms)

    def begin_exchange(self, credentials: Credentials) -> None:
        return None

    @property
    def methods(self) -> tuple[str, ...]:
        return ()

    def shared_key(self, kind: str, identity: bytes) -> None:
        return None

    def open_session(self, principal: Principal, credentials: Credentials) -> Session:
        origin = Origin(credentials.protocol, principal.name, credentials.client_id, credentials.peer)
        session = Session(self.broker, principal, origin, self.authority)
        self.sessions.append(session)
        return session

    def when_durable(self, position: int, call: Callable[[bool], None]) -> None:
        self.turn.begin()
        self.engine.when_durable(position, call)

    async def durable(self, position: int) -> None:
        raise AssertionError("not used by this door")

    async def listen(
        self, address: Address, factory: Callable[[], asyncio.BaseProtocol]
    ) -> asyncio.AbstractServer:
        return await open_listener(asyncio.get_running_loop(), address, factory)

    def connections(self) -> int:
        return 0 if self.door is None else self.door.connections()

    def task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Running:
    """A door that is open, its gateway, and a client."""

    def __init__(self, gateway: FakeGateway, door: HttpDoor, client: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.broker = gateway.broker
        self.door = door
        self.client = client
        self.port = door.ports()[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"


async def open_door(config: Any = None, protocols: Mapping[str, Any] | None = None) -> Running:
    """Open a door on a free port."""
    gateway = FakeGateway(config)
    door = HttpDoor(Limits(config))
    gateway.door = door
    gateway.protocols = {"http": door, **(protocols or {})}
    await door.serve(SimpleNamespace(host="127.0.0.1", port=0, path=""), gateway)
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{door.ports()[0]}", timeout=DEADLINE_SECONDS)
    return Running(gateway, door, client)


async def close_door(running: Running) -> None:
    await running.client.aclose()
    await running.door.stop()
    running.gateway.turn.stop()


async def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds; return what it returned."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (result := condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return result


# -- hypothesis ---------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | text
    | st.binary(max_size=20)
)
#: Application header values of every type.
header_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(text | st.sampled_from(["$base64", "$float", "$map"]), inner, max_size=3)
    ),
    max_leaves=8,
)

# -- readers ------------------------------------------------------------------------------


class Events:
    """A reader of server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        """Return (event, decoded data) of the next event that has data."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            event, data = "message", None
            async for line in self._lines:
                if not line:
                    if data is not None:
                        return (event, json.loads(data))
                    event = "message"
                elif line.startswith("id: "):
                    self.last_id = line[4:]
                elif line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: "):
                    data = line[6:]
        raise EOFError

    async def until_id(self) -> None:
        """Read on until an id has been seen."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.last_id:
                line = await anext(self._lines)
                if line.startswith("id: "):
                    self.last_id = line[4:]
