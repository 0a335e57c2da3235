"""Who is connected under which client identifier, and what stays when they leave.

A durable session is its own queue (core) plus a record here: how long it outlives its
client, the will that is still to be sent, and QoS 2 identifiers that must survive a restart.
Keys of the metadata store, all below `mqtt/`:

    mqtt/session/<client>          {"expiry": s, "left_ms": Unix ms or 0, "will": {...}, "shared": {...}}
    mqtt/received/<client>NUL<id>  a QoS 2 PUBLISH was received and not yet released
    mqtt/released/<client>NUL<id>  PUBREL was sent (or is due) and PUBCOMP has not come
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Protocol

from gateway.api import Gateway
from gateway.core.access import Action, Principal
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, NotAuthorized
from gateway.core.message import Message, Origin
from gateway.core.metrics import DropCause
from gateway.core.scheduler import Timer
from gateway.core.session import Session
from gateway.core.topic import DOORS_SESSIONS, SESSION_PREFIX, SHARE_PREFIX

from .packets import PUBLISH, Will
from .properties import decode_properties, encode_properties
from .terms import NEVER, Terms
from .translate import to_properties

SESSION_KEY = "mqtt/session/"
RECEIVED_KEY = "mqtt/received/"
RELEASED_KEY = "mqtt/released/"


class Connected(Protocol):
    """A live connection, as the table of clients sees it."""

    @property
    def session(self) -> Session | None:
        """Its session; None if that is over."""

    def taken_over(self) -> None:
        """Another connection has come with this client identifier [MQTT-3.1.4-3]."""


class Away:
    """A session whose client is not connected: what is to happen, and when."""

    __slots__ = ("end_timer", "publish_will", "will_timer")

    def __init__(self) -> None:
        self.end_timer: Timer | None = None
        self.will_timer: Timer | None = None
        self.publish_will: Callable[[], None] | None = None


class Clients:
    """All clients of the MQTT door, connected or away."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._broker = gateway.broker
        self.connected: dict[str, Connected] = {}
        self._away: dict[str, Away] = {}
        self._identifiers: dict[tuple[str, str], set[int]] = {}  # (prefix, client) -> written down

    def restore(self) -> None:
        """After a restart every client is away: start the clocks again."""
        for prefix in (RECEIVED_KEY, RELEASED_KEY):
            for key, _ in self._broker.engine.scan(prefix):
                client_id, _, packet_id = key[len(prefix) :].rpartition("\0")
                self.identifiers(prefix, client_id).add(int(packet_id))
        for key, value in list(self._broker.engine.scan(SESSION_KEY)):
            client_id = key[len(SESSION_KEY) :]
            record = json.loads(value)
            left_ms = record["left_ms"] or self._gateway.clock.now_ms
            will = will_from_json(record["will"]) if record["will"] else None
            publish = None
            if will is not None:
                origin = Origin("mqtt", record["principal"], client_id)
                # It was authorized for its will when it connected.
                publish = self._publisher(will, origin, self._broker.publish)
            self._leave(client_id, record["expiry"], left_ms, will, publish)

    def check_owner(self, client_id: str, principal: Principal) -> None:
        """Raise NotAuthorized if a client identifier, and with it the session, is somebody else's.

        Otherwise whoever knows an identifier could read what waits for its owner, or cut it off.
        """
        earlier = self.connected.get(client_id)
        if client_id.startswith(DOORS_SESSIONS) and not self.record(client_id):
            if SESSION_PREFIX + client_id in self._broker.catalog.queues:
                raise NotAuthorized(f"client identifier {client_id!r} is another door's; choose another")
        owner = self._owner(earlier, client_id)
        if owner is not None and owner != principal.name and not principal.admin:
            raise NotAuthorized(f"client identifier {client_id!r} is used by another user; choose another")

    def _owner(self, earlier: Connected | None, client_id: str) -> str | None:
        if earlier is not None and earlier.session is not None:
            return earlier.session.principal.name
        return self.record(client_id).get("principal")

    def allowed(self, client_id: str, session: Session) -> bool:
        """Tell whether a client may still subscribe to all that its durable session has.

        Otherwise the session has to end: among what waits in it is what the client must not see.
        """
        bindings = self._broker.catalog.bindings.get(SESSION_PREFIX + client_id, ())
        return all(session.may(Action.SUBSCRIBE, topic_filter) for topic_filter in bindings)

    # -- coming and going -----------------------------------------------------------------------

    def begin(self, client_id: str, connection: Connected, clean: bool) -> None:
        """Take the identifier over; with `clean` end the session it had [MQTT-3.1.2-4].

        An earlier connection is closed first; what was to happen in the client's absence is
        cancelled, but a will whose session ends now is sent [MQTT-3.1.3-9].
        """
        earlier = self.connected.get(client_id)
        if earlier is not None:
            earlier.taken_over()
        if clean:
            self.send_pending_will(client_id)
        away = self._away.pop(client_id, None)
        if away is not None:
            self._gateway.scheduler.cancel(away.end_timer)
            self._gateway.scheduler.cancel(away.will_timer)
            if clean:
                self.forget(client_id)
        self.connected[client_id] = connection

    def send_pending_will(self, client_id: str) -> None:
        """A new session begins: the old one ends, and with it its will's delay [MQTT-3.1.3-9]."""
        away = self._away.get(client_id)
        if away is not None and away.publish_will is not None and away.will_timer is not None:
            self._gateway.scheduler.cancel(away.will_timer)
            publish, away.publish_will = away.publish_will, None
            publish()

    def leave(
        self,
        connection: Connected,
        session: Session,
        terms: Terms,
        shared: dict[str, list[object]],
        kept: bool,
    ) -> None:
        """A client is gone, with a will to send or without; its session, closed, may be kept."""
        client_id, expiry, will = terms.client_id, terms.expiry, terms.will
        if self.connected.get(client_id) is connection:
            del self.connected[client_id]
        publish = self._publisher(will, session.origin, session.publish) if will is not None else None
        if publish is not None and (will_delay(will) == 0 or expiry == 0):
            publish()
            will = terms.will = publish = None  # sent: not again after a restart
        now_ms = self._gateway.clock.now_ms
        if expiry:
            self.save(session, terms, now_ms, shared)
            self._leave(client_id, expiry, now_ms, will, publish)
        elif kept:
            self.forget(client_id)

    def _leave(
        self,
        client_id: str,
        expiry: int,
        left_ms: int,
        will: Will | None,
        publish_will: Callable[[], None] | None,
    ) -> None:
        away = self._away[client_id] = Away()
        scheduler = self._gateway.scheduler
        passed_ms = self._gateway.clock.now_ms - left_ms
        if will is not None and publish_will is not None:
            away.publish_will = publish_will
            delay_ms = min(will_delay(will), expiry) * 1000 - passed_ms
            away.will_timer = scheduler.after(delay_ms, lambda: self._will_due(client_id))
        if expiry != NEVER:
            away.end_timer = scheduler.after(expiry * 1000 - passed_ms, lambda: self._expire(client_id))

    def _will_due(self, client_id: str) -> None:
        away = self._away.get(client_id)
        if away is not None and away.publish_will is not None:
            publish, away.publish_will = away.publish_will, None
            publish()
            self.forget_will(client_id)

    def _expire(self, client_id: str) -> None:
        self.send_pending_will(client_id)
        self._away.pop(client_id, None)
        self.forget(client_id)

    def forget(self, client_id: str) -> None:
        """End a session: its queue, its subscriptions, its record."""
        queue = self._broker.catalog.queues.get(SESSION_PREFIX + client_id)
        if queue is not None:
            self._broker.queues.delete(queue, DropCause.SESSION_ENDED)
        engine = self._broker.engine
        shared = self.record(client_id).get("shared", {})
        engine.delete(SESSION_KEY + client_id)
        for name in shared:
            self._drop_orphan(name)
        for prefix in (RECEIVED_KEY, RELEASED_KEY):
            for packet_id in self._identifiers.pop((prefix, client_id), ()):
                engine.delete(f"{prefix}{client_id}\0{packet_id}")

    def _drop_orphan(self, name: str) -> None:
        """Delete a shared queue whose last durable member has ended."""
        queue = self._broker.catalog.queues.get(name)
        if queue is None or queue.active or not name.startswith(SHARE_PREFIX):
            return
        records = (json.loads(value) for _, value in self._broker.engine.scan(SESSION_KEY))
        if not any(name in record["shared"] for record in records):
            self._broker.queues.delete(queue, DropCause.SESSION_ENDED)

    # -- what is written down ---------------------------------------------------------------------

    def record(self, client_id: str) -> dict[str, Any]:
        """Return a durable session's record, empty if there is none."""
        value = self._broker.engine.get(SESSION_KEY + client_id)
        return json.loads(value) if value is not None else {}

    def save(self, session: Session, terms: Terms, left_ms: int, shared: dict[str, list[object]]) -> None:
        """Write a durable session's record."""
        record = {
            "expiry": terms.expiry,
            "left_ms": left_ms,
            "principal": session.principal.name,
            "will": will_to_json(terms.will) if terms.will is not None else None,
            "shared": shared,
        }
        self._broker.engine.put(SESSION_KEY + terms.client_id, json.dumps(record).encode())

    def forget_will(self, client_id: str) -> None:
        """The will was sent or withdrawn: it must not be sent after a restart."""
        record = self.record(client_id)
        if record:
            record["will"] = None
            self._broker.engine.put(SESSION_KEY + client_id, json.dumps(record).encode())

    def identifiers(self, prefix: str, client_id: str) -> set[int]:
        """Return the packet identifiers written down for a client: the set itself, to be kept up."""
        return self._identifiers.setdefault((prefix, client_id), set())

    def note(self, prefix: str, client_id: str, packet_id: int) -> None:
        """Write a packet identifier down."""
        self.identifiers(prefix, client_id).add(packet_id)
        self._broker.engine.put(f"{prefix}{client_id}\0{packet_id}", b"")

    def unnote(self, prefix: str, client_id: str, packet_id: int) -> None:
        """Strike a packet identifier off."""
        self.identifiers(prefix, client_id).discard(packet_id)
        self._broker.engine.delete(f"{prefix}{client_id}\0{packet_id}")

    def _publisher(self, will: Will, origin: Origin, publish: Callable[[Message], int]) -> Callable[[], None]:
        def send() -> None:
            try:
                publish(will_message(will, origin, self._gateway.clock))
            except GatewayError:
                pass  # counted; nobody is left to be told

        return send


