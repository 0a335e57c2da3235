"""Whose an RPC is: metadata to clients, clients to sessions.

Each call says who it is of, and is signed (`gateway.rocketmq.signature`). The signature covers the time in
seconds, so that one header comes with many calls: the one that was found good last is not looked at again
for a while.
Clients without credentials send the header, too, with an empty access key, or none.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from gateway.api import AuthenticationFailed, Credentials, Gateway, GatewayError, QuotaExceeded
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.signature import METHOD, SIGNED_HEADER, parse_authorization

from ..errors import Refused
from .client import Client

if TYPE_CHECKING:
    from gateway.api import Certificate, Principal

    from ..call import Call, Context
    from .line import Line

CLIENT_ID_MAX: Final = 255  # characters: host, process and a counter take a hundred
NAMESPACE_MAX: Final = 127  # as a topic
SWEEP_MS: Final = 5000  # how late a client that is gone may be noticed
BROKEN_MS: Final = 30_000  # of silence after a Telemetry stream broke: three heartbeats

GOOD_MS: Final = 600_000  # how long a header is not looked at again: it does not get better with the years

#: What a client is known by: host, client id, access key, namespace, the certificate's fingerprint.
Key = tuple[str, str, str, str, str]

#: Is told of a client that ends.
OnGone = Callable[[Client], None]


class Logins:
    """All clients of the door."""

    def __init__(self, gateway: Gateway, idle_seconds: float) -> None:
        self._gateway = gateway
        self._idle_ms = round(idle_seconds * 1000)
        self._broken_ms = min(self._idle_ms, BROKEN_MS)
        self._clients: dict[Key, Client] = {}
        self._by_id: dict[str, list[Client]] = {}
        self._hosts: dict[str, tuple[str, str]] = {}  # gRPC's peer -> (host, host:port)
        self._adrift: dict[Key, list[Line]] = {}  # Telemetry streams of clients that were ended as idle
        self._stopped = False
        self.certificates = False  # whether a door asks for any
        self.on_gone: list[OnGone] = []
        gateway.scheduler.after(SWEEP_MS, self._sweep)

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def named(self, client_id: str) -> list[Client]:
        """Return the clients with an id; several if they have different logins."""
        return self._by_id.get(client_id, [])

    def known(self, context: Context) -> Client | None:
        """Begin a turn, and return whose call it is; None: it has to `enter`."""
        metadata: dict[str, Any] = dict(context.invocation_metadata())
        client = self._clients.get(self._key(context, metadata))
        self._gateway.begin_turn()
        if client is None or client.session.ended:
            return None
        if client.authorization != metadata.get("authorization", ""):
            return None
        now_ms = self._gateway.clock.monotonic_ms
        if now_ms - client.authorized_ms > GOOD_MS:
            return None
        client.seen_ms = now_ms
        return client

    async def enter(self, context: Context) -> Client:
        """Log in, and return the client: the one that is there, if it is the same.

        Raise AuthenticationFailed, QuotaExceeded or Refused. The turn has begun when it returns.
        """
        metadata: dict[str, Any] = dict(context.invocation_metadata())
        key = self._key(context, metadata)
        _, client_id, _, namespace, _ = key
        _check_names(client_id, namespace)
        authorization: str = metadata.get("authorization", "")
        date: str = metadata.get(SIGNED_HEADER, "")
        _, peer = self._peer(context.peer())
        credentials = _credentials(peer, client_id, authorization, date, self._certificate(context))
        principal = await self._gateway.authenticate(credentials)
        self._gateway.begin_turn()
        client = self._clients.get(key)
        if client is not None and (client.session.ended or client.session.principal.name != principal.name):
            self.end(client)
            client = None
        if client is None:
            client = self._open(key, principal, credentials)
        client.authorization = authorization
        client.authorized_ms = client.seen_ms = self._gateway.clock.monotonic_ms
        return client

    def _open(self, key: Key, principal: Principal, credentials: Credentials) -> Client:
        if self._stopped:
            raise Refused(Code.INTERNAL_ERROR, "the gateway is stopping; try again in a moment")
        connections_max = self._gateway.config.limits.connections_max
        if self._gateway.connections() >= connections_max:
            raise QuotaExceeded(f"there are {connections_max} clients, as many as there may be")
        session = self._gateway.open_session(principal, credentials)
        client = Client(self, key, credentials.client_id, key[3], session)
        self._clients[key] = client
        self._by_id.setdefault(client.id, []).append(client)
        for line in self._adrift.pop(key, ()):
            client.take(line)
        return client

    def _key(self, context: Context, metadata: dict[str, Any]) -> Key:
        """Return what a client is known by; what it says itself of it is not verified yet."""
        certificate = self._certificate(context) if self.certificates else None
        return (
            self._peer(context.peer())[0],
            metadata.get("x-mq-client-id", ""),
            _access_key(metadata.get("authorization", "")),
            metadata.get("x-mq-namespace", ""),
            certificate.fingerprint if certificate is not None else "",
        )

    def _peer(self, text: str) -> tuple[str, str]:
        """Return (host, host:port) of what gRPC calls a peer, such as `ipv6:%5B::1%5D:4711`."""
        found = self._hosts.get(text)
        if found is None:
            kind, _, rest = urllib.parse.unquote(text).partition(":")
            found = ("unix", "unix") if kind == "unix" else (rest.rpartition(":")[0].strip("[]"), rest)
            if len(self._hosts) >= 4 * len(self._clients) + 1024:  # ports come and go
                self._hosts.clear()
            self._hosts[text] = found
        return found

    def _certificate(self, context: Context) -> Certificate | None:
        """Return what TLS has verified of a client. Raise AuthenticationFailed if nobody can read it."""
        found = context.auth_context().get("x509_pem_cert") if self.certificates else None
        if not found:
            return None
        from .certificates import certificate_of

        try:
            return certificate_of(found[0])
        except ValueError as error:
            raise AuthenticationFailed(f"the client certificate cannot be understood: {error}") from error

    # -- Telemetry streams ------------------------------------------------------------------------

    async def speaks(self, call: Call) -> Client:
        """Return whose a Telemetry stream is, now that its client has said something there.

        A client that was ended as idle comes back with it. Raise what `enter` raises.
        """
        client = self._clients.get(call.client.key)
        if client is None:
            client = await self.enter(call.context)
        self._gateway.begin_turn()
        client.seen_ms = self._gateway.clock.monotonic_ms
        call.client = client
        return client

    def hung_up(self, key: Key, line: Line) -> None:
        """A Telemetry stream is over."""
        client = self._clients.get(key)
        lines = client.lines if client is not None else self._adrift.get(key, [])
        if line in lines:
            lines.remove(line)
        if client is not None:
            client.hung_up = not lines
        elif not lines:
            self._adrift.pop(key, None)

    # -- the end ----------------------------------------------------------------------------------

    def end(self, client: Client, error: GatewayError | None = None) -> None:
        """A client is gone, or may not go on; `error` says why, and is told by its Telemetry streams."""
        if client.ended:
            return
        client.ended = True
        if self._clients.get(client.key) is client:
            del self._clients[client.key]
        others = self._by_id[client.id]
        others.remove(client)
        if not others:
            del self._by_id[client.id]
        for call in self.on_gone:
            call(client)
        if error is not None or self._stopped:
            for line in client.lines:
                line.close(error)
        elif client.lines:  # who is only slow goes on with it: a client of Python makes no other for minutes
            self._adrift[client.key] = client.lines
        client.session.ended = True
        client.session.close()

    def _sweep(self) -> None:
        """End clients that nobody has heard of for long, and that wait for nothing."""
        now_ms = self._gateway.clock.monotonic_ms
        for client in self:
            idle_ms = self._broken_ms if client.hung_up else self._idle_ms
            if now_ms - client.seen_ms > idle_ms and not client.calls:
                self.end(client)
        self._gateway.scheduler.after(SWEEP_MS, self._sweep)

    def stop(self) -> None:
        """End all, and let nobody in any more."""
        self._stopped = True
        for client in self:
            self.end(client)
        for lines in self._adrift.values():
            for line in lines:
                line.close()


def _access_key(authorization: str) -> str:
    """Return what a header says, unverified: part of what a client is found by."""
    begin = authorization.find("Credential=")
    if begin < 0:
        return ""
    return authorization[begin + 11 :].partition(",")[0].partition("/")[0]


def _check_names(client_id: str, namespace: str) -> None:
    if not client_id:
        raise Refused(
            Code.CLIENT_ID_REQUIRED, "x-mq-client-id: missing; clients have to say which one they are"
        )
    if len(client_id) > CLIENT_ID_MAX:
        raise Refused(Code.BAD_REQUEST, f"x-mq-client-id: {CLIENT_ID_MAX} characters are allowed")
    if len(namespace) > NAMESPACE_MAX or any(character in namespace for character in "/+#$\0"):
        raise Refused(Code.BAD_REQUEST, "x-mq-namespace: one level of a topic is expected")


def _credentials(
    peer: str, client_id: str, authorization: str, date: str, certificate: Certificate | None
) -> Credentials:
    """Return what a call says of who asks. Raise AuthenticationFailed."""
    signature = parse_authorization(authorization) if authorization else None
    if signature is None:
        return Credentials("openmessaging", peer, client_id, certificate=certificate)
    if not date:
        raise AuthenticationFailed(f"{SIGNED_HEADER}: missing, and it is what is signed")
    return Credentials(
        "openmessaging",
        peer,
        client_id,
        signature.access_key,
        method=METHOD,
        data=signature.signature,
        signed=date.encode(),
        certificate=certificate,
    )
