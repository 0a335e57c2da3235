"""A transaction whose messages wait, unseen, until its producer decides: what it is, and its records.

Its messages are *half messages*: stored, in no queue that anybody can consume. All that has to be known of
it after a crash is in the reserved durable queue `HALF_QUEUE_ID`, so that the log's own order says what
happened: a record of its beginning, the half messages, and a record of its end, which is one group
with the messages that it sets free. A half message is kept as it was published, below `$transaction/`;
its body's last bytes say whose it is and how much later than the commit it is to be published, and
`expires_at_ms` is the time it has to live from then on.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from . import deadletter
from .errors import InvalidValue
from .message import HeaderValue, Message, Origin, Properties
from .metrics import DropCause
from .topic import DEAD_PREFIX, TRANSACTION_PREFIX, check_topic

if TYPE_CHECKING:
    from .scheduler import Timer

HALF_QUEUE_ID: Final = 0xFFFF_FFF0  # ids of ordinary queues count up from 2
HALF_NAME: Final = "$half"
DEAD_TOPIC: Final = DEAD_PREFIX + HALF_NAME  # and queue: where messages go that nobody decides about
AREA: Final = "$admin/transactions"  # who may manage it resolves others' transactions

ID_MAX: Final = 128  # characters; a UUID has 36
#: The same in a topic, a routing key, a path: nothing that one of them has to escape.
_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_MAX}}}")

IMMUNITY_MS_MAX: Final = 24 * 3600 * 1000  # nobody's own transaction takes a day
URL_MAX: Final = 2048  # characters: what proxies take

ID_HEADER: Final = "transaction-id"  # of a question, and of a dead letter

BEGIN, PUBLISH, COMMIT, ROLLBACK = "begin", "publish", "commit", "rollback"  # third level of a topic
END: Final = "end"  # of a record's
_TRAILER: Final = Struct("<QIq")  # number of the transaction, of the message in it; how much later (ms)


class State(Enum):
    """Where a transaction stands."""

    OPEN = "open"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"


class Options:
    """What a producer can say when it begins. `immunity_ms` 0: the usual time to the first check."""

    __slots__ = ("check_url", "immunity_ms", "reply_to")

    def __init__(self, immunity_ms: int = 0, reply_to: str = "", check_url: str = "") -> None:
        self.immunity_ms = immunity_ms
        self.reply_to = reply_to
        self.check_url = check_url


class Half:
    """One transaction. Times are the gateway's own, in ms; `number` is the position of its beginning.

    `positions` are its messages', `size` the bytes of their bodies. `end_position` is where its end is in
    the log, and `cause` why it ended: `producer`, `operator`, `check` or `unresolved`. `damaged` tells
    that a message of it may be lost: it cannot be committed.
    """

    __slots__ = (
        "begun_ms",
        "cause",
        "checks",
        "damaged",
        "end_position",
        "ended_ms",
        "id",
        "messages",
        "next_check_ms",
        "number",
        "options",
        "origin",
        "positions",
        "size",
        "sizes",
        "state",
        "timer",
    )

    def __init__(self, id: str, number: int, origin: Origin, options: Options, begun_ms: int) -> None:
        self.id = id
        self.number = number
        self.origin = origin
        self.options = options
        self.begun_ms = begun_ms
        self.positions: list[int] = []
        self.sizes: list[int] = []
        self.messages = 0
        self.size = 0
        self.state = State.OPEN
        self.ended_ms = 0
        self.end_position = 0
        self.cause = ""
        self.checks = 0
        self.next_check_ms = 0
        self.timer: Timer | None = None
        self.damaged = False

    @property
    def key(self) -> tuple[str, str]:
        """Its name: an id is its principal's."""
        return (self.origin.principal, self.id)

    def add(self, position: int, size: int) -> None:
        """Note a message of it."""
        self.positions.append(position)
        self.sizes.append(size)
        self.messages += 1
        self.size += size

    def take_back(self, index: int) -> int:
        """A message was not stored; return its size."""
        del self.positions[index]
        size = self.sizes.pop(index)
        self.messages -= 1
        self.size -= size
        return size


def check_id(id: str) -> None:
    """Raise InvalidValue unless it can name a transaction."""
    if not _ID.fullmatch(id):
        raise InvalidValue(
            f"transaction id {id[:ID_MAX]!r}: letters, digits, - and _ are expected, {ID_MAX} of them at most"
        )


def read_options(body: bytes) -> Options:
    """Return what the body of a beginning says, a JSON object or nothing. Raise InvalidValue."""
    if not body:
        return Options()
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidValue("the beginning of a transaction: a JSON object is expected, or nothing") from error
    return options_of(fields)


def options_of(fields: Any) -> Options:
    """Return the options in a decoded object. Raise InvalidValue naming what does not fit."""
    if not isinstance(fields, dict):
        raise InvalidValue("the beginning of a transaction: a JSON object is expected")
    for name in fields:
        if name not in ("immunity", "reply_to", "check_url"):
            raise InvalidValue(f"{str(name)[:80]!r}: unknown; known: immunity, reply_to, check_url")
    immunity = fields.get("immunity", 0)
    number = isinstance(immunity, int | float) and not isinstance(immunity, bool)
    if not number or not 0 <= immunity <= IMMUNITY_MS_MAX / 1000:
        raise InvalidValue(f"immunity: 0 to {IMMUNITY_MS_MAX // 1000} seconds are expected")
    reply_to, check_url = fields.get("reply_to", ""), fields.get("check_url", "")
    if not isinstance(reply_to, str):
        raise InvalidValue("reply_to: a topic is expected")
    if not isinstance(check_url, str) or len(check_url) > URL_MAX:
        raise InvalidValue(f"check_url: a URL of at most {URL_MAX} characters is expected")
    return Options(round(immunity * 1000), reply_to, check_url)


