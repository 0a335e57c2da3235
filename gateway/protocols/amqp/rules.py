"""How exchanges choose: one class a type, the table at the end.

A rule holds an exchange's bindings and finds those that a message takes. `by_message`: the
routing key alone does not tell.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING, Any, Final

from gateway.core.message import Message

from .arguments import FILTER, FILTER_LANGUAGE
from .errors import AmqpFault, Reply
from .tables import Table

if TYPE_CHECKING:
    from .exchanges import Bound

WEIGHT_MAX: Final = 1_000_000
_HASH_PROPERTIES: Final = {
    "message_id": "message_id",
    "correlation_id": "correlation",
    "timestamp": "timestamp_ms",
}


class Rule:
    """Base class. `arguments` are the exchange's."""

    by_message = False

    def __init__(self, arguments: Table) -> None:
        self.arguments = arguments

    def add(self, bound: Bound) -> None:
        """Take a binding. Raise AmqpFault for one that makes no sense here."""
        raise NotImplementedError

    def remove(self, bound: Bound) -> None:
        """Forget one that was added."""
        raise NotImplementedError

    def find(self, key: str, message: Message | None) -> list[Bound]:
        """Return the bindings that are taken; `message` is there if `by_message`."""
        raise NotImplementedError


class Direct(Rule):
    """The routing key is the binding's [3.1.3.1]."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._by_key: dict[str, list[Bound]] = {}

    def add(self, bound: Bound) -> None:
        self._by_key.setdefault(bound.key, []).append(bound)

    def remove(self, bound: Bound) -> None:
        left = self._by_key[bound.key]
        left.remove(bound)
        if not left:
            del self._by_key[bound.key]

    def find(self, key: str, message: Message | None) -> list[Bound]:
        return self._by_key.get(key, [])


class Fanout(Rule):
    """Everybody [3.1.3.2]."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._all: list[Bound] = []

    def add(self, bound: Bound) -> None:
        self._all.append(bound)

    def remove(self, bound: Bound) -> None:
        self._all.remove(bound)

    def find(self, key: str, message: Message | None) -> list[Bound]:
        return self._all


class _Word:
    __slots__ = ("bounds", "takes_any", "words")

    def __init__(self, takes_any: bool = False) -> None:
        self.words: dict[str, _Word] = {}
        self.bounds: list[Bound] = []
        self.takes_any = takes_any  # a `#`: stays where it is, whatever comes


