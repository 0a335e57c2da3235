"""Durable observers: named, and with what they missed when they come back.

`GET /ps/a/b?session=NAME&expiry=SECONDS` with Observe 0. Its messages wait in a queue of the session's
own, are sent confirmable one after the other, and are gone when they are acknowledged. A client that
does not answer, refuses (RST) or is gone leaves the session behind for `expiry` seconds; ending the
observation (Observe 1, with the same `session`) ends the session.

In the metadata store: coap/session/<name>  {"principal": name, "expiry": s, "left_ms": 0 or when}
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.api import Gateway, GatewayError, Session
from gateway.core.access import Action, Credentials
from gateway.core.delivery import Consumer, Delivery
from gateway.core.errors import NotAuthorized, NotFound, QuotaExceeded
from gateway.core.message import Outcome
from gateway.core.metrics import DropCause
from gateway.core.policy import QueuePolicy
from gateway.core.scheduler import Timer
from gateway.core.selector import Selector
from gateway.core.topic import SESSION_PREFIX

from ..answers import answer_to
from ..clients import Client
from ..exchange import Link, Request, Response
from ..numbers import CONTENT, MAX_AGE, uint_bytes
from .observation import Observation
from .targets import Target

if TYPE_CHECKING:
    from .observe import Observers

KEY: Final = "coap/session/"
QUEUE: Final = "coap/"  # behind `$session/`, where MQTT's client identifiers are, too
EXPIRY_SECONDS: Final = 86_400  # a day, where nothing is said: a device that sleeps, not one that is lost
QUEUE_LENGTH_MAX: Final = 100_000  # as of MQTT's sessions (`mqtt.queue_length_max`)
DURABLES_MAX: Final = 100_000  # at this door: each has a queue


class Durable:
    """One durable observer: its session while somebody observes, its clock while nobody does."""

    __slots__ = ("consumer", "delivery", "expiry_seconds", "name", "observation", "session", "timer")

    def __init__(self, name: str, expiry_seconds: int) -> None:
        self.name = name
        self.expiry_seconds = expiry_seconds
        self.session: Session | None = None
        self.consumer: Consumer | None = None
        self.observation: Observation | None = None
        self.delivery: Delivery | None = None  # on its way, not acknowledged yet
        self.timer: Timer | None = None  # of its end


class Owner:
    """What the session of a durable observer is for (`core.caller.Owner`)."""

    __slots__ = ("_durable", "_durables")

    def __init__(self, durables: Durables, durable: Durable) -> None:
        self._durables = durables
        self._durable = durable

    def end(self, error: GatewayError) -> None:
        """It may not go on: its client is told why."""
        observation = self._durable.observation
        if observation is not None:
            observation.fail(answer_to(error))
        self._durables.leave(self._durable)


class Durables:
    """All durable observers of the door."""

    __slots__ = ("_all", "_gateway", "_observers")

    def __init__(self, gateway: Gateway, observers: Observers) -> None:
        self._gateway = gateway
        self._observers = observers
        self._all: dict[str, Durable] = {}
        self._restore()

    def __len__(self) -> int:
        return sum(durable.observation is not None for durable in self._all.values())

    def _restore(self) -> None:
        """After a restart everybody is away: start the clocks again."""
        for key, value in list(self._gateway.broker.engine.scan(KEY)):
            record = json.loads(value)
            durable = self._all[key[len(KEY) :]] = Durable(key[len(KEY) :], record["expiry"])
            self._start_clock(durable, record["left_ms"] or self._gateway.clock.now_ms)

    # -- coming ---------------------------------------------------------------------------------

    def register(
        self, client: Client, request: Request, target: Target, topic_filter: str, selector: Selector | None
    ) -> None:
        """Observe under a name, going on where that was. Raise GatewayError."""
        name = target.session
        assert name is not None
        self._check_owner(client, name)
        client.session.check(Action.SUBSCRIBE, topic_filter)
        durable = self._all.get(name)
        if durable is None:
            if len(self._all) >= DURABLES_MAX:
                raise QuotaExceeded(f"there are {DURABLES_MAX} durable observers, as many as there may be")
            durable = self._all[name] = Durable(name, EXPIRY_SECONDS)
        if target.expiry_seconds >= 0:
            durable.expiry_seconds = target.expiry_seconds
        try:
            self._attach(client, request, durable, topic_filter, selector)
        except GatewayError:
            self._detach(durable)
            if self._gateway.broker.engine.get(KEY + name) is None:
                self._delete(durable)  # it has never begun
            raise
        self._save(durable, 0)
        observation = durable.observation
        assert observation is not None
        request.respond(observation.first(Response(CONTENT, b"", [(MAX_AGE, uint_bytes(0))])))
        self._consume(durable)

    def _check_owner(self, client: Client, name: str) -> None:
        """Raise NotAuthorized if the name is somebody else's: they could read what waits for its owner."""
        value = self._gateway.broker.engine.get(KEY + name)
        principal = client.session.principal
        if value is not None and json.loads(value)["principal"] != principal.name and not principal.admin:
            raise NotAuthorized(f"session {name!r} is another user's; choose another name")

    def _attach(
        self,
        client: Client,
        request: Request,
        durable: Durable,
        topic_filter: str,
        selector: Selector | None,
    ) -> None:
        """Raise GatewayError."""
        self._detach(durable)
        self._gateway.scheduler.cancel(durable.timer)
        principal = client.session.principal
        credentials = Credentials("coap", request.link.peer, durable.name)
        session = durable.session = self._gateway.open_session(principal, credentials)
        session.owner = Owner(self, durable)
        session.receive(_no_items)
        bound = self._gateway.broker.catalog.bindings.get(SESSION_PREFIX + QUEUE + durable.name, {})
        if any(other != topic_filter for other in bound):
            self._empty(durable)  # what waits is of something else, which this client may not even see
        session.own_queue(QUEUE + durable.name, True, QueuePolicy(max_length=QUEUE_LENGTH_MAX))
        session.subscribe(topic_filter, qos=2, retain_as_published=True, selector=selector)
        observation = Observation(
            self._observers, 0, request.link, request.token, topic_filter, request.options, 1
        )
        request.link.held += 1
        durable.observation = observation

    def _consume(self, durable: Durable) -> None:
        assert durable.session is not None
        durable.consumer = durable.session.consume_own(partial(self._deliver, durable), 1)

    def _deliver(self, durable: Durable, batch: list[Delivery]) -> None:
        [delivery] = batch
        observation = durable.observation
        assert observation is not None
        if delivery.message is None:
            return
        durable.delivery = delivery
        observation.notify(delivery.message, True, partial(self._answered, durable, delivery))

    def _answered(self, durable: Durable, delivery: Delivery, arrived: bool) -> None:
        if durable.delivery is not delivery or durable.session is None:
            return  # it was given back meanwhile
        if arrived:
            durable.delivery = None
            self._gateway.begin_turn()
            durable.session.settle(delivery, Outcome.ACK)
        else:
            self.leave(durable)

    # -- going ----------------------------------------------------------------------------------

    def leave(self, durable: Durable) -> None:
        """Nobody observes any more: what was not acknowledged waits, until the session expires."""
        if durable.observation is None:
            return
        self._detach(durable)
        now_ms = self._gateway.clock.now_ms
        self._save(durable, now_ms)
        self._start_clock(durable, now_ms)

    def _detach(self, durable: Durable) -> None:
        observation, durable.observation = durable.observation, None
        durable.delivery = durable.consumer = None
        if observation is not None:
            observation.close()
        session, durable.session = durable.session, None
        if session is not None and session.owner is not None:
            session.close(keep=True)

    def _start_clock(self, durable: Durable, left_ms: int) -> None:
        left = durable.expiry_seconds * 1000 - (self._gateway.clock.now_ms - left_ms)
        durable.timer = self._gateway.scheduler.after(left, partial(self._delete, durable))

    def end(self, client: Client, name: str) -> None:
        """End a session for good. Raise NotFound, NotAuthorized."""
        self._check_owner(client, name)
        durable = self._all.get(name)
        if durable is None:
            raise NotFound(f"session {name!r} does not exist")
        self._delete(durable)

    def _delete(self, durable: Durable) -> None:
        self._detach(durable)
        self._gateway.scheduler.cancel(durable.timer)
        self._all.pop(durable.name, None)
        self._empty(durable)
        self._gateway.broker.engine.delete(KEY + durable.name)

    def _empty(self, durable: Durable) -> None:
        broker = self._gateway.broker
        queue = broker.catalog.queues.get(SESSION_PREFIX + QUEUE + durable.name)
        if queue is not None:
            broker.queues.delete(queue, DropCause.SESSION_ENDED)

    def _save(self, durable: Durable, left_ms: int) -> None:
        value = self._gateway.broker.engine.get(KEY + durable.name)
        session = durable.session
        owner = session.principal.name if session is not None else json.loads(value or b"{}")["principal"]
        record: dict[str, Any] = {"principal": owner, "expiry": durable.expiry_seconds, "left_ms": left_ms}
        self._gateway.broker.engine.put(KEY + durable.name, json.dumps(record).encode())

    def reset(self, link: Link, token: bytes) -> None:
        """The client does not know the observation."""
        for durable in self._of(link):
            if durable.observation is not None and durable.observation.token == token:
                self.leave(durable)

    def gone(self, link: Link) -> None:
        """A link is closed."""
        for durable in self._of(link):
            self.leave(durable)

    def _of(self, link: Link) -> list[Durable]:
        if not link.held:
            return []
        return [
            durable
            for durable in self._all.values()
            if durable.observation is not None and durable.observation.link is link
        ]


def _no_items(items: list[Any]) -> None:
    """Its queue has everything."""