def will_delay(will: Will | None) -> int:
    """Return a will's delay in seconds."""
    value = will.properties.get("will_delay_interval", 0) if will is not None else 0
    return value if isinstance(value, int) else 0


def will_message(will: Will, origin: Origin, clock: Clock) -> Message:
    """Return the message a will stands for, as published now."""
    expiry = will.properties.get("message_expiry_interval")
    expires_at_ms = clock.now_ms + expiry * 1000 if isinstance(expiry, int) else 0
    properties = to_properties(dict(will.properties))
    now_ms = clock.wall_ms
    return Message(will.topic, will.payload, will.qos, will.retain, properties, origin, now_ms, expires_at_ms)


def will_to_json(will: Will) -> dict[str, Any]:
    """Return a will as JSON holds it."""
    delay = will_delay(will)
    others = {name: value for name, value in will.properties.items() if name != "will_delay_interval"}
    return {
        "topic": will.topic,
        "payload": base64.b64encode(will.payload).decode(),
        "qos": will.qos,
        "retain": will.retain,
        "delay": delay,
        "properties": base64.b64encode(encode_properties(PUBLISH, others)).decode(),
    }


def will_from_json(record: dict[str, Any]) -> Will:
    """Return the will that `will_to_json` wrote."""
    block = base64.b64decode(record["properties"])
    properties = dict(decode_properties(PUBLISH, block, 0, len(block))[0])
    if record["delay"]:
        properties["will_delay_interval"] = record["delay"]
    payload = base64.b64decode(record["payload"])
    return Will(record["topic"], payload, record["qos"], record["retain"], properties)
