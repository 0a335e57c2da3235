"""Whose request it is: links to clients, clients to sessions.

A client is a session of the broker. It is found by the link (an address, a DTLS or OSCORE association,
a connection), and by what the request says of itself in its query: `clientid`, `username` and
`password`, or `token`. Who has a client id is the same client at every address: a device whose NAT
gives it another port goes on where it was. Who has neither id nor association is its address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.api import Gateway, GatewayError, Session
from gateway.core.access import Credentials, Principal
from gateway.core.errors import InvalidValue
from gateway.core.message import host_of

from .answers import Refused, answer_to
from .exchange import Link, Login, Request
from .numbers import SERVICE_UNAVAILABLE, UNAUTHORIZED

if TYPE_CHECKING:
    from .topics.observation import Observation

CLIENT_ID_MAX: Final = 128  # characters of a query option, and enough for a certificate's name or a UUID
CLIENTS_OF_LINK_MAX: Final = 256  # a gateway that speaks for its devices has one each
WAITING_MAX: Final = 64  # requests that wait for one login: a window of the sender's, not more
NOBODY: Final[Login] = ("", "", "", "")

#: Query parameter -> its place in a `Login`.
_LOGIN: Final = {"clientid": 0, "username": 1, "password": 2, "token": 3}

Then = Callable[["Client", Request], None]
#: Is told of a client that ends, and why, if that was not its own doing.
OnGone = Callable[["Client", GatewayError | None], None]


class Client:
    """A client's session, its links, and what it observes."""

    __slots__ = ("_clients", "earlier", "links", "name", "observations", "session")

    def __init__(self, clients: Clients, session: Session, name: tuple[str, str] | None) -> None:
        self._clients = clients
        self.session = session
        session.owner = self
        self.name = name  # (principal, client id) of one that is known again
        self.earlier: Client | None = None  # who had the name before, and may have observations still
        self.links: list[Link] = []
        self.observations: dict[bytes, Observation] = {}  # by token

    def end(self, error: GatewayError) -> None:
        """The session may not go on (`core.caller.Owner`): the next request has to log in again."""
        self._clients.end(self, error)


