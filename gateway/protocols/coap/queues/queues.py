"""`/queues/<q>` for devices that poll: POST enqueues, `receive` takes under a lease, `deliveries` settles.

GET shows a queue; with Observe it consumes (see `workers`).

The leases are those of the HTTP door: what one door has handed out can be settled by the other.
A queue's name is one segment of the path; a slash in it is `%2F` in a URI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.api import Delivery, Gateway, Session
from gateway.core import lease
from gateway.core.errors import InvalidValue, NotAuthorized, NotFound
from gateway.core.message import Outcome
from gateway.core.queue import Queue
from gateway.core.selector import USUAL_LANGUAGE
from gateway.core.topic import QUEUE_PREFIX

from ..answers import Refused, wrong_method
from ..clients import LOGIN_PARAMETERS, Client
from ..codec import Options
from ..content import cbor
from ..content.formats import CBOR, JSON, NONE
from ..exchange import Request, Response
from ..numbers import (
    CHANGED,
    CONTENT,
    CONTENT_FORMAT,
    CREATED,
    DELETE,
    DELETED,
    GET,
    MAX_AGE,
    NOT_ACCEPTABLE,
    POST,
    uint_bytes,
)
from ..topics.targets import Target, read_ack, read_lease_ms, seconds_of, target_at
from ..topics.topics import Topics
from .pulls import Answers, Pulls, Want
from .workers import Workers

WAIT_SECONDS_MAX: Final = 60  # as of the HTTP door; NATs forget who is silent after some minutes
#: What `outcome` may be. `nack` is what the HTTP door's nack does if nothing else is said.
OUTCOMES: Final = {
    "ack": Outcome.ACK,
    "nack": Outcome.REQUEUE,
    "requeue": Outcome.REQUEUE,
    "retry": Outcome.RETRY,
    "reject": Outcome.REJECT,
}

_NOTHING: Final = Answers(CREATED, Response(CHANGED), True)
_encode_json = msgspec.json.Encoder().encode


class Wish:
    """What the query of a `receive` or of a settlement says. `text` is the selector's."""

    __slots__ = ("at_once", "delay_ms", "language", "outcome", "reason", "text", "want")

    def __init__(self) -> None:
        self.want = Want("")
        self.at_once = False  # the message is done with when it is sent: there is no lease
        self.text: str | None = None
        self.language: str | None = None
        self.outcome = Outcome.ACK
        self.delay_ms: int | None = None
        self.reason = ""


class Queues:
    """Implements `resources.Resource`."""

    __slots__ = ("_gateway", "_pulls", "_topics", "_workers")

    def __init__(self, gateway: Gateway, topics: Topics, pulls: Pulls, workers: Workers) -> None:
        self._gateway = gateway
        self._topics = topics
        self._pulls = pulls
        self._workers = workers

    def serve(self, client: Client, request: Request) -> None:
        path = request.options.path
        if len(path) < 2 or not path[1]:
            raise NotFound("the path names no queue; /queues/jobs is the queue jobs")
        name, rest = path[1], path[2:]
        if not rest:
            self._serve_queue(client, request, name)
        elif rest == ("receive",):
            self._receive(client, request, name)
        elif rest[0] == "deliveries" and len(rest) == 2:
            self._settle(client.session, request, name, rest[1])
        elif rest[0] == "deliveries" and rest[2:] == ("extend",):
            self._extend(client.session, request, name, rest[1])
        else:
            raise NotFound("a queue has receive, deliveries/<id> and deliveries/<id>/extend")

    def _serve_queue(self, client: Client, request: Request, name: str) -> None:
        if request.code == POST:
            self._enqueue(client, request, name)
        elif request.code == GET:
            self._get(client, request, name)
        else:
            request.respond(wrong_method("GET and POST"))

    def _enqueue(self, client: Client, request: Request, name: str) -> None:
        """Publish straight to a queue: stored before the answer, as below `/ps`."""
        self._gateway.broker.catalog.get(name)  # or 4.04: what is published to none is only dropped
        if name.startswith("$"):
            raise NotAuthorized(f"queue {name!r} is the gateway's own; publish to a topic instead")
        target = target_at(request.options, QUEUE_PREFIX + name)
        self._topics.publish(client, request, target, Response(CHANGED))

    def _get(self, client: Client, request: Request, name: str) -> None:
        options = request.options
        if options.observe == 0:
            want = self._wanted(read_wish(options, OBSERVE_PARAMETERS), options, name)
            target = Target()  # which is where `represent` looks
            target.meta = want.meta
            options.meaning = target
            self._workers.register(client, request, want)
            return
        if options.observe == 1:
            self._workers.deregister(client, request)
        request.respond(self._show(client.session, options, name))

    # -- looking ------------------------------------------------------------------------------

    def _show(self, session: Session, options: Options, name: str) -> Response:
        """Return how a queue is doing, as a map in JSON or CBOR."""
        read_wish(options, () if options.observe < 0 else OBSERVE_PARAMETERS)
        session.check_see(name)
        found = describe(self._gateway.broker.catalog.get(name))
        accept = options.accept
        if accept not in (NONE, JSON, CBOR):
            raise Refused(NOT_ACCEPTABLE, f"a queue is shown in JSON ({JSON}) or CBOR ({CBOR}), not {accept}")
        number = JSON if accept == NONE else accept
        payload = cbor.encode(found) if number == CBOR else _encode_json(found)
        # Its numbers change at any time: nobody is to keep them (RFC 7252, 5.10.5).
        return Response(CONTENT, payload, ((CONTENT_FORMAT, uint_bytes(number)), (MAX_AGE, uint_bytes(0))))

    # -- receiving and settling ---------------------------------------------------------------

    def _receive(self, client: Client, request: Request, name: str) -> None:
        if request.code != POST:
            request.respond(wrong_method("POST"))
            return
        wish = read_wish(request.options, RECEIVE_PARAMETERS)
        self._pulls.begin(client, request, self._wanted(wish, request.options, name), _NOTHING)

    def _wanted(self, wish: Wish, options: Options, name: str) -> Want:
        """Return what a wish asks of a queue. Raise InvalidValue."""
        want = wish.want
        want.queue = name
        want.accept = options.accept
        if wish.at_once:
            want.lease_ms = 0
        if wish.text is not None:
            language = USUAL_LANGUAGE if wish.language is None else wish.language
            want.selector = self._gateway.broker.selectors.find(wish.text, language)
        elif wish.language is not None:
            raise InvalidValue("selector_language is there, but no selector")
        return want

    def _settle(self, session: Session, request: Request, name: str, token: str) -> None:
        if request.code not in (POST, DELETE):
            request.respond(wrong_method("POST and DELETE"))
            return
        deleting = request.code == DELETE
        wish = read_wish(request.options, () if deleting else SETTLE_PARAMETERS)
        self._find(session, name, token)
        self._gateway.broker.leases.settle(token, wish.outcome, wish.delay_ms, wish.reason)
        request.respond(Response(DELETED if deleting else CHANGED))

    def _extend(self, session: Session, request: Request, name: str, token: str) -> None:
        if request.code != POST:
            request.respond(wrong_method("POST"))
            return
        wish = read_wish(request.options, EXTEND_PARAMETERS)
        self._find(session, name, token)
        self._gateway.broker.leases.extend(token, wish.want.lease_ms)
        request.respond(Response(CHANGED))

    def _find(self, session: Session, name: str, token: str) -> Delivery:
        """Return a delivery of a queue to this principal. Raise NotFound.

        Ids travel in plain text where there is no DTLS or OSCORE: knowing one is not enough.
        """
        delivery = self._gateway.broker.leases.find(token)
        holder = delivery.consumer
        if holder is None or delivery.queue.name != name:
            raise lease.unknown()
        if holder.origin.principal != session.origin.principal:
            raise lease.unknown()
        return delivery


