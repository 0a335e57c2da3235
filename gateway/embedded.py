"""A gateway in one's own process and event loop: for tests, and for applications that bring it along.

    async with Embedded() as embedded:                       # in memory, without doors
        session = embedded.session("me")

    async with Embedded("./data", doors={"mqtt": "127.0.0.1:1883"}) as embedded:
        ...                                                   # a commit log, and MQTT clients of this machine

Whoever has the object may do everything. Doors are closed unless named; those that are open let anybody in,
and listen on loopback alone: this is `gateway serve --dev`. One that is open to others has users, so it is
given a configuration file, as `gateway serve` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from .api import Gateway
from .config import Config, load
from .core.access import Credentials, Principal
from .core.session import Session
from .doors import tls_doors
from .server import Server

PROTOCOL = "embedded"  # what `Origin.protocol` says of messages that are published in process
NAME = "embedded"  # of the principal, unless a session names another


class Embedded:
    """One gateway, from `start` to `stop`; it can be started again."""

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        doors: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
        config: str | Path | None = None,
        plugins: Iterable[object] = (),
    ) -> None:
        """Say what it is to be; nothing is opened before `start`.

        `data`: the directory of the log; None keeps everything in memory. `doors`: name and address of those
        that are to open. `settings`: `section.key=value`, as for `gateway serve --set`.
        """
        self._data = None if data is None else Path(data)
        self._doors = dict(doors or {})
        self._settings = list(settings)
        self._config = None if config is None else Path(config)
        self._plugins = tuple(plugins)
        self._server: Server | None = None

    async def start(self) -> None:
        """Recover and open the doors. Raise ConfigError, StorageError, PluginError."""
        assert self._server is None, "it is started"
        server = Server(self._read_config(), self._plugins)
        if self._config is None:
            listeners = server.config.listeners
            for name in (*server.protocols, *tls_doors(server.protocols)):
                if name not in self._doors:
                    listeners[name] = ""
        try:
            await server.start()
        except BaseException:
            await server.stop()
            raise
        self._server = server

    async def stop(self) -> None:
        """Say goodbye to clients and close the log; nothing if it is not started."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()

    @property
    def gateway(self) -> Gateway:
        """The running gateway, as plugins have it."""
        assert self._server is not None, "it is not started"
        return self._server

    @property
    def doors(self) -> dict[str, str]:
        """The doors that are open, and where."""
        assert self._server is not None, "it is not started"
        return {door.name: str(door.address) for door in self._server.doors}

    def session(
        self, client_id: str = "", name: str = NAME, peer: str = "", protocol: str = PROTOCOL
    ) -> Session:
        """Return a new session that may do everything; close it in the end.

        Call `gateway.begin_turn()` before each use of it, as a protocol with a server of its own does.
        """
        self.gateway.begin_turn()
        principal = Principal(name, admin=True)
        return self.gateway.open_session(principal, Credentials(protocol, peer, client_id, name))

    def _read_config(self) -> Config:
        settings = [f"listeners.{name}={address}" for name, address in self._doors.items()]
        if self._data is None:
            settings.append("storage.engine=memory")
        return load(self._config, [*settings, *self._settings], self._config is None, self._data)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
