"""Enhanced authentication: AUTH packets between a client and an authenticator (section 4.12).

The steps are an `Exchange` of an authenticator that knows the method; nobody knowing it is
0x8C [MQTT-4.12.0-1]. The same dialogue makes a session, within CONNECT and CONNACK, and
renews one later: re-authentication, section 4.12.1.
"""

from __future__ import annotations

import asyncio
from typing import cast

from gateway.api import Exchange, Gateway, Transport
from gateway.core.access import Credentials, Principal
from gateway.core.errors import AuthenticationFailed, GatewayError
from gateway.core.session import Session

from .encoder import encode_auth
from .link import Link
from .packets import Auth, Properties
from .reasons import MalformedPacket, Reason

AUTH_STEPS_MAX = 10  # SCRAM takes two, Kerberos four; an exchange without end is an attack


class Dialogue:
    """One exchange: our task waits for the client's AUTH, the client for ours."""

    __slots__ = ("_data", "_gateway", "_method", "_transport")

    def __init__(self, gateway: Gateway, transport: Transport, method: str) -> None:
        self._gateway = gateway
        self._transport = transport
        self._method = method
        self._data: asyncio.Future[bytes] | None = None  # the client's next AUTH

    @property
    def waiting(self) -> bool:
        """Tell whether the client is to answer."""
        return self._data is not None and not self._data.done()

    def take(self, packet: Auth) -> None:
        """Take the client's next step. Raise MalformedPacket if it is none."""
        if packet.reason != Reason.CONTINUE_AUTHENTICATION or not self.waiting:
            raise MalformedPacket(Reason.PROTOCOL_ERROR, "this AUTH was not asked for")
        if packet.properties.get("authentication_method") != self._method:  # [MQTT-4.12.0-5]
            raise MalformedPacket(Reason.PROTOCOL_ERROR, "AUTH with another authentication method")
        assert self._data is not None
        self._data.set_result(cast(bytes, packet.properties.get("authentication_data", b"")))

    def abandon(self) -> None:
        """Nobody will answer any more."""
        if self._data is not None and not self._data.done():
            self._data.cancel()

    async def run(self, credentials: Credentials) -> tuple[Principal, bytes]:
        """Talk until the client is known; return who it is and what to tell it with the success.

        Raise AuthenticationFailed, or MalformedPacket if nobody here knows the method.
        """
        exchange: Exchange | None = self._gateway.begin_exchange(credentials)
        if exchange is None:
            raise MalformedPacket(
                Reason.BAD_AUTHENTICATION_METHOD,
                f"authentication method {self._method!r} is not offered",
            )
        data = credentials.data or b""
        for _ in range(AUTH_STEPS_MAX):
            answer, principal = await exchange.step(data)
            self._gateway.begin_turn()
            if principal is not None:
                return principal, answer
            self._data = asyncio.get_running_loop().create_future()
            properties: Properties = {"authentication_method": self._method, "authentication_data": answer}
            self._transport.resume_reading()
            self._transport.write(encode_auth(Reason.CONTINUE_AUTHENTICATION, properties))
            data = await self._data
        raise AuthenticationFailed("the authentication exchange does not come to an end")


class Renewal:
    """One re-authentication; the session goes on meanwhile [MQTT-4.12.1-2]."""

    __slots__ = ("_dialogue", "_gateway", "_link", "_method", "_session", "_transport")

    def __init__(
        self, gateway: Gateway, transport: Transport, link: Link, session: Session, method: str
    ) -> None:
        self._gateway = gateway
        self._transport = transport
        self._link = link
        self._session = session
        self._method = method
        self._dialogue: Dialogue | None = None

    def auth(self, packet: Auth) -> None:
        """Take an AUTH: the first begins, the others continue."""
        if packet.reason == Reason.REAUTHENTICATE and self._dialogue is None:
            if packet.properties.get("authentication_method") != self._method:  # [MQTT-4.12.1-1]
                raise MalformedPacket(Reason.PROTOCOL_ERROR, "AUTH with another authentication method")
            self._dialogue = Dialogue(self._gateway, self._transport, self._method)
            data = cast("bytes | None", packet.properties.get("authentication_data"))
            self._gateway.task(self._run(self._dialogue, data))
        elif self._dialogue is not None:
            self._dialogue.take(packet)
        else:
            raise MalformedPacket(Reason.PROTOCOL_ERROR, "this AUTH was not asked for")

    def abandon(self) -> None:
        """The connection is gone."""
        if self._dialogue is not None:
            self._dialogue.abandon()

    async def _run(self, dialogue: Dialogue, data: bytes | None) -> None:
        session, origin = self._session, self._session.origin
        credentials = Credentials(
            "mqtt",
            origin.peer,
            origin.client_id,
            method=self._method,
            data=data,
            certificate=self._transport.certificate,
        )
        try:
            principal, final = await dialogue.run(credentials)
            if principal.name != session.principal.name:
                raise AuthenticationFailed("re-authentication cannot change who the client is")
        except MalformedPacket as error:
            self._link.refuse(error.reason, str(error))
        except GatewayError as error:
            self._link.refuse(Reason.NOT_AUTHORIZED, error.detail)  # [MQTT-4.12.1-2]
        else:
            session.renew(principal)
            self._dialogue = None
            properties: Properties = {"authentication_method": self._method}
            if final:
                properties["authentication_data"] = final
            self._link.write(encode_auth(Reason.SUCCESS, properties))