def describe(queue: Queue) -> dict[str, Any]:
    """Return what a device wants to know of a queue; people ask the HTTP door, which says more."""
    groups = queue.groups()
    return {
        "name": queue.name,
        "kind": queue.kind,
        "depth": queue.length(),
        "bytes": queue.bytes_waiting,
        "unsettled": sum(len(group.unsettled) for group in groups),
        "consumers": sum(len(group.consumers) for group in groups),
    }


# -- one reader a parameter -------------------------------------------------------------------


def read_wish(options: Options, known: tuple[str, ...]) -> Wish:
    """Return what a query says, of the parameters that are known. Raise InvalidValue."""
    wish = Wish()
    for item in options.query:
        name, _, value = item.partition("=")
        if name in LOGIN_PARAMETERS:
            continue
        if name not in known:
            names = ", ".join(sorted({*known, *LOGIN_PARAMETERS}))
            raise InvalidValue(f"{name[:40]!r}: no such parameter; known: {names}")
        _READERS[name](wish, value)
    return wish


def _read_max(wish: Wish, value: str) -> None:
    if value != "1":
        raise InvalidValue(f"max is {value[:40]!r}; a response has room for one message: ask again")


def _read_wait(wish: Wish, value: str) -> None:
    wish.want.wait_ms = int(seconds_of("wait", value, WAIT_SECONDS_MAX, True) * 1000)


def _read_lease(wish: Wish, value: str) -> None:
    wish.want.lease_ms = read_lease_ms(value)


def _read_group(wish: Wish, value: str) -> None:
    if value.startswith("$"):
        raise InvalidValue("group: names that begin with $ are the gateway's own")
    wish.want.group = value


def _read_meta(wish: Wish, value: str) -> None:
    if value not in ("0", "1"):
        raise InvalidValue(f"meta is {value[:40]!r}; 0 or 1 is expected")
    wish.want.meta = value == "1"


def _read_selector(wish: Wish, value: str) -> None:
    wish.text = value


def _read_language(wish: Wish, value: str) -> None:
    wish.language = value


def _read_outcome(wish: Wish, value: str) -> None:
    outcome = OUTCOMES.get(value)
    if outcome is None:
        raise InvalidValue(f"outcome is {value[:40]!r}; {', '.join(OUTCOMES)} are known")
    wish.outcome = outcome


def _read_delay(wish: Wish, value: str) -> None:
    wish.delay_ms = int(seconds_of("delay", value, lease.DELAY_SECONDS_MAX, True) * 1000)


def _read_reason(wish: Wish, value: str) -> None:
    wish.reason = value


def _read_ack(wish: Wish, value: str) -> None:
    wish.at_once = read_ack(value)


_READERS: Final[dict[str, Callable[[Wish, str], None]]] = {
    "max": _read_max,
    "wait": _read_wait,
    "lease": _read_lease,
    "ack": _read_ack,
    "group": _read_group,
    "meta": _read_meta,
    "selector": _read_selector,
    "selector_language": _read_language,
    "outcome": _read_outcome,
    "delay": _read_delay,
    "reason": _read_reason,
}
RECEIVE_PARAMETERS: Final = (
    "max",
    "wait",
    "lease",
    "ack",
    "group",
    "meta",
    "selector",
    "selector_language",
)
OBSERVE_PARAMETERS: Final = ("group", "meta", "selector", "selector_language")
SETTLE_PARAMETERS: Final = ("outcome", "delay", "reason")
EXTEND_PARAMETERS: Final = ("lease",)
