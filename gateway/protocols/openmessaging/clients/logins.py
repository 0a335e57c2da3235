"""Whose an RPC is: metadata to clients, clients to sessions.

Each call says who it is of, and is signed (`gateway.rocketmq.signature`). The signature covers the time in
seconds, so that one header comes with many calls: the one that was found good last is not looked at again.
Clients without credentials send the header, too, with an empty access key, or none.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from gateway.api import AuthenticationFailed, Credentials, Gateway, GatewayError
from gateway.rocketmq.numbers import Code
from gateway.rocketmq.signature import METHOD, SIGNED_HEADER, parse_authorization

from ..errors import Refused
from .client import Client

if TYPE_CHECKING:
    from gateway.api import Certificate

    from ..call import Context

CLIENT_ID_MAX: Final = 255  # characters: host, process and a counter take a hundred
NAMESPACE_MAX: Final = 127  # as a topic
SWEEP_MS: Final = 5000  # how late a client that is gone may be noticed

#: Is told of a client that ends.
OnGone = Callable[[Client], None]


class Logins:
    """All clients of the door."""

    def __init__(self, gateway: Gateway, idle_seconds: float) -> None:
        self._gateway = gateway
        self._idle_ms = round(idle_seconds * 1000)
        self._clients: dict[tuple[str, ...], Client] = {}
        self._by_id: dict[str, list[Client]] = {}
        self._hosts: dict[str, tuple[str, str]] = {}  # gRPC's peer -> (host, host:port)
        self.on_gone: list[OnGone] = []
        gateway.scheduler.after(SWEEP_MS, self._sweep)

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def named(self, client_id: str) -> list[Client]:
        """Return the clients with an id; several if they have different logins."""
        return self._by_id.get(client_id, [])

    async def of(self, context: Context) -> Client:
        """Return whose call it is. Raise AuthenticationFailed, QuotaExceeded or Refused."""
        metadata: dict[str, Any] = dict(context.invocation_metadata())
        authorization: str = metadata.get("authorization", "")
        host, peer = self._peer(context.peer())
        client_id: str = metadata.get("x-mq-client-id", "")
        namespace: str = metadata.get("x-mq-namespace", "")
        access_key = _access_key(authorization)
        certificate = self._certificate(context)
        fingerprint = certificate.fingerprint if certificate is not None else ""
        key = (host, client_id, access_key, namespace, fingerprint)
        client = self._clients.get(key)
        self._gateway.begin_turn()
        if client is None or client.session.ended or client.authorization != authorization:
            date: str = metadata.get(SIGNED_HEADER, "")
            credentials = _credentials(peer, client_id, authorization, date, certificate)
            client = await self._enter(key, namespace, credentials, authorization)
        client.seen_ms = self._gateway.clock.monotonic_ms
        return client

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
        """Return what TLS has verified of a client."""
        found = context.auth_context().get("x509_pem_cert")
        if not found:
            return None
        from .certificates import certificate_of

        return certificate_of(found[0])

    async def _enter(
        self, key: tuple[str, ...], namespace: str, credentials: Credentials, authorization: str
    ) -> Client:
        """Log in, and return the client: the one that is there, if it is the same."""
        _check_names(credentials.client_id, namespace)
        principal = await self._gateway.authenticate(credentials)
        self._gateway.begin_turn()
        client = self._clients.get(key)
        if client is not None and not client.session.ended:
            if client.session.principal.name != principal.name:
                self.end(client)
            else:
                client.authorization = authorization
                return client
        session = self._gateway.open_session(principal, credentials)
        client = Client(self, key, credentials.client_id, namespace, session)
        client.authorization = authorization
        self._clients[key] = client
        self._by_id.setdefault(client.id, []).append(client)
        return client

    def end(self, client: Client, error: GatewayError | None = None) -> None:
        """A client is gone, or may not go on."""
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
        for commands in client.commands:
            commands.put_nowait(None)
        client.session.ended = True
        client.session.close()

    def _sweep(self) -> None:
        """End clients that nobody has heard of for long, and that wait for nothing."""
        earliest_ms = self._gateway.clock.monotonic_ms - self._idle_ms
        for client in self:
            if client.seen_ms < earliest_ms and not client.calls:
                self.end(client)
        self._gateway.scheduler.after(SWEEP_MS, self._sweep)

    def stop(self) -> None:
        """End all."""
        for client in self:
            self.end(client)


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
