"""What a path and a query below `/ps` say, read once for each that comes again.

`/ps/a/b` is the topic `a/b`: one level a segment, empty levels too.
"""

from __future__ import annotations

from typing import Final

from gateway.core.errors import InvalidTopic, InvalidValue
from gateway.core.message import NO_PROPERTIES, Properties
from gateway.core.replay import parse_time
from gateway.core.schedules import parse_delay
from gateway.core.topic import check_filter, check_topic

from .clients import LOGIN_PARAMETERS
from .codec import Options
from .formats import content_of

TTL_SECONDS_MAX: Final = 0xFFFFFFFF  # as in MQTT 5, so that every door can say it
EXPIRY_SECONDS_MAX: Final = 0xFFFFFFFF
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False, "": True}


class Target:
    """A topic or filter, and how to publish or observe. Numbers are -1 where nothing was said.

    `properties` are those of every message that is published in this way: shared, not to be changed.
    """

    __slots__ = (
        "delay_ms",
        "deliver_at_ms",
        "expiry_seconds",
        "filter",
        "idempotency_key",
        "key",
        "message_id",
        "meta",
        "properties",
        "qos",
        "retain",
        "selector",
        "session",
        "tag",
        "topic",
        "ttd_seconds",
        "ttl_ms",
        "wait_queue",
    )

    def __init__(self) -> None:
        self.topic = ""
        self.filter: str | None = None  # of the query: wildcards are no part of a path
        self.qos = -1
        self.retain = False
        self.ttl_ms = 0
        self.delay_ms = 0
        self.deliver_at_ms: int | None = None
        self.key: str | None = None
        self.tag: str | None = None
        self.message_id: str | None = None
        self.idempotency_key: str | None = None
        self.meta = False  # the payload is an envelope (see translate)
        self.properties: Properties = NO_PROPERTIES
        self.selector: str | None = None
        self.session: str | None = None  # name of a durable observer
        self.expiry_seconds = -1
        self.ttd_seconds = -1.0  # how long the device listens for commands (see queues)
        self.wait_queue: str | None = None  # where its commands are


def target_of(options: Options) -> Target:
    """Return what options say. Raise InvalidTopic or InvalidValue."""
    found = options.meaning
    if isinstance(found, Target):
        return found
    target = Target()
    target.topic = _topic(options.path)
    for item in options.query:
        name, _, value = item.partition("=")
        if name in LOGIN_PARAMETERS:
            continue
        if name not in _READERS:
            known = ", ".join(sorted({*_READERS, *LOGIN_PARAMETERS}))
            raise InvalidValue(f"{name[:40]!r}: no such parameter; known: {known}")
        _READERS[name](target, value)
    if target.delay_ms and target.deliver_at_ms is not None:
        raise InvalidValue("delay and deliver_at exclude each other; send one of them")
    target.properties = _properties(target, options.content_format)
    options.meaning = target
    return target


def _topic(path: tuple[str, ...]) -> str:
    levels = path[1:]
    for level in levels:
        if "/" in level:
            raise InvalidTopic(f"{level!r}: a segment with a slash in it is no level of a topic")
    topic = "/".join(levels)
    if levels:
        check_topic(topic)
    return topic


def _properties(target: Target, content_format: int) -> Properties:
    said = (target.key, target.tag, target.message_id, target.idempotency_key, target.deliver_at_ms)
    if content_format < 0 and not target.delay_ms and all(value is None for value in said):
        return NO_PROPERTIES
    properties = Properties(
        *content_of(content_format),
        key=target.key,
        tag=target.tag,
        message_id=target.message_id,
        idempotency_key=target.idempotency_key,
        deliver_at_ms=target.deliver_at_ms,
    )
    properties.delay_ms = target.delay_ms
    return properties


# -- one reader a parameter -------------------------------------------------------------------


def _read_qos(target: Target, value: str) -> None:
    if value not in ("0", "1", "2"):
        raise InvalidValue(f"qos is {value[:40]!r}; 0, 1 or 2 is expected")
    target.qos = int(value)


def _read_retain(target: Target, value: str) -> None:
    if value not in _BOOLEANS:
        raise InvalidValue(f"retain is {value[:40]!r}; true or false is expected")
    target.retain = _BOOLEANS[value]


def _read_ttl(target: Target, value: str) -> None:
    seconds = _seconds("ttl", value, TTL_SECONDS_MAX)
    target.ttl_ms = max(1, int(seconds * 1000))


def _read_delay(target: Target, value: str) -> None:
    target.delay_ms = parse_delay(value, "delay")


def _read_deliver_at(target: Target, value: str) -> None:
    if value.isascii() and value.isdigit() and len(value) <= 18:
        target.deliver_at_ms = int(value)
        return
    time_ms = parse_time(value)
    if time_ms is None:
        expected = "Unix milliseconds, or a time such as 2026-11-21T05:00:00Z, are expected"
        raise InvalidValue(f"deliver_at is {value[:40]!r}; {expected}")
    target.deliver_at_ms = max(0, time_ms)


def _read_key(target: Target, value: str) -> None:
    target.key = value


def _read_tag(target: Target, value: str) -> None:
    target.tag = value


def _read_message_id(target: Target, value: str) -> None:
    target.message_id = value


def _read_idempotency_key(target: Target, value: str) -> None:
    if not value:
        raise InvalidValue("an idempotency key has at least 1 character")
    target.idempotency_key = value


def _read_meta(target: Target, value: str) -> None:
    if value not in _BOOLEANS:
        raise InvalidValue(f"meta is {value[:40]!r}; true or false is expected")
    target.meta = _BOOLEANS[value]


def _read_filter(target: Target, value: str) -> None:
    check_filter(value)
    target.filter = value


def _read_selector(target: Target, value: str) -> None:
    target.selector = value


def _read_session(target: Target, value: str) -> None:
    if not value or "/" in value:
        raise InvalidValue(f"session is {value[:40]!r}; a name without slashes is expected")
    target.session = value


def _read_expiry(target: Target, value: str) -> None:
    target.expiry_seconds = int(_seconds("expiry", value, EXPIRY_SECONDS_MAX))


def _read_ttd(target: Target, value: str) -> None:
    target.ttd_seconds = _seconds("ttd", value, 60)  # longer than any answer may take


def _read_commands(target: Target, value: str) -> None:
    target.wait_queue = value


def _seconds(name: str, value: str, most: float) -> float:
    """Return seconds above 0. Raise InvalidValue."""
    plain = value.isascii() and len(value) <= 24 and value.replace(".", "", 1).isdigit()
    seconds = float(value) if plain else 0.0
    if not 0 < seconds <= most:
        raise InvalidValue(f"{name} is {value[:40]!r}; seconds above 0, at most {most}, are expected")
    return seconds


_READERS: Final = {
    "qos": _read_qos,
    "retain": _read_retain,
    "ttl": _read_ttl,
    "delay": _read_delay,
    "deliver_at": _read_deliver_at,
    "key": _read_key,
    "tag": _read_tag,
    "message_id": _read_message_id,
    "idempotency_key": _read_idempotency_key,
    "meta": _read_meta,
    "filter": _read_filter,
    "selector": _read_selector,
    "session": _read_session,
    "expiry": _read_expiry,
    "ttd": _read_ttd,
    "commands": _read_commands,
}
