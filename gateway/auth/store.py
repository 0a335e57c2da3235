"""Users, rules, keys and quotas: from the configuration, from a file, from the metadata store.

What the configuration and the rules file say cannot be changed through the gateway; what was
added while it runs is kept under `auth/` in the metadata store. One name is in one place only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from ..api import Conflict, InvalidValue, NotFound, StorageEngine, StorageError
from .acl.rule import RULES_MAX, Rule, rule_from
from .users import User

USER_KEY: Final = "auth/user/"
RULE_KEY: Final = "auth/rule/"
USERS_MAX: Final = 1_000_000  # about 500 bytes each
CONFIGURATION: Final = "the configuration"


class Table:
    """Things of one kind by name: given ones, which stay as they are, and kept ones."""

    __slots__ = ("_decode", "_encode", "_engine", "_given", "_max", "kept", "prefix", "what")

    def __init__(
        self,
        what: str,
        prefix: str,
        maximum: int,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
    ) -> None:
        self.what = what
        self.prefix = prefix
        self._max = maximum
        self._encode = encode
        self._decode = decode
        self._engine: StorageEngine | None = None
        self._given: dict[str, tuple[Any, str]] = {}  # name -> (thing, where it is said)
        self.kept: dict[str, Any] = {}

    def give(self, things: Mapping[str, Any], where: str) -> None:
        """Take what a file says, instead of what it said before. Raise Conflict for a name that is taken."""
        rest = {name: value for name, value in self._given.items() if value[1] != where}
        for name in things:
            taken = rest[name][1] if name in rest else "the metadata store" if name in self.kept else ""
            if taken:
                raise Conflict(f"{self.what} {name!r} of {where} is in {taken}, too; remove or rename one")
        self._given = {**rest, **{name: (thing, where) for name, thing in things.items()}}

    def load(self, engine: StorageEngine) -> None:
        """Read what is kept. Raise StorageError for what cannot be read, and for a name that is taken."""
        self._engine = engine
        for key, value in list(engine.scan(self.prefix)):
            name = key[len(self.prefix) :]
            try:
                self.kept[name] = self._decode(value)
            except (msgspec.DecodeError, InvalidValue, KeyError) as error:
                raise StorageError(f"{self.what} {name!r} in the metadata store: {error}") from error
            if name in self._given:
                where = self._given[name][1]
                raise StorageError(f"{self.what} {name!r} is in {where} and in the metadata store, too")

    def get(self, name: str) -> Any:
        """Return a thing, None if there is none."""
        given = self._given.get(name)
        return given[0] if given is not None else self.kept.get(name)

    def find(self, name: str) -> Any:
        """Return a thing. Raise NotFound."""
        thing = self.get(name)
        if thing is None:
            raise NotFound(f"there is no {self.what} {name!r}")
        return thing

    def all(self) -> list[Any]:
        """Return everything, given things first."""
        return [*(thing for thing, _ in self._given.values()), *self.kept.values()]

    def where(self, name: str) -> str:
        """Return where a thing is said: the configuration, a file, or "" for the metadata store."""
        given = self._given.get(name)
        return given[1] if given is not None else ""

    def put(self, name: str, thing: Any) -> bool:
        """Keep a thing; tell whether there was none. Raise Conflict if it is said elsewhere."""
        self._check(name)
        created = name not in self.kept
        if created and len(self.kept) >= self._max:
            raise Conflict(f"there are {len(self.kept)} {self.what}s, as many as there may be")
        assert self._engine is not None, "nothing is kept before recovery"
        self._engine.put(self.prefix + name, self._encode(thing))
        self.kept[name] = thing
        return created

    def check_all(self, names: Iterable[str]) -> None:
        """Raise Conflict unless all of these can be kept."""
        fresh = set()
        for name in names:
            self._check(name)
            if name not in self.kept:
                fresh.add(name)
        if len(self.kept) + len(fresh) > self._max:
            raise Conflict(f"there are {len(self.kept)} {self.what}s; there may be {self._max}")

    def delete(self, name: str) -> Any:
        """Forget a thing and return it. Raise NotFound, or Conflict if it is said elsewhere."""
        self._check(name)
        if name not in self.kept:
            raise NotFound(f"there is no {self.what} {name!r}")
        assert self._engine is not None
        self._engine.delete(self.prefix + name)
        return self.kept.pop(name)

    def _check(self, name: str) -> None:
        given = self._given.get(name)
        if given is not None:
            raise Conflict(f"{self.what} {name!r} is in {given[1]}; change it there")


def users_table() -> Table:
    """Return the table of users."""
    return Table("user", USER_KEY, USERS_MAX, msgspec.json.encode, msgspec.json.Decoder(User).decode)


def rules_table() -> Table:
    """Return the table of rules."""
    return Table("rule", RULE_KEY, RULES_MAX, _encode_rule, _decode_rule)


def _encode_rule(rule: Rule) -> bytes:
    return msgspec.json.encode(rule.to_mapping())


def _decode_rule(value: bytes) -> Rule:
    return rule_from(msgspec.json.decode(value))


def by_id(rules: Iterable[Rule], where: str) -> dict[str, Rule]:
    """Return rules by id. Raise InvalidValue for one that is there twice."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.id in found:
            raise InvalidValue(f"{where}: rule {rule.id!r} is there twice")
        found[rule.id] = rule
    return found
