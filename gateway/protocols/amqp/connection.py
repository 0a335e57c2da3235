"""One AMQP client: frames to channels, and what ends a channel or the whole.

bytes -> Decoder -> events -> Channel -> Publisher, Receiving -> Session -> broker
broker -> Subscription -> frames -> bytes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from gateway.api import Gateway, Transport
from gateway.core.access import Credentials
from gateway.core.delivery import Delivery
from gateway.core.errors import AuthenticationFailed, GatewayError
from gateway.core.scheduler import Timer
from gateway.core.session import Session

from .channel import Channel
from .errors import AmqpFault, Reply, fault_of
from .frames import ACK, HEARTBEAT, HEARTBEAT_FRAME, METHOD, PUBLISH, Decoder, Event, encode_frame
from .handshake import Handshake
from .methods import decode_method, encode_method, make
from .publisher import TARGETS_MAX, Target
from .tables import Table
from .vhost import Vhost

if TYPE_CHECKING:
    from . import Amqp


OVER_QUOTA: Final = "this client publishes faster than it may"


class AmqpConnection:
    """Implements `gateway.api.Connection`."""

    def __init__(self, amqp: Amqp, transport: Transport, gateway: Gateway) -> None:
        self.amqp = amqp
        self.transport = transport
        self.gateway = gateway
        self.clock = gateway.clock
        self.router = gateway.broker.router
        self.channels: dict[int, Channel] = {}
        self.exclusive: set[str] = set()  # the gateway's names of its queues
        self.reply_channels: set[int] = set()
        self.targets: dict[bytes, Target] = {}
        self.is_congested = False
        self.frame_max = 0
        self.channels_max = 0
        self.heartbeat_seconds = 0
        self.connected_ms = gateway.clock.wall_ms
        self.mechanism = ""
        self.client_properties: Table = {}
        self.session: Session
        self.vhost: Vhost
        self._decoder = Decoder(amqp.body_max)
        self._handshake: Handshake | None = Handshake(self)
        self._capabilities: frozenset[str] = frozenset()
        self._later: bytes = b""  # what came while an authenticator was asked
        self._open = False
        self._closing = False
        self._has_session = False
        self._holds = 0  # channels that outrun the disk
        self._sent = False  # since the last heartbeat was due
        self._heard_ms = 0
        self._heartbeat_ms = 0
        self._timer: Timer | None = None

    # -- gateway.api.Connection -------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        self._heard_ms = self.clock.monotonic_ms
        handshake = self._handshake
        if handshake is not None:
            if handshake.running:
                self._later += data
                return
            rest = handshake.begin(data)
            if not rest:
                return
            data = rest
        decoder = self._decoder
        events = decoder.feed(data)
        self._take(events)
        if decoder.error is not None and not self._closing:
            self.refuse(0, decoder.error, whole=True)

    def congested(self, congested: bool) -> None:
        self.is_congested = congested
        for channel in list(self.channels.values()):
            if congested or not channel.stopped:
                channel.receiving.hold(congested)

    def closed(self, error: Exception | None) -> None:
        if self._handshake is not None:
            self._handshake.abandon()
            self._handshake = None
        self._closing = True
        self.gateway.scheduler.cancel(self._timer)
        self._end_channels()
        if self._has_session:
            self._has_session = False
            self.amqp.connections.discard(self)
            self.session.close()
            self._drop_exclusive()
        self.targets.clear()

    def drain(self) -> None:
        self.refuse(0, AmqpFault(Reply.CONNECTION_FORCED, "the gateway is stopping"), whole=True)

    # -- the handshake -----------------------------------------------------------------------------

    def authenticated(self, session: Session) -> None:
        """Somebody has vouched for the client."""
        self.session = session
        self._has_session = True
        session.owner = self
        session.in_debt = True  # it is told by connection.blocked, and not read

    def end(self, error: GatewayError) -> None:
        """What the client may do has changed, or its login has ended."""
        self.refuse(0, fault_of(error), whole=True)

    def resume(self) -> None:
        """The handshake goes on: take what came meanwhile."""
        self.transport.resume_reading()
        later, self._later = self._later, b""
        if later:
            self.receive(later)

    def tuned(self, frame_max: int, channels_max: int, heartbeat_seconds: int) -> None:
        """The terms are agreed on."""
        self.frame_max = self._decoder.frame_max = frame_max
        self.channels_max = self._decoder.channels_max = channels_max
        self.heartbeat_seconds = heartbeat_seconds
        self._heartbeat_ms = heartbeat_seconds * 1000
        if self._heartbeat_ms:
            self._timer = self.gateway.scheduler.after(self._heartbeat_ms // 2, self._beat)

    def opened(self, vhost: Vhost) -> None:
        """The client is in."""
        assert self._handshake is not None
        self.vhost = vhost
        self._capabilities = self._handshake.capabilities
        self.client_properties = self._handshake.properties
        self.mechanism = self._handshake.mechanism
        self._handshake = None
        self._open = True
        self.amqp.connections.add(self)
        self.transport.established()

    @property
    def name(self) -> str:
        """What tells it from all others, for people."""
        given = self.client_properties.get("connection_name")
        return f"{self.transport.peer} ({given})" if isinstance(given, str) else self.transport.peer

    def can(self, capability: str) -> bool:
        """Tell whether the client has said it understands something."""
        return capability in self._capabilities

    # -- sending -----------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Queue bytes."""
        self._sent = True
        self.transport.write(data)

    def answer(self, method: Any) -> None:
        """Send a method on channel 0."""
        self.send(encode_frame(0, encode_method(method)))

    # -- receiving ---------------------------------------------------------------------------------

    def _take(self, events: list[Event]) -> None:
        acknowledged: list[Delivery] = []
        touched: dict[int, Channel] = {}
        channels = self.channels
        for event in events:
            kind, number = event[0], event[1]
            channel = channels.get(number)
            try:
                if kind == PUBLISH and channel is not None and not channel.closing:
                    touched[number] = channel
                    channel.publisher.publish(event[2], event[3], event[4])
                elif kind == ACK and channel is not None and not channel.closing:
                    acknowledged += channel.acknowledge(event[2], event[3])
                    touched[number] = channel
                elif kind != HEARTBEAT:
                    if acknowledged:
                        acknowledged = self._settle(acknowledged)
                    self._other(event, channel)
            except GatewayError as error:
                self.refuse(number, fault_of(error), event)
            if self._closing:
                break
        if acknowledged:
            self._settle(acknowledged)
        for channel in touched.values():
            if not channel.closing:
                channel.receiving.settled()
                channel.publisher.end_of_read()
        if self._has_session and self.session.meters:
            self.session.pace(self._over_quota)

    def _over_quota(self, held: bool) -> None:
        """Say so, and read no more, until the client may publish again; then go on."""
        if self._closing:
            return
        self._heard_ms = self.clock.monotonic_ms  # it was us who did not listen
        if self.can("connection.blocked"):
            blocked = make(commands.Connection.Blocked, OVER_QUOTA)
            self.answer(blocked if held else make(commands.Connection.Unblocked))
        self.hold_back(held)

    def _settle(self, deliveries: list[Delivery]) -> list[Delivery]:
        self.session.broker.settlement.acknowledge(deliveries)
        return []

    def _other(self, event: Event, channel: Channel | None) -> None:
        number = event[1]
        if event[0] != METHOD:
            if channel is None:
                raise AmqpFault(Reply.CHANNEL_ERROR, "expected 'channel.open'")
            return  # the channel is closing: what comes on it is discarded
        method = decode_method(event[2])
        if self._handshake is not None:
            self._handshake.take(method)
        elif number == 0:
            self._connection_method(method)
        elif channel is None:
            self._open_channel(number, method)
        elif channel.closing:
            if isinstance(method, commands.Channel.CloseOk):
                self.drop_channel(channel)
            elif isinstance(method, commands.Channel.Close):
                channel.answer(make(commands.Channel.CloseOk))
        elif isinstance(method, commands.Channel.Open):
            raise AmqpFault(Reply.CHANNEL_ERROR, "second 'channel.open' seen")
        else:
            channel.take(method)

    def _connection_method(self, method: Any) -> None:
        if isinstance(method, commands.Connection.Close):
            self._closing = True
            self._end_channels()
            self.answer(make(commands.Connection.CloseOk))
            self.transport.close()
        elif isinstance(method, commands.Connection.UpdateSecret):
            self.gateway.task(self._renew(method))
        else:
            raise AmqpFault(Reply.COMMAND_INVALID, f"{method.name} does not belong here")

    async def _renew(self, method: Any) -> None:
        """Authenticate again with a new secret (OAuth tokens, mostly)."""
        name, client_id = self.session.principal.name, self.session.origin.client_id
        credentials = Credentials("amqp", self.transport.peer, client_id, name, bytes(method.new_secret))
        credentials.certificate = self.transport.certificate
        try:
            principal = await self.gateway.authenticate(credentials)
            if principal.name != name:
                raise AuthenticationFailed("it is somebody else's")
        except GatewayError as error:
            self.gateway.begin_turn()
            self.refuse(0, AmqpFault(Reply.NOT_ALLOWED, f"the new secret was refused: {error.detail}"))
            return
        self.gateway.begin_turn()
        if not self._closing:
            self.session.renew(principal)
            self.answer(make(commands.Connection.UpdateSecretOk))

    # -- channels ----------------------------------------------------------------------------------

    def _open_channel(self, number: int, method: Any) -> None:
        if isinstance(method, commands.Channel.CloseOk | commands.Channel.Close):
            return  # the last word on a channel that is closed already
        if not isinstance(method, commands.Channel.Open):
            raise AmqpFault(Reply.CHANNEL_ERROR, "expected 'channel.open'")
        if number > self.channels_max:
            text = f"number of channels opened ({number}) has reached the negotiated channel_max"
            raise AmqpFault(Reply.NOT_ALLOWED, f"{text} ({self.channels_max})")
        channel = self.channels[number] = Channel(self, number)
        channel.answer(make(commands.Channel.OpenOk))

    def drop_channel(self, channel: Channel) -> None:
        """A channel is closed on both sides."""
        self.channels.pop(channel.number, None)
        self._decoder.heed(channel.number)
        self.reply_channels.discard(channel.number)
        if not channel.closing:
            channel.end()

    def understand(self, arguments: bytes) -> Target:
        """Return the target that arguments of basic.publish name; remember it. Raise AmqpFault."""
        target = Target(self.vhost, arguments)
        if len(self.targets) >= TARGETS_MAX:
            self.targets.clear()
        self.targets[arguments] = target
        return target

    def hold_back(self, held: bool) -> None:
        """A channel's client outruns the disk, or does no longer: read on when none does."""
        self._holds += 1 if held else -1
        if held and self._holds == 1:
            self.transport.pause_reading()
        elif not held and not self._holds and not self._closing:
            self.transport.resume_reading()

    # -- the end -----------------------------------------------------------------------------------

    def refuse(self, number: int, fault: AmqpFault, cause: Any = None, whole: bool = False) -> None:
        """Close a channel, or the connection, as the fault demands."""
        if self._closing:
            return
        class_id, method_id = _indices(cause)
        code = int(fault.code)
        channel = self.channels.get(number)
        if fault.channel_only and not whole and channel is not None and self._open:
            channel.closing = True
            self._decoder.ignore(number)
            channel.end()
            channel.answer(make(commands.Channel.Close, code, fault.text, class_id, method_id))
            return
        self._closing = True
        self._end_channels()
        self.answer(make(commands.Connection.Close, code, fault.text, class_id, method_id))
        self.transport.close()

    def _end_channels(self) -> None:
        for channel in list(self.channels.values()):
            if not channel.closing:
                channel.closing = True
                channel.end()
        self.channels.clear()

    def _drop_exclusive(self) -> None:
        broker = self.session.broker
        for name in self.exclusive:
            queue = broker.catalog.queues.get(name)
            if queue is not None:
                broker.queues.delete(queue)
        self.exclusive.clear()

    # -- heartbeats --------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Twice an interval: say that we are here; go if the client has been silent for two [4.2.7]."""
        self._timer = self.gateway.scheduler.after(self._heartbeat_ms // 2, self._beat)
        if self._holds:
            self._heard_ms = self.clock.monotonic_ms  # it is us who do not listen
        if self.clock.monotonic_ms - self._heard_ms > 2 * self._heartbeat_ms:
            self.transport.abort()
            return
        if not self._sent:
            self.transport.write(HEARTBEAT_FRAME)
        self._sent = False


def _indices(cause: Any) -> tuple[int, int]:
    """Return class and method of what was refused, (0, 0) if it was no method."""
    if isinstance(cause, tuple):
        if cause[0] == PUBLISH:
            return 60, 40
        if cause[0] == ACK:
            return 60, 80
        if cause[0] == METHOD and len(cause[2]) >= 4:
            return int.from_bytes(cause[2][:2], "big"), int.from_bytes(cause[2][2:4], "big")
    return 0, 0
