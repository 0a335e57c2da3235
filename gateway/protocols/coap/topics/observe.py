"""Observers: GET with Observe 0 subscribes, with Observe 1 ends it (RFC 7641).

An observation belongs to a client and a token. A client that is known (by a client id, or by an
association) and registers again, from wherever, goes on with the same observation: notifications go to
where it was heard of last. Who is only an address is another client at another address; what it observed
before ends when nobody acknowledges.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from gateway.api import Gateway, GatewayError
from gateway.core.errors import Conflict, InvalidValue, NotFound
from gateway.core.last import value_of
from gateway.core.receiver import Item
from gateway.core.selector import USUAL_LANGUAGE, Selector
from gateway.core.session import Session

from ..answers import answer_to
from ..clients import Client, Clients
from ..exchange import Link, Request, Response
from ..numbers import CONTENT, MAX_AGE, uint_bytes
from ..pubsub.configurations import Configurations
from ..pubsub.subscribers import Subscribers
from .durable import Durables
from .observation import Observation, Surroundings
from .representation import represent
from .targets import Target

OBSERVATIONS_MAX: Final = 1000  # of one client: one device, or a gateway for some; each costs about 1 KB
SILENT_MS: Final = 3_600_000  # a client that acknowledged nothing for so long is asked (RFC 7641, 4.5: a day)
SILENT_CHECK_MS: Final = 60_000
SILENT_STEP_MS: Final = 500  # of these, so many observations are looked at: a millisecond for the others
SILENT_SLICE: Final = 2000


class Observers(Surroundings):
    """All observations of the door. Implements `topics.Observing`."""

    __slots__ = (
        "_by_id",
        "_checked_ms",
        "_clients",
        "_configurations",
        "_next_id",
        "_subscribers",
        "_unchecked",
        "durables",
    )

    def __init__(self, gateway: Gateway, clients: Clients, configurations: Configurations) -> None:
        super().__init__(gateway)
        self._clients = clients
        self._by_id: dict[int, tuple[Client, Observation]] = {}
        self._next_id = 0
        self._unchecked: list[int] = []  # ids of those that are still to be looked at
        self._checked_ms = self.now_ms
        self._configurations = configurations
        self._subscribers = Subscribers(configurations)
        configurations.on_change.append(self._reconfigured)
        for topic in configurations.by_topic:
            self._subscribers.begin(topic, 0)
        self.durables = Durables(gateway, self)
        clients.on_gone.append(self._client_gone)
        gateway.scheduler.after(SILENT_STEP_MS, self._ask_silent)

    def __len__(self) -> int:
        return len(self._by_id) + len(self.durables)

    # -- observation.Surroundings ---------------------------------------------------------------

    def ended(self, observation: Observation) -> None:
        found = self._by_id.get(observation.id)
        if found is not None and found[1] is observation:
            self._forget(*found)

    # -- topics.Observing -----------------------------------------------------------------------

    def register(self, client: Client, request: Request, target: Target) -> None:
        """Begin an observation, or go on with it. Raise GatewayError."""
        topic_filter = filter_of(target)
        selector = self._selector(target)
        known = client.observations.get(request.token)
        if target.session is not None:
            if known is not None:
                self._forget(client, known)
            self.durables.register(client, request, target, topic_filter, selector)
            return
        if known is not None and known.filter != topic_filter:
            self._forget(client, known)
            known = None
        if known is None:
            if topic_filter in self._configurations.by_topic and not self._admits(client, request, target):
                return
            known = self._begin(client, request, target, topic_filter, selector)
            begun = True
            if client.earlier is not None:
                self._take_over(client.earlier, known)
        else:
            begun = False
            if known.link is not request.link:
                known.moved(request.link)
            known.options = request.options
        request.respond(self._answer(client, known, request))
        if begun and known.named:
            session = client.session
            session.send_retained(session.retained(topic_filter), session.subscriptions[topic_filter])
        client.session.trim()  # most clients that observe do nothing else
        known.resume()

    def _take_over(self, earlier: Client, observation: Observation) -> None:
        """The client has observed this before, from elsewhere: it goes on with what is on its way."""
        known = earlier.observations.get(observation.token)
        if known is not None and known.filter == observation.filter:
            observation.waiting = known.pending()
            self._forget(earlier, known)

    def deregister(self, client: Client, request: Request) -> None:
        """End an observation (RFC 7641, 3.6). One that is not there has ended, too."""
        known = client.observations.get(request.token)
        if known is not None:
            self._forget(client, known)

    def end_session(self, client: Client, target: Target) -> None:
        """End a durable observer for good. Raise NotFound, NotAuthorized."""
        assert target.session is not None
        self.durables.end(client, target.session)

    # -- coming ---------------------------------------------------------------------------------

    def _selector(self, target: Target) -> Selector | None:
        if target.selector is None:
            return None
        return self._gateway.broker.selectors.find(target.selector, USUAL_LANGUAGE)

    def _admits(self, client: Client, request: Request, target: Target) -> bool:
        """Tell whether a configured topic may be observed; if it has enough observers, answer as GET is.

        Raise NotFound for one that is half created (draft-ietf-core-coap-pubsub-21, 3.2.2).
        """
        found = value_of(client.session, target.topic)
        if found is None:
            raise NotFound(f"topic {target.topic!r} is half created: nothing was published to it")
        if not self._subscribers.full(target.topic):
            return True
        request.respond(represent(request.options, found[0], self._gateway.clock.now_ms))
        return False

    def _begin(
        self, client: Client, request: Request, target: Target, topic_filter: str, selector: Selector | None
    ) -> Observation:
        """Raise GatewayError."""
        session = client.session
        if len(client.observations) >= OBSERVATIONS_MAX:
            raise InvalidValue(f"this client has {OBSERVATIONS_MAX} observations, as many as it may")
        if session.receiver is None:
            session.receive(self._deliver)
        self._next_id += 1
        same = session.subscriptions.get(topic_filter)
        if same is not None and same.selector != selector:
            raise Conflict("this client observes the same with another selector")
        ids = (*(same.ids if same is not None else ()), self._next_id)
        session.subscribe(topic_filter, ids=ids, retain_as_published=True, selector=selector)
        observation = Observation(
            self,
            self._next_id,
            request.link,
            request.token,
            topic_filter,
            request.options,
            max(0, target.qos),
        )
        if topic_filter in self._configurations.by_topic:
            observation.check_ms = 1000 * self._configurations.observer_check(topic_filter)
            self._subscribers.count(topic_filter, 1)
        request.link.held += 1
        self._by_id[observation.id] = (client, observation)
        client.observations[request.token] = observation
        return observation

    def _answer(self, client: Client, observation: Observation, request: Request) -> Response:
        """Return the value there is; without one, an empty representation that is not to be kept."""
        found = None if observation.named else value_of(client.session, observation.filter)
        if found is None:
            return observation.first(Response(CONTENT, b"", [(MAX_AGE, uint_bytes(0))]))
        # A client that has the value is told so, and observes all the same (RFC 7641, 3.3).
        return observation.first(represent(request.options, found[0], self._gateway.clock.now_ms))

    def _deliver(self, items: list[Item]) -> None:
        """The broker has messages for a client."""
        by_id, configured = self._by_id, self._configurations.by_topic
        for message, binding in items:
            deleted = message.topic in configured and message.retain and not message.body
            for id in binding.ids:
                found = by_id.get(id)
                if found is None:
                    continue
                if deleted and not found[1].named:
                    self.later(partial(self._end_all, (id,), f"the data of {message.topic!r} was deleted"))
                else:
                    found[1].offer(message)

    # -- configured topics ----------------------------------------------------------------------

    def _reconfigured(self, topic: str) -> None:
        """A topic's configuration came, changed or went: so do observers that are too many, or all."""
        ids = [id for id, (_, observation) in self._by_id.items() if observation.filter == topic]
        self._subscribers.begin(topic, len(ids))
        config = self._configurations.by_topic.get(topic)
        if config is None:
            self._end_all(ids, f"topic {topic!r} was deleted")
            return
        for id in ids:
            self._by_id[id][1].check_ms = 1000 * self._configurations.observer_check(topic)
        if 0 <= config.max_subscribers < len(ids):  # who came last goes first
            self._end_all(ids[config.max_subscribers :], f"topic {topic!r} may have fewer observers now")

    def _end_all(self, ids: Sequence[int], why: str) -> None:
        """End observations with a last 4.04 (RFC 7641, 3.2), but for those of filters, which go on."""
        for id in ids:
            client, observation = self._by_id.get(id, (None, None))
            if client is not None and observation is not None and not observation.named:
                observation.fail(answer_to(NotFound(why)))
                self._forget(client, observation)

    # -- going ----------------------------------------------------------------------------------

    def _forget(self, client: Client, observation: Observation) -> None:
        if self._by_id.pop(observation.id, None) is None:
            return
        if client.observations.get(observation.token) is observation:
            del client.observations[observation.token]
        self._subscribers.count(observation.filter, -1)
        observation.close()
        session = client.session
        binding = session.subscriptions.get(observation.filter)
        if binding is not None and not session.ended:
            ids = tuple(id for id in binding.ids if id != observation.id)
            self._narrow(session, observation.filter, ids, binding.selector)
        self._clients.close_if_idle(client)

    def _narrow(
        self, session: Session, topic_filter: str, ids: tuple[int, ...], selector: Selector | None
    ) -> None:
        if not ids:
            session.unsubscribe(topic_filter)
            return
        try:
            session.subscribe(topic_filter, ids=ids, retain_as_published=True, selector=selector)
        except GatewayError:  # it is not allowed any more: the review of the rules says so to the others
            session.unsubscribe(topic_filter)

    def reset(self, link: Link, token: bytes) -> None:
        """The client does not know the observation any more."""
        for client in clients_of(link):
            known = client.observations.get(token)
            if known is not None and known.link is link:
                self._forget(client, known)
        self.durables.reset(link, token)

    def gone(self, link: Link) -> None:
        """A link is closed: what was observed by it ends, or waits if it is durable."""
        for client in clients_of(link):
            for observation in list(client.observations.values()):
                if observation.link is link:
                    self._forget(client, observation)
        self.durables.gone(link)

    def _client_gone(self, client: Client, error: GatewayError | None) -> None:
        """A session ends: its client is told why (RFC 7641, 4.2: by a notification that is an error)."""
        for observation in list(client.observations.values()):
            if error is not None:
                observation.fail(answer_to(error))
            if self._by_id.pop(observation.id, None) is not None:
                self._subscribers.count(observation.filter, -1)
            observation.close()
        client.observations.clear()

    # -- who is silent --------------------------------------------------------------------------

    def _ask_silent(self) -> None:
        """Have clients that acknowledged nothing for long show that they are there: some at a time."""
        now_ms = self.now_ms
        if not self._unchecked and now_ms - self._checked_ms >= SILENT_CHECK_MS:
            self._checked_ms = now_ms
            self._unchecked = list(self._by_id)
        some = self._unchecked[-SILENT_SLICE:]
        del self._unchecked[-SILENT_SLICE:]
        for id in some:
            known = self._by_id.get(id)
            if known is not None:
                self._ask(*known, now_ms)
        self._gateway.scheduler.after(SILENT_STEP_MS, self._ask_silent)

    def _ask(self, client: Client, observation: Observation, now_ms: int) -> None:
        late_ms = now_ms - min(SILENT_MS, observation.check_ms)
        if observation.confirmed_ms > late_ms or observation.flying is not None or observation.named:
            return
        try:
            found = value_of(client.session, observation.filter)
        except GatewayError:
            return  # it was forbidden meanwhile: the review ends it
        if found is not None:
            observation.offer(found[0])


def filter_of(target: Target) -> str:
    """Return what is observed: the path's topic, or the query's filter. Raise InvalidValue."""
    if target.filter is not None and target.topic:
        raise InvalidValue("a filter is for /ps itself; leave out the topic, or the filter")
    found = target.filter or target.topic
    if not found:
        raise InvalidValue("nothing to observe: /ps/a/b is the topic a/b, /ps?filter=a/%2B a filter")
    return found


def clients_of(link: Link) -> list[Client]:
    """Return all clients that have spoken by a link."""
    found = list(link.clients.values()) if link.clients is not None else []
    return [*found, link.client] if link.client is not None else found
