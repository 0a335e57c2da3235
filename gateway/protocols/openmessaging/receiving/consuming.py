"""What the door knows of the clients that receive: what they wait for, and where it comes from."""

from __future__ import annotations

from typing import Final

from gateway.api import Gateway, Selector

from ..clients.client import Client
from ..clients.logins import Logins
from .sources import Share, Source
from .waiting import Waiting

SOURCES_MAX: Final = 1024  # topics of a client: more than these are found anew each time

#: Group, and namespace and name of the topic, as the client says them.
Key = tuple[str, str, str]


class Consuming:
    """One client. A source is kept with the filter that it was found for."""

    __slots__ = ("polls", "sources")

    def __init__(self) -> None:
        self.polls: set[Waiting] = set()
        self.sources: dict[Key, tuple[int, str, Source]] = {}

    def source(self, key: Key, kind: int, expression: str) -> Source | None:
        """Return what the client receives from, if it has asked for just that before."""
        found = self.sources.get(key)
        if found is not None and found[0] == kind and found[1] == expression:
            return found[2]
        return None

    def keep(self, key: Key, kind: int, expression: str, source: Source) -> None:
        """The client receives from it from now on."""
        if len(self.sources) >= SOURCES_MAX:
            self.sources.clear()
        self.sources[key] = (kind, expression, source)

    def wants(self, name: str, selector: Selector | None) -> bool:
        """Tell whether the client receives from a shared subscription, by that filter."""
        return any(
            isinstance(source, Share) and source.name == name and source.selector == selector
            for _, _, source in self.sources.values()
        )


class Consumers:
    """All clients that receive."""

    def __init__(self, gateway: Gateway, logins: Logins) -> None:
        self._gateway = gateway
        self._known: dict[Client, Consuming] = {}
        logins.on_gone.append(self._gone)

    def of(self, client: Client) -> Consuming:
        """Return what is known of a client."""
        found = self._known.get(client)
        if found is None:
            found = self._known[client] = Consuming()
        return found

    def defended(self, client: Client, name: str, selector: Selector | None) -> bool:
        """Tell whether others receive from a shared subscription by the filter that it has."""
        return any(
            other is not client and consuming.wants(name, selector)
            for other, consuming in self._known.items()
        )

    def _gone(self, client: Client) -> None:
        """A client has gone: what it was to hold only while it is there goes to others."""
        self._gateway.begin_turn()
        consuming = self._known.pop(client, None)
        if consuming is not None:
            for poll in list(consuming.polls):
                poll.stop(client.session)
        self._gateway.broker.leases.leave(client)
