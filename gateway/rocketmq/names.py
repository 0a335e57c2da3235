"""Topics and groups by RocketMQ's names, and by ours: percent-encoding, a bijection.

RocketMQ allows letters, digits, `_`, `-`, `|` and `%` in a name. Every other byte of a topic's UTF-8, and
`%` itself, is `%XX` here, in upper case: `a/b.c` is `a%2Fb%2Ec`. Another spelling of the same is refused, so
that one topic has one name. A namespace is the first level of a topic. `%DLQ%group` and `%RETRY%group` are
no topics but what a consumer group has besides; neither is an escape: L and R are no digits.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.core.errors import InvalidTopic

DEAD_LETTERS: Final = "%DLQ%"
RETRIES: Final = "%RETRY%"

TOPIC_CHARACTERS_MAX: Final = 127  # RocketMQ's own, of what a client sends
GROUP_CHARACTERS_MAX: Final = 120

_NAME: Final = re.compile(r"[%|A-Za-z0-9_-]+")
_ESCAPE: Final = re.compile(r"%[0-9A-F]{2}")
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-|")
#: RocketMQ's own topics: nobody's here, and refused there.
SYSTEM_TOPICS: Final = frozenset(
    (
        "TBW102",
        "SCHEDULE_TOPIC_XXXX",
        "BenchmarkTest",
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRACE_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC",
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
    )
)
SYSTEM_PREFIXES: Final = ("rmq_sys_", "RMQ_SYS_")


def escape(text: str) -> str:
    """Return RocketMQ's name of a topic, or a level, of ours."""
    if text.isascii() and text.isalnum():
        return text
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


def unescape(name: str) -> str:
    """Return what a name stands for. Raise InvalidTopic, saying how it should be written."""
    if name.isascii() and name.isalnum():
        return name
    if not _NAME.fullmatch(name):
        raise InvalidTopic(
            f"{name[:200]!r}: letters, digits, '_', '-', '|' and escapes such as %2F are allowed"
        )
    if "%" not in name:
        return name
    raw = bytearray()
    index = 0
    while index < len(name):
        if name[index] == "%":
            if not _ESCAPE.match(name, index):
                raise InvalidTopic(
                    f"{name[:200]!r}: '%' begins an escape of two digits in upper case, such as %2F"
                )
            raw.append(int(name[index + 1 : index + 3], 16))
            index += 3
        else:
            raw.append(ord(name[index]))
            index += 1
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidTopic(f"{name[:200]!r}: the escapes are no UTF-8") from error
    if escape(text) != name:
        raise InvalidTopic(f"{name[:200]!r}: that is written {escape(text)!r}")
    return text


def to_topic(namespace: str, name: str) -> str:
    """Return the topic that a client's resource stands for. Raise InvalidTopic."""
    if not name:
        raise InvalidTopic("a topic must not be empty")
    if len(name) > TOPIC_CHARACTERS_MAX:
        raise InvalidTopic(
            f"a topic may have {TOPIC_CHARACTERS_MAX} characters, escapes included; it has {len(name)}"
        )
    if name in SYSTEM_TOPICS or name.startswith(SYSTEM_PREFIXES):
        raise InvalidTopic(f"{name!r} is a topic of RocketMQ's own")
    topic = unescape(name)
    return f"{namespace}/{topic}" if namespace else topic


def from_topic(namespace: str, topic: str) -> str:
    """Return the name by which a client of that namespace knows a topic."""
    if namespace and topic.startswith(namespace + "/"):
        topic = topic[len(namespace) + 1 :]
    return escape(topic)


def to_group(name: str) -> str:
    """Return the group a name stands for. Raise InvalidTopic."""
    if not name:
        raise InvalidTopic("a consumer group must not be empty")
    if len(name) > GROUP_CHARACTERS_MAX:
        raise InvalidTopic(f"a consumer group may have {GROUP_CHARACTERS_MAX} characters; it has {len(name)}")
    group = unescape(name)
    if any(character in group for character in "/+#") or group.startswith("$"):
        raise InvalidTopic(
            f"{group!r}: a consumer group has none of '/', '+', '#', and does not begin with '$'"
        )
    return group


def share_of(group: str, topic: str) -> str:
    """Return the queue that a consumer group has on a topic."""
    return f"$share/{group}/{topic}"
