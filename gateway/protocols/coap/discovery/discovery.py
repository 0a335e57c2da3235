"""`/.well-known/core` (RFC 6690, 4): what a client may find here, as links, picked by filters.

There may be very many topics. What a filter rules out is not looked at, and an answer has limits: devices
that nobody knows may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.api import Gateway, Session
from gateway.core.access import Action
from gateway.core.message import Message
from gateway.core.topic import QUEUE_PREFIX

from ..answers import Refused, wrong_method
from ..clients import LOGIN_PARAMETERS, Client
from ..content.formats import LINK_FORMAT, NONE, PUBSUB, number_of
from ..exchange import Request, Response
from ..numbers import CONTENT, GET, NOT_ACCEPTABLE, NOT_FOUND
from ..pubsub.configurations import Configurations, id_prefix
from ..pubsub.topic_config import CONF_ATTRIBUTES, DATA_PATH, DATA_TYPE, conf_link
from .links import LINK_OPTIONS, Link, Query, path_of, read_query, write
from .topic_names import TopicNames

CHECKS_MAX: Final = 2000  # topics, and queues, looked at for an answer: some milliseconds, twice a page

QUEUE_TYPE: Final = "gateway.queue"
#: What is always there. `/ps` and `/pst` are one collection; the draft wants topics below its own path.
BROKER: Final = (
    Link("/ps", [("rt", "core.ps"), ("ct", str(LINK_FORMAT))]),
    Link("/pst", [("rt", "core.ps.coll"), ("ct", f"{LINK_FORMAT} {PUBSUB}")]),
)
_DATA: Final = (("rt", DATA_TYPE), ("obs", ""))
_QUEUE: Final = (("rt", QUEUE_TYPE),)
#: Attributes that links to topics may have besides: a filter by one cannot rule them all out.
_OPEN: Final = frozenset({"ct"})

Done = Callable[[list[Link]], None]


class Discovery:
    """Implements `resources.Resource`, below `/.well-known`."""

    __slots__ = ("_configurations", "_gateway", "_names")

    def __init__(self, gateway: Gateway, configurations: Configurations) -> None:
        self._gateway = gateway
        self._configurations = configurations
        self._names = TopicNames(gateway)

    def serve(self, client: Client, request: Request) -> None:
        options = request.options
        if options.path[1:] != ("core",):
            raise Refused(NOT_FOUND, "only /.well-known/core is here")
        if request.code != GET:
            request.respond(wrong_method("GET"))
            return
        if options.accept not in (LINK_FORMAT, NONE):
            raise Refused(NOT_ACCEPTABLE, f"links are of Content-Format {LINK_FORMAT} alone")
        query = read_query(options.query, LOGIN_PARAMETERS)
        session = client.session
        first = [*BROKER, *self._conf_links(session, query), *self._queue_links(session, query)]

        def found(links: list[Link]) -> None:
            request.respond(Response(CONTENT, write(query.pick([*first, *links])), LINK_OPTIONS))

        if _possible(query, _DATA):
            self._topics(session, query, found)
        else:
            found([])

    # -- lists --------------------------------------------------------------------------------

    def data_links(self, session: Session, query: Query, done: Done) -> None:
        """Call with the page of the topics that have a value, as far as the client may subscribe to them."""
        self._topics(session, query, lambda links: done(query.pick(links)))

    def _conf_links(self, session: Session, query: Query) -> list[Link]:
        if not _possible(query, CONF_ATTRIBUTES):
            return []
        return [conf_link(config) for config in self._configurations.visible(session, id_prefix(query))]

    def _queue_links(self, session: Session, query: Query) -> list[Link]:
        if not _possible(query, _QUEUE):
            return []
        prefix = query.href_prefix()
        found: list[Link] = []
        for count, name in enumerate(sorted(self._gateway.broker.catalog.queues)):
            if count >= CHECKS_MAX or len(found) >= query.last:
                break
            if name.startswith("$") or not session.may(Action.CONSUME, QUEUE_PREFIX + name):
                continue
            link = Link(path_of(("queues", name)), _QUEUE)
            if link.href.startswith(prefix):
                found.append(link)
        return found

    def _topics(self, session: Session, query: Query, done: Done) -> None:
        """Call with links to topics, all that are needed for the page."""
        prefix = topic_prefix(query.href_prefix())
        if prefix is None:
            done([])
        else:
            self._names.find(prefix, lambda topics: done(self._links(session, query, topics)))

    def _links(self, session: Session, query: Query, topics: list[str]) -> list[Link]:
        found: list[Link] = []
        broker = self._gateway.broker
        for topic in topics[:CHECKS_MAX]:
            if len(found) >= query.last:
                break
            if not session.may(Action.SUBSCRIBE, topic):
                continue
            link = data_link(topic, broker.retained.get(topic) or broker.router.last(topic))
            if query.matches(link):
                found.append(link)
        return found


def data_link(topic: str, message: Message | None) -> Link:
    """Return the link to a topic's data; `message` is its value, whose format is said."""
    number = NONE
    if message is not None:
        number = number_of(message.properties.content_type, message.properties.content_encoding)
    attributes = _DATA if number == NONE else (("rt", DATA_TYPE), ("ct", str(number)), ("obs", ""))
    return Link(path_of([DATA_PATH, *topic.split("/")]), attributes)


def topic_prefix(href: str) -> str | None:
    """Return what a topic begins with whose link begins with `href`; None if no topic's does."""
    begin = f"/{DATA_PATH}/"
    plain = href.partition("%")[0]  # what is encoded may be cut in the middle: compared later, as it is
    if len(plain) <= len(begin):
        return "" if begin.startswith(plain) and plain in (href, begin) else None
    return plain[len(begin) :] if plain.startswith(begin) else None


def _possible(query: Query, attributes: tuple[tuple[str, str], ...]) -> bool:
    """Tell whether links with these attributes, and of any content format, may be wanted."""
    filters = [(name, wanted) for name, wanted in query.filters if name not in _OPEN]
    return Query(filters).wants(attributes)
