"""Publishing: the hot routes, as plain ASGI.

`POST /v1/topics/{topic}`, `POST /v1/topics/{topic}/batch`, `POST /v1/queues/{queue}/messages`,
`POST /v1/transactions/{id}/topics/{topic}`.
FastAPI declares them too (topics.py), for the OpenAPI document. Topics and query strings
repeat, so what was parsed of them is remembered.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec

from ...api import NO_SUBSCRIBERS, Session
from ...core import cloudevents
from ...core.half import check_id
from ...core.message import Message, wants_later
from ...core.schedules import parse_delay
from ...core.topic import DELAYED_PREFIX, QUEUE_PREFIX, TRANSACTION_PREFIX, check_topic
from .answers import Receive, Scope, Send, send_json
from .context import Context, decode_segment, not_stored
from .convert import check_ttl, read_deliver_at
from .headers import Head, read_head
from .limits import REMEMBERED_BYTES_MAX, REMEMBERED_MAX, TARGET_PARAMETERS_MAX
from .problems import Refused

TOPICS_PATH = b"/v1/topics/"
BATCH_SUFFIX = b"/batch"
QUEUES_PATH = b"/v1/queues/"
MESSAGES_SUFFIX = b"/messages"
TRANSACTIONS_PATH = b"/v1/transactions/"
TRANSACTION_TOPICS = b"/topics/"

_encode = msgspec.json.Encoder().encode
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Options:
    """What a publish says in its query string."""

    __slots__ = ("delay_ms", "deliver_at_ms", "key", "qos", "retain", "tag", "ttl_ms")

    def __init__(self) -> None:
        self.delay_ms = 0
        self.deliver_at_ms: int | None = None
        self.qos = 1
        self.retain = False
        self.ttl_ms = 0
        self.key: str | None = None
        self.tag: str | None = None


def read_options(query: str) -> Options:
    """Read a query string. Raise Refused naming the parameter that does not fit."""
    options = Options()
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=TARGET_PARAMETERS_MAX
        )
    except ValueError as error:
        raise Refused(
            "invalid-parameter", f"the query string is not percent-encoded UTF-8: {error}"
        ) from error
    for name, value in pairs:
        _read_option(options, name, value)
    if options.delay_ms and options.deliver_at_ms is not None:
        raise Refused("invalid-parameter", "delay and deliver_at exclude each other; send one of them")
    return options


def _read_option(options: Options, name: str, value: str) -> None:
    if name == "qos":
        if value not in ("0", "1", "2"):
            raise Refused("invalid-parameter", f"qos is {value[:40]!r}; 0, 1 or 2 is expected")
        options.qos = int(value)
    elif name == "retain":
        if value not in _BOOLEANS:
            raise Refused("invalid-parameter", f"retain is {value[:40]!r}; true or false is expected")
        options.retain = _BOOLEANS[value]
    elif name == "ttl":
        try:
            options.ttl_ms = check_ttl(float(value))
        except ValueError:
            raise Refused("invalid-parameter", f"ttl is {value[:40]!r}; seconds are expected") from None
    elif name == "key":
        options.key = value
    elif name == "tag":
        options.tag = value
    elif name == "delay":
        options.delay_ms = parse_delay(value, "delay")
    elif name == "deliver_at":
        options.deliver_at_ms = read_deliver_at(value)
    else:
        known = "qos, retain, ttl, key, tag, delay, deliver_at"
        raise Refused("invalid-parameter", f"{name[:40]!r}: no such parameter; known: {known}")


class Publishing:
    """The hot routes of one door."""

    __slots__ = ("_context", "_options", "_topics")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._topics: dict[bytes, str] = {}
        self._options: dict[bytes, Options] = {}

    async def to_topic(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Publish the body to the topic in the path. Raise GatewayError."""
        raw: bytes = scope["raw_path"]
        topic = self._topics.get(raw)
        if topic is None:
            topic = self._remember_topic(raw, decode_segment(raw[len(TOPICS_PATH) :].decode("ascii")))
        await self._publish(topic, scope, receive, send)

    async def to_queue(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Publish the body straight to the queue in the path. Raise GatewayError."""
        raw: bytes = scope["raw_path"]
        name = decode_segment(raw[len(QUEUES_PATH) : -len(MESSAGES_SUFFIX)].decode("ascii"), "queue name")
        await self.to_named_queue(name, scope, receive, send)

    async def to_named_queue(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Publish the body straight to a queue. Raise GatewayError."""
        await self._publish(queue_topic(self._context, name), scope, receive, send)

    async def to_transaction(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the body to a transaction, as a message to the topic in the path. Raise GatewayError."""
        raw: bytes = scope["raw_path"][len(TRANSACTIONS_PATH) :]
        name, _, rest = raw.partition(TRANSACTION_TOPICS)
        id = decode_segment(name.decode("ascii"), "transaction id")
        check_id(id)
        topic = decode_segment(rest.decode("ascii"))
        check_topic(topic)
        await self._publish(f"{TRANSACTION_PREFIX}{id}/publish/{topic}", scope, receive, send)

    def _remember_topic(self, raw: bytes, topic: str) -> str:
        check_topic(topic)
        if len(self._topics) >= REMEMBERED_MAX:
            self._topics.clear()
        if len(raw) <= REMEMBERED_BYTES_MAX:
            self._topics[raw] = topic
        return topic

    def options(self, query: bytes) -> Options:
        """Return what a query string says."""
        options = self._options.get(query)
        if options is None:
            options = read_options(query.decode("latin-1"))
            if len(self._options) >= REMEMBERED_MAX:
                self._options.clear()
            if len(query) <= REMEMBERED_BYTES_MAX:
                self._options[query] = options
        return options

    async def _publish(self, topic: str, scope: Scope, receive: Receive, send: Send) -> None:
        context = self._context
        headers = scope["headers"]
        options = self.options(scope["query_string"])
        head = read_head(headers)
        body = await read_body(receive, head.length, context.limits.body_bytes_max)
        context.gateway.begin_turn()
        lent = context.sessions.known(scope) or await context.sessions.of(scope)
        session = lent.session
        message, message_id = self.message(topic, body, options, head, session)
        if may_repeat(session, message):
            position, message_id, duplicate, taken = publish_once(session, message, message_id)
        else:
            position = session.publish(message)
            duplicate, taken = False, position != NO_SUBSCRIBERS
        schedule = schedule_of(session, message, position)
        if position > 0 and not await context.stored(position):
            raise not_stored()
        await send_json(send, answer(message_id, topic, duplicate, taken, schedule))

    def message(
        self, topic: str, body: bytes, options: Options, head: Head, session: Session
    ) -> tuple[Message, str]:
        """Return the message that a request describes, and its id."""
        properties = head.properties
        message_id = properties.message_id
        if message_id is None:
            properties.message_id = message_id = self._context.new_id()
        if options.key is not None:
            properties.key = options.key
        if options.tag is not None:
            properties.tag = options.tag
        properties.delay_ms = options.delay_ms
        properties.deliver_at_ms = options.deliver_at_ms
        if properties.text:
            _check_text(body)
        if cloudevents.is_structured(properties.content_type) and properties.content_encoding is None:
            cloudevents.check_structured(body)
        clock = self._context.gateway.clock
        expires_at_ms = clock.now_ms + options.ttl_ms if options.ttl_ms else 0
        message = Message(
            topic, body, options.qos, options.retain, properties, session.origin, clock.wall_ms, expires_at_ms
        )
        return (message, message_id)


def queue_topic(context: Context, name: str) -> str:
    """Return where to publish for a queue. Raise NotFound, or Refused for the gateway's own."""
    context.gateway.broker.catalog.get(name)  # or 404: `$queue/` of nothing would only drop it
    if name.startswith("$"):
        raise Refused("not-authorized", f"queue {name!r} is the gateway's own; publish to a topic instead")
    return QUEUE_PREFIX + name


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Refused("malformed", f"X-Text: the body is not UTF-8 ({error})") from error


def answer(message_id: str, topic: str, duplicate: bool, taken: bool, schedule: str | None = None) -> bytes:
    """Return the JSON body that tells a publisher what has become of a message."""
    found = {"id": message_id, "topic": topic, "duplicate": duplicate, "subscribers": taken}
    if schedule is not None:
        return _encode({**found, "schedule": schedule})
    return _encode(found)


def schedule_of(session: Session, message: Message, position: int) -> str | None:
    """Return the id of the schedule that a publish has made, None if it has made none."""
    if not wants_later(message.properties) and not message.topic.startswith(DELAYED_PREFIX):
        return None
    return str(position) if session.broker.schedules.waits(position) else None


def may_repeat(session: Session, message: Message) -> bool:
    """Tell whether a message may be a duplicate."""
    return message.properties.idempotency_key is not None or bool(session.broker.dedup.rules)


def publish_once(session: Session, message: Message, message_id: str) -> tuple[int, str, bool, bool]:
    """Publish what may be a duplicate; return (position, id of the first, duplicate, taken)."""
    found = session.publish_once(message)
    route = session.broker.router.routes.get(message.topic)
    taken = message.retain or (route is not None and route.wanted())
    return (found.position, found.message_id or message_id, found.duplicate, taken)


async def read_body(receive: Receive, length: int, bytes_max: int) -> bytes:
    """Read a whole request body. Raise Refused if it is too large."""
    if length > bytes_max:
        raise Refused("too-large", f"the body has {length} bytes; {bytes_max} are allowed")
    event = await receive()
    if not event.get("more_body"):
        body: bytes = event.get("body", b"")
        if event["type"] == "http.disconnect":
            raise ClientGone
        if len(body) > bytes_max:
            raise Refused("too-large", f"the body has {len(body)} bytes; {bytes_max} are allowed")
        return body
    parts = [event["body"]]
    size = len(event["body"])
    while event.get("more_body"):
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        parts.append(event["body"])
        size += len(event["body"])
        if size > bytes_max:
            raise Refused("too-large", f"the body has more than {bytes_max} bytes, which is the limit")
    return b"".join(parts)


class ClientGone(Exception):
    """The client left before its request was complete: nobody is there to be answered."""
