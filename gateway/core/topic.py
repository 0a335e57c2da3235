"""Topics and topic filters: `/`-separated levels, canonical for every protocol.

A topic names one place. A filter adds `+` (exactly one level) and `#` (this level and all
below, only at the end). Names that begin with `$` are the gateway's own and are not matched
by a wildcard in the first level [MQTT-4.7.2-1].
"""

from __future__ import annotations

from .errors import InvalidTopic

TOPIC_BYTES_MAX = 65_535  # MQTT's string length prefix [MQTT-1.5.4]; the widest door sets the rule
LEVELS_MAX = 320  # bounds the trie's depth; the longest key of AMQP has 256 words

QUEUE_PREFIX = "$queue/"
SHARE_PREFIX = "$share/"
DELAYED_PREFIX = "$delayed/"
DEAD_PREFIX = "$dead/"
SYS_PREFIX = "$sys/"
TRANSACTION_PREFIX = "$transaction/"
SESSION_PREFIX = "$session/"
DOORS_SESSIONS = ("coap/",)  # behind it: those of doors other than MQTT, whose are its client identifiers
REPLY_PREFIX = "$reply/"  # addresses for answers: see `replies`
WEBHOOK_PREFIX = "$webhook/"  # begins the names of queues that webhooks have
VHOST_PREFIX = "$vhost/"  # begins topics, and queues, of a virtual host other than "/"

#: Clients may not publish here: the gateway itself speaks under these names.
RESERVED_PREFIXES = (
    SYS_PREFIX,
    DEAD_PREFIX,
    SHARE_PREFIX,
    DELAYED_PREFIX,
    SESSION_PREFIX,
    REPLY_PREFIX,
    TRANSACTION_PREFIX,
)


def check_topic(topic: str) -> None:
    """Raise InvalidTopic unless `topic` can be published to."""
    _check_common(topic, "topic")
    if "+" in topic or "#" in topic:
        raise InvalidTopic(f"topic {topic!r} has a wildcard; publish to one topic at a time")


def check_filter(topic_filter: str) -> None:
    """Raise InvalidTopic unless `topic_filter` can be subscribed to."""
    _check_common(topic_filter, "filter")
    if "+" not in topic_filter and "#" not in topic_filter:
        return
    levels = topic_filter.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            raise InvalidTopic(f"filter {topic_filter!r}: '#' must be the whole last level")
        if "+" in level and level != "+":
            raise InvalidTopic(f"filter {topic_filter!r}: '+' must be a whole level")


def _check_common(name: str, kind: str) -> None:
    if not name:
        raise InvalidTopic(f"a {kind} must not be empty")
    if len(name) > TOPIC_BYTES_MAX or len(name.encode("utf-8", "surrogatepass")) > TOPIC_BYTES_MAX:
        raise InvalidTopic(f"a {kind} may have {TOPIC_BYTES_MAX} bytes")
    if "\0" in name:
        raise InvalidTopic(f"a {kind} must not contain U+0000")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        raise InvalidTopic(f"a {kind} must be valid Unicode")
    if name.count("/") >= LEVELS_MAX:
        raise InvalidTopic(f"a {kind} may have {LEVELS_MAX} levels")


def is_wildcard(topic_filter: str) -> bool:
    """Tell whether a filter can match more than one topic."""
    return "+" in topic_filter or "#" in topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether one filter matches one topic. The router has a faster way for many."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False  # [MQTT-4.7.2-1]
    pattern = topic_filter.split("/")
    levels = topic.split("/")
    for index, level in enumerate(pattern):
        if level == "#":
            return True
        if index >= len(levels) or (level != "+" and level != levels[index]):
            return False
    return len(pattern) == len(levels)


def split_share(topic_filter: str) -> tuple[str, str] | None:
    """Return (group, filter) of `$share/group/filter`, or None for an ordinary filter.

    Raise InvalidTopic for a malformed share name [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    """
    if not topic_filter.startswith(SHARE_PREFIX):
        return None
    group, separator, rest = topic_filter[len(SHARE_PREFIX) :].partition("/")
    if not group or not separator or not rest or "+" in group or "#" in group:
        raise InvalidTopic(f"{topic_filter!r}: a shared subscription is $share/<group>/<filter>")
    return group, rest
