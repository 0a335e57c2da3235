"""Tags, as RocketMQ subscribes to them: `TagA || TagB`, or `*` for everything."""

from __future__ import annotations

from typing import Final

from gateway.core.message import Message
from gateway.core.selector import InvalidSelector, Predicate

EVERYTHING: Final = "*"
SEPARATOR: Final = "||"


def compile_tags(text: str) -> Predicate | None:
    """Return what takes messages that have one of the tags; None if that is all. Raise InvalidSelector."""
    if text.strip() == EVERYTHING:
        return None
    tags = frozenset(_split(text))
    if len(tags) == 1:
        (only,) = tags

        def has_it(message: Message) -> bool:
            return message.properties.tag == only

        return has_it

    def has_one(message: Message) -> bool:
        return message.properties.tag in tags

    return has_one


def _split(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    for part in text.split(SEPARATOR):
        tag = part.strip()
        column = at + len(part) - len(part.lstrip()) + 1
        if not tag:
            raise InvalidSelector("a tag is missing; TagA || TagB is how several are written", column)
        if "|" in tag:
            raise InvalidSelector("tags are separated by ||, not by one |", column + tag.index("|"))
        if tag == EVERYTHING:
            raise InvalidSelector("* is every tag, and stands alone", column)
        found.append(tag)
        at += len(part) + len(SEPARATOR)
    return found
