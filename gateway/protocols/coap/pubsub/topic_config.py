"""Topics of CoAP pub/sub and their properties as CBOR (draft-ietf-core-coap-pubsub-21, 2.2 and 4): pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from gateway.core.access import check_open
from gateway.core.errors import InvalidValue

from ..content import cbor
from ..content.formats import NUMBER_MAX, PUBSUB
from ..discovery.links import Link, path_of

DATA_TYPE: Final = "core.ps.data"
CONF_TYPE: Final = "core.ps.conf"
COLLECTION: Final = "pst"  # the path of the topics, each below it
DATA_PATH: Final = "ps"  # what is below it are topics
CONF_ATTRIBUTES: Final = (("rt", CONF_TYPE), ("ct", str(PUBSUB)))
OBSERVER_CHECK_SECONDS: Final = 86_400  # where nothing is said (RFC 7641, 4.5)
NAME_CHARS_MAX: Final = 255
TYPE_CHARS_MAX: Final = 255
INITIAL_BYTES_MAX: Final = 1024  # of the representation to begin with: it is kept with the configuration
COUNT_MAX: Final = 0xFFFFFFFF
YEAR_9999_MS: Final = 253_402_300_799_000

NAME, DATA, RESOURCE_TYPE, CONTENT_FORMAT, TOPIC_TYPE = 0, 1, 2, 3, 4
EXPIRATION, MAX_SUBSCRIBERS, OBSERVER_CHECK, INITIALIZE = 5, 6, 7, 8

#: Key in CBOR -> what the draft calls it (table 1).
NAMES: Final = {
    NAME: "topic-name",
    DATA: "topic-data",
    RESOURCE_TYPE: "resource-type",
    CONTENT_FORMAT: "topic-content-format",
    TOPIC_TYPE: "topic-type",
    EXPIRATION: "expiration-date",
    MAX_SUBSCRIBERS: "max-subscribers",
    OBSERVER_CHECK: "observer-check",
    INITIALIZE: "initialize",
}
IMMUTABLE: Final = (NAME, DATA, RESOURCE_TYPE)  # once the topic is there

Properties = dict[int, Any]  # key -> value: checked, times as Unix ms


class TopicConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic's configuration; numbers are -1, and times 0, where nothing is said."""

    id: str
    name: str
    topic: str
    content_format: int = -1
    topic_type: str | None = None
    expires_at_ms: int = 0  # Unix time
    max_subscribers: int = -1
    observer_check: int = -1
    initialize: bytes | None = None

    def properties(self) -> Properties:
        """Return what there is of it."""
        found: Properties = {
            NAME: self.name,
            DATA: path_of([DATA_PATH, *self.topic.split("/")]),
            RESOURCE_TYPE: DATA_TYPE,
        }
        for key, value, absent in (
            (CONTENT_FORMAT, self.content_format, -1),
            (TOPIC_TYPE, self.topic_type, None),
            (EXPIRATION, self.expires_at_ms, 0),
            (MAX_SUBSCRIBERS, self.max_subscribers, -1),
            (OBSERVER_CHECK, self.observer_check, -1),
            (INITIALIZE, self.initialize, None),
        ):
            if value != absent:
                found[key] = value
        return found

    def matches(self, wanted: Properties) -> bool:
        """Tell whether all these properties are there with these values (2.4.2)."""
        mine = self.properties()
        return all(key in mine and mine[key] == value for key, value in wanted.items())

    def updated(self, said: Properties, whole: bool) -> TopicConfig:
        """Return it with other properties: `whole` replaces all that may change (POST), else some (iPATCH).

        Raise InvalidValue for those that cannot change.
        """
        mine = self.properties()
        for key in IMMUTABLE:
            if key in said and said[key] != mine[key]:
                raise InvalidValue(f"{NAMES[key]} cannot be changed")
        rest = {} if whole else mine
        return make(self.id, {**rest, **said, NAME: self.name, DATA: mine[DATA]})


def make(id: str, said: Properties) -> TopicConfig:
    """Return the configuration that properties describe. Raise InvalidValue."""
    if NAME not in said:
        raise InvalidValue(f"{NAMES[NAME]} is missing")
    if INITIALIZE in said and CONTENT_FORMAT not in said:
        raise InvalidValue(f"{NAMES[INITIALIZE]} needs {NAMES[CONTENT_FORMAT]}")
    name: str = said[NAME]
    topic = topic_of(said[DATA]) if DATA in said else name
    check_open(topic)
    if topic.startswith("$"):
        raise InvalidValue(f"{topic!r}: what begins with $ is the gateway's own")
    return TopicConfig(
        id,
        name,
        topic,
        said.get(CONTENT_FORMAT, -1),
        said.get(TOPIC_TYPE),
        said.get(EXPIRATION, 0),
        said.get(MAX_SUBSCRIBERS, -1),
        said.get(OBSERVER_CHECK, -1),
        said.get(INITIALIZE),
    )


