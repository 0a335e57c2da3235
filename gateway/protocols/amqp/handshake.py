"""How an AMQP connection begins: protocol header, start, tune, open [AMQP 0-9-1, 2.2.4].

PLAIN and AMQPLAIN are offered, and every exchange that an authenticator knows: EXTERNAL for client
certificates, SCRAM-SHA-256. An exchange goes on in secure and secure-ok; as the protocol carries
nothing with the success, a last word of ours is one more secure, answered by nothing [RFC 4422, 4].
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from gateway.api import Exchange
from gateway.core.access import Credentials, Principal
from gateway.core.errors import AuthenticationFailed, GatewayError, NotAuthorized, Throttled
from gateway.core.session import Session
from gateway.version import __version__

from .errors import AmqpFault, Reply, fault_of
from .frames import FRAME_MIN, PROTOCOL_HEADER
from .methods import Method, make
from .tables import Table, decode_table

if TYPE_CHECKING:
    from .connection import AmqpConnection

PASSWORD_MECHANISMS: Final = ("PLAIN", "AMQPLAIN")
MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}")  # [RFC 4422, 3.1]
AUTH_STEPS_MAX: Final = 10  # SCRAM takes three; an exchange without end is an attack
CAPABILITIES: Final = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)


class Handshake:
    """Until connection.open-ok."""

    __slots__ = (
        "_answer",
        "_connection",
        "_expects",
        "_gone",
        "_header",
        "capabilities",
        "mechanism",
        "properties",
        "running",
    )

    def __init__(self, connection: AmqpConnection) -> None:
        self._connection = connection
        self._header = b""  # of the protocol, as far as it has come
        self._expects: type[Method] | None = None
        self._answer: asyncio.Future[bytes] | None = None  # the client's next secure-ok
        self._gone = False
        self.running = False  # an authenticator is asked
        self.capabilities: frozenset[str] = frozenset()  # the client's
        self.mechanism = ""
        self.properties: Table = {}

    def begin(self, data: bytes) -> bytes | None:
        """Take the protocol header; return what follows it, None while it is not complete."""
        if self._expects is not None:
            return data
        self._header += data
        head = self._header[: len(PROTOCOL_HEADER)]
        if head != PROTOCOL_HEADER[: len(head)]:
            # [2.2.4]: say what we speak, and go.
            self._connection.send(PROTOCOL_HEADER)
            self._connection.transport.close()
            return None
        if len(head) < len(PROTOCOL_HEADER):
            return None
        rest, self._header = self._header[len(head) :], b""
        properties: Table = {
            "product": "gateway",
            "version": __version__,
            "platform": "Python",
            "information": "MQTT, AMQP and HTTP over one log",
            "capabilities": dict.fromkeys(CAPABILITIES, True),
        }
        start: Any = make(commands.Connection.Start, 0, 9, properties, " ".join(self._mechanisms()), "en_US")
        self._expects = commands.Connection.StartOk
        self._connection.answer(start)
        return rest

    def take(self, method: Any) -> None:
        """Take the next method. Raise AmqpFault for one that does not come now."""
        if self.running or not isinstance(method, self._expects or ()):
            raise AmqpFault(Reply.COMMAND_INVALID, f"{method.name} does not belong here")
        if isinstance(method, commands.Connection.StartOk):
            self._start_ok(method)
        elif isinstance(method, commands.Connection.SecureOk):
            self._secure_ok(method)
        elif isinstance(method, commands.Connection.TuneOk):
            self._tune_ok(method)
        else:
            self._open(method)

    def abandon(self) -> None:
        """The socket is gone."""
        self._gone = True
        if self._answer is not None:
            self._answer.cancel()

    # -- who it is ------------------------------------------------------------------------------

    def _mechanisms(self) -> list[str]:
        known = self._connection.gateway.methods
        return [*PASSWORD_MECHANISMS, *(method for method in known if MECHANISM.fullmatch(method))]

    def _start_ok(self, method: Any) -> None:
        self.properties = method.client_properties
        found = self.properties.get("capabilities")
        if isinstance(found, dict):
            self.capabilities = frozenset(name for name, value in found.items() if value is True)
        connection = self._connection
        credentials = self._credentials(method)
        self.running = True
        connection.transport.pause_reading()
        if credentials.method is None:
            connection.transport.established()  # from here on it is us who may be slow
        connection.gateway.task(self._authenticate(credentials))

    def _credentials(self, method: Any) -> Credentials:
        name, response = method.mechanism, bytes(method.response)
        self.mechanism = name
        connection = self._connection
        user: str | None = None
        password: bytes | None = None
        if name == "PLAIN":
            parts = response.split(b"\0")
            if len(parts) != 3:
                raise AmqpFault(Reply.SYNTAX_ERROR, "a PLAIN response is NUL user NUL password")
            user, password = parts[1].decode("utf-8", "replace"), parts[2]
        elif name == "AMQPLAIN":
            user, password = _amqplain(response)
        elif name not in self._mechanisms():
            raise AmqpFault(Reply.COMMAND_INVALID, f"unknown authentication mechanism '{name}'")
        made = Credentials("amqp", connection.transport.peer, self._client_id(), user, password)
        made.certificate = connection.transport.certificate
        if name not in PASSWORD_MECHANISMS:
            made.method, made.data = name, response
        return made

    def _client_id(self) -> str:
        name = self.properties.get("connection_name")
        return name if isinstance(name, str) else ""

    async def _authenticate(self, credentials: Credentials) -> None:
        connection = self._connection
        try:
            session = await self._session(credentials)
        except (AuthenticationFailed, NotAuthorized) as error:
            connection.gateway.begin_turn()
            if not self._gone:
                self._refused(credentials, error)
            return
        except GatewayError as error:
            connection.gateway.begin_turn()
            connection.refuse(0, fault_of(error))
            return
        finally:
            self.running = False
        connection.gateway.begin_turn()
        if self._gone:
            session.close()
            return
        connection.authenticated(session)
        self._expects = commands.Connection.TuneOk
        amqp = connection.amqp
        tune: Any = make(commands.Connection.Tune, amqp.channels_max, amqp.frame_max, amqp.heartbeat_seconds)
        connection.answer(tune)
        connection.resume()

    async def _session(self, credentials: Credentials) -> Session:
        gateway = self._connection.gateway
        if credentials.method is None:
            return await gateway.connect(credentials)
        exchange = gateway.begin_exchange(credentials)
        if exchange is None:
            raise AuthenticationFailed(f"nobody here knows {credentials.method}")
        principal = await self._talk(exchange, credentials.data or b"")
        return gateway.open_session(principal, credentials)

    async def _talk(self, exchange: Exchange, data: bytes) -> Principal:
        """Go on until the client is known. Raise AuthenticationFailed."""
        for _ in range(AUTH_STEPS_MAX):
            answer, principal = await exchange.step(data)
            self._connection.gateway.begin_turn()
            if principal is None:
                data = await self._ask(answer)
                continue
            if answer and await self._ask(answer):
                raise AuthenticationFailed("the exchange is over, and the client goes on")
            return principal
        raise AuthenticationFailed("the authentication exchange does not come to an end")

    async def _ask(self, challenge: bytes) -> bytes:
        """Send a challenge; return the client's response."""
        connection = self._connection
        if self._gone:
            raise AuthenticationFailed("the client is gone")
        self._answer = asyncio.get_running_loop().create_future()
        self._expects = commands.Connection.SecureOk
        self.running = False
        connection.answer(make(commands.Connection.Secure, challenge))
        connection.resume()
        return await self._answer

    def _secure_ok(self, method: Any) -> None:
        assert self._answer is not None
        self.running = True
        self._connection.transport.pause_reading()
        self._answer.set_result(bytes(method.response))

    def _refused(self, credentials: Credentials, error: GatewayError) -> None:
        connection = self._connection
        if "authentication_failure_close" not in self.capabilities:
            connection.transport.close()  # [2.2.4]: without a word
            return
        mechanism = credentials.method or "PLAIN"
        text = f"Login was refused using authentication mechanism {mechanism}."
        if isinstance(error, Throttled):
            text += f" ({error.detail})"
        connection.refuse(0, AmqpFault(Reply.ACCESS_REFUSED, text), whole=True)

    # -- under which terms ----------------------------------------------------------------------------

    def _tune_ok(self, method: Any) -> None:
        connection = self._connection
        amqp = connection.amqp
        frame_max = method.frame_max or amqp.frame_max
        if frame_max < FRAME_MIN or frame_max > amqp.frame_max:
            text = f"negotiated frame_max = {frame_max}; {FRAME_MIN} to {amqp.frame_max} is possible"
            raise AmqpFault(Reply.NOT_ALLOWED, text)
        channels_max = method.channel_max or amqp.channels_max
        if channels_max > amqp.channels_max:
            text = f"negotiated channel_max = {channels_max}; at most {amqp.channels_max} are possible"
            raise AmqpFault(Reply.NOT_ALLOWED, text)
        connection.tuned(frame_max, channels_max, method.heartbeat)
        self._expects = commands.Connection.Open

    def _open(self, method: Any) -> None:
        connection = self._connection
        name = method.virtual_host
        vhost = connection.amqp.vhosts.get(name)
        if vhost is None:
            raise AmqpFault(Reply.NOT_ALLOWED, f"vhost {name} not found")
        connection.opened(vhost)
        connection.answer(make(commands.Connection.OpenOk))
        connection.amqp.blocking.opened(connection)


def _amqplain(response: bytes) -> tuple[str, bytes]:
    """Return user and password of a table without its length."""
    table, _ = decode_table(len(response).to_bytes(4, "big") + response)
    user, password = table.get("LOGIN"), table.get("PASSWORD")
    if not isinstance(user, str):
        raise AmqpFault(Reply.SYNTAX_ERROR, "an AMQPLAIN response is a table with LOGIN and PASSWORD")
    if isinstance(password, str):
        password = password.encode()
    return user, password if isinstance(password, bytes) else b""
