"""Patterns of resources: topic filters with placeholders and prefixes.

    a/+/b/#            as in MQTT: one level, and everything below (and `a/+/b` itself)
    devices/${clientid}/#   a placeholder is what the client is, taken literally
    orders*            a `*` at the end of a level is any rest of it, at the very end whatever follows

What begins with `$` is never reached by a wildcard in the first level [MQTT-4.7.2-1]; neither is a
queue whose name begins with `$`, so that `queue:*` is all queues but the gateway's own and those of
other virtual hosts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ...api import InvalidValue
from ...core.topic import LEVELS_MAX, TOPIC_BYTES_MAX

PLACEHOLDERS: Final = ("clientid", "username", "cert.cn", "cert.subject")
_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")

OWN_SPACES: Final = ("$queue", "$group")  # in which names of queues stand

LITERAL, ANY, PREFIX, TEMPLATE = range(4)


class Level(NamedTuple):
    """One level of a pattern; `text` is the literal, the prefix or the template."""

    kind: int
    text: str = ""


class Pattern(NamedTuple):
    """A pattern, taken apart. `rest`: whether everything below matches, too."""

    text: str
    levels: tuple[Level, ...]
    rest: bool

    @property
    def templated(self) -> bool:
        """Whether it has placeholders."""
        return any(level.kind == TEMPLATE for level in self.levels)


def parse(text: str) -> Pattern:
    """Take a pattern apart. Raise InvalidValue."""
    if not text or "\0" in text or len(text.encode("utf-8", "surrogatepass")) > TOPIC_BYTES_MAX:
        raise InvalidValue(f"pattern {text[:80]!r}: 1 to {TOPIC_BYTES_MAX} bytes without U+0000 are expected")
    parts = text.split("/")
    if len(parts) > LEVELS_MAX:
        raise InvalidValue(f"pattern {text[:80]!r}: at most {LEVELS_MAX} levels are possible")
    rest = False
    if parts[-1] == "#":
        parts.pop()
        rest = True
    levels = tuple(_level(text, part) for part in parts)
    if not rest and levels[-1].kind == PREFIX:
        rest = True  # `orders*` is orders, orders-eu and orders/1
    return Pattern(text, levels, rest)


def _level(text: str, part: str) -> Level:
    if part == "+":
        return Level(ANY)
    if "${" in part:
        for name in _PLACEHOLDER.findall(part):
            if name not in PLACEHOLDERS:
                known = ", ".join(f"${{{known}}}" for known in PLACEHOLDERS)
                raise InvalidValue(f"pattern {text!r}: unknown placeholder ${{{name}}}; known: {known}")
        if "${" in _PLACEHOLDER.sub("", part) or part.endswith("*"):
            raise InvalidValue(f"pattern {text!r}: a placeholder is ${{name}}, and nothing with * at its end")
        return Level(TEMPLATE, part)
    if "#" in part or "+" in part:
        raise InvalidValue(f"pattern {text!r}: '+' must be a whole level, '#' the whole last one")
    if part.endswith("*"):
        return Level(PREFIX, part[:-1])
    return Level(LITERAL, part)


def fill(template: str, values: Mapping[str, str]) -> str | None:
    """Return a template with its placeholders filled in; None if a value is not known."""
    if any(not values.get(name) for name in _PLACEHOLDER.findall(template)):
        return None
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)


def resolve(pattern: Pattern, values: Mapping[str, str], spread: bool) -> Pattern | None:
    """Fill the placeholders in; None if that is impossible.

    A value with a slash is no level: with `spread` (a denial) it is several, without none, because
    a client that may choose its name must not reach into another's levels.
    """
    if not pattern.templated:
        return pattern
    levels: list[Level] = []
    for level in pattern.levels:
        if level.kind != TEMPLATE:
            levels.append(level)
            continue
        filled = fill(level.text, values)
        if filled is None or ("/" in filled and not spread):
            return None
        levels += [Level(LITERAL, part) for part in filled.split("/")]
    return Pattern(pattern.text, tuple(levels), pattern.rest)


def _hidden(pattern: Pattern, names: Sequence[str]) -> bool:
    """Tell whether a name that begins with `$` is out of a wildcard's reach: a topic's, or a queue's."""
    if not names[0].startswith("$"):
        return False
    if _wild(pattern, 0):
        return True
    return names[0] in OWN_SPACES and len(names) > 1 and names[1].startswith("$") and _wild(pattern, 1)


def _wild(pattern: Pattern, index: int) -> bool:
    if index >= len(pattern.levels):
        return True
    level = pattern.levels[index]
    return level.kind == ANY or (level.kind == PREFIX and not level.text)


def _fits(level: Level, name: str) -> bool:
    if level.kind == LITERAL:
        return level.text == name
    return level.kind == ANY or (level.kind == PREFIX and name.startswith(level.text))


def matches(pattern: Pattern, names: Sequence[str]) -> bool:
    """Tell whether a resolved pattern matches a name, given as its levels."""
    if _hidden(pattern, names):
        return False
    count = len(pattern.levels)
    if len(names) < count or (len(names) > count and not pattern.rest):
        return False
    return all(_fits(level, names[index]) for index, level in enumerate(pattern.levels))


def covers(pattern: Pattern, wanted: Sequence[str]) -> bool:
    """Tell whether a resolved pattern matches every name that a filter, given as its levels, matches."""
    if _hidden(pattern, wanted):
        return False
    count = len(pattern.levels)
    for index, level in enumerate(pattern.levels):
        if index >= len(wanted) or wanted[index] == "#":
            return False
        if wanted[index] == "+":
            if level.kind != ANY and not (level.kind == PREFIX and not level.text):
                return False
        elif not _fits(level, wanted[index]):
            return False
    return pattern.rest or len(wanted) == count


def overlaps(pattern: Pattern, wanted: Sequence[str]) -> bool:
    """Tell whether a resolved pattern and a filter, given as its levels, can match the same name."""
    if _hidden(pattern, wanted) or _hidden_from(wanted[0], pattern):
        return False
    for index, level in enumerate(pattern.levels):
        if index >= len(wanted):
            return False
        if wanted[index] == "#":
            return True
        if wanted[index] != "+" and not _fits(level, wanted[index]):
            return False
    count = len(pattern.levels)
    if len(wanted) == count or pattern.rest:
        return True
    return len(wanted) == count + 1 and wanted[count] == "#"  # `a/#` matches `a`, too


def _hidden_from(first: str, pattern: Pattern) -> bool:
    """Tell whether a filter's wildcard does not reach what the pattern is for."""
    if first not in ("+", "#") or not pattern.levels:
        return False
    level = pattern.levels[0]
    return level.kind in (LITERAL, PREFIX) and level.text.startswith("$")