def conf_link(config: TopicConfig) -> Link:
    """Return the link to a topic's configuration."""
    return Link(path_of([COLLECTION, config.id]), CONF_ATTRIBUTES)


def topic_of(reference: str) -> str:
    """Return the topic that a `topic-data` reference names. Raise InvalidValue: it is not here."""
    begin = f"/{DATA_PATH}/"
    if not reference.startswith(begin) or "?" in reference or "#" in reference:
        raise InvalidValue(f"topic-data {reference[:80]!r}: a path below {begin} is expected")
    try:
        levels = [unquote(level, errors="strict") for level in reference[len(begin) :].split("/")]
    except UnicodeDecodeError:
        raise InvalidValue("topic-data: percent-encoded UTF-8 is expected") from None
    if any("/" in level for level in levels):
        raise InvalidValue("topic-data: a segment with a slash in it is no level of a topic")
    return "/".join(levels)


# -- CBOR -------------------------------------------------------------------------------------


def read(payload: bytes) -> Properties:
    """Return the properties in a payload. Raise InvalidValue naming the one that does not fit."""
    raw = cbor.decode(payload)
    if not isinstance(raw, dict):
        raise InvalidValue("a map of topic properties is expected")
    found: Properties = {}
    for key, value in raw.items():
        check = _CHECKS.get(key) if isinstance(key, int) else None
        if check is None:
            raise InvalidValue(f"{str(key)[:40]!r}: no such topic property; their keys are 0 to {INITIALIZE}")
        found[key] = check(NAMES[key], value)
    return found


def read_keys(payload: bytes) -> frozenset[int]:
    """Return the keys of the properties that a FETCH of a topic asks for (2.5.2). Raise InvalidValue.

    Keys that nobody knows are of properties that the topic has not.
    """
    found = cbor.decode(payload)
    if not isinstance(found, list) or not all(type(key) is int for key in found):
        raise InvalidValue("an array of the keys of topic properties is expected, as in [1, 3]")
    return frozenset(found)


def write(properties: Properties) -> bytes:
    """Return properties as a payload."""
    shown = dict(properties)
    if EXPIRATION in shown:
        at_ms = shown[EXPIRATION]
        shown[EXPIRATION] = cbor.at_time(at_ms // 1000 if at_ms % 1000 == 0 else at_ms / 1000)
    return cbor.encode(shown)


def _text(chars_max: int) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= chars_max:
            raise InvalidValue(f"{name}: a text of 1 to {chars_max} characters is expected")
        return value

    return check


def _number(least: int, most: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidValue(f"{name}: a whole number from {least} to {most} is expected")
        return value

    return check


def _resource_type(name: str, value: Any) -> str:
    if value != DATA_TYPE:
        raise InvalidValue(f"{name}: {DATA_TYPE!r} is expected")
    return DATA_TYPE


def _time(name: str, value: Any) -> int:
    if not isinstance(value, datetime):
        raise InvalidValue(f"{name}: a time (tag 1) is expected")
    at_ms = round(value.timestamp() * 1000)
    if not 0 < at_ms <= YEAR_9999_MS:
        raise InvalidValue(f"{name}: a time after 1970 is expected")
    return at_ms


def _initial(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= INITIAL_BYTES_MAX:
        raise InvalidValue(f"{name}: 1 to {INITIAL_BYTES_MAX} bytes are expected")
    return value


_CHECKS: Final[dict[int, Callable[[str, Any], Any]]] = {
    NAME: _text(NAME_CHARS_MAX),
    DATA: _text(4096),
    RESOURCE_TYPE: _resource_type,
    CONTENT_FORMAT: _number(0, NUMBER_MAX),
    TOPIC_TYPE: _text(TYPE_CHARS_MAX),
    EXPIRATION: _time,
    MAX_SUBSCRIBERS: _number(0, COUNT_MAX),
    OBSERVER_CHECK: _number(1, COUNT_MAX),
    INITIALIZE: _initial,
}
