"""CoAP pub/sub (draft-ietf-core-coap-pubsub-21): the topic collection, and the topics in it.

`/pst` is the collection, and so is `/ps` alone, as in the draft's examples. `/pst/<id>` is a topic's
configuration, `/ps/<topic>` its data: what `topics` serves, whether a topic is configured or not.

Whoever may manage a topic may configure it; to read a configuration, publishing or subscribing is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from gateway.api import Gateway, Session
from gateway.core.access import Action
from gateway.core.errors import InvalidValue, NotStored
from gateway.core.message import NO_PROPERTIES, Message
from gateway.core.message import Properties as Said

from ..answers import Refused, answer_to, wrong_method
from ..clients import LOGIN_PARAMETERS, Client
from ..content.formats import CBOR, LINK_FORMAT, NONE, PUBSUB, content_of
from ..discovery.links import LINK_OPTIONS, Link, Query, read_query, write
from ..exchange import Request, Response
from ..numbers import (
    CHANGED,
    CONTENT,
    CONTENT_FORMAT,
    CREATED,
    DELETE,
    DELETED,
    FETCH,
    GET,
    IPATCH,
    LOCATION_PATH,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    POST,
    PUT,
    UNSUPPORTED_CONTENT_FORMAT,
    uint_bytes,
)
from . import topic_config
from .configurations import Configurations, id_prefix, may_read
from .topic_config import COLLECTION, DATA_TYPE, TopicConfig, conf_link

_CONF_OPTIONS: Final = ((CONTENT_FORMAT, uint_bytes(PUBSUB)),)


class DataLinks(Protocol):
    """Whoever lists topics that have a value (see discovery)."""

    def data_links(self, session: Session, query: Query, done: Callable[[list[Link]], None]) -> None: ...


class PubSub:
    """Implements `resources.Resource`."""

    __slots__ = ("_gateway", "_links", "configurations")

    def __init__(self, gateway: Gateway, configurations: Configurations, links: DataLinks) -> None:
        self._gateway = gateway
        self.configurations = configurations
        self._links = links

    def serve(self, client: Client, request: Request) -> None:
        path = request.options.path
        if len(path) == 1:
            self._collection(client.session, request)
        elif len(path) == 2 and path[0] == COLLECTION:
            self._topic(client.session, request, path[1])
        else:
            raise Refused(NOT_FOUND, f"/{COLLECTION}/<id> is a topic's configuration; its data is below /ps")

    # -- the collection -----------------------------------------------------------------------

    def _collection(self, session: Session, request: Request) -> None:
        code = request.code
        if code == GET:
            _check_accept(request, LINK_FORMAT)
            query = read_query(request.options.query, LOGIN_PARAMETERS)
            if ("rt", DATA_TYPE) in query.filters:
                self._links.data_links(session, query, lambda links: request.respond(_list(links)))
            else:
                visible = self.configurations.visible(session, id_prefix(query))
                request.respond(_list(query.pick(map(conf_link, visible))))
        elif code == FETCH:
            _check_accept(request, LINK_FORMAT)
            wanted = _read(request)
            query = read_query(request.options.query, LOGIN_PARAMETERS)
            visible = self.configurations.visible(session, id_prefix(query))
            found = [config for config in visible if config.matches(wanted)]
            request.respond(_list(query.pick(map(conf_link, found))))
        elif code == POST:
            self._create(session, request)
        else:
            request.respond(wrong_method("GET, FETCH and POST"))

    def _create(self, session: Session, request: Request) -> None:
        _check_accept(request, PUBSUB)
        said = _read(request)
        if topic_config.RESOURCE_TYPE not in said:
            raise InvalidValue("resource-type is missing")
        config = topic_config.make(self.configurations.new_id(), said)
        session.check(Action.MANAGE, config.topic)
        self.configurations.check_new(config)
        if config.initialize is not None:
            self._publish(session, config.topic, config.initialize, config.content_format)
        self.configurations.put(config)
        session.changed("coap-topic.create", config.topic, config.id)
        location = ((LOCATION_PATH, COLLECTION.encode()), (LOCATION_PATH, config.id.encode()))
        self._when_stored(request, Response(CREATED, _payload(config), (*location, *_CONF_OPTIONS)))

    # -- one topic ----------------------------------------------------------------------------

    def _topic(self, session: Session, request: Request, id: str) -> None:
        config = self.configurations.get(id)
        code = request.code
        if code in (GET, FETCH):
            if not may_read(session, config.topic):
                session.check(Action.SUBSCRIBE, config.topic)  # refuses, counts, and says why
            _check_accept(request, PUBSUB)
            payload = _payload(config) if code == GET else _part(config, request)
            request.respond(Response(CONTENT, payload, _CONF_OPTIONS))
        elif code in (POST, PUT, IPATCH):
            self._update(session, request, config)
        elif code == DELETE:
            self._delete(session, request, config)
        else:
            request.respond(wrong_method("GET, FETCH, POST, PUT, iPATCH and DELETE"))

    def _update(self, session: Session, request: Request, config: TopicConfig) -> None:
        session.check(Action.MANAGE, config.topic)
        _check_accept(request, PUBSUB)
        changed = config.updated(_read(request), request.code != IPATCH)
        self.configurations.put(changed)
        session.changed("coap-topic.update", config.topic, config.id)
        self._when_stored(request, Response(CHANGED, _payload(changed), _CONF_OPTIONS))

    def _delete(self, session: Session, request: Request, config: TopicConfig) -> None:
        """Remove a topic, and its value with it (2.5.5): to do the one, one must be allowed the other."""
        session.check(Action.MANAGE, config.topic)
        if self.configurations.has_value(config.topic):
            self._publish(session, config.topic, b"", NONE)
        self.configurations.delete(config.id)
        session.changed("coap-topic.delete", config.topic, config.id)
        self._when_stored(request, Response(DELETED))

    def _publish(self, session: Session, topic: str, body: bytes, content_format: int) -> None:
        """Set a topic's value, or clear it. Raise GatewayError."""
        properties = NO_PROPERTIES if content_format == NONE else Said(*content_of(content_format))
        wall_ms = self._gateway.clock.wall_ms
        session.publish(Message(topic, body, 1, True, properties, session.origin, wall_ms))

    def _when_stored(self, request: Request, answer: Response) -> None:
        def stored(done: bool) -> None:
            lost = NotStored("the change could not be written to disk; try again later")
            request.respond(answer if done else answer_to(lost))

        self._gateway.when_durable(self._gateway.broker.engine.position(), stored)


def _list(links: list[Link]) -> Response:
    return Response(CONTENT, write(links), LINK_OPTIONS)


def _payload(config: TopicConfig) -> bytes:
    return topic_config.write(config.properties())


def _part(config: TopicConfig, request: Request) -> bytes:
    """Return the properties that a FETCH asks for (2.5.2), as far as they are there."""
    if request.options.content_format not in (CBOR, NONE):
        raise Refused(UNSUPPORTED_CONTENT_FORMAT, f"keys of topic properties are of Content-Format {CBOR}")
    wanted = topic_config.read_keys(request.payload)
    return topic_config.write({key: value for key, value in config.properties().items() if key in wanted})


def _read(request: Request) -> topic_config.Properties:
    """Return the topic properties of a request. Raise Refused or InvalidValue."""
    if request.options.content_format not in (PUBSUB, NONE):
        raise Refused(UNSUPPORTED_CONTENT_FORMAT, f"topic properties are of Content-Format {PUBSUB}")
    return topic_config.read(request.payload)


def _check_accept(request: Request, number: int) -> None:
    if request.options.accept not in (number, NONE):
        raise Refused(NOT_ACCEPTABLE, f"this is of Content-Format {number} alone")