class Clients:
    """All clients of the door."""

    __slots__ = ("_gateway", "_named", "_networks", "_waiting", "on_gone")

    def __init__(self, gateway: Gateway, settings: Any) -> None:
        self._gateway = gateway
        self._networks = [
            ipaddress.ip_network(text, strict=False) for text in settings.plain_credentials_from
        ]
        self._named: dict[tuple[str, str], Client] = {}
        self._waiting: dict[tuple[Link, Login], list[tuple[Request, Then]]] = {}
        self.on_gone: list[OnGone] = []  # who observes or waits is told

    def find(self, request: Request) -> Client | None:
        """Return whose request it is, if that is known: the hot path's way."""
        login = request.options.login
        if login is None:
            login = request.options.login = read_login(request.options.query)
        link = request.link
        if login is NOBODY:
            client = link.client
        else:
            client = link.clients.get(login) if link.clients is not None else None
        if client is None or client.session.ended:
            return None
        return client

    def enter(self, request: Request, then: Then) -> None:
        """Find out whose request it is, and call `then`; who is refused is answered."""
        login = request.options.login
        assert login is not None, "find was asked before"
        link = request.link
        key = (link, login)
        waiting = self._waiting.get(key)
        if waiting is not None:
            if len(waiting) >= WAITING_MAX:
                request.respond(answer_to(Refused(SERVICE_UNAVAILABLE, "too many requests wait for a login")))
                return
            waiting.append((request, then))
            return
        try:
            credentials = self._credentials(link, login)
        except GatewayError as error:
            request.respond(answer_to(error))
            return
        self._waiting[key] = [(request, then)]
        self._gateway.task(self._log_in(key, credentials))

    def _credentials(self, link: Link, login: Login) -> Credentials:
        """Return what a request says of itself. Raise GatewayError if it must not."""
        client_id, username, password, token = login
        if len(client_id) > CLIENT_ID_MAX:
            raise InvalidValue(f"the client id has {len(client_id)} characters; {CLIENT_ID_MAX} are allowed")
        if (username or password or token) and not link.secure and not self._may_be_read(link.peer):
            raise Refused(
                UNAUTHORIZED,
                "credentials in plain text are not taken from this address; use coaps or OSCORE",
            )
        return Credentials(
            "coap",
            link.peer,
            client_id,
            username or None,
            password.encode() if username else None,
            token=token or None,
            certificate=link.certificate,
        )

    def _may_be_read(self, peer: str) -> bool:
        """Tell whether a client of that address may send credentials that anybody on the way can read."""
        if peer == "unix":
            return True
        address = ipaddress.ip_address(host_of(peer).partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)

    async def _log_in(self, key: tuple[Link, Login], credentials: Credentials) -> None:
        link, login = key
        error: GatewayError | None = None
        client: Client | None = None
        try:
            client = await self._client(link, login, credentials)
        except GatewayError as refused:
            error = refused
        self._gateway.begin_turn()
        for request, then in self._waiting.pop(key):
            if client is not None:
                then(client, request)
            else:
                assert error is not None
                request.respond(answer_to(error))

    async def _client(self, link: Link, login: Login, credentials: Credentials) -> Client:
        """Raise GatewayError."""
        anonymous = credentials.username is None and credentials.token is None
        if anonymous:
            link.confirm()
        principal = link.principal
        if principal is None or not anonymous:
            principal = await self._gateway.authenticate(credentials)
            self._gateway.begin_turn()
        known_by = credentials.client_id or (link.identity if anonymous else "")
        name = (principal.name, known_by)
        client = self._named.get(name) if known_by else None
        if client is None or not _goes_on(client, principal, link):
            session = self._gateway.open_session(principal, credentials)
            client = Client(self, session, name if known_by else None)
            if client.name is not None:
                self._take_over(client, client.name)
        self._join(client, link, login)
        return client

    def _take_over(self, client: Client, name: tuple[str, str]) -> None:
        """Give a name to a client that is it by another login, or from elsewhere: it may do something else.

        What the earlier one observes is its own until it registers again (see `Observers.register`).
        """
        earlier = self._named.get(name)
        self._named[name] = client
        if earlier is None or earlier.session.ended:
            return
        if earlier.earlier is not None:
            self.end(earlier.earlier)
            earlier.earlier = None
        client.earlier = earlier

    def _join(self, client: Client, link: Link, login: Login) -> None:
        client.links.append(link)
        if login is NOBODY:
            link.client = client
            return
        if link.clients is None:
            link.clients = {}
        elif len(link.clients) >= CLIENTS_OF_LINK_MAX:
            self._leave(link.clients.pop(next(iter(link.clients))), link)
        link.clients[login] = client

    def gone(self, link: Link) -> None:
        """A link is closed."""
        for client in [*(link.clients or {}).values(), link.client]:
            if client is not None:
                self._leave(client, link)
        link.client = link.clients = None

    def _leave(self, client: Client, link: Link) -> None:
        if link in client.links:
            client.links.remove(link)
        self.close_if_idle(client)

    def close_if_idle(self, client: Client) -> None:
        """End a session that nothing can come by any more, and that nobody waits for."""
        if client.links or client.observations:
            return
        self.end(client)

    def end(self, client: Client, error: GatewayError | None = None) -> None:
        """End a session."""
        if client.name is not None and self._named.get(client.name) is client:
            del self._named[client.name]
        if client.session.owner is client:  # not closed yet
            for call in self.on_gone:
                call(client, error)
            client.session.ended = True
            client.session.close()


def _goes_on(client: Client, principal: Principal, link: Link) -> bool:
    """Tell whether a link may use a client's session: rules would say of both the same.

    They go by the principal, whatever has vouched for it, and by the address.
    """
    session = client.session
    if session.ended or host_of(session.origin.peer) != host_of(link.peer):
        return False
    known = session.principal
    return principal is known or all(
        getattr(principal, name) == getattr(known, name) for name in Principal.__slots__
    )


def read_login(query: tuple[str, ...]) -> Login:
    """Return what a query says of its client; NOBODY itself if it says nothing."""
    found: dict[int, str] = {}
    for item in query:
        name, separator, value = item.partition("=")
        if separator and name in _LOGIN:
            found[_LOGIN[name]] = value
    if not found:
        return NOBODY
    return (found.get(0, ""), found.get(1, ""), found.get(2, ""), found.get(3, ""))


LOGIN_PARAMETERS: Final = frozenset(_LOGIN)