class Topic(Rule):
    """`*` is one word, `#` any number of them, anywhere [3.1.3.3]."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._root = _Word()

    def add(self, bound: Bound) -> None:
        node = self._root
        for word in _words(bound.key):
            child = node.words.get(word)
            if child is None:
                child = node.words[word] = _Word(word == "#")
            node = child
        node.bounds.append(bound)

    def remove(self, bound: Bound) -> None:
        path = [self._root]
        words = _words(bound.key)
        for word in words:
            path.append(path[-1].words[word])
        path[-1].bounds.remove(bound)
        for depth in range(len(words), 0, -1):
            if path[depth].bounds or path[depth].words:
                break
            del path[depth - 1].words[words[depth - 1]]

    def find(self, key: str, message: Message | None) -> list[Bound]:
        """Walk all branches together, a word of the key at a time: many `#` make it no worse."""
        reached = _with_hashes([self._root])
        for word in _words(key):
            after = [node for node in reached if node.takes_any]
            for node in reached:
                for name in (word, "*"):
                    child = node.words.get(name)
                    if child is not None:
                        after.append(child)
            reached = _with_hashes(after)
        return [bound for node in reached for bound in node.bounds]


def _words(key: str) -> list[str]:
    """Return the words of a key; the empty one has none."""
    return key.split(".") if key else []


def _with_hashes(nodes: list[_Word]) -> list[_Word]:
    """Return nodes, each once, and the `#` below them: those take no word, too."""
    found: dict[int, _Word] = {}
    while nodes:
        node = nodes.pop()
        if id(node) not in found:
            found[id(node)] = node
            if (child := node.words.get("#")) is not None:
                nodes.append(child)
    return list(found.values())


class HeadersRule(Rule):
    """The binding's arguments are compared with the message's headers [3.1.3.4]."""

    by_message = True

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._all: list[Bound] = []

    def add(self, bound: Bound) -> None:
        how = bound.arguments.get("x-match", "all")
        if how not in ("all", "any", "all-with-x", "any-with-x"):
            raise AmqpFault(
                Reply.PRECONDITION_FAILED,
                f"Invalid x-match field value {how!r}; expected all, any, all-with-x, or any-with-x",
            )
        self._all.append(bound)

    def remove(self, bound: Bound) -> None:
        self._all.remove(bound)

    def find(self, key: str, message: Message | None) -> list[Bound]:
        assert message is not None
        headers = dict(message.properties.headers)
        return [bound for bound in self._all if _headers_match(bound.arguments, headers)]


#: Arguments that say how to compare, not what to find.
_OWN: Final = frozenset(("x-match", FILTER, FILTER_LANGUAGE))


def _headers_match(wanted: Table, headers: dict[str, Any]) -> bool:
    how = wanted.get("x-match", "all")
    with_x = how.endswith("-with-x")
    pairs = [
        (name, value)
        for name, value in wanted.items()
        if name not in _OWN and (with_x or not name.startswith("x-"))
    ]
    if how.startswith("any"):
        return any(_header_matches(name, value, headers) for name, value in pairs)
    return all(_header_matches(name, value, headers) for name, value in pairs)


def _header_matches(name: str, wanted: Any, headers: dict[str, Any]) -> bool:
    if name not in headers:
        return False
    if wanted is None:  # the header need only be there
        return True
    found = headers[name]
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


class ConsistentHash(Rule):
    """One of the bindings, always the same for the same key; the binding's key is its weight."""

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._header = arguments.get("hash-header")
        name = arguments.get("hash-property")
        if self._header and name:
            raise AmqpFault(Reply.PRECONDITION_FAILED, "hash-header and hash-property exclude each other")
        if name is not None and (not isinstance(name, str) or name not in _HASH_PROPERTIES):
            known = ", ".join(_HASH_PROPERTIES)
            raise AmqpFault(Reply.PRECONDITION_FAILED, f"Unsupported property {name!r}; known: {known}")
        self._property = _HASH_PROPERTIES[name] if name is not None else ""
        self.by_message = bool(self._header or self._property)
        self._bounds: list[tuple[Bound, float, bytes]] = []  # with weight and name

    def add(self, bound: Bound) -> None:
        weight = bound.key
        if not weight.isascii() or not weight.isdigit() or not 0 < int(weight[:9]) <= WEIGHT_MAX:
            raise AmqpFault(
                Reply.PRECONDITION_FAILED, f"The binding key must be an integer: {weight!r} is no weight"
            )
        self._bounds.append((bound, float(weight), bound.destination_name.encode("utf-8", "replace")))

    def remove(self, bound: Bound) -> None:
        self._bounds = [entry for entry in self._bounds if entry[0] is not bound]

    def find(self, key: str, message: Message | None) -> list[Bound]:
        """Draw lots, always the same for a key: the shares are exact, and of a binding that goes only
        its own keys move (weighted rendezvous hashing)."""
        bounds = [entry for entry in self._bounds if entry[0].takes(message)]
        if not bounds:
            return []
        value: Any = key
        if message is not None and self._header:
            value = message.properties.header(self._header)
        elif message is not None and self._property:
            value = getattr(message.properties, self._property)
        text = str(value).encode("utf-8", "replace")
        return [max(bounds, key=lambda entry: _lot(text, entry[1], entry[2]))[0]]


def _lot(key: bytes, weight: float, name: bytes) -> float:
    drawn = int.from_bytes(
        blake2b(key, digest_size=8, salt=blake2b(name, digest_size=16).digest()).digest(), "big"
    )
    return -weight / log((drawn + 1) / (2**64 + 1))


#: Exchange type -> its rule. `x-delayed-message` wraps one of the others, see `exchanges`.
RULES: Final[dict[str, Callable[[Table], Rule]]] = {
    "direct": Direct,
    "fanout": Fanout,
    "topic": Topic,
    "headers": HeadersRule,
    "x-consistent-hash": ConsistentHash,
}
