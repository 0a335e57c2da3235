"""Exchanges, routing keys and queues as topics and back: bijections, one pair each.

| AMQP                                   | topic                      |
|----------------------------------------|----------------------------|
| exchange `amq.topic`, key `a.b/c`      | `a/b.c`                    |
| exchange `x`, key `k.l`                | `x/k/l`                    |
| exchange `` (default), key `q`         | `$queue/q`                 |
| the same in the virtual host `v`       | `$vhost/v/...`, `$queue/$vhost/v/q` |

In keys `.` and `/` change places. What a topic must not have is written `%23`, `%2B` and `%00`
(`#`, `+`, U+0000); a key that has such a sequence itself gets `25` after its `%`, so that both
directions lose nothing. `docs/protocols/amqp.md` has the whole table.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from gateway.core.topic import QUEUE_PREFIX, TRANSACTION_PREFIX, VHOST_PREFIX

DEFAULT_VHOST: Final = "/"
TOPIC_EXCHANGE: Final = "amq.topic"
TOPIC_REPLY: Final = "$topic/"  # begins a reply-to, or a key of the default exchange, that is a topic
TRANSACTION_KEY: Final = TRANSACTION_PREFIX.replace(
    "/", "."
)  # begins a key of amq.topic that is for the gateway
CACHED_MAX: Final = 65_536  # different keys, topics and names; some 15 MB

_SWAPPED: Final = str.maketrans("./", "/.")
_HIDDEN: Final = re.compile(r"%(?:25)*(?:23|2B|00)")  # an escape, or what would be read as one
_HIDDEN_NAME: Final = re.compile(r"%(?:25)*(?:23|2B|00|2F|24)")
_FORBIDDEN: Final = {"#": "%23", "+": "%2B", "\0": "%00"}
_ALLOWED: Final = {value: key for key, value in _FORBIDDEN.items()}
_EMPTY: Final = "%--"  # the empty key of amq.topic: a topic is never empty
_EMPTY_HIDDEN: Final = re.compile(r"%(?:25)*--\Z")


# -- keys ---------------------------------------------------------------------------------------


def _hide(text: str) -> str:
    """Write what a topic must not have as escapes."""
    if "%" in text:
        text = _HIDDEN.sub(_more, text)
    if "#" in text or "+" in text or "\0" in text:
        for char, escape in _FORBIDDEN.items():
            text = text.replace(char, escape)
    return text


def _show(text: str) -> str:
    """Undo `_hide`."""
    return _HIDDEN.sub(_less, text) if "%" in text else text


def _more(match: re.Match[str]) -> str:
    return "%25" + match[0][1:]


def _less(match: re.Match[str]) -> str:
    found = match[0]
    return "%" + found[3:] if found.startswith("%25") else _ALLOWED[found]


_DOLLAR: Final = re.compile(r"%(?:25)*24")  # at the beginning: an escape, or what would be read as one


def _hide_dollar(text: str) -> str:
    """Write a `$` at the beginning as an escape: names of ours begin with one."""
    if text.startswith("$"):
        return "%24" + text[1:]
    return "%25" + text[1:] if _DOLLAR.match(text) else text


def _show_dollar(text: str) -> str:
    """Undo `_hide_dollar`."""
    if not _DOLLAR.match(text):
        return text
    return "$" + text[3:] if text.startswith("%24") else "%" + text[3:]


def key_to_levels(key: str) -> str:
    """Return a routing key as levels of a topic. The empty key is the empty level."""
    return _hide(key.translate(_SWAPPED))


def levels_to_key(levels: str) -> str:
    """Undo `key_to_levels`."""
    return _show(levels).translate(_SWAPPED)


def pattern_to_filter(pattern: str) -> tuple[str, bool]:
    """Return (filter, whether it matches just what a binding key of a topic exchange does).

    `*` is `+`. A `#` that is not the last word has no filter: what comes after it is left out, so
    that the filter matches more.
    """
    words = pattern.split(".")
    levels: list[str] = []
    for index, word in enumerate(words):
        if word == "#":
            return "/".join([*levels, "#"]), index == len(words) - 1
        levels.append("+" if word == "*" else key_to_levels(word))
    return "/".join(levels), True


# -- names of exchanges, queues and virtual hosts ---------------------------------------------------


def name_to_level(name: str) -> str:
    """Return the name of an exchange or virtual host as one level of a topic."""
    if "%" in name:
        name = _HIDDEN_NAME.sub(_more, name)
    for char, escape in _FORBIDDEN.items():
        name = name.replace(char, escape)
    name = name.replace("/", "%2F")
    return "%24" + name[1:] if name.startswith("$") else name


def level_to_name(level: str) -> str:
    """Undo `name_to_level`."""
    return _HIDDEN_NAME.sub(_less_name, level) if "%" in level else level


def _less_name(match: re.Match[str]) -> str:
    found = match[0]
    if found.startswith("%25"):
        return "%" + found[3:]
    return {"%2F": "/", "%24": "$"}.get(found) or _ALLOWED[found]


def vhost_prefix(vhost: str) -> str:
    """Return what topics and queues of a virtual host begin with."""
    return "" if vhost == DEFAULT_VHOST else f"{VHOST_PREFIX}{name_to_level(vhost)}/"


def vhost_of(topic: str) -> str:
    """Return the virtual host that a topic, or queue, is in."""
    if not topic.startswith(VHOST_PREFIX):
        return DEFAULT_VHOST
    return level_to_name(topic[len(VHOST_PREFIX) :].partition("/")[0])


@lru_cache(CACHED_MAX)
def queue_to_core(vhost: str, queue: str) -> str:
    """Return the gateway's name of a queue."""
    prefix = vhost_prefix(vhost)
    return prefix + _hide(queue) if prefix else _hide_dollar(_hide(queue))