# -- records ----------------------------------------------------------------------------------------


def begin_record(id: str, origin: Origin, options: Options, now_ms: int) -> Message:
    """Return the record of a beginning."""
    fields: dict[str, object] = {"id": id, "begun_ms": now_ms}
    if options.immunity_ms:
        fields["immunity_ms"] = options.immunity_ms
    if options.reply_to:
        fields["reply_to"] = options.reply_to
    if options.check_url:
        fields["check_url"] = options.check_url
    topic = f"{TRANSACTION_PREFIX}{id}/{BEGIN}"
    return Message(topic, json.dumps(fields).encode(), 1, origin=origin, timestamp_ms=now_ms)


def read_begin(message: Message, position: int) -> Half:
    """Undo `begin_record`."""
    fields = json.loads(message.body)
    options = Options(fields.get("immunity_ms", 0), fields.get("reply_to", ""), fields.get("check_url", ""))
    return Half(fields["id"], position, message.origin, options, fields["begun_ms"])


def read_orphan(message: Message, now_ms: int) -> Half:
    """Return the transaction of a half message whose beginning was not stored."""
    id = message.topic.split("/", 2)[1]
    return Half(id, belongs_to(message)[0], message.origin, Options(), now_ms)


def end_record(half: Half, state: State, cause: str, now_ms: int) -> Message:
    """Return the record of an end: what is remembered of a transaction for a while."""
    fields = {
        "id": half.id,
        "number": half.number,
        "begun_ms": half.begun_ms,
        "ended_ms": now_ms,
        "state": state.value,
        "cause": cause,
        "messages": half.messages,
        "size": half.size,
        "checks": half.checks,
    }
    topic = f"{TRANSACTION_PREFIX}{half.id}/{END}"
    return Message(topic, json.dumps(fields).encode(), 1, origin=half.origin, timestamp_ms=now_ms)


def read_end(message: Message, position: int) -> Half:
    """Undo `end_record`."""
    fields = json.loads(message.body)
    half = Half(fields["id"], fields["number"], message.origin, Options(), fields["begun_ms"])
    half.messages, half.size, half.checks = fields["messages"], fields["size"], fields["checks"]
    ended(half, State(fields["state"]), fields["cause"], fields["ended_ms"], position)
    return half


def ended(half: Half, state: State, cause: str, now_ms: int, position: int) -> None:
    """It is over."""
    half.state, half.cause = state, cause
    half.ended_ms, half.end_position = now_ms, position
    half.positions, half.sizes = [], []
    half.next_check_ms = 0


def kind_of(message: Message) -> str:
    """Return what a record is: BEGIN, PUBLISH or END."""
    return message.topic.split("/", 3)[2]


def topic_of(message: Message) -> str:
    """Return the topic that a half message is for."""
    return message.topic.split("/", 3)[3]


def wrap(message: Message, half: Half, now_ms: int) -> Message:
    """Return a message as it waits for the end of its transaction. Raise InvalidTopic."""
    left_ms = max(1, message.expires_at_ms - now_ms) if message.expires_at_ms else 0
    trailer = _TRAILER.pack(half.number, half.messages, message.properties.delay_ms)
    topic = f"{TRANSACTION_PREFIX}{half.id}/{PUBLISH}/{message.topic}"
    check_topic(topic)  # it is longer than the message's own
    return message.changed(topic, message.properties, left_ms, message.body + trailer)


def unwrap(message: Message, now_ms: int) -> Message:
    """Undo `wrap`: its time to live begins now, and so does a delay."""
    expires_at_ms = now_ms + message.expires_at_ms if message.expires_at_ms else 0
    delay_ms = _TRAILER.unpack(message.body[-_TRAILER.size :])[2]
    found = message.changed(
        topic_of(message), message.properties, expires_at_ms, message.body[: -_TRAILER.size]
    )
    if delay_ms:
        found.properties = _delayed(found.properties, delay_ms)
    return found


def _delayed(properties: Properties, delay_ms: int) -> Properties:
    copy = properties.copy()
    copy.delay_ms = delay_ms
    return copy


def belongs_to(message: Message) -> tuple[int, int]:
    """Return the number of a half message's transaction, and its own in that."""
    number, index, _ = _TRAILER.unpack(message.body[-_TRAILER.size :])
    return number, index


def half_size(message: Message) -> int:
    """Return the bytes of the body that a half message had."""
    return len(message.body) - _TRAILER.size


def letter(message: Message, half: Half, now_ms: int, position: int) -> Message:
    """Return a message that nobody decided about as it goes to the dead letters."""
    story: dict[str, HeaderValue] = {
        deadletter.CAUSE: DropCause.TRANSACTION_UNRESOLVED.name.lower(),
        deadletter.QUEUE: HALF_NAME,
        deadletter.TOPIC: message.topic,
        deadletter.ATTEMPTS: half.checks,
        deadletter.TIME: now_ms,
        deadletter.POSITION: position,
        ID_HEADER: half.id,
    }
    return deadletter.with_story(message, DEAD_TOPIC, story)


def readdressed(message: Message, topic: str) -> Message:
    """Return a message as if it had been published to another topic."""
    found = message.changed(topic, message.properties, message.expires_at_ms)
    if message.properties.native is not None:  # that names the old one
        found.properties = _delayed(message.properties, message.properties.delay_ms)
    return found
