"""What a path and a query below `/ps` say, read once for each that comes again.

`/ps/a/b` is the topic `a/b`: one level a segment, empty levels too.
"""

from __future__ import annotations

from typing import Final

from gateway.core import lease
from gateway.core.errors import InvalidTopic, InvalidValue
from gateway.core.message import NO_PROPERTIES, Properties
from gateway.core.replay import parse_time
from gateway.core.schedules import parse_delay
from gateway.core.topic import check_filter, check_topic

from ..clients import LOGIN_PARAMETERS
from ..codec import Options
from ..content.formats import content_of
from ..content.translate import TTL_SECONDS_MAX

EXPIRY_SECONDS_MAX: Final = 0xFFFFFFFF
TTD_SECONDS_MAX: Final = 60  # clients give up after EXCHANGE_LIFETIME, NATs forget after some minutes
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
        "wait_ack",
        "wait_lease_ms",
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
        self.ttd_seconds = -1.0  # how long the device listens for commands (see pending)
        self.wait_queue: str | None = None  # where its commands are
        self.wait_ack = True  # a command is done with when it is sent
        self.wait_lease_ms = int(lease.SECONDS_DEFAULT * 1000)  # else it is to be settled in that time


def target_of(options: Options) -> Target:
    """Return what options say. Raise InvalidTopic or InvalidValue."""
    found = options.meaning
    if isinstance(found, Target):
        return found
    target = options.meaning = target_at(options, _topic(options.path))
    return target


def target_at(options: Options, topic: str) -> Target:
    """Return what a query says of a publish to a topic. Raise InvalidValue."""
    target = Target()
    target.topic = topic
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
    if target.wait_queue is not None and target.ttd_seconds < 0:
        raise InvalidValue("commands is there, but no ttd; ttd=0 takes what is there and does not wait")
    target.properties = _properties(target, options.content_format)
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
    seconds = seconds_of("ttl", value, TTL_SECONDS_MAX)
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
    target.expiry_seconds = int(seconds_of("expiry", value, EXPIRY_SECONDS_MAX))


def _read_ttd(target: Target, value: str) -> None:
    target.ttd_seconds = seconds_of("ttd", value, TTD_SECONDS_MAX, True)


def _read_commands(target: Target, value: str) -> None:
    if not value:
        raise InvalidValue("commands names no queue")
    target.wait_queue = value


def _read_ack(target: Target, value: str) -> None:
    target.wait_ack = read_ack(value)


def _read_lease(target: Target, value: str) -> None:
    target.wait_lease_ms = read_lease_ms(value)


def read_ack(value: str) -> bool:
    """Return whether what is sent is done with. Raise InvalidValue."""
    if value not in ("auto", "manual"):
        raise InvalidValue(f"ack is {value[:40]!r}; auto or manual is expected")
    return value == "auto"


def read_lease_ms(value: str) -> int:
    """Return milliseconds of a lease. Raise InvalidValue."""
    return max(1, int(seconds_of("lease", value, lease.SECONDS_MAX) * 1000))


def seconds_of(name: str, value: str, most: float, zero: bool = False) -> float:
    """Return seconds, above 0 unless `zero`. Raise InvalidValue."""
    plain = value.isascii() and len(value) <= 24 and value.replace(".", "", 1).isdigit()
    seconds = float(value) if plain else -1.0
    if not 0 <= seconds <= most or (seconds == 0 and not zero):
        least = "0 or more seconds" if zero else "seconds above 0"
        raise InvalidValue(f"{name} is {value[:40]!r}; {least}, at most {most:.0f}, are expected")
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
    "ack": _read_ack,
    "lease": _read_lease,
}
