"""RabbitMQ's regular expressions as sets of names: everything, exact names, beginnings of names.

RabbitMQ searches (`re:run`): without `^` an expression matches anywhere in a name, without `$` it
may go on. Strategy: cut the expression into tokens, write out all alternatives, and look at what is
left: an optional `^`, literals, an optional `.*`, an optional `$`. An alternative that is none of
these is skipped. So a set is never larger than what the expression matches.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

ALTERNATIVES_MAX: Final = 1000  # `(a|b)(a|b)...` doubles with each group
PATTERN_CHARS_MAX: Final = 4096  # people write these by hand
GROUPS_DEEP_MAX: Final = 20

_TOKEN: Final = re.compile(
    r"""
    \\([^0-9A-Za-z])                                       # a character that is meant
    | (\(\?: | \((?![?*]) | \) | \| | \^ | \$ | \.\* | \. | [*+?])  # one that is not
    | ([^\\\[({])                                           # any other
    | (\{(?![0-9,]))                                        # a brace that counts nothing
    """,
    re.S | re.X,
)

_ODD: Final = ("*", "+", "?")  # quantifiers: what they make has no simple shape


class Shape(NamedTuple):
    """What names an expression matches. `skipped` are its alternatives that it would match besides.

    `narrowed`: a dot without a backslash is taken for itself, though it matches any character.
    """

    everything: bool = False
    exact: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    narrowed: bool = False

    def covers(self, name: str) -> bool:
        """Tell whether a name is in the set."""
        return self.everything or name in self.exact or any(name.startswith(p) for p in self.prefixes)

    def contains(self, other: Shape) -> bool:
        """Tell whether every name of another set is in this one, as far as can be said."""
        if self.everything:
            return True
        return not other.everything and (
            all(self.covers(name) for name in other.exact)
            and all(any(p.startswith(mine) for mine in self.prefixes) for p in other.prefixes)
        )


class _Unclear(Exception):
    """The expression, or an alternative of it, has no simple shape."""


def shape_of(pattern: str) -> Shape:
    """Return the names that an expression of RabbitMQ's permissions matches."""
    if not pattern:
        return Shape()  # RabbitMQ takes "" for "^$"
    try:
        branches = _branches(_tokens(pattern))
        _check(pattern)
    except _Unclear:
        return Shape(skipped=(pattern,))
    everything, narrowed = False, False
    exact: list[str] = []
    prefixes: list[str] = []
    skipped: list[str] = []
    for branch in branches:
        try:
            for kind, text in [_look(tokens) for tokens in _expand(branch)]:
                everything = everything or (kind == "prefix" and not text)
                if text:
                    (exact if kind == "exact" else prefixes).append(text)
            narrowed = narrowed or ("op", ".") in branch
        except _Unclear:
            skipped.append(_written(branch))
    return Shape(everything, _once(exact), _once(prefixes), _once(skipped), narrowed)


def _once(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


#: ("op", what) or ("text", one character)
_Token = tuple[str, str]


def _tokens(pattern: str) -> list[_Token]:
    if len(pattern) > PATTERN_CHARS_MAX:
        raise _Unclear
    found: list[_Token] = []
    at = 0
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        if match is None:  # a class, a back reference, an option: what follows may mean anything
            raise _Unclear
        escaped, operator, char, brace = match.groups()
        found.append(("op", operator) if operator else ("text", escaped or char or brace))
        at = match.end()
    return found


def _branches(tokens: list[_Token]) -> list[list[_Token]]:
    """Return the alternatives outside of all groups."""
    branches: list[list[_Token]] = [[]]
    depth = 0
    for token in tokens:
        if token == ("op", "|") and depth == 0:
            branches.append([])
            continue
        if token[0] == "op":
            depth += (token[1] in ("(", "(?:")) - (token[1] == ")")
        if not 0 <= depth <= GROUPS_DEEP_MAX:
            raise _Unclear
        branches[-1].append(token)
    if depth:
        raise _Unclear
    return branches


def _check(pattern: str) -> None:
    """Raise _Unclear for what is no expression: RabbitMQ then refuses everything, not one alternative."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise _Unclear from error


def _expand(tokens: list[_Token]) -> list[list[_Token]]:
    """Return all sequences without groups that a sequence with groups stands for."""
    found: list[list[_Token]] = [[]]
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token[0] == "op" and token[1] in _ODD:
            raise _Unclear
        if token[0] == "op" and token[1] in ("(", "(?:"):
            end = _closing(tokens, at)
            choices = [flat for branch in _branches(tokens[at + 1 : end]) for flat in _expand(branch)]
            if len(found) * len(choices) > ALTERNATIVES_MAX:
                raise _Unclear
            found = [[*head, *tail] for head in found for tail in choices]
            at = end
        else:
            for sequence in found:
                sequence.append(token)
        at += 1
    return found


def _closing(tokens: list[_Token], start: int) -> int:
    """Return where the group that begins at `start` ends. It does: `_branches` has counted."""
    depth = 0
    for at in range(start, len(tokens)):
        if tokens[at][0] == "op":
            depth += (tokens[at][1] in ("(", "(?:")) - (tokens[at][1] == ")")
        if depth == 0:
            return at
    raise _Unclear


def _look(tokens: list[_Token]) -> tuple[str, str]:
    """Return ("exact" or "prefix", text). The empty prefix is everything, the empty exact name nothing."""
    rest = list(tokens)
    anchored = False
    while rest and rest[0] == ("op", "^"):
        anchored = True
        rest.pop(0)
    text = ""
    while rest and (rest[0][0] == "text" or rest[0] == ("op", ".")):
        text += rest.pop(0)[1]
    tail = "".join(what for _, what in rest)
    simple = all(kind == "op" for kind, _ in rest) and re.fullmatch(r"(\.\*)*\$*", tail) is not None
    if not simple or (text and not anchored):
        raise _Unclear
    # Unanchored and without a letter, even "$" is found in any name.
    exact = anchored and tail.startswith("$")
    return ("exact" if exact else "prefix"), text


def _written(tokens: list[_Token]) -> str:
    """Return tokens as one would write them."""
    return "".join(re.escape(what) if kind == "text" else what for kind, what in tokens)