@lru_cache(CACHED_MAX)
def core_to_queue(name: str) -> tuple[str, str]:
    """Return (virtual host, queue) of a name of the gateway's."""
    if name.startswith(VHOST_PREFIX):
        level, _, name = name[len(VHOST_PREFIX) :].partition("/")
        return level_to_name(level), _show(name)
    return DEFAULT_VHOST, _show(_show_dollar(name))


# -- addresses ----------------------------------------------------------------------------------------


def to_topic(vhost: str, exchange: str, key: str) -> str:
    """Return the topic of what is published to an exchange with a routing key."""
    if not exchange:
        if key.startswith(TOPIC_REPLY) and len(key) > len(TOPIC_REPLY):
            return key[len(TOPIC_REPLY) :]
        return QUEUE_PREFIX + queue_to_core(vhost, key)
    prefix = vhost_prefix(vhost)
    if exchange == TOPIC_EXCHANGE:
        if prefix:
            return prefix + key_to_levels(key)
        if not key:
            return _EMPTY
        if key.endswith("--") and _EMPTY_HIDDEN.fullmatch(key):
            key = "%25" + key[1:]
        if key.startswith(TRANSACTION_KEY):
            return key_to_levels(key)
        return _hide_dollar(key_to_levels(key))
    return f"{prefix}{name_to_level(exchange)}/{key_to_levels(key)}"


def exchange_filter(vhost: str, exchange: str) -> str:
    """Return the filter of all topics that an exchange, there or not, has."""
    if not exchange:
        return QUEUE_PREFIX + vhost_prefix(vhost) + "#"
    level = "" if exchange == TOPIC_EXCHANGE else name_to_level(exchange) + "/"
    return f"{vhost_prefix(vhost)}{level}#"


def from_topic(vhost: str, topic: str) -> str | None:
    """Return the key of `amq.topic` for a topic; None if it is none of this virtual host's."""
    prefix = vhost_prefix(vhost)
    if prefix:
        return levels_to_key(topic[len(prefix) :]) if topic.startswith(prefix) else None
    if topic.startswith("$"):
        return None
    if topic.endswith("--") and _EMPTY_HIDDEN.fullmatch(topic):
        topic = "" if topic == _EMPTY else "%" + topic[3:]
        return topic
    return levels_to_key(_show_dollar(topic))
