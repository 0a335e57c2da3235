"""Selectors: which messages a subscription wants, by what they say about themselves.

A topic filter says where, a selector says which of these: `price > 10 AND region = 'eu'`, or the
tags `TagA || TagB`. The languages come from plugins (`gateway.selectors` has the usual two); here
is what all have in common. A selector is kept as its text and language, and made anew from these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .errors import Conflict, InvalidValue, StorageError
from .message import Message

USUAL_LANGUAGE: Final = "sql"
TEXT_CHARS_MAX: Final = 4096  # a screen full of terms; each is evaluated for every message
COMPILED_MAX: Final = 1000  # some 5 KB each: fleets ask the same few questions
SHOWN_CHARS_MAX: Final = 60  # of a selector, in an error that names two

#: Tells whether a message is wanted. Must not raise, wait, or keep the message.
Predicate = Callable[[Message], bool]
#: Makes a text into a predicate, or None if it takes everything. Raises InvalidSelector.
Compiler = Callable[[str], Predicate | None]


class InvalidSelector(InvalidValue):
    """A selector cannot be understood; `column` is where, counted from 1."""

    def __init__(self, detail: str, column: int = 1) -> None:
        super().__init__(f"selector, column {column}: {detail}")
        self.column = column


class Selector:
    """A compiled selector. Two of the same language and text are equal."""

    __slots__ = ("language", "matches", "text")

    def __init__(self, language: str, text: str, matches: Predicate) -> None:
        self.language = language
        self.text = text
        self.matches = matches

    def __call__(self, message: Message) -> bool:
        return self.matches(message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self.saved() == other.saved()

    def __hash__(self) -> int:
        return hash((self.language, self.text))

    def __repr__(self) -> str:
        return f"Selector({self.language!r}, {self.text!r})"

    def saved(self) -> list[str]:
        """Return what is kept of it: see `Selectors.restored`."""
        return [self.language, self.text]


class Selectors:
    """The languages, and what was compiled lately."""

    __slots__ = ("_compiled", "_compilers")

    def __init__(self) -> None:
        self._compilers: dict[str, Compiler] = {}
        self._compiled: OrderedDict[tuple[str, str], Selector | None] = OrderedDict()

    @property
    def languages(self) -> list[str]:
        """The names of the languages."""
        return list(self._compilers)

    def add(self, language: str, compiler: Compiler) -> None:
        """Know a language."""
        self._compilers[language] = compiler

    def find(self, text: str, language: str = USUAL_LANGUAGE) -> Selector | None:
        """Return the selector that a text stands for, None if that is every message.

        Raise InvalidSelector, or InvalidValue for a language that nobody knows.
        """
        key = (language, text)
        if key in self._compiled:
            self._compiled.move_to_end(key)
            return self._compiled[key]
        compiler = self._compilers.get(language)
        if compiler is None:
            known = ", ".join(self._compilers) or "none"
            raise InvalidValue(f"selector language {language[:20]!r} is not known; known: {known}")
        if len(text) > TEXT_CHARS_MAX:
            detail = f"a selector may have {TEXT_CHARS_MAX} characters; this one has {len(text)}"
            raise InvalidSelector(detail, TEXT_CHARS_MAX + 1)
        predicate = compiler(text)
        found = None if predicate is None else Selector(language, text, predicate)
        if len(self._compiled) >= COMPILED_MAX:
            self._compiled.popitem(last=False)
        self._compiled[key] = found
        return found

    def restored(self, saved: list[str], whose: str) -> Selector | None:
        """Return the selector of which this was kept. Raise StorageError if it means nothing any more.

        To let everything pass in its place, or nothing, would be to lose messages or to leak them.
        """
        language, text = saved
        try:
            return self.find(text, language)
        except InvalidValue as error:
            raise StorageError(f"{whose} has a selector that cannot be used: {error.detail}") from error


def shown(selector: Selector | None) -> str:
    """Return a selector, or that there is none, as an error names it."""
    if selector is None:
        return "no selector"
    text = selector.text
    if len(text) > SHOWN_CHARS_MAX:
        text = text[:SHOWN_CHARS_MAX] + "..."
    return f"the {selector.language} selector {text!r}"


def check_same(found: Selector | None, wanted: Selector | None, whose: str, hint: str) -> None:
    """Raise Conflict if two that share messages want different ones: one would pass over the other's."""
    if found != wanted:
        raise Conflict(f"{whose} has {shown(found)}, not {shown(wanted)}; {hint}")
