"""A request to the management API: what its path names, and what it brought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec

from gateway.api import Gateway, HttpAnswer, HttpRequest
from gateway.core.access import ADMIN_PREFIX, Action, queue_resource
from gateway.core.errors import InvalidValue

from .. import names
from ..declared import Declared
from ..errors import AmqpFault, Reply
from ..exchanges import Exchange
from ..vhost import Vhost

if TYPE_CHECKING:
    from .. import Amqp

OVERVIEW_RESOURCE: Final = ADMIN_PREFIX + "overview"
DEFINITIONS_RESOURCE: Final = ADMIN_PREFIX + "definitions"
CREATED: Final = HttpAnswer(201)


class Call:
    """One request: what its path names, and what it brought."""

    def __init__(self, amqp: Amqp, gateway: Gateway, request: HttpRequest, parts: dict[str, str]) -> None:
        self.amqp = amqp
        self.gateway = gateway
        self.request = request
        self.session = request.session
        self.parts = parts

    @property
    def vhosts(self) -> list[Vhost]:
        """The virtual host in the path, or all."""
        return [self.vhost] if "vhost" in self.parts else list(self.amqp.vhosts.all.values())

    @property
    def vhost(self) -> Vhost:
        """The virtual host in the path. Raise AmqpFault."""
        found = self.amqp.vhosts.get(self.parts["vhost"])
        if found is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no vhost '{self.parts['vhost']}'")
        return found

    @property
    def exchange(self) -> Exchange:
        """The exchange in the path. Raise AmqpFault."""
        name = self.parts["exchange"]
        return self.vhost.exchange("" if name == "amq.default" else name)

    @property
    def queue(self) -> Declared:
        """The queue in the path, also if a connection has it alone. Raise AmqpFault."""
        found = self.vhost.find(self.parts["queue"])
        if found is None:
            raise AmqpFault(Reply.NOT_FOUND, f"no queue '{self.parts['queue']}'")
        return found

    def json(self) -> dict[str, Any]:
        """Return the body. Raise InvalidValue if it is no JSON object."""
        try:
            found = msgspec.json.decode(self.request.body or b"{}")
        except msgspec.DecodeError as error:
            raise InvalidValue(f"body: {error}") from error
        if not isinstance(found, dict):
            raise InvalidValue("body: a JSON object is expected")
        return found

    def asked(self, name: str) -> str:
        """Return a parameter of the query, or an empty string."""
        return parse_qs(self.request.query).get(name, [""])[0]

    def look(self) -> None:
        """Raise NotAuthorized unless the caller may read."""
        self.session.check(Action.VIEW, OVERVIEW_RESOURCE)

    def change(self) -> None:
        """Raise NotAuthorized unless the caller may change virtual hosts, policies and connections."""
        self.session.check(Action.MANAGE, DEFINITIONS_RESOURCE)

    def manage(self, name: str) -> None:
        """Raise NotAuthorized unless the caller may change the queue of this name."""
        resource = queue_resource(names.queue_to_core(self.parts.get("vhost", "/"), name))
        self.session.check(Action.MANAGE, resource)

    def manage_exchange(self, name: str) -> None:
        """Raise NotAuthorized unless the caller may change the exchange of this name."""
        self.session.check(Action.MANAGE, names.exchange_filter(self.parts.get("vhost", "/"), name))

    def connections(self) -> list[Any]:
        """Return the connections, of the virtual host in the path if there is one."""
        wanted = self.parts.get("vhost")
        found = [c for c in self.amqp.connections if wanted is None or c.vhost.name == wanted]
        return sorted(found, key=lambda connection: connection.name)
