"""Patterns of LIKE: `%` is any characters, `_` is one.

A pattern is cut at its `%`: each piece is looked for behind the one before it, so that the time is
the text's length times the pattern's at worst. A regular expression of several `.*` is far worse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from gateway.core.selector import InvalidSelector

ANY: Final = "%"
ONE: Final = "_"

#: How a text is looked at: the name of a shape in `code.SHAPES`, and what it takes.
Shape = tuple[str, "str | Callable[[str], bool]"]


def shape(pattern: str, escape: str, at: int) -> Shape:
    """Return how to match a pattern. Raise InvalidSelector if the escape character escapes nothing."""
    pieces = _pieces(pattern, escape, at)
    if any(char is None for piece in pieces for char in piece):
        return "match", _matcher([_expression(piece) for piece in pieces])
    texts = ["".join(char or "" for char in piece) for piece in pieces]
    if len(texts) == 1:
        return "is", texts[0]
    if len(texts) == 2 and not texts[1]:
        return "startswith", texts[0]
    if len(texts) == 2 and not texts[0]:
        return "endswith", texts[1]
    if len(texts) == 3 and not texts[0] and not texts[2]:
        return "contains", texts[1]
    return "match", _matcher([_expression(piece) for piece in pieces])


def _pieces(pattern: str, escape: str, at: int) -> list[list[str | None]]:
    """Return what is between the `%`; None stands for any one character."""
    pieces: list[list[str | None]] = [[]]
    escaped = False
    for char in pattern:
        if escaped:
            if char not in (ANY, ONE, escape):
                raise InvalidSelector(f"{escape!r} may escape {ANY}, {ONE} or itself, not {char!r}", at)
            pieces[-1].append(char)
            escaped = False
        elif char == escape:
            escaped = True
        elif char == ANY:
            pieces.append([])
        else:
            pieces[-1].append(None if char == ONE else char)
    if escaped:
        raise InvalidSelector(f"the pattern ends with {escape!r}, which escapes nothing", at)
    return pieces


def _expression(piece: list[str | None]) -> re.Pattern[str]:
    return re.compile("".join("." if char is None else re.escape(char) for char in piece), re.DOTALL)


def _matcher(pieces: list[re.Pattern[str]]) -> Callable[[str], bool]:
    first, middle, last = pieces[0], [piece for piece in pieces[1:-1] if piece.pattern], pieces[-1]
    if len(pieces) == 1:
        return lambda text: first.fullmatch(text) is not None
    last_length = _length(last)

    def matches(text: str) -> bool:
        found = first.match(text)
        if found is None:
            return False
        at = found.end()
        for piece in middle:
            found = piece.search(text, at)
            if found is None:
                return False
            at = found.end()
        begin = len(text) - last_length
        return begin >= at and last.match(text, begin) is not None

    return matches


def _length(piece: re.Pattern[str]) -> int:
    """Return how many characters a piece matches: always as many."""
    return len(re.sub(r"\\(.)", ".", piece.pattern, flags=re.DOTALL))
